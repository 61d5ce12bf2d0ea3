"""Losses of labels that have a unit, such as years of age: errors as shares of the labels' spread."""

from __future__ import annotations

from torch import Tensor

from cxrkit.base.contracts import Batch, Loss, Outputs
from cxrkit.models.grammar import AGE_SD


def squared_error(scale: float = AGE_SD) -> Loss:
    """Return the mean of ((output - target) / scale)^2 over what is known, the usual loss of a regression.

    scale: in the label's unit; default, the standard deviation of the ages (Baltruschat et al. 2019, Table 2), so that
    1 is the loss of somebody who always says the mean.
    """

    def loss(outputs: Outputs, batch: Batch) -> Tensor:
        return _mean(_errors(outputs, batch, scale).square(), batch)

    return loss


def absolute_error(scale: float = AGE_SD) -> Loss:
    """Return the mean of |output - target| / scale over what is known."""

    def loss(outputs: Outputs, batch: Batch) -> Tensor:
        return _mean(_errors(outputs, batch, scale).abs(), batch)

    return loss


def _errors(outputs: Outputs, batch: Batch, scale: float) -> Tensor:
    """Return (B, L) errors; 0 where the target is NaN, in the gradient, too."""
    known_BL = batch.target == batch.target  # NaN alone differs from itself
    return known_BL * (outputs.logits - batch.target.nan_to_num()) / scale


def _mean(errors_BL: Tensor, batch: Batch) -> Tensor:
    return errors_BL.sum() / (batch.target == batch.target).sum().clamp(min=1)
