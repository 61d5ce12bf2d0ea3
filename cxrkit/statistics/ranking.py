"""Area under the ROC curve, exact under ties and integer weights, and its patient-cluster bootstrap. Numpy only.

The AUC of a label is the probability that a random positive image scores above a random negative one, ties counting
one half (Hanley and McNeil 1982; Mann-Whitney U divided by P N). With an integer weight per image:

    2 U = sum over positives i of w_i * (W(negatives scored below s_i) + W(negatives scored at most s_i))
    AUC = 2 U / (2 * P * N),   P and N the weights of all positives and of all negatives

Everything before the last division is integer arithmetic, so neither the order of the images, nor the block size,
nor the number of threads can change a digit. Scores are sorted once per label; a bootstrap replicate only brings new
weights (how often its patient was drawn), so it costs a gather and a cumulative sum, not a sort.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxrkit.base.cores import available_cores

# Replicates per block, so that a block's weights stay in a core's second-level cache (16 x 25,596 x 4 bytes = 1.6 MB).
BLOCK = 16


@dataclass(frozen=True)
class Ranked:
    """One label's images in the order of their scores; all that any weighted AUC of it needs."""

    negative_cluster: NDArray[np.intp]
    """Cluster (patient) of each negative image, by rising score."""

    positive_cluster: NDArray[np.intp]
    """Cluster of each positive image, by rising score."""

    below: NDArray[np.intp]
    """How many negatives score below each positive."""

    at_most: NDArray[np.intp]
    """How many negatives score below each positive or equal to it."""

    positives_below: NDArray[np.intp]
    """How many positives score below each positive."""


# Of one label under each row of cluster weights: weighted_aucs, weighted_average_precisions.
Statistic = Callable[[Ranked, NDArray[np.int32]], NDArray[np.float64]]


def rank(score_N: NDArray[np.floating], truth_N: NDArray[np.bool_], cluster_N: NDArray[np.intp]) -> Ranked:
    """Sort one label's scores. Scores must be finite; clusters are numbered from 0."""
    assert np.isfinite(score_N).all(), "scores are checked when they are read"
    positive, negative = np.flatnonzero(truth_N), np.flatnonzero(~truth_N)
    order = np.argsort(score_N[negative], kind="stable")
    sorted_negative = score_N[negative][order]
    # Positives by rising score too: their look-ups then walk through the cumulative sums instead of jumping in them.
    positive = positive[np.argsort(score_N[positive], kind="stable")]
    sorted_positive = score_N[positive]
    return Ranked(
        negative_cluster=cluster_N[negative][order],
        positive_cluster=cluster_N[positive],
        below=np.searchsorted(sorted_negative, sorted_positive, side="left"),
        at_most=np.searchsorted(sorted_negative, sorted_positive, side="right"),
        positives_below=np.searchsorted(sorted_positive, sorted_positive, side="left"),
    )


