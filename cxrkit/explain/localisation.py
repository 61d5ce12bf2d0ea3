"""The report of `cxrkit localise`: a run's maps against boxes, both controls, and the published numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from cxrkit.base.files import file_digest
from cxrkit.base.words import count as counted
from cxrkit.explain import published
from cxrkit.explain.localisation_notes import notes_of
from cxrkit.explain.localising import CENTRE, NETWORK, RANDOM, Localised
from cxrkit.explain.measures import IOBB, IOU, THRESHOLDS, Measures, Rate, difference, mean, mean_interval
from cxrkit.explain.published import PublishedBoxes
from cxrkit.report.document.figures import Axis, Figure, Line, Panel
from cxrkit.report.document.numbers import signed
from cxrkit.report.document.tables import AVERAGE, EMPTY, Cell, Column, Report, Row, Table
from cxrkit.report.rendering.kept import keep_document
from cxrkit.statistics.intervals import Interval
from cxrkit.statistics.thresholds import Share

WHO = (NETWORK, CENTRE, RANDOM)
SUMMARY_T = 0.5  # of the false boxes in the summary
DAGGER = "†"  # marks a network that was trained on boxes


def keep(found: Localised, report: Report) -> Path:
    """Write the report into the run's folder, where `cxrkit report --all` finds it. Returns the file."""
    return keep_document(found.run, report, file_digest(found.run.best))


def localisation(found: Localised) -> Report:
    """Return the document of what was found: summary, pointing game, accuracies, false boxes, and a figure."""
    beside = published.wang2017() if found.info.origin.dataset == published.DATASET else ()
    # Where no finding has enough patients, there is no mean to be shown.
    tables = [*([_summary(found)] if found.averaged else []), _pointing(found)]
    tables += [_accuracies(found, criterion, beside) for criterion in (IOBB, IOU)]
    tables.append(_false_boxes(found, beside))
    split = found.info.origin.split
    return Report(
        title=f"Where {found.info.name} looks, against the boxes of {found.info.origin.dataset}, split {split}",
        tables=tuple(tables),
        notes=notes_of(found, bool(beside)),
        figures=(_figure(found, beside),) if found.averaged else (),
        key="localisation",
    )


# What each row of the summary is about: its heading, and how a finding's rate is found.
_SUMMARY: tuple[tuple[str, str, Callable[[Measures], Rate]], ...] = (
    ("pointing", "Pointing game", lambda found: found.pointing),
    ("iobb-0.25", "IoBB above 0.25", lambda found: found.hit[IOBB, 0.25]),
    ("iobb-0.5", "IoBB above 0.5", lambda found: found.hit[IOBB, 0.5]),
    ("iou-0.1", "IoU above 0.1", lambda found: found.hit[IOU, 0.1]),
    ("iou-0.3", "IoU above 0.3", lambda found: found.hit[IOU, 0.3]),
    ("mask-iou", "Mask IoU", lambda found: found.mask_iou),
)


def _summary(found: Localised) -> Table:
    """Return means over the findings, and how much the network has beyond each control."""
    columns = [
        *(_who(who, found, ("mean", "lower", "upper") if who == NETWORK else ("mean",)) for who in WHO),
        *(
            Column(f"network less {who}", ("network less", who), ("difference", "lower", "upper"), own=True)
            for who in (CENTRE, RANDOM)
        ),
    ]
    rows = []
    for key, heading, rate in _SUMMARY:
        rates = {who: [rate(found.measures[who][label]) for label in found.averaged] for who in WHO}
        cells = [_mean_cell(rates[who], len(found.patients), interval=who == NETWORK) for who in WHO]
        cells += [_difference_cell(rates[NETWORK], rates[who], len(found.patients)) for who in (CENTRE, RANDOM)]
        rows.append(Row(key, heading, tuple(cells)))
    rows.append(Row("false-boxes", "False boxes", (*(_mean_false_boxes(found, who) for who in WHO), EMPTY, EMPTY)))
    count = len(found.averaged)
    return Table(
        title=f"Mean over {counted(count, 'finding')}",
        stub="Measure",
        columns=tuple(columns),
        rows=tuple(rows),
        notes=(
            "brackets: 95 % intervals, percentiles of 1,000 bootstrap replicates over patients; differences are of the "
            "same patients",
            "mask IoU: of the pixels above half of a map's range with those inside the finding's boxes",
            f"false boxes: for each image with the finding, those with an IoBB of at most {SUMMARY_T:g}; many small "
            "boxes reach a high IoBB by chance, so the two are read together",
        ),
        key="localisation-summary",
    )


