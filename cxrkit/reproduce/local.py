"""Jobs as processes of this machine: one or several a GPU, or a few on the cores."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

from cxrkit.base.contracts import Ended, Job, Share
from cxrkit.base.cores import available_cores
from cxrkit.reproduce import process


class LocalExecutor:
    """Gives each job a place: a share of a GPU, where there are any, and of the cores that are free."""

    def __init__(self, share: Share) -> None:
        """Count GPUs and cores. `share.jobs` defaults to one for each place on a GPU; without a GPU to one."""
        self._free: list[str | None] = [gpu for _ in range(share.per_gpu) for gpu in visible_gpus()] or [None]
        if share.jobs is not None and self._free == [None]:
            self._free *= share.jobs
        self._free = self._free[: share.jobs]
        self.places: int | None = len(self._free)
        self._loading = max(1, available_cores() // len(self._free))
        self._computing = process.computing_threads(len(self._free))
        self._running: dict[str, tuple[subprocess.Popen[bytes], str | None]] = {}
        self._stillborn: list[Ended] = []

    def submit(self, job: Job) -> None:
        """Start the job at a free place; what keeps it from starting is its end."""
        place = self._free.pop(0)
        on_gpu = place is not None and job.gpu
        environment = {"CUDA_VISIBLE_DEVICES": str(place)} if on_gpu else {}
        threads = self._loading if on_gpu else self._computing
        try:
            self._running[job.name] = (process.start(job, threads, environment, on_gpu=on_gpu), place)
        except OSError as error:
            self._free.append(place)
            self._stillborn.append(Ended(job.name, 1, f"could not be started: {error}"))

    def ended(self) -> Iterator[Ended]:
        """Yield the jobs that have ended, and free their places."""
        while self._stillborn:
            yield self._stillborn.pop()
        for name, (child, place) in list(self._running.items()):
            if (code := child.poll()) is not None:
                del self._running[name]
                self._free.append(place)
                yield Ended(name, code)

    def close(self) -> None:
        """End the processes, as Ctrl-C does first."""
        process.stop(*(child for child, _ in self._running.values()))
        self._running.clear()


def visible_gpus() -> list[str]:
    """Return what CUDA_VISIBLE_DEVICES can name one by one: the GPUs that this process may use."""
    if (said := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name.strip() for name in said.split(",") if name.strip() not in ("", "-1")]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]
