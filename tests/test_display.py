"""What a training prints: the best epoch is always the best by something, and a line fits 80 columns."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from cxrkit.base.labels import CHESTXRAY14
from cxrkit.trainers.display import TrainDisplay

LINE = {
    "epoch": 7, "train_loss": 0.19434, "val_loss": 0.18221, "val_auc": 0.70119, "val_auc_labels": 14, "lr": 0.01,
    "images_per_second": 512.3,
}  # fmt: skip


def display(epochs: int = 30, metric: str = "val_loss") -> TrainDisplay:
    console = Console(width=80, file=io.StringIO(), force_terminal=False, color_system=None)
    return TrainDisplay(console, epochs, 100, CHESTXRAY14, metric)


def printed(shown: TrainDisplay, improved: bool, **changes: Any) -> list[str]:
    shown.finished(LINE | changes, improved)
    return shown.console.file.getvalue().splitlines()  # type: ignore[attr-defined, no-any-return]


def test_the_number_that_an_epoch_is_the_best_by_is_marked() -> None:
    (line,) = printed(display(), True)
    assert line == "epoch  7/30  loss 0.1943, val 0.1822 (lowest)  AUC 0.7012  lr 0.01  512/s"
    (line,) = printed(display(), False)
    assert line == "epoch  7/30  loss 0.1943, val 0.1822           AUC 0.7012  lr 0.01  512/s"
    (line,) = printed(display(metric="val_auc"), True)
    assert line == "epoch  7/30  loss 0.1943, val 0.1822  AUC 0.7012 (highest)  lr 0.01  512/s"


@pytest.mark.parametrize("metric", ["val_loss", "val_auc"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"val_loss": 5.6e07, "train_loss": 123.4},
        {"val_loss": 2.2e12, "lr": 0.01 * 0.5**9, "images_per_second": 1234.5},
        {"lr": 0.001 * 0.5**20, "images_per_second": 12345.6, "epoch": 100},
        {"val_auc": None, "val_auc_labels": 0},
        {"val_auc_labels": 6},
    ],
)
@pytest.mark.parametrize("epochs", [1, 30, 100])
def test_lines_fit(epochs: int, metric: str, changes: dict[str, Any]) -> None:
    lines = printed(display(epochs, metric), True, **changes)
    assert max(map(len, lines)) <= 80
    assert len(lines) == 1 + ("val_auc_labels" in changes)
    assert lines[-1].count(" AUC ") == 1


def test_labels_without_an_auc_are_told_once() -> None:
    shown = display()
    printed(shown, True, val_auc_labels=6)
    lines = printed(shown, False, val_auc_labels=6)
    assert lines[0] == "AUC: over the 6 of 14 labels that have one in the validation images"
    assert [line[:5] for line in lines[1:]] == ["epoch", "epoch"]


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("val_loss", "lowest val loss 0.1822 in epoch 7, its AUC 0.7012"),
        ("val_auc", "highest AUC 0.7012 in epoch 7, its val loss 0.1822"),
    ],
)
def test_the_bar_shows_the_best_epoch_and_by_what(metric: str, said: str) -> None:
    """In a terminal of 80 columns, whole, under the bar."""
    file = io.StringIO()
    shown = TrainDisplay(
        Console(width=80, file=file, force_terminal=True, color_system=None), 30, 25_596, CHESTXRAY14, metric
    )
    with shown:
        shown.finished(LINE, True)
        shown.finished(LINE | {"epoch": 8, "val_loss": 0.2, "val_auc": 0.6}, False)
        assert shown._live is not None
        shown.loss(0.1234)
        shown.epoch(9, 1234, 9463)
        shown._live.refresh()
        shown.testing(25_596)
        shown._live.refresh()
    text = file.getvalue()
    assert said in text
    assert "1,234/9,463" in text
    assert "0/25,596" in text
    assert "…" not in text


@pytest.mark.parametrize(("step", "said"), [(0, "at epoch 3\n"), (1200, "at epoch 3, step 1,200 of 4,905\n")])
def test_a_resumed_training_says_from_where(step: int, said: str) -> None:
    shown = display()
    shown.epoch(3, step, 4905)
    shown.epoch(4, 0, 4905)
    assert shown.console.file.getvalue() == f"resumed from the last checkpoint: {said}"  # type: ignore[attr-defined]
    fresh = display()
    fresh.epoch(1, 0, 4905)
    assert not fresh.console.file.getvalue()  # type: ignore[attr-defined]
