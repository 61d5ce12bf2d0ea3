"""All documents that a folder of runs allows: the list of them, and what is said of those that could not be made."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from cxrkit.base.errors import UserError
from cxrkit.report.document.tables import Report
from cxrkit.report.evidence.common_terms import terms_notes
from cxrkit.report.evidence.epochs import EpochChoice
from cxrkit.report.evidence.opened import Opened
from cxrkit.report.evidence.reference import known_splits
from cxrkit.report.evidence.run_names import model_names, run_names
from cxrkit.report.evidence.runs import FoundRuns, Run, is_probe
from cxrkit.report.paper.official import SPLIT as OFFICIAL
from cxrkit.report.paper.official import official
from cxrkit.report.paper.probes import probes
from cxrkit.report.paper.resampled import resampled

NOTHING = "the runs have nothing that it is made of"  # a reason where a document gives none


@dataclass(frozen=True)
class Material:
    """What documents are built from."""

    found: FoundRuns
    """The runs that are wanted."""

    opened: Opened
    """Their predictions and labels, opened when a document asks for them."""

    epoch: EpochChoice = "own"
    """The one of each run that stands in the paper's tables."""

    apart: bool = False
    """Whether the numbers of the runs that do not compare are shown, too."""

    also: Sequence[str] = ()
    """Published results beside the official split's: keys, "primary", "top10", "all"."""

    labels: Sequence[str] = ()
    """Other sources of labels, by name: "google2019", "nih-2017"."""

    data: Path | None = None
    """Prepared folder; None: there is none."""

    raw: Path | None = None
    """Folder with NIH's tables, for documents on the data set and on other labels; None: there is none."""

    @property
    def findings(self) -> tuple[Run, ...]:
        """The runs that predict findings, no probes."""
        return tuple(run for run in self.found.runs if not is_probe(run))

    @cached_property
    def tested(self) -> tuple[Run, ...]:
        """The runs that figures show side by side: whole test sets of one split, the official one where there are any.

        Elsewhere it is the split, the data set and the labels that most runs are of.
        """
        groups: dict[tuple[str, ...], list[Run]] = defaultdict(list)
        for run in self.findings:
            if run.test.complete and run.has_auc:
                groups[run.origin.dataset, run.origin.label_set, run.origin.labels_digest, run.split].append(run)
        if not groups:
            return ()
        largest: list[Run] = max(groups.values(), key=lambda runs: (runs[0].split == OFFICIAL, len(runs)))
        return tuple(largest)

    @cached_property
    def names(self) -> dict[Path, str]:
        """What each run is called where runs of one split stand side by side, by its folder."""
        return model_names(self.findings)

    @cached_property
    def terms(self) -> tuple[str, ...]:
        """What headings leave out: the settings that all runs have in common (`common_terms.terms_notes`)."""
        return tuple(terms_notes(self.findings))


@dataclass(frozen=True)
class Document:
    """One kind of document."""

    build: Callable[[Material], Report]
    """Raises UserError where something is missing. The report's key is the document's name."""

    applies: Callable[[Material], bool]
    """Whether there is anything to show, seen from the runs alone."""


def _official(material: Material) -> Report:
    return official(material.found, material.also, material.epoch, apart=material.apart)


def _resampled(material: Material) -> Report:
    return resampled(material.found, material.epoch, apart=material.apart)


def _paper(material: Material) -> Report:
    from cxrkit.report.paper.journal import journal

    return journal(material.tested, material.names)


def _probes(material: Material) -> Report:
    return probes(material.found, apart=material.apart)


def _compare(material: Material) -> Report:
    from cxrkit.report.comparing.compare import compare_all

    return compare_all(material.findings, material.opened)


def _table4(material: Material) -> Report:
    from cxrkit.report.paper.table4 import table4

    return table4(material.findings, material.opened)


def _curves(material: Material) -> Report:
    from cxrkit.report.each_run.curves import curves
    from cxrkit.report.each_run.training_curves import training_curves

    drawn = curves(material.tested, material.opened, material.names) if material.tested else []
    figures = [*drawn, *training_curves(material.findings)]
    notes = () if figures else ("no run has AUCs of a whole test set that can be read, or a record of its training",)
    return Report("Curves", (), notes, figures=tuple(figures), key="curves")


def _calibration(material: Material) -> Report:
    from cxrkit.report.each_run.calibration import calibration

    tables, figures = calibration(material.tested, material.opened, material.names)
    return Report("Calibration", tuple(tables), figures=tuple(figures), key="calibration")


def _thresholds(material: Material) -> Report:
    from cxrkit.report.each_run.operating_points import operating_points

    tables, figures = operating_points(material.tested, material.opened, material.names)
    notes = () if tables else ("thresholds are chosen on validation predictions, and no run here has them",)
    return Report("Sensitivity and specificity", tuple(tables), notes, tuple(figures), key="thresholds")


def _subgroups(material: Material) -> Report:
    from cxrkit.report.each_run.subgroups import subgroups

    tables, figures = subgroups(material.tested, material.opened, material.names)
    return Report("Subgroups", tuple(tables), figures=tuple(figures), key="subgroups")


def _external(material: Material) -> Report:
    from cxrkit.report.each_run.external import external_of

    return external_of([run.folder for run in material.findings])


def _localisation(material: Material) -> Report:
    from cxrkit.report.each_run.kept_documents import LOCALISATION, together

    return together(LOCALISATION, material.findings, run_names(material.findings))


