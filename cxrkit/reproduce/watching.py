"""How far a run is, read from its own files: the same for every engine, and for a planner that was started again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from cxrkit.reproduce.planning import Planned
from cxrkit.runs.folder import RunState
from cxrkit.runs.metrics import read_metrics


@dataclass(frozen=True)
class Seen:
    """What a run's folder says of it."""

    state: RunState
    """How far it has come."""

    epochs: int = 0
    """How many it has finished."""

    part: float = 0.0
    """The share of the next one, as far as it was written down."""

    images_per_second: float | None = None
    """Of the last epoch's training steps; None before there is one."""

    val_auc: float | None = None
    """Of the last epoch."""

    train_seconds: float | None = None
    """What a training step takes for each of its images, the loader included: that of the middle one of its epochs."""


# An image of the validation takes a forward pass, one of the training a backward pass too, of twice the work; the
# centre crop costs the loader a little more than it saves. Only until a run's own times are known.
VALIDATION_SHARE = 1 / 3
START_SECONDS = 5.0  # until a process has loaded torch and the tables; measured on 2 cores


def see(item: Planned) -> Seen:
    """Return what the run's folder says now; what is written at this moment may be missing."""
    epochs: list[dict[str, float]] = []
    part = 0.0
    with suppress(OSError):
        for line in read_metrics(item.run.metrics):
            if line.get("kind") == "epoch":
                epochs.append(line)
                part = 0.0
            elif line.get("kind") == "step":
                part = min(1.0, line["step"] / max(1, steps_of(item)))
    if not epochs:
        return Seen(item.run.state(), part=part)
    last = epochs[-1]
    return Seen(
        item.run.state(), int(last["epoch"]), part, last.get("images_per_second"), last.get("val_auc"),
        _train_seconds(epochs),
    )  # fmt: skip


def steps_of(item: Planned) -> int:
    """Return the steps of one epoch."""
    assert item.images is not None
    assert item.config.optimizer.batch_size is not None
    return max(1, item.images["train"] // item.config.optimizer.batch_size)


def _train_seconds(epochs: Sequence[Mapping[str, float]]) -> float | None:
    """Return the middle value, so that an epoch that was compiled in, or interrupted, does not count much."""
    rates = sorted(rate for line in epochs if (rate := line.get("images_per_second")))
    return 1 / rates[len(rates) // 2] if rates else None


def images_an_epoch(item: Planned) -> float:
    """Return the images of an epoch in those of a training step: validated, and predicted where epochs are kept."""
    assert item.images is not None
    kept = item.images["test"] if getattr(item.config.run, "keep_epochs", False) else 0
    return item.images["train"] + VALIDATION_SHARE * (item.images["val"] + kept)


def evaluation_seconds(item: Planned, epoch_seconds: float) -> float:
    """Return about what predicting validation and test images takes after the last epoch."""
    assert item.images is not None
    evaluated = item.images["val"] + item.images["test"]
    return epoch_seconds * VALIDATION_SHARE * evaluated / max(1, item.images["train"])


def seconds_left(item: Planned, seen: Seen, epoch_seconds: float) -> float:
    """Return about how long a run will take from here on."""
    if seen.state == "scored" and item.done:
        return 0.0
    after = evaluation_seconds(item, epoch_seconds) + (START_SECONDS if seen.state in ("new", "scored") else 0.0)
    if seen.state in ("trained", "predicted") and seen.epochs >= item.config.schedule.epochs:
        return after
    return max(0.0, item.config.schedule.epochs - seen.epochs - seen.part) * epoch_seconds + after
