"""Labels that a network does not learn: systems of others have 14 outputs, and "No Finding" is what none of them says.

Their targets are unknown to the loss, in training and in the validation, and their scores are kept out of predictions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from cxrkit.base.contracts import Batch, Loss, Outputs
from cxrkit.base.errors import UserError
from cxrkit.base.labels import LabelSet


def masked(loss: Loss, labels: LabelSet, names: Sequence[str], device: str) -> Loss:
    """Return the loss without the labels `names`; the loss itself where there are none.

    Raises UserError for a name that is no label, and for a label that the mean is taken over: it would be one of
    scores that nobody has learned.
    """
    if not names:
        return loss
    for name in names:
        if name not in labels.labels:
            raise UserError(
                f"--set loss.masked: {name!r} is no label of these images",
                remedy=f"choose from {', '.join(labels.beside) or 'none: all of its labels are averaged'}",
            )
        if name not in labels.beside:
            raise UserError(
                f"--set loss.masked: {name!r} is one of the labels that results are averaged over, and would be scored "
                "without having been learned",
                remedy="prepare the images with a label set without it, or let it be learned",
            )
    unlearned_L = torch.tensor([label in names for label in labels.labels], device=device)

    def without(outputs: Outputs, batch: Batch) -> torch.Tensor:
        return loss(outputs, replace(batch, target=batch.target.masked_fill(unlearned_L, float("nan"))))

    without.region_places = getattr(loss, "region_places", 0)  # type: ignore[attr-defined]
    return without
