"""The learning rate at plateaus and the best epoch, by tables."""

from __future__ import annotations

import pytest

from cxrkit.trainers.plateau import Best, Plateau, after_epoch, better


@pytest.mark.parametrize(
    ("patience", "losses", "rates"),
    [
        # Halving after one epoch without improvement (patience 0); an equal loss is no improvement.
        (0, [0.5, 0.4, 0.45, 0.41, 0.3, 0.35], [8, 8, 4, 2, 2, 1]),
        (0, [0.5, 0.5, 0.5], [8, 4, 2]),
        (1, [0.5, 0.6, 0.6, 0.6, 0.4, 0.6, 0.6], [8, 8, 4, 4, 4, 4, 2]),
        (3, [0.5, 0.6, 0.6, 0.6, 0.6, 0.1], [8, 8, 8, 8, 4, 4]),
    ],
)
def test_rate_after_each_epoch(patience: int, losses: list[float], rates: list[float]) -> None:
    state, found = Plateau(8.0), []
    for loss in losses:
        state = after_epoch(state, loss, patience=patience, factor=0.5)
        found.append(state.lr)
    assert found == rates
    assert state.lowest_loss == min(losses)


@pytest.mark.parametrize(
    ("highest", "values", "epoch"),
    [
        (False, [0.5, 0.4, 0.45, 0.4], 2),  # the earlier one of two that are equal
        (True, [0.5, 0.7, 0.6, 0.7], 2),
        (True, [None, 0.1, None, 0.3], 4),  # no label had an AUC in the first epoch
        (True, [None, None], 1),
        (False, [0.3], 1),
    ],
)
def test_best_epoch(highest: bool, values: list[float | None], epoch: int) -> None:
    best = Best()
    for number, value in enumerate(values, start=1):
        best = better(best, number, value, highest=highest)
    assert best.epoch == epoch
    assert best.value == values[epoch - 1]
