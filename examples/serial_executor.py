"""An executor: one job after another on this machine, with no word of its own.

cxrkit reproduce table3 --engine examples.serial_executor:SerialExecutor
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

from cxrkit.base.contracts import Ended, Job, Share


class SerialExecutor:
    """Runs a job in the moment that the planner asks what has ended; the live table stands still meanwhile."""

    places: int | None = 1

    def __init__(self, share: Share, *, nice: int = 0) -> None:
        """Take jobs; nice: what is added to their niceness, so that others' programs go first."""
        self._nice = nice
        self._queue: list[Job] = []

    def submit(self, job: Job) -> None:
        """Put the job into the queue."""
        self._queue.append(job)

    def ended(self) -> Iterator[Ended]:
        """Run what is in the queue and yield its ends."""
        while self._queue:
            job = self._queue.pop(0)
            environment = os.environ | {"OMP_NUM_THREADS": str(job.threads or 1)}
            with open(job.log, "ab") as log:
                command = ["nice", "-n", str(self._nice), *job.command]
                done = subprocess.run(
                    command, cwd=job.folder, env=environment, stdout=log, stderr=subprocess.STDOUT, check=False
                )
            yield Ended(job.name, done.returncode)

    def close(self) -> None:
        """Forget the queue; nothing runs between two calls."""
        self._queue.clear()
