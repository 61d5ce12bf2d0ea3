"""What `cxrkit report` is asked for, checked before any run is opened, and the document that answers it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cxrkit.base.errors import UserError
from cxrkit.base.words import count as counted
from cxrkit.report.document.tables import Report
from cxrkit.report.everything import DOCUMENTS, WITHOUT_RUNS, Material, build, everything
from cxrkit.report.evidence.epochs import EpochChoice
from cxrkit.report.evidence.opened import Opened
from cxrkit.report.evidence.runs import FoundRuns, find_runs
from cxrkit.report.literature import references, works
from cxrkit.report.paper.figure5 import OTHERS
from cxrkit.runs.folder import RunFolder

if TYPE_CHECKING:
    from rich.console import Console

DEFAULT = "resampled"
# The tables and figures of Baltruschat et al. 2019 by number, the table for a paper of one's own, and the document that
# has each. A new one is a line here.
TABLES: Mapping[str, str] = {
    "1": "table1", "2": "stats", "3": "resampled", "4": "table4", "5": "official", "paper": "paper",
}  # fmt: skip
FIGURES: Mapping[str, str] = {"3": "stats", "5": "resampled"}


@dataclass(frozen=True)
class ReportRequest:
    """The options of `cxrkit report` that decide what it shows."""

    runs: Path
    """Folder of the run folders, or one of them."""

    document: str = DEFAULT
    """A name of DOCUMENTS; "" for all of them."""

    only: tuple[str, ...] = ()
    """Patterns of the runs that are wanted; () for all."""

    hide: tuple[str, ...] = ()
    """Patterns of those that are not."""

    epoch: EpochChoice = "own"
    """The one of each run that stands in the paper's tables."""

    apart: bool = False
    """Whether the numbers of the runs that do not compare are shown, too."""

    also: tuple[str, ...] = ()
    """Published results beside the official split's: keys, "primary", "top10", "all"."""

    labels: tuple[str, ...] = ()
    """Other sources of labels to hold the predictions against."""

    data: Path | None = None
    """Labels for all runs, a prepared folder or a table; None: those that each run was evaluated with."""

    raw: Path | None = None
    """Folder with NIH's tables."""

    def __post_init__(self) -> None:
        """Refuse what cannot be shown together, and results that are not known, before anything is opened."""
        if self.also:
            works.resolve_also(",".join(self.also))
        if self.also and self.document not in ("official", ""):
            raise UserError(
                "--also: published results are of the official split", remedy="ask for --official-split, or for --all"
            )
        if self.document == "stats" and self.raw is None and self.data is None:
            raise UserError(
                "Table 2 and Figure 3 are of the data set, and none is named",
                remedy="name a prepared folder with --data, or with --raw the folder of NIH's CSV, or the CSV itself",
            )
        if self.document == "labels" and self.raw is None:
            raise UserError("--labels: no folder is named that has the other labels", remedy="name it with --raw")
        if self.document == "probes" and self.epoch == "common":
            raise UserError(
                "--epoch common: --probes shows each probe at its own best epoch", remedy="leave out --epoch"
            )

    def material(self) -> Material:
        """Find the runs. Raises UserError as `find_runs` does."""
        found = find_runs(self.runs, self.only, self.hide) if self.document not in WITHOUT_RUNS else FoundRuns((), ())
        return Material(found, Opened(self.data), self.epoch, self.apart, self.also, self.labels, self.data, self.raw)


@dataclass(frozen=True)
class WrittenAll:
    """What became of all documents."""

    files: tuple[Path, ...]
    """All that were written."""

    left_out: tuple[str, ...]
    """What was not, each with the reason."""

    page: Path | None
    """The page of all documents; None where the libraries for it are not installed."""


