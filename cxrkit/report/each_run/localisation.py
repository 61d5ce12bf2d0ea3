"""Where networks look: the documents that `cxrkit localise` has left in the runs, as one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from cxrkit.base.errors import UserError
from cxrkit.report.document.figures import Figure
from cxrkit.report.document.tables import Report, Table
from cxrkit.report.evidence.runs import Run
from cxrkit.report.rendering.kept import is_kept, kept_document
from cxrkit.runs.folder import RunFolder

KEY = "localisation"


def is_localised(run: Run) -> bool:
    """Whether a document lies in the run's folder."""
    return is_kept(RunFolder(run.folder), KEY)


def localisation(runs: Iterable[Run], names: Mapping[Path, str]) -> Report:
    """Return the documents of the runs that have one, under one title; a note names those of another checkpoint.

    names: what the runs are called, by folder. Raises UserError where none is of its run's checkpoint.
    """
    found: list[tuple[str, Report]] = []
    notes: list[str] = []
    for run in runs:
        if is_localised(run):
            report = kept_document(RunFolder(run.folder), KEY, run.scores.checkpoint_sha256)
            name = names[run.folder]
            found += [(name, report)] if report is not None else []
            notes += [f"Left out: {name} (trained again since; `cxrkit localise`)"] if report is None else []
    if not found:
        raise UserError("; ".join(notes) or "no run was localised", remedy="run `cxrkit localise RUN` again")
    if len(found) == 1:
        (_, report), *_ = found
        return replace(report, notes=(*report.notes, *notes))
    return _together(found, notes)


def _together(found: Sequence[tuple[str, Report]], notes: Sequence[str]) -> Report:
    tables: list[Table] = []
    figures: list[Figure] = []
    for number, (name, report) in enumerate(found, 1):
        tables += [replace(item, title=f"{item.title}: {name}", key=f"{item.key}-{number}") for item in report.tables]
        figures += [replace(item, title=f"{item.title}: {name}", key=f"{item.key}-{number}") for item in report.figures]
    common = [note for note in found[0][1].notes if all(note in report.notes for _, report in found)]
    own = [f"{name}: {note}" for name, report in found for note in report.notes if note not in common]
    title = f"Where {len(found)} networks look, against boxes"
    return Report(title, tuple(tables), (*own, *common, *notes), tuple(figures), key=KEY)
