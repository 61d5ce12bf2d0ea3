"""The variance of AUCs whose images come in clusters (patients), and of anything that adds AUCs up.

Obuchowski, "Nonparametric analysis of clustered ROC curve data", Biometrics 53 (1997), 567-578. A positive's placement
V10 is the share of negatives that it scores above, ties counting one half; a negative's V01 the share of positives that
score above it. For patient k, with m_k positives of M, n_k negatives of N:

    a_k = (sum of V10 - m_k AUC) / M        b_k = (sum of V01 - n_k AUC) / N
    var = c10 sum a^2 + c01 sum b^2 + 2 c sum a b,   c = I / (I - 1)

with the count I of patients who have a positive (c10), a negative (c01), or any image (c). Where every image is its own
patient this is the variance of DeLong et al. (1988).

Since c is the smallest of the three, the sum is one of squares. With share = c / sqrt(c10 c01), at most 1,

    u = sqrt(share) (sqrt(c10) a + sqrt(c01) b)   v = sqrt((1 - share) c10) a   w = sqrt((1 - share) c01) b
    var = |u|^2 + |v|^2 + |w|^2

so each AUC has one vector (its influence, three numbers a patient) whose squared length is its variance, and the
product of two of them is their covariance: Obuchowski's own for two models on the same images, and the same with the
geometric mean of the corrections for two labels or for subgroups that share patients, of which her paper says nothing.
Vectors add up, so the mean over labels, a difference and a difference of means need nothing else, and no covariance
matrix made this way has a negative eigenvalue.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Estimate:
    """An AUC, or a sum of weighted AUCs, with all that its variance needs."""

    value: float
    """The AUC, or the weighted sum; NaN where there is no positive or no negative."""

    influence: NDArray[np.float64]
    """(3 x patients,): the sum of its squares is the variance."""

    clusters_effective: float
    """Effective number of patients, see `effective_clusters`; of a sum, the smallest of its parts."""

    positive_patients: int
    """How many patients have a positive image; of a sum, the smallest of its parts."""

    negative_patients: int
    """How many patients have a negative image; of a sum, the smallest of its parts."""

    @property
    def variance(self) -> float:
        """The clustered variance; NaN where fewer than two patients have a positive, or a negative."""
        return float(self.influence @ self.influence)

    @property
    def standard_error(self) -> float:
        """The square root of the variance."""
        return float(np.sqrt(self.variance))

    @property
    def degrees_of_freedom(self) -> float:
        """Of Student's t for this estimate: one less than the effective patients."""
        return self.clusters_effective - 1


