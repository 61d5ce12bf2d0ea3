"""What a run's scores look like in a table, and how a column of it is headed."""

from __future__ import annotations

from cxrkit.base.contracts import Metric
from cxrkit.base.words import count as counted
from cxrkit.report.document.numbers import rounded
from cxrkit.report.document.tables import AVERAGE, CONSTANT, EMPTY, ROUGHLY, UNCHECKED, Cell, Number, heading_lines
from cxrkit.report.evidence.runs import Run
from cxrkit.report.literature.marks import SAW_DATA_SET
from cxrkit.statistics.intervals import APPROXIMATE, FEW_PATIENTS, MIN_PATIENTS, TOO_FEW

APPROXIMATE_NOTE = (
    f"{ROUGHLY}: an approximate interval, of fewer than {FEW_PATIENTS} patients with the finding, or without it"
)
CONSTANT_NOTE = f"{CONSTANT}: every image has the same score for this label; such an AUC says nothing of it"


def score_cells(run: Run, *, uncertainty: bool = False) -> dict[str, Cell]:
    """Return the run's test AUCs by row key, three decimals; an undefined one is "n/a" with the reason.

    uncertainty: print the interval too, or how few patients, positives or negatives there are where there is none.
    """
    return {metric.label or AVERAGE: metric_cell(metric, uncertainty) for metric in aucs(run)}


def run_marks(run: Run) -> tuple[str, ...]:
    """Return the marks of a run that stands beside published results."""
    return (SAW_DATA_SET,) if run.origin.saw.of_data_set else ()


def aucs(run: Run) -> list[Metric]:
    """Return the run's test AUCs: of its labels, and the mean."""
    found = [run.auc(label) for label in (*run.scores.labels.labels, None)]
    return [metric for metric in found if metric is not None]


def metric_cell(metric: Metric, uncertainty: bool) -> Cell:
    """Return one AUC as `score_cells` shows it."""
    values = _numbers(metric)
    if metric.value is None:
        return Cell(f"n/a ({metric.reason})" if metric.reason else "n/a", values)
    text = f"{CONSTANT} " * metric.constant + rounded(metric.value)  # before it: digits stay below digits
    if metric.reason:
        text += f" ({metric.reason})"
    if uncertainty:
        text += _uncertainty(metric)
    return Cell(text, values, competes=not metric.constant)


def _numbers(metric: Metric) -> dict[str, Number]:
    """Return an AUC and all that is known of it, by the names that CSV gives them."""
    values: dict[str, Number] = {"auc": metric.value, "lower": metric.lower, "upper": metric.upper}
    values["n_eff"] = metric.clusters_effective
    if metric.label is not None:
        values |= {"positives": metric.positives, "negatives": metric.negatives}
        values["positive_patients"] = metric.positive_patients
    marks = {"constant": metric.constant, "approximate": is_approximate(metric), "too_few": metric.mark == TOO_FEW}
    return values | {name: 1 for name, marked in marks.items() if marked}


def _uncertainty(metric: Metric) -> str:
    if metric.constant:
        return ""  # of scores that are all equal the mark says all
    if metric.lower is not None:
        return f" {_interval(metric)}"
    patients = metric.positive_patients
    if metric.mark == TOO_FEW and metric.label is not None and patients is not None:
        return f" ({counted(patients, 'patient')})" if patients < MIN_PATIENTS else f" ({TOO_FEW})"
    counts = [
        (count, what)
        for count, what in ((metric.positives, "positive"), (metric.negatives, "negative"))
        if count is not None
    ]
    if not counts:
        return ""
    count, what = min(counts)
    return f" ({count:,} {what}{'s' * (count != 1)})"


def interval_cells(run: Run) -> dict[str, Cell]:
    """Return the intervals of the run's test AUCs by row key."""
    return {metric.label or AVERAGE: _interval_cell(metric) for metric in aucs(run)}


def _interval_cell(metric: Metric) -> Cell:
    if metric.lower is None:
        return EMPTY
    if metric.constant:
        return Cell(CONSTANT, _numbers(metric))
    return Cell(_interval(metric), _numbers(metric))


def _interval(metric: Metric) -> str:
    return f"{ROUGHLY * is_approximate(metric)}[{metric.lower:.3f}, {metric.upper:.3f}]"


def is_approximate(metric: Metric) -> bool:
    """Whether the metric has an interval that is marked as approximate."""
    return metric.lower is not None and metric.mark == APPROXIMATE


def run_heading(name: str, words: tuple[str, ...], *, doubtful: bool, width: int = 11) -> tuple[str, ...]:
    """Return the lines above a run's column: its name, marked where its origin is in doubt, and what is special."""
    lines = heading_lines(name, width)
    if doubtful:
        lines = (*lines[:-1], f"{lines[-1]} {UNCHECKED}")
    return (*lines, *(line for word in words for line in heading_lines(word, width)))


def has_constant(run: Run) -> bool:
    """Whether some label of the run has the same score for every image."""
    return any(metric.constant for metric in aucs(run))
