"""Metrics of evaluators of one's own: a table for each, after the paper's, with the runs that have it side by side.

cxrkit does not know what such a number means: which end of it is better, or what it may be compared with. So nothing is
in bold here, nothing published stands beside it, and each column says of which test images it is.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from cxrkit.base import registry
from cxrkit.base.contracts import Metric
from cxrkit.base.labels import LabelSet
from cxrkit.report.cells import run_heading
from cxrkit.report.runs import AUC, Run
from cxrkit.report.tables import AVERAGE, EMPTY, UNCHECKED, Cell, Column, Row, Table, label_rows
from cxrkit.report.variants import Variant, details, full_name, variant_of


def tables(runs: Iterable[Run]) -> Iterator[Table]:
    """Yield a table per metric that is no AUC, of the runs that have it; runs on other labels stand in another table.

    Runs on several splits that were trained on equal terms share a column: mean and standard deviation over the splits.
    """
    groups: dict[tuple[str, ...], list[Run]] = defaultdict(list)
    for run in runs:
        for name in run.test.names:
            if name != AUC:
                groups[name, run.origin.dataset, run.origin.label_set, run.origin.labels_digest].append(run)
    alike = [key[0] for key in groups]
    for (name, dataset, *_), group in sorted(groups.items()):
        where = f", {dataset}" if alike.count(name) > 1 else ""
        yield _table(name, where, group)


def _table(name: str, where: str, runs: Sequence[Run]) -> Table:
    pooled: dict[Variant, list[Run]] = defaultdict(list)
    for run in runs:
        pooled[variant_of(run)].append(run)
    words = details(pooled, {})
    several = {variant for variant, group in pooled.items() if len({run.split for run in group}) == len(group) > 1}
    columns, cells, notes = [], [], []
    for variant, group in pooled.items():
        for part in [group] if variant in several else [[run] for run in group]:
            spread = len(part) > 1
            split = f"{len(part)} splits" if spread else part[0].split
            full, doubts = full_name(variant, words[variant]), _doubts(part)
            columns.append(
                Column(
                    f"{full} {split}",
                    (*run_heading(variant.name, words[variant], doubtful=bool(doubts)), split),
                    (name,),
                    own=True,
                    doubts=tuple(doubts),
                )
            )
            cells.append(_spread_cells(name, part) if spread else _cells(name, part[0]))
            notes += [f"{UNCHECKED} {full} {split}: {'; '.join(doubts)}"] * bool(doubts)
    return Table(
        f"{name} on the test sets{where}",
        "Pathology",
        tuple(columns),
        _rows(cells, runs[0].scores.labels),
        (*_how(name, runs, any_spread=bool(several)), *notes),
        key=f"metric-{name}",
    )


def _rows(cells: Sequence[Mapping[str, Cell]], labels: LabelSet) -> tuple[Row, ...]:
    """Return the rows that have a cell: a metric may be of the labels alone, or of the whole alone."""
    return tuple(row for row in label_rows(cells, labels) if any(cell is not EMPTY for cell in row.cells))


def _metrics(name: str, run: Run) -> dict[str, Metric]:
    return {metric.label or AVERAGE: metric for metric in run.test.metrics if metric.name == name}


def _cells(name: str, run: Run) -> dict[str, Cell]:
    return {key: _cell(name, metric) for key, metric in _metrics(name, run).items()}


def _cell(name: str, metric: Metric) -> Cell:
    values = {name: metric.value, "lower": metric.lower, "upper": metric.upper, "n_eff": metric.clusters_effective}
    if metric.value is None:
        return Cell(f"n/a ({metric.reason})" if metric.reason else "n/a", values)
    text = _number(metric.value)
    if metric.lower is not None and metric.upper is not None:
        text += f" [{_number(metric.lower)}, {_number(metric.upper)}]"
    if metric.reason:
        text += f" ({metric.reason})"
    return Cell(text, values)


def _spread_cells(name: str, runs: Sequence[Run]) -> dict[str, Cell]:
    """Return mean and sample standard deviation over the splits in which the metric is defined."""
    found: dict[str, list[float | None]] = defaultdict(list)
    for run in runs:
        for key, metric in _metrics(name, run).items():
            found[key].append(metric.value)
    return {key: _spread_cell(name, values, len(runs)) for key, values in found.items()}


def _spread_cell(name: str, values: Sequence[float | None], splits: int) -> Cell:
    defined = [value for value in values if value is not None]
    if not defined:
        return Cell("n/a", {name: None, "splits": 0})
    mean, std = statistics.mean(defined), statistics.stdev(defined) if len(defined) > 1 else None
    text = _number(mean) + ("" if std is None else f" ± {_number(std)}")
    if len(defined) < splits:
        text += f" ({len(defined)} of {splits})"
    return Cell(text, {name: mean, "std": std, "splits": len(defined)})


def _number(value: float) -> str:
    """Return three decimals, or three digits of what is very small or large."""
    return f"{value:.3f}" if value == 0 or 0.01 <= abs(value) < 1000 else f"{value:.3g}"


def _doubts(runs: Sequence[Run]) -> list[str]:
    """Return how much of their subsets the runs of a column left out."""
    doubts = []
    for run in runs:
        where = f" of {run.split}" if len(runs) > 1 else ""
        if not run.test.complete:
            doubts.append(f"{run.test.images:,} of {run.test.subset_images:,} test images{where}")
        if run.origin.train_images and not run.origin.complete:
            used, whole = run.origin.train_images, run.origin.train_subset_images
            doubts.append(f"trained on {used:,} of {whole:,} images{where}")
    return doubts


def _how(name: str, runs: Sequence[Run], *, any_spread: bool) -> Iterator[str]:
    """Yield who found the numbers, and how their intervals were made."""
    by = dict.fromkeys(evaluator for run in runs for evaluator in run.scores.evaluators if evaluator != AUC)
    foreign = any(registry.is_foreign("evaluator", evaluator) for evaluator in by)
    whose = ", not by cxrkit" if foreign else " of cxrkit"
    yield f"By {' and '.join(by)}{whose}: nothing published stands beside it, and none is marked as best"
    if any_spread:
        yield "±: sample standard deviation over the splits (n - 1)"
    if any(AVERAGE in _metrics(name, run) for run in runs):
        yield f"{AVERAGE}: what the evaluator gives for all labels together"
    made = [metric.interval for run in runs for metric in _metrics(name, run).values() if metric.lower is not None]
    yield from (f"Intervals: {how}" for how in dict.fromkeys(made) if how)
    if without := [run for run in runs if not run.has_auc]:
        names = f"{AUC},{without[0].scores.evaluator}"
        yield f"For the paper's tables as well: `cxrkit evaluate RUN --evaluator {names}`; `cxrkit train` takes it, too"
