"""VinDr-CXR (Nguyen et al., Scientific Data 2022), Hanoi: image_labels_train.csv and image_labels_test.csv.

Training films have a row (image_id, rad_id, 28 labels as 0 or 1) for each of the three radiologists who read them, test
films one for the consensus of five. annotations_{train,test}.csv have boxes in pixels of the published film; those of
training films count where the majority (or what the policy says) has the finding. All films are PA. There are no
patient ids: a film is its own patient here, and intervals are by image.

The films are published as DICOM, IMAGE_ID.dicom, and read as such with pydicom (the extra `dicom`). Of a copy as PNG or
JPEG, IMAGE_ID.png, the boxes fit where it has the published size, or where the table of the published sizes is there
that comes with some copies: train_meta.csv and test_meta.csv (image_id, dim0: height, dim1: width).
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from cxrkit.base.contracts import BOX_SCHEMA, IMAGE_SIZE, Note, Records
from cxrkit.base.labels import VINDR
from cxrkit.datasets.hospitals import tables
from cxrkit.datasets.hospitals.assembling import Listing, assemble
from cxrkit.datasets.hospitals.films import by_stem, sizes
from cxrkit.datasets.hospitals.policy import LabelPolicy, read_policy
from cxrkit.sources.films import Placed

NAME = "vindr-cxr"
CHOICES = ("readers",)
LABEL_TABLES = {"image_labels_train.csv": "train_val", "image_labels_test.csv": "test"}
BOX_TABLES = ("annotations_train.csv", "annotations_test.csv")
META_TABLES = ("train_meta.csv", "test_meta.csv")
OTHER = "Other diseases"
OTHER_SPELLED = (OTHER, "Other disease", "Other disease(s)")  # it differs between the tables
_REMEDY = "take it from physionet.org/content/vindr-cxr"
_CORNERS = ("x_min", "y_min", "x_max", "y_max")


def read(raw: Path, *, allow_missing: bool = False, policy: str = "") -> Records:
    """Return the records of VinDr-CXR's films in `raw`; no pixel is read.

    policy: `readers=majority|any|all`. Raises UserError where a table or a column is missing, a cell is none of the
    published ones, or films are missing.
    """
    chosen = read_policy(policy, NAME, *CHOICES)
    first = tables.find(raw, list(LABEL_TABLES), "a table of VinDr-CXR", _REMEDY)
    found = {part: path for name, part in LABEL_TABLES.items() if (path := tables.optional(first.parent, (name,)))}
    frame = pl.concat(_labels(path, part, chosen) for part, path in found.items())
    films = by_stem(raw, dicom=True)
    frame = frame.with_columns(
        patient_id="image_id",
        view=pl.lit("PA"),
        path=pl.col("image_id").replace_strict(films, default=None, return_dtype=pl.String),
    )
    release = f"1.0.0, {chosen.said(*CHOICES)}"
    listing = Listing(
        raw, NAME, VINDR, release, frame, "put IMAGE_ID.dicom (or .png) there, in the folders train and test"
    )
    listing.boxes = _boxes(listing, first.parent)
    listing.notes.append(Note(f"{raw}: the tables have no patient ids", "nothing to do: intervals are by image"))
    return assemble(listing, allow_missing=allow_missing)


def _labels(path: Path, part: str, chosen: LabelPolicy) -> pl.DataFrame:
    """Return image_id, official and the 28 labels of each film, as its readers agree."""
    plain = [label for label in VINDR.labels if label != OTHER]
    readers = ["rad_id"] if part == "train_val" else []
    table = tables.read(path, ("image_id", *readers, *plain), _REMEDY, perhaps=OTHER_SPELLED)
    table.refuse("image_id", pl.col("image_id").str.contains(r"^[0-9a-f]{32}$"), "32 hexadecimal digits")
    spelled = next((name for name in OTHER_SPELLED if name in table.frame.columns), None)
    for label in (*plain, *filter(None, [spelled])):
        table.refuse(label, pl.col(label).is_in(["0", "1", "0.0", "1.0"]), "0 or 1")
    frame = table.frame.with_columns(pl.col(*plain, *filter(None, [spelled])).cast(pl.Float64) == 1)
    other = pl.col(spelled) if spelled else pl.lit(None, pl.Boolean)
    frame = frame.with_columns(other.alias(OTHER))
    how = chosen.readers if readers else "all"
    agreed = frame.group_by("image_id").agg(_agreed(label, how).alias(label) for label in VINDR.labels)
    return agreed.with_columns(official=pl.lit(part))


def _agreed(label: str, how: str) -> pl.Expr:
    """Return whether enough readers of an image have marked a label; null where none says anything of it."""
    marked = pl.col(label)
    enough = {"majority": marked.sum() * 2 > pl.len(), "any": marked.any(), "all": marked.all()}[how]
    return pl.when(marked.is_not_null().any()).then(enough)


def _boxes(listing: Listing, beside: Path) -> pl.DataFrame | None:
    """Return the boxes of films at hand as BOX_SCHEMA on the canvas; None, with a note, where they cannot be placed."""
    found = [_annotations(path) for name in BOX_TABLES if (path := tables.optional(beside, (name,)))]
    if not found:
        return None
    present = listing.frame.unpivot(VINDR.labels, index=["image_id", "path"], variable_name="label", value_name="has")
    boxes = pl.concat(found).join(
        present.filter(pl.col("has") & pl.col("path").is_not_null()), on=["image_id", "label"]
    )
    films = sizes(boxes["path"].unique().to_list())
    published = _published_sizes(beside)
    placed, outside = [], 0
    for image_id, label, path, *corners in boxes.select("image_id", "label", "path", *_CORNERS).iter_rows():
        if path not in films:
            continue
        film = published.get(image_id, films[path])
        left, top, right, bottom = corners
        outside += right > film[0] + 1 or bottom > film[1] + 1
        box = Placed.of(*films[path], IMAGE_SIZE).box(left, top, right - left, bottom - top, film)
        placed.append((image_id, label, *box))
    if outside:
        listing.notes.append(
            Note(
                f"{listing.raw}: no boxes, {outside:,} of {len(placed):,} reach beyond their film: a resized copy",
                f"put {' and '.join(META_TABLES)} of the copy beside the tables, which have the published sizes",
            )
        )
        return None
    return pl.DataFrame(placed, schema=BOX_SCHEMA, orient="row")


def _annotations(path: Path) -> pl.DataFrame:
    """Return image_id, label and the corners of each box; rows without a box ("No finding") have none."""
    table = tables.read(path, ("image_id", "class_name", *_CORNERS), _REMEDY)
    for name in _CORNERS:
        table.refuse(name, pl.col(name).is_null() | pl.col(name).str.contains(r"^\d+(\.\d+)?$"), "pixels, or nothing")
    return table.frame.filter(pl.col("x_min").is_not_null()).select(
        "image_id",
        label=pl.col("class_name").replace(dict.fromkeys(OTHER_SPELLED, OTHER)),
        **{name: pl.col(name).cast(pl.Float64) for name in _CORNERS},
    )


def _published_sizes(beside: Path) -> dict[str, tuple[int, int]]:
    """Return image_id -> (width, height) of the published film, of those that a table of sizes has."""
    found: dict[str, tuple[int, int]] = {}
    for name in META_TABLES:
        if path := tables.optional(beside, (name,)):
            table = tables.read(path, ("image_id", "dim0", "dim1"), "leave it out, and there are no boxes")
            for side in ("dim0", "dim1"):
                table.refuse(side, pl.col(side).str.contains(r"^\d{1,5}$"), "a number of pixels")
            rows = table.frame.select("image_id", pl.col("dim1", "dim0").cast(pl.Int64)).iter_rows()
            found |= {image_id: (width, height) for image_id, width, height in rows}
    return found
