"""The error of predicted amounts, such as years of age: its mean, and its spread.

Baltruschat et al. 2019, section 3, of their probe for the age: "we report the mean absolute error (MAE) with standard
deviation because age prediction is a regression task", 9.13 +- 7.05 years: the deviation is that of the images' errors.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from cxrkit.base.contracts import Metric, Validation
from cxrkit.base.labels import LabelSet
from cxrkit.evaluators import auc
from cxrkit.statistics import intervals, ranking

_NAMES = ("mae", "mae_sd", "mae_of_median")


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
    """Yield three metrics of each label, in its unit.

    That is the mean absolute error, with an interval over patients; the standard deviation of the absolute errors over
    the images (n - 1); and for comparison the mean absolute error of always saying the median of `validation`.

    Raises UserError for settings that cannot be.
    """
    auc.check_settings(replicates, confidence)
    how = f"{100 * confidence:g} % percentiles, {auc.drawn_how(replicates, seed)}"
    weight_RK = ranking.draw(int(clusters_N.max()) + 1, replicates, seed)
    for number, label in enumerate(labels.labels):
        truth_N = truth_NL[:, number].astype(np.float64)
        known_N = ~np.isnan(truth_N)
        count = int(known_N.sum())
        if not count:
            yield from (Metric(name, None, label, reason="not known of any image") for name in _NAMES)
            continue
        reason = "" if count == len(known_N) else f"{count:,} of {len(known_N):,} images, of which it is known"
        error_N = np.abs(scores_NL[known_N, number] - truth_N[known_N])
        drawn_R = ranking.drawn_means(error_N, clusters_N[known_N], weight_RK)
        found = intervals.of_percentiles(drawn_R, confidence=confidence)
        yield Metric(
            "mae", float(error_N.mean()), label, found.lower, found.upper, reason=reason, interval=found.said(how)
        )
        spread = float(error_N.std(ddof=1)) if count > 1 else None
        yield Metric("mae_sd", spread, label, reason="" if count > 1 else "1 image")
        yield _of_median(label, truth_N[known_N], None if validation is None else validation.truth[:, number])


def _of_median(label: str, truth_N: NDArray[np.float64], val_N: NDArray[np.float32] | None) -> Metric:
    known_N = np.empty(0) if val_N is None else val_N[~np.isnan(val_N)]
    if not len(known_N):
        return Metric("mae_of_median", None, label, reason="no validation images")
    return Metric("mae_of_median", float(np.abs(truth_N - np.median(known_N)).mean()), label)
