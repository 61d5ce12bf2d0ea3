"""From a run's prediction files to its `scores.json`: reads, asks the gates, calls the evaluator, writes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from cxrkit.base import registry
from cxrkit.base.contracts import IMAGE_SCHEMA, Metric, Validation
from cxrkit.base.errors import UserError
from cxrkit.base.files import digest_lines
from cxrkit.base.labels import LabelSet
from cxrkit.evaluators import gates, keeping
from cxrkit.evaluators.choosing import ChosenEvaluator, choose_evaluators, quickly, split_names, with_aucs
from cxrkit.evaluators.truth import Truth
from cxrkit.runs.predictions import SUBSETS, Predictions, read_predictions
from cxrkit.runs.scores import IDENTITY, Scores, SubsetScores, check_metrics, read_scores, write_scores

_NUMBERS = dict.fromkeys(("value", "lower", "upper", "clusters_effective", "p_value"), float) | dict.fromkeys(
    ("positives", "negatives", "labels", "positive_patients"), int
)
_MADE_UP = 24  # images of a rehearsal, two a patient


def evaluate_run(
    run: Path,
    truth: Truth,
    evaluator: str = "auc",
    options: Mapping[str, Any] | None = None,
    beside: Scores | None = None,
) -> Scores:
    """Evaluate every prediction file of a run folder, write its `scores.json`, and return what was written.

    evaluator: registered name, or package.module:function; several are joined by commas. options: keyword arguments
    for those that take them. beside: earlier scores of the same prediction files (keeping.earlier); what other
    evaluators found there is kept. Raises UserError, and leaves an earlier `scores.json` as it is, when the run has no
    predictions, when its files are of different checkpoints, and when a gate refuses one
    (cxrkit/evaluators/gates.py).
    """
    chosen = choose_evaluators(evaluator, options or {})
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
    validation_images = gates.read_validation(run / "validation.parquet", about)
    if split is not None and validation_images is not None:
        split = gates.with_validation(split, validation_images)
    # Of a model from elsewhere the split says what it was to be trained on, not what it was.
    checked = split is not None and (about.origin.basis.training == "checked" or declared is not None)
    for path, file in predicted.items():
        if split is not None:
            gates.check_leakage(path, file, split)
        if declared is not None:
            gates.check_declared(path, file, declared)
    truths = {path: gates.true_labels(path, file, records, truth.source) for path, file in predicted.items()}
    asked = {item.name: _plain_options(item.options) for item in chosen if item.options}
    validation = validation_of(predicted, truths)
    chosen = [item.knowing(validation) for item in chosen]
    subsets = {}
    for path, file in predicted.items():
        scores = score_subset(file, truths[path], chosen, truth.images(file.frame))
        subsets[file.about.subset] = replace(scores, leakage_checked=checked)
    identity = {name: getattr(about, name) for name in IDENTITY}
    found = Scores(**identity, evaluator=",".join(item.name for item in chosen), subsets=subsets, options=asked)
    if beside is not None and keeping.same_predictions(beside, found):
        found = keeping.together(beside, found)
    write_scores(run / "scores.json", found)
    return found


def _plain_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options as scores.json can say them."""
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}
    return {name: value if isinstance(value, str | int | float | list) else str(value) for name, value in plain.items()}


