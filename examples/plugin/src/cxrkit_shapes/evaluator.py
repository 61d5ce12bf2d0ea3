"""An evaluator: `cxrkit train --evaluator auc,shapes-brier`, or later `cxrkit evaluate RUN --evaluator ...`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from cxrkit.base.contracts import Metric
from cxrkit.base.labels import LabelSet


def evaluate(
    scores_NL: NDArray[np.float32],
    truth_NL: NDArray[np.float32],
    clusters_N: NDArray[np.intp],
    labels: LabelSet,
    *,
    replicates: int = 200,
) -> Iterator[Metric]:
    """Yield the Brier score of each label (1950): the mean squared difference of score and truth, and their mean.

    truth_NL: 1, 0, or NaN where a label is not known. clusters_N: the number of each image's patient. replicates: of
    the bootstrap over patients; it is what `cxrkit evaluate --replicates` sets.
    """
    squares_NL = (scores_NL - truth_NL) ** 2  # NaN where the truth is
    values = []
    for number, label in enumerate(labels.labels):
        square_N = squares_NL[:, number]
        if np.isnan(square_N).all():  # what is undefined is None, with the reason: never NaN
            yield Metric("brier", None, label, reason="not known for any image")
            continue
        lower, upper = _interval(square_N, clusters_N, replicates)
        how = f"95 % percentile bootstrap over patients, {replicates:,} replicates"
        yield Metric("brier", float(np.nanmean(square_N)), label, lower, upper, interval=how)
        if label in labels.averaged:
            values.append(float(np.nanmean(square_N)))
    if values:
        yield Metric("brier", float(np.mean(values)), labels=len(values))  # without a label: the mean


def _interval(square_N: NDArray[np.float32], clusters_N: NDArray[np.intp], replicates: int) -> tuple[float, float]:
    """Return the percentile interval of the mean, drawing patients with all their images."""
    patients = int(clusters_N.max()) + 1
    known_N = ~np.isnan(square_N)
    total_P = np.bincount(clusters_N[known_N], square_N[known_N], minlength=patients)
    count_P = np.bincount(clusters_N[known_N], minlength=patients)
    drawn_RP = np.random.default_rng(0).multinomial(patients, np.full(patients, 1 / patients), size=replicates)
    means_R = (drawn_RP @ total_P) / np.maximum(drawn_RP @ count_P, 1)
    lower, upper = np.quantile(means_R, [0.025, 0.975])
    return float(lower), float(upper)
