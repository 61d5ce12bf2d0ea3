"""What the runs say with fixed thresholds: sensitivity, specificity and predictive values, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cxrkit.base.contracts import Metric
from cxrkit.base.errors import UserError
from cxrkit.base.labels import LabelSet
from cxrkit.evaluators.thresholds import SHARES, THRESHOLD
from cxrkit.report.document.figures import Figure
from cxrkit.report.document.tables import (
    AVERAGE,
    EMPTY,
    ROUGHLY,
    Cell,
    Column,
    Number,
    Table,
    heading_lines,
    label_rows,
)
from cxrkit.report.evidence.measured import by_key, measured, of_all
from cxrkit.report.evidence.metric_names import metric_name
from cxrkit.report.evidence.opened import Opened
from cxrkit.report.evidence.run_names import run_names
from cxrkit.report.evidence.runs import Run
from cxrkit.statistics.intervals import APPROXIMATE, FEW_PATIENTS

DETAILED = 4  # runs that have a table with intervals of their own
_HEADINGS = {
    THRESHOLD: (metric_name(THRESHOLD),),
    **{share: (metric_name(share), "%") for share in SHARES},
}
_Found = dict[tuple[str, str | None, str], Metric]


def operating_points(
    runs: Sequence[Run], opened: Opened, names: Mapping[Path, str] | None = None
) -> tuple[list[Table], list[Figure]]:
    """Return the tables of operating points, and no figure.

    One run: the table "thresholds". Several: "thresholds" has them side by side, and up to DETAILED have one each with
    intervals, "thresholds-1" and so on. runs: of one split, data set and label set. names: what they are called, by
    folder (`run_names`). A run without validation predictions, or whose files cannot be read, is left out, and a note
    says why. Raises UserError where no run is left.
    """
    names = run_names(runs) if names is None else names
    found, left_out = of_all(runs, names, lambda run: _found(run, opened))
    labels = runs[0].scores.labels
    shown = [(names[run.folder], metrics) for run, metrics in found]
    if len(shown) == 1:
        return [_detailed(*shown[0], labels, "thresholds", left_out)], []
    tables = [_side_by_side(shown, labels, left_out)]
    if len(shown) <= DETAILED:
        tables += [_detailed(*one, labels, f"thresholds-{number}") for number, one in enumerate(shown, 1)]
    return tables, []


def _found(run: Run, opened: Opened) -> _Found:
    if "val" not in run.scores.subsets:
        raise UserError("no validation predictions")
    return by_key(measured(run, opened, "thresholds"))


def _detailed(name: str, found: _Found, labels: LabelSet, key: str, left_out: Sequence[str] = ()) -> Table:
    """Return one run: a column for the thresholds, and one for each of the shares."""
    columns = tuple(Column(f"{name}: {what}", heading, (what,), own=True) for what, heading in _HEADINGS.items())
    cells = []
    for what in _HEADINGS:
        of_labels = {label: _cell(found.get((what, label, ""))) for label in labels.labels}
        cells.append(of_labels | {AVERAGE: _average(found, what, labels)})
    notes = [*_notes(), *left_out]
    marked = [metric for label in labels.labels if (metric := found.get((THRESHOLD, label, ""))) and metric.mark]
    if marked:
        few = (f"{labels.heading(metric.label or '')} ({_patients(metric)})" for metric in marked)
        notes.append(
            f"{ROUGHLY}: an interval, or a threshold, of fewer than {FEW_PATIENTS} patients: a matter of chance"
        )
        notes.append(f"Thresholds of so few patients of val, by their number: {', '.join(few)}")
    return Table(f"Operating points of {name}", "Pathology", columns, label_rows(cells, labels), tuple(notes), key=key)


def _patients(threshold: Metric) -> str:
    """Return "14" patients with the finding, or "15 without it", from the reason of a threshold."""
    said = threshold.reason.partition("; ")[2]
    return said.partition(" ")[0] + " without it" * ("without" in said)


def _notes() -> tuple[str, ...]:
    return (
        "Thresholds: the highest Youden index (sensitivity + specificity - 1) on val, then fixed; counted is test",
        "Intervals: 95 % logit-t with effective patients, of ratios of sums over patients, for the threshold as it is",
        "PPV and NPV hold for the prevalence of these test images",
    )


def _cell(metric: Metric | None) -> Cell:
    if metric is None:
        return EMPTY
    if metric.value is None:
        return Cell("n/a", {metric.name: None})
    if metric.name == THRESHOLD:
        return Cell(f"{ROUGHLY * bool(metric.mark)}{metric.value:.3f}", {THRESHOLD: metric.value})
    mark = ROUGHLY * (metric.mark == APPROXIMATE)
    values: dict[str, Number] = {metric.name: metric.value, "lower": metric.lower, "upper": metric.upper}
    values |= {"approximate": 1} if mark else {}
    if metric.name == "npv":  # near 100: what its interval says has no room
        return Cell(f"{100 * metric.value:.1f}", values)
    text = f"{100 * metric.value:.0f}"
    if metric.lower is not None and metric.upper is not None:
        text += f" {mark}[{100 * metric.lower:.0f}, {100 * metric.upper:.0f}]"
    return Cell(text, values)


def _mean(found: _Found, what: str, labels: LabelSet) -> float | None:
    """Return the mean over the averaged labels, None unless all have it."""
    values = [metric.value if (metric := found.get((what, label, ""))) else None for label in labels.averaged]
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined and len(defined) == len(values) else None


def _average(found: _Found, what: str, labels: LabelSet) -> Cell:
    value = None if what == THRESHOLD else _mean(found, what, labels)
    return EMPTY if value is None else Cell(f"{100 * value:.{int(what == 'npv')}f}", {what: value})


def _side_by_side(shown: Sequence[tuple[str, _Found]], labels: LabelSet, left_out: Sequence[str]) -> Table:
    columns = tuple(
        Column(name, heading_lines(name), () if len(shown) <= DETAILED else (THRESHOLD, *SHARES), own=True)
        for name, _ in shown
    )
    cells = [{label or AVERAGE: _three(found, label, labels) for label in (*labels.labels, None)} for _, found in shown]
    return Table(
        "Sensitivity / specificity / PPV in % at the thresholds of Youden's index",
        "Pathology",
        columns,
        label_rows(cells, labels),
        (_notes()[0], _notes()[2], *left_out),
        key="thresholds",
    )


def _three(found: _Found, label: str | None, labels: LabelSet) -> Cell:
    values: dict[str, Number] = {}
    for name in (THRESHOLD, *SHARES):
        metric = found.get((name, label, ""))
        values[name] = _mean(found, name, labels) if label is None else metric.value if metric else None
    if label is None:
        values[THRESHOLD] = None
    shown = [values[name] for name in ("sensitivity", "specificity", "ppv")]
    if shown[0] is None and shown[1] is None:
        return EMPTY
    return Cell(" / ".join("-" if value is None else f"{100 * value:.0f}" for value in shown), values)
