"""Documents that another command (`cxrkit localise`, `cxrkit audit`) has left in the runs, as one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cxrkit.base.errors import UserError
from cxrkit.report.document.figures import Figure
from cxrkit.report.document.tables import Report, Table
from cxrkit.report.evidence.runs import Run
from cxrkit.report.rendering.kept import is_kept, kept_document
from cxrkit.runs.folder import RunFolder


@dataclass(frozen=True)
class Kind:
    """A document that a command leaves in a run."""

    key: str
    """Its own, which its file and the document of several runs are named by."""

    command: str
    """That makes it."""

    title: str
    """Of the document of several runs, with their number: "Where {count} networks look"."""


LOCALISATION = Kind("localisation", "cxrkit localise", "Where {count} networks look, against boxes")
AUDIT = Kind("audit", "cxrkit audit", "What {count} networks read beside the findings")


def has(kind: Kind, run: Run) -> bool:
    """Whether a document of this kind lies in the run's folder."""
    return is_kept(RunFolder(run.folder), kind.key)


def together(kind: Kind, runs: Iterable[Run], names: Mapping[Path, str]) -> Report:
    """Return the documents of the runs that have one, under one title; a note names those of another checkpoint.

    names: what the runs are called, by folder. Raises UserError where none is of its run's checkpoint.
    """
    found: list[tuple[str, Report]] = []
    notes: list[str] = []
    for run in runs:
        if has(kind, run):
            report = kept_document(RunFolder(run.folder), kind.key, run.scores.checkpoint_sha256)
            name = names[run.folder]
            found += [(name, report)] if report is not None else []
            notes += [f"Left out: {name} (trained again since; `{kind.command}`)"] if report is None else []
    if not found:
        raise UserError(
            "; ".join(notes) or f"no run has a document of {kind.key}", remedy=f"run `{kind.command} RUN` again"
        )
    if len(found) == 1:
        (_, report), *_ = found
        return replace(report, notes=(*report.notes, *notes))
    return _of_several(kind, found, notes)


def _of_several(kind: Kind, found: Sequence[tuple[str, Report]], notes: Sequence[str]) -> Report:
    tables: list[Table] = []
    figures: list[Figure] = []
    for number, (name, report) in enumerate(found, 1):
        tables += [replace(item, title=f"{item.title}: {name}", key=f"{item.key}-{number}") for item in report.tables]
        figures += [replace(item, title=f"{item.title}: {name}", key=f"{item.key}-{number}") for item in report.figures]
    common = [note for note in found[0][1].notes if all(note in report.notes for _, report in found)]
    own = [f"{name}: {note}" for name, report in found for note in report.notes if note not in common]
    title = kind.title.format(count=len(found))
    return Report(title, tuple(tables), (*own, *common, *notes), tuple(figures), key=kind.key)
