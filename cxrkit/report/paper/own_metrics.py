"""Metrics of evaluators of one's own: a table for each, after the paper's, with the runs that have it side by side.

cxrkit does not know what such a number means: which end of it is better, or what it may be compared with. So nothing is
in bold here, nothing published stands beside it, and each column says of which test images it is.
"""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from cxrkit.base import registry
from cxrkit.base.contracts import Metric
from cxrkit.base.labels import LabelSet
from cxrkit.report.document.tables import AVERAGE, EMPTY, UNCHECKED, Cell, Column, Row, Table, label_rows
from cxrkit.report.evidence.cells import run_heading
from cxrkit.report.evidence.metric_names import metric_name
from cxrkit.report.evidence.runs import AUC, Run
from cxrkit.report.evidence.variants import Variant, details, full_name, variant_of

_ELSEWHERE = {AUC, "auc_difference"}
_GROWING = {"average_precision", "prevalence", "ppv", "npv", "net_benefit", "net_benefit_of_all"}
_OF_INTERVALS = {"replicates", "seed", "confidence"}  # options that the intervals' own note names


def tables(runs: Iterable[Run], among: Sequence[Run] = ()) -> Iterator[Table]:
    """Yield a table per metric that is no AUC, of the runs that have it; runs on other labels stand in another table.

    Where no run has a number, as of what is fitted on validation predictions that are not there, there is no table.

    Runs on several splits that were trained on equal terms share a column: mean and standard deviation over the splits,
    but not of what grows with the prevalence. Metrics of a group of the images have a table by themselves; the AUCs of
    groups are in the document of subgroups (subgroups.py). among: all of the report's runs (variants.details).
    """
    found: dict[tuple[str, ...], list[Run]] = defaultdict(list)
    for run in runs:  # in the order in which their evaluators give them
        for what in dict.fromkeys((metric.name, metric.group) for metric in run.test.metrics):
            if what[0] not in _ELSEWHERE:
                found[*what, run.origin.dataset, run.origin.label_set, run.origin.labels_digest].append(run)
    alike = [key[:2] for key in found]
    for (name, group, dataset, *_), having in found.items():
        which = _Which(name, group)
        where = f", {dataset}" if alike.count((name, group)) > 1 else ""
        if any(metric.value is not None for run in having for metric in which.of(run).values()):
            yield _table(which, where, having, among)


@dataclass(frozen=True)
class _Which:
    """Which metrics a table is of."""

    name: str
    group: str

    @property
    def title(self) -> str:
        """What the numbers are called for people."""
        return metric_name(self.name) + f", {self.group}" * bool(self.group)

    @property
    def field(self) -> str:
        """What they are called in CSV and JSON."""
        return self.name + f" of {self.group}" * bool(self.group)

    @property
    def grows_with_prevalence(self) -> bool:
        """Whether the numbers of two test sets are no two draws of the same."""
        return self.name.partition("@")[0] in _GROWING

    def of(self, run: Run) -> dict[str, Metric]:
        """Return the metrics of a run by row key."""
        return {
            metric.label or AVERAGE: metric
            for metric in run.test.metrics
            if (metric.name, metric.group) == (self.name, self.group)
        }


def _table(which: _Which, where: str, runs: Sequence[Run], among: Sequence[Run]) -> Table:
    name = which.title
    pooled: dict[Variant, list[Run]] = defaultdict(list)
    for run in runs:
        pooled[variant_of(run)].append(run)
    words = details(pooled, {}, among)
    several = {variant for variant, group in pooled.items() if len({run.split for run in group}) == len(group) > 1}
    if which.grows_with_prevalence:
        several = set()
    columns, cells, notes = [], [], []
    alone = len({run.split for run in runs}) == 1  # then the title says which
    without = []
    for variant, group in pooled.items():
        for part in [group] if variant in several else [[run] for run in group]:
            spread = len(part) > 1
            split: tuple[str, ...] = () if alone else (f"{len(part)} splits" if spread else part[0].split,)
            if all(metric.value is None for run in part for metric in which.of(run).values()):
                without.append(", ".join((full_name(variant, words[variant]), *split)))
                continue
            full, doubts = ", ".join((full_name(variant, words[variant]), *split)), _doubts(part)
            columns.append(
                Column(
                    full,
                    (*run_heading(variant.name, words[variant], doubtful=bool(doubts)), *split),
                    (which.field,),
                    own=True,
                    doubts=tuple(doubts),
                )
            )
            cells.append(_spread_cells(which, part) if spread else _cells(which, part[0]))
            notes += [f"{UNCHECKED} {full}: {'; '.join(doubts)}"] * bool(doubts)
    if without:
        notes.append(f"Without a number: {'; '.join(without)} ({_reason(which, runs)})")
    return Table(
        f"{name} on the {f'test set of split {runs[0].split}' if alone else 'test sets'}{where}",
        "Pathology",
        tuple(columns),
        _rows(cells, runs[0].scores.labels),
        (*_how(which, runs, any_spread=bool(several)), *notes),
        key=f"metric-{re.sub(r'[^a-z0-9]+', '-', which.field.lower())}",
    )


