"""The prediction file: one score per image and label, and in its metadata where the scores come from.

`predictions/{val,test}.parquet` holds image_id (String), patient_id (String) and one Float32 probability for each label
of contracts.LABELS; the file-level metadata key "cxrkit" holds PredictionInfo as JSON. Any tool that reads parquet can
read it, and any tool that writes it can be evaluated and reported.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import polars as pl

from cxrkit.contracts import LABELS
from cxrkit.errors import UserError
from cxrkit.files import replacing

FORMAT_VERSION = 1
METADATA_KEY = "cxrkit"
SCHEMA: dict[str, pl.DataType] = {
    "image_id": pl.String(),
    "patient_id": pl.String(),
    **{label: pl.Float32() for label in LABELS},
}
_AGAIN = "predict again with `cxrkit predict`"


@dataclass(frozen=True)
class PredictionInfo:
    """Where a prediction file comes from.

    split: "official", "resample-3" or the name of a user's own; subset: "val" or "test"; subset_images: how many
    images this subset has in the whole data set, however many of them were at hand; epoch: of the checkpoint;
    train_images, train_subset_images: how many images the model was trained on, of how many in the whole data set.
    """

    model: str
    split: str
    split_digest: str
    subset: str
    subset_images: int
    dataset: str
    label_release: str
    checkpoint_sha256: str
    input_size: int
    epoch: int
    train_images: int
    train_subset_images: int
    format_version: int = FORMAT_VERSION


def write(path: Path, frame: pl.DataFrame, about: PredictionInfo) -> None:
    """Write a prediction file atomically, sorted by image_id. Raises UserError for what `read` would refuse."""
    frame = _checked(path, frame, about).sort("image_id")
    with replacing(path) as part:
        frame.write_parquet(part, metadata={METADATA_KEY: json.dumps(asdict(about))})


def read(path: Path) -> tuple[pl.DataFrame, PredictionInfo]:
    """Return the scores (SCHEMA, sorted by image_id) and their origin.

    Raises UserError when the file is missing, is no prediction file, lacks a label, repeats an image, or holds a
    score that is not a probability.
    """
    try:
        metadata = pl.read_parquet_metadata(path)
        frame = pl.read_parquet(path)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such prediction file", remedy=_AGAIN) from None
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UserError(
            f"{path}: not a readable prediction file ({str(error).splitlines()[0]}); expected parquet", remedy=_AGAIN
        ) from None
    about = _read_info(path, metadata.get(METADATA_KEY))
    return _checked(path, frame, about).sort("image_id"), about


def _read_info(path: Path, text: str | None) -> PredictionInfo:
    if text is None:
        raise UserError(
            f'{path}: a parquet file, but not a prediction file: its metadata lacks the key "{METADATA_KEY}"',
            remedy=_AGAIN,
        )
    try:
        values: Any = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: its metadata is not valid JSON ({error})", remedy=_AGAIN) from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: its metadata is not a JSON object", remedy=_AGAIN)
    version = values.get("format_version")
    if version != FORMAT_VERSION:
        raise UserError(
            f"{path}: prediction format version {version}; this cxrkit reads version {FORMAT_VERSION}",
            remedy=_AGAIN + ", or use the cxrkit that wrote it",
        )
    kinds: dict[str, type] = {field.name: int if field.type == "int" else str for field in fields(PredictionInfo)}
    for name, kind in kinds.items():
        if type(values.get(name)) is not kind:
            found = repr(values[name]) if name in values else "nothing"
            raise UserError(f"{path}: its metadata says {found} for {name}, expected {kind.__name__}", remedy=_AGAIN)
    return PredictionInfo(**{name: values[name] for name in kinds})


def _checked(path: Path, frame: pl.DataFrame, about: PredictionInfo) -> pl.DataFrame:
    """Return the frame with SCHEMA's columns and types, or say what is wrong with it."""
    missing = [name for name in SCHEMA if name not in frame.columns]
    if missing:
        raise UserError(f"{path}: no column {', '.join(map(repr, missing))}; expected one per label", remedy=_AGAIN)
    try:
        frame = frame.select(pl.col(name).cast(kind) for name, kind in SCHEMA.items())
    except pl.exceptions.PolarsError as error:
        raise UserError(
            f"{path}: a column is of the wrong type ({str(error).splitlines()[0]})", remedy=_AGAIN
        ) from None
    if frame["image_id"].null_count() or frame["patient_id"].null_count():
        raise UserError(f"{path}: a row without image_id or patient_id", remedy=_AGAIN)
    repeated = frame.filter(frame["image_id"].is_duplicated())["image_id"].unique(maintain_order=True)
    if len(repeated):
        raise UserError(f"{path}: {len(repeated)} images occur more than once, first {repeated[0]}", remedy=_AGAIN)
    for label in LABELS:
        score = frame[label]
        bad = frame.filter(~(score.is_finite() & score.is_between(0, 1)).fill_null(False))
        if len(bad):
            raise UserError(
                f"{path}: {label} of {bad['image_id'][0]} is {bad[label][0]}; "
                f"expected a probability between 0 and 1 ({len(bad)} such rows)",
                remedy="a NaN comes from a training that diverged: lower --lr or use --precision fp32, "
                "then train and predict again",
            )
    if len(frame) > about.subset_images:
        raise UserError(
            f"{path}: {len(frame):,} images, but the {about.subset} subset of {about.split} has "
            f"{about.subset_images:,}",
            remedy=_AGAIN,
        )
    if about.subset not in ("val", "test"):
        raise UserError(f"{path}: subset {about.subset!r}, expected val or test", remedy=_AGAIN)
    if frame.is_empty():
        raise UserError(f"{path}: holds no images", remedy=_AGAIN)
    return frame
