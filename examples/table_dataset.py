"""A data set with labels of its own: a folder of PNGs, and a table of who has what.

    cxrkit prepare --dataset examples.table_dataset:read --raw DIR --data SHARDS
    cxrkit train --model resnet14-small --fold 1 --data SHARDS

DIR holds images/*.png of 1024 x 1024 pixels and table.csv: image_id, patient_id, and 1, 0 or nothing (not known) in a
column for each label.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from cxrkit.base.contracts import PIXEL_SCHEMA, Records, record_schema
from cxrkit.base.errors import UserError
from cxrkit.base.labels import LabelSet

# Its name is where it can be found again: checkpoints, predictions and scores hold it.
FINDINGS = LabelSet(
    name="examples.table_dataset:FINDINGS",
    labels=("Effusion", "Fracture", "Device"),
    averaged=("Effusion", "Fracture"),
)


def read(raw: Path, *, allow_missing: bool = False) -> Records:
    """Return the records of the folder `raw`. Raises UserError when its table is missing or lists absent images."""
    path = raw / "table.csv"
    try:
        table = pl.read_csv(path.read_bytes(), infer_schema=False)
        table = table.select(
            "image_id", "patient_id", *(pl.col(label).cast(pl.Int8).cast(pl.Boolean) for label in FINDINGS.labels)
        )
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UserError(
            f"{path}: not the table of this data set ({error})", remedy="see the head of this file"
        ) from None
    images = raw / "images"
    there = [str(images / name) if (images / name).is_file() else None for name in table["image_id"]]
    if None in there and not allow_missing:
        raise UserError(f"{images}: {there.count(None)} images are missing", remedy="add them, or --allow-missing")
    # What this table does not say is null: age, sex, view, an official split.
    columns = {**record_schema(FINDINGS), **PIXEL_SCHEMA}
    frame = table.with_columns(path=pl.Series(there, dtype=pl.String()))
    frame = frame.with_columns(pl.lit(None).alias(name) for name in columns if name not in frame.columns)
    frame = frame.select(pl.col(name).cast(kind) for name, kind in columns.items()).sort("image_id")
    return Records("examples.table_dataset:read", frame, "unknown", labels=FINDINGS)
