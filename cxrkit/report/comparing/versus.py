"""Two contenders: a table of labels, the mean first, and a forest of their differences."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace

from cxrkit.base.labels import LabelSet
from cxrkit.base.words import count as counted
from cxrkit.report.comparing.contests import Contest, OnImages
from cxrkit.report.comparing.difference_cells import (
    LEVEL,
    TOO_FEW_NOTE,
    auc_cell,
    difference_cell,
    how_notes,
    p_cell,
    spread_field,
    where,
)
from cxrkit.report.document.figures import Axis, Figure, Line, Panel, Ranges
from cxrkit.report.document.numbers import p_words
from cxrkit.report.document.tables import AVERAGE, EMPTY, Column, Row, Table, heading_lines
from cxrkit.report.evidence.cells import APPROXIMATE_NOTE
from cxrkit.statistics.comparing import Comparison, LabelComparisons
from cxrkit.statistics.intervals import APPROXIMATE, TOO_FEW

_NARROW = 9  # characters of a heading: all columns fit a terminal


def versus(contest: Contest, only: Collection[str] = ()) -> tuple[Table, Figure]:
    """Return the table and the forest of the two contenders of a contest; only: these labels beside the mean."""
    found = contest.versus(0, 1)
    labels = _labels(contest.labels, only)
    return _table(contest, found, labels), _forest(contest, found, labels)


def _labels(labels: LabelSet, only: Collection[str]) -> tuple[str, ...]:
    return tuple(label for label in (*labels.averaged, *labels.beside) if not only or label in only)


def _table(contest: Contest, found: LabelComparisons, labels: tuple[str, ...]) -> Table:
    one, other = contest.names
    spread = spread_field(contest)
    several = [contest.spread(number) is not None for number in (0, 1)]
    columns = (
        *(
            Column(name, heading_lines(name, _NARROW), ("auc", *[spread] * said), own=True)
            for name, said in zip(contest.names, several, strict=True)
        ),
        Column(
            f"{one} minus {other}",
            ("Difference", "[95 % interval]"),
            ("difference", "lower", "upper", "standard_error", "degrees_of_freedom"),
            own=True,
        ),
        Column(f"{one} minus {other}", ("p",), ("p_value",), own=True),
        Column(f"{one} minus {other}", ("p,", "Holm"), ("p_adjusted",), own=True),
    )
    rows = [_row(contest, None, found.mean, math.nan)]
    for place, label in enumerate(contest.labels.labels):
        if label in labels:
            rows.append(_row(contest, label, found.labels[place], found.adjusted[place]))
    order = {label: place for place, label in enumerate((AVERAGE, *labels))}
    rows.sort(key=lambda row: order[row.key])
    shown = [found.mean, *(found.labels[contest.labels.labels.index(label)] for label in labels)]
    return Table(
        f"{one} against {other}: difference of AUC, {where(contest)}",
        "Pathology",
        columns,
        tuple(rows),
        tuple(_notes(contest, found, shown)),
        "compare",
    )


def _row(contest: Contest, label: str | None, found: Comparison, adjusted: float) -> Row:
    p_value = p_cell(found.p_value, "p_value")
    first = contest.labels.averaged[0] if contest.labels.averaged else ""
    beside = contest.labels.beside[0] if contest.labels.beside else ""
    return Row(
        label or AVERAGE,
        contest.labels.heading(label) if label else AVERAGE,
        (
            auc_cell(contest, 0, label),
            auc_cell(contest, 1, label),
            difference_cell(found),
            replace(p_value, bold=p_value.bold and label is None),  # of a label the adjusted one decides
            EMPTY if math.isnan(adjusted) else p_cell(adjusted, "p_adjusted"),
        ),
        rule_above=label in (first, beside),
    )


def _notes(contest: Contest, found: LabelComparisons, shown: list[Comparison]) -> list[str]:
    count = len(contest.labels.averaged)
    tested = sum(not math.isnan(adjusted) for adjusted in found.adjusted)
    over = f"these {count}" if tested == count else f"the {tested} of them that {'has' if tested == 1 else 'have'} one"
    notes = [
        f"Average: unweighted mean over the {count} pathologies, the primary outcome; its p-value is not adjusted. "
        f"p, Holm: of the labels, adjusted by Holm's method over {over}. Bold: p of at most 0.05. "
        f"Difference: {contest.names[0]} minus {contest.names[1]}",
        *how_notes(contest, shown),
    ]
    notes += [APPROXIMATE_NOTE] * any(item.mark == APPROXIMATE for item in shown)
    return notes + [TOO_FEW_NOTE] * any(item.mark == TOO_FEW for item in shown)


def sentence(contest: Contest, *, names: bool = True) -> str:
    """Return in words, as a paper would, whether two contenders differ: the numbers go with the direction.

    names: whether the labels that differ are named.
    """
    found = contest.versus(0, 1)
    one, other = contest.names
    mean = found.mean
    if math.isnan(mean.p_value):
        return f"Whether the mean AUCs of {one} and {other} differ cannot be said: {mean.reason}."
    higher, lower = (one, other) if mean.difference >= 0 else (other, one)
    low, high = (mean.lower, mean.upper) if mean.difference >= 0 else (-mean.upper, -mean.lower)
    p_value = p_words(mean.p_value).replace("<", "< ")
    numbers = f"95 % CI {low:z.3f} to {high:z.3f}; {p_value}; {_how(contest)}"
    if mean.p_value > LEVEL:
        said = (
            f"The mean AUCs of {higher} and {lower} did not differ significantly "
            f"(difference {abs(mean.difference):.3f}, {numbers})."
        )
    else:
        said = f"The mean AUC of {higher} exceeded that of {lower} by {abs(mean.difference):.3f} ({numbers})."
    return f"{said} {_labels_sentence(contest, found, names=names)}".rstrip()


def _how(contest: Contest) -> str:
    if isinstance(contest, OnImages):
        return "paired by image, variance over patients"
    return f"corrected resampled t-test over {len(contest.folds)} folds"


def _labels_sentence(contest: Contest, found: LabelComparisons, *, names: bool) -> str:
    """Say in which labels the two differ after Holm's correction, and who is higher there; "" where none is tested."""
    tested = [place for place, adjusted in enumerate(found.adjusted) if not math.isnan(adjusted)]
    if not tested:
        return ""
    differ = [place for place in tested if found.adjusted[place] <= LEVEL]
    after = f"After Holm's correction, {len(differ) or 'none'} of {counted(len(tested), 'label')}"
    if not differ:
        return f"{after} differs."
    differs = f"{after} differ{'s' * (len(differ) == 1)}"
    if not names:
        return f"{differs}."
    parts, labels = [], contest.labels.labels
    for contender, sign in zip(contest.names, (1, -1), strict=True):
        own = [place for place in differ if sign * found.labels[place].difference > 0]
        if own:
            parts.append(
                f"{contender} is higher in {', '.join(contest.labels.heading(labels[place]) for place in own)}"
            )
    return f"{differs}: {'; '.join(parts)}."


def _forest(contest: Contest, found: LabelComparisons, labels: tuple[str, ...]) -> Figure:
    one, other = contest.names
    by_label = dict(zip(contest.labels.labels, found.labels, strict=True))
    shown = [found.mean, *(by_label[label] for label in labels)]
    return forest(
        f"{one} minus {other}: differences of AUC",
        f"Differences of AUC with 95 % intervals, {one} minus {other}, {where(contest)}: right of zero the first is "
        "higher.",
        (AVERAGE, *map(contest.labels.heading, labels)),
        f"{one} minus {other}",
        shown,
    )


def forest(title: str, caption: str, categories: tuple[str, ...], name: str, shown: list[Comparison]) -> Figure:
    """Return a forest plot of differences, from top to bottom, around zero."""
    ranges = Ranges(
        name,
        tuple(item.difference for item in shown),
        tuple(item.lower for item in shown),
        tuple(item.upper for item in shown),
    )
    zero = Line("", (0.0, 0.0), (-0.5, len(shown) - 0.5))
    panel = Panel("", (zero, ranges), x=Axis("difference of AUC"), categories=categories, across="y")
    return Figure("differences", title, caption, (panel,))
