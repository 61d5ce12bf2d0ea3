"""How well age, sex and view are read from a network's features: linear probes, fitted on patients that are not tested.

The paper's probes (Baltruschat et al. 2019, section 3) are dense layers, trained like the network itself, on its own
training images; `cxrkit train --model resnet50-large-age --from RUN` repeats them. These here have one solution, found
in seconds: a logistic regression, and for the age a ridge regression, each with scikit-learn's own penalty on features
that were brought to mean 0 and deviation 1. By default they are fitted on the validation patients: images that the
network was not fitted to, as the test images are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from cxrkit.audit.asking import Asked
from cxrkit.base.contracts import Metric, Subset, Validation
from cxrkit.base.files import file_digest
from cxrkit.base.labels import AGE, SEX, VIEW, LabelSet
from cxrkit.evaluators import mae
from cxrkit.loaders import targets
from cxrkit.statistics import clustered, intervals
from cxrkit.statistics.intervals import Interval

_FEWEST = 10  # images of either kind to fit on


@dataclass(frozen=True)
class Probed:
    """What a linear probe says of the test images."""

    labels: LabelSet
    """SEX, VIEW or AGE."""

    value: float | None
    """AUC, or the mean absolute error in years; None where there is nothing to fit on or to test with."""

    interval: Interval
    """Over patients."""

    without: float | None
    """What is reached without any features: 0.5, or the error of always saying the median of the fitted ages."""

    fitted: int
    """Images that it was fitted on, those of which the answer is known."""

    tested: int
    """Test images of which the answer is known."""

    reason: str = ""
    """Why there is no value."""


def probe(network: Asked, subset: Subset, console: Console) -> list[Probed]:
    """Return what the features of a network say of age, sex and view.

    subset: whose patients the probes are fitted on. The network must have `features`. They are kept in the run's folder
    (trainers/features.py). Raises UserError where one of the two subsets has no image.
    """
    from cxrkit.trainers import features

    inputs = network.inputs
    inputs.require(subset)
    fit, test = inputs.rows[subset], inputs.rows["test"]
    rows = np.sort(np.concatenate([fit, test]))
    found = features.of_rows(
        network.run, file_digest(network.run.best), rows, inputs, network.config, network.device, console
    )
    fitting = found[np.searchsorted(rows, fit)]
    testing = found[np.searchsorted(rows, test)]
    patients = inputs.frame["patient_id"].gather(test).to_numpy()
    clusters = np.unique(patients, return_inverse=True)[1].astype(np.intp)
    results = []
    for labels in (SEX, VIEW, AGE):
        truth = targets.targets(inputs.frame, labels)[:, 0]
        results.append(fitted(labels, fitting, truth[fit], testing, truth[test], clusters))
    return results


def fitted(
    labels: LabelSet,
    fitting_NF: NDArray[np.float32],
    wanted_N: NDArray[np.float32],
    testing_MF: NDArray[np.float32],
    truth_M: NDArray[np.float32],
    cluster_M: NDArray[np.intp],
) -> Probed:
    """Return the linear probe of one label: fitted on N images, tested on M; NaN where the truth is not known."""
    known_N, known_M = ~np.isnan(wanted_N), ~np.isnan(truth_M)
    counts = int(known_N.sum()), int(known_M.sum())
    if reason := _lacking(labels, wanted_N[known_N], truth_M[known_M]):
        return Probed(labels, None, Interval(None, None, reason=reason), None, *counts, reason)
    said_M = _linear(labels, fitting_NF[known_N], wanted_N[known_N], testing_MF[known_M])
    truth_M, cluster_M = truth_M[known_M], cluster_M[known_M]
    if not labels.unit:
        one = clustered.estimate(said_M, truth_M > 0.5, cluster_M)
        return Probed(labels, one.value, intervals.of_estimate(one), 0.5, *counts)
    cluster_M = np.unique(cluster_M, return_inverse=True)[1].astype(np.intp)
    said_M1 = said_M.astype(np.float32)[:, None]
    median = wanted_N[known_N, None]
    told = Validation(median, median, np.arange(len(median), dtype=np.intp))  # it asks for the median alone
    error, _, of_median = mae.evaluate(said_M1, truth_M[:, None], cluster_M, labels, validation=told)
    return Probed(labels, error.value, _interval(error), of_median.value, *counts)


def _linear(
    labels: LabelSet, fitting_NF: NDArray[np.float32], wanted_N: NDArray[np.float32], testing_MF: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return logits, or years, of the M test images."""
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler()
    scaled_NF = scaler.fit_transform(fitting_NF.astype(np.float64))
    scaled_MF = scaler.transform(testing_MF.astype(np.float64))
    if labels.unit:
        return np.asarray(Ridge().fit(scaled_NF, wanted_N.astype(np.float64)).predict(scaled_MF))
    regression = LogisticRegression(max_iter=2000).fit(scaled_NF, wanted_N > 0.5)
    return np.asarray(regression.decision_function(scaled_MF))


def _lacking(labels: LabelSet, wanted: NDArray[np.float32], truth: NDArray[np.float32]) -> str:
    """Return what there is too little of; nothing where there is enough."""
    if len(wanted) < _FEWEST or not len(truth):
        which = "to fit on" if len(wanted) < _FEWEST else "to test with"
        return f"not known of enough images {which}"
    if labels.unit:
        return ""
    rarer = min(int((wanted > 0.5).sum()), int((wanted <= 0.5).sum()))
    if rarer < _FEWEST:
        return f"{rarer:,} images of one kind to fit on, fewer than {_FEWEST}"
    return "" if 0 < int((truth > 0.5).sum()) < len(truth) else "all test images are of one kind"


def _interval(metric: Metric) -> Interval:
    return Interval(metric.lower, metric.upper, metric.mark, metric.interval if metric.lower is None else "")


def left_out(results: Sequence[Probed]) -> list[str]:
    """Return a line for each probe without a value."""
    names = {AGE.name: "Age", SEX.name: "Sex", VIEW.name: "View"}
    return [f"{names[item.labels.name]}: {item.reason}" for item in results if item.reason]
