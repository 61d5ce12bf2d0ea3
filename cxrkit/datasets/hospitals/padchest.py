"""PadChest (Bustos et al., Medical Image Analysis 2020), Alicante: one table of 160,868 films.

PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv: ImageID, StudyDate_DICOM, PatientID, PatientBirth (a year),
PatientSex_DICOM, Projection, MethodLabel, and Labels as text that looks like a list of Python's, which is taken apart
and never evaluated. A label counts for those above it in the published tree, too. Frontal are the projections PA, AP
and AP_horizontal (lying). Films are PNGs of 16 bits in folders 0 to 54, or all in one. There is no official split.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from cxrkit.base.contracts import Note, Records
from cxrkit.base.errors import UserError
from cxrkit.base.labels import PADCHEST
from cxrkit.base.words import count, few
from cxrkit.datasets.hospitals import sharing, tables
from cxrkit.datasets.hospitals.assembling import Listing, assemble
from cxrkit.datasets.hospitals.films import by_stem
from cxrkit.datasets.hospitals.policy import read_policy

NAME = "padchest"
CHOICES = ("method",)
TABLE = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
COLUMNS = (
    "ImageID", "StudyDate_DICOM", "PatientID", "PatientBirth", "PatientSex_DICOM", "Projection", "MethodLabel", "Labels"
)  # fmt: skip
PHYSICIAN, NETWORK = "Physician", "RNN_model"  # what MethodLabel says
_VIEWS = {"PA": "PA", "AP": "AP", "AP_horizontal": "AP"}
_REMEDY = "take it from the download of PadChest (bimcv.cipf.es/bimcv-projects/padchest)"
_ITEM = r"""(?:'[^']*'|"[^"]*"|nan)"""
_LIST = rf"^\[\s*(?:{_ITEM}(?:\s*,\s*{_ITEM})*)?\s*\]$"
_NOT_READABLE = ("exclude", "suboptimal study")  # as labels: nobody could or should read these films
_NOTHING_NEW = "unchanged"  # what the labels of the report before were is not said


def read(raw: Path, *, allow_missing: bool = False, policy: str = "") -> Records:
    """Return the records of PadChest's frontal films in `raw`; no pixel is read.

    policy: `method=any|physician`. Raises UserError where the table or a column is missing, a cell is none of the
    published ones, or films are missing.
    """
    chosen = read_policy(policy, NAME, *CHOICES)
    path = tables.find(raw, (TABLE,), "PadChest's table", _REMEDY)
    table = tables.read(path, COLUMNS, _REMEDY)
    number, year = r"^\d{4}(\.0)?$", "a year, or nothing"
    table.refuse("ImageID", pl.col("ImageID").str.contains(r"^[^/\\]+\.png$"), "the name of a PNG")
    table.refuse("PatientID", pl.col("PatientID").is_not_null(), "a patient")
    table.refuse("PatientBirth", pl.col("PatientBirth").is_null() | pl.col("PatientBirth").str.contains(number), year)
    listed = pl.col("Labels").is_null() | (pl.col("Labels") == "nan") | pl.col("Labels").str.contains(_LIST)
    table.refuse("Labels", listed, "a list like ['cardiomegaly', 'pleural effusion']")
    frame = table.frame.join(_labels(table.frame["Labels"]), on="Labels", how="left", nulls_equal=True)
    known = pl.col("MethodLabel") == PHYSICIAN if chosen.method == "physician" else pl.lit(True)
    age = pl.col("StudyDate_DICOM").str.head(4).cast(pl.Int32, strict=False) - pl.col("PatientBirth").str.head(4).cast(
        pl.Int32
    )
    found = by_stem(raw)
    frame = frame.select(
        image_id="ImageID",
        patient_id="PatientID",
        age_years=pl.when(age.is_between(0, 120)).then(age),
        sex=pl.when(pl.col("PatientSex_DICOM").is_in(["M", "F"])).then("PatientSex_DICOM"),
        view=pl.col("Projection").replace_strict(_VIEWS, default=None, return_dtype=pl.String),
        readable=~pl.col("unreadable"),
        path=pl.col("ImageID").str.strip_suffix(".png").replace_strict(found, default=None, return_dtype=pl.String),
        **{label: pl.when(known).then(label) for label in PADCHEST.labels},
    )
    films = "unpack its archives of PNGs into this folder"
    listing = Listing(raw, NAME, PADCHEST, f"01.02.19, {chosen.said(*CHOICES)}", frame, films)
    listing.leave_out(pl.col("view").is_not_null(), "lateral, costal and excluded ones")
    listing.leave_out(
        pl.col("readable"), f"without labels, or labelled {' or '.join(_NOT_READABLE)}", "they say nothing"
    )
    _leave_out_broken(listing)
    return assemble(listing, allow_missing=allow_missing)


def split_labels(text: str | None) -> list[str] | None:
    """Return the labels in a cell such as `['pneumonia', 'normal', '']`, without empty ones; None where it is empty.

    Raises UserError for anything but a list of quoted words.
    """
    if text is None or text == "nan":
        return None
    found = pl.Series([text]).str.contains(_LIST)[0]
    if not found:
        raise UserError(f"{text[:60]!r}: not a list like ['cardiomegaly', 'pleural effusion']", remedy=_REMEDY)
    items = pl.Series([text]).str.extract_all(_ITEM)[0]
    return [word for item in items if (word := item.strip("'\"").strip()) and item != "nan"]


def _labels(cells: pl.Series) -> pl.DataFrame:
    """Return one row per distinct cell: Labels, `unreadable`, and every label of PADCHEST, null where not known."""
    below = sharing.below_in_padchest()
    rows = []
    for text in cells.unique().to_list():
        found = split_labels(text)
        said = set(found or ())
        row: dict[str, object] = {"Labels": text, "unreadable": not said or bool(said & set(_NOT_READABLE))}
        unknown = said <= {_NOTHING_NEW, *_NOT_READABLE}
        row |= {label: None if unknown else bool(said & {label, *below.get(label, ())}) for label in PADCHEST.labels}
        rows.append(row)
    schema = {"Labels": pl.String(), "unreadable": pl.Boolean(), **dict.fromkeys(PADCHEST.labels, pl.Boolean())}
    return pl.DataFrame(rows, schema=schema)


def _leave_out_broken(listing: Listing) -> None:
    """Leave out the films that are known to be damaged as they were published: a preparation would end at them."""
    broken = pl.col("image_id").is_in(sharing.broken_in_padchest())
    names = listing.frame.filter(broken)["image_id"].sort().to_list()
    if names:
        listing.frame = listing.frame.filter(~broken)
        listing.notes.append(
            Note(
                f"{listing.raw}: {count(len(names), 'film')} left out, published damaged: {few(names)}",
                "nothing to do: whoever reads PadChest leaves them out (data_manifests/hospitals.toml)",
            )
        )
