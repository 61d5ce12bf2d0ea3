"""From a run's prediction files to its `scores.json`: reads, asks the gates, calls the evaluator, writes."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cxrkit.base import registry
from cxrkit.base.contracts import Evaluator, Metric
from cxrkit.base.errors import UserError
from cxrkit.base.files import digest_lines
from cxrkit.base.labels import LabelSet
from cxrkit.evaluators import gates
from cxrkit.evaluators.truth import Truth
from cxrkit.runs.predictions import SUBSETS, Predictions, read_predictions
from cxrkit.runs.scores import IDENTITY, Scores, SubsetScores, check_metrics, write_scores

_NUMBERS = dict.fromkeys(("value", "lower", "upper"), float) | dict.fromkeys(("positives", "negatives", "labels"), int)


@dataclass(frozen=True)
class ChosenEvaluator:
    """An evaluator and its settings."""

    name: str
    """Registered name, or package.module:function."""

    function: Evaluator
    """What the name names."""

    options: Mapping[str, Any]
    """Keyword arguments for the function: those that the user gave."""


def evaluate_run(run: Path, truth: Truth, evaluator: str = "auc", options: Mapping[str, Any] | None = None) -> Scores:
    """Evaluate every prediction file of a run folder, write its `scores.json`, and return what was written.

    evaluator: registered name, or package.module:function. options: its keyword arguments. Raises UserError, and
    leaves an earlier `scores.json` as it is, when the run has no predictions, when its files are of different
    checkpoints, and when a gate refuses one (cxrkit/evaluators/gates.py).
    """
    chosen = choose_evaluator(evaluator, options or {})
    paths = [path for path in (run / "predictions" / f"{name}.parquet" for name in SUBSETS) if path.is_file()]
    if not paths:
        raise UserError(
            f"{run}: no predictions/val.parquet or predictions/test.parquet",
            remedy="finish the training, or write them with `cxrkit predict`",
        )
    predicted = {path: read_predictions(path) for path in paths}
    about = gates.check_same_run(predicted)
    records = gates.check_labels(paths[0], about, truth)
    split = gates.read_split(run / "split.parquet", about)
    declared = gates.read_declared(run / "training.parquet", about)
    # Of a model from elsewhere the split says what it was to be trained on, not what it was.
    checked = split is not None and (about.origin.basis.training == "checked" or declared is not None)
    subsets = {}
    for path, file in predicted.items():
        if split is not None:
            gates.check_leakage(path, file, split)
        if declared is not None:
            gates.check_declared(path, file, declared)
        truth_NL = gates.true_labels(path, file, records, truth.source)
        scores = score_subset(file, truth_NL, chosen)
        subsets[file.about.subset] = replace(scores, leakage_checked=checked)
    identity = {name: getattr(about, name) for name in IDENTITY}
    found = Scores(**identity, evaluator=evaluator, subsets=subsets)
    write_scores(run / "scores.json", found)
    return found


def score_subset(predictions: Predictions, truth_NL: np.ndarray, chosen: ChosenEvaluator) -> SubsetScores:
    """Return the scores of one prediction file against the labels of its images, 1, 0 or NaN, in its order."""
    frame, about = predictions.frame, predictions.about
    labels = about.scored
    score_NL = frame.select(labels.labels).to_numpy()
    truth_NL = truth_NL[:, [about.labels.labels.index(label) for label in labels.labels]]
    _, cluster_N = np.unique(frame["patient_id"].to_numpy(), return_inverse=True)
    return SubsetScores(
        subset=about.subset,
        images=len(frame),
        subset_images=about.subset_images,
        images_digest=digest_lines(frame["image_id"]),  # they are sorted
        patients=frame["patient_id"].n_unique(),
        predictions_sha256=predictions.sha256,
        leakage_checked=False,
        metrics=_checked(_call(chosen, score_NL, truth_NL, cluster_N, labels), labels, chosen),
    )


def choose_evaluator(name: str, options: Mapping[str, Any]) -> ChosenEvaluator:
    """Return the evaluator. Raises UserError for an unknown name, and for an option that it does not take."""
    function: Evaluator = registry.load("evaluator", name)
    if not callable(function):
        raise UserError(f"evaluator {name!r} is not a function", remedy="name it as package.module:function")
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # some callables written in C have none: the call will tell
        return ChosenEvaluator(name, function, options)
    if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        for option in options.keys() - {parameter.name for parameter in parameters}:
            raise UserError(f"evaluator {name!r} takes no {option!r}", remedy=f"leave --{option} out")
    return ChosenEvaluator(name, function, options)


def _call(
    chosen: ChosenEvaluator, score_NL: np.ndarray, truth_NL: np.ndarray, cluster_N: np.ndarray, labels: LabelSet
) -> list[Any]:
    """Return what the evaluator finds; a foreign one's own failure is told as its own."""
    try:
        return list(chosen.function(score_NL, truth_NL, cluster_N, labels, **chosen.options))
    except UserError:
        raise
    except Exception as error:
        if chosen.function.__module__.startswith("cxrkit."):
            raise
        raise UserError(
            f"evaluator {chosen.name!r} failed: {type(error).__name__}: {error}",
            remedy="correct it; --debug shows where it failed",
        ) from error


def _checked(metrics: list[Any], labels: LabelSet, chosen: ChosenEvaluator) -> tuple[Metric, ...]:
    """Return the metrics as plain numbers, or say what of them cannot be written to scores.json."""
    try:
        if not metrics:
            raise ValueError("it found no metric")
        found = tuple(map(_plain, metrics))
        check_metrics(found, labels)
    except ValueError as error:
        raise UserError(
            f"evaluator {chosen.name!r}: {error}",
            remedy="correct it; cxrkit/evaluators/__init__.py says what an evaluator returns",
        ) from None
    return found


def _plain(metric: Any) -> Metric:
    """Return the metric with Python's own numbers: JSON knows no NumPy, and no NaN."""
    if not isinstance(metric, Metric):
        raise ValueError(f"{metric!r} is not a Metric")
    of = f"{metric.name} of {metric.label or 'the mean'}"
    changed: dict[str, Any] = {}
    for field, kind in _NUMBERS.items():
        number = getattr(metric, field)
        try:
            changed[field] = None if number is None else kind(number)
        except (TypeError, ValueError, OverflowError):
            raise ValueError(f"{of}: {field} is {number!r}, not a number") from None
        if number is not None and not math.isfinite(changed[field]):
            raise ValueError(f"{of}: {field} is {number!r}; where it is undefined, give None and the reason")
    return replace(metric, **changed)
