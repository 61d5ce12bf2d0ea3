"""AUCs of the runs by sex, age and view, and whether groups differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from cxrkit.base.contracts import Metric
from cxrkit.base.labels import LabelSet
from cxrkit.evaluators.groups import FACTORS
from cxrkit.evaluators.subgroups import DIFFERENCE
from cxrkit.report.document.figures import Axis, Figure, Panel, Ranges
from cxrkit.report.document.numbers import p_words, signed
from cxrkit.report.document.tables import (
    AVERAGE,
    EMPTY,
    ROUGHLY,
    Cell,
    Column,
    Number,
    Row,
    Table,
    heading_lines,
    label_rows,
)
from cxrkit.report.evidence.measured import by_key, measured, of_all
from cxrkit.report.evidence.opened import Opened
from cxrkit.report.evidence.run_names import run_names
from cxrkit.report.evidence.runs import AUC, Run
from cxrkit.statistics.intervals import APPROXIMATE, FEW_PATIENTS, TOO_FEW

DETAILED = 4  # runs whose labels are shown
_TITLES = {"sex": "Sex", "age": "Age in years", "view": "View"}
_Found = dict[tuple[str, str | None, str], Metric]
_NAN = float("nan")


def subgroups(
    runs: Sequence[Run], opened: Opened, names: Mapping[Path, str] | None = None
) -> tuple[list[Table], list[Figure]]:
    """Return the table "subgroups" of mean AUCs, those of each label for up to DETAILED runs, and the forest figure.

    The tables of labels are "subgroups-sex", "subgroups-age", "subgroups-view", numbered where there are several runs;
    the figure is "subgroups". runs: of one split, data set and label set. names: what they are called, by folder
    (`run_names`). A run whose predictions or labels cannot be read, or of which neither age nor sex nor view is known,
    is left out, and a note says why. Raises UserError where no run is left.
    """
    names = run_names(runs) if names is None else names
    found, left_out = of_all(runs, names, lambda run: by_key(measured(run, opened, "subgroups")))
    labels = runs[0].scores.labels
    shown = [(names[run.folder], metrics) for run, metrics in found]
    tables = [_means(shown, left_out)]
    if len(shown) <= DETAILED:
        for number, (name, metrics) in enumerate(shown, 1):
            suffix = f"-{number}" if len(shown) > 1 else ""
            tables += [
                _labels_table(name, metrics, labels, factor, f"subgroups-{factor}{suffix}")
                for factor in FACTORS
                if _groups(metrics, factor)
            ]
    figure = _figure(shown)
    return tables, [figure] if figure.panels else []


def _groups(found: _Found, factor: str, name: str = AUC) -> list[str]:
    """Return the groups of one kind that a run has metrics of, in order."""
    groups = dict.fromkeys(group for what, _, group in found if what == name)
    return [group for group in groups if group.startswith(f"{factor} ")]


def _means(shown: Sequence[tuple[str, _Found]], left_out: Sequence[str]) -> Table:
    """Return a row for each group and each difference, a column for each run."""
    rows: list[Row] = []
    notes: list[str] = []
    first = shown[0][1]
    for factor in FACTORS:
        groups = dict.fromkeys(group for _, found in shown for group in _groups(found, factor))
        pairs = dict.fromkeys(group for _, found in shown for group in _groups(found, factor, DIFFERENCE))
        for place, group in enumerate(groups):
            cells = tuple(_auc(found.get((AUC, None, group))) for _, found in shown)
            rows.append(Row(group, _heading(group), cells, rule_above=place == 0 and bool(rows)))
        for group in pairs:
            cells = tuple(_gap(found.get((DIFFERENCE, None, group))) for _, found in shown)
            if any(cell is not EMPTY for cell in cells):
                rows.append(Row(group, f"  {_heading(group)}", cells))
        notes += _reasons(first, factor)
    detailed = len(shown) <= DETAILED
    columns = tuple(
        Column(name, heading_lines(name, 20), () if detailed else (AUC, DIFFERENCE, "p_value"), own=True)
        for name, _ in shown
    )
    return Table(
        "Mean AUC by sex, age and view", "Group", columns, tuple(rows), (*_notes(), *notes, *left_out), key="subgroups"
    )


def _reasons(found: _Found, factor: str) -> list[str]:
    """Return over which labels the means are, and which groups have none."""
    means = {group: metric for group in _groups(found, factor) if (metric := found.get((AUC, None, group)))}
    over = dict.fromkeys(metric.reason for metric in means.values() if metric.reason and metric.value is not None)
    none = [f"{_heading(group)}: {metric.reason}" for group, metric in means.items() if metric.value is None]
    return [f"{_TITLES[factor]}: {reason}" for reason in over] + none


def _notes() -> tuple[str, ...]:
    return (
        "The means are over the labels of which every group of a kind has enough patients; a group that has them for "
        "less than half of the labels has no mean",
        "Against: the difference from the largest group, with its two-sided p-value. Patients who are in both groups "
        "are counted as such: variances are over patients (Obuchowski 1997)",
        f"{ROUGHLY}: an approximate interval, of fewer than {FEW_PATIENTS} patients with a finding, or without it",
        "Groups differ in how ill their patients are: a lower AUC is not by itself a fault of the model",
    )


def _heading(group: str) -> str:
    """Return "Sex F", "Age 20 to 39" or "AP against PA" of the names of groups."""
    factor, _, value = group.partition(" ")
    value = value.replace("-", " to ").replace("+", " and more")
    return value if " against " in value else f"{factor.capitalize()} {value}"


def _auc(metric: Metric | None, *, bounds: bool = True) -> Cell:
    if metric is None:
        return EMPTY
    values: dict[str, Number] = {
        AUC: metric.value,
        "lower": metric.lower,
        "upper": metric.upper,
        "n_eff": metric.clusters_effective,
        "positives": metric.positives,
        "negatives": metric.negatives,
        "positive_patients": metric.positive_patients,
        **_marks(metric),
    }
    if metric.value is None:
        return Cell(f"n/a ({metric.reason})" if metric.label and metric.reason else "n/a", values)
    mark = ROUGHLY * (metric.mark == APPROXIMATE)
    if not bounds:
        return Cell(f"{mark}{metric.value:.3f}" if metric.mark != TOO_FEW else f"({metric.value:.3f})", values)
    if metric.lower is None or metric.upper is None:
        return Cell(f"({metric.value:.3f})" if metric.mark == TOO_FEW else f"{metric.value:.3f}", values)
    return Cell(f"{metric.value:.3f} {mark}[{metric.lower:.3f}, {metric.upper:.3f}]", values)


def _marks(metric: Metric) -> dict[str, Number]:
    """Return the marks of a metric for CSV: only those that it has."""
    return {name: 1 for name, mark in (("approximate", APPROXIMATE), ("too_few", TOO_FEW)) if metric.mark == mark}


def _gap(metric: Metric | None) -> Cell:
    if metric is None or metric.value is None:
        return EMPTY
    values: dict[str, Number] = {DIFFERENCE: metric.value, "lower": metric.lower, "upper": metric.upper}
    values |= {"p_value": metric.p_value, **_marks(metric)}
    if metric.p_value is None:
        return Cell(signed(metric.value), values)
    return Cell(f"{signed(metric.value)}, {p_words(metric.p_value)}", values)


def _labels_table(name: str, found: _Found, labels: LabelSet, factor: str, key: str) -> Table:
    """Return the AUCs of each label in the groups of one kind, and the differences where there are two."""
    groups, pairs = _groups(found, factor), _groups(found, factor, DIFFERENCE)
    two = len(groups) <= 2
    columns, cells = [], []
    for group in groups:
        columns.append(Column(f"{name}, {group}", (_heading(group).removeprefix("Age "),), (AUC,), own=True))
        cells.append(
            {label or AVERAGE: _auc(found.get((AUC, label, group)), bounds=two) for label in (*labels.labels, None)}
        )
    for group in pairs if two else ():
        columns.append(Column(f"{name}, {group}", (_heading(group),), (DIFFERENCE, "p_value"), own=True))
        cells.append(
            {label or AVERAGE: _gap(found.get((DIFFERENCE, label, group))) for label in (*labels.labels, None)}
        )
    notes = ["In brackets: fewer than 10 patients with the finding, or without it; such an AUC says little"]
    if two and pairs:
        notes.append("p-values of the labels: adjusted by Holm for their number; that of the average stands by itself")
    notes += [f"{AVERAGE}, {reason}" for reason in _reasons(found, factor)]
    if not two:
        notes.append("CSV has the intervals; differences stand in the table of means")
    return Table(
        f"AUC by {factor}: {name}", "Pathology", tuple(columns), label_rows(cells, labels), tuple(notes), key=key
    )


def _figure(shown: Sequence[tuple[str, _Found]]) -> Figure:
    panels = []
    for factor in FACTORS:
        having = (group for _, found in shown for group in _groups(found, factor) if _has_mean(found, group))
        groups = list(dict.fromkeys(having))
        if not groups:
            continue
        marks = tuple(_ranges(name, [found.get((AUC, None, group)) for group in groups]) for name, found in shown)
        words = tuple(_heading(group).removeprefix(f"{factor.capitalize()} ") for group in groups)
        panels.append(Panel(_TITLES[factor], marks, Axis("Mean AUC"), categories=words, across="y"))
    return Figure(
        "subgroups",
        "Mean AUC by sex, age and view as a forest plot",
        "Points: mean AUC on the test images of a group, over the labels of which every group of its kind has enough "
        "patients, so panels are not to be compared with each other. Bars: 95 % intervals over patients.",
        tuple(panels),
    )


def _has_mean(found: _Found, group: str) -> bool:
    return (metric := found.get((AUC, None, group))) is not None and metric.value is not None


def _ranges(name: str, metrics: Sequence[Metric | None]) -> Ranges:
    def bounds(field: str) -> tuple[float, ...]:
        found = (None if metric is None else getattr(metric, field) for metric in metrics)
        return tuple(_NAN if value is None else value for value in found)

    return Ranges(name, bounds("value"), bounds("lower"), bounds("upper"))
