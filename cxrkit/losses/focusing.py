"""Cross-entropies that let easy answers count less: focal and asymmetric loss."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from cxrkit.base.contracts import Batch, Loss, Outputs


def focal(gamma: float = 2.0, alpha: float | None = None) -> Loss:
    """Return the focal loss of Lin et al. 2017 (arXiv 1708.02002, equations 4 and 5), averaged over known labels.

    FL = -(1 - p_t)^gamma log p_t, p_t being the probability of the right answer; times alpha for positives and
    1 - alpha for negatives where alpha is given (the authors' best for detection: gamma 2, alpha 0.25). gamma 0 is the
    cross-entropy. For gamma between 0 and 1 the gradient at p_t = 1 is not finite, as the formula has it.
    """

    def loss(outputs: Outputs, batch: Batch) -> Tensor:
        known_BL, positive_BL = batch.target == batch.target, batch.target > 0.5
        # The logit of the right answer: its sigmoid is p_t, that of its opposite 1 - p_t, both without rounding to 0.
        right_BL = torch.where(positive_BL, outputs.logits, -outputs.logits)
        value_BL = -(torch.sigmoid(-right_BL) ** gamma) * logsigmoid(right_BL)
        if alpha is not None:
            value_BL = torch.where(positive_BL, alpha, 1 - alpha) * value_BL
        return _mean(value_BL, known_BL)

    return loss


def asymmetric(gamma_positive: float = 0.0, gamma_negative: float = 4.0, margin: float = 0.05) -> Loss:
    """Return the asymmetric loss of Ridnik et al. 2021 (arXiv 2009.14119, equations 4 to 7), over known labels.

    L+ = -(1 - p)^gamma_positive log p for positives, and for negatives L- = -(p_m)^gamma_negative log(1 - p_m) with
    the probability shifted by the margin, p_m = max(p - margin, 0): a negative below the margin counts nothing. Both
    gammas and the margin 0 give the cross-entropy.
    """

    def loss(outputs: Outputs, batch: Batch) -> Tensor:
        known_BL, positive_BL = batch.target == batch.target, batch.target > 0.5
        p_BL = torch.sigmoid(outputs.logits)
        positives_BL = -(torch.sigmoid(-outputs.logits) ** gamma_positive) * logsigmoid(outputs.logits)
        if margin:
            shifted_BL = (p_BL - margin).clamp(min=0)
            log_rest_BL = torch.log1p(-shifted_BL)  # finite: the shifted probability is at most 1 - margin
        else:
            shifted_BL, log_rest_BL = p_BL, logsigmoid(-outputs.logits)
        negatives_BL = -(shifted_BL**gamma_negative) * log_rest_BL
        return _mean(torch.where(positive_BL, positives_BL, negatives_BL), known_BL)

    return loss


def _mean(value_BL: Tensor, known_BL: Tensor) -> Tensor:
    """Return the mean over what is known; torch.where keeps the gradient of what is not from being 0 times infinity."""
    return torch.where(known_BL, value_BL, 0).sum() / known_BL.sum().clamp(min=1)
