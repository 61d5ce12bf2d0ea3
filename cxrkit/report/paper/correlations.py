"""How alike the predictions of runs are, split by split: what Table 4 is made of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cxrkit.report.evidence.keeping import Arrays
from cxrkit.report.evidence.opened import Derivation, Evidence, Opened
from cxrkit.report.evidence.runs import Run
from cxrkit.statistics import rank_correlation

Pairs = dict[tuple[int, int], dict[str, float]]  # by the places of two models, their correlation on each split


def _ranks(evidence: Evidence) -> Arrays:
    labels = [evidence.labels.labels.index(label) for label in evidence.labels.averaged]
    return {"ranks": rank_correlation.ranks(evidence.scores[:, labels])}


RANKS = Derivation("ranks", 1, _ranks)


def of_pairs(models: Sequence[Sequence[Run]], opened: Opened) -> Pairs:
    """Return the correlation of each two models, the lower place first, on each split where both have the same images.

    Of seeds, the mean over all pairs of one's and the other's.
    """
    groups: dict[tuple[str, str], list[tuple[int, Run]]] = defaultdict(list)
    for place, runs in enumerate(models):
        for run in runs:
            groups[run.split, run.test.images_digest].append((place, run))
    pairs: Pairs = {(one, other): {} for other in range(len(models)) for one in range(other)}
    for (split, _), members in sorted(groups.items()):
        mean_QQ = _mean_over_labels([opened.derived(run, RANKS)["ranks"] for _, run in members])
        by_pair: dict[tuple[int, int], list[float]] = defaultdict(list)
        for row, (one, _) in enumerate(members):
            for column, (other, _) in enumerate(members):
                if one < other:
                    by_pair[one, other].append(float(mean_QQ[row, column]))
        for pair, values in by_pair.items():
            pairs[pair][split] = float(np.mean(values))
    return pairs


def _mean_over_labels(ranks: Sequence[NDArray[np.generic]]) -> NDArray[np.float64]:
    """Return the correlations of all pairs averaged over the labels, shape (Q, Q); NaN where one is undefined."""
    return np.asarray(rank_correlation.correlations([np.asarray(item, np.float32) for item in ranks]).mean(axis=0))