def scored_arrays(predictions: Predictions, truth_NL: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return scores and truth without the labels that have no scores (PredictionInfo.unscored)."""
    about = predictions.about
    kept = [about.labels.labels.index(label) for label in about.scored.labels]
    return predictions.frame.select(about.scored.labels).to_numpy(), truth_NL[:, kept]


def validation_of(predicted: Mapping[Path, Predictions], truths: Mapping[Path, np.ndarray]) -> Validation | None:
    """Return the validation images' scores and truth; None where val was not predicted."""
    for path, file in predicted.items():
        if file.about.subset == "val":
            return Validation(*scored_arrays(file, truths[path]), _clusters(file))
    return None


def is_by(run: Path, evaluator: str) -> bool:
    """Return whether the scores of a run folder are by the evaluators asked for, which a resumed run may change.

    Their options are not the config's to say, and neither is who else is asked: what somebody asked by hand is kept.
    """
    with suppress(UserError):  # scores that cannot be read are by nobody
        return {*split_names(with_aucs(evaluator))} <= {*read_scores(run / "scores.json").evaluators}
    return False


def score_subset(
    predictions: Predictions, truth_NL: np.ndarray, chosen: Sequence[ChosenEvaluator], images: pl.DataFrame
) -> SubsetScores:
    """Return the scores of one prediction file against the labels of its images, 1, 0 or NaN, in its order.

    images: what is known of them (IMAGE_SCHEMA), in the same order.
    """
    frame, about = predictions.frame, predictions.about
    labels = about.scored
    score_NL, truth_NL = scored_arrays(predictions, truth_NL)
    cluster_N = _clusters(predictions)
    return SubsetScores(
        subset=about.subset,
        images=len(frame),
        subset_images=about.subset_images,
        images_digest=digest_lines(frame["image_id"]),  # they are sorted
        patients=frame["patient_id"].n_unique(),
        predictions_sha256=predictions.sha256,
        leakage_checked=False,
        metrics=_metrics(_Scored(score_NL, truth_NL, cluster_N, images), labels, chosen),
    )


def _clusters(predictions: Predictions) -> np.ndarray:
    """Return the number of each image's patient, from 0."""
    return np.unique(predictions.frame["patient_id"].to_numpy(), return_inverse=True)[1]


def rehearse(evaluator: str, labels: LabelSet) -> None:
    """Try the evaluators that are not cxrkit's own on made-up scores: their faults are heard before a training.

    evaluator: as `evaluate_run` takes it. Raises UserError for a wrong name, and for what an evaluator does wrong.
    """
    chosen = choose_evaluators(evaluator, {})
    if not any(registry.is_foreign("evaluator", item.name) for item in chosen):
        return
    chosen = [quickly(item) for item in chosen]
    clusters_N = np.arange(_MADE_UP) // 2
    for what, score_NL, truth_NL in _made_up(labels):
        try:
            _metrics(_Scored(score_NL, truth_NL, clusters_N, _made_up_images()), labels, chosen)
        except UserError as error:
            raise UserError(
                f"{error.what}\n  tried before the training, on made-up scores of {_MADE_UP} images: {what}",
                remedy=error.remedy,
            ) from error


def _made_up_images() -> pl.DataFrame:
    """Return what is known of the images of a rehearsal: not all of each."""
    number = pl.int_range(_MADE_UP, eager=True)
    return pl.DataFrame(
        {
            "image_id": number.cast(pl.String),
            "patient_id": (number // 2).cast(pl.String),
            "age_years": [None, *range(17, 16 + _MADE_UP)],
            "sex": ["F", "F", "M", "M", None, None] * (_MADE_UP // 6),
            "view": ["PA", "AP", None] * (_MADE_UP // 3),
        },
        schema=IMAGE_SCHEMA,
    )


def _made_up(labels: LabelSet) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield what is special, scores and truth (_MADE_UP, L): what small subsets and weak networks hold, too."""
    generator = np.random.default_rng(0)
    score_NL = generator.random((_MADE_UP, len(labels)), dtype=np.float32)
    truth_NL = (np.arange(_MADE_UP)[:, None] + np.arange(len(labels))) % 3 == 0
    yield "nothing is special about them", score_NL, truth_NL.astype(np.float32)
    yield "all scores are equal", np.full_like(score_NL, 0.5), truth_NL.astype(np.float32)
    sparse_NL = truth_NL.astype(np.float32)
    sparse_NL[1::5] = np.nan
    absent, first = f"no image has {labels.labels[0]}", ""
    sparse_NL[:, 0] = 0
    if len(labels) > 1:
        sparse_NL[:, 1] = np.nan
        first = f", {labels.labels[1]} is not known of any"
    yield f"{absent}{first}, and other labels are not known of all", score_NL, sparse_NL


@dataclass(frozen=True)
class _Scored:
    """What evaluators are given of one subset."""

    scores: np.ndarray  # (N, L)
    truth: np.ndarray  # (N, L)
    clusters: np.ndarray  # (N,)
    images: pl.DataFrame


def _metrics(given: _Scored, labels: LabelSet, chosen: Sequence[ChosenEvaluator]) -> tuple[Metric, ...]:
    """Return what all evaluators find. Raises UserError for a metric that two of them give."""
    found: dict[tuple[str, str | None, str], Metric] = {}
    owner: dict[tuple[str, str | None, str], str] = {}
    for item in chosen:
        for metric in _checked(_call(item, given, labels), labels, item):
            key = metric.name, metric.label, metric.group
            if key in found:
                raise UserError(
                    f"evaluators {owner[key]!r} and {item.name!r} both give {metric.of}",
                    remedy="choose one of them, or give your metric a name of its own",
                )
            found[key], owner[key] = metric, item.name
    return tuple(found.values())


def _call(chosen: ChosenEvaluator, given: _Scored, labels: LabelSet) -> list[Any]:
    """Return what the evaluator finds; a foreign one's own failure is told as its own."""
    options = dict(chosen.options)
    if chosen.asks_for("images"):
        options["images"] = given.images
    # Copies: whatever one does to them, the next is given what was predicted.
    arrays = given.scores.copy(), given.truth.copy(), given.clusters.copy()
    try:
        return list(chosen.function(*arrays, labels, **options))
    except UserError:
        raise
    except Exception as error:
        if not registry.is_foreign("evaluator", chosen.name):
            raise
        doing = f"given the scores of {len(given.scores):,} images and {len(labels)} labels"
        raise registry.failed("evaluator", chosen.name, error, doing) from error


def _checked(metrics: list[Any], labels: LabelSet, chosen: ChosenEvaluator) -> tuple[Metric, ...]:
    """Return the metrics as plain numbers, or say what of them cannot be written to scores.json."""
    try:
        if not metrics:
            raise ValueError("it found no metric")
        found = tuple(_plain(metric, chosen.name) for metric in metrics)
        check_metrics(found, labels)
    except ValueError as error:
        raise UserError(
            f"evaluator {chosen.name!r}: {error}",
            remedy="correct it; cxrkit/base/contracts.py says what an evaluator returns (Evaluator, Metric)",
        ) from None
    return found


def _plain(metric: Any, evaluator: str) -> Metric:
    """Return the metric with who found it and with Python's own numbers: JSON knows no NumPy, and no NaN."""
    if not isinstance(metric, Metric):
        raise ValueError(f"{metric!r} is not a Metric")
    if not isinstance(metric.name, str) or not metric.name.strip() or not metric.name.isprintable():
        raise ValueError(f"a metric is called {metric.name!r}, expected a printable name")
    of = metric.of
    changed: dict[str, Any] = {"constant": bool(metric.constant), "evaluator": evaluator}
    for field in ("reason", "interval", "group"):
        if not isinstance(getattr(metric, field), str):
            raise ValueError(f"{of}: {field} is {getattr(metric, field)!r}, not text")
    for field, kind in _NUMBERS.items():
        number = getattr(metric, field)
        try:
            changed[field] = None if number is None else kind(number)
        except (TypeError, ValueError, OverflowError):
            raise ValueError(f"{of}: {field} is {number!r}, not a number") from None
        if number is not None and not math.isfinite(changed[field]):
            raise ValueError(f"{of}: {field} is {number!r}; where it is undefined, give None and the reason")
    return replace(metric, **changed)
