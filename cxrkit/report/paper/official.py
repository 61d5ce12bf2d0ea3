"""`cxrkit report --official-split`: Table 5 of Baltruschat et al. 2019 with the user's runs in it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from cxrkit.base.labels import CHESTXRAY14
from cxrkit.base.words import count as counted
from cxrkit.report.document.tables import AVERAGE, Cell, Column, Report, Row, Table, bold_best, label_rows
from cxrkit.report.evidence.cells import (
    APPROXIMATE_NOTE,
    CONSTANT_NOTE,
    aucs,
    has_constant,
    interval_cells,
    is_approximate,
)
from cxrkit.report.evidence.common_terms import terms_notes
from cxrkit.report.evidence.comparability import doubt_notes, judge
from cxrkit.report.evidence.epochs import EpochChoice, at_epochs
from cxrkit.report.evidence.reference import known_splits
from cxrkit.report.evidence.runs import FoundRuns, Run, found_in, without_probes
from cxrkit.report.evidence.variants import Variant
from cxrkit.report.literature import published, works
from cxrkit.report.literature.marks import PRETRAINING_NOTE, in_heading, mark_notes, marks_of
from cxrkit.report.literature.published import Published, Table5
from cxrkit.report.paper import own_metrics
from cxrkit.report.paper.counterparts import counterparts, without_figures
from cxrkit.report.paper.not_comparable import not_comparable_tables
from cxrkit.report.paper.own_columns import DECIMALS, OwnColumns
from cxrkit.report.paper.rank import rank_table
from cxrkit.runs.predictions import IMPORTED

SPLIT = "official"
EFFECTIVE_NOTE = (
    "Effective patients: how many with equally many images would say as much; of the positives or of the negatives, "
    "whichever are fewer; of the average, the fewest of its labels"
)


def official(
    runs: Path | FoundRuns, also: Sequence[str] = (), epoch: EpochChoice = "own", *, apart: bool = False
) -> Report:
    """Return the official-split table: published columns, and beside them every run that compares with them.

    runs: their folder, or what was found in it. also: literature results to add as columns, as `works.resolve_also`
    reads them: keys, "primary", "top10". epoch: the one of each run that stands in the table (epochs.py). apart: show
    the numbers of the runs that do not compare, too. Raises UserError when `runs` holds no evaluated run, and for a
    result that is unknown or does not compare.
    """
    table = published.table5()
    added = _added(also, table)
    columns = (*table.columns, *(column for column in added if column.auc))
    averages = [column for column in added if not column.auc]
    found, probes_note = without_probes(found_in(runs))
    folds = known_splits().keys() - {SPLIT}
    verdicts = judge((run for run in found.runs if run.split not in folds), (SPLIT,), table.label_release)
    comparable = [verdict for verdict in verdicts if verdict.comparable]
    at = at_epochs(comparable, epoch, lambda run: judge([run], (SPLIT,), table.label_release)[0])
    own = OwnColumns(at, columns, found.runs)
    others = [verdict for verdict in verdicts if not verdict.comparable] + list(at.without)
    tables = [_main_table(table, columns, own, reasons_follow=bool(others))]
    if at.columns:
        tables.append(_interval_table(own))
    ranks = rank_table(
        [(", ".join(words), verdict) for _, words, verdict in own.runs()],
        table.label_release,
        [works.get(column.key) for column in averages],
    )
    tables += [ranks] if ranks else []
    tables += counterparts(
        dict(zip(own.members, own.cells(), strict=True)), own.words, [c.key for c in columns], table.label_release
    )
    tables += not_comparable_tables(others, apart, detailed=lambda run: run.split == SPLIT, among=found.runs)
    tables += own_metrics.tables((run for run in found.runs if run.split not in folds), found.runs)
    notes = [
        *terms_notes(found.runs),
        *found.unusable,
        *probes_note,
        *elsewhere_note(found.runs, folds, "resampling folds", "cxrkit report"),
    ]
    notes += [_average_note(column, ranked=ranks is not None) for column in averages]
    notes += without_figures(own.members)
    return Report("ChestX-ray14, official split", tuple(tables), tuple(notes), key="official")


def _added(also: Sequence[str], table: Table5) -> list[Published]:
    """Return the columns that are asked for beside those of the paper."""
    keys = works.resolve_also(",".join(also)) if also else ()
    own = {column.key for column in table.columns}
    return [published.from_literature(key) for key in keys if key not in own]


def _average_note(column: Published, *, ranked: bool) -> str:
    """Say of a work that has no AUCs of labels where it stands: a column of dashes would say nothing."""
    where = "; it stands among the ranks" if ranked else ""
    return f"{column.key}: of the pathologies it gives the average alone, {column.mean:.{DECIMALS}f}{where}"


def _main_table(table: Table5, columns: Sequence[Published], own: OwnColumns, *, reasons_follow: bool) -> Table:
    heads = [_published_head(column, table.label_release) for column in columns]
    rivals = {*range(len(heads)), *(len(heads) + index for index, altered in enumerate(own.altered) if not altered)}
    heads += own.columns()
    cells = [*map(_published_cells, columns), *own.cells()]
    rows = bold_best(label_rows(cells, CHESTXRAY14), "auc", DECIMALS, rivals)
    return Table(
        "AUC on the official test set (the paper's Table 5)",
        "Pathology",
        tuple(heads),
        (*rows, _pretraining_row(columns, own)),
        tuple(_notes(table, columns, own, reasons_follow=reasons_follow)),
        key="table5",
    )


def _published_head(column: Published, label_release: str) -> Column:
    marks = marks_of(works.get(column.key), label_release)
    return Column(column.name, in_heading(column.heading, marks), ("auc",), doubts=tuple(mark_notes(marks)))


def _pretraining_row(columns: Sequence[Published], own: OwnColumns) -> Row:
    """Return what each network had seen before; it is no number, so a CSV has no place for it."""
    seen = [works.get(column.key).pretrained.seen for column in columns]
    seen += [members[0].run.origin.saw.seen for members in own.members.values()]
    return Row("", "Pretraining", tuple(map(Cell, seen)), rule_above=True)


def _published_cells(column: Published) -> dict[str, Cell]:
    cells = {label: Cell(f"{auc:.{DECIMALS}f}", {"auc": auc}) for label, auc in column.auc.items()}
    if column.mean is not None:
        cells[AVERAGE] = Cell(f"{column.mean:.{DECIMALS}f}", {"auc": column.mean})
    return cells


def _notes(table: Table5, columns: Sequence[Published], own: OwnColumns, *, reasons_follow: bool) -> list[str]:
    added = columns[len(table.columns) :]
    there = f"The first {len(table.columns)} columns" if added else "Published columns"
    notes = [f"{there}: {table.citation}, as printed there"]
    names = [*(" ".join(column.heading) for column in table.columns), *(column.key for column in added)]
    notes += [f"{name}: {column.note}" for name, column in zip(names, columns, strict=True) if column.note]
    bold = "Bold: the highest AUC of a row as printed, ties included"
    if any(own.altered):
        bold += "; not among them: a published system that was trained on other terms"
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
        notes.append(
            _origin([verdict.run for verdict in members], variant, name) + _repeats(own.paper(variant), variant)
        )
        notes += dict.fromkeys(note for verdict in members for note in doubt_notes(verdict, name))
    marks = [mark for column in columns for mark in marks_of(works.get(column.key), table.label_release)]
    marks += [mark for variant in own.members for mark in own.marks(variant)]
    notes += [*mark_notes(marks), PRETRAINING_NOTE]
    if own.verdicts:
        notes.append(_labels_note(table, added))
    elif reasons_follow:
        notes.append("None of your runs compares with these columns; the reasons follow below")
    else:
        notes.append("None of your runs is of what these columns are of: AUCs of findings, on the official split")
    return notes


def _labels_note(table: Table5, added: Sequence[Published]) -> str:
    """Return which release of the labels each column is of, as far as that is known."""
    known = {column.key: works.get(column.key).label_release for column in added}
    parts = [f"your runs and the three ResNets on release {table.label_release}"]
    for release in dict.fromkeys(known.values()):
        if release != "unknown":
            parts.append(f"{', '.join(key for key, own in known.items() if own == release)} on {release}")
    unsaid = "the other works do not say, and the release of 2017 has 188 positive test labels fewer"
    return f"Labels: {'; '.join((*parts, unsaid))}"


def _origin(runs: Sequence[Run], variant: Variant, name: str) -> str:
    scores, test = runs[0].scores, runs[0].test
    tested = f"{counted(test.images, 'image')} of {counted(test.patients, 'patient')}"
    if scores.recipe == IMPORTED:
        files = ", ".join(run.scores.checkpoint_sha256[:12] for run in runs)
        return f"{name}: predictions from elsewhere, file {files}; {tested}"
    terms = f"recipe {variant.recipe}" + (f" with {', '.join(variant.changes)}" if variant.changes else "")
    looks = "without images" if scores.origin.basis.pixels == "unused" else f"at {scores.input_size} px"
    if len(runs) == 1:
        return f"{name}: your run {looks}, {terms}, {_epoch(runs[0])}; {tested}"
    each = "; ".join(f"seed {run.scores.seed}, {_epoch(run)}" for run in runs)
    return f"{name}: the mean of your {len(runs)} runs {looks}, {terms}: {each}; {tested}"


def _repeats(paper: Published | None, variant: Variant) -> str:
    """Return which published column a run repeats, and what its recipe must leave out of it."""
    if paper is None or variant.recipe not in paper.recipes:
        return ""
    left_out = paper.recipes[variant.recipe]
    return f"; repeats {paper.name}" + f", {left_out}" * bool(left_out)


def _epoch(run: Run) -> str:
    sha = run.scores.checkpoint_sha256
    return f"epoch {run.scores.epoch}, " + (f"checkpoint {sha[:12]}" if sha else "by its kept predictions")


def _interval_table(own: OwnColumns) -> Table:
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
