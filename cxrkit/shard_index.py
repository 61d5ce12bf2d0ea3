"""The tables beside the shards, and the description that makes a prepared folder complete. shards.py reads them."""

from __future__ import annotations

import io
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from cxrkit import __version__
from cxrkit.contracts import RECORD_SCHEMA, Records
from cxrkit.files import replacing, write_json
from cxrkit.shard_file import FORMAT_VERSION, ShardSettings, ShardTable, shard_name
from cxrkit.shards import BOXES, DESCRIPTION, INDEX, RECORDS


def index_frame(records: Records, tables: Mapping[int, ShardTable], levels: tuple[int, ...]) -> pl.DataFrame:
    """Return the rows of index.parquet, sorted by image_id, for all images in `tables` (shard number -> its table).

    RECORD_SCHEMA, then `shard` (Int32, a position in the description's list of shards) and per level of side L
    offset_L (from the start of the file) and size_L in bytes, and crc32_L of the encoded bytes.
    """
    ordered = [tables[number] for number in sorted(tables)]
    columns: dict[str, Any] = {
        "image_id": [image_id for table in ordered for image_id in table.image_ids],
        "shard": np.repeat(np.arange(len(ordered), dtype=np.int32), [len(table.size) for table in ordered]),
    }
    for number, level in enumerate(levels):
        columns[f"offset_{level}"] = np.concatenate([table.offset[:, number] for table in ordered])
        columns[f"size_{level}"] = np.concatenate([table.size[:, number] for table in ordered])
        columns[f"crc32_{level}"] = np.concatenate([table.crc32[:, number] for table in ordered])
    where = pl.DataFrame(columns, schema_overrides={"image_id": pl.String()})
    return records.frame.select(*RECORD_SCHEMA).join(where, on="image_id", how="inner").sort("image_id")


def write_index(folder: Path, index: pl.DataFrame) -> None:
    """Write index.parquet."""
    _write(folder / INDEX, index)


def write_records(folder: Path, records: Records) -> None:
    """Write the records of all listed images, and the boxes where there are any."""
    _write(folder / RECORDS, records.frame.select(*RECORD_SCHEMA).sort("image_id"))
    if records.boxes is not None:
        _write(folder / BOXES, records.boxes)


def write_description(
    folder: Path,
    records: Records,
    settings: ShardSettings,
    tables: Mapping[int, ShardTable],
    damaged: Mapping[str, str],
) -> None:
    """Write dataset.json; damaged: image_id -> why it was left out. To be called last."""
    numbers = sorted(tables)
    shards = [{"file": shard_name(n), "images": len(tables[n].size), "bytes": tables[n].bytes} for n in numbers]
    description = {
        "format_version": FORMAT_VERSION,
        "tool_version": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "dataset": settings.dataset,
        "label_release": settings.label_release,
        "codec": settings.codec,
        "quality": settings.quality,
        "levels": list(settings.levels),
        "settings_digest": settings.digest,
        "listed_images": len(records.frame),
        "prepared_images": sum(len(table.size) for table in tables.values()),
        "missing_images": records.missing,
        "damaged": [{"image_id": image_id, "reason": why} for image_id, why in sorted(damaged.items())],
        "shards": shards,
    }
    write_json(folder / DESCRIPTION, description)


def _write(path: Path, frame: pl.DataFrame) -> None:
    # By way of memory: what goes wrong with the disk is then a plain OSError.
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    with replacing(path) as part:
        part.write_bytes(buffer.getbuffer())
