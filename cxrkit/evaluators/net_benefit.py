"""Net benefit: is it worth acting on what the model says? Decision curves at a few thresholds, by the library dcurves.

At a threshold t an ill image that is called ill counts 1 and a healthy one costs t / (1 - t), in shares of all images
(Vickers and Elkin 2006): what a threshold means is how many false alarms one found patient is worth. Beside it stands
what is gained by calling every image ill. It depends on the prevalence, so it holds for this test set.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cxrkit.base.contracts import Metric
from cxrkit.base.errors import UserError
from cxrkit.base.labels import LabelSet
from cxrkit.evaluators import auc
from cxrkit.evaluators.probabilities import Known, known_images
from cxrkit.statistics import intervals, ranking

NAME, OF_ALL = "net_benefit", "net_benefit_of_all"


def evaluate(
    scores_NL: NDArray[np.float32],
    truth_NL: NDArray[np.float32],
    clusters_N: NDArray[np.intp],
    labels: LabelSet,
    *,
    thresholds: tuple[float, ...] = (0.02, 0.05, 0.1, 0.2),
    replicates: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Iterator[Metric]:
    """Yield net benefit and that of calling every image ill, of each threshold and label.

    They are called net_benefit@0.05 and net_benefit_of_all@0.05. The intervals of the former are percentiles of a
    bootstrap over patients, with the thresholds as they are. Raises UserError for settings that cannot be, where labels
    are amounts, and where dcurves is not installed.
    """
    auc.check_settings(replicates, confidence)
    if wrong := [one for one in thresholds if not 0 < one < 1] or not thresholds:
        found = wrong[0] if isinstance(wrong, list) else "none"
        raise UserError(
            f"threshold {found}; expected probabilities between 0 and 1", remedy="write thresholds=0.02,0.05,0.1"
        )
    how = f"{100 * confidence:g} % percentiles, {auc.drawn_how(replicates, seed)}"
    weight_RK = ranking.draw(int(clusters_N.max()) + 1, replicates, seed).astype(np.float64)
    for one in known_images(scores_NL, truth_NL, clusters_N, labels):
        if one.lacking:
            for threshold in thresholds:
                for name in (NAME, OF_ALL):
                    yield Metric(f"{name}@{threshold:g}", None, one.label, reason=one.lacking, interval=one.lacking)
            continue
        curve = decision_curve(one, thresholds)
        for place, threshold in enumerate(thresholds):
            drawn_R = ranking.drawn_means(_gain(one, threshold), one.clusters, weight_RK)
            interval = intervals.of_percentiles(drawn_R, confidence=confidence)
            metric = Metric(
                f"{NAME}@{threshold:g}",
                curve["model"][place],
                one.label,
                interval.lower,
                interval.upper,
                positives=one.positives,
                negatives=one.negatives,
                interval=interval.said(how),
            )
            yield metric
            of_all = replace(metric, name=f"{OF_ALL}@{threshold:g}", value=curve["all"][place])
            yield replace(of_all, lower=None, upper=None, interval="")


def decision_curve(one: Known, thresholds: tuple[float, ...]) -> dict[str, list[float]]:
    """Return the net benefit at each threshold: of the "model", and of calling "all" ill. Raises UserError."""
    try:
        import pandas
        from dcurves import dca
    except ImportError:
        raise UserError("net benefit needs the library dcurves", remedy="pip install 'cxrkit[report]'") from None
    table = pandas.DataFrame({"ill": one.truth, "model": np.asarray(one.scores, np.float64)})
    found = dca(data=table, outcome="ill", modelnames=["model"], thresholds=list(thresholds))
    return {name: found.loc[found["model"] == name, "net_benefit"].tolist() for name in ("model", "all")}


def _gain(one: Known, threshold: float) -> NDArray[np.float64]:
    """Return what each image adds: their mean is the net benefit."""
    called_N = np.asarray(one.scores, np.float64) >= threshold
    return np.where(one.truth, 1.0, -threshold / (1 - threshold)) * called_N
