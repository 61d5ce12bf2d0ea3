"""Evaluate predictions: AUC per label, their mean over the 14 pathologies, with patient-cluster bootstrap intervals.

The protocol of Baltruschat et al. 2019 (AUC per pathology, unweighted mean over 14, "No Finding" beside), plus what the
paper leaves out: counts, intervals, and a refusal to score what was trained on.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cxrkit import predictions
from cxrkit.contracts import LABELS, PATHOLOGIES
from cxrkit.errors import UserError
from cxrkit.evaluators import ranking, results
from cxrkit.evaluators.results import Intervals, LabelScore, MeanScore, Scores, SubsetScores
from cxrkit.files import digest_lines
from cxrkit.predictions import PredictionInfo
from cxrkit.splits import Split

# An interval is given only where at least this share of the replicates defines the AUC. With k patients who have the
# finding, a share of about 1 - exp(-k) does: so an interval needs positives (and negatives) from three patients.
DEFINED_SHARE = 0.9


def evaluate_run(
    run: Path,
    records: pl.DataFrame,
    *,
    label_release: str | None = None,
    replicates: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Scores:
    """Evaluate every prediction file of a run folder, write its `scores.json`, and return what was written.

    records: the data set's table (contracts.RECORD_SCHEMA). label_release: of those records, where known; it must be
    the one that the predictions name. Raises UserError as `evaluate` does, and when the run has no predictions or its
    prediction files are of different checkpoints or splits.
    """
    paths = [path for path in (run / "predictions" / f"{name}.parquet" for name in ("val", "test")) if path.is_file()]
    if not paths:
        raise UserError(
            f"{run}: no predictions/val.parquet or predictions/test.parquet",
            remedy="finish the training, or write them with `cxrkit predict`",
        )
    abouts = {path: predictions.read(path)[1] for path in paths}
    about = _same_origin(abouts)
    if label_release is not None and label_release != about.label_release:
        raise UserError(
            f"{run}: predicted with labels of release {about.label_release}, but the records are {label_release}",
            remedy="evaluate with the data set that the model was trained on, or train and predict again",
        )
    split = _read_split(run / "split.parquet", about)
    subsets = {
        abouts[path].subset: evaluate(path, records, split, replicates=replicates, seed=seed, confidence=confidence)
        for path in paths
    }
    scores = Scores(
        model=about.model,
        split=about.split,
        split_digest=about.split_digest,
        dataset=about.dataset,
        label_release=about.label_release,
        checkpoint_sha256=about.checkpoint_sha256,
        input_size=about.input_size,
        epoch=about.epoch,
        train_images=about.train_images,
        train_subset_images=about.train_subset_images,
        subsets=subsets,
    )
    results.write(run / "scores.json", scores)
    return scores


def evaluate(
    path: Path,
    records: pl.DataFrame,
    split: pl.DataFrame | None,
    *,
    replicates: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> SubsetScores:
    """Return the scores of one prediction file.

    records: ground truth, contracts.RECORD_SCHEMA. split: image_id, patient_id, subset of the whole data set; where
    given, a prediction for an image or patient that was trained on is refused. Raises UserError for that, for an image
    that the records do not list, and for whatever `predictions.read` refuses.
    """
    _check_settings(replicates, confidence)
    frame, about = predictions.read(path)
    if split is not None:
        _refuse_contamination(path, frame, about, split)
    truth_NL = _truth(path, frame, records)
    score_NL = frame.select(LABELS).to_numpy()
    patient_N = frame["patient_id"].to_numpy()

    point_L = np.array([ranking.auc(score_NL[:, column], truth_NL[:, column]) for column in range(len(LABELS))])
    drawn_RL = ranking.bootstrap(score_NL, truth_NL, patient_N, replicates=replicates, seed=seed)
    labels = {
        label: _label_score(point, drawn_R, truth_N, confidence)
        for label, point, drawn_R, truth_N in zip(LABELS, point_L.tolist(), drawn_RL.T, truth_NL.T, strict=True)
    }
    return SubsetScores(
        subset=about.subset,
        images=len(frame),
        subset_images=about.subset_images,
        images_digest=digest_lines(frame["image_id"]),  # predictions.read sorts them
        patients=frame["patient_id"].n_unique(),
        leakage_checked=split is not None,
        mean=_mean_score(point_L[: len(PATHOLOGIES)], drawn_RL[:, : len(PATHOLOGIES)], confidence),
        labels=labels,
        intervals=Intervals(confidence=confidence, replicates=replicates, seed=seed),
    )


def _check_settings(replicates: int, confidence: float) -> None:
    if replicates < 1:
        raise UserError(f"{replicates} bootstrap replicates; expected at least 1", remedy="1000 is the default")
    if not 0 < confidence < 1:
        raise UserError(f"confidence {confidence}; expected a number between 0 and 1", remedy="0.95 is the default")


def _truth(path: Path, frame: pl.DataFrame, records: pl.DataFrame) -> NDArray[np.bool_]:
    """Return the labels of the predicted images, in their order, shape (N, L)."""
    labelled = frame.select("image_id", "patient_id").join(
        records.select("image_id", pl.col("patient_id").alias("recorded_patient"), *LABELS),
        on="image_id",
        how="left",
        maintain_order="left",
    )
    unknown = labelled.filter(pl.col("recorded_patient").is_null())["image_id"]
    if len(unknown):
        raise UserError(
            f"{path}: {len(unknown):,} of {len(frame):,} predicted images are not in the data set's records, "
            f"first {unknown[0]}",
            remedy="evaluate with the data set that was predicted",
        )
    other = labelled.filter(pl.col("recorded_patient") != pl.col("patient_id"))
    if len(other):
        raise UserError(
            f"{path}: {other['image_id'][0]} is of patient {other['patient_id'][0]}, "
            f"but the records say {other['recorded_patient'][0]}",
            remedy="evaluate with the data set that was predicted",
        )
    return labelled.select(LABELS).to_numpy().astype(bool)


# What a model has seen before it is asked: the checkpoint is chosen on val, so val is no clean test either.
_SEEN_BEFORE = {"test": ("train", "val"), "val": ("train",)}


def _refuse_contamination(path: Path, frame: pl.DataFrame, about: PredictionInfo, split: pl.DataFrame) -> None:
    """Refuse predictions of images, or of patients, that the model has seen, and of images of another subset."""
    seen_in = _SEEN_BEFORE[about.subset]
    placed = frame.select("image_id").join(
        split.select("image_id", pl.col("subset").cast(pl.String)), on="image_id", how="left", maintain_order="left"
    )
    seen = placed.filter(pl.col("subset").is_in(seen_in))
    if len(seen):
        raise UserError(
            f"{path}: {len(seen):,} of {len(frame):,} {about.subset} images belong to the "
            f"{seen['subset'][0]} subset of split {about.split}, first {seen['image_id'][0]}",
            remedy="scores of images that a model was trained or chosen on mean nothing: "
            f"predict the {about.subset} subset of the split that the model was trained with",
        )
    outside = placed.filter(pl.col("subset").is_null() | (pl.col("subset") != about.subset))
    if len(outside):
        raise UserError(
            f"{path}: {len(outside):,} images are not in the {about.subset} subset of split {about.split}, "
            f"first {outside['image_id'][0]}",
            remedy="predict again with the split that the model was trained with",
        )
    seen_patients = split.filter(pl.col("subset").cast(pl.String).is_in(seen_in))["patient_id"]
    shared = frame.filter(pl.col("patient_id").is_in(seen_patients.unique().implode()))
    if len(shared):
        raise UserError(
            f"{path}: {shared['patient_id'].n_unique():,} patients of the {about.subset} images are also in "
            f"{' or '.join(seen_in)}, first patient {shared['patient_id'][0]}",
            remedy="images of one patient resemble each other; split by patient and train again",
        )
    listed = split.filter(pl.col("subset").cast(pl.String) == about.subset).height
    if listed != about.subset_images:
        raise UserError(
            f"{path}: says that the {about.subset} subset has {about.subset_images:,} images, "
            f"but the run's split lists {listed:,}",
            remedy="predict again with the split that the model was trained with",
        )


def _label_score(
    point: float, drawn_R: NDArray[np.float64], truth_N: NDArray[np.bool_], confidence: float
) -> LabelScore:
    positives = int(truth_N.sum())
    negatives = len(truth_N) - positives
    if np.isnan(point):
        reason = "0 positives" if positives == 0 else "0 negatives"
        return LabelScore(None, None, None, positives, negatives, reason, reason)
    lower, upper, why_none = _interval(drawn_R, confidence)
    return LabelScore(point, lower, upper, positives, negatives, "", why_none)


def _mean_score(point_L: NDArray[np.float64], drawn_RL: NDArray[np.float64], confidence: float) -> MeanScore:
    """Average the pathologies that have an AUC; a replicate counts only where all of these have one."""
    defined_L = ~np.isnan(point_L)
    count = int(defined_L.sum())
    reason = "" if count == len(point_L) else f"over {count} of {len(point_L)}"
    if count == 0:
        return MeanScore(None, None, None, 0, reason, reason)
    lower, upper, why_none = _interval(drawn_RL[:, defined_L].mean(axis=1), confidence)
    return MeanScore(float(point_L[defined_L].mean()), lower, upper, count, reason, why_none)


def _interval(drawn_R: NDArray[np.float64], confidence: float) -> tuple[float | None, float | None, str]:
    """Return the percentile interval of the replicates, or why there is none."""
    defined = drawn_R[~np.isnan(drawn_R)]
    if len(defined) < DEFINED_SHARE * len(drawn_R):
        return None, None, f"defined in {len(defined):,} of {len(drawn_R):,} replicates"
    tail = (1 - confidence) / 2
    lower, upper = np.quantile(defined, [tail, 1 - tail])
    return float(lower), float(upper), ""


def _same_origin(abouts: dict[Path, PredictionInfo]) -> PredictionInfo:
    """Return what the prediction files agree on; refuse files of different models, checkpoints, splits or labels."""
    (first_path, first), *others = abouts.items()
    for path, about in others:
        for name in ("model", "split", "split_digest", "dataset", "label_release", "checkpoint_sha256"):
            if getattr(about, name) != getattr(first, name):
                raise UserError(
                    f"{path}: {name} is {getattr(about, name)!r}, but {first_path.name} has {getattr(first, name)!r}",
                    remedy="predict both subsets again with one checkpoint",
                )
    for path, about in abouts.items():
        if about.subset != path.stem:
            raise UserError(f"{path}: holds predictions of the {about.subset} subset", remedy="predict again")
    return first


def _read_split(path: Path, about: PredictionInfo) -> pl.DataFrame | None:
    """Return the run's split, which must be the one that the predictions name, or None where the run has none."""
    if not path.is_file():
        return None
    remedy = "predict again, from a run folder that is whole"
    try:
        frame = pl.read_parquet(path, columns=["image_id", "patient_id", "subset"])
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UserError(f"{path}: not a readable split ({str(error).splitlines()[0]})", remedy=remedy) from None
    digest = Split(about.split, frame).digest
    if digest != about.split_digest:
        raise UserError(
            f"{path}: this split has digest {digest[:12]}, but the predictions were made for {about.split_digest[:12]}",
            remedy=remedy,
        )
    return frame
