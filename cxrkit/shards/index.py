"""The tables beside the shards, and the description that says which files of a prepared folder belong together.

records-<sha>.parquet holds every image of the data set (contracts.record_schema), prepared or not, and is the one home
of the labels. index-<sha>.parquet holds where each prepared image's bytes lie, and what they were made from.
boxes-<sha>.parquet holds the data set's boxes, where it has any. <sha> is the beginning of the file's SHA-256.

dataset.json names them, with their whole SHA-256, and the shards: one generation. It is replaced last, in one step, and
no file that it names is ever written over. So a preparation that fails leaves the generation before it as it was.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from cxrkit import __version__
from cxrkit.base import labels
from cxrkit.base.contracts import BOX_SCHEMA, Records, record_schema
from cxrkit.base.errors import UserError
from cxrkit.base.files import read_json, replacing, write_json
from cxrkit.base.origin import digest_column, labels_digest
from cxrkit.base.typed import FieldError, build
from cxrkit.shards import codecs
from cxrkit.shards.file import (
    SOURCE,
    VERSIONS,
    Left,
    ShardSettings,
    ShardTable,
    check_restart,
    fields_of,
    other_version,
)

DESCRIPTION = "dataset.json"
TABLE_FILE = re.compile(r"(records|index|boxes)-[0-9a-f]{8}\.parquet")
SHARD_FILE = re.compile(r"shard-\d{6,}-[0-9a-f]{8}\.h5")
SOURCE_SCHEMA: dict[str, pl.DataType] = {
    "source_size": pl.Int64(),  # bytes of the encoded image that was prepared
    "source_crc32": pl.UInt32(),  # checksum of those bytes
    "file_size": pl.Int64(),  # bytes of the file they were read from: the image, or its archive
    "file_mtime_ns": pl.Int64(),  # when that file was last changed
}
WRITE_AGAIN = "run `cxrkit prepare` again with the same settings: it writes the tables anew and keeps the shards"


@dataclass(frozen=True)
class TableFile:
    """A table of this generation."""

    file: str
    """Its name in the folder."""

    sha256: str
    """Of its bytes, in hex."""


@dataclass(frozen=True)
class ShardEntry:
    """A shard of this generation."""

    file: str
    """Its name in the folder."""

    images: int
    """How many it holds."""

    bytes: int
    """Size of the file."""


@dataclass(frozen=True)
class Description:
    """The content of dataset.json."""

    format_version: int
    """Of the folder: `ShardSettings.version`."""

    tool_version: str
    """The cxrkit that wrote it."""

    created: str
    """When, in UTC."""

    dataset: str
    """Name of the data set."""

    label_release: str
    """Of the labels in the records, "v2020" for example; for people: the digest decides."""

    label_set: str
    """Name of the labels that the records have; labels.get finds them."""

    labels_digest: str
    """`origin.labels_digest` of the records."""

    codec: str
    """How the levels are encoded: one of codecs.CODECS."""

    quality: int
    """JPEG quality; 0 for other codecs."""

    levels: tuple[int, ...]
    """Side lengths in pixels, descending; empty where the folder holds tables alone."""

    image_size: int
    """Side length of the source images in pixels; less than 1024 for a resized copy of the data set."""

    settings_digest: str
    """`ShardSettings.digest`."""

    pixels_digest: str
    """`pixels_digest`: which source files became these pixels; `settings_digest` says how."""

    listed_images: int
    """Images of the data set, prepared or not."""

    prepared_images: int
    """Images in the shards."""

    missing_images: int
    """Listed images that were not at hand."""

    records: TableFile
    """The records of all listed images."""

    index: TableFile
    """Where the prepared images lie."""

    boxes: TableFile | None
    """The data set's boxes; null where there are none."""

    damaged: list[Left]
    """The images that were left out because they are damaged."""

    shards: list[ShardEntry]
    """The shards, in the order that the index counts them in."""

    restart: int = 0
    """`ShardSettings.restart`; not written where it is 0."""

    fit: str = ""
    """`ShardSettings.fit`; not written where it is ""."""

    @property
    def settings(self) -> ShardSettings:
        """What the shards were prepared with."""
        return ShardSettings(
            self.dataset, self.codec, self.quality, self.levels, self.image_size, self.restart, self.fit
        )


def index_frame(tables: Sequence[ShardTable], levels: tuple[int, ...]) -> pl.DataFrame:
    """Return the rows of the index for all images in `tables`, sorted by image_id.

    image_id; `shard` (Int32, a position in `tables` and in the description's list); per level of side L offset_L (from
    the start of the file) and size_L in bytes, and crc32_L of the encoded bytes; SOURCE_SCHEMA.
    """
    source = np.concatenate([np.zeros(0, SOURCE), *(table.source for table in tables)])
    columns: dict[str, Any] = {
        "image_id": [image_id for table in tables for image_id in table.image_ids],
        "shard": np.repeat(np.arange(len(tables), dtype=np.int32), [len(table.image_ids) for table in tables]),
    }
    for number, level in enumerate(levels):
        for name in ("offset", "size", "crc32"):
            parts = [getattr(table, name)[:, number] for table in tables]
            columns[f"{name}_{level}"] = np.concatenate(parts) if parts else []
    columns |= {name: source[field] for name, field in zip(SOURCE_SCHEMA, SOURCE.fields or (), strict=True)}
    return pl.DataFrame(columns, schema_overrides=index_schema(levels)).sort("image_id")


