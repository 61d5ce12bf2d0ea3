"""Parts of tests of `cxrkit reproduce`: an executor that trains in this process, and parts of a run that fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import polars as pl
from rich.console import Console

from cxrkit import pipeline
from cxrkit.base.contracts import Ended, Job, Share
from cxrkit.base.errors import UserError
from cxrkit.base.labels import LabelSet
from cxrkit.reproduce.main import Request
from cxrkit.reproduce.planning import Places

# A tiny network without images, on 200 rows: a run takes a third of a second.
SETTINGS = {
    "schedule.epochs": "2",
    "optimizer.batch_size": "8",
    "run.threads": "1",
    "run.device": '"cpu"',
    "run.precision": '"fp32"',
}


def write_study(path: Path, *lines: str, **settings: str) -> Path:
    """Write a study of mlp-meta runs: SETTINGS, and `lines` before them."""
    chosen = SETTINGS | {name.replace("__", "."): value for name, value in settings.items()}
    path.write_text("\n".join([*lines, "[settings]", *(f"{name} = {value}" for name, value in chosen.items())]))
    return path


def request(study: object, data: Path, runs: Path, sets: tuple[str, ...] = (), **changes: Any) -> Request:
    return Request(str(study), Places(data, runs, sets), **({"engine": "reproduce_parts:InProcess"} | changes))


class InProcess:
    """Does a job's command in this process, when the planner asks what has ended."""

    places: int | None = 1
    started: ClassVar[list[str]] = []
    """Names of all jobs that any of them was given."""

    before: ClassVar[Callable[[Job], None] | None] = None
    """Called before each job, by the tests that let something happen then."""

    def __init__(self, share: Share) -> None:
        self._queue: list[Job] = []

    def submit(self, job: Job) -> None:
        self.started.append(job.name)
        self._queue.append(job)

    def ended(self) -> Iterator[Ended]:
        while self._queue:
            job = self._queue.pop(0)
            yield Ended(job.name, self._do(job))

    def _do(self, job: Job) -> int:
        recipe = job.command[job.command.index("--recipe") + 1]
        with open(job.log, "a") as log:
            try:
                if InProcess.before is not None:
                    InProcess.before(job)
                pipeline.train(pipeline.resolve({}, recipe=recipe, resume=True), True, Console(file=log))
            except UserError as error:
                log.write(f"error: {error}\n")
                return 2
        return 0

    def close(self) -> None:
        self._queue.clear()


def broken_loss(labels: LabelSet) -> Any:
    """A loss that fails in the first step: after all that can be checked before."""

    def loss(outputs: Any, batch: Any) -> Any:
        raise UserError("the loss is broken", remedy="mend it")

    return loss


def predictions(run: Path) -> pl.DataFrame:
    return pl.read_parquet(run / "predictions" / "test.parquet")
