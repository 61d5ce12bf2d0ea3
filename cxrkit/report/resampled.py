"""`cxrkit report`: Table 3 of Baltruschat et al. 2019, mean and standard deviation over the resampling folds.

Folds are pooled when they were trained on equal terms (variants.Variant): recipe, changed settings, input size, seed,
initial weights, preparation. Whatever differs makes a column of its own, and its heading says what.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from cxrkit.base.labels import CHESTXRAY14
from cxrkit.report import own_metrics, published
from cxrkit.report.cells import CONSTANT_NOTE, csv_name, has_constant, run_heading
from cxrkit.report.comparability import Verdict, judge
from cxrkit.report.not_comparable import not_comparable_tables
from cxrkit.report.official import SPLIT as OFFICIAL
from cxrkit.report.official import doubt_notes, elsewhere_note
from cxrkit.report.published import PublishedFolds, Table3
from cxrkit.report.runs import find_runs
from cxrkit.report.tables import AVERAGE, CONSTANT, EMPTY, Cell, Column, Report, Row, Table, bold_best, label_rows
from cxrkit.report.variants import Variant, details, full_name, is_altered, variant_of

PREFIX = "resample-"
DECIMALS = 1  # of AUC x 100, as the paper prints
FIELDS = ("mean_x100", "std_x100", "folds")
Folds = dict[int, Verdict]  # by number of the fold


def resampled(runs: Path) -> Report:
    """Return the resampling table: each variant over the folds that exist, and the paper's matching column beside it.

    Raises UserError when `runs` holds no evaluated run.
    """
    table = published.table3()
    splits = {f"{PREFIX}{number}": number for number in range(1, table.folds + 1)}
    found = find_runs(runs)
    verdicts = judge((run for run in found.runs if run.split != OFFICIAL), splits, table.label_release)
    pooled: dict[Variant, Folds] = defaultdict(dict)
    for verdict in verdicts:
        if verdict.comparable:
            pooled[variant_of(verdict.run)][splits[verdict.run.split]] = verdict
    tables = [_table(table, pooled)] if pooled else []
    tables += not_comparable_tables(verdicts, detailed=lambda run: run.split in splits)
    tables += own_metrics.tables(run for run in found.runs if run.split != OFFICIAL)
    notes = list(found.unusable)
    if not pooled:
        notes.insert(
            0, f"No run compares with the paper's Table 3 yet; it takes the folds {PREFIX}1 to {PREFIX}{table.folds}"
        )
    notes += elsewhere_note(found.runs, [OFFICIAL], "the official split", "cxrkit report --official-split")
    return Report("ChestX-ray14, resampling by patient", tuple(tables), tuple(notes))


def _table(table: Table3, pooled: Mapping[Variant, Folds]) -> Table:
    words = details(pooled, table.columns)
    heads: list[Column] = []
    cells: list[dict[str, Cell]] = []
    rivals: set[int] = set()
    last_of_model = {variant.model: variant for variant in pooled}
    for variant, folds in pooled.items():
        paper = table.columns.get(variant.model)
        if len(folds) == table.folds and not is_altered(variant, paper):
            rivals.add(len(heads))
        doubts = dict.fromkeys(doubt for verdict in folds.values() for doubt in verdict.doubts)
        constant = any(has_constant(verdict.run) for verdict in folds.values())
        heads.append(
            Column(
                csv_name(full_name(variant, words[variant]), doubts),
                run_heading(variant.name, words[variant], doubtful=bool(doubts)),
                (*FIELDS, *["constant"] * constant),
                own=True,
            )
        )
        cells.append(_own_cells(folds, table.folds))
        if paper is not None and last_of_model[variant.model] == variant:
            rivals.add(len(heads))
            heads.append(Column(paper.name, ("paper:", *paper.heading), FIELDS))
            cells.append(_paper_cells(paper, table.folds))
    rows = bold_best(label_rows(cells, CHESTXRAY14), "mean_x100", DECIMALS, rivals)
    folds_row = Row("", "Folds", tuple(column["folds"] for column in cells), rule_above=True)
    names = {variant: full_name(variant, words[variant]) for variant in pooled}
    return Table(
        "AUC x 100, mean ± standard deviation over the resampling folds (the paper's Table 3)",
        "Pathology",
        tuple(heads),
        (*rows, folds_row),
        tuple(_notes(table, pooled, names)),
    )


def _own_cells(folds: Folds, count: int) -> dict[str, Cell]:
    cells, spreads = {}, {}
    for label in CHESTXRAY14.labels:
        metrics = [verdict.run.auc(label) for verdict in folds.values()]
        aucs = [100 * metric.value for metric in metrics if metric is not None and metric.value is not None]
        spreads[label] = statistics.stdev(aucs) if len(aucs) > 1 else None
        constant = any(metric.constant for metric in metrics if metric is not None)
        # Only pathologies are sure to have an AUC in every run that gets here.
        cells[label] = _cell(statistics.mean(aucs), spreads[label], len(aucs), constant) if aucs else EMPTY
    # As in the paper: the deviation in the Average row is the mean of the fourteen above it.
    known = [spread for label in CHESTXRAY14.averaged if (spread := spreads[label]) is not None]
    spread = statistics.mean(known) if known else None
    cells[AVERAGE] = _cell(statistics.mean(_averages(folds).values()), spread, len(folds))
    cells["folds"] = Cell(f"{len(folds)} of {count}")
    return cells


def _paper_cells(column: PublishedFolds, count: int) -> dict[str, Cell]:
    cells = {label: _cell(mean, std, count) for label, (mean, std) in column.folds.items()}
    cells[AVERAGE] = _cell(*column.average, count)
    cells["folds"] = Cell(f"{count} of {count}")
    return cells


def _cell(mean: float, std: float | None, folds: int, constant: bool = False) -> Cell:
    text = f"{mean:.{DECIMALS}f}" if std is None else f"{mean:.{DECIMALS}f} ± {std:.{DECIMALS}f}"
    values: dict[str, float | int | None] = {"mean_x100": mean, "std_x100": std, "folds": folds}
    if constant:
        values["constant"] = 1
    return Cell(f"{CONSTANT} " * constant + text, values, competes=not constant)


def _averages(folds: Folds) -> dict[int, float]:
    """Return the average AUC x 100 by fold."""
    means = {number: verdict.run.auc() for number, verdict in sorted(folds.items())}
    # Only runs with a mean get here.
    return {number: 100 * mean.value for number, mean in means.items() if mean is not None and mean.value is not None}


def _notes(table: Table3, pooled: Mapping[Variant, Folds], names: Mapping[Variant, str]) -> list[str]:
    notes = []
    if any(variant.model in table.columns for variant in pooled):
        notes.append(f"Paper's columns: {table.citation}, as printed there")
    notes.append(
        "±: sample standard deviation over the folds (n - 1; the paper does not say which it is); "
        "in the Average row the mean of the fourteen above it, as in the paper"
    )
    bold = f"Bold: the highest mean of a row as printed, ties included, among columns with all {table.folds} folds"
    if any(is_altered(variant, table.columns.get(variant.model)) for variant in pooled):
        bold += "; not among them: a network of the paper that was trained on other terms"
    notes.append(bold)
    if any(has_constant(verdict.run) for folds in pooled.values() for verdict in folds.values()):
        notes.append(CONSTANT_NOTE)
    for variant, folds in pooled.items():
        notes.append(_folds_note(variant, folds, table.folds, names[variant]))
        notes += dict.fromkeys(note for verdict in folds.values() for note in doubt_notes(verdict, names[variant]))
    return notes


def _folds_note(variant: Variant, folds: Folds, count: int, name: str) -> str:
    averages = _averages(folds)
    note = f"{name}: average by fold " + ", ".join(f"{value:.1f} ({number})" for number, value in averages.items())
    if len(averages) > 1:
        note += f", standard deviation {statistics.stdev(averages.values()):.2f}"
    missing = _missing(folds, count)
    if missing:
        note += f"; missing: fold{'s' * (len(missing) > 1)} {', '.join(map(str, missing))}"
    terms = f"; recipe {variant.recipe} with {', '.join(variant.changes)}" if variant.changes else ""
    return note + terms


def _missing(folds: Folds, count: int) -> Sequence[int]:
    return [number for number in range(1, count + 1) if number not in folds]
