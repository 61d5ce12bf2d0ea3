"""Runs over the resampling folds, side by side: mean and standard deviation, with the published columns beside them.

Folds are pooled when they were trained on equal terms (variants.Variant): recipe, changed settings, input size, initial
weights, preparation. Whatever differs makes a column of its own, and its heading says what. Several seeds are averaged
in each fold first: the deviation over folds is of these means, and the seeds' own spread stands apart.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence

from cxrkit.base.labels import CHESTXRAY14, LabelSet
from cxrkit.datasets.splits import resample_number
from cxrkit.report.comparing.fold_differences import fold_differences
from cxrkit.report.document.numbers import rounded
from cxrkit.report.document.tables import AVERAGE, CONSTANT, EMPTY, Cell, Column, Row, Table, bold_best, label_rows
from cxrkit.report.evidence.cells import CONSTANT_NOTE, has_constant, run_heading
from cxrkit.report.evidence.comparability import Verdict, doubt_notes
from cxrkit.report.evidence.epochs import AtEpochs
from cxrkit.report.evidence.runs import Run
from cxrkit.report.evidence.seeds import within
from cxrkit.report.evidence.variants import Variant, details, full_name, is_altered, paper_of
from cxrkit.report.literature.published import PublishedFolds, Table3
from cxrkit.report.paper.counterparts import counterparts

DECIMALS = 1  # of AUC x 100, as the paper prints
FIELDS = ("auc_x100",)
CITED = "baltruschat2019-5fold"
Folds = dict[int, list[Verdict]]  # the runs of each fold, one for each seed, by number of the fold


def folds_table(
    title: str, table: Table3, at: AtEpochs, labels: LabelSet = CHESTXRAY14, among: Sequence[Run] = ()
) -> list[Table]:
    """Return the table of the columns of `at`, and the one of their seeds' spread where there are several; none: none.

    table: how many folds there are, and the published columns to set beside those of the same network. among: all
    of the report's runs (variants.details).
    """
    pooled = {variant: _by_fold(members) for variant, members in at.columns.items()}
    if not pooled:
        return []
    words = details(pooled, table.columns, among)
    if not table.columns:  # nothing published to differ from: the notes have what differs from the recipe
        names = Counter(variant.name for variant in pooled)
        words = {variant: said if names[variant.name] > 1 else () for variant, said in words.items()}
    words = at.words(words)
    shown = [_table(title, table, pooled, words, at, labels), *_seeds_table(pooled, words, labels)]
    if table.columns:
        own = {
            variant: _own_cells(folds, table.folds, labels)
            for variant, folds in pooled.items()
            if paper_of(variant, table.columns) is None
        }
        shown += counterparts(own, words, (), table.label_release, factor=100)
    return [*shown, *_differences(pooled, words, labels)]


def _differences(
    pooled: Mapping[Variant, Folds], words: Mapping[Variant, tuple[str, ...]], labels: LabelSet
) -> list[Table]:
    """Return the set-ups fold against fold: what their spread over the folds says of a difference."""
    return fold_differences(
        {
            full_name(variant, words[variant]): {
                number: [verdict.run for verdict in members] for number, members in folds.items()
            }
            for variant, folds in pooled.items()
        },
        labels,
    )


def _by_fold(members: Sequence[Verdict]) -> Folds:
    folds: Folds = {}
    for verdict in members:
        folds.setdefault(resample_number(verdict.run.split) or 0, []).append(verdict)
    return dict(sorted(folds.items()))


def _table(
    title: str,
    table: Table3,
    pooled: Mapping[Variant, Folds],
    words: Mapping[Variant, tuple[str, ...]],
    at: AtEpochs,
    labels: LabelSet,
) -> Table:
    heads: list[Column] = []
    cells: list[dict[str, Cell]] = []
    rivals: set[int] = set()
    last_of_paper = {paper.recipe: variant for variant in pooled if (paper := paper_of(variant, table.columns))}
    for variant, folds in pooled.items():
        paper = paper_of(variant, table.columns)
        if len(folds) == table.folds and not is_altered(variant, paper):
            rivals.add(len(heads))
        doubts = dict.fromkeys(doubt for verdict in _runs(folds) for doubt in verdict.doubts)
        heading = run_heading(variant.name, words[variant], doubtful=bool(doubts))
        heads.append(Column(full_name(variant, words[variant]), heading, FIELDS, own=True, doubts=tuple(doubts)))
        cells.append(_own_cells(folds, table.folds, labels))
        if paper is not None and last_of_paper[paper.recipe] == variant:
            rivals.add(len(heads))
            heads.append(Column(paper.name, ("paper:", *paper.heading), FIELDS, cite=CITED))
            cells.append(_paper_cells(paper, table.folds))
    rows = bold_best(label_rows(cells, labels), "auc_x100", DECIMALS, rivals)
    below = [Row("", "Folds", tuple(column["folds"] for column in cells), rule_above=True)]
    if any("seeds" in column for column in cells):
        below.append(Row("", "Seeds", tuple(column.get("seeds", EMPTY) for column in cells)))
    names = {variant: full_name(variant, words[variant]) for variant in pooled}
    return Table(
        title,
        "Pathology",
        tuple(heads),
        (*rows, *below),
        tuple(_notes(table, pooled, names, at, labels)),
        key="table3" if table.columns else "folds",
    )


def _runs(folds: Folds) -> list[Verdict]:
    return [verdict for members in folds.values() for verdict in members]


def _values(folds: Folds, label: str | None) -> list[list[float]]:
    """Return AUC x 100 of a label, or the mean, by fold and seed; a fold in which it is nowhere defined is left out."""
    found = [[verdict.run.auc(label) for verdict in members] for _, members in sorted(folds.items())]
    values = [[100 * item.value for item in fold if item is not None and item.value is not None] for fold in found]
    return [fold for fold in values if fold]


def _own_cells(folds: Folds, count: int, labels: LabelSet) -> dict[str, Cell]:
    cells, spreads = {}, {}
    seeds = max(len(members) for members in folds.values())
    for label in labels.labels:
        values = _values(folds, label)
        means = [statistics.mean(fold) for fold in values]
        spreads[label] = statistics.stdev(means) if len(means) > 1 else None
        metrics = [verdict.run.auc(label) for verdict in _runs(folds)]
        constant = any(metric.constant for metric in metrics if metric is not None)
        # Only pathologies are sure to have an AUC in every run that gets here.
        cells[label] = _cell(means, spreads[label], constant, within(values), seeds) if means else EMPTY
    # As in the paper: the deviation in the Average row is the mean of those above it.
    known = [spread for label in labels.averaged if (spread := spreads[label]) is not None]
    averages = _values(folds, None)
    spread = statistics.mean(known) if known else None
    means = [statistics.mean(fold) for fold in averages]
    cells[AVERAGE] = _cell(means, spread, False, within(averages), seeds)
    cells["folds"] = Cell(f"{len(folds)} of {count}")
    if seeds > 1:
        cells["seeds"] = Cell(f"{seeds}")
    return cells


def _seeds_table(
    pooled: Mapping[Variant, Folds], words: Mapping[Variant, tuple[str, ...]], labels: LabelSet
) -> list[Table]:
    """Return the table of the seeds' spread, by itself: what a training draws, not which patients are tested."""
    several = {variant: folds for variant, folds in pooled.items() if len(variant.seeds) > 1}
    if not several:
        return []
    heads = [
        Column(full_name(variant, words[variant]), run_heading(variant.name, words[variant], doubtful=False), own=True)
        for variant in several
    ]
    cells: list[dict[str, Cell]] = []
    for folds in several.values():
        found = {label or AVERAGE: within(_values(folds, label)) for label in (*labels.labels, None)}
        cells.append({key: EMPTY if spread is None else _spread(spread) for key, spread in found.items()})
    note = "Within each fold over its seeds (n - 1), pooled over the folds; in the Average row, of the average itself"
    title = "AUC x 100, standard deviation over the seeds"
    return [Table(title, "Pathology", tuple(heads), label_rows(cells, labels), (note,), key="seeds")]


