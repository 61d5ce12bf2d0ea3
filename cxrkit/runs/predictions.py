"""The prediction file: one score per image and label, and in its metadata where the scores come from.

`predictions/{val,test}.parquet` holds image_id (String), patient_id (String) and one probability for each label of the
origin's label set (of a label with a unit, the amount: years of age), Float32 or, where it comes from elsewhere with
more digits, Float64; the file-level metadata key "cxrkit" holds PredictionInfo as JSON. Any tool that reads parquet can
read it, and any tool that writes it can be evaluated and reported.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from cxrkit.base import labels as label_sets
from cxrkit.base import typed
from cxrkit.base.errors import UserError
from cxrkit.base.files import replacing
from cxrkit.base.labels import LabelSet
from cxrkit.base.origin import Origin

FORMAT_VERSION = 2
METADATA_KEY = "cxrkit"
SUBSETS = ("val", "test")
IMPORTED = "imported"  # stands for the recipe of predictions that were made elsewhere
_AGAIN = "predict again with `cxrkit predict`"
_RETRAIN = "train, predict and evaluate again with this version"


@dataclass(frozen=True)
class PredictionInfo:
    """Where a prediction file comes from."""

    name: str
    """The run's name: its recipe's, or what --name said."""

    model: str
    """Name of the network."""

    recipe: str
    """Name of the recipe that the run started from."""

    recipe_digest: str
    """SHA-256 over all settings that decide numbers, apart from fold and seed."""

    changes: tuple[str, ...]
    """Settings that differ from the recipe's own, as "section.key=value": ("input.size=64", "schedule.epochs=3")."""

    seed: int
    """Of initialisation, order and augmentation."""

    input_size: int
    """Side of the network's input in pixels."""

    epoch: int
    """How many epochs the checkpoint was trained."""

    checkpoint_sha256: str
    """Of the checkpoint file that predicted; of imported predictions, of the file that they came from."""

    subset: str
    """Which subset of the split was predicted: "val" or "test"."""

    subset_images: int
    """How many images this subset has in the whole data set, however many of them were at hand."""

    origin: Origin
    """Data, labels, pixels, split and training behind the checkpoint."""

    format_version: int = FORMAT_VERSION
    """Of this file; another one is refused."""

    unscored: tuple[str, ...] = ()
    """Labels beside the mean without scores, whose columns are null: a foreign model need not know "No Finding"."""

    views: str = "none"
    """How each image was looked at (`test.views`): by the centre crop alone, or by the mean over several views."""

    @property
    def labels(self) -> LabelSet:
        """The label set that the columns are of."""
        return label_sets.get(self.origin.label_set)

    @property
    def scored(self) -> LabelSet:
        """The label set without what has no scores: what is evaluated."""
        labels = self.labels
        kept = tuple(label for label in labels.labels if label not in self.unscored)
        return replace(labels, labels=kept) if self.unscored else labels


@dataclass(frozen=True)
class Predictions:
    """The content of a prediction file."""

    frame: pl.DataFrame
    """Columns as `schema` says, sorted by image_id."""

    about: PredictionInfo
    """Where the scores come from."""

    sha256: str
    """Of the very bytes that were read."""


def schema(labels: LabelSet) -> dict[str, pl.DataType]:
    """Return the columns of a prediction file."""
    return {"image_id": pl.String(), "patient_id": pl.String(), **dict.fromkeys(labels.labels, pl.Float32())}


def write_predictions(path: Path, frame: pl.DataFrame, about: PredictionInfo) -> None:
    """Write a prediction file atomically, sorted by image_id. Raises UserError for what a reader would refuse."""
    frame = _checked(path, frame, about).sort("image_id")
    with replacing(path) as part:
        frame.write_parquet(part, metadata={METADATA_KEY: json.dumps(asdict(about))})


def read_predictions(path: Path) -> Predictions:
    """Return the scores in `path`, their origin and the file's digest.

    Raises UserError when the file is missing, is no prediction file, lacks a label, repeats an image, or holds a
    score that is not a probability.
    """
    content = _read_bytes(path)
    try:
        metadata = pl.read_parquet_metadata(io.BytesIO(content))
        about = _read_info(path, metadata.get(METADATA_KEY))
        frame = pl.read_parquet(io.BytesIO(content))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: not a readable prediction file ({_first_line(error)})", remedy=_AGAIN) from None
    return Predictions(_checked(path, frame, about).sort("image_id"), about, hashlib.sha256(content).hexdigest())


