"""Confidence intervals of AUCs and of their means, from the replicates of a bootstrap over patients.

    logit(AUC) +- t(n - 1) * SD of logit(AUC*),   back-transformed

where AUC* are the replicates and n is the effective number of patients (clustered.effective_clusters). The percentile
interval of the same replicates is too narrow for findings of few patients: with 14 to 32 patients it covers 83 to 91 %
instead of 95 %, this one 91 to 95 % (benchmarks/results/statistics). For the mean over labels the smallest n of its
labels is rather too small: it covers 97 to 98 %. Below ten patients no interval can be trusted, and none is given.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxrkit.base.words import count as counted
from cxrkit.statistics.clustered import Estimate, effective_clusters

MIN_PATIENTS, FEW_PATIENTS = 10, 30
APPROXIMATE, TOO_FEW = "approximate", "too few patients"
# An interval is given only where at least this share of the replicates defines the AUC.
DEFINED_SHARE = 0.9


@dataclass(frozen=True)
class Interval:
    """A confidence interval and how far it can be trusted, or why there is none."""

    lower: float | None
    """Lower bound; None where there is no interval."""

    upper: float | None
    """Upper bound; None where there is no interval."""

    mark: str = ""
    """APPROXIMATE, TOO_FEW, or nothing."""

    reason: str = ""
    """Why there is no interval, or why it is approximate."""

    def said(self, how: str) -> str:
        """Return `how` it was made, or why there is none."""
        return self.reason if self.lower is None else how


@dataclass(frozen=True)
class Support:
    """How much a test set says of a label: what its interval rests on."""

    positive_patients: int
    """How many patients have a positive image."""

    negative_patients: int
    """How many patients have a negative image."""

    clusters_effective: float
    """Effective number of patients (clustered.effective_clusters)."""

    @property
    def fewest(self) -> int:
        """How many patients of the rarer kind there are."""
        return min(self.positive_patients, self.negative_patients)

    @property
    def mark(self) -> str:
        """TOO_FEW below ten patients of either kind, APPROXIMATE below thirty, else nothing."""
        # One effective patient or less leaves no degree of freedom, however many patients there are.
        if self.fewest < MIN_PATIENTS or self.clusters_effective <= 2:
            return TOO_FEW
        return APPROXIMATE if self.fewest < FEW_PATIENTS else ""

    @property
    def reason(self) -> str:
        """Say in words what the mark is for; nothing where there is none."""
        if not self.mark:
            return ""
        positive = self.positive_patients <= self.negative_patients
        which = f"{counted(self.fewest, 'patient')} with{'' if positive else 'out'} the finding"
        if self.fewest >= MIN_PATIENTS and self.mark == TOO_FEW:
            return f"{which} that count as {self.clusters_effective:.1f}"
        return f"{which}, fewer than {FEW_PATIENTS if self.mark == APPROXIMATE else MIN_PATIENTS}"

    @classmethod
    def weakest(cls, supports: list[Support]) -> Support:
        """Return the smallest of every count: what a mean over labels rests on."""
        return cls(
            min(one.positive_patients for one in supports),
            min(one.negative_patients for one in supports),
            min(one.clusters_effective for one in supports),
        )


def support(truth_N: NDArray[np.bool_], cluster_N: NDArray[np.intp]) -> Support:
    """Return what the images of one label rest on; cluster_N: the number of each image's patient, from 0."""
    positives_K, negatives_K = np.bincount(cluster_N[truth_N]), np.bincount(cluster_N[~truth_N])
    effective = effective_clusters(truth_N, cluster_N)
    return Support(int(np.count_nonzero(positives_K)), int(np.count_nonzero(negatives_K)), effective)


def student_quantile(degrees_of_freedom: float, confidence: float) -> float:
    """Return the two-sided quantile of Student's t: 1.96 for many degrees of freedom and 0.95."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees_of_freedom, (1 + confidence) / 2))


def logit(share: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return log(p / (1 - p))."""
    return np.log(share) - np.log1p(-share)


