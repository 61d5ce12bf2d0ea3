"""Whether a run's scores are those of the files that lie beside them, and the command that makes them so again."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, fields
from pathlib import Path

from cxrkit.base.errors import UserError
from cxrkit.base.files import file_digest
from cxrkit.base.origin import Origin
from cxrkit.report.evidence.runs import Run
from cxrkit.runs import epochs
from cxrkit.runs.folder import RunFolder
from cxrkit.runs.predictions import read_prediction_info
from cxrkit.runs.scores import IDENTITY


@dataclass(frozen=True)
class Stale:
    """Why a run's scores are not those of the files that lie beside them now."""

    reason: str
    """In words."""

    mended_by: str = ""
    """The command that makes scores of these files; "" where there is none."""


def stale(run: Run) -> list[Stale]:
    """Return why the run's scores are not those of the files that lie beside them now; empty: they are."""
    folder = RunFolder(run.folder)
    if run.own is None:
        return _stale(run, folder.predictions("test")) or _newer_checkpoint(run)
    # What was kept belongs to this training as long as its own scores do.
    return stale(run.own) or _stale(run, epochs.predictions_of(folder, run.scores.epoch, "test"))


def stale_reasons(run: Run) -> list[str]:
    """Return the reasons of `stale` alone."""
    return [found.reason for found in stale(run)]


def _evaluate(run: Run) -> str:
    return f"cxrkit evaluate {shlex.quote(str(run.folder))}"


def _predict(run: Run) -> str:
    """Return how the test images are predicted again and scored; "" without a network, and for epochs that are past."""
    if run.own is not None or not RunFolder(run.folder).best.exists():
        return ""
    return f"cxrkit predict {shlex.quote(str(run.folder))} && {_evaluate(run)}"


def _stale(run: Run, path: Path) -> list[Stale]:
    name = path.relative_to(run.folder).as_posix()
    try:
        about, sha256 = read_prediction_info(path)
    except UserError as error:
        if not path.exists():
            return [Stale(f"its {name} is missing", _predict(run))]
        return [Stale(f"its {name} cannot be read ({str(error).splitlines()[0]})", _predict(run))]
    if sha256 != run.test.predictions_sha256:
        return [Stale(f"its {name} was replaced after it was scored", _evaluate(run))]
    if other := [name for name in IDENTITY if getattr(about, name) != getattr(run.scores, name)]:
        said = _field(about.origin, run.origin, other[0])
        return [Stale(f"its scores.json says another {said} than its predictions", _evaluate(run))]
    return []


def _field(one: Origin, other: Origin, name: str) -> str:
    if name != "origin":
        return name
    return next(item.name for item in fields(Origin) if getattr(one, item.name) != getattr(other, item.name))


def _newer_checkpoint(run: Run) -> list[Stale]:
    """Return a reason when the best checkpoint is newer than the scores, and another one than they were made with."""
    folder = RunFolder(run.folder)
    try:
        scored = folder.scores.stat().st_mtime_ns
        # An older file is not read at all: it may have 500 MB, and a report may have forty of them.
        newer = [path for path in (folder.best, folder.last) if path.exists() and path.stat().st_mtime_ns > scored]
        if folder.best in newer and run.scores.checkpoint_sha256 not in map(file_digest, newer):
            return [Stale("its checkpoint was replaced after it was scored", _predict(run))]
    except OSError as error:
        return [Stale(f"its checkpoint cannot be read ({error.strerror})")]
    return []
