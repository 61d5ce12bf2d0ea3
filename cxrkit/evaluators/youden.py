"""AUC, and sensitivity and specificity at the threshold that Youden's index chooses on the validation images.

Baltruschat et al. 2019, section 3, of their probes for sex and view: "After choosing the optimal threshold based on
Youden index, we calculated a sensitivity and specificity". On which images it was chosen they do not say. Here it is
chosen on val and stays as it is for test: chosen on the images that are counted, it would flatter both.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from cxrkit.base.contracts import Metric, Validation
from cxrkit.base.labels import LabelSet
from cxrkit.evaluators import auc
from cxrkit.statistics import ranking

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
    weight_RK = ranking.draw(int(clusters_N.max()) + 1, replicates, seed)
    interval = partial(auc.percentile_interval, confidence=confidence, how=auc.method(replicates, seed, confidence))
    for number, label in enumerate(labels.labels):
        threshold = None if validation is None else _best(validation, number)
        if threshold is None:
            why = "no validation predictions" if validation is None else "validation images of one kind only"
            yield from (Metric(name, None, label, reason=f"no threshold: {why}") for name in _NAMES)
            continue
        yield Metric("threshold", threshold, label, reason="chosen on val by Youden's index")
        for name, positive in (("sensitivity", True), ("specificity", False)):
            counted_N = truth_NL[:, number] == float(positive)  # NaN is neither
            right_N = counted_N & ((scores_NL[:, number] >= threshold) == positive)
            count = int(counted_N.sum())
            metric = Metric(
                name, None, label, positives=count if positive else None, negatives=None if positive else count
            )
            if not count:
                yield replace(metric, reason="0 positives" if positive else "0 negatives")
                continue
            lower, upper, how = interval(_drawn_shares(right_N, counted_N, clusters_N, weight_RK))
            yield replace(metric, value=float(right_N.sum() / count), lower=lower, upper=upper, interval=how)


def youden_threshold(score_N: NDArray[np.floating], truth_N: NDArray[np.bool_]) -> float:
    """Return the score at which sensitivity + specificity - 1 is largest, counting scores of at least it as positive.

    Of several such scores the highest. There must be positives and negatives.
    """
    order = np.argsort(-score_N, kind="stable")
    score_N, truth_N = score_N[order], truth_N[order]
    # Times positives and negatives, so that equal ones are equal to the last digit.
    found_N = np.cumsum(truth_N) * int((~truth_N).sum()) - np.cumsum(~truth_N) * int(truth_N.sum())
    last_of_its_score = np.flatnonzero(np.append(score_N[1:] != score_N[:-1], True))
    return float(score_N[last_of_its_score[np.argmax(found_N[last_of_its_score])]])


def _best(validation: Validation, number: int) -> float | None:
    score_N, truth_N = validation.scores[:, number], validation.truth[:, number]
    known_N = ~np.isnan(truth_N)
    positive_N = truth_N[known_N] > 0.5
    if not positive_N.any() or positive_N.all():
        return None
    return youden_threshold(score_N[known_N], positive_N)


def _drawn_shares(
    right_N: NDArray[np.bool_], counted_N: NDArray[np.bool_], clusters_N: NDArray[np.intp], weight_RK: NDArray[np.int32]
) -> NDArray[np.float64]:
    """Return which share of the counted images is right in each replicate of drawn patients; NaN: none was drawn."""
    patients = weight_RK.shape[1]
    with np.errstate(invalid="ignore"):  # 0 / 0: undefined
        shares_R: NDArray[np.float64] = (weight_RK @ np.bincount(clusters_N, right_N, patients)) / (
            weight_RK @ np.bincount(clusters_N, counted_N, patients)
        )
    return shares_R
