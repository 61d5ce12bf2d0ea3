"""`cxrkit report`: Table 3 of Baltruschat et al. 2019, mean and standard deviation over the resampling folds."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from cxrkit.contracts import LABELS, PATHOLOGIES
from cxrkit.report import published
from cxrkit.report.apart import apart_tables
from cxrkit.report.published import PublishedFolds
from cxrkit.report.runs import Run, find, reasons_apart, refuse_mixed_digests
from cxrkit.report.tables import (
    AVERAGE,
    Cell,
    Column,
    Report,
    Row,
    Table,
    bold_best,
    heading_lines,
    label_rows,
)

PREFIX = "resample-"
DECIMALS = 1  # of AUC x 100, as the paper prints
Folds = dict[int, Run]


def resampled(runs: Path) -> Report:
    """Return the resampling table: each model over the folds that exist, and the paper's matching column beside it.

    Raises UserError when `runs` holds no evaluated run, when one of its scores files is broken, and when runs disagree
    on what a fold is.
    """
    citation, reference, count, columns = published.table3()
    splits = {f"{PREFIX}{number}": number for number in range(1, count + 1)}
    found = find(runs)
    judged = [(run, reasons_apart(run, reference, splits)) for run in found.runs]
    complete = [run for run, reasons in judged if not reasons]
    refuse_mixed_digests(complete)
    models: dict[str, Folds] = defaultdict(dict)
    for run in complete:
        # Two runs of one model and fold carry their folders' names: they become two columns.
        models[run.name][splits[run.split]] = run
    apart = [(run, reasons) for run, reasons in judged if reasons]
    tables = [_table(citation, models, columns, count)] if models else []
    tables += apart_tables(apart, detailed=lambda run: run.split in splits)
    notes = list(found.unfinished)
    if not models:
        notes.insert(
            0, f"No run compares with the paper's Table 3 yet; it takes the folds {PREFIX}1 to {PREFIX}{count}"
        )
    if any(run.split == "official" for run, _ in apart):
        notes.append("Runs on the official split have a table of their own: `cxrkit report --official-split`")
    return Report("ChestX-ray14, resampling by patient", tuple(tables), tuple(notes))


def _table(citation: str, models: Mapping[str, Folds], columns: Mapping[str, PublishedFolds], count: int) -> Table:
    heads: list[Column] = []
    cells: list[dict[str, Cell]] = []
    rivals: set[int] = set()
    for name, folds in models.items():
        model = next(iter(folds.values())).scores.model
        if len(folds) == count:
            rivals.add(len(heads))
        heads.append(Column(name, heading_lines(name), ("mean_x100", "std_x100", "folds"), own=True))
        cells.append(_own_cells(folds, count))
        if model in columns:
            rivals.add(len(heads))
            paper = columns[model]
            heads.append(Column(paper.name, ("paper:", *paper.heading), ("mean_x100", "std_x100", "folds")))
            cells.append(_paper_cells(paper, count))
    rows = bold_best(label_rows(cells), "mean_x100", DECIMALS, rivals)
    folds_row = Row("", "Folds", tuple(column["folds"] for column in cells), rule_above=True)
    return Table(
        "AUC x 100, mean ± standard deviation over the resampling folds (the paper's Table 3)",
        "Pathology",
        tuple(heads),
        (*rows, folds_row),
        _notes(citation, models, count, any(not head.own for head in heads)),
    )


def _own_cells(folds: Folds, count: int) -> dict[str, Cell]:
    by_label = {
        label: [100 * auc for run in folds.values() if (auc := run.test.labels[label].auc) is not None]
        for label in LABELS
    }
    averages = _averages(folds).values()
    # As in the paper: the deviation in the Average row is the mean of the fourteen above it.
    spread = statistics.mean(statistics.stdev(by_label[label]) for label in PATHOLOGIES) if len(folds) > 1 else None
    cells = {
        label: _cell(statistics.mean(aucs), statistics.stdev(aucs) if len(aucs) > 1 else None, len(aucs))
        for label, aucs in by_label.items()
    }
    cells[AVERAGE] = _cell(statistics.mean(averages), spread, len(folds))
    cells["folds"] = Cell(f"{len(folds)} of {count}")
    return cells


def _paper_cells(column: PublishedFolds, count: int) -> dict[str, Cell]:
    cells = {label: _cell(mean, std, count) for label, (mean, std) in column.folds.items()}
    cells[AVERAGE] = _cell(*column.average, count)
    cells["folds"] = Cell(f"{count} of {count}")
    return cells


def _cell(mean: float, std: float | None, folds: int) -> Cell:
    text = f"{mean:.{DECIMALS}f}" if std is None else f"{mean:.{DECIMALS}f} ± {std:.{DECIMALS}f}"
    return Cell(text, {"mean_x100": mean, "std_x100": std, "folds": folds})


def _averages(folds: Folds) -> dict[int, float]:
    """Return the average AUC x 100 by fold."""
    # Only runs with every pathology defined get here, so every run has a mean.
    return {number: 100 * (run.test.mean.auc or 0.0) for number, run in sorted(folds.items())}


def _notes(citation: str, models: Mapping[str, Folds], count: int, beside: bool) -> tuple[str, ...]:
    notes = [f"Paper's columns: {citation}, as printed there"] if beside else []
    notes += [
        "±: sample standard deviation over the folds (n - 1; the paper does not say which it is); "
        "in the Average row the mean of the fourteen above it, as in the paper",
        f"Bold: the highest mean of a row as printed, ties included, among columns with all {count} folds",
    ]
    for name, folds in models.items():
        averages = _averages(folds)
        note = f"{name}: average by fold " + ", ".join(f"{value:.1f} ({number})" for number, value in averages.items())
        if len(averages) > 1:
            note += f", standard deviation {statistics.stdev(averages.values()):.2f}"
        missing = [number for number in range(1, count + 1) if number not in folds]
        if missing:
            note += f"; missing: fold{'s' * (len(missing) > 1)} {', '.join(map(str, missing))}"
        notes.append(note)
    return tuple(notes)