def weighted_aucs(ranked: Ranked, weight_RK: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return the AUC under each row of cluster weights, shape (R,); NaN where no positive or no negative has weight."""
    aucs = np.empty(len(weight_RK))
    negatives, positives = len(ranked.negative_cluster), len(ranked.positive_cluster)
    drawn = np.empty((BLOCK, negatives), np.int32)
    cumulated = np.zeros((BLOCK, negatives + 1), np.int32)  # a column of zeros in front: no negative is below the first
    weight = np.empty((BLOCK, positives), np.int32)
    rivals, ties = np.empty_like(weight), np.empty_like(weight)
    for start in range(0, len(weight_RK), BLOCK):
        block = weight_RK[start : start + BLOCK]
        rows = slice(0, len(block))
        # mode="clip" lets numpy write straight into `out`; the indices are known to be in range.
        np.take(block, ranked.negative_cluster, axis=1, out=drawn[rows], mode="clip")
        np.cumsum(drawn[rows], axis=1, out=cumulated[rows, 1:])
        np.take(block, ranked.positive_cluster, axis=1, out=weight[rows], mode="clip")
        np.take(cumulated[rows], ranked.below, axis=1, out=rivals[rows], mode="clip")
        np.take(cumulated[rows], ranked.at_most, axis=1, out=ties[rows], mode="clip")
        rivals[rows] += ties[rows]
        doubled_u = np.einsum("rp,rp->r", weight[rows], rivals[rows], dtype=np.int64, casting="safe")
        pairs = weight[rows].sum(axis=1, dtype=np.int64) * cumulated[rows, -1]
        with np.errstate(invalid="ignore"):  # 0 / 0: undefined, never 0.5
            aucs[start : start + BLOCK] = doubled_u / (2 * pairs)
    return aucs


def auc(score_N: NDArray[np.floating], truth_N: NDArray[np.bool_]) -> float:
    """Return the plain AUC; NaN where there is no positive or no negative. Equals sklearn's roc_auc_score."""
    everyone = np.zeros(len(score_N), np.intp)
    return float(weighted_aucs(rank(score_N, truth_N, everyone), np.ones((1, 1), np.int32))[0])


def weighted_average_precisions(ranked: Ranked, weight_RK: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return the average precision under each row of cluster weights, shape (R,); NaN where no positive has weight.

    The mean, over the positives, of the share of positives among all images that score at least as high; images of
    equal score enter together. With weights of one it equals scikit-learn's average_precision_score.
    """
    found_R = np.empty(len(weight_RK))
    for start in range(0, len(weight_RK), BLOCK):
        block = weight_RK[start : start + BLOCK]
        weight_BP = np.take(block, ranked.positive_cluster, axis=1)
        caught_BP = _at_least(weight_BP, ranked.positives_below)
        called_BP = caught_BP + _at_least(np.take(block, ranked.negative_cluster, axis=1), ranked.below)
        with np.errstate(invalid="ignore"):  # 0 / 0: undefined
            # A positive without weight above which nothing has any counts for nothing.
            share_BP = weight_BP * (caught_BP / np.maximum(called_BP, 1))
            found_R[start : start + BLOCK] = share_BP.sum(axis=1) / weight_BP.sum(axis=1)
    return found_R


def _at_least(weight_BM: NDArray[np.int32], below_P: NDArray[np.intp]) -> NDArray[np.int32]:
    """Return the weight of all images but the lowest `below_P`; weight_BM: by rising score."""
    cumulated_BM = np.zeros((len(weight_BM), weight_BM.shape[1] + 1), np.int32)
    np.cumsum(weight_BM, axis=1, out=cumulated_BM[:, 1:])
    return np.asarray(cumulated_BM[:, -1:] - np.take(cumulated_BM, below_P, axis=1))


def average_precision(score_N: NDArray[np.floating], truth_N: NDArray[np.bool_]) -> float:
    """Return the plain average precision; NaN where there is no positive."""
    everyone = np.zeros(len(score_N), np.intp)
    return float(weighted_average_precisions(rank(score_N, truth_N, everyone), np.ones((1, 1), np.int32))[0])


def draw(clusters: int, replicates: int, seed: int) -> NDArray[np.int32]:
    """Return how often each cluster is drawn in each replicate, shape (replicates, clusters).

    Clusters are drawn with replacement, as many as there are. Replicate r is the same however many follow it.
    """
    generator = np.random.Generator(np.random.Philox(seed))
    weight_RK = np.empty((replicates, clusters), np.int32)
    for row in weight_RK:
        row[:] = np.bincount(generator.integers(0, clusters, clusters), minlength=clusters)
    return weight_RK


def bootstrap(
    score_NL: NDArray[np.floating],
    truth_NL: NDArray[np.bool_],
    patient_N: NDArray[np.integer],
    *,
    known_NL: NDArray[np.bool_] | None = None,
    replicates: int = 1000,
    seed: int = 0,
    threads: int | None = None,
    statistic: Statistic = weighted_aucs,
) -> NDArray[np.float64]:
    """Return every label's AUC in every patient-cluster bootstrap replicate, shape (replicates, L); NaN: undefined.

    All images of a drawn patient enter together, because they are not independent: on the official test set
    (9 images a patient) image-level intervals come out too narrow. The same patients are drawn for every label,
    so a row's mean is a replicate of the mean AUC. known_NL: where the truth is known; other pairs of image and label
    are left out, and their patients drawn all the same. threads: default, the processors this process may use.
    statistic: another one than the AUC.
    """
    patients, cluster_N = np.unique(patient_N, return_inverse=True)
    weight_RK = draw(len(patients), replicates, seed)

    def one_label(label: int) -> NDArray[np.float64]:
        known_N = slice(None) if known_NL is None else known_NL[:, label]
        ranked = rank(score_NL[known_N, label], truth_NL[known_N, label], cluster_N[known_N])
        return statistic(ranked, weight_RK)

    with ThreadPoolExecutor(threads or available_cores()) as pool:  # numpy releases the GIL in take, cumsum and einsum
        columns: Iterator[NDArray[np.float64]] = pool.map(one_label, range(truth_NL.shape[1]))
        return np.stack(list(columns), axis=1)


def drawn_means(
    value_N: NDArray[np.float64], cluster_N: NDArray[np.intp], weight_RK: NDArray[np.int32] | NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the mean over the images in each replicate of drawn patients, shape (R,); NaN: none was drawn.

    For what is a mean over images: an error in years, a squared distance from the truth, a net benefit. weight_RK: as
    `draw` gives it; where it is asked for many means, convert it to float64 once.
    """
    patients = weight_RK.shape[1]
    with np.errstate(invalid="ignore"):  # 0 / 0: undefined
        means_R: NDArray[np.float64] = (weight_RK @ np.bincount(cluster_N, value_N, patients)) / (
            weight_RK @ np.bincount(cluster_N, minlength=patients)
        )
    return means_R
