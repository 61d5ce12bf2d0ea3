"""What the documents of many runs will ask of each, worked out beforehand on as many cores as there are.

A document asks one run after the other, in this process. Here other processes work the same arrays out, run by run, and
leave them where the documents look for them (evidence/opened.py: RUN/derived). What fails is left for the document to
say.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from cxrkit.base.cores import available_cores
from cxrkit.base.errors import UserError
from cxrkit.base.progress import progress_bar
from cxrkit.base.workers import Worker, Workers
from cxrkit.report.comparing.compare import compared
from cxrkit.report.comparing.pairing import INFLUENCES
from cxrkit.report.each_run.calibration import OPTIONS, RELIABILITY
from cxrkit.report.each_run.curves import CURVES
from cxrkit.report.everything import Material
from cxrkit.report.evidence.measured import metrics_by
from cxrkit.report.evidence.opened import Derivation, Opened
from cxrkit.report.evidence.runs import Run
from cxrkit.report.paper.correlations import RANKS
from cxrkit.report.paper.table4 import correlated

if TYPE_CHECKING:
    from rich.console import Console

MOST = 4  # processes; each takes some 250 MB
# Images, once for each derivation of a run: of fewer this process is done before others have loaded what they need.
ENOUGH = 700_000


@dataclass(frozen=True)
class _Asked:
    """What one document asks for."""

    runs: Callable[[Material], Sequence[Run]]
    """Of these runs."""

    derivation: Callable[[Run, Opened], Derivation]
    """What it asks of one of them. Raises UserError where that cannot be said."""


ASKED: dict[str, _Asked] = {
    "influences": _Asked(lambda material: compared(material.findings), lambda run, opened: INFLUENCES),
    "ranks": _Asked(lambda material: correlated(material.findings), lambda run, opened: RANKS),
    "curves": _Asked(lambda material: material.tested, lambda run, opened: CURVES),
    "reliability": _Asked(lambda material: material.tested, lambda run, opened: RELIABILITY),
    "calibration": _Asked(lambda material: material.tested, partial(metrics_by, evaluator="calibration", **OPTIONS)),
    "thresholds": _Asked(
        lambda material: [run for run in material.tested if "val" in run.scores.subsets],
        partial(metrics_by, evaluator="thresholds"),
    ),
    "subgroups": _Asked(lambda material: material.tested, partial(metrics_by, evaluator="subgroups")),
}


@dataclass(frozen=True)
class Task:
    """What a process shall work out of one run."""

    run: Run
    """The run."""

    names: tuple[str, ...]
    """Of ASKED."""

    data: Path | None
    """Where its labels are, see Opened."""


def work_out(tasks: Sequence[Task], console: Console | None = None) -> int:
    """Work out what is `lacking`, where that is enough for several processes; returns of how many runs.

    Progress on the console.
    """
    processes = min(available_cores(), MOST, len(tasks))
    if processes < 2 or sum(task.run.test.images * len(task.names) for task in tasks) < ENOUGH:
        return 0
    waiting = iter(tasks)

    def take(_: Worker) -> Task | None:
        return next(waiting, None)

    with (
        progress_bar("opening predictions", len(tasks), console=console, unit="runs") as bar,
        Workers(processes, f"{__name__}:work_out_of") as workers,
    ):
        for _ in workers.run(take):
            bar.advance()
    return len(tasks)


def lacking(material: Material) -> list[Task]:
    """Return what the documents will ask for and is not kept, by run; nothing of a folder that cannot be written."""
    runs: dict[Path, Run] = {}
    names: dict[Path, list[str]] = {}
    for name, asked in ASKED.items():
        for run in asked.runs(material):
            if not _is_kept(run, asked, material.opened) and os.access(run.folder, os.W_OK):
                runs[run.folder] = run
                names.setdefault(run.folder, []).append(name)
    return [Task(run, tuple(names[folder]), material.data) for folder, run in runs.items()]


def _is_kept(run: Run, asked: _Asked, opened: Opened) -> bool:
    try:
        return opened.is_kept(run, asked.derivation(run, opened))
    except UserError:
        return True  # nothing can be worked out, and the document says why


def work_out_of(task: Task, _: int = -1) -> None:
    """Work out what is lacking of one run, in a process of its own."""
    opened = _opened(task.data)
    for name in task.names:
        try:
            opened.derived(task.run, ASKED[name].derivation(task.run, opened))
        except UserError:
            continue  # the document says why
    opened.close()


@cache
def _opened(data: Path | None) -> Opened:
    """Return what reads the labels, once for all runs of this process."""
    return Opened(data)
