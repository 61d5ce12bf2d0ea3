"""Several seeds of one network: their mean, and their spread, which is that of training alone."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence

from cxrkit.report.document.numbers import rounded
from cxrkit.report.document.tables import AVERAGE, CONSTANT, Cell
from cxrkit.report.evidence.cells import aucs
from cxrkit.report.evidence.runs import Run


def seed_cells(runs: Sequence[Run], decimals: int) -> dict[str, Cell]:
    """Return mean and standard deviation (n - 1) of the test AUCs over runs of several seeds, by row key."""
    found = [{metric.label or AVERAGE: metric for metric in aucs(run)} for run in runs]
    cells = {}
    for key in found[0]:
        metrics = [metrics[key] for metrics in found if key in metrics]
        values = [metric.value for metric in metrics if metric.value is not None]
        if len(values) < len(runs):
            cells[key] = Cell("n/a")  # a mean over some of the seeds would be another one
            continue
        mean, spread = statistics.fmean(values), statistics.stdev(values)
        constant = any(metric.constant for metric in metrics)
        numbers: dict[str, float | int | None] = {"auc": mean, "std_seeds": spread, "seeds": len(runs)}
        if metrics[0].label is not None:
            numbers["positives"] = metrics[0].positives
        if constant:
            numbers["constant"] = 1
        text = f"{CONSTANT} " * constant + f"{rounded(mean, decimals)} ± {spread:.{decimals}f}"
        cells[key] = Cell(text, numbers, competes=not constant)
    return cells


def within(groups: Iterable[Sequence[float]]) -> float | None:
    """Return the standard deviation within groups (the seeds of each fold), pooled; None where no group has two."""
    variances = [statistics.variance(group) for group in groups if len(group) > 1]
    return math.sqrt(statistics.fmean(variances)) if variances else None
