"""AUCs with intervals over patients as cells of a table."""

from __future__ import annotations

from cxrkit.report.document.tables import EMPTY, ROUGHLY, Cell, Number
from cxrkit.statistics import intervals
from cxrkit.statistics.clustered import Estimate
from cxrkit.statistics.intervals import APPROXIMATE, Interval


def auc_cell(one: Estimate | None, *, interval: bool = True) -> Cell:
    """Return an AUC in three decimals with its interval, or how few patients there are; "-" where there is none."""
    if one is None or one.value != one.value:
        return EMPTY
    found = intervals.of_estimate(one)
    return value_cell(one.value, found, "auc", interval=interval)


def value_cell(value: float, found: Interval, name: str, *, decimals: int = 3, interval: bool = True) -> Cell:
    """Return a value with its interval; name: what CSV calls it."""
    values: dict[str, Number] = {name: value, "lower": found.lower, "upper": found.upper}
    roughly = ROUGHLY * (found.mark == APPROXIMATE)
    values |= {"approximate": 1} if roughly else {}
    text = f"{value:.{decimals}f}"
    if not interval:
        return Cell(text, values)
    if found.lower is None or found.upper is None:
        reason = found.reason.partition(" with")[0] if found.mark else ""  # an AUC of 1 explains itself
        return Cell(f"{text} ({reason})" if reason else text, values)
    return Cell(f"{text} {roughly}[{found.lower:.{decimals}f}, {found.upper:.{decimals}f}]", values)


def count_cell(count: int, name: str) -> Cell:
    """Return a whole number; name: what CSV calls it."""
    return Cell(f"{count:,}", {name: count})
