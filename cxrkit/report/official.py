"""`cxrkit report --official-split`: Table 5 of Baltruschat et al. 2019 with the user's runs in it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from cxrkit.base.labels import CHESTXRAY14
from cxrkit.report import published
from cxrkit.report.cells import (
    CONSTANT_NOTE,
    aucs,
    csv_fields,
    csv_name,
    has_constant,
    interval_cells,
    run_heading,
    score_cells,
)
from cxrkit.report.comparability import Verdict, judge
from cxrkit.report.not_comparable import not_comparable_tables
from cxrkit.report.published import Published
from cxrkit.report.reference import known_splits
from cxrkit.report.runs import Run, find_runs
from cxrkit.report.tables import AVERAGE, UNCHECKED, Cell, Column, Report, Table, bold_best, label_rows
from cxrkit.report.variants import Variant, details, full_name, is_altered, variant_of
from cxrkit.runs.predictions import IMPORTED

SPLIT = "official"
DECIMALS = 3


def official(runs: Path, also: Sequence[str] = ()) -> Report:
    """Return the official-split table: published columns, and beside them every run that compares with them.

    also: keys of `data_manifests/published/literature.toml` to add as columns. Raises UserError when `runs` holds no
    evaluated run.
    """
    table = published.table5()
    columns = (*table.columns, *map(published.from_literature, also))
    found = find_runs(runs)
    folds = known_splits().keys() - {SPLIT}
    verdicts = judge((run for run in found.runs if run.split not in folds), (SPLIT,), table.label_release)
    comparable = [verdict for verdict in verdicts if verdict.comparable]
    own = _OwnColumns(comparable, columns)
    tables = [_main_table(table.citation, columns, own)]
    if comparable:
        tables.append(_interval_table(own))
    tables += not_comparable_tables(verdicts, detailed=lambda run: run.split == SPLIT)
    notes = [*found.unusable, *elsewhere_note(found.runs, folds, "resampling folds", "cxrkit report")]
    return Report("ChestX-ray14, official split", tuple(tables), tuple(notes))


class _OwnColumns:
    """The comparable runs, with the words that each heading needs."""

    def __init__(self, verdicts: Sequence[Verdict], columns: Sequence[Published]) -> None:
        self.verdicts = verdicts
        self.papers = {column.model: column for column in columns if column.model}
        self.variants = [variant_of(verdict.run) for verdict in verdicts]
        self.words = details(self.variants, self.papers)

    def name(self, variant: Variant) -> str:
        """Return the full name of a column."""
        return full_name(variant, self.words[variant])

    def columns(self, *, in_csv: bool, width: int = 11) -> list[Column]:
        """Return the columns without their cells. width: about that many characters a line of the heading."""
        return [
            Column(
                csv_name(self.name(variant), verdict.doubts),
                run_heading(variant.name, self.words[variant], doubtful=bool(verdict.doubts), width=width),
                csv_fields(verdict.run) if in_csv else (),
                own=True,
            )
            for verdict, variant in zip(self.verdicts, self.variants, strict=True)
        ]

    @property
    def altered(self) -> list[bool]:
        """Whether each repeats a published network on other terms than its column."""
        return [is_altered(variant, self.papers.get(variant.model)) for variant in self.variants]


def _main_table(citation: str, columns: Sequence[Published], own: _OwnColumns) -> Table:
    heads = [Column(column.name, column.heading, ("auc",)) for column in columns]
    rivals = {*range(len(heads)), *(len(heads) + index for index, altered in enumerate(own.altered) if not altered)}
    heads += own.columns(in_csv=True)
    cells = [*map(_published_cells, columns), *(score_cells(verdict.run) for verdict in own.verdicts)]
    return Table(
        "AUC on the official test set (the paper's Table 5)",
        "Pathology",
        tuple(heads),
        bold_best(label_rows(cells, CHESTXRAY14), "auc", DECIMALS, rivals),
        tuple(_notes(citation, columns, own)),
    )


def _published_cells(column: Published) -> dict[str, Cell]:
    cells = {label: Cell(f"{auc:.{DECIMALS}f}", {"auc": auc}) for label, auc in column.auc.items()}
    if column.mean is not None:
        cells[AVERAGE] = Cell(f"{column.mean:.{DECIMALS}f}", {"auc": column.mean})
    return cells


def _notes(citation: str, columns: Sequence[Published], own: _OwnColumns) -> list[str]:
    notes = [f"Published columns: {citation}, as printed there"]
    notes += [f"{' '.join(column.heading)}: {column.note}" for column in columns if column.note]
    bold = "Bold: the highest AUC of a row as printed, ties included"
    if any(own.altered):
        bold += "; not among them: a published network that was trained on other terms"
    notes += [bold, f"Average: over the {len(CHESTXRAY14.averaged)} pathologies"]
    if any(has_constant(verdict.run) for verdict in own.verdicts):
        notes.append(CONSTANT_NOTE)
    for verdict, variant in zip(own.verdicts, own.variants, strict=True):
        notes += [_origin(verdict.run, variant, own.name(variant)), *doubt_notes(verdict, own.name(variant))]
    if own.verdicts:
        notes.append(
            "Labels: your runs and the three ResNets on release v2020; the other works do not say, and the release "
            "of 2017 has 188 positive test labels fewer"
        )
    else:
        notes.append("None of your runs compares with these columns; the reasons follow below")
    return notes


def doubt_notes(verdict: Verdict, name: str) -> list[str]:
    """Return what the mark in a run's heading stands for."""
    return [f"{UNCHECKED} {name}: {'; '.join(verdict.doubts)}"] if verdict.doubts else []


def _origin(run: Run, variant: Variant, name: str) -> str:
    scores, test = run.scores, run.test
    if scores.recipe == IMPORTED:
        what = f"{name}: predictions from elsewhere, file {scores.checkpoint_sha256[:12]}"
        return f"{what}; {test.images:,} images of {test.patients:,} patients"
    terms = f"recipe {variant.recipe}" + (f" with {', '.join(variant.changes)}" if variant.changes else "")
    return (
        f"{name}: your run at {scores.input_size} px, {terms}, epoch {scores.epoch}, "
        f"checkpoint {scores.checkpoint_sha256[:12]}; {test.images:,} images of {test.patients:,} patients"
    )


def _interval_table(own: _OwnColumns) -> Table:
    """Show the intervals by themselves: beside the AUCs they would not fit a terminal."""
    # Comparable runs have the same test images and labels, hence the same positives.
    first = own.verdicts[0].run
    positives = {
        metric.label: Cell(f"{metric.positives:,}")
        for metric in aucs(first)
        if metric.label is not None and metric.positives is not None
    }
    made = [metric.interval for verdict in own.verdicts for metric in aucs(verdict.run) if metric.lower is not None]
    return Table(
        "Intervals of your runs",
        "Pathology",
        (Column("positives", ("Positives",)), *own.columns(in_csv=False, width=14)),
        label_rows([positives, *(interval_cells(verdict.run) for verdict in own.verdicts)], CHESTXRAY14),
        tuple(f"Intervals: {how}" for how in dict.fromkeys(made) if how),
    )


def elsewhere_note(runs: Sequence[Run], splits: Collection[str], what: str, command: str) -> list[str]:
    """Return a note on the runs that another table of the paper is about."""
    count = sum(run.split in splits for run in runs)
    if not count:
        return []
    how_many = f"{count} runs on {what} belong" if count > 1 else f"1 run on {what} belongs"
    return [f"{how_many} in another table: `{command}`"]
