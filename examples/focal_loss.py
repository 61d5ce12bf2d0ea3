"""A loss: easy entries weigh less (Lin et al. 2017, "Focal Loss for Dense Object Detection", equation 4)."""

from __future__ import annotations

from torch import Tensor

from cxrkit.base.contracts import Batch, Loss, Outputs
from cxrkit.losses.cross_entropy import cross_entropy


def build(*, gamma: float = 2.0) -> Loss:
    """Return the focal loss, the mean over the entries that are known; with gamma 0 it is bce-mean."""

    def focal(outputs: Outputs, batch: Batch) -> Tensor:
        entropy_BL, known_BL = cross_entropy(outputs.logits, batch.target)
        right_BL = (-entropy_BL).exp()  # the probability that was given to what is true
        return ((1 - right_BL) ** gamma * entropy_BL).sum() / known_BL.sum().clamp(min=1)

    return focal