def index_schema(levels: Sequence[int]) -> dict[str, pl.DataType]:
    """Return the columns of the index for these levels."""
    addresses = {
        f"{name}_{level}": kind
        for level in levels
        for name, kind in (("offset", pl.Int64()), ("size", pl.Int64()), ("crc32", pl.UInt32()))
    }
    return {"image_id": pl.String(), "shard": pl.Int32(), **addresses, **SOURCE_SCHEMA}


def pixels_digest(index: pl.DataFrame) -> str:
    """Return the SHA-256 over a line "image_id source_size source_crc32" per image, sorted by image_id.

    Two prepared folders with equal digests were made from the same files, whatever the levels and codec. 112,120 images
    take 0.02 s.
    """
    sources = pl.concat_str("image_id", "source_size", "source_crc32", separator=" ")
    return digest_column(index.sort("image_id").select(sources).to_series())


@dataclass(frozen=True)
class Listed:
    """What a generation says of the data set itself, ready to be written. Takes no pixel, and 0.1 s for NIH's."""

    label_release: str
    """Of the labels."""

    label_set: str
    """Name of the labels that the records have."""

    labels_digest: str
    """`origin.labels_digest` of the records."""

    images: int
    """How many the data set has."""

    missing: int
    """How many of them are not at hand."""

    records: memoryview
    """The table of records, as parquet."""

    boxes: memoryview | None
    """The table of boxes, as parquet; None where there are none."""

    @classmethod
    def of(cls, records: Records) -> Listed:
        """Encode the records and boxes."""
        frame = records.frame.select(*record_schema(records.labels)).sort("image_id")
        boxes = None if records.boxes is None else _encode(records.boxes.select(*BOX_SCHEMA))
        return cls(
            label_release=records.label_release,
            label_set=records.labels.name,
            labels_digest=labels_digest(frame, records.labels),
            images=len(frame),
            missing=records.missing,
            records=_encode(frame),
            boxes=boxes,
        )


def write_generation(
    folder: Path,
    listed: Listed,
    settings: ShardSettings,
    index: pl.DataFrame,
    shards: Sequence[ShardEntry],
    damaged: Sequence[Left] = (),
) -> Description:
    """Write the tables of a generation beside its shards, then switch dataset.json to it. Return what that says."""
    about = Description(
        format_version=settings.version,
        tool_version=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        dataset=settings.dataset,
        label_release=listed.label_release,
        label_set=listed.label_set,
        labels_digest=listed.labels_digest,
        codec=settings.codec,
        quality=settings.quality,
        levels=settings.levels,
        image_size=settings.image_size,
        settings_digest=settings.digest,
        pixels_digest=pixels_digest(index),
        listed_images=listed.images,
        prepared_images=len(index),
        missing_images=listed.missing,
        records=_write_table(folder, "records", listed.records),
        index=_write_table(folder, "index", _encode(index)),
        boxes=None if listed.boxes is None else _write_table(folder, "boxes", listed.boxes),
        damaged=sorted(damaged, key=lambda left: left.image_id),
        shards=list(shards),
        restart=settings.restart,
        fit=settings.fit,
    )
    write_json(folder / DESCRIPTION, fields_of(about))
    return about


