"""Many contenders: who is tied with whom, all pairs in a matrix, and who is best in each label."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import combinations

from cxrkit.base.words import count as counted
from cxrkit.report.comparing.contests import Contest
from cxrkit.report.comparing.difference_cells import LEVEL, auc_cell, how_notes, number, spread_field, where
from cxrkit.report.comparing.versus import forest
from cxrkit.report.document.figures import Figure, Grid, Panel
from cxrkit.report.document.numbers import p_text, signed
from cxrkit.report.document.tables import EMPTY, Cell, Column, Row, Table
from cxrkit.runs.epochs import ranges
from cxrkit.statistics.comparing import Comparison, Pairwise

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
EXACT = 9  # decimals of an AUC that are not rounding
UNKNOWN = Cell("unknown")
WRITTEN = 12  # contenders up to which the cells of the figure have room for numbers


def many(contest: Contest, only: Collection[str] = ()) -> tuple[list[Table], list[Figure]]:
    """Return tables and figures of three contenders or more; only: these labels beside the mean."""
    order = by_average(contest)
    means = contest.pairwise()
    by_label = {label: contest.pairwise(label) for label in (*contest.labels.averaged, *contest.labels.beside)}
    tables = [
        ties_table(contest, means, order, by_label),
        matrix_table(contest, means, order),
        _best_table(contest, by_label, order, only),
    ]
    return tables, [_forest(contest, means, order), _grid(contest, means, order)]


def by_average(contest: Contest) -> list[int]:
    """Return the contenders, highest average first, equal ones by name: the last digits of a sum are no difference."""
    return sorted(
        range(len(contest.names)), key=lambda place: (-round(contest.auc(place), EXACT), contest.names[place])
    )


def between(found: Pairwise, one: int, other: int) -> tuple[Comparison, float]:
    """Return the comparison of two contenders, the first less the second, and its adjusted p-value."""
    if (one, other) in found.comparisons:
        return found.comparisons[one, other], found.adjusted[one, other]
    item = found.comparisons[other, one]
    turned = replace(item, difference=-item.difference, lower=-item.upper, upper=-item.lower)
    return turned, found.adjusted[other, one]


def letters(groups: Sequence[Sequence[int]], contender: int) -> str:
    """Return the letters of the groups that a contender is in: "a", "bc"; behind z come a2, b2, ..."""
    found = [place for place, group in enumerate(groups) if contender in group]
    return "".join(_LETTERS[place % 26] + (str(place // 26 + 1) if place >= 26 else "") for place in found)


def pairs_text(found: Pairwise) -> str:
    """Return how many pairs the p-values are adjusted over, in words."""
    count = len(found.comparisons)
    return f"all {count:,} pairs" if count > 1 else "1 pair"


def best_of(contest: Contest, found: Pairwise, label: str) -> tuple[int, list[int]]:
    """Return who has the highest AUC of a label, and all from whom nothing tells it, itself included."""
    places = range(len(contest.names))
    best = max(places, key=lambda place: (round(contest.auc(place, label), EXACT), -place))
    return best, [place for place in places if place == best or not between(found, best, place)[1] <= LEVEL]


def ties_table(
    contest: Contest, means: Pairwise, order: Sequence[int], by_label: dict[str, Pairwise] | None = None
) -> Table:
    """Return the contenders by their mean AUC with the letters of those that they are tied with."""
    spread = spread_field(contest)
    columns = [Column("average", ("Average",), ("auc", spread)), Column("tied", ("Tied",), left=True)]
    ranks = _ranks(contest, order)
    shared = len(set(ranks.values())) < len(order)
    columns[:0] = [Column("rank", ("Rank",), ("rank",))] * shared
    counts = dict.fromkeys(order, 0)
    known = not _is_unknown(means)
    # Where no pair of a label has a p-value, who is tied there cannot be said.
    averaged = [label for label in contest.labels.averaged if by_label and not _is_unknown(by_label[label])]
    for label in averaged:
        for place in best_of(contest, (by_label or {})[label], label)[1]:
            counts[place] += 1
    if by_label:
        columns.append(Column("best in", ("Best or", "tied in"), ("labels",)))
    rows = []
    for rank, place in enumerate(order, 1):
        level = "=" * (list(ranks.values()).count(ranks[place]) > 1)
        cells = [Cell(f"{ranks[place]}{level}", {"rank": ranks[place]})] * shared
        cells += [auc_cell(contest, place, None), Cell(letters(means.groups, place)) if known else UNKNOWN]
        if by_label and not averaged:
            cells.append(UNKNOWN)
        elif by_label:
            cells.append(Cell(f"{counts[place]} of {len(averaged)}", {"labels": counts[place]}))
        rows.append(Row(contest.names[place], f"{rank} {contest.names[place]}", tuple(cells), own=True))
    notes = [
        f"Tied: runs that share a letter do not differ in the average at 5 %, p-values adjusted by Holm over "
        f"{pairs_text(means)} (compact letter display, Piepho 2004); tied is not equal: the data may be too few"
    ] * known
    if shared:
        notes.append("=: averages that are printed alike share a rank; the number before a name is only its place here")
    if unknown := [item for item in means.comparisons.values() if math.isnan(item.p_value)]:
        notes.append(
            f"{len(unknown):,} of them without a p-value ({unknown[0].reason}): they count as tied"
            if known
            else f"Tied: not known of any runs, for no pair has a p-value ({unknown[0].reason})"
        )
    if averaged:
        which = " with p-values" * (len(averaged) < len(contest.labels.averaged))
        notes.append(
            f"Best or tied in: of the {counted(len(averaged), 'pathology')}{which}, where it has the highest AUC or "
            "does not differ from the run that has, by Holm over the pairs of each label"
        )
    notes += how_notes(contest, [max(means.comparisons.values(), key=lambda item: item.degrees_of_freedom)])
    return Table(
        f"Average AUC and ties, {where(contest)}", "Run", tuple(columns), tuple(rows), tuple(notes), "ties", True
    )


def _ranks(contest: Contest, order: Sequence[int]) -> dict[int, int]:
    """Return the rank of each contender; those whose averages are printed alike share one."""
    printed = {place: auc_cell(contest, place, None).text for place in order}
    return {place: 1 + sum(float(other) > float(printed[place]) for other in printed.values()) for place in order}


def matrix_table(contest: Contest, means: Pairwise, order: Sequence[int], times: int = 1) -> Table:
    """Return all pairs: differences above the diagonal, adjusted p-values below it. times: 1, or 100 for AUC x 100."""
    decimals = 3 if times == 1 else 2
    heads = [
        Column(f"minus {contest.names[place]}", (f"{rank}",), ("difference", "p_adjusted"))
        for rank, place in enumerate(order, 1)
    ]
    rows = []
    for rank, one in enumerate(order, 1):
        cells = []
        for column, other in enumerate(order, 1):
            if one == other:
                cells.append(EMPTY)
                continue
            found, adjusted = between(means, one, other)
            text = signed(times * found.difference, decimals) if column > rank else p_text(adjusted)
            values = {"difference": times * found.difference, "p_adjusted": number(adjusted)}
            cells.append(Cell(text, values, bold=adjusted <= LEVEL))
        rows.append(Row(contest.names[one], f"{rank} {contest.names[one]}", tuple(cells), own=True))
    what = "average AUC" if times == 1 else f"average AUC x {times}"
    note = (
        f"Above the diagonal: {what} of the row minus that of the column; below it: p-value of the same pair, adjusted "
        f"by Holm over {pairs_text(means)}. Bold: different at 5 %"
    )
    return Table(
        f"Differences of all pairs, {where(contest)}", "Run", tuple(heads), tuple(rows), (note,), "matrix", True
    )


def _best_table(contest: Contest, by_label: dict[str, Pairwise], order: Sequence[int], only: Collection[str]) -> Table:
    rank = {place: number for number, place in enumerate(order, 1)}
    columns = (
        Column("best", ("Best",), left=True),
        Column("best", ("AUC",), ("auc",), own=True),
        Column("tied with it", ("Tied with it",), left=True),
    )
    first_beside = next(iter(contest.labels.beside), None)
    rows = []
    for label, found in by_label.items():
        if only and label not in only:
            continue
        best, tied = best_of(contest, found, label)
        others = sorted(rank[place] for place in tied if place != best)
        cells = (
            Cell(f"{rank[best]} {contest.names[best]}"),
            auc_cell(contest, best, label),
            Cell(_tied_text(found, others)),
        )
        rows.append(Row(label, contest.labels.heading(label), cells, rule_above=label == first_beside))
    note = "Numbers: the ranks above. Holm over the pairs of each label, not over the labels"
    return Table(f"The best of each label, {where(contest)}", "Pathology", columns, tuple(rows), (note,), "best")


def _is_unknown(found: Pairwise) -> bool:
    """Whether no pair has a p-value, so that nobody can be said to be tied with anybody."""
    return all(math.isnan(item.p_value) for item in found.comparisons.values())


def _tied_text(found: Pairwise, others: Sequence[int]) -> str:
    if _is_unknown(found):
        return f"unknown: {next(iter(found.comparisons.values())).reason}"
    return ranges(others) or "none"


def _forest(contest: Contest, means: Pairwise, order: Sequence[int]) -> Figure:
    best, *others = order
    name = contest.names[best]
    return forest(
        f"Average AUC minus that of {name}",
        f"Differences of the average AUC from {name}, which has the highest, with 95 % intervals that are not adjusted "
        f"for their number, {where(contest)}.",
        tuple(contest.names[place] for place in others),
        f"minus {name}",
        [between(means, place, best)[0] for place in others],
    )


def _grid(contest: Contest, means: Pairwise, order: Sequence[int]) -> Figure:
    values = {(place, place): math.nan for place in order}
    texts = {(place, place): "" for place in order}
    for one, other in combinations(order, 2):
        for row, column in ((one, other), (other, one)):
            found, adjusted = between(means, row, column)
            values[row, column] = found.difference
            texts[row, column] = f"{signed(found.difference)}" + "*" * (adjusted <= LEVEL)
    grid = Grid(
        tuple(tuple(values[row, column] for column in order) for row in order),
        tuple(tuple(texts[row, column] for column in order) for row in order) if len(order) <= WRITTEN else (),
        diverging=True,
    )
    panel = Panel("", (grid,), categories=tuple(contest.names[place] for place in order))
    caption = f"Average AUC of the row minus that of the column, {where(contest)}."
    if grid.texts:
        caption += " *: different at 5 %, adjusted by Holm over all pairs."
    return Figure("matrix", "Differences of the average AUC", caption, (panel,))