def placements(
    score_N: NDArray[np.floating], truth_N: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return V10 of the positives and V01 of the negatives, in their order; ties count one half, exactly.

    Scores must be finite, and there must be both positives and negatives. The mean of either is the AUC.
    """
    positive_P, negative_Q = np.asarray(score_N)[truth_N], np.asarray(score_N)[~truth_N]
    order_P, order_Q = np.argsort(positive_P), np.argsort(negative_Q)
    sorted_P, sorted_Q = positive_P[order_P], negative_Q[order_Q]
    below_P, below_Q = np.empty(len(sorted_P), np.intp), np.empty(len(sorted_Q), np.intp)
    # Searching for rising values is several times as quick as for the same ones in any order.
    below_P[order_P] = np.searchsorted(sorted_Q, sorted_P, "left") + np.searchsorted(sorted_Q, sorted_P, "right")
    below_Q[order_Q] = np.searchsorted(sorted_P, sorted_Q, "left") + np.searchsorted(sorted_P, sorted_Q, "right")
    return below_P / (2 * len(negative_Q)), 1 - below_Q / (2 * len(positive_P))


def effective_clusters(truth_N: NDArray[np.bool_], cluster_N: NDArray[np.intp]) -> float:
    """Return how many equally large patients would carry as much: (sum m)^2 / sum m^2, m the positives of a patient.

    The same is asked of the negatives, and the smaller counts; 0 where there are no positives or no negatives.
    """
    return min(_effective(cluster_N[truth_N]), _effective(cluster_N[~truth_N]))


def _effective(cluster_N: NDArray[np.intp]) -> float:
    if not len(cluster_N):
        return 0.0
    images_K = np.bincount(cluster_N).astype(np.float64)
    return float(images_K.sum() ** 2 / (images_K**2).sum())


def estimate(
    score_N: NDArray[np.floating],
    truth_N: NDArray[np.bool_],
    cluster_N: NDArray[np.intp],
    *,
    clusters: int | None = None,
    known_N: NDArray[np.bool_] | None = None,
) -> Estimate:
    """Return the AUC of one model for one label with its influence.

    cluster_N: the number of each image's patient, from 0. clusters: how many patients there are, where estimates on
    different images of the same patients shall be compared: they number them alike. known_N: the images that count
    (where the truth is known, or those of a subgroup). NaN, with an influence of NaN, where there is no variance.
    """
    clusters = int(cluster_N.max(initial=-1)) + 1 if clusters is None else clusters
    if known_N is not None:
        score_N, truth_N, cluster_N = score_N[known_N], truth_N[known_N], cluster_N[known_N]
    positives_K = np.bincount(cluster_N[truth_N], minlength=clusters)
    negatives_K = np.bincount(cluster_N[~truth_N], minlength=clusters)
    counts = [int((count_K > 0).sum()) for count_K in (positives_K, negatives_K, positives_K + negatives_K)]
    about = effective_clusters(truth_N, cluster_N), counts[0], counts[1]
    if not positives_K.any() or not negatives_K.any():
        return Estimate(float("nan"), np.full(3 * clusters, np.nan), *about)
    above_P, above_Q = placements(score_N, truth_N)
    auc = float(above_P.mean())
    if min(counts) < 2:  # nothing to learn a spread from
        return Estimate(auc, np.full(3 * clusters, np.nan), *about)
    a_K = np.bincount(cluster_N[truth_N], above_P - auc, clusters) / len(above_P)
    b_K = np.bincount(cluster_N[~truth_N], above_Q - auc, clusters) / len(above_Q)
    return Estimate(auc, _influence(a_K, b_K, counts), *about)


def estimates(
    score_NL: NDArray[np.floating],
    truth_NL: NDArray[np.bool_],
    cluster_N: NDArray[np.intp],
    *,
    known_NL: NDArray[np.bool_] | None = None,
    clusters: int | None = None,
) -> list[Estimate]:
    """Return the estimate of each label, their patients numbered alike; see `estimate`."""
    clusters = int(cluster_N.max(initial=-1)) + 1 if clusters is None else clusters
    known_LN = [None] * truth_NL.shape[1] if known_NL is None else known_NL.T
    return [
        estimate(score_N, truth_N, cluster_N, clusters=clusters, known_N=known_N)
        for score_N, truth_N, known_N in zip(score_NL.T, truth_NL.T, known_LN, strict=True)
    ]


def _influence(a_K: NDArray[np.float64], b_K: NDArray[np.float64], counts: Sequence[int]) -> NDArray[np.float64]:
    """Return u, v and w of the module's text one behind the other, from what each patient adds to the AUC."""
    c10, c01, c = (count / (count - 1) for count in counts)
    share = min(1.0, c / np.sqrt(c10 * c01))  # 1 but for rounding where every patient has both
    a_K, b_K = np.sqrt(c10) * a_K, np.sqrt(c01) * b_K
    return np.concatenate([np.sqrt(share) * (a_K + b_K), np.sqrt(1 - share) * a_K, np.sqrt(1 - share) * b_K])


def combine(estimates: Sequence[Estimate], weights: Sequence[float]) -> Estimate:
    """Return the weighted sum of estimates whose patients are numbered alike."""
    influence_J = np.zeros_like(estimates[0].influence)
    for one, weight in zip(estimates, weights, strict=True):
        influence_J = influence_J + weight * one.influence
    return Estimate(
        float(sum(weight * one.value for one, weight in zip(estimates, weights, strict=True))),
        influence_J,
        min(one.clusters_effective for one in estimates),
        min(one.positive_patients for one in estimates),
        min(one.negative_patients for one in estimates),
    )


def mean(estimates: Sequence[Estimate]) -> Estimate:
    """Return the unweighted mean: over labels, or over the seeds of a model."""
    if len(estimates) == 1:  # as it is: of forty models each is asked 39 times
        return estimates[0]
    return combine(estimates, [1 / len(estimates)] * len(estimates))


def difference(one: Estimate, other: Estimate) -> Estimate:
    """Return `one` less `other`."""
    return combine([one, other], [1.0, -1.0])


def covariance(estimates: Sequence[Estimate]) -> NDArray[np.float64]:
    """Return the covariance matrix, shape (Q, Q), of estimates whose patients are numbered alike."""
    influence_QJ = np.stack([one.influence for one in estimates])
    return influence_QJ @ influence_QJ.T
