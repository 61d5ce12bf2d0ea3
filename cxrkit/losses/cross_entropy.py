"""Binary cross-entropy over the labels of an image, in the two ways in which the field adds it up."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from cxrkit.base.contracts import Batch, Loss, Outputs


def bce_mean() -> Loss:
    """Return the class-averaged binary cross-entropy of Baltruschat et al. 2019, section 2, equation 1.

    l(y, f) = 1/M sum over labels m of -y_m log f_m - (1 - y_m) log(1 - f_m), f_m being the sigmoid of a logit; and the
    mean over the batch's images. Labels that are not known are left out of both means.
    """
    return _mean_over_known


def bce_sum() -> Loss:
    """Return the binary cross-entropy summed over labels, averaged over images.

    As in Rajpurkar et al. 2017 ("CheXNet", arXiv 1711.05225), section 4 ("the sum of unweighted binary cross entropy
    losses"). With all labels known it is L times `bce_mean`. A label that is not known adds nothing.
    """
    return _sum_over_labels


def _mean_over_known(outputs: Outputs, batch: Batch) -> Tensor:
    total, known_BL = cross_entropy(outputs.logits, batch.target, reduction="sum")
    # At least 1: where nothing is known the loss is 0, and so is its gradient.
    return total / known_BL.sum().clamp(min=1)


def _sum_over_labels(outputs: Outputs, batch: Batch) -> Tensor:
    total, _ = cross_entropy(outputs.logits, batch.target, reduction="sum")
    return total / len(batch.target)


def cross_entropy(
    logits_BL: Tensor, target_BL: Tensor, *, reduction: Literal["none", "sum"] = "none"
) -> tuple[Tensor, Tensor]:
    """Return (B, L) -y log f - (1 - y) log(1 - f), 0 where the target is NaN, and (B, L) bool: where it is known.

    Computed from logits, so that large ones neither overflow nor round to 0 or 1. reduction: "sum" for its sum, which
    takes one operation less than summing it afterwards.
    """
    # Each operation is a launch on a GPU, where a batch's labels are next to no work, so there are few: NaN alone
    # differs from itself, and a weight takes fewer than choosing entry by entry.
    known_BL = target_BL == target_BL
    entropy = binary_cross_entropy_with_logits(logits_BL, target_BL.nan_to_num(), weight=known_BL, reduction=reduction)
    return entropy, known_BL
