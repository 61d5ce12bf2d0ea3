"""How alike models order the same images: Spearman's rank correlation, of two models or of many at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def ranks(score_NL: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return the rank of each image in each label, from 1, ties sharing the mean of theirs; exact up to 8 million."""
    order_NL = np.argsort(score_NL, axis=0)
    rank_NL = np.empty(score_NL.shape, np.float32)
    for order_N, score_N, rank_N in zip(
        order_NL.T, np.take_along_axis(score_NL, order_NL, axis=0).T, rank_NL.T, strict=True
    ):
        first = np.append(True, score_N[1:] != score_N[:-1])  # of each run of equal scores
        starts = np.flatnonzero(np.append(first, True))
        rank_N[order_N] = ((starts[:-1] + starts[1:] + 1) / 2)[np.cumsum(first) - 1]
    return rank_NL


def correlations(rank_QNL: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
    """Return Spearman's correlation of each two of Q models in each label, shape (L, Q, Q), from their `ranks`.

    Their rows must be the same images. NaN for a label of which a model has one score for every image.
    """
    models, labels = len(rank_QNL), rank_QNL[0].shape[1]
    found_LQQ = np.empty((labels, models, models))
    for place in range(labels):  # label by label: forty models of 25,596 images are 8 MB
        rank_QN = np.stack([rank_NL[:, place] for rank_NL in rank_QNL]).astype(np.float64)
        rank_QN -= rank_QN.mean(axis=1, keepdims=True)
        with np.errstate(invalid="ignore"):  # 0 / 0: undefined
            rank_QN /= np.sqrt((rank_QN**2).sum(axis=1, keepdims=True))
            found_LQQ[place] = rank_QN @ rank_QN.T
    return found_LQQ


def rank_correlation(one_NL: NDArray[np.floating], other_NL: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return Spearman's correlation of two models' scores over the test images, for each label, shape (L,).

    Table 4 is the mean of these over the labels, and then over the folds. The rows must be the same images. NaN for a
    label of which a model has one score for every image.
    """
    assert one_NL.shape == other_NL.shape, "the scores of the same images and labels"
    return correlations([ranks(one_NL), ranks(other_NL)])[:, 0, 1]
