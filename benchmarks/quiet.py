"""Was the machine ours? How much processor time others took during a run, and waiting for them to stop (Linux).

On a shared machine the contenders that use several processes or spin at barriers suffer most from others, so ratios
taken on a busy machine are wrong, not just noisy. A run that was disturbed is therefore repeated, while patience lasts.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from benchmarks.stopwatch import Lap

LIMIT = 0.1  # cores' worth of others, from which on a run counts as disturbed
WINDOW_SECONDS = 0.5
LEAST_USED = 0.1  # processor seconds of a run, from which on they are told: the system counts in hundredths
OTHERS = "others' cores"
CPU = "CPU ms an image"


class Quiet:
    """Repeats disturbed runs until `patience_seconds` have been spent on waiting and repeating."""

    def __init__(
        self,
        patience_seconds: float,
        busy: Callable[[], float] | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.left = patience_seconds
        self._busy, self._clock, self._sleep = busy or busy_seconds, clock, sleep

    def lap(self, take: Callable[[], Lap], own: Callable[[], float]) -> Lap:
        """Return an undisturbed lap, or the last one taken.

        Its figure OTHERS is how many cores others had in use, CPU what the contender itself used: user and system time
        of its processes, those that ended included. The second bears a busy machine better than images/s do.

        take: makes a lap. own: processor seconds that the contender has used so far.
        """
        while True:
            began, busy, used = self._clock(), self._busy(), own()
            lap = take()
            seconds, used = self._clock() - began, own() - used
            others = max(0.0, (self._busy() - busy - used) / seconds)
            if others <= LIMIT or self.left <= 0:
                # Less than that is within the grain of the system's clock, or the system does not tell.
                costs = {CPU: 1000 * used / lap.images} if used >= LEAST_USED else {}
                return replace(lap, figures={**lap.figures, OTHERS: round(others, 3), **costs})
            self.left -= seconds
            self._wait(own)

    def _wait(self, own: Callable[[], float]) -> None:
        while self.left > 0:
            began, busy, used = self._clock(), self._busy(), own()
            self._sleep(WINDOW_SECONDS)
            seconds = self._clock() - began
            if (self._busy() - busy - (own() - used)) / seconds <= LIMIT:
                return
            self.left -= seconds


def busy_seconds() -> float:
    """Return the processor seconds that all processes have used since the machine started, stolen ones included."""
    try:
        first = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    except OSError:
        return 0.0
    user, nice, system, _, _, irq, softirq, steal = map(int, first[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def used_by_tree(process_id: int) -> float:
    """Return the processor seconds that a process, all that it started, and those of them that ended, have used."""
    try:
        fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
        children = [
            child
            for task in Path(f"/proc/{process_id}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
    except OSError:  # it has ended, and its parent's sum has it
        return 0.0
    own = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return own + sum(used_by_tree(int(child)) for child in children)
