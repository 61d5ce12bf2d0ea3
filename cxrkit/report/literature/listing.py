"""`cxrkit literature`: the published results that are known, those that compare apart from the others; one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from cxrkit.base.errors import UserError
from cxrkit.base.labels import CHESTXRAY14
from cxrkit.base.registry import unknown
from cxrkit.report.document.tables import AVERAGE, EMPTY, Cell, Column, Report, Row, Table
from cxrkit.report.literature import works
from cxrkit.report.literature.marks import PRETRAINING_NOTE, mark_notes, marks_of
from cxrkit.report.literature.works import OFFICIAL, Work

# By what `--split` calls them: the split as a result has it, and the title of its table.
SPLITS = {
    "official": (OFFICIAL, "NIH's official split"),
    "patient-wise": ("random patient-wise", "Random splits by patient: they compare with nothing else"),
    "image-wise": ("random image-wise", "Random splits by image: the same patients are trained on and tested"),
    "unknown": ("unknown", "Split not known"),
    "chestmnist": ("ChestMNIST", "ChestMNIST: a community split by patient, images scaled down"),
}
SORTS: dict[str, Callable[[Work], Any]] = {
    "mean": lambda work: (-(work.mean if work.mean is not None else -1.0), work.key),
    "year": lambda work: (-work.year, work.key),
    "key": lambda work: work.key,
    "input": lambda work: (-work.input_size, work.key),
}


def literature_report(split: str = "all", sort: str = "mean") -> Report:
    """Return the published results on one kind of split, or on all; those that compare stand in a table of their own.

    split: a key of SPLITS, or "all". sort: a key of SORTS; mean, year and input have the highest first. Raises
    UserError for another word.
    """
    if split != "all" and split not in SPLITS:
        raise unknown("split of published results", split, ["all", *SPLITS], own="")
    if sort not in SORTS:
        raise UserError(f"--sort {sort}: there is no such order", remedy=f"choose {', '.join(SORTS)}")
    chosen = sorted(works.literature().values(), key=SORTS[sort])
    tables = []
    for name in SPLITS if split == "all" else [split]:
        kind, title = SPLITS[name]
        of_kind = [work for work in chosen if work.split == kind]
        if kind == OFFICIAL:
            tables.append(_table(f"{title}: they compare", [work for work in of_kind if work.comparable], name))
            tables.append(_refused([work for work in of_kind if not work.comparable]))
        else:
            tables.append(_table(title, of_kind, name))
    shown = [work for work in chosen if split in ("all", *_names_of(work))]
    return Report(_title(shown), tuple(tables), tuple(_notes(shown)), key="literature")


def _names_of(work: Work) -> list[str]:
    return [name for name, (kind, _) in SPLITS.items() if work.split == kind]


def _title(shown: Sequence[Work]) -> str:
    return f"Published results on ChestX-ray14: {len(shown)}, of which {sum(work.comparable for work in shown)} compare"


def _table(title: str, chosen: Iterable[Work], key: str) -> Table:
    columns = (
        Column(AVERAGE, ("Mean", "AUC"), ("auc", "std_seeds")),
        Column("input", ("Input",), ("input_size",)),
        Column("pretraining", ("Pretraining",), left=True),
        Column("evidence", ("Evidence",), left=True),
        Column("marks", ("Marks",), left=True),
    )
    rows = tuple(Row(work.key, work.key, _cells(work)) for work in chosen)
    return Table(title, "Result", columns, rows, key=f"literature-{key}", rows_are_runs=True)


def _cells(work: Work) -> tuple[Cell, ...]:
    size = Cell(f"{work.input_size}", {"input_size": work.input_size}) if work.input_size else EMPTY
    return (
        mean_cell(work),
        size,
        Cell(work.pretrained.seen if work.pretrained.seen != "unknown" else "-"),
        Cell(work.evidence),
        Cell(", ".join(marks_of(work)) or "-"),
    )


def mean_cell(work: Work) -> Cell:
    """Return a result's mean AUC with the digits that its source gives, at least three."""
    if work.mean is None:
        return EMPTY
    digits = max(3, len(f"{work.mean:.6g}".partition(".")[2]))
    return Cell(f"{work.mean:.{digits}f}", {"auc": work.mean, "std_seeds": work.mean_std})


