"""The stopwatch: times whole passes, and interleaves contenders so that a slow minute of the machine hits them all.

Standard library only: every contender's process imports it, whatever interpreter it runs in.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

Clock = Callable[[], float]
# One pass over a contender's work: an epoch, a folder written, a few training steps. Returns what it did: "images",
# and any figures of its own, which are averaged over the passes of a run.
Pass = Callable[[], Mapping[str, float]]


@dataclass(frozen=True)
class Lap:
    """One run: `passes` passes over `images` images in `seconds`; figures: the passes' own, averaged."""

    images: float
    seconds: float
    passes: int
    figures: dict[str, float] = field(default_factory=dict)

    @property
    def images_per_second(self) -> float:
        """Images per second of wall clock."""
        return self.images / self.seconds


def run(one_pass: Pass, at_least_seconds: float, clock: Clock = time.perf_counter) -> Lap:
    """Repeat `one_pass` until `at_least_seconds` are over, and return the lap.

    The clock starts before the first batch of the first pass is asked for and stops after the last pass, so neither a
    loader's start nor work that it does ahead is left out.
    """
    done: list[Mapping[str, float]] = []
    began = clock()
    while True:
        done.append(one_pass())
        seconds = clock() - began
        if seconds >= at_least_seconds:
            break
    figures = {key: statistics.fmean(one[key] for one in done) for key in done[0] if key != "images"}
    return Lap(sum(one["images"] for one in done), seconds, len(done), figures)


def interleave(
    contenders: Mapping[str, Callable[[], Lap]],
    runs: int,
    warm_up: int = 1,
    on_lap: Callable[[str, int, Lap], None] | None = None,
) -> dict[str, list[Lap]]:
    """Take `warm_up + runs` laps of each contender in turn, A B C A B C ..., and return all but the warm-up.

    A contender that raises is left out from then on and of the result. on_lap: called with name, turn and lap.
    """
    laps: dict[str, list[Lap]] = {name: [] for name in contenders}
    for turn in range(warm_up + runs):
        for name in list(laps):
            try:
                lap = contenders[name]()
            except ContenderFailed:
                del laps[name]
                continue
            if on_lap:
                on_lap(name, turn, lap)
            if turn >= warm_up:
                laps[name].append(lap)
    return laps


class ContenderFailed(Exception):  # noqa: N818 - it says what happened
    """A contender cannot be measured; the message is the reason that goes into the record."""


@dataclass(frozen=True)
class Spread:
    """Median, and the quartiles, smallest and largest of some values."""

    median: float
    low: float
    high: float
    smallest: float
    largest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Summarise at least one value; quartiles by linear interpolation, the ends included."""
        ordered = sorted(values)
        low, high = ordered[0], ordered[-1]
        if len(ordered) > 1:
            low, _, high = statistics.quantiles(ordered, n=4, method="inclusive")
        return cls(statistics.median(ordered), low, high, ordered[0], ordered[-1])
