"""A data set with labels of its own: `cxrkit prepare --dataset shapes --raw DIR`.

DIR holds images/*.png, square and of one size, and table.csv: image_id (the file's name), patient_id, age_years, and a
column per label with 1, 0, or nothing where it is not known. `python -m cxrkit_shapes.toy DIR` makes one.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import polars as pl

from cxrkit.base.contracts import PIXEL_SCHEMA, Records, record_schema
from cxrkit.base.errors import UserError
from cxrkit.base.labels import LabelSet

# Its name says where it stands: checkpoints and scores hold the name, and find the labels by it.
SHAPES = LabelSet(
    name="cxrkit_shapes.dataset:SHAPES",
    labels=("Disc", "Bar", "Empty"),
    averaged=("Disc", "Bar"),  # "Empty" is reported beside their mean
)


def read(raw: Path, *, allow_missing: bool = False) -> Records:
    """Return what the folder `raw` lists. A UserError is for what the user can repair: exit code 2, no traceback."""
    path, images = raw / "table.csv", raw / "images"
    try:
        table = pl.read_csv(path.read_bytes(), infer_schema=False)
        table = table.with_columns(pl.col(label).cast(pl.Int8).cast(pl.Boolean) for label in SHAPES.labels)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UserError(
            f"{path}: not the table of this data set ({error})", remedy="see the head of dataset.py"
        ) from None
    found = [images / name if (images / name).is_file() else None for name in table["image_id"]]
    if None in found and not allow_missing:
        raise UserError(f"{images}: {found.count(None)} images are missing", remedy="add them, or --allow-missing")

    # Every column that cxrkit knows has to be there, with its type; null where this data set does not say.
    columns = {**record_schema(SHAPES), **PIXEL_SCHEMA}
    paths = pl.Series([None if item is None else str(item) for item in found], dtype=pl.String())
    table = table.with_columns(path=paths)
    table = table.with_columns(pl.lit(None).alias(name) for name in columns if name not in table.columns)
    frame = table.select(pl.col(name).cast(kind) for name, kind in columns.items()).sort("image_id")
    return Records(dataset="shapes", frame=frame, label_release="1.0", side=_side(found), labels=SHAPES)


def _side(found: list[Path | None]) -> int:
    """Return the pixels along each side of the first image; `prepare` refuses one of another size."""
    image = next((cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in found if path is not None), None)
    if image is None:
        raise UserError("the first image cannot be read", remedy="replace it by a PNG")
    return len(image)
