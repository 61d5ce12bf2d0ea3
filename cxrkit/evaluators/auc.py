"""AUC per label and their unweighted mean, with patient-cluster bootstrap intervals.

The protocol of Baltruschat et al. 2019 (AUC per pathology, mean over 14, "No Finding" beside), plus what the paper
leaves out: counts and intervals.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from cxrkit.errors import UserError
from cxrkit.evaluators import Metric, ranking
from cxrkit.labels import LabelSet

NAME = "auc"
# An interval is given only where at least this share of the replicates defines the AUC. With k patients who have the
# finding, a share of about 1 - exp(-k) does: so an interval needs positives (and negatives) from three patients.
DEFINED_SHARE = 0.9


def evaluate(
    score_NL: NDArray[np.float32],
    truth_NL: NDArray[np.float32],
    cluster_N: NDArray[np.intp],
    labels: LabelSet,
    *,
    replicates: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Iterator[Metric]:
    """Yield the AUC of each label, then their mean over the averaged labels (cxrkit.evaluators.Evaluator).

    replicates, seed: of the bootstrap over patients. confidence: of the percentile intervals. Raises UserError when
    one of these cannot be.
    """
    _check_settings(replicates, confidence)
    known_NL = ~np.isnan(truth_NL)
    positive_NL = truth_NL > 0.5  # NaN compares as False, and is masked
    drawn_RL = ranking.bootstrap(score_NL, positive_NL, cluster_N, known_NL=known_NL, replicates=replicates, seed=seed)
    how = (
        f"{100 * confidence:g} % percentile bootstrap over patients, drawn with replacement with all their images, "
        f"{replicates:,} replicates, seed {seed}"
    )
    point_L = np.full(len(labels), np.nan)
    for number, label in enumerate(labels.labels):
        known_N = known_NL[:, number]
        score_N, truth_N = score_NL[known_N, number], positive_NL[known_N, number]
        point_L[number] = ranking.auc(score_N, truth_N)
        yield _label_metric(label, point_L[number], score_N, truth_N, drawn_RL[:, number], confidence, how)
    averaged = [labels.labels.index(label) for label in labels.averaged]
    yield _mean_metric(point_L[averaged], drawn_RL[:, averaged], confidence, how)


def _check_settings(replicates: int, confidence: float) -> None:
    if replicates < 1:
        raise UserError(f"{replicates} bootstrap replicates; expected at least 1", remedy="1000 is the default")
    if not 0 < confidence < 1:
        raise UserError(f"confidence {confidence}; expected a number between 0 and 1", remedy="0.95 is the default")


def _label_metric(
    label: str,
    point: float,
    score_N: NDArray[np.float32],
    truth_N: NDArray[np.bool_],
    drawn_R: NDArray[np.float64],
    confidence: float,
    how: str,
) -> Metric:
    positives = int(truth_N.sum())
    negatives = len(truth_N) - positives
    constant = len(score_N) > 0 and bool((score_N == score_N[0]).all())
    if np.isnan(point):
        reason = "0 positives" if positives == 0 else "0 negatives"
        return Metric(NAME, None, label, None, None, positives, negatives, None, reason, reason, constant)
    lower, upper, interval = _interval(drawn_R, confidence, how)
    return Metric(NAME, float(point), label, lower, upper, positives, negatives, None, "", interval, constant)


def _mean_metric(point_L: NDArray[np.float64], drawn_RL: NDArray[np.float64], confidence: float, how: str) -> Metric:
    """Average the labels that have an AUC; a replicate counts only where all of these have one."""
    defined_L = ~np.isnan(point_L)
    count = int(defined_L.sum())
    reason = "" if count == len(point_L) else f"over {count} of {len(point_L)}"
    if count == 0:
        return Metric(NAME, None, labels=0, reason=reason, interval=reason)
    lower, upper, interval = _interval(drawn_RL[:, defined_L].mean(axis=1), confidence, how)
    mean = float(point_L[defined_L].mean())
    return Metric(NAME, mean, None, lower, upper, labels=count, reason=reason, interval=interval)


def _interval(drawn_R: NDArray[np.float64], confidence: float, how: str) -> tuple[float | None, float | None, str]:
    """Return the percentile interval of the replicates and how it was made, or why there is none."""
    defined = drawn_R[~np.isnan(drawn_R)]
    if len(defined) < DEFINED_SHARE * len(drawn_R):
        return None, None, f"defined in {len(defined):,} of {len(drawn_R):,} replicates"
    tail = (1 - confidence) / 2
    lower, upper = np.quantile(defined, [tail, 1 - tail])
    return float(lower), float(upper), how
