"""From what was found to rates: accuracy and false boxes at a threshold, the pointing game, the masks' IoU.

Wang et al. 2017: a true box is hit if some found box has an IoU, or an IoBB, of more than T with it; accuracy is the
share of true boxes that are hit, AFP the mean number of found boxes that hit none, here per image that has a box of the
finding. Pointing game (Zhang et al. 2018, arXiv 1608.00507): whether the likeliest point lies in a true box, without a
margin. Intervals and differences are over patients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxrkit.explain import regions
from cxrkit.explain.cases import Boxed, Found
from cxrkit.statistics import intervals, ranking
from cxrkit.statistics.intervals import Interval
from cxrkit.statistics.thresholds import Share, share

IOBB, IOU = "IoBB", "IoU"
# The thresholds of Wang et al.'s tables.
THRESHOLDS = {IOBB: (0.1, 0.25, 0.5, 0.75, 0.9), IOU: (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)}
_FIT = {IOBB: regions.iobb, IOU: regions.iou}


@dataclass(frozen=True)
class Rate:
    """Hits and tries, one entry for each true box or each case of a finding."""

    hits: NDArray[np.float64]
    """(G,) 1 for a hit and 0 for a miss; an amount between them for a mean of amounts."""

    patients: NDArray[np.intp]
    """(G,) the number of each one's patient."""

    @property
    def value(self) -> float:
        """The share of hits; NaN of none."""
        return float(self.hits.mean()) if len(self.hits) else float("nan")

    def share(self) -> Share:
        """Return the share of hits with its interval over patients (statistics/thresholds.py)."""
        return share(self.hits > 0.5, np.ones(len(self.hits), bool), self.patients)

    def drawn(self, weight_RK: NDArray[np.int32]) -> NDArray[np.float64]:
        """Return the share under each row of patients' weights, (R,); NaN where no patient of it is drawn."""
        patients = weight_RK.shape[1]
        hits_K = np.bincount(self.patients, self.hits, patients)
        tries_K = np.bincount(self.patients, minlength=patients)
        tries_R = (weight_RK @ tries_K).astype(np.float64)
        drawn_R: NDArray[np.float64] = np.full(len(weight_RK), np.nan)
        np.divide(weight_RK @ hits_K, tries_R, out=drawn_R, where=tries_R > 0)
        return drawn_R


@dataclass(frozen=True)
class Measures:
    """What somebody's boxes, points and masks of one finding are worth."""

    hit: Mapping[tuple[str, float], Rate]
    """By criterion and threshold: whether each true box is hit."""

    false_boxes: Mapping[tuple[str, float], float]
    """By criterion and threshold: boxes that hit nothing, for each image with the finding (AFP)."""

    pointing: Rate
    """Whether the point of each case lies in a box."""

    mask_iou: Rate
    """Of each case: not hits, but IoUs."""


def measures(cases: Sequence[Boxed], found: Sequence[Found], patients: Sequence[str]) -> dict[str, Measures]:
    """Return the measures by finding; patients: all patients' names, in the order that numbers them."""
    number = {name: place for place, name in enumerate(patients)}
    by_label: dict[str, list[tuple[Boxed, Found]]] = {}
    for case, item in zip(cases, found, strict=True):
        by_label.setdefault(case.label, []).append((case, item))
    return {label: _of_finding(pairs, number) for label, pairs in by_label.items()}


def _of_finding(pairs: Sequence[tuple[Boxed, Found]], number: Mapping[str, int]) -> Measures:
    whose = np.array([number[case.patient_id] for case, _ in pairs], np.intp)
    whose_box = np.repeat(whose, [len(case.boxes) for case, _ in pairs])
    pointed = np.array([item.point is not None and regions.inside(case.boxes, item.point) for case, item in pairs])
    hit, false_boxes = {}, {}
    for criterion, thresholds in THRESHOLDS.items():
        fits = [_FIT[criterion](item.boxes, case.boxes) for case, item in pairs]  # (P, Q) each
        of_true = np.concatenate([fit.max(axis=0, initial=0.0) for fit in fits])
        of_found = np.concatenate([fit.max(axis=1, initial=0.0) for fit in fits])
        for threshold in thresholds:
            hit[criterion, threshold] = Rate((of_true > threshold).astype(np.float64), whose_box)
            false_boxes[criterion, threshold] = int(np.count_nonzero(of_found <= threshold)) / len(pairs)
    overlap = np.array([item.mask_iou for _, item in pairs])
    return Measures(hit, false_boxes, Rate(pointed.astype(np.float64), whose), Rate(overlap, whose))


@dataclass(frozen=True)
class Difference:
    """How much more of something one has than another, in the mean over findings."""

    value: float
    """Of the one, less that of the other."""

    interval: Interval
    """Percentiles of a bootstrap over patients, both on the same ones."""


def mean(rates: Sequence[Rate]) -> float:
    """Return the unweighted mean over findings; NaN of none."""
    return float(np.mean([rate.value for rate in rates])) if rates else float("nan")


def difference(
    one: Sequence[Rate], other: Sequence[Rate], patients: int, *, replicates: int = 1000, seed: int = 0
) -> Difference:
    """Return the mean of `one` less that of `other`, finding by finding the same cases, whose patients are shared."""
    weight_RK = ranking.draw(patients, replicates, seed)
    drawn_FR = [left.drawn(weight_RK) - right.drawn(weight_RK) for left, right in zip(one, other, strict=True)]
    if not drawn_FR:
        return Difference(float("nan"), Interval(None, None, reason="of no finding"))
    # A replicate counts only where all findings have a patient.
    return Difference(mean(one) - mean(other), _interval(np.mean(drawn_FR, axis=0)))


def mean_interval(rates: Sequence[Rate], patients: int, *, replicates: int = 1000, seed: int = 0) -> Interval:
    """Return the interval of the mean over findings: percentiles of a bootstrap over patients."""
    if not rates:
        return Interval(None, None, reason="of no finding")
    weight_RK = ranking.draw(patients, replicates, seed)
    return _interval(np.mean([rate.drawn(weight_RK) for rate in rates], axis=0))


def _interval(drawn_R: NDArray[np.float64]) -> Interval:
    defined = drawn_R[~np.isnan(drawn_R)]
    if len(defined) and not np.ptp(defined) > 1e-12:
        return Interval(None, None, reason="every replicate is the same")  # all hit, or none: no spread to go by
    return intervals.of_percentiles(drawn_R)
