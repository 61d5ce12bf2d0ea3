"""Where the labels to evaluate with come from: a prepared folder, a table of one's own, or NIH's CSV."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from cxrkit.base.contracts import BOX_SCHEMA, IMAGE_SCHEMA
from cxrkit.base.derived import with_labels
from cxrkit.base.errors import UserError
from cxrkit.base.files import decoded
from cxrkit.base.labels import LabelSet
from cxrkit.base.origin import boxes_digest
from cxrkit.base.words import count
from cxrkit.shards.index import read_boxes, read_description, read_listed

_NIH_COLUMN = "Image Index"  # the first of NIH's own CSV
_REMEDY = "name a prepared folder, or a table with image_id, patient_id and a column per label"
_YES_NO = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False, "": None}

_METADATA = ("age_years", "sex", "view")


@dataclass(frozen=True)
class Truth:
    """Who has what, as one file says it."""

    source: Path
    """The file, for messages."""

    table: pl.DataFrame
    """image_id, patient_id and a column per label, as the file has them; all images of the data set."""

    dataset: str = ""
    """Registered name of the data set, "" where the source does not say."""

    label_release: str = ""
    """What the source calls its labels, "" where it does not say."""

    folder: Path | None = None
    """The prepared folder that it is of, which may have boxes; None: a table."""

    def boxes_digest(self, labels: LabelSet) -> str:
        """Return `origin.boxes_digest` of the box list, "" where the source is no folder. Raises UserError."""
        if self.folder is None:
            return ""
        boxes = read_boxes(self.folder, read_description(self.folder))
        return boxes_digest(pl.DataFrame(schema=BOX_SCHEMA) if boxes is None else boxes, labels)

    def records(self, labels: LabelSet) -> pl.DataFrame:
        """Return image_id and patient_id (String), and the labels (Boolean, Float32 with a unit; null: not known).

        Raises UserError for a column that is missing, an image listed twice, and a cell that is neither yes nor no.
        """
        return _checked(self.source, self.table, labels)

    def images(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return IMAGE_SCHEMA of the images of `frame` (image_id, patient_id), in its order.

        Age, sex and view are null where the table has no such column, or says nothing of an image.
        """
        known = [name for name in _METADATA if name in self.table.columns]
        found = frame.select("image_id", "patient_id").join(
            self.table.select("image_id", *(_cast(name) for name in known)),
            on="image_id",
            how="left",
            maintain_order="left",
        )
        return found.with_columns(
            pl.lit(None, IMAGE_SCHEMA[name]).alias(name) for name in _METADATA if name not in known
        ).select(IMAGE_SCHEMA.keys())


def read_truth(path: Path) -> Truth:
    """Return the labels of the data set.

    path: a prepared folder; a .parquet or .csv table with image_id, patient_id and a column per label (1, 0 or empty);
    or NIH's Data_Entry CSV. Raises UserError when it is none of these.
    """
    if path.is_dir():
        return _from_folder(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such folder or file", remedy=_REMEDY) from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})", remedy=_REMEDY) from None
    if path.suffix.lower() == ".parquet":
        return Truth(path, _parse(path, content, pl.read_parquet))
    table = _parse(path, content, lambda file: pl.read_csv(decoded(file.read()).encode(), infer_schema=False))
    if _NIH_COLUMN in table.columns:
        from cxrkit.datasets.nih.tables import read_entries

        return Truth(path, read_entries(path), dataset="nih-chestxray14")
    return Truth(path, table)


def _cast(name: str) -> pl.Expr:
    """Return a column of the metadata as its kind; of a CSV everything is text."""
    column = pl.col(name)
    if name == "age_years":
        return column.cast(pl.Float64, strict=False).cast(IMAGE_SCHEMA[name], strict=False)
    text = column.cast(pl.String).str.strip_chars()
    return pl.when(text != "").then(text).alias(name)


def _from_folder(folder: Path) -> Truth:
    about = read_description(folder)
    return Truth(folder / about.records.file, read_listed(folder, about), about.dataset, about.label_release, folder)


def _parse(path: Path, content: bytes, read: Any) -> pl.DataFrame:
    try:
        frame: pl.DataFrame = read(io.BytesIO(content))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: not a readable table ({line})", remedy=_REMEDY) from None
    return frame


def _checked(path: Path, table: pl.DataFrame, labels: LabelSet) -> pl.DataFrame:
    """Return image_id and patient_id as text and the labels as yes, no or null."""
    columns = [column for column, *_ in labels.metadata.values()] or labels.labels
    names = ("image_id", "patient_id", *columns)
    if missing := [name for name in names if name not in table.columns]:
        raise UserError(f"{path}: no column {', '.join(map(repr, missing))}", remedy=_REMEDY)
    try:
        if labels.metadata:
            table = with_labels(table, labels)
        frame = table.select(
            pl.col("image_id", "patient_id").cast(pl.String),
            *(table[label] if labels.metadata else _yes_no(table[label]) for label in labels.labels),
        )
    except (pl.exceptions.PolarsError, ValueError) as error:
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: {line}", remedy="write 1, 0, or nothing where a label is not known") from None
    for name in ("image_id", "patient_id"):
        if frame[name].null_count() or (frame[name] == "").any():
            raise UserError(f"{path}: a row without {name}", remedy=_REMEDY)
    if frame["image_id"].is_duplicated().any():
        twice = frame.filter(pl.col("image_id").is_duplicated())["image_id"][0]
        raise UserError(f"{path}: {twice} is listed more than once", remedy="list every image once")
    return frame


def _yes_no(column: pl.Series) -> pl.Series:
    if column.dtype == pl.Boolean:
        return column
    if column.dtype.is_numeric():
        text = column.cast(pl.Float64).cast(pl.String)
    else:
        text = column.cast(pl.String).str.strip_chars().str.to_lowercase()
    wrong = text.filter(text.is_not_null() & ~text.is_in(list(_YES_NO)))
    if len(wrong):
        raise ValueError(f"{column.name} is {wrong[0]!r} in {count(len(wrong), 'row')}, expected 1, 0 or nothing")
    return text.replace_strict(_YES_NO, return_dtype=pl.Boolean).alias(column.name)
