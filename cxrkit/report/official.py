"""`cxrkit report --official-split`: Table 5 of Baltruschat et al. 2019 with the user's runs in it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from cxrkit.base.labels import CHESTXRAY14
from cxrkit.report import own_metrics, published
from cxrkit.report.cells import (
    APPROXIMATE_NOTE,
    CONSTANT_NOTE,
    aucs,
    has_constant,
    interval_cells,
    is_approximate,
    run_heading,
    score_cells,
)
from cxrkit.report.comparability import Verdict, judge
from cxrkit.report.epochs import AtEpochs, EpochChoice, at_epochs
from cxrkit.report.not_comparable import not_comparable_tables
from cxrkit.report.published import Published
from cxrkit.report.reference import known_splits
from cxrkit.report.runs import FoundRuns, Run, found_in, without_probes
from cxrkit.report.seeds import seed_cells
from cxrkit.report.tables import AVERAGE, UNCHECKED, Cell, Column, Report, Table, bold_best, label_rows
from cxrkit.report.variants import Variant, details, full_name, is_altered, seeds_text
from cxrkit.runs.predictions import IMPORTED

SPLIT = "official"
DECIMALS = 3
EFFECTIVE_NOTE = (
    "Effective patients: how many with equally many images would say as much; of the positives or of the negatives, "
    "whichever are fewer; of the average, the fewest of its labels"
)


def official(
    runs: Path | FoundRuns, also: Sequence[str] = (), epoch: EpochChoice = "own", *, apart: bool = False
) -> Report:
    """Return the official-split table: published columns, and beside them every run that compares with them.

    runs: their folder, or what was found in it. also: keys of `data_manifests/published/literature.toml` to add as
    columns. epoch: the one of each run that stands in the table (epochs.py). apart: show the numbers of the runs that
    do not compare, too. Raises UserError when `runs` holds no evaluated run.
    """
    table = published.table5()
    columns = (*table.columns, *map(published.from_literature, also))
    found, probes_note = without_probes(found_in(runs))
    folds = known_splits().keys() - {SPLIT}
    verdicts = judge((run for run in found.runs if run.split not in folds), (SPLIT,), table.label_release)
    comparable = [verdict for verdict in verdicts if verdict.comparable]
    at = at_epochs(comparable, epoch, lambda run: judge([run], (SPLIT,), table.label_release)[0])
    own = _OwnColumns(at, columns)
    others = [verdict for verdict in verdicts if not verdict.comparable] + list(at.without)
    tables = [_main_table(table.citation, columns, own, reasons_follow=bool(others))]
    if at.columns:
        tables.append(_interval_table(own))
    tables += not_comparable_tables(others, apart, detailed=lambda run: run.split == SPLIT)
    tables += own_metrics.tables(run for run in found.runs if run.split not in folds)
    notes = [*found.unusable, *probes_note, *elsewhere_note(found.runs, folds, "resampling folds", "cxrkit report")]
    return Report("ChestX-ray14, official split", tuple(tables), tuple(notes), key="official")


class _OwnColumns:
    """The comparable runs by column, those of several seeds together, with the words that each heading needs."""

    def __init__(self, at: AtEpochs, columns: Sequence[Published]) -> None:
        self.at = at
        self.members = at.columns
        self.papers = {column.model: column for column in columns if column.model}
        self.words = at.words(details(self.members, self.papers))

    def name(self, variant: Variant) -> str:
        """Return the full name of a column."""
        return full_name(variant, self.words[variant])

    @property
    def verdicts(self) -> list[Verdict]:
        """All runs, column by column."""
        return [verdict for members in self.members.values() for verdict in members]

    def columns(self) -> list[Column]:
        """Return the columns without their cells."""
        heads = []
        for variant, members in self.members.items():
            doubts = dict.fromkeys(doubt for verdict in members for doubt in verdict.doubts)
            heading = run_heading(variant.name, self.words[variant], doubtful=bool(doubts))
            heads.append(Column(self.name(variant), heading, ("auc",), own=True, doubts=tuple(doubts)))
        return heads

    def cells(self) -> list[dict[str, Cell]]:
        """Return the cells of each column: of one run, or the mean and deviation over the seeds."""
        return [
            score_cells(members[0].run)
            if len(members) == 1
            else seed_cells([verdict.run for verdict in members], DECIMALS)
            for members in self.members.values()
        ]

    def by_run(self) -> list[tuple[Column, Run]]:
        """Return a column, without its cells, for each run: one seed beside the other."""
        heads = []
        for variant, members in self.members.items():
            for verdict in members:
                seed = seeds_text([verdict.run.scores.seed])
                words = tuple(seed if word == seeds_text(variant.seeds) else word for word in self.words[variant])
                heading = run_heading(variant.name, words, doubtful=bool(verdict.doubts), width=14)
                # The bounds of a run by itself stand in CSV beside its AUCs.
                fields = ("auc",) if len(members) > 1 else ()
                column = Column(full_name(variant, words), heading, fields, own=True, doubts=verdict.doubts)
                heads.append((column, verdict.run))
        return heads

    @property
    def altered(self) -> list[bool]:
        """Whether each repeats a published network on other terms than its column."""
        return [is_altered(variant, self.papers.get(variant.model)) for variant in self.members]


def _main_table(citation: str, columns: Sequence[Published], own: _OwnColumns, *, reasons_follow: bool) -> Table:
    heads = [Column(column.name, column.heading, ("auc",)) for column in columns]
    rivals = {*range(len(heads)), *(len(heads) + index for index, altered in enumerate(own.altered) if not altered)}
    heads += own.columns()
    cells = [*map(_published_cells, columns), *own.cells()]
    return Table(
        "AUC on the official test set (the paper's Table 5)",
        "Pathology",
        tuple(heads),
        bold_best(label_rows(cells, CHESTXRAY14), "auc", DECIMALS, rivals),
        tuple(_notes(citation, columns, own, reasons_follow=reasons_follow)),
        key="table5",
    )


def _published_cells(column: Published) -> dict[str, Cell]:
    cells = {label: Cell(f"{auc:.{DECIMALS}f}", {"auc": auc}) for label, auc in column.auc.items()}
    if column.mean is not None:
        cells[AVERAGE] = Cell(f"{column.mean:.{DECIMALS}f}", {"auc": column.mean})
    return cells


def _notes(citation: str, columns: Sequence[Published], own: _OwnColumns, *, reasons_follow: bool) -> list[str]:
    notes = [f"Published columns: {citation}, as printed there"]
    notes += [f"{' '.join(column.heading)}: {column.note}" for column in columns if column.note]
    bold = "Bold: the highest AUC of a row as printed, ties included"
    if any(own.altered):
        bold += "; not among them: a published network that was trained on other terms"
    notes += [bold, f"Average: over the {len(CHESTXRAY14.averaged)} pathologies"]
    if own.members:
        notes += own.at.notes({variant: own.name(variant) for variant in own.members})
    if any(len(members) > 1 for members in own.members.values()):
        notes.append(
            "±: sample standard deviation over the seeds (n - 1), the spread of training; that of the test images is "
            "in the intervals below, one for each seed's network"
        )
    if any(has_constant(verdict.run) for verdict in own.verdicts):
        notes.append(CONSTANT_NOTE)
    for variant, members in own.members.items():
        name = own.name(variant)
        notes.append(_origin([verdict.run for verdict in members], variant, name))
        notes += dict.fromkeys(note for verdict in members for note in doubt_notes(verdict, name))
    if own.verdicts:
        notes.append(
            "Labels: your runs and the three ResNets on release v2020; the other works do not say, and the release "
            "of 2017 has 188 positive test labels fewer"
        )
    elif reasons_follow:
        notes.append("None of your runs compares with these columns; the reasons follow below")
    else:
        notes.append("None of your runs is of what these columns are of: AUCs of findings, on the official split")
    return notes


def doubt_notes(verdict: Verdict, name: str) -> list[str]:
    """Return what the mark in a run's heading stands for."""
    return [f"{UNCHECKED} {name}: {'; '.join(verdict.doubts)}"] if verdict.doubts else []


