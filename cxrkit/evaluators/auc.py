"""AUC per label and their unweighted mean, with intervals from a bootstrap over patients.

The protocol of Baltruschat et al. 2019 (AUC per pathology, mean over 14, "No Finding" beside), plus what the paper
leaves out: counts and intervals (cxrkit/statistics/intervals.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cxrkit.base.contracts import Metric
from cxrkit.base.errors import UserError
from cxrkit.base.labels import LabelSet
from cxrkit.statistics import intervals, ranking
from cxrkit.statistics.intervals import Interval, Support

NAME = "auc"


@dataclass(frozen=True)
class _Drawn:
    """The replicates of a value, and what its interval is made with."""

    replicates: NDArray[np.float64]
    confidence: float
    how: str

    def interval(self, metric: Metric, rests_on: Support) -> Metric:
        """Return `metric` with its interval, or with the reason why it has none."""
        assert metric.value is not None
        found: Interval = intervals.of_replicates(metric.value, self.replicates, rests_on, confidence=self.confidence)
        return replace(
            metric,
            lower=found.lower,
            upper=found.upper,
            interval=found.said(self.how),
            mark=found.mark,
            positive_patients=rests_on.positive_patients,
            clusters_effective=rests_on.clusters_effective,
        )


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
    """Yield the AUC of each label, then their mean over the averaged labels, where the set averages any.

    replicates, seed: of the bootstrap over patients. confidence: of the intervals. Raises UserError when one of these
    cannot be.
    """
    check_settings(replicates, confidence)
    known_NL = ~np.isnan(truth_NL)
    positive_NL = truth_NL > 0.5  # NaN compares as False, and is masked
    drawn_RL = ranking.bootstrap(
        scores_NL, positive_NL, clusters_N, known_NL=known_NL, replicates=replicates, seed=seed
    )
    how = f"{100 * confidence:g} % logit-t with effective patients, {drawn_how(replicates, seed)}"
    found, supports = {}, {}
    for number, label in enumerate(labels.labels):
        known_N = known_NL[:, number]
        truth_N, drawn = positive_NL[known_N, number], _Drawn(drawn_RL[:, number], confidence, how)
        supports[label] = intervals.support(truth_N, clusters_N[known_N])
        found[label] = _label_metric(label, scores_NL[known_N, number], truth_N, supports[label], drawn)
    yield from found.values()
    if not labels.averaged:
        return
    defined = [label for label in labels.averaged if found[label].value is not None]
    columns = [labels.labels.index(label) for label in defined or labels.averaged]
    drawn = _Drawn(drawn_RL[:, columns].mean(axis=1), confidence, how)
    yield _mean_metric({label: found[label] for label in labels.averaged}, supports, drawn)


def drawn_how(replicates: int, seed: int) -> str:
    """Return in words how replicates are drawn."""
    return (
        f"bootstrap over patients, drawn with replacement with all their images, {replicates:,} replicates, seed {seed}"
    )


def check_settings(replicates: int, confidence: float) -> None:
    """Raise a UserError for a number of replicates, or a confidence, that cannot be."""
    if replicates < 1:
        raise UserError(f"{replicates} bootstrap replicates; expected at least 1", remedy="1000 is the default")
    if not 0 < confidence < 1:
        raise UserError(f"confidence {confidence}; expected a number between 0 and 1", remedy="0.95 is the default")


def _label_metric(
    label: str, score_N: NDArray[np.float32], truth_N: NDArray[np.bool_], rests_on: Support, drawn: _Drawn
) -> Metric:
    positives = int(truth_N.sum())
    metric = Metric(
        NAME,
        None,
        label,
        positives=positives,
        negatives=len(truth_N) - positives,
        constant=len(score_N) > 0 and bool((score_N == score_N[0]).all()),
    )
    if not positives or positives == len(truth_N):
        reason = "0 positives" if not positives else "0 negatives"
        return replace(metric, reason=reason, interval=reason)
    return drawn.interval(replace(metric, value=ranking.auc(score_N, truth_N)), rests_on)


def _mean_metric(found: dict[str, Metric], supports: dict[str, Support], drawn: _Drawn) -> Metric:
    """Average the labels that have an AUC; a replicate counts only where all of these have one."""
    defined = {label: metric.value for label, metric in found.items() if metric.value is not None}
    reason = "" if len(defined) == len(found) else f"over {len(defined)} of {len(found)}"
    metric = Metric(NAME, None, labels=len(defined), reason=reason, interval=reason)
    if not defined:
        return metric
    mean = replace(metric, value=float(np.mean(list(defined.values()))))
    mean = drawn.interval(mean, Support.weakest([supports[label] for label in defined]))
    if mean.mark != intervals.TOO_FEW:
        return mean
    rarest = min(defined, key=lambda label: supports[label].fewest)
    return replace(mean, interval=f"{rarest}: {mean.interval}")
