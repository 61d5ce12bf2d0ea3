"""Runs what is missing of a study, and outlives whatever happens to a run.

The queue is decided anew by the run folders each time it is looked at, so it makes no difference whether this planner,
an earlier one or a neighbour's has done a run. A run is in one place at a time because its folder is claimed.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cxrkit.base.contracts import Ended, Executor
from cxrkit.base.errors import DISK_FULL, DiskFull
from cxrkit.reproduce import planning, process
from cxrkit.reproduce.planning import Planned
from cxrkit.runs.folder import BUSY

Status = Literal["done", "waiting", "running", "elsewhere", "failed", "held"]
POLL_SECONDS = 1.0
_NO_ROOM_BYTES = 100_000
ELSEWHERE_SECONDS = 5.0  # between two looks at a run that another process works in


@dataclass(frozen=True)
class Failure:
    """A run that did not come to its end."""

    name: str
    """Its name."""

    reason: str
    """In a few words."""

    log: Path | None = None
    """Where it printed to; None where it was not started."""

    lines: tuple[str, ...] = ()
    """The end of that."""


@dataclass
class Grid:
    """The runs of a study and where each of them stands."""

    runs: Sequence[Planned]
    """In the order in which they are started; what is needed comes first."""

    executor: Executor
    """Starts them."""

    own: Path
    """Folder for logs and configs."""

    retries: int = 0
    """How often a run that failed is tried again, from its last checkpoint."""

    status: dict[str, Status] = field(default_factory=dict)
    """Where each stands, by name."""

    failures: dict[str, Failure] = field(default_factory=dict)
    """What did not come to its end."""

    full: bool = False
    """Whether a run has ended because the disk is full: nothing new is started then, for it would end so too."""

    _tried: dict[str, int] = field(default_factory=dict)
    _looked: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._by_name = {item.name: item for item in self.runs}
        self._logs: dict[str, Path] = {}
        for item in self.runs:
            self.status[item.name] = "done" if item.done else "waiting"

    def run(self, watch: Callable[[], None]) -> None:
        """Run what is missing until nothing is left that can be done; `watch` is called after every look.

        However it is left, no process that was started here goes on.
        """
        try:
            while True:
                for end in self.executor.ended():
                    self._settle(end)
                self._look_elsewhere()
                self._start()
                watch()
                if not self._count("running", "elsewhere", "waiting"):
                    return
                time.sleep(POLL_SECONDS)
        finally:
            self.executor.close()

    def _count(self, *statuses: Status) -> int:
        return sum(status in statuses for status in self.status.values())

    def _start(self) -> None:
        """Hand over what can be started, as long as there are places; what failed before comes after the others."""
        for item in sorted(self.runs, key=lambda item: self._tried.get(item.name, 0)):
            if self.status[item.name] != "waiting":
                continue
            needed = self.status.get(item.needs, "done")
            if self.full:
                self._fail(item, "held", "not started: the disk is full")
            elif needed in ("failed", "held"):
                self._fail(item, "held", f"not started: it needs {item.needs}")
            elif item.claimed:
                self.status[item.name] = "elsewhere"
            elif needed == "done" and (self.executor.places or len(self.runs)) > self._count("running"):
                self._submit(item)

    def _submit(self, item: Planned) -> None:
        try:
            job = planning.make_job(item, self.own)
        except DiskFull:
            self.full = True
            self._fail(item, "held", "not started: the disk is full")
            return
        self._logs[item.name] = job.log
        self.status[item.name] = "running"
        self.executor.submit(job)

    def _settle(self, end: Ended) -> None:
        """Decide by its run folder what has become of a job that has ended."""
        item = self._by_name[end.name]
        lines = process.last_lines(self._logs[end.name])
        said = "\n".join(lines)
        if item.done:
            self.status[end.name] = "done"
        elif end.code and (BUSY in said or item.claimed):
            self.status[end.name] = "elsewhere"
            self._looked[end.name] = time.monotonic()
        elif end.code and self._tried.get(end.name, 0) < self.retries and DISK_FULL not in said:
            self._tried[end.name] = self._tried.get(end.name, 0) + 1
            self.status[end.name] = "waiting"
        else:
            self.full = self.full or DISK_FULL in said or self._no_room()
            self._fail(item, "failed", end.reason or _how(end.code), lines)

    def _no_room(self) -> bool:
        """Whether the disk is so full that a job could not even say so in its log."""
        with suppress(OSError):
            return shutil.disk_usage(self.own).free < _NO_ROOM_BYTES
        return False

    def _fail(self, item: Planned, status: Status, reason: str, lines: Sequence[str] = ()) -> None:
        self.status[item.name] = status
        self.failures[item.name] = Failure(item.name, reason, self._logs.get(item.name), tuple(lines))

    def _look_elsewhere(self) -> None:
        """See whether a run that another process had is finished, or free to go on with."""
        now = time.monotonic()
        for item in self.runs:
            if self.status[item.name] == "elsewhere" and now - self._looked.get(item.name, 0) >= ELSEWHERE_SECONDS:
                self._looked[item.name] = now
                if not item.claimed:
                    self.status[item.name] = "done" if item.done else "waiting"


def _how(code: int) -> str:
    """Return in words how a process ended."""
    import signal

    if code == 0:
        return "ended without an error, but its run is not scored"
    if code == -signal.SIGKILL:
        return "was killed; perhaps the machine ran out of memory"
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit status {code}"