def _spread(spread: float) -> Cell:
    return Cell(f"{spread:.2f}", {"std_seeds": spread})  # in CSV beside the means


def _paper_cells(column: PublishedFolds, count: int) -> dict[str, Cell]:
    cells = {label: _numbers(mean, std, count) for label, (mean, std) in column.folds.items()}
    cells[AVERAGE] = _numbers(*column.average, count)
    cells["folds"] = Cell(f"{count} of {count}")
    return cells


def _cell(means: Sequence[float], std: float | None, constant: bool, std_seeds: float | None, seeds: int) -> Cell:
    cell = _numbers(statistics.mean(means), std, len(means))
    values = dict(cell.values)
    if seeds > 1:
        values |= {"std_seeds": std_seeds, "seeds": seeds}
    if constant:
        values["constant"] = 1
    return Cell(f"{CONSTANT} " * constant + cell.text, values, competes=not constant)


def _numbers(mean: float, std: float | None, folds: int) -> Cell:
    text = rounded(mean, DECIMALS) + ("" if std is None else f" ± {std:.{DECIMALS}f}")
    return Cell(text, {"auc_x100": mean, "std": std, "folds": folds})


def _notes(
    table: Table3,
    pooled: Mapping[Variant, Folds],
    names: Mapping[Variant, str],
    at: AtEpochs,
    labels: LabelSet,
) -> list[str]:
    notes = []
    if any(paper_of(variant, table.columns) for variant in pooled):
        notes.append(f"Columns of the paper: {table.citation}, as printed there; with, without: non-image features")
    of_seeds = " of the means over the seeds" * any(len(variant.seeds) > 1 for variant in pooled)
    notes.append(
        f"±: sample standard deviation over the folds{of_seeds} (n - 1; the paper does not say which it is); "
        f"in the Average row the mean of the {_in_words(len(labels.averaged))} above it, as in the paper"
    )
    notes += at.notes(names)
    bold = f"Bold: the highest mean of a row as printed, ties included, among columns with all {table.folds} folds"
    if any(is_altered(variant, paper_of(variant, table.columns)) for variant in pooled):
        bold += "; not among them: a network of the paper that was trained on other terms"
    notes.append(bold)
    if any(has_constant(verdict.run) for folds in pooled.values() for verdict in _runs(folds)):
        notes.append(CONSTANT_NOTE)
    for variant, folds in pooled.items():
        notes.append(_folds_note(variant, folds, table.folds, names[variant]))
        notes += dict.fromkeys(note for verdict in _runs(folds) for note in doubt_notes(verdict, names[variant]))
    return notes


