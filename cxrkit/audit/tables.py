"""The tables of an audit on the network itself: its features, its metadata, the border of the film."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cxrkit.audit.asking import ALONE, MASKED
from cxrkit.audit.cells import auc_cell, count_cell, value_cell
from cxrkit.audit.permuting import INPUTS, TOGETHER
from cxrkit.audit.probing import Probed, left_out
from cxrkit.audit.results import Change, Results, beyond_chance, worse
from cxrkit.base.contracts import Subset
from cxrkit.base.labels import AGE, SEX, VIEW, LabelSet
from cxrkit.base.words import count as counted
from cxrkit.report.comparing.difference_cells import difference_cell
from cxrkit.report.document.figures import Axis, Figure, Panel, Ranges
from cxrkit.report.document.tables import AVERAGE, EMPTY, Cell, Column, Row, Table
from cxrkit.statistics import intervals
from cxrkit.statistics.clustered import Estimate
from cxrkit.statistics.comparing import Comparison

_INTERVALS = "brackets: 95 % intervals over patients"
_HOLM = "p at most 0.05, Holm over the labels"
_PROBES = {SEX.name: "Sex (AUC of male)", VIEW.name: "View (AUC of AP)", AGE.name: "Age (error, years)"}
_NAN = float("nan")


def features_table(found: Sequence[Probed], subset: Subset, *, meta: bool) -> Table:
    """Return what the features say of age, sex and view."""
    rows = []
    for item in found:
        unit = bool(item.labels.unit)
        name, decimals = ("mae", 2) if unit else ("auc", 3)
        value, without = EMPTY, EMPTY
        if item.value is not None and item.without is not None:
            value = value_cell(item.value, item.interval, name, decimals=decimals)
            without = Cell(f"{item.without:.{decimals}f}", {f"{name}_without_features": item.without})
        counts = count_cell(item.fitted, "fitted_images"), count_cell(item.tested, "tested_images")
        rows.append(Row(item.labels.name, _PROBES[item.labels.name], (value, without, *counts)))
    notes = [
        f"Linear probes on the frozen features, fitted on the {subset} patients: logistic regression, for the age "
        f"ridge regression. {_INTERVALS[0].upper()}{_INTERVALS[1:]}",
        "Without: 0.5, and for the age the error of always saying the median of the images fitted on",
        "The paper trains a dense layer on the training images instead: `cxrkit train --model resnet50-large-age "
        "--from RUN`, and -gender, -vp",
    ]
    if meta:
        notes.append("The features are of the image alone; age, sex and view join the network behind them")
    columns = (
        Column("with features", ("with", "features"), ("auc", "mae"), own=True),
        Column("without", ("without",), own=True),
        Column("fitted on", ("fitted on", "images"), own=True),
        Column("tested on", ("tested on", "images"), own=True),
    )
    title = "Age, sex and view read from the network's features"
    return Table(
        title,
        "What is read",
        columns,
        tuple(rows),
        (*notes, *left_out(found)),
        key="audit-features",
        rows_are_runs=True,
    )


def metadata_tables(found: Results, permutations: int) -> list[Table]:
    """Return the mean AUC with each input permuted, and every label's with all of them."""
    columns = (
        Column("mean AUC", ("mean AUC",), ("auc",), own=True),
        Column("difference", ("difference",), ("difference",), own=True),
        Column("SD", ("SD",), ("sd",), own=True),
    )
    rows = [Row("as they are", "as they are", (auc_cell(found.whole.mean), EMPTY, EMPTY))]
    for name in (*INPUTS, TOGETHER):
        change = found.changed[name]
        spread = EMPTY if change.spread is None else Cell(f"{change.spread:.4f}", {"sd": change.spread})
        heading = "all permuted" if name == TOGETHER else f"{name} permuted"
        rows.append(Row(name, heading, (auc_cell(change.mean), _mean_gap(change), spread)))
    times = counted(permutations, "permutation")
    notes = (
        f"Each image gets the age, sex or view of an image of another patient: {times}, whole patients exchanged as "
        "far as they have equally many images; the AUC is the mean over "
        "them, SD the standard deviation of the mean AUC",
        f"Difference: permuted less as they are, on the same images; {_INTERVALS}",
        "What metadata say without any image is the perceptron's AUC: `cxrkit train --model mlp-meta`",
        _told("Lower with all three permuted", worse(found, TOGETHER), found),
        *average_notes(found.labels, found.averaged),
    )
    means = Table("Metadata permuted", "Age, sex and view", columns, tuple(rows), notes, key="audit-metadata",
                  rows_are_runs=True)  # fmt: skip
    change = found.changed[TOGETHER]
    by_label = Table(
        "Age, sex and view permuted, by finding",
        "Finding",
        (
            Column("as they are", ("as they", "are"), ("auc",), own=True),
            Column("permuted", ("permuted",), ("auc",), own=True),
            Column("difference", ("difference",), ("difference",), own=True),
        ),
        _label_rows(
            found,
            lambda place: (
                auc_cell(found.whole.estimates[place]),
                auc_cell(change.estimates[place], interval=False),
                _gap(change, place),
            ),
            (auc_cell(found.whole.mean), auc_cell(change.mean, interval=False), _mean_gap(change)),
        ),
        (_INTERVALS, *average_notes(found.labels, found.averaged)),
        key="audit-metadata-labels",
    )
    return [means, by_label]


