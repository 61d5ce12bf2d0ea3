"""The loss of labels that are said one after the other: of each given the image and the true labels before it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from cxrkit.base.contracts import Batch, Loss, Outputs
from cxrkit.base.errors import UserError
from cxrkit.base.labels import LabelSet
from cxrkit.models.label_sequence import CODE, decode

NAME = "yao2017-sequence"


def sequence(
    labels: LabelSet,
    prevalence: list[float] | None = None,
    entropy: str = "bce-sum",
    entropy_options: Mapping[str, Any] | None = None,
) -> Loss:
    """Return -log p(y | x) = -sum over t of log p(y_t | x, y_<t), averaged over images (Yao et al. 2017).

    For networks that leave their decoder's tensors in Outputs.extra (models/label_sequence.py): the true labels are
    said there (teacher forcing), in training and validation alike. entropy: the registered loss of the conditional
    logits, with its options: "bce-sum" is the likelihood, "bce-batch-weighted" weighs as Wang et al. do. The label
    before is what the network says itself where the true one is not known. Raises UserError for an unknown entropy.
    """
    from cxrkit import losses

    if entropy == NAME:
        raise UserError(
            f"loss {NAME!r}: its entropy cannot be itself", remedy="choose bce-sum or another loss of logits"
        )
    of_logits = losses.build(entropy, labels=labels, options=entropy_options, prevalence=prevalence)

    def loss(outputs: Outputs, batch: Batch) -> Tensor:
        if CODE not in outputs.extra:
            raise UserError(
                f"loss {NAME!r}: the network says no labels one after the other, so there is nothing to teach it",
                remedy="train model yao2017 with its decoder, or choose another loss, such as bce-mean",
            )
        conditional_BL = decode(outputs.extra, batch.target)
        return of_logits(replace(outputs, logits=conditional_BL), batch)

    return loss
