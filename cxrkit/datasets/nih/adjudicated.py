"""What radiologists agreed on for part of ChestX-ray14: the labels that came with Majkowska et al., Radiology 2020.

Radiologists adjudicated four findings on 4,376 images: pneumothorax, nodule or mass, airspace opacity and fracture.
1,962 of them are "test", all in NIH's test list, and 2,414 "val", all in its train_val list. They were not drawn at
random: findings are more frequent among the test images than in a clinic.

Nothing is repaired by guessing. A value that cannot be right is a UserError with its file, line and column.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from cxrkit.base.errors import UserError, shown
from cxrkit.base.labels import ADJUDICATED
from cxrkit.base.words import count, few
from cxrkit.datasets.nih import roster
from cxrkit.datasets.nih.text import LINE, find_table, read_csv

FILE = "google2019_nih-chest-xray-labels.csv"
PARTS = {"test": "test", "val": "train_val"}  # what the file calls them -> NIH's list that has their images

_IMAGE, _PATIENT, _PART = "Image Index", "Patient ID", "Set Id"
_COLUMNS = {label: label.capitalize() for label in ADJUDICATED.labels}  # "Nodule or Mass" -> "Nodule or mass"
_YES_NO = {"YES": True, "NO": False}
_REMEDY = f"take it from the Python package torchxrayvision, which ships it as {FILE}.gz"


def path_in(raw: Path) -> Path:
    """Return the file in a raw folder, as it is, gzipped or zipped. Raises UserError where there is none."""
    if found := find_table(raw, (FILE,)):
        return found
    raise UserError(f"{raw}: no {FILE} here, so there are no adjudicated labels", remedy=_REMEDY)


def read(path: Path) -> pl.DataFrame:
    """Return image_id, patient_id, part ("val", "test") and the four findings of ADJUDICATED as Booleans, sorted.

    Patients are those of NIH's roster, which the file's own must agree with. Raises UserError for a file that is
    something else, an image that is unknown, listed twice or in the wrong part, and a cell that is neither YES nor NO.
    """
    table = read_csv(path)
    wanted = (_IMAGE, _PATIENT, _PART, *_COLUMNS.values())
    if absent := [name for name in wanted if name not in table.columns]:
        found = ", ".join(name for name in table.columns if not name.startswith("("))
        raise UserError(f"{path}: no column {', '.join(absent)}; found {shown(found[:300])}", remedy=_REMEDY)
    table = table.select(LINE, pl.col(*wanted).str.strip_chars())
    for column in _COLUMNS.values():
        _refuse(path, table, column, pl.col(column).is_in(list(_YES_NO)), "YES or NO")
    _refuse(path, table, _PART, pl.col(_PART).is_in(list(PARTS)), " or ".join(PARTS))
    if twice := table.filter(pl.col(_IMAGE).is_duplicated())[_IMAGE].unique().drop_nulls().to_list():
        raise UserError(f"{path}: {count(len(twice), 'image')} given twice: {few(sorted(twice))}", remedy=_REMEDY)
    table = table.join(roster.read(), left_on=_IMAGE, right_on="image_id", how="left", maintain_order="left")
    _refuse(path, table, _IMAGE, pl.col("official").is_not_null(), "an image of ChestX-ray14")
    # Numbers, since 13 and 00000013 are one patient.
    same_patient = pl.col(_PATIENT).cast(pl.Int32, strict=False) == pl.col("patient_id").cast(pl.Int32)
    _refuse(path, table, _PATIENT, same_patient, "the patient of its image")
    in_its_list = pl.col(_PART).replace_strict(PARTS, return_dtype=pl.String) == pl.col("official")
    _refuse(path, table, _PART, in_its_list, "test for images of NIH's test list, val for those of its train_val list")
    return table.select(
        pl.col(_IMAGE).alias("image_id"),
        "patient_id",
        pl.col(_PART).alias("part"),
        *(
            pl.col(column).replace_strict(_YES_NO, return_dtype=pl.Boolean).alias(label)
            for label, column in _COLUMNS.items()
        ),
    ).sort("image_id")


def _refuse(path: Path, table: pl.DataFrame, column: str, right: pl.Expr, expected: str) -> None:
    """Raise the UserError for the first row of which `right` is not true."""
    wrong = table.filter(~right.fill_null(False))
    if wrong.is_empty():
        return
    value = wrong[column][0]
    found = "nothing" if value is None else repr(value[:60])
    more = f" ({wrong.height - 1:,} more such lines)" if wrong.height > 1 else ""
    raise UserError(
        f"{path}: line {wrong[LINE][0]}, column {column!r}: found {found}, expected {expected}{more}",
        remedy=f"correct the line, or {_REMEDY}",
    )