def _refused(chosen: Iterable[Work]) -> Table:
    columns = (Column(AVERAGE, ("Mean", "AUC"), ("auc",)), Column("why", ("Why",), left=True))
    rows = tuple(Row(work.key, work.key, (mean_cell(work), Cell(work.reason))) for work in chosen)
    title = "NIH's official split: they do not compare"
    return Table(title, "Result", columns, rows, key="literature-refused", rows_are_runs=True)


def _notes(shown: Sequence[Work]) -> list[str]:
    selected = [mark for work in shown for mark in marks_of(work)]
    return [
        "Mean AUC: over the 14 pathologies, with the digits that its source gives; intervals are not known",
        "Input: side of the network's input in pixels",
        PRETRAINING_NOTE,
        "Evidence: where the number was read; primary: in the work itself or its repository; secondary: in another one",
        *mark_notes(selected),
        "A dash: not known; no mark is no promise, for of most results neither selection nor labels are known",
        "`cxrkit literature show RESULT`: all that is known of one. "
        "`cxrkit report --official-split --also RESULT,...`: those that compare, beside one's own runs",
    ]


def work_report(work: Work) -> Report:
    """Return all that is known of one result."""
    tables = [_fields_table(work)]
    if work.auc:
        tables.append(_auc_table(work))
    return Report(work.key, tuple(tables), tuple(_work_notes(work)), key="work")


def _fields_table(work: Work) -> Table:
    seen = work.pretrained
    values = {
        "Title": work.title,
        "Authors": work.authors,
        "Year": f"{work.year}",
        "Reference": work.ref,
        "Split": work.split + (f", says {work.split_source}" if work.split_source else ""),
        "Compares": "yes" if work.comparable else f"no: {_why_not(work)}",
        "Network": work.backbone,
        "Input": f"{work.input_size} px" if work.input_size else "",
        "Extra data": work.extra_data,
        "Pretraining": f"{seen.seen}; of this data set: {seen.this_data_set}; of its test images: {seen.test_images}"
        if seen.known
        else "",
        "Selected on": "" if work.selected_on == "unknown" else work.selected_on,
        "Labels": "" if work.label_release == "unknown" else work.label_release,
        "Mean AUC": _mean_text(work),
        "Evidence": f"{work.evidence}: {work.source}",
        "Marks": ", ".join(marks_of(work)),
    }
    rows = tuple(
        Row("", name, (Cell(value or "not known"),)) for name, value in values.items() if name != "Marks" or value
    )
    return Table("What is known of it", "", (Column("value", ("",), left=True),), rows, (), "work")


def _why_not(work: Work) -> str:
    if work.reason:
        return work.reason
    return "its split is not known" if work.split == "unknown" else "it is on another split"


def _mean_text(work: Work) -> str:
    if work.mean is None:
        return ""
    spread = "" if work.mean_std is None else f" ± {work.mean_std} over training runs"
    return f"{mean_cell(work).text}{spread}, {'computed from its list' if work.mean_is_computed else 'as stated'}"


def _auc_table(work: Work) -> Table:
    found = work.by_label
    cells = {label: Cell(f"{auc:.4g}", {"auc": auc}) for label, auc in found.items()}
    rows = tuple(Row(label, CHESTXRAY14.heading(label), (cells.get(label, EMPTY),)) for label in CHESTXRAY14.averaged)
    return Table("AUC by pathology", "Pathology", (Column(work.key, ("AUC",), ("auc",)),), rows, key="work-auc")


def _work_notes(work: Work) -> list[str]:
    corrected = [f"Corrected: {work.corrected}"] if work.corrected else []
    return [*work.notes, *corrected, *mark_notes(marks_of(work))]