def _mean_false_boxes(found: Localised, who: str) -> Cell:
    counts = [found.measures[who][label].false_boxes[IOBB, SUMMARY_T] for label in found.averaged]
    return _number_cell(sum(counts) / len(counts) if counts else None, "mean")


def _pointing(found: Localised) -> Table:
    """Return the pointing game, finding by finding, with intervals."""
    columns = [
        Column("boxes", ("boxes",), ("boxes",), own=True),
        Column("patients", ("patients",), ("patients",), own=True),
        *(_who(who, found, ("pointing", "lower", "upper")) for who in WHO),
    ]
    rows = []
    for label in found.findings:
        rates = {who: found.measures[who][label].pointing for who in WHO}
        boxes = sum(len(case.boxes) for case in found.cases if case.label == label)
        patients = rates[NETWORK].share().patients
        counts = [Cell(f"{boxes:,}", {"boxes": boxes}), Cell(f"{patients:,}", {"patients": patients})]
        shares = [_share_cell(rates[who].share(), "pointing") for who in WHO]
        rows.append(Row(label, found.labels.heading(label), (*counts, *shares)))
    return Table(
        title="Pointing game: the likeliest point lies in a box",
        stub="Finding",
        columns=tuple(columns),
        rows=tuple(rows),
        notes=(
            "of images with the finding's box; brackets: 95 % intervals over patients; none for fewer than ten of them",
        ),
        key="localisation-pointing",
    )


def _accuracies(found: Localised, criterion: str, beside: Sequence[PublishedBoxes]) -> Table:
    """Return the share of boxes hit at each threshold: the network's, below it the controls' and the published."""
    thresholds = THRESHOLDS[criterion]

    def own(who: str, label: str, threshold: float) -> Cell:
        return _share_cell(found.measures[who][label].hit[criterion, threshold].share(), "accuracy", interval=False)

    def theirs(item: PublishedBoxes, label: str, threshold: float) -> Cell:
        return _number_cell(item.accuracy.get((criterion, threshold), {}).get(label), "accuracy")

    rows = [row for label in found.findings for row in _everybody(found, label, thresholds, beside, own, theirs)]
    rows += _mean_rows(found, criterion, beside)
    detected = "the found box" if criterion == IOBB else "the union"
    return Table(
        title=f"Accuracy at {criterion}: true boxes that a found box meets with more than T",
        stub="Finding",
        columns=tuple(
            Column(f"{criterion} T={threshold:g}", (f"T={threshold:g}",), ("accuracy", "lower", "upper"))
            for threshold in thresholds
        ),
        rows=tuple(rows),
        notes=(f"{criterion}: the common area, divided by {detected}",),
        rows_are_runs=True,
        key=f"localisation-{criterion.lower()}",
    )


def _false_boxes(found: Localised, beside: Sequence[PublishedBoxes]) -> Table:
    """Return the mean number of boxes that hit nothing."""
    thresholds = THRESHOLDS[IOBB]

    def own(who: str, label: str, threshold: float) -> Cell:
        return _number_cell(found.measures[who][label].false_boxes[IOBB, threshold], "false boxes")

    def theirs(item: PublishedBoxes, label: str, threshold: float) -> Cell:
        return _number_cell(item.false_boxes.get((IOBB, threshold), {}).get(label), "false boxes")

    beside = [item for item in beside if item.false_boxes]
    rows = [row for label in found.findings for row in _everybody(found, label, thresholds, beside, own, theirs)]
    return Table(
        title="False boxes (AFP): found boxes of a finding that meet none with an IoBB above T",
        stub="Finding",
        columns=tuple(
            Column(f"AFP T={threshold:g}", (f"T={threshold:g}",), ("false boxes",)) for threshold in thresholds
        ),
        rows=tuple(rows),
        notes=("mean over the images that have a box of the finding",),
        rows_are_runs=True,
        key="localisation-false-boxes",
    )


def _everybody(
    found: Localised,
    label: str,
    thresholds: Sequence[float],
    beside: Sequence[PublishedBoxes],
    own: Callable[[str, str, float], Cell],
    theirs: Callable[[PublishedBoxes, str, float], Cell],
) -> list[Row]:
    """Return the rows of a finding: the network's own, then the controls', then the published ones."""
    rows = []
    for who in WHO:
        key, heading = _named(label, found.labels.heading(label), who)
        cells = tuple(own(who, label, t) for t in thresholds)
        rows.append(Row(key, heading, cells, rule_above=who == NETWORK, own=True))
    for item in beside:
        cells = tuple(theirs(item, label, t) for t in thresholds)
        if any(cell is not EMPTY for cell in cells):
            rows.append(Row(f"{label}, {item.name}", f"  {item.name}", cells))
    return rows