def _origin(runs: Sequence[Run], variant: Variant, name: str) -> str:
    scores, test = runs[0].scores, runs[0].test
    if scores.recipe == IMPORTED:
        files = ", ".join(run.scores.checkpoint_sha256[:12] for run in runs)
        return f"{name}: predictions from elsewhere, file {files}; {test.images:,} images of {test.patients:,} patients"
    terms = f"recipe {variant.recipe}" + (f" with {', '.join(variant.changes)}" if variant.changes else "")
    tested = f"{test.images:,} images of {test.patients:,} patients"
    looks = "without images" if scores.origin.basis.pixels == "unused" else f"at {scores.input_size} px"
    if len(runs) == 1:
        return f"{name}: your run {looks}, {terms}, {_epoch(runs[0])}; {tested}"
    each = "; ".join(f"seed {run.scores.seed}, {_epoch(run)}" for run in runs)
    return f"{name}: the mean of your {len(runs)} runs {looks}, {terms}: {each}; {tested}"


def _epoch(run: Run) -> str:
    sha = run.scores.checkpoint_sha256
    return f"epoch {run.scores.epoch}, " + (f"checkpoint {sha[:12]}" if sha else "by its kept predictions")


def _interval_table(own: _OwnColumns) -> Table:
    """Show the intervals by themselves: beside the AUCs they would not fit a terminal."""
    heads = own.by_run()
    metrics = [metric for _, run in heads for metric in aucs(run)]
    # Comparable runs have the same test images and labels, hence the same positives and patients: those of the first
    # run that has the label.
    told = {metric.label or AVERAGE: metric for metric in reversed(metrics)}
    positives = {key: Cell(f"{metric.positives:,}") for key, metric in told.items() if metric.positives is not None}
    effective = {
        key: Cell(f"{metric.clusters_effective:,.0f}")
        for key, metric in told.items()
        if metric.clusters_effective is not None
    }
    counts = [(Column("positives", ("Positives",)), positives)]
    if effective:
        counts.append((Column("effective patients", ("Effective", "patients")), effective))
    made = [metric.interval for metric in metrics if metric.lower is not None]
    notes = [f"Intervals: {how}" for how in dict.fromkeys(made) if how]
    notes += [EFFECTIVE_NOTE] * bool(effective)
    notes += [APPROXIMATE_NOTE] * any(map(is_approximate, metrics))
    if any(run.own is not None for _, run in heads):
        notes.append("-: an epoch that is not the run's own best one has no intervals")
    return Table(
        "Intervals of your runs",
        "Pathology",
        (*(head for head, _ in counts), *(head for head, _ in heads)),
        label_rows([*(cells for _, cells in counts), *(interval_cells(run) for _, run in heads)], CHESTXRAY14),
        tuple(notes),
        key="intervals",
    )


def elsewhere_note(runs: Sequence[Run], splits: Collection[str], what: str, command: str) -> list[str]:
    """Return a note on the runs that another table of the paper is about."""
    count = sum(run.split in splits for run in runs)
    if not count:
        return []
    how_many = f"{count} runs on {what} belong" if count > 1 else f"1 run on {what} belongs"
    return [f"{how_many} in another table: `{command}`"]
