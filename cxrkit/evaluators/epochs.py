"""From the kept predictions of every epoch to `epochs.json`; the gates are those of scores.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from cxrkit.base.contracts import EVALUATED, Subset
from cxrkit.base.errors import UserError
from cxrkit.evaluators import auc, gates
from cxrkit.evaluators.choosing import ChosenEvaluator, choose_evaluators, quickly
from cxrkit.evaluators.scoring import score_subset, validation_of
from cxrkit.evaluators.truth import Truth
from cxrkit.runs import epochs
from cxrkit.runs.epoch_scores import EpochScores, RunEpochs, write_epoch_scores
from cxrkit.runs.folder import RunFolder
from cxrkit.runs.predictions import Predictions, read_predictions
from cxrkit.runs.scores import IDENTITY, Scores, SubsetScores

_AUC = quickly(ChosenEvaluator(auc.NAME, auc.evaluate, {}))
_NO_INTERVAL = "none is made for the epochs that are kept"
_OF_AN_EPOCH = ("epoch", "checkpoint_sha256")  # in these an epoch may differ from the run's own scores


def evaluate_epochs(run: RunFolder, truth: Truth, scores: Scores) -> RunEpochs | None:
    """Score the kept epochs of a run, write its `epochs.json`, and return what was written; None where none is kept.

    truth: as the run's own scores were made with. scores: these, just made. An epoch that a gate refuses is left out,
    with the reason.
    """
    run.epoch_scores.unlink(missing_ok=True)
    kept = epochs.kept(run)
    if not kept or "test" not in scores.subsets:
        return None
    chosen = [quickly(item) for item in _as_before(scores)]
    against: _Against | None = None
    found, unusable = [], {}
    for epoch in kept:
        try:
            files = _read(run, epoch, scores)
            against = against or _Against.of(run, files, truth)
            found.append(_scored(epoch, epochs.read(run, epoch).val_loss, files, against, chosen, scores))
        except UserError as error:
            unusable[str(epoch)] = error.what
    written = RunEpochs(scores.evaluator, scores.subsets["test"].predictions_sha256, tuple(found), unusable)
    write_epoch_scores(run.epoch_scores, written)
    return written


@dataclass(frozen=True)
class _Against:
    """What the predictions of every epoch are held against."""

    records: pl.DataFrame
    """The labels of all images."""

    split: pl.DataFrame | None
    """The run's split; None where it is gone."""

    truth: Truth
    """Where the labels come from."""

    @classmethod
    def of(cls, run: RunFolder, files: Mapping[Path, Predictions], truth: Truth) -> _Against:
        """Read what is needed, once. Raises UserError where the labels are not those that were predicted."""
        path, file = list(files.items())[-1]
        return cls(gates.check_labels(path, file.about, truth), gates.read_split(run.split, file.about), truth)


def _read(run: RunFolder, epoch: int, scores: Scores) -> dict[Path, Predictions]:
    """Return the predictions of an epoch by file, those of val first."""
    files = {}
    for subset in EVALUATED:
        path = epochs.predictions_of(run, epoch, subset)
        files[path] = read_predictions(path)
        _check_identity(path, files[path], subset, epoch, scores)
    return files


def _scored(
    epoch: int,
    val_loss: float,
    files: Mapping[Path, Predictions],
    against: _Against,
    chosen: Sequence[ChosenEvaluator],
    scores: Scores,
) -> EpochScores:
    """Return the scores of one epoch. Raises UserError for what a gate refuses."""
    if against.split is not None:
        for path, file in files.items():
            gates.check_leakage(path, file, against.split)
    truths = {
        path: gates.true_labels(path, file, against.records, against.truth.source) for path, file in files.items()
    }
    validation = validation_of(files, truths)
    val, test = (
        _points(file, truths[path], [item.knowing(validation) for item in how], against.truth)
        for (path, file), how in zip(files.items(), ([_AUC], chosen), strict=True)
    )
    if test.images_digest != scores.subsets["test"].images_digest:
        raise UserError(f"{list(files)[-1]}: holds other images than the run's predictions/test.parquet")
    test = replace(test, leakage_checked=against.split is not None)
    mean = val.metric(auc.NAME)
    return EpochScores(epoch, val_loss, mean.value if mean else None, val.predictions_sha256, test)


def _check_identity(path: Path, file: Predictions, subset: Subset, epoch: int, scores: Scores) -> None:
    """Raise a UserError unless a file is what its name says, of the run and the terms of the run's own scores."""
    about = file.about
    if (about.subset, about.epoch) != (subset, epoch):
        raise UserError(f"{path}: holds the predictions of epoch {about.epoch} of the {about.subset} subset")
    for name in IDENTITY:
        if name not in _OF_AN_EPOCH and getattr(about, name) != getattr(scores, name):
            raise UserError(f"{path}: of another {name} than the run's own predictions")


def _as_before(scores: Scores) -> list[ChosenEvaluator]:
    """Return the evaluators of the run's own scores, with the options that they were given there."""
    chosen = []
    for name in scores.evaluators:
        options = scores.options.get(name, {})
        chosen += choose_evaluators(name, {key: _as_given(value) for key, value in options.items()})
    return chosen


def _as_given(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _points(file: Predictions, truth_NL: np.ndarray, chosen: Sequence[ChosenEvaluator], truth: Truth) -> SubsetScores:
    scores = score_subset(file, truth_NL, chosen, truth.images(file.frame))
    points = (replace(metric, lower=None, upper=None, p_value=None, interval=_NO_INTERVAL) for metric in scores.metrics)
    return replace(scores, metrics=tuple(points))
