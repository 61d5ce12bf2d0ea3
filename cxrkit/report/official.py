"""`cxrkit report --official-split`: Table 5 of Baltruschat et al. 2019 with the user's runs in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cxrkit.contracts import LABELS
from cxrkit.evaluators.results import LabelScore, MeanScore
from cxrkit.report import published
from cxrkit.report.apart import apart_tables, score_cells
from cxrkit.report.published import Published
from cxrkit.report.runs import Run, find, reasons_apart, refuse_mixed_digests
from cxrkit.report.tables import (
    AVERAGE,
    EMPTY,
    Cell,
    Column,
    Report,
    Table,
    bold_best,
    heading_lines,
    label_rows,
)

SPLIT = "official"
DECIMALS = 3


def official(runs: Path, also: Sequence[str] = ()) -> Report:
    """Return the official-split table: published columns, and beside them every run that compares with them.

    also: keys of `data_manifests/published/literature.toml` to add as columns. Raises UserError when `runs` holds no
    evaluated run, when one of its scores files is broken, and when runs disagree on what the official split is.
    """
    citation, reference, columns = published.table5()
    columns = (*columns, *map(published.from_literature, also))
    found = find(runs)
    judged = [(run, reasons_apart(run, reference, {SPLIT})) for run in found.runs]
    comparable = [run for run, reasons in judged if not reasons]
    refuse_mixed_digests(comparable)
    apart = [(run, reasons) for run, reasons in judged if reasons]
    tables = [_main_table(citation, columns, comparable)]
    if comparable:
        tables.append(_interval_table(comparable))
    tables += apart_tables(apart, detailed=lambda run: run.split == SPLIT)
    return Report("ChestX-ray14, official split", tuple(tables), _closing_notes(apart, found.unfinished))


def _main_table(citation: str, columns: Sequence[Published], runs: Sequence[Run]) -> Table:
    heads = [Column(column.name, column.heading, ("auc",)) for column in columns]
    heads += [
        Column(run.name, heading_lines(run.name), ("auc", "lower", "upper", "positives"), own=True) for run in runs
    ]
    rows = label_rows([*map(_published_cells, columns), *map(score_cells, runs)])
    notes = [f"Published columns: {citation}, as printed there"]
    notes += [f"{' '.join(column.heading)}: {column.note}" for column in columns if column.note]
    notes += ["Bold: the highest AUC of a row as printed, ties included", "Average: over the 14 pathologies"]
    notes += [_origin(run) for run in runs]
    if runs:
        notes.append(
            "Labels: your runs and the three ResNets on release v2020; the other works do not say, and the release "
            "of 2017 has 188 positive test labels fewer"
        )
    else:
        notes.append("None of your runs compares with these columns; they follow below, with the reason")
    return Table(
        "AUC on the official test set (the paper's Table 5)",
        "Pathology",
        tuple(heads),
        bold_best(rows, "auc", DECIMALS, set(range(len(heads)))),
        tuple(notes),
    )


def _published_cells(column: Published) -> dict[str, Cell]:
    cells = {label: Cell(f"{auc:.{DECIMALS}f}", {"auc": auc}) for label, auc in column.auc.items()}
    if column.mean is not None:
        cells[AVERAGE] = Cell(f"{column.mean:.{DECIMALS}f}", {"auc": column.mean})
    return cells


def _origin(run: Run) -> str:
    scores, test = run.scores, run.test
    return (
        f"{run.name}: your run at {scores.input_size} px, epoch {scores.epoch}, "
        f"checkpoint {scores.checkpoint_sha256[:12]}; {test.images:,} images of {test.patients:,} patients"
    )


def _interval_table(runs: Sequence[Run]) -> Table:
    """Show the intervals by themselves: beside the AUCs they would not fit a terminal."""
    first = runs[0].test
    # Comparable runs have the same test images and labels, hence the same positives.
    positives = {label: Cell(f"{first.labels[label].positives:,}") for label in LABELS}
    heads = [Column("positives", ("Positives",))]
    heads += [Column(run.name, heading_lines(run.name, 14), own=True) for run in runs]
    notes = []
    for run in runs:
        how = run.test.intervals
        note = f"{100 * how.confidence:g} % intervals: {how.method}, {how.replicates:,} replicates, seed {how.seed}"
        if note not in notes:
            notes.append(note)
    return Table(
        "Intervals of your runs",
        "Pathology",
        tuple(heads),
        label_rows([positives, *map(_intervals, runs)]),
        tuple(notes),
    )


def _intervals(run: Run) -> dict[str, Cell]:
    scores: dict[str, LabelScore | MeanScore] = {**run.test.labels, AVERAGE: run.test.mean}
    return {
        key: EMPTY
        if score.lower is None or score.upper is None
        else Cell(f"[{score.lower:.{DECIMALS}f}, {score.upper:.{DECIMALS}f}]")
        for key, score in scores.items()
    }


def _closing_notes(apart: Sequence[tuple[Run, list[str]]], unfinished: Sequence[str]) -> tuple[str, ...]:
    notes = list(unfinished)
    if any(run.split.startswith("resample-") for run, _ in apart):
        notes.append("Resampling folds have a table of their own: `cxrkit report` without `--official-split`")
    return tuple(notes)