def _reason(which: _Which, runs: Sequence[Run]) -> str:
    """Return why there is no number in a run that has none, as its first label says."""
    found = (metric.reason for run in runs for metric in which.of(run).values() if metric.value is None)
    return next(filter(None, found), "not defined")


def _rows(cells: Sequence[Mapping[str, Cell]], labels: LabelSet) -> tuple[Row, ...]:
    """Return the rows that have a cell: a metric may be of the labels alone, or of the whole alone."""
    return tuple(row for row in label_rows(cells, labels) if any(cell is not EMPTY for cell in row.cells))


def _cells(which: _Which, run: Run) -> dict[str, Cell]:
    return {key: _cell(which.field, metric) for key, metric in which.of(run).items()}


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


def _spread_cells(which: _Which, runs: Sequence[Run]) -> dict[str, Cell]:
    """Return mean and sample standard deviation over the splits in which the metric is defined."""
    found: dict[str, list[float | None]] = defaultdict(list)
    for run in runs:
        for key, metric in which.of(run).items():
            found[key].append(metric.value)
    return {key: _spread_cell(which.field, values, len(runs)) for key, values in found.items()}


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
    return f"{value:z.3f}" if value == 0 or 0.01 <= abs(value) < 1000 else f"{value:.3g}"


def _said(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


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


def _evaluators(which: _Which, run: Run) -> Iterator[str]:
    """Yield who found the numbers; of scores that do not say it, whoever may have."""
    found = {metric.evaluator for metric in which.of(run).values()}
    yield from sorted(found) if all(found) else (name for name in run.scores.evaluators if name != AUC)


def _how(which: _Which, runs: Sequence[Run], *, any_spread: bool) -> Iterator[str]:
    """Yield who found the numbers, and how their intervals were made."""
    by = dict.fromkeys(evaluator for run in runs for evaluator in _evaluators(which, run))
    foreign = any(registry.is_foreign("evaluator", evaluator) for evaluator in by)
    whose = ", not by cxrkit" if foreign else " of cxrkit"
    yield f"By {' and '.join(by)}{whose}: nothing published stands beside it, and none is marked as best"
    if which.grows_with_prevalence and len({run.split for run in runs}) > 1:
        yield f"{which.title} depends on the prevalence: columns of different splits are not to be compared"
    for run in runs:
        for evaluator, options in run.scores.options.items():
            said = [f"{key}={_said(value)}" for key, value in options.items() if key not in _OF_INTERVALS]
            if said and evaluator in by:
                yield f"{run.name}, {run.split}: {evaluator} with {', '.join(said)}"
    if any_spread:
        yield "±: sample standard deviation over the splits (n - 1)"
    if any(AVERAGE in which.of(run) for run in runs):
        yield f"{AVERAGE}: what the evaluator gives for all labels together"
    made = [metric.interval for run in runs for metric in which.of(run).values() if metric.lower is not None]
    yield from (f"Intervals: {how}" for how in dict.fromkeys(made) if how)
    if without := [run for run in runs if not run.has_auc]:
        names = f"{AUC},{without[0].scores.evaluator}"
        yield f"For the paper's tables as well: `cxrkit evaluate RUN --evaluator {names}`; `cxrkit train` takes it, too"
