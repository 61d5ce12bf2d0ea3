"""Write a split for other programs: a table of image_id and subset, JSON, or one subset as a plain list."""

from __future__ import annotations

import io
import json
from pathlib import Path

import polars as pl

from cxrkit.base.contracts import SUBSETS
from cxrkit.base.errors import UserError
from cxrkit.base.files import replacing
from cxrkit.datasets import known_splits, splits
from cxrkit.datasets.nih import roster
from cxrkit.datasets.splits import Split

_FORMATS = {".csv": "csv", ".parquet": "parquet", ".json": "json", ".txt": "txt"}


def split_named(name: str, records: pl.DataFrame) -> Split:
    """Return one of our splits of a data set. Raises UserError for another group's, of which images are not known."""
    if name in known_splits.foreign_splits():
        source = known_splits.foreign_splits()[name].source
        raise UserError(
            f"split {name}: its images are not part of cxrkit, only its digests and counts",
            remedy=f"get it at {source}",
        )
    if splits.is_file(name):
        raise UserError(
            f"{name}: a table of your own is exported already", remedy=f"choose one of {', '.join(splits.FOLDS)}"
        )
    if records is roster.read():
        return known_splits.our_split(splits.name_of(name))
    return splits.make(records, name)


def splits_of(records: pl.DataFrame) -> list[Split]:
    """Return our splits of a data set, all six where it has an official one."""
    folds = splits.FOLDS if not records["official"].null_count() else splits.FOLDS[1:]
    return [split_named(fold, records) for fold in folds]


def text(split: Split, format: str, subset: str | None = None) -> str:
    """Return a split, or one subset of it, as "csv", "json" or "txt" (one name a line). Raises UserError."""
    frame = split.frame.sort("image_id").select("image_id", "subset")
    if subset is not None:
        frame = frame.filter(pl.col("subset") == subset)
    if format == "csv":
        return frame.write_csv()
    parts: dict[str, list[str]] = {
        name: frame.filter(pl.col("subset") == name)["image_id"].to_list() for name in SUBSETS
    }
    if format == "json":
        return json.dumps({name: images for name, images in parts.items() if images}, indent=1) + "\n"
    if subset is None:
        raise UserError(
            "a plain list has no place for subsets", remedy="add --subset train, val or test, or write a .csv"
        )
    return "".join(f"{image}\n" for image in parts[subset])


def write(split: Split, out: Path, subset: str | None = None) -> None:
    """Write a split, or one subset of it, to a file; its ending says how. Raises UserError."""
    format = _FORMATS.get(out.suffix.lower())
    if format is None:
        raise UserError(f"--out {out}: the ending {out.suffix!r} names no format", remedy=f"use {', '.join(_FORMATS)}")
    if format == "parquet":
        frame = split.frame.sort("image_id").select("image_id", "subset")
        buffer = io.BytesIO()
        (frame if subset is None else frame.filter(pl.col("subset") == subset)).write_parquet(buffer)
        content = buffer.getvalue()
    else:
        content = text(split, format, subset).encode()
    with replacing(out) as part:
        part.write_bytes(content)