def _named(label: str, heading: str, who: str) -> tuple[str, str]:
    """Return key and heading of a row: the network's are the finding's, the controls' are below it."""
    return (label, heading) if who == NETWORK else (f"{label}, {who}", f"  {who}")


def _mean_rows(found: Localised, criterion: str, beside: Sequence[PublishedBoxes]) -> list[Row]:
    """Return the rows of the means over findings; a published one only where it has all of them."""
    if not found.averaged:
        return []
    thresholds = THRESHOLDS[criterion]
    rows = []
    for who in WHO:
        rates = [[found.measures[who][label].hit[criterion, t] for label in found.averaged] for t in thresholds]
        key, heading = _named(AVERAGE, AVERAGE, who)
        cells = tuple(_number_cell(mean(rate), "accuracy") for rate in rates)
        rows.append(Row(key, heading, cells, rule_above=who == NETWORK, own=True))
    for item in beside:
        cells = tuple(_number_cell(_published_mean(item, found.averaged, criterion, t), "accuracy") for t in thresholds)
        if any(cell is not EMPTY for cell in cells):
            rows.append(Row(f"{AVERAGE}, {item.name}", f"  {item.name}", cells))
    return rows


def _published_mean(item: PublishedBoxes, findings: Sequence[str], criterion: str, threshold: float) -> float | None:
    by_finding = item.accuracy.get((criterion, threshold), {})
    if not findings or not set(findings) <= by_finding.keys():
        return None
    return sum(by_finding[label] for label in findings) / len(findings)


def _figure(found: Localised, beside: Sequence[PublishedBoxes]) -> Figure:
    """Return accuracy against the threshold, in the mean over findings."""
    panels = []
    for criterion in (IOBB, IOU):
        thresholds = THRESHOLDS[criterion]
        lines = []
        for who in WHO:
            values = [
                mean([found.measures[who][label].hit[criterion, t] for label in found.averaged]) for t in thresholds
            ]
            lines.append(Line(who, thresholds, tuple(values), markers=True))
        for item in beside:
            means = [_published_mean(item, found.averaged, criterion, t) for t in thresholds]
            known = [(t, value) for t, value in zip(thresholds, means, strict=True) if value is not None]
            if known:
                lines.append(Line(item.name, tuple(t for t, _ in known), tuple(v for _, v in known), markers=True))
        panels.append(Panel(criterion, tuple(lines), Axis(f"T({criterion})", 0.0, 1.0), Axis("Accuracy", 0.0, 1.0)))
    headings = ", ".join(found.labels.heading(label) for label in found.averaged)
    caption = (
        f"Share of the true boxes that are hit at each threshold, in the mean over {headings}. The centre prior is the "
        "mean box of the finding over all other patients; random weights are the same network before any training."
    )
    return Figure("localisation", f"Boxes that {found.info.name} hits", caption, tuple(panels), columns=2)


def _who(who: str, found: Localised, fields: tuple[str, ...]) -> Column:
    words = found.info.name if who == NETWORK else who
    mark = f" {DAGGER}" if who == NETWORK and found.learned_boxes else ""
    return Column(words + mark, (who + mark,), fields, own=True)


def _share_cell(share: Share, metric: str, *, interval: bool = True) -> Cell:
    if share.value is None:
        return EMPTY
    bounds = share.interval
    values = {metric: share.value, "lower": bounds.lower, "upper": bounds.upper}
    return Cell(f"{share.value:.3f}" + _bracket(bounds) * interval, values)


def _mean_cell(rates: Sequence[Rate], patients: int, *, interval: bool) -> Cell:
    if not rates:
        return EMPTY
    value = mean(rates)
    if not interval:
        return Cell(f"{value:.3f}", {"mean": value})
    bounds = mean_interval(rates, patients)
    return Cell(f"{value:.3f}{_bracket(bounds)}", {"mean": value, "lower": bounds.lower, "upper": bounds.upper})


def _difference_cell(one: Sequence[Rate], other: Sequence[Rate], patients: int) -> Cell:
    if not one:
        return EMPTY
    found = difference(one, other, patients)
    bounds = found.interval
    values = {"difference": found.value, "lower": bounds.lower, "upper": bounds.upper}
    bracket = ""
    if bounds.lower is not None and bounds.upper is not None:
        bracket = f" [{signed(bounds.lower)}, {signed(bounds.upper)}]"
    return Cell(f"{signed(found.value)}{bracket}", values)


def _number_cell(value: float | None, metric: str) -> Cell:
    return EMPTY if value is None or value != value else Cell(f"{value:.3f}", {metric: value})


def _bracket(bounds: Interval) -> str:
    return "" if bounds.lower is None else f" [{bounds.lower:.3f}, {bounds.upper:.3f}]"
