"""Figure 5 of Baltruschat et al. 2019: the mean over the folds with its extremes, beside other groups' own splits.

The paper's point, and that of this figure: how far one network's AUC goes from split to split, against the distances
between published numbers, each of them on one split that nobody else has. Nothing in it is a fair comparison.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from cxrkit.base.labels import CHESTXRAY14
from cxrkit.report.document.figures import Axis, Figure, Panel, Ranges
from cxrkit.report.evidence.comparability import Verdict
from cxrkit.report.evidence.epochs import AtEpochs
from cxrkit.report.evidence.runs import Run
from cxrkit.report.evidence.variants import Variant, details, full_name
from cxrkit.report.literature import works
from cxrkit.report.literature.published import Table3, of_the_paper

# Which groups the paper's figure shows is drawn there, not printed; these published an AUC for each pathology before
# it, on random splits of their own. Then the paper's own column of Table 3, whose extremes are not printed.
OTHERS = {
    "wang2017-early": "Wang 2017",
    "yao2017": "Yao 2017",
    "chexnet2017-v3": "Rajpurkar 2017",
    "baltruschat2019-5fold": "Baltruschat 2019, Table 3",
}


def figure5(at: AtEpochs, table: Table3, among: Iterable[Run] = ()) -> list[Figure]:
    """Return Figure 5 of the best of the columns of `at`; none where there is no column.

    The best is the one with the highest mean AUC over its folds, among those with all folds of `table` where there are
    any. Its interval goes from the lowest to the highest fold; several seeds are averaged in each fold first. among:
    all of the report's runs (variants.details).
    """
    if not at.columns:
        return []
    best = _best(at.columns, table.folds)
    members = at.columns[best]
    found = {label: _by_fold(members, label) for label in CHESTXRAY14.averaged}
    others = {name: works.get(key).by_label for key, name in OTHERS.items()}
    order = _order(found, others.values())
    name = full_name(best, at.words(details(at.columns, table.columns, among))[best])
    folds = len({verdict.run.split for verdict in members})
    marks = [_own(name, [found[label] for label in order])]
    marks += [_published(group, [auc.get(label, math.nan) for label in order]) for group, auc in others.items()]
    panel = Panel("", tuple(marks), x=Axis("AUC"), categories=tuple(map(CHESTXRAY14.heading, order)), across="y")
    return [
        Figure("figure5", "Our mean over the folds beside other groups", _caption(name, folds, table, at), (panel,))
    ]


def _best(columns: Mapping[Variant, Sequence[Verdict]], folds: int) -> Variant:
    def rank(variant: Variant) -> tuple[bool, float]:
        members = columns[variant]
        complete = len({verdict.run.split for verdict in members}) == folds
        return complete, statistics.fmean(_by_fold(members, None) or [-math.inf])

    return max(columns, key=rank)


def _by_fold(members: Sequence[Verdict], label: str | None) -> list[float]:
    """Return the AUC of a label, or the mean, in each fold in which it has one, averaged over its seeds."""
    folds: dict[str, list[float]] = defaultdict(list)
    for verdict in members:
        metric = verdict.run.auc(label)
        if metric is not None and metric.value is not None:
            folds[verdict.run.split].append(metric.value)
    return [statistics.fmean(seeds) for seeds in folds.values()]


def _order(found: Mapping[str, Sequence[float]], others: Iterable[Mapping[str, float]]) -> list[str]:
    """Return the pathologies by rising average over all groups, as the paper sorts them."""
    groups = [{label: statistics.fmean(values) for label, values in found.items() if values}, *others]

    def average(label: str) -> float:
        return statistics.fmean([group[label] for group in groups if label in group] or [0.0])

    return sorted(CHESTXRAY14.averaged, key=average)


def _own(name: str, by_label: Sequence[Sequence[float]]) -> Ranges:
    def of(choose: Callable[[Sequence[float]], float], least: int) -> tuple[float, ...]:
        return tuple(choose(values) if len(values) >= least else math.nan for values in by_label)

    return Ranges(name, of(statistics.fmean, 1), of(min, 2), of(max, 2))


def _published(name: str, values: Sequence[float]) -> Ranges:
    nothing = (math.nan,) * len(values)
    return Ranges(name, tuple(values), nothing, nothing, hollow=True)


def _caption(name: str, folds: int, table: Table3, at: AtEpochs) -> str:
    extremes = (
        f"from the lowest to the highest of {folds} folds" if folds > 1 else "one fold alone, so without extremes"
    )
    missing = f" of {table.folds}" if 1 < folds < table.folds else ""
    best = f", the best of {len(at.columns)} set-ups" if len(at.columns) > 1 else ""
    return (
        f"{name}{best}: mean test AUC, {extremes}{missing}. Hollow: AUCs of other groups, as published, each on a "
        f"random split of its own, and the means of {of_the_paper('Table 3')}. None of them is on our splits: a "
        "distance shorter than the bars says nothing of which is better. Pathologies by rising average over all, as in "
        "Figure 5 there."
    )
