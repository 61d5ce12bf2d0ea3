"""What must hold before predictions are scored: the labels they were made for, and nothing that the model has seen."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cxrkit.base import origin as origins
from cxrkit.base.errors import UserError
from cxrkit.base.origin import labels_digest
from cxrkit.datasets.splits import Split
from cxrkit.evaluators.truth import Truth
from cxrkit.runs.predictions import PredictionInfo, Predictions
from cxrkit.runs.scores import IDENTITY

# What a model has seen before it is asked: the checkpoint is chosen on val, so val is no clean test either.
_SEEN_BEFORE = {"test": ("train", "val"), "val": ("train",)}


def check_labels(path: Path, about: PredictionInfo, truth: Truth) -> pl.DataFrame:
    """Return the records of `truth`. Raises UserError unless their labels are those that the predictions name.

    Nor may its boxes be others than those that the network learned from.
    """
    records = truth.records(about.labels)
    digest = labels_digest(records, about.labels)
    claimed = about.origin
    found = replace(
        claimed,
        dataset=truth.dataset,
        labels_digest=digest,
        # Equal digests are equal labels, whatever they are called.
        label_release=claimed.label_release if digest == claimed.labels_digest else truth.label_release,
        boxes_digest=truth.boxes_digest(about.labels) if claimed.boxes_digest else "",
    )
    for difference in origins.differences(claimed, found, {"data set", "labels", "boxes"}):
        if difference.part == "boxes":
            raise UserError(
                f"{path}: predicted by a network that learned from {difference.one}, but {truth.folder} has "
                f"{difference.other}",
                remedy="name the prepared folder that it was trained on with --data, or train again with these boxes",
            )
        digests = f" (labels digest {claimed.labels_digest[:12]}, and {digest[:12]} there)"
        said = not claimed.labels_digest or claimed.labels_digest[:12] in difference.one
        raise UserError(
            f"{path}: predicted for {difference.one}, but {truth.source} has {difference.other}" + digests * (not said),
            remedy="name the prepared folder that the model was trained on with --data, or train and predict again",
        )
    return records


def true_labels(path: Path, predictions: Predictions, records: pl.DataFrame, source: Path) -> NDArray[np.float32]:
    """Return the labels of the predicted images, in their order: (N, L) of 1, 0 and NaN for what is not known.

    source: where the records are from, for messages. Raises UserError for an image that they do not list, or list with
    another patient.
    """
    labels = predictions.about.labels.labels
    labelled = predictions.frame.select("image_id", "patient_id").join(
        records.select("image_id", pl.col("patient_id").alias("recorded_patient"), *labels),
        on="image_id",
        how="left",
        maintain_order="left",
    )
    remedy = "evaluate with the data set that was predicted"
    unknown = labelled.filter(pl.col("recorded_patient").is_null())["image_id"]
    if len(unknown):
        raise UserError(
            f"{path}: {len(unknown):,} of {len(labelled):,} predicted images are not in {source}, first {unknown[0]}",
            remedy=remedy,
        )
    other = labelled.filter(pl.col("recorded_patient") != pl.col("patient_id"))
    if len(other):
        raise UserError(
            f"{path}: {other['image_id'][0]} is of patient {other['patient_id'][0]}, "
            f"but {source} says {other['recorded_patient'][0]}",
            remedy=remedy,
        )
    return labelled.select(pl.col(label).cast(pl.Float32).fill_null(float("nan")) for label in labels).to_numpy()


def check_leakage(path: Path, predictions: Predictions, split: pl.DataFrame) -> None:
    """Refuse predictions of images, or of patients, that the model has seen, and of images of another subset.

    split: image_id, patient_id, subset of the whole data set. Raises UserError.
    """
    frame, about = predictions.frame, predictions.about
    name, seen_in = about.origin.split, _SEEN_BEFORE[about.subset]
    placed = frame.select("image_id").join(
        split.select("image_id", pl.col("subset").cast(pl.String)), on="image_id", how="left", maintain_order="left"
    )
    seen = placed.filter(pl.col("subset").is_in(seen_in))
    if len(seen):
        raise UserError(
            f"{path}: {len(seen):,} of {len(frame):,} {about.subset} images belong to the "
            f"{seen['subset'][0]} subset of split {name}, first {seen['image_id'][0]}",
            remedy="scores of images that a model was trained or chosen on mean nothing: "
            f"predict the {about.subset} subset of the split that the model was trained with",
        )
    outside = placed.filter(pl.col("subset").is_null() | (pl.col("subset") != about.subset))
    if len(outside):
        raise UserError(
            f"{path}: {len(outside):,} images are not in the {about.subset} subset of split {name}, "
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


def read_declared(path: Path, about: PredictionInfo) -> pl.DataFrame | None:
    """Return image_id and patient_id of the training images that are declared for an imported run; None: none are."""
    if about.origin.basis.training != "declared":
        return None
    try:
        with open(path, "rb") as file:  # polars takes brackets in a name for a pattern
            frame = pl.read_parquet(file, columns=["image_id", "patient_id"])
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{path}: the declared training images cannot be read ({line})", remedy="import the predictions again"
        ) from None
    return frame


def read_validation(path: Path, about: PredictionInfo) -> pl.DataFrame | None:
    """Return image_id and patient_id of the validation images that are declared for an imported run.

    None: its validation images, if any, are those of its split. Raises UserError unless they are the images that the
    predictions name.
    """
    digest = about.origin.validation_digest
    if not digest:
        return None
    remedy = "import the predictions again"
    try:
        with open(path, "rb") as file:  # polars takes brackets in a name for a pattern
            frame = pl.read_parquet(file, columns=["image_id", "patient_id"])
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: the declared validation images cannot be read ({line})", remedy=remedy) from None
    found = origins.digest_column(frame["image_id"].unique().sort())
    if found != digest:
        raise UserError(
            f"{path}: holds validation images with digest {found[:12]}, but the predictions name those with digest "
            f"{digest[:12]}",
            remedy=remedy,
        )
    return frame


def with_validation(split: pl.DataFrame, validation: pl.DataFrame) -> pl.DataFrame:
    """Return what is known of a run's subsets where its validation images are its own: these, and the split's test.

    Which images it was trained on no split says. An image in both is in test: there `check_leakage` finds it.
    """
    test = split.filter(pl.col("subset").cast(pl.String) == "test").select(
        "image_id", "patient_id", subset=pl.lit("test")
    )
    own = validation.select("image_id", "patient_id", subset=pl.lit("val"))
    return pl.concat([test, own.join(test, on="image_id", how="anti")])


def check_declared(path: Path, predictions: Predictions, declared: pl.DataFrame) -> None:
    """Refuse predictions of images, or of patients, that the model is declared to be trained on. Raises UserError."""
    frame, subset = predictions.frame, predictions.about.subset
    seen = frame.join(declared, on="image_id", how="semi")
    shared = frame.join(declared, on="patient_id", how="semi")
    if not len(shared):
        return
    patients = shared["patient_id"].n_unique()
    raise UserError(
        f"{path}: {len(seen):,} of {len(frame):,} {subset} images and {patients:,} of their patients are among the "
        f"images that the model was trained on, first {(seen if len(seen) else shared)['image_id'][0]}",
        remedy="scores of what a model was trained on mean nothing: import them for the split that it was trained with",
    )


def check_same_run(predicted: dict[Path, Predictions]) -> PredictionInfo:
    """Return what the prediction files of a run agree on; refuse files of different checkpoints, splits or labels."""
    (first_path, first), *others = predicted.items()
    for path, file in others:
        for name in IDENTITY:
            one, other = getattr(first.about, name), getattr(file.about, name)
            if one != other:
                raise UserError(
                    f"{path}: {_words(name, other, one)}, but {first_path.name} has {_words(name, one, other)}",
                    remedy="predict both subsets again with one checkpoint",
                )
    for path, file in predicted.items():
        if file.about.subset != path.stem:
            raise UserError(
                f"{path}: holds predictions of the {file.about.subset} subset",
                remedy="predict again with `cxrkit predict`",
            )
    return first.about


def _words(name: str, value: object, other: object) -> str:
    """Return "epoch 7"; of an Origin the part that differs, where there is one, and not all of its digests."""
    if isinstance(value, origins.Origin) and isinstance(other, origins.Origin):
        if found := origins.differences(value, other):
            return found[0].one
        name = next(item.name for item in fields(value) if getattr(value, item.name) != getattr(other, item.name))
        return f"{name} {getattr(value, name)!r}"
    return f"{name} {value!r}"


def read_split(path: Path, about: PredictionInfo) -> pl.DataFrame | None:
    """Return the run's split, which must be the one that the predictions name, or None where the run has none."""
    remedy = "predict again, from a run folder that is whole"
    columns = {"image_id": pl.String(), "patient_id": pl.String(), "subset": pl.String()}
    try:
        # An open file, because polars takes brackets in a name for a pattern.
        with open(path, "rb") as file:
            frame = pl.read_parquet(file, columns=list(columns))
        frame = pl.DataFrame({name: frame[name].cast(kind) for name, kind in columns.items()}, schema=columns)
    except FileNotFoundError:
        return None
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: not a readable split ({line})", remedy=remedy) from None
    if frame.is_empty() or sum(frame.null_count().row(0)):
        raise UserError(f"{path}: not a split: it is empty, or a cell of it is", remedy=remedy)
    found = replace(about.origin, split_digest=Split(about.origin.split, frame).digest)
    for difference in origins.differences(found, about.origin, {"split"}):
        raise UserError(
            f"{path}: this is {difference.one}, but the predictions were made for {difference.other}", remedy=remedy
        )
    return frame
