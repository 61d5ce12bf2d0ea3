"""AUC per label and their unweighted mean, with patient-cluster bootstrap intervals.

The protocol of Baltruschat et al. 2019 (AUC per pathology, mean over 14, "No Finding" beside), plus what the paper
leaves out: counts and intervals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from cxrkit.base.contracts import Metric
from cxrkit.base.errors import UserError
from cxrkit.base.labels import LabelSet
from cxrkit.statistics import ranking

NAME = "auc"
# An interval is given only where at least this share of the replicates defines the AUC. With k patients who have the
# finding, a share of about 1 - exp(-k) does: so an interval needs positives (and negatives) from three patients.
DEFINED_SHARE = 0.9
NOT_MADE = "none is made for the epochs that are kept"

# Lower and upper bound, both or neither, and how they were made, or why there are none.
Interval = tuple[float | None, float | None, str]


def evaluate(
    scores_NL: NDArray[np.float32],
    truth_NL: NDArray[np.float32],
    clusters_N: NDArray[np.intp],
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
    check_settings(replicates, confidence)
    known_NL = ~np.isnan(truth_NL)
    positive_NL = truth_NL > 0.5  # NaN compares as False, and is masked
    drawn_RL = ranking.bootstrap(
        scores_NL, positive_NL, clusters_N, known_NL=known_NL, replicates=replicates, seed=seed
    )
    how = method(replicates, seed, confidence)
    interval = partial(percentile_interval, confidence=confidence, how=how)
    found = {}
    for number, label in enumerate(labels.labels):
        known_N = known_NL[:, number]
        score_N, truth_N = scores_NL[known_N, number], positive_NL[known_N, number]
        found[label] = _label_metric(label, score_N, truth_N, interval(drawn_RL[:, number]))
    yield from found.values()
    averaged = [labels.labels.index(label) for label in labels.averaged]
    yield _mean_metric([found[label].value for label in labels.averaged], drawn_RL[:, averaged], interval)


def without_intervals(
    scores_NL: NDArray[np.float32],
    truth_NL: NDArray[np.float32],
    clusters_N: NDArray[np.intp],
    labels: LabelSet,
) -> Iterator[Metric]:
    """Yield what `evaluate` does, without the intervals: of the many epochs that are kept of a training."""
    known_NL, found = ~np.isnan(truth_NL), {}
    for number, label in enumerate(labels.labels):
        known_N = known_NL[:, number]
        score_N, truth_N = scores_NL[known_N, number], truth_NL[known_N, number] > 0.5
        found[label] = _label_metric(label, score_N, truth_N, (None, None, NOT_MADE))
    yield from found.values()
    values = [found[label].value for label in labels.averaged]
    yield _mean_metric(values, np.empty((0, len(values))), lambda _: (None, None, NOT_MADE))


def method(replicates: int, seed: int, confidence: float) -> str:
    """Return in words how the intervals are made."""
    return (
        f"{100 * confidence:g} % percentile bootstrap over patients, drawn with replacement with all their images, "
        f"{replicates:,} replicates, seed {seed}"
    )


def check_settings(replicates: int, confidence: float) -> None:
    """Raise a UserError for a number of replicates, or a confidence, that cannot be."""
    if replicates < 1:
        raise UserError(f"{replicates} bootstrap replicates; expected at least 1", remedy="1000 is the default")
    if not 0 < confidence < 1:
        raise UserError(f"confidence {confidence}; expected a number between 0 and 1", remedy="0.95 is the default")


def _label_metric(label: str, score_N: NDArray[np.float32], truth_N: NDArray[np.bool_], interval: Interval) -> Metric:
    positives = int(truth_N.sum())
    negatives = len(truth_N) - positives
    metric = Metric(
        NAME,
        None,
        label,
        positives=positives,
        negatives=negatives,
        constant=len(score_N) > 0 and bool((score_N == score_N[0]).all()),
    )
    if not positives or not negatives:
        reason = "0 positives" if not positives else "0 negatives"
        return replace(metric, reason=reason, interval=reason)
    lower, upper, how = interval
    return replace(metric, value=ranking.auc(score_N, truth_N), lower=lower, upper=upper, interval=how)


def _mean_metric(
    values: list[float | None], drawn_RL: NDArray[np.float64], interval: Callable[[NDArray[np.float64]], Interval]
) -> Metric:
    """Average the labels that have an AUC; a replicate counts only where all of these have one."""
    defined = [number for number, value in enumerate(values) if value is not None]
    reason = "" if len(defined) == len(values) else f"over {len(defined)} of {len(values)}"
    if not defined:
        return Metric(NAME, None, labels=0, reason=reason, interval=reason)
    mean = float(np.mean([values[number] for number in defined]))
    lower, upper, how = interval(drawn_RL[:, defined].mean(axis=1))
    return Metric(NAME, mean, None, lower, upper, labels=len(defined), reason=reason, interval=how)


def percentile_interval(drawn_R: NDArray[np.float64], confidence: float, how: str) -> Interval:
    """Return the percentile interval of the replicates and how it was made, or why there is none."""
    defined = drawn_R[~np.isnan(drawn_R)]
    if len(defined) < DEFINED_SHARE * len(drawn_R):
        return None, None, f"defined in {len(defined):,} of {len(drawn_R):,} replicates"
    tail = (1 - confidence) / 2
    lower, upper = np.quantile(defined, [tail, 1 - tail])
    return float(lower), float(upper), how