def logistic(value: float) -> float:
    """Undo `logit`, without overflow."""
    return float(1 / (1 + np.exp(-value))) if value >= 0 else float(np.exp(value) / (1 + np.exp(value)))


def on_logit_scale(value: float, spread: float, degrees_of_freedom: float, confidence: float) -> tuple[float, float]:
    """Return the interval of a share around `value`, whose logit has the standard error `spread`."""
    middle = float(logit(np.array(value)))
    half = student_quantile(degrees_of_freedom, confidence) * spread
    return logistic(middle - half), logistic(middle + half)


def of_replicates(
    value: float, drawn_R: NDArray[np.float64], rests_on: Support, *, confidence: float = 0.95
) -> Interval:
    """Return the logit-t interval of an AUC, or of a mean of AUCs, or say why there is none.

    value: found on the images themselves. drawn_R: its bootstrap replicates; NaN: undefined. rests_on: of the label;
    for a mean, Support.weakest of its labels.
    """
    if rests_on.mark == TOO_FEW:
        return Interval(None, None, TOO_FEW, rests_on.reason)
    defined_R = drawn_R[~np.isnan(drawn_R)]
    if reason := _undefined(defined_R, drawn_R):
        return Interval(None, None, "", reason)
    if not 0 < value < 1:
        return Interval(None, None, "", f"an AUC of {value:g} has no logit")
    spread = float(logit(_inside(defined_R)).std(ddof=1))
    lower, upper = on_logit_scale(value, spread, rests_on.clusters_effective - 1, confidence)
    return Interval(lower, upper, rests_on.mark, rests_on.reason)


def of_estimate(one: Estimate, *, confidence: float = 0.95) -> Interval:
    """Return the logit-t interval of an AUC, or of a mean of AUCs, by its clustered variance: no bootstrap is needed.

    The spread of the logit is the standard error / (AUC (1 - AUC)). For findings of few patients it is a little
    narrower than that of the replicates.
    """
    rests_on = Support(one.positive_patients, one.negative_patients, one.clusters_effective)
    if rests_on.mark == TOO_FEW:
        return Interval(None, None, TOO_FEW, rests_on.reason)
    if not 0 < one.value < 1:
        return Interval(None, None, "", f"an AUC of {one.value:g} has no logit")
    spread = one.standard_error / (one.value * (1 - one.value))
    lower, upper = on_logit_scale(one.value, spread, one.degrees_of_freedom, confidence)
    return Interval(lower, upper, rests_on.mark, rests_on.reason)


def of_percentiles(drawn_R: NDArray[np.float64], *, confidence: float = 0.95) -> Interval:
    """Return the percentile interval of bootstrap replicates, or say why there is none.

    For amounts that are no shares, such as a mean error in years. For AUCs it is too narrow: `of_replicates`.
    """
    defined_R = drawn_R[~np.isnan(drawn_R)]
    if reason := _undefined(defined_R, drawn_R):
        return Interval(None, None, "", reason)
    tail = (1 - confidence) / 2
    lower, upper = np.quantile(defined_R, [tail, 1 - tail])
    return Interval(float(lower), float(upper))


def _undefined(defined_R: NDArray[np.float64], drawn_R: NDArray[np.float64]) -> str:
    """Return why the replicates make no interval, nothing where they do."""
    if len(drawn_R) < 2:
        return "a single replicate has no spread"
    if len(defined_R) < max(2, DEFINED_SHARE * len(drawn_R)):
        return f"defined in {len(defined_R):,} of {len(drawn_R):,} replicates"
    return ""


def _inside(drawn_R: NDArray[np.float64]) -> NDArray[np.float64]:
    """Move replicates of 0 and 1 to half of their distance from the nearest other one: they have no logit."""
    between = drawn_R[(drawn_R > 0) & (drawn_R < 1)]
    if not len(between):
        return np.full_like(drawn_R, 0.5)
    return np.clip(drawn_R, between.min() / 2, (1 + between.max()) / 2)
