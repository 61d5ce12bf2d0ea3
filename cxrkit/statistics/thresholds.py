"""What a model says once a threshold is fixed: Youden's threshold from val; sensitivity, specificity, PPV, NPV on test.

The intervals are over patients. Each of the four is a share of some images (the ill, the healthy, those called ill),
hence a ratio of two sums over patients, whose variance is that of the linearised ratio; the interval is symmetric in
the logit, with Student's t of the effective patients less one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxrkit.statistics import intervals, ranking
from cxrkit.statistics.intervals import Interval, Support


@dataclass(frozen=True)
class Threshold:
    """A threshold that was chosen on some images, which are not those that it is judged on."""

    value: float
    """A score of at least this is called ill; NaN where there was no positive or no negative."""

    youden: float
    """Sensitivity + specificity - 1 on the images that it was chosen on."""

    support: Support
    """What it was chosen on; with fewer than 30 positive patients it is a matter of chance (`support.mark`)."""


@dataclass(frozen=True)
class Share:
    """A sensitivity, a specificity or a predictive value."""

    value: float | None
    """The share; None where it is of no image."""

    images: int
    """Of how many images it is."""

    patients: int
    """Of how many patients these are."""

    interval: Interval
    """Over patients."""


@dataclass(frozen=True)
class OperatingPoint:
    """A model with a fixed threshold, on the images of one label."""

    sensitivity: Share
    """Of the ill, those called ill."""

    specificity: Share
    """Of the healthy, those called healthy."""

    positive_predictive_value: Share
    """Of those called ill, the ill; it depends on the prevalence, so it holds for this test set."""

    negative_predictive_value: Share
    """Of those called healthy, the healthy; it depends on the prevalence as well."""


def youden(score_N: NDArray[np.floating], truth_N: NDArray[np.bool_], cluster_N: NDArray[np.intp]) -> Threshold:
    """Return the threshold with the highest sensitivity + specificity - 1; of several such, the highest one.

    cluster_N: the number of each image's patient, from 0.
    """
    rests_on = intervals.support(truth_N, cluster_N)
    positives, negatives = int(truth_N.sum()), int((~truth_N).sum())
    if not positives or not negatives:
        return Threshold(float("nan"), float("nan"), rests_on)
    score_T = np.unique(score_N)[::-1]
    caught_T = positives - np.searchsorted(np.sort(score_N[truth_N]), score_T, "left")
    alarms_T = negatives - np.searchsorted(np.sort(score_N[~truth_N]), score_T, "left")
    # Whole numbers, so that a tie is one.
    best = int(np.argmax(caught_T * negatives - alarms_T * positives))
    index = caught_T[best] / positives - alarms_T[best] / negatives
    return Threshold(float(score_T[best]), float(index), rests_on)


def operating_point(
    score_N: NDArray[np.floating],
    truth_N: NDArray[np.bool_],
    cluster_N: NDArray[np.intp],
    threshold: float,
    *,
    confidence: float = 0.95,
) -> OperatingPoint:
    """Return what a model with this threshold does on these images; a score of at least `threshold` is called ill."""
    called_N = score_N >= threshold
    return OperatingPoint(
        share(called_N, truth_N, cluster_N, confidence=confidence),
        share(~called_N, ~truth_N, cluster_N, confidence=confidence),
        share(truth_N, called_N, cluster_N, confidence=confidence),
        share(~truth_N, ~called_N, cluster_N, confidence=confidence),
    )


def share(
    hit_N: NDArray[np.bool_], of_N: NDArray[np.bool_], cluster_N: NDArray[np.intp], *, confidence: float = 0.95
) -> Share:
    """Return the share of the images `of_N` that are `hit_N`, with its interval over patients."""
    images, hits = int(of_N.sum()), int((hit_N & of_N).sum())
    if not images:
        return Share(None, 0, 0, Interval(None, None, reason="of no image"))
    images_K = np.bincount(cluster_N[of_N])
    hits_K = np.bincount(cluster_N[hit_N & of_N], minlength=len(images_K))
    patients = int(np.count_nonzero(images_K))
    value = hits / images
    effective = float(images**2 / (images_K.astype(float) ** 2).sum())
    if patients < intervals.MIN_PATIENTS or effective <= 2:
        reason = f"{patients} patients" + f" that count as {effective:.1f}" * (patients >= intervals.MIN_PATIENTS)
        return Share(value, images, patients, Interval(None, None, intervals.TOO_FEW, reason))
    few = patients < intervals.FEW_PATIENTS
    mark, reason = (intervals.APPROXIMATE, f"{patients} patients") if few else ("", "")
    if hits in (0, images):
        lower, upper = _all_or_none(hits == images, effective, confidence)
    else:
        deviation_K = hits_K - value * images_K
        variance = patients / (patients - 1) * float((deviation_K**2).sum()) / images**2
        spread = np.sqrt(variance) / (value * (1 - value))  # of the logit
        lower, upper = intervals.on_logit_scale(value, spread, effective - 1, confidence)
    return Share(value, images, patients, Interval(lower, upper, mark, reason))


def _all_or_none(every: bool, effective: float, confidence: float) -> tuple[float, float]:
    """Return the exact interval (Clopper and Pearson 1934) of all, or none, of as many draws as effective patients."""
    beyond = 1 - ((1 - confidence) / 2) ** (1 / effective)
    return (1 - beyond, 1.0) if every else (0.0, beyond)


def average_precision(score_N: NDArray[np.floating], truth_N: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the average precision and the prevalence, which is what a model that knows nothing reaches.

    Average precision grows with prevalence: it is never compared across test sets. NaN where there is no positive.
    """
    if not truth_N.any():
        return float("nan"), 0.0
    return ranking.average_precision(score_N, truth_N), float(truth_N.mean())