def _in_words(count: int) -> str:
    return "fourteen" if count == 14 else str(count)


def _folds_note(variant: Variant, folds: Folds, count: int, name: str) -> str:
    # Only runs with a mean get here.
    averages = dict(zip(sorted(folds), map(statistics.mean, _values(folds, None)), strict=True))
    note = f"{name}: average by fold " + ", ".join(f"{value:.1f} ({number})" for number, value in averages.items())
    if len(averages) > 1:
        note += f", standard deviation {statistics.stdev(averages.values()):.2f}"
    if len(variant.seeds) > 1:
        note += "; by seed " + ", ".join(f"{_of_seed(folds, seed):.1f} ({seed})" for seed in variant.seeds)
    missing = _missing(folds, count)
    if missing:
        note += f"; missing: fold{'s' * (len(missing) > 1)} {', '.join(map(str, missing))}"
    terms = f"; recipe {variant.recipe} with {', '.join(variant.changes)}" if variant.changes else ""
    return note + terms


def _of_seed(folds: Folds, seed: int) -> float:
    """Return the average AUC x 100 of one seed's runs, over the folds."""
    own = {number: [item for item in members if item.run.scores.seed == seed] for number, members in folds.items()}
    return statistics.mean(value for fold in _values(own, None) for value in fold)


def _missing(folds: Folds, count: int) -> Sequence[int]:
    return [number for number in range(1, count + 1) if number not in folds]