def document_of(flags: Mapping[str, bool], table: str | int | None, figure: str | int | None) -> str:
    """Return the document that is asked for, "" for all of them.

    flags: by option, whether it was given: --official-split, --probes, --labels, --all. Raises UserError for two
    documents at once, and for a table or figure that there is none of.
    """
    named = {"--official-split": "official", "--probes": "probes", "--labels": "labels", "--all": ""}
    asked = {option: named[option] for option, given in flags.items() if given}
    if flags.get("--all"):  # other labels are one document more
        asked.pop("--labels", None)
    for option, number, known in (("--table", table, TABLES), ("--figure", figure, FIGURES)):
        if number is not None:
            asked[f"{option} {number}"] = _numbered(option, str(number), known)
    if len(set(asked.values())) > 1:
        reports = "two reports" if len(asked) == 2 else f"{len(asked)} reports"
        raise UserError(f"{' and '.join(asked)} are {reports}", remedy="ask for one after the other, or for --all")
    return next(iter(asked.values()), DEFAULT)


def _numbered(option: str, number: str, known: Mapping[str, str]) -> str:
    if number not in known:
        shown = [f"--table {item}" for item in TABLES] + [f"--figure {item}" for item in FIGURES]
        raise UserError(f"{option} {number}: is not built here", remedy=f"choose {', '.join(shown)}")
    return known[number]


def answer(request: ReportRequest) -> Report:
    """Return the document that is asked for, whatever it has to show. Raises UserError where it cannot be made."""
    return build(request.document, request.material())


def write_all(request: ReportRequest, out: Path, console: Console) -> WrittenAll:
    """Write all documents that the runs allow into `out`, with progress on the console. Raises UserError."""
    from cxrkit import __version__
    from cxrkit.base.progress import progress_bar, working
    from cxrkit.report import beforehand
    from cxrkit.report.rendering.folder import PAGE, steps, write_folder

    with working("reading the runs"):
        material = request.material()
        lacking = beforehand.lacking(material)
    beforehand.work_out(lacking, console)
    with progress_bar("building", len(DOCUMENTS), console=console, unit="documents") as bar:
        made = everything(material, bar.advance)
    title, about = heading(material)
    with progress_bar("writing", steps(made.documents), console=console, unit="parts") as bar:
        written = write_folder(
            made.documents, out, title=title, made=f"{about}cxrkit {__version__}", best=best_first(material),
            said_once=material.terms, others={references.FILE: references.bibtex(cited(made.documents))},
            done=bar.advance,
        )  # fmt: skip
    page = out / PAGE if out / PAGE in written.files else None
    return WrittenAll(written.files, (*made.left_out, *written.left_out), page)


def cited(documents: Sequence[Report]) -> set[str]:
    """Return the keys of the published results that documents show, in tables and in Figure 5."""
    tables = [table for report in documents for table in report.tables]
    found = {column.cite for table in tables for column in table.columns}
    found |= {row.cite for table in tables for row in table.rows}
    drawn = {item.key for report in documents for item in report.figures}
    return (found | set(OTHERS) if "figure5" in drawn else found) - {""}


def heading(material: Material) -> tuple[str, str]:
    """Return what the page is about: its title, and the beginning of the line below it, "" where there are no runs.

    "cxrkit report: 2 runs on the official split"; "Data set synthetic; trained on 2026-12-01; ".
    """
    from cxrkit.report.each_run.provenance import kept_provenance

    runs = material.found.runs
    if not runs:
        return "cxrkit report", ""
    splits = sorted({run.split for run in runs})
    on = f"the {splits[0]} split" if len(splits) == 1 else counted(len(splits), "split")
    data = sorted({run.origin.dataset for run in runs})
    said = f"Data set{'s' * (len(data) > 1)} {', '.join(data)}; "
    days = sorted({str(kept_provenance(RunFolder(run.folder)).get("time") or "")[:10] for run in runs} - {""})
    if days:
        said += f"trained on {days[0]}; " if len(days) == 1 else f"trained from {days[0]} to {days[-1]}; "
    return f"cxrkit report: {counted(len(runs), 'run')} on {on}", said


def best_first(material: Material) -> Sequence[str]:
    """Return the runs, as figures name them, by mean AUC, the highest first: they have a colour in every figure."""
    side_by_side = (*material.findings, *material.tested)  # of a model on several splits, the one that figures show
    means = {material.names[run.folder]: mean.value for run in side_by_side if (mean := run.auc()) is not None}
    return sorted(means, key=lambda name: (-round(means[name] or 0, 9), name))