def read_prediction_info(path: Path) -> tuple[PredictionInfo, str]:
    """Return the origin of the scores in `path` and the file's digest, without the scores. Raises UserError."""
    content = _read_bytes(path)
    try:
        metadata = pl.read_parquet_metadata(io.BytesIO(content))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable prediction file ({_first_line(error)})", remedy=_AGAIN) from None
    return _read_info(path, metadata.get(METADATA_KEY)), hashlib.sha256(content).hexdigest()


def _read_bytes(path: Path) -> bytes:
    """Read the file once, so that its digest is that of what is scored; and literally: polars takes [1] for a glob."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such prediction file", remedy=_AGAIN) from None
    except OSError as error:
        raise UserError(f"{path}: not a readable prediction file ({error.strerror})", remedy=_AGAIN) from None


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _read_info(path: Path, text: str | None) -> PredictionInfo:
    if text is None:
        raise UserError(
            f'{path}: a parquet file, but not a prediction file: its metadata lacks the key "{METADATA_KEY}"',
            remedy=_AGAIN,
        )
    try:
        values: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: its metadata is not valid JSON ({_first_line(error)})", remedy=_AGAIN) from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: its metadata is not a JSON object", remedy=_AGAIN)
    version = values.get("format_version")
    if type(version) is not int or version != FORMAT_VERSION:
        raise UserError(
            f"{path}: prediction format version {typed.describe(version)}; this cxrkit reads version {FORMAT_VERSION}",
            remedy=_RETRAIN,
        )
    try:
        about: PredictionInfo = typed.build(PredictionInfo, values)
    except typed.FieldError as error:
        raise UserError(f"{path}: in its metadata {error}", remedy=_AGAIN) from None
    return about


def _checked(path: Path, frame: pl.DataFrame, about: PredictionInfo) -> pl.DataFrame:
    """Return the frame with the columns and types of its label set, or say what is wrong with it."""
    _check_info(path, about)
    columns = schema(about.labels)
    # More digits than ours are kept: rounded scores would tie, and ties move an AUC.
    columns |= {name: pl.Float64() for name in about.labels.labels if frame.schema.get(name) == pl.Float64}
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise UserError(f"{path}: no column {', '.join(map(repr, missing))}; expected one per label", remedy=_AGAIN)
    try:
        frame = frame.select(pl.col(name).cast(kind) for name, kind in columns.items())
        if other := [name for name, kind in columns.items() if frame[name].dtype != kind]:
            raise pl.exceptions.InvalidOperationError(f"{other[0]} is {frame[other[0]].dtype}")  # structs are not cast
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise UserError(f"{path}: a column is of the wrong type ({_first_line(error)})", remedy=_AGAIN) from None
    if frame["image_id"].null_count() or frame["patient_id"].null_count():
        raise UserError(f"{path}: a row without image_id or patient_id", remedy=_AGAIN)
    repeated = frame.filter(frame["image_id"].is_duplicated())["image_id"].unique(maintain_order=True)
    if len(repeated):
        raise UserError(f"{path}: {len(repeated)} images occur more than once, first {repeated[0]}", remedy=_AGAIN)
    for label in about.scored.labels:
        _check_scores(path, frame, label, about.labels.unit)
    if full := [label for label in about.unscored if frame[label].null_count() < len(frame)]:
        raise UserError(f"{path}: {full[0]} has scores, but is said to have none", remedy=_AGAIN)
    if len(frame) > about.subset_images:
        raise UserError(
            f"{path}: {len(frame):,} images, but the {about.subset} subset of {about.origin.split} has "
            f"{about.subset_images:,}",
            remedy=_AGAIN,
        )
    if frame.is_empty():
        raise UserError(f"{path}: holds no images", remedy=_AGAIN)
    return frame


def _check_info(path: Path, about: PredictionInfo) -> None:
    if about.subset not in SUBSETS:
        raise UserError(f"{path}: subset {about.subset!r}, expected {' or '.join(SUBSETS)}", remedy=_AGAIN)
    try:
        label_sets.get(about.origin.label_set)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if wrong := [label for label in about.unscored if label not in about.labels.beside]:
        raise UserError(f"{path}: no scores of {wrong[0]}, expected those of every averaged label", remedy=_AGAIN)


def _check_scores(path: Path, frame: pl.DataFrame, label: str, unit: str) -> None:
    score = frame[label]
    fits = score.is_finite() if unit else score.is_finite() & score.is_between(0, 1)
    bad = frame.filter(~fits.fill_null(False))
    if len(bad):
        expected = f"a number of {unit}" if unit else "a probability between 0 and 1"
        raise UserError(
            f"{path}: {label} of {bad['image_id'][0]} is {bad[label][0]}; expected {expected} ({len(bad)} such rows)",
            remedy="a NaN comes from a training that diverged: lower --lr or use --precision fp32, "
            "then train and predict again",
        )
