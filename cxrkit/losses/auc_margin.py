"""A loss whose minimum has the largest AUC: positives should lie above negatives by a margin."""

from __future__ import annotations

import torch
from torch import Tensor

from cxrkit.base.contracts import Batch, Loss, Outputs


def auc_margin(margin: float = 1.0) -> Loss:
    """Return the AUC margin loss of Yuan et al. 2021 (arXiv 2012.03173, equations 2 to 5) of a batch, per label.

    With h the probability, E+ and E- means over a label's positives and negatives in the batch:

        min over a, b, max over alpha >= 0 of  E+(h - a)^2 + E-(h - b)^2 + 2 alpha (m + E- h - E+ h) - alpha^2

    The authors keep a, b and alpha as running variables of an optimizer of their own (PESG). Here they are solved for
    on each batch, where the solution is closed: a = E+ h, b = E- h, alpha = max(0, m + b - a); what is left is

        Var+(h) + Var-(h) + max(0, m + b - a)^2

    so that any optimizer serves. The mean over the labels of which the batch has both kinds; 0 where it has none, so a
    batch should be large enough to hold positives of the rare labels.
    """

    def loss(outputs: Outputs, batch: Batch) -> Tensor:
        score_BL = torch.sigmoid(outputs.logits)
        positive_BL = batch.target > 0.5
        negative_BL = (batch.target == batch.target) & ~positive_BL
        (above_L, spread_L, positives_L), (below_L, other_L, negatives_L) = (
            _moments(score_BL, chosen_BL) for chosen_BL in (positive_BL, negative_BL)
        )
        value_L = spread_L + other_L + (margin + below_L - above_L).clamp(min=0).square()
        both_L = (positives_L > 0) & (negatives_L > 0)
        return torch.where(both_L, value_L, 0).sum() / both_L.sum().clamp(min=1)

    return loss


def _moments(score_BL: Tensor, chosen_BL: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean, variance (over n) and number of the chosen scores of each label; 0 where there are none."""
    count_L = chosen_BL.sum(dim=0)
    mean_L = (score_BL * chosen_BL).sum(dim=0) / count_L.clamp(min=1)
    variance_L = ((score_BL - mean_L).square() * chosen_BL).sum(dim=0) / count_L.clamp(min=1)
    return mean_L, variance_L, count_L
