"""From the lines of metrics.jsonl to numbers at a step or an epoch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Place = tuple[int, int]
"""Where a line stands in a training: those of later steps are larger."""


@dataclass(frozen=True)
class Point:
    """The numbers of one line."""

    axis: Literal["step", "epoch"]
    """What `at` counts."""

    at: int
    """The step, counted over all epochs, or the epoch; from 1."""

    numbers: Mapping[str, float]
    """By their names in metrics.jsonl."""

    place: Place
    """Of the line."""


def place(line: Mapping[str, Any]) -> Place | None:
    """Return where a line stands; None for notes, and for what is no line of a training."""
    epoch, step = line.get("epoch"), line.get("step")
    if not isinstance(epoch, int):
        return None
    if line.get("kind") == "epoch":
        return (epoch + 1, 0)  # behind the steps of its epoch, before those of the next
    return (epoch, step) if line.get("kind") == "step" and isinstance(step, int) else None


def steps_per_epoch(lines: Iterable[Mapping[str, Any]], batch_size: int) -> int | None:
    """Return the steps of an epoch, from the images of the first whole one; None where there is none."""
    images = (line.get("train_images") for line in lines if line.get("kind") == "epoch")
    found = next((number for number in images if isinstance(number, int)), None)
    return None if found is None else max(1, found // batch_size)


def points(lines: Iterable[Mapping[str, Any]], after: Place, per_epoch: int | None) -> Iterator[Point]:
    """Yield what is to be sent of `lines` behind `after`.

    What JSON could not hold (null), words and flags are no numbers. Steps of later epochs have no number of their own
    until a whole epoch says how many it has (per_epoch): they are passed over, which only a file that was cut asks for.
    """
    for line in lines:
        found = place(line)
        if found is None or found <= after:
            continue
        numbers = {
            name: float(value)
            for name, value in line.items()
            if name not in ("epoch", "step") and isinstance(value, int | float) and not isinstance(value, bool)
        }
        epoch = int(line["epoch"])
        if line["kind"] == "epoch":
            yield Point("epoch", epoch, numbers, found)
        elif epoch == 1 or per_epoch is not None:
            yield Point("step", (epoch - 1) * (per_epoch or 0) + int(line["step"]), numbers, found)
