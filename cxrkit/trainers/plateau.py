"""The learning rate at plateaus, and which epoch is the best: pure functions of what was before and one epoch's result.

Baltruschat et al. 2019, section 3: "we reduce the learning rate by a factor of 2 when the validation loss does not
improve". Read literally: an epoch that does not go below the lowest loss so far is one without improvement.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Plateau:
    """The learning rate, and what decides when it falls."""

    lr: float
    """Learning rate of the next epoch."""

    lowest_loss: float | None = None
    """Of the epochs finished; None before the first."""

    bad_epochs: int = 0
    """Epochs since the last improvement or reduction."""


def after_epoch(state: Plateau, val_loss: float, *, patience: int, factor: float) -> Plateau:
    """Return the state after an epoch: the rate times `factor` when more than `patience` epochs did not improve."""
    if state.lowest_loss is None or val_loss < state.lowest_loss:
        return replace(state, lowest_loss=val_loss, bad_epochs=0)
    if state.bad_epochs + 1 > patience:
        return replace(state, lr=state.lr * factor, bad_epochs=0)
    return replace(state, bad_epochs=state.bad_epochs + 1)


@dataclass(frozen=True)
class Best:
    """The epoch whose network is kept."""

    epoch: int = 0
    """From 1; 0 before the first."""

    value: float | None = None
    """Its value of the selection's metric; None where the metric was undefined in every epoch so far."""


def better(best: Best, epoch: int, value: float | None, *, highest: bool) -> Best:
    """Return the better of the best epoch so far and this one; the earlier one where they are equal.

    highest: whether larger values are better. An epoch whose metric is undefined is kept only until one has a value.
    """
    if best.epoch == 0:
        return Best(epoch, value)
    if value is None:
        return best
    if best.value is None or (value > best.value if highest else value < best.value):
        return Best(epoch, value)
    return best
