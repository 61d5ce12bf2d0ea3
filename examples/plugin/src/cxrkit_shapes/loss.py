"""A loss: `cxrkit train --loss shapes-smooth-bce --set loss.options.smoothing=0.1`."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from cxrkit.base.contracts import Batch, Loss, Outputs


def build(*, smoothing: float = 0.05) -> Loss:
    """Return binary cross-entropy against targets that are never quite 0 or 1 (Szegedy et al. 2016, section 7)."""

    def smooth(outputs: Outputs, batch: Batch) -> Tensor:
        known_BL = ~batch.target.isnan()  # a label may be unknown for an image: it must not count
        target_BL = batch.target.nan_to_num() * (1 - smoothing) + smoothing / 2
        entropy_BL = binary_cross_entropy_with_logits(outputs.logits, target_BL, reduction="none")
        # clamp: a batch of which nothing is known costs nothing, rather than 0 / 0
        return (entropy_BL * known_BL).sum() / known_BL.sum().clamp(min=1)

    return smooth