def _encode(frame: pl.DataFrame) -> memoryview:
    """Return a table as parquet. By way of memory: what goes wrong with the disk is then a plain OSError."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getbuffer()


def _write_table(folder: Path, kind: str, data: memoryview) -> TableFile:
    sha256 = hashlib.sha256(data).hexdigest()
    table = TableFile(f"{kind}-{sha256[:8]}.parquet", sha256)
    with replacing(folder / table.file) as part:
        part.write_bytes(data)
    return table


def read_description(folder: Path) -> Description:
    """Return what dataset.json says. Raises UserError when it is missing, of another version, or contradicts itself."""
    path = folder / DESCRIPTION
    remedy = f"run `cxrkit prepare --data {folder}` first, or name the prepared folder with --data"
    value = read_json(path, "the description of a prepared folder", remedy)
    if isinstance(value, dict) and type(version := value.get("format_version")) is int and version not in VERSIONS:
        raise other_version(path, version)
    try:
        about: Description = build(Description, value)
        _check_description(about)
    except FieldError as error:
        raise UserError(f"{path}: {error}", remedy=WRITE_AGAIN) from None
    return about


def _check_description(about: Description) -> None:
    if about.codec not in codecs.CODECS:
        raise FieldError(f"codec is {about.codec!r}, expected one of {', '.join(codecs.CODECS)}")
    # Tables alone have no levels, and then no shards.
    if (about.shards and not about.levels) or any(level < 1 or level > about.image_size for level in about.levels):
        raise FieldError(f"levels are {about.levels} of images of {about.image_size} pixels")
    if about.settings.digest != about.settings_digest:
        raise FieldError("settings_digest is not that of the settings beside it")
    try:
        check_restart(about.settings, about.format_version)
    except ValueError as error:
        raise FieldError(str(error)) from None
    for table in (about.records, about.index, about.boxes):
        if table is not None and not TABLE_FILE.fullmatch(table.file):
            raise FieldError(f"{table.file!r} is not the name of a table")
    names = [shard.file for shard in about.shards]
    if wrong := [name for name in names if not SHARD_FILE.fullmatch(name)]:
        raise FieldError(f"{wrong[0]!r} is not the name of a shard")
    if len(set(names)) != len(names):
        raise FieldError("shards names one twice")
    if any(shard.images < 0 or shard.bytes < 1 for shard in about.shards):
        raise FieldError("shards has one of no bytes")
    if (held := sum(shard.images for shard in about.shards)) != about.prepared_images:
        raise FieldError(f"prepared_images is {about.prepared_images:,}, but the shards hold {held:,}")


def read_index(folder: Path, about: Description) -> pl.DataFrame:
    """Return the index of a generation. Raises UserError when it is not as it was written, or contradicts itself."""
    path = folder / about.index.file
    index = read_table(path, index_schema(about.levels), about.index.sha256)
    room = np.array([shard.bytes for shard in about.shards], dtype=np.int64)
    shard = index["shard"].to_numpy()
    wrong = ""
    if len(index) != about.prepared_images:
        wrong = f"{len(index):,} images, but {about.prepared_images:,} were prepared"
    elif sum(index.null_count().row(0)):
        wrong = "it has empty cells"
    elif not _is_sorted_and_unique(index["image_id"]):
        wrong = "its images are not sorted, or not all different"
    elif not ((shard >= 0) & (shard < len(room))).all():
        wrong = "it counts more shards than there are"
    elif any(not _inside(index, level, room[shard]) for level in about.levels):
        wrong = "a record lies outside its shard"
    if wrong:
        raise UserError(f"{path}: {wrong}", remedy=WRITE_AGAIN)
    return index


def _inside(index: pl.DataFrame, level: int, room: np.ndarray) -> bool:
    offset, size = index[f"offset_{level}"].to_numpy(), index[f"size_{level}"].to_numpy()
    # In this order nothing overflows.
    return bool(((size >= 0) & (size <= room) & (offset >= 0) & (offset <= room - size)).all())


def read_listed(folder: Path, about: Description) -> pl.DataFrame:
    """Return every record of the data set (contracts.record_schema, sorted by image_id), prepared or not.

    Raises UserError when the table is not as it was written: labels have one home and may not change there.
    """
    path = folder / about.records.file
    records = read_table(path, record_schema(labels.get(about.label_set)), about.records.sha256)
    wrong = ""
    if len(records) != about.listed_images:
        wrong = f"{len(records):,} images, but {about.listed_images:,} were listed"
    elif records["image_id"].null_count() or not _is_sorted_and_unique(records["image_id"]):
        wrong = "its images are not sorted, or not all different"
    if wrong:
        raise UserError(f"{path}: {wrong}", remedy=WRITE_AGAIN)
    return records


def read_boxes(folder: Path, about: Description) -> pl.DataFrame | None:
    """Return the data set's boxes (contracts.BOX_SCHEMA), or None where it has none. Raises UserError."""
    if about.boxes is None:
        return None
    return read_table(folder / about.boxes.file, BOX_SCHEMA, about.boxes.sha256)


def _is_sorted_and_unique(names: pl.Series) -> bool:
    return names.is_sorted() and names.n_unique() == len(names)


def read_table(path: Path, schema: Mapping[str, pl.DataType], sha256: str) -> pl.DataFrame:
    """Return the columns of `schema` of a table. Raises UserError when it is missing, changed or of other columns."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: missing from the prepared folder", remedy=WRITE_AGAIN) from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})", remedy=WRITE_AGAIN) from None
    if hashlib.sha256(data).hexdigest() != sha256:
        raise UserError(
            f"{path}: was changed or damaged after it was written (its SHA-256 is not the one in {DESCRIPTION})",
            remedy=WRITE_AGAIN,
        )
    try:
        frame = pl.read_parquet(io.BytesIO(data))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise UserError(f"{path}: not a readable table ({str(error).splitlines()[0]})", remedy=WRITE_AGAIN) from None
    for name, kind in schema.items():
        if (found := frame.schema.get(name)) != kind:
            raise UserError(f"{path}: column {name!r} is {found or 'missing'}, expected {kind}", remedy=WRITE_AGAIN)
    return frame.select(*schema)
