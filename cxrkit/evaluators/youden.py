"""AUC, and sensitivity and specificity at the threshold that Youden's index chooses on the validation images.

Baltruschat et al. 2019, section 3, of their probes for sex and view: "After choosing the optimal threshold based on
Youden index, we calculated a sensitivity and specificity". On which images it was chosen they do not say. Here it is
chosen on val and stays as it is for test: chosen on the images that are counted, it would flatter both.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from cxrkit.base.contracts import Metric, Validation
from cxrkit.base.labels import LabelSet
from cxrkit.evaluators import auc
from cxrkit.statistics import thresholds
from cxrkit.statistics.thresholds import Share, Threshold

_NAMES = ("threshold", "sensitivity", "specificity")


def evaluate(
    scores_NL: NDArray[np.float32],
    truth_NL: NDArray[np.float32],
    clusters_N: NDArray[np.intp],
    labels: LabelSet,
    *,
    validation: Validation | None = None,
    replicates: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Iterator[Metric]:
    """Yield the metrics of evaluators.auc, then threshold, sensitivity and specificity of each label.

    An image is called positive where its score is at least the threshold. validation: where thresholds are chosen;
    without it there are none. The intervals are over patients, with the threshold as it is. Raises UserError for
    settings that cannot be.
    """
    yield from auc.evaluate(
        scores_NL, truth_NL, clusters_N, labels, replicates=replicates, seed=seed, confidence=confidence
    )
    for number, label in enumerate(labels.labels):
        chosen = None if validation is None else _chosen(validation, number)
        if chosen is None or math.isnan(chosen.value):
            why = "no validation predictions" if validation is None else "validation images of one kind only"
            yield from (Metric(name, None, label, reason=f"no threshold: {why}") for name in _NAMES)
            continue
        few = f"; {chosen.support.reason}" if chosen.support.mark else ""
        yield Metric("threshold", chosen.value, label, reason=f"chosen on val by Youden's index{few}")
        known_N = ~np.isnan(truth_NL[:, number])
        point = thresholds.operating_point(
            scores_NL[known_N, number],
            truth_NL[known_N, number] > 0.5,
            clusters_N[known_N],
            chosen.value,
            confidence=confidence,
        )
        how = f"{100 * confidence:g} % logit-t with effective patients, of a ratio of sums over patients"
        yield _metric("sensitivity", label, point.sensitivity, how)
        yield _metric("specificity", label, point.specificity, how)


def _chosen(validation: Validation, number: int) -> Threshold:
    score_N, truth_N = validation.scores[:, number], validation.truth[:, number]
    known_N = ~np.isnan(truth_N)
    return thresholds.youden(score_N[known_N], truth_N[known_N] > 0.5, validation.clusters[known_N])


def _metric(name: str, label: str, found: Share, how: str) -> Metric:
    """Return a share of the images of one kind as a metric, with its interval or the reason why it has none."""
    positive, interval = name == "sensitivity", found.interval
    return Metric(
        name,
        found.value,
        label,
        interval.lower,
        interval.upper,
        positives=found.images if positive else None,
        negatives=None if positive else found.images,
        reason="" if found.images else f"0 {'positives' if positive else 'negatives'}",
        interval=interval.said(how),
        mark=interval.mark,
    )