def border_table(found: Results, share: float, pixels: int, sides: tuple[int, int], *, meta: bool) -> Table:
    """Return each label's AUC with the border masked, and of the border alone.

    pixels: of the border, along each side of what the network sees. sides: to which a film is scaled, and to which its
    centre is cut then, in pixels.
    """
    masked, alone = found.changed[MASKED], found.changed[ALONE]
    columns = (
        Column("whole film", ("whole", "film"), ("auc",), own=True),
        Column("border masked", ("border", "masked"), ("auc",), own=True),
        Column("masked less whole", ("masked less whole",), ("difference",), own=True),
        Column("border alone", ("border alone",), ("auc",), own=True),
    )

    def cells(whole: Estimate | None, without: Estimate | None, gap: Cell, border: Estimate | None) -> tuple[Cell, ...]:
        return auc_cell(whole, interval=False), auc_cell(without, interval=False), gap, auc_cell(border)

    rows = _label_rows(
        found,
        lambda place: cells(
            found.whole.estimates[place], masked.estimates[place], _gap(masked, place), alone.estimates[place]
        ),
        cells(found.whole.mean, masked.mean, _mean_gap(masked), alone.mean),
    )
    notes = [
        f"Border: {border_words(share, pixels, sides)}; what is masked has the mean gray level that the network's "
        "input is normalised with",
        f"{_INTERVALS}; differences are of the same images",
        _told("Told from the border alone better than by chance", beyond_chance(found), found),
        _told("Lower with the border masked", worse(found, MASKED), found),
        "A masked film is unlike those that the network learned from: some is lost for that alone. A border holds "
        "body, too: an AUC above 0.5 there says where to look, not that it is a marker",
        *average_notes(found.labels, found.averaged),
    ]
    if meta:
        notes.append("The border alone comes with age, sex and view left open, so that the AUC is the border's")
    return Table("The border of the film", "Finding", columns, rows, tuple(notes), key="audit-border")


def border_words(share: float, pixels: int, sides: tuple[int, int]) -> str:
    """Return how wide the border is on the film, and how much of it the network sees."""
    scaled, seen = sides
    wide = f"{100 * share:g} % of the film's side at each edge"
    if scaled == seen:
        return f"{wide}, {pixels} of the {seen} pixels that the network sees along a side"
    return (
        f"{wide}, {share * scaled:.3g} of the {scaled} pixels that it is scaled to. The centre crop to {seen} pixels "
        f"has cut off {(scaled - seen) / 2:g} of them, and the network sees {pixels}"
    )


def border_figure(found: Results) -> Figure:
    """Return the AUCs with and without the border as a forest plot."""
    places = range(len(found.labels.labels))
    ranges = []
    for name, change in (
        ("whole film", found.whole),
        ("border masked", found.changed[MASKED]),
        ("border alone", found.changed[ALONE]),
    ):
        bounds = [intervals.of_estimate(one) if one.value == one.value else None for one in change.estimates]
        lower = tuple(_NAN if item is None or item.lower is None else item.lower for item in bounds)
        upper = tuple(_NAN if item is None or item.upper is None else item.upper for item in bounds)
        ranges.append(Ranges(name, tuple(change.estimates[place].value for place in places), lower, upper))
    names = tuple(found.labels.heading(label) for label in found.labels.labels)
    caption = (
        "AUC of each finding from the whole film, with the border of the film masked, and with everything but the "
        "border masked; 95 % intervals over patients. 0.5 is chance."
    )
    panel = Panel("", tuple(ranges), Axis("AUC"), categories=names, across="y")
    return Figure("audit-border", "What is read from the border of the film", caption, (panel,))


def label_rows_of(
    labels: LabelSet,
    places: Callable[[int], tuple[Cell, ...]],
    average: tuple[Cell, ...] | None,
    averaged: Sequence[int],
) -> tuple[Row, ...]:
    """Return a row for each averaged label, their mean, and a row for each label beside.

    averaged: the places of the labels that the mean is over; where it leaves some out, its row says over how many.
    """

    def row(label: str) -> Row:
        return Row(label, labels.heading(label), places(labels.labels.index(label)))

    rows = [row(label) for label in labels.averaged]
    if average is not None:
        some = f" (over {len(averaged)} of {len(labels.averaged)})" * (len(averaged) < len(labels.averaged))
        rows.append(Row(AVERAGE, f"{AVERAGE}{some}", average, rule_above=True))
    return (*rows, *map(row, labels.beside))


def average_notes(labels: LabelSet, averaged: Sequence[int]) -> list[str]:
    """Return which labels the mean leaves out, and that the run's own does not; none where it leaves out none."""
    there = {labels.labels[place] for place in averaged}
    left = [labels.heading(label) for label in labels.averaged if label not in there]
    if not left or not averaged:
        return []
    return [
        f"{AVERAGE}: over {len(averaged)} of {len(labels.averaged)} labels, without {', '.join(left)} (too few "
        "patients for an interval); the mean AUC of other reports is over all labels that have an AUC"
    ]


def gap_cell(found: Comparison) -> Cell:
    """Return a difference of AUCs with its interval; "-" where there is none."""
    return EMPTY if found.difference != found.difference else difference_cell(found)


def _label_rows(
    found: Results, places: Callable[[int], tuple[Cell, ...]], average: tuple[Cell, ...]
) -> tuple[Row, ...]:
    return label_rows_of(found.labels, places, average if found.averaged else None, found.averaged)


def _gap(change: Change, place: int) -> Cell:
    return EMPTY if change.against is None else gap_cell(change.against.labels[place])


def _mean_gap(change: Change) -> Cell:
    return EMPTY if change.against is None else gap_cell(change.against.mean)


def _told(what: str, labels: Sequence[str], found: Results) -> str:
    """Say which labels something holds for."""
    which = ", ".join(found.labels.heading(label) for label in labels)
    count = len(found.averaged)
    return f"{what} ({_HOLM}): {which or 'none'}" + f" of {counted(count, 'finding')}" * (not which)