def _audit(material: Material) -> Report:
    from cxrkit.report.each_run.kept_documents import AUDIT, together

    return together(AUDIT, material.findings, run_names(material.findings))


def _labels(material: Material) -> Report:
    from cxrkit.report.other_labels.label_sources import label_sources

    if material.raw is None:
        raise UserError("--labels: no folder is named that has the other labels", remedy="name it with --raw")
    return label_sources(material.findings, material.labels, material.raw, material.opened)


def _table1(material: Material) -> Report:
    from cxrkit.report.data.architecture import architecture

    return architecture()


def _stats(material: Material) -> Report:
    from cxrkit.imports import cohort
    from cxrkit.report.data.data_statistics import data_statistics

    return data_statistics(cohort.read(material.raw, None if material.raw else material.data))


def _provenance(material: Material) -> Report:
    from cxrkit.report.each_run.provenance import provenance

    return provenance(material.found.runs)


def _protocol(material: Material) -> Report:
    from cxrkit.report.each_run.protocol import protocol

    return protocol(material.findings)


def _has_official(material: Material) -> bool:
    return any(run.split == OFFICIAL for run in material.findings)


def _has_other_splits(material: Material) -> bool:
    return any(run.split != OFFICIAL for run in material.findings)


def _has_findings(material: Material) -> bool:
    return bool(material.findings)


def _has_several(material: Material) -> bool:
    return len(material.findings) > 1


def _has_tested(material: Material) -> bool:
    return bool(material.tested)


def _has_paper(material: Material) -> bool:
    """Whether there is one test set to speak of: over several folds Table 3 has means and deviations."""
    folds = {run.split for run in material.tested} & (known_splits().keys() - {OFFICIAL})
    several = {run.split for run in material.findings} & (known_splits().keys() - {OFFICIAL})
    return bool(material.tested) and not (folds and len(several) > 1)


def _has_external(material: Material) -> bool:
    from cxrkit.runs.external import validities

    return any(validities(run.folder) for run in material.findings)


def _has_localised(material: Material) -> bool:
    from cxrkit.report.each_run.kept_documents import LOCALISATION, has

    return any(has(LOCALISATION, run) for run in material.findings)


def _has_audited(material: Material) -> bool:
    from cxrkit.report.each_run.kept_documents import AUDIT, has

    return any(has(AUDIT, run) for run in material.findings)


def _has_labels(material: Material) -> bool:
    return bool(material.labels)


def _has_probes(material: Material) -> bool:
    return any(map(is_probe, material.found.runs))


def _has_data(material: Material) -> bool:
    return material.raw is not None or material.data is not None


def _has_paper_network(material: Material) -> bool:
    from cxrkit.models.grammar import is_of_paper

    return any(not run.imported and is_of_paper(run.scores.model) for run in material.findings)


def _always(material: Material) -> bool:
    return True


# In reading order. A new document is a line here, and two short functions above.
DOCUMENTS: dict[str, Document] = {
    "paper": Document(_paper, _has_paper),
    "official": Document(_official, _has_official),
    "resampled": Document(_resampled, _has_other_splits),
    "probes": Document(_probes, _has_probes),
    "compare": Document(_compare, _has_several),
    "table4": Document(_table4, _has_several),
    "curves": Document(_curves, _has_findings),
    "calibration": Document(_calibration, _has_tested),
    "thresholds": Document(_thresholds, _has_tested),
    "subgroups": Document(_subgroups, _has_tested),
    "external": Document(_external, _has_external),
    "localisation": Document(_localisation, _has_localised),
    "audit": Document(_audit, _has_audited),
    "labels": Document(_labels, _has_labels),
    "stats": Document(_stats, _has_data),
    "table1": Document(_table1, _has_paper_network),
    "provenance": Document(_provenance, _always),
    "protocol": Document(_protocol, _has_findings),
}


WITHOUT_RUNS = ("stats", "table1")  # documents that are of no run


@dataclass(frozen=True)
class Everything:
    """The documents, and what is not among them."""

    documents: tuple[Report, ...]
    """Each with the key that its files are named by."""

    left_out: tuple[str, ...]
    """What could not be made, each with the reason."""


def build(name: str, material: Material) -> Report:
    """Return one of DOCUMENTS, with a note on what its headings leave out: what all runs have in common.

    Raises UserError where something is missing.
    """
    report = DOCUMENTS[name].build(material)
    if name in WITHOUT_RUNS or not (report.tables or report.figures):
        return report
    return replace(report, notes=(*(note for note in material.terms if note not in report.notes), *report.notes))


def everything(material: Material, done: Callable[[], None] = lambda: None) -> Everything:
    """Build all of DOCUMENTS; one that fails for a reason that the user can mend is named, and the others are built.

    done: called after each.
    """
    documents: list[Report] = []
    left_out: list[str] = []
    for name, document in DOCUMENTS.items():
        try:
            report = build(name, material) if document.applies(material) else None
            if report is not None and not (report.tables or report.figures or report.text):
                left_out.append(f"{name}: {'; '.join(report.notes) or NOTHING}")  # a document of notes alone is none
            elif report is not None:
                documents.append(report)
        except UserError as error:
            left_out.append(f"{name}: {error.what or NOTHING}" + (f"; {error.remedy}" if error.remedy else ""))
        done()
    return Everything(tuple(documents), tuple(left_out))
