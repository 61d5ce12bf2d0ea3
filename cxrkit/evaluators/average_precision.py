"""Average precision per label and its mean, each beside the prevalence, which is what a model that knows nothing gets.

Average precision (the area under the precision-recall curve, by steps) grows with prevalence. So it is compared between
models on the same test images, and never between splits: the report does not average it over them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cxrkit.base.contracts import Metric
from cxrkit.base.labels import LabelSet
from cxrkit.evaluators import auc
from cxrkit.evaluators.probabilities import Known, known_images, mean_over
from cxrkit.statistics import intervals, ranking, thresholds
from cxrkit.statistics.intervals import Support

NAME, PREVALENCE = "average_precision", "prevalence"


def evaluate(
    scores_NL: NDArray[np.float32],
    truth_NL: NDArray[np.float32],
    clusters_N: NDArray[np.intp],
    labels: LabelSet,
    *,
    replicates: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Iterator[Metric]:
    """Yield average precision and prevalence of each label, then the means of both over the averaged labels.

    replicates, seed: of the bootstrap over patients. confidence: of the intervals. Raises UserError when one of these
    cannot be, and where labels are amounts.
    """
    auc.check_settings(replicates, confidence)
    known = list(known_images(scores_NL, truth_NL, clusters_N, labels))
    drawn_RL = ranking.bootstrap(
        scores_NL,
        truth_NL > 0.5,
        clusters_N,
        known_NL=~np.isnan(truth_NL),
        replicates=replicates,
        seed=seed,
        statistic=ranking.weighted_average_precisions,
    )
    how = f"{100 * confidence:g} % logit-t with effective patients, {auc.drawn_how(replicates, seed)}"
    found, supports = {}, {}
    for one in known:
        supports[one.label] = rests_on = intervals.support(one.truth, one.clusters)
        precise = _precision(one)
        if precise.value is not None:
            precise = _with_interval(precise, drawn_RL[:, one.number], rests_on, confidence, how)
        found[one.label] = precise
        yield precise
        yield _prevalence(one, confidence)
    if not labels.averaged:
        return
    mean = mean_over(NAME, {label: metric.value for label, metric in found.items()}, labels)
    if mean.value is not None:
        defined = [label for label in labels.averaged if label in found and found[label].value is not None]
        columns = [labels.labels.index(label) for label in defined]
        weakest = Support.weakest([supports[label] for label in defined])
        mean = _with_interval(mean, drawn_RL[:, columns].mean(axis=1), weakest, confidence, how)
    yield mean
    yield mean_over(PREVALENCE, {one.label: float(one.truth.mean()) for one in known if len(one.truth)}, labels)


def _precision(one: Known) -> Metric:
    metric = Metric(NAME, None, one.label, positives=one.positives, negatives=one.negatives, reason=one.lacking)
    if one.lacking:  # without negatives it is 1, whatever the model says
        return replace(metric, interval=one.lacking)
    value, _ = thresholds.average_precision(one.scores, one.truth)
    return replace(metric, value=value, constant=bool((one.scores == one.scores[0]).all()))


def _with_interval(
    metric: Metric, drawn_R: NDArray[np.float64], rests_on: Support, confidence: float, how: str
) -> Metric:
    assert metric.value is not None
    found = intervals.of_replicates(metric.value, drawn_R, rests_on, confidence=confidence)
    return replace(
        metric,
        lower=found.lower,
        upper=found.upper,
        interval=found.said(how),
        mark=found.mark,
        positive_patients=rests_on.positive_patients,
        clusters_effective=rests_on.clusters_effective,
    )


def _prevalence(one: Known, confidence: float) -> Metric:
    found = thresholds.share(one.truth, np.ones(len(one.truth), bool), one.clusters, confidence=confidence)
    how = f"{100 * confidence:g} % logit-t with effective patients, of a ratio of sums over patients"
    return Metric(
        PREVALENCE,
        found.value,
        one.label,
        found.interval.lower,
        found.interval.upper,
        positives=one.positives,
        negatives=one.negatives,
        reason="" if found.images else "not known of any image",
        interval=found.interval.said(how),
        mark=found.interval.mark,
    )
