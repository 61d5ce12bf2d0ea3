"""What a model says with thresholds that Youden's index chose on val: sensitivity, specificity, PPV and NPV.

A threshold is chosen on the validation images and stays as it is: chosen on the images that are counted, it would
flatter every one of these.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from cxrkit.base.contracts import Metric, Validation
from cxrkit.base.labels import LabelSet
from cxrkit.evaluators.probabilities import known_images
from cxrkit.statistics import thresholds
from cxrkit.statistics.thresholds import Share, Threshold

THRESHOLD = "threshold"
SHARES = ("sensitivity", "specificity", "ppv", "npv")


def evaluate(
    scores_NL: NDArray[np.float32],
    truth_NL: NDArray[np.float32],
    clusters_N: NDArray[np.intp],
    labels: LabelSet,
    *,
    validation: Validation | None = None,
    confidence: float = 0.95,
) -> Iterator[Metric]:
    """Yield threshold, sensitivity, specificity, PPV and NPV of each label.

    An image is called positive where its score is at least the threshold. validation: where thresholds are chosen;
    without it there are none. A threshold of fewer than 30 patients is marked as approximate. The intervals are over
    patients, with the threshold as it is. Raises UserError where labels are amounts.
    """
    for one in known_images(scores_NL, truth_NL, clusters_N, labels):
        chosen = None if validation is None else youden_on(validation, one.number)
        if chosen is None or math.isnan(chosen.value):
            why = "no validation predictions" if validation is None else "validation images of one kind only"
            yield from (Metric(name, None, one.label, reason=f"no threshold: {why}") for name in (THRESHOLD, *SHARES))
            continue
        few = f"; {chosen.support.reason}" if chosen.support.mark else ""
        yield Metric(
            THRESHOLD,
            chosen.value,
            one.label,
            reason=f"chosen on val by Youden's index{few}",
            mark=chosen.support.mark,
        )
        point = thresholds.operating_point(one.scores, one.truth, one.clusters, chosen.value, confidence=confidence)
        how = f"{100 * confidence:g} % logit-t with effective patients, of a ratio of sums over patients"
        yield _metric("sensitivity", one.label, point.sensitivity, how, positive=True)
        yield _metric("specificity", one.label, point.specificity, how, positive=False)
        yield _metric("ppv", one.label, point.positive_predictive_value, how)
        yield _metric("npv", one.label, point.negative_predictive_value, how)


def youden_on(validation: Validation, number: int) -> Threshold:
    """Return the threshold of the label in column `number` that Youden's index chooses on the validation images."""
    score_N, truth_N = validation.scores[:, number], validation.truth[:, number]
    known_N = ~np.isnan(truth_N)
    return thresholds.youden(score_N[known_N], truth_N[known_N] > 0.5, validation.clusters[known_N])


def _metric(name: str, label: str, found: Share, how: str, *, positive: bool | None = None) -> Metric:
    """Return a share of some images as a metric, with its interval or the reason why it has none.

    positive: whether these are the images with the label, or those without it; None: those that are called so.
    """
    of = "called so" if positive is None else "positives" if positive else "negatives"
    interval = found.interval
    return Metric(
        name,
        found.value,
        label,
        interval.lower,
        interval.upper,
        positives=found.images if positive else None,
        negatives=found.images if positive is False else None,
        reason="" if found.images else f"0 {of}",
        interval=interval.said(how),
        mark=interval.mark,
    )
