"""From a hospital's table to Records: what all of these data sets have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from cxrkit.base.contracts import BOX_SCHEMA, PIXEL_SCHEMA, Note, Records, record_schema
from cxrkit.base.errors import UserError
from cxrkit.base.labels import LabelSet
from cxrkit.base.words import few
from cxrkit.datasets.hospitals import films
from cxrkit.sources.films import LETTERBOX

SYNTHETIC_MARKER = "SYNTHETIC.json"  # in a folder of phantoms in a hospital's layout
SYNTHETIC = "synthetic"
UNTESTED = "untested on the real data set"  # said wherever a result of one of these readers is shown
_FRONTAL = "networks of ChestX-ray14 know frontal films alone"


@dataclass
class Listing:
    """What a reader has made of its table."""

    raw: Path
    """The raw folder."""

    dataset: str
    """Registered name."""

    labels: LabelSet
    """What `frame` says of each film."""

    release: str
    """Version and label policy, for people."""

    frame: pl.DataFrame
    """image_id, patient_id, age_years, sex, view, `official`, the labels, and `path`, null where it is not at hand."""

    remedy: str
    """For films that are not there: where they come from, one imperative clause."""

    boxes: pl.DataFrame | None = None
    """BOX_SCHEMA, in pixels of the canvas as if it were 1024 wide."""

    side: int | None = None
    """Of the canvas; None: by the films at hand."""

    notes: list[Note] = field(default_factory=list)
    """What was left out."""

    def leave_out(self, keep: pl.Expr, what: str, why: str = _FRONTAL) -> None:
        """Take out the films of which `keep` is not true, and count them in a note."""
        kept = self.frame.filter(keep.fill_null(False))
        if number := len(self.frame) - len(kept):
            plural = "films" if number > 1 else "film"
            self.notes.append(Note(f"{self.raw}: {number:,} {plural} left out: {what}", f"nothing to do: {why}"))
        self.frame = kept


def assemble(listing: Listing, *, allow_missing: bool) -> Records:
    """Return the Records of a listing.

    Phantoms in the hospital's layout are called so, by another data set name and label release. Raises UserError for
    films that are listed twice, and, without `allow_missing`, for those that are not at hand.
    """
    frame, raw = listing.frame, listing.raw
    if frame.is_empty():
        raise UserError(f"{raw}: lists no frontal film (PA or AP)", remedy="take the complete table")
    if twice := frame.filter(pl.col("image_id").is_duplicated())["image_id"].unique().sort().to_list():
        raise UserError(f"{raw}: {len(twice):,} films are listed twice: {few(twice)}", remedy="take the complete table")
    synthetic = any((folder / SYNTHETIC_MARKER).is_file() for folder in (raw, raw.absolute().parent))
    schema = {**record_schema(listing.labels), **PIXEL_SCHEMA}
    absent = [name for name in schema if name not in frame.columns]
    frame = frame.with_columns(pl.lit(None, schema[name]).alias(name) for name in absent)
    frame = frame.select(pl.col(name).cast(kind) for name, kind in schema.items()).sort("image_id")
    there = frame["path"].drop_nulls().to_list()
    if len(there) < len(frame) and not allow_missing:
        raise _missing(listing, frame, len(there))
    boxes = listing.boxes
    return Records(
        dataset=f"{SYNTHETIC}-{listing.dataset}" if synthetic else listing.dataset,
        frame=frame,
        label_release=SYNTHETIC if synthetic else listing.release,
        boxes=None if boxes is None else boxes.select(*BOX_SCHEMA).sort(*BOX_SCHEMA),
        side=listing.side or films.canvas_side(there),
        notes=(*listing.notes, *_said(listing, synthetic)),
        labels=listing.labels,
        fit=LETTERBOX,
    )


def _said(listing: Listing, synthetic: bool) -> list[Note]:
    if synthetic:
        return []
    found = f"the reader of {listing.dataset} is {UNTESTED}"
    return [Note(found, "compare the counts here with those that are published, and report what differs")]


def _missing(listing: Listing, frame: pl.DataFrame, there: int) -> UserError:
    absent = frame.filter(pl.col("path").is_null())["image_id"].to_list()
    what = f"{listing.raw}: {len(absent):,} of {len(frame):,} frontal films are not there: {few(absent)}"
    remedy = f"{listing.remedy}, or go on with those that are there by --allow-missing" if there else listing.remedy
    if not there and (number := films.dicoms(listing.raw)):
        what += f"; {number:,} DICOM files are, which prepare does not read"
        remedy = f"write them as PNG first, under the same names; {listing.remedy}"
    return UserError(what, remedy=remedy)


def from_mentions(column: str, uncertain: str, blank: str) -> pl.Expr:
    """Return a label of CheXpert's labeller as Boolean, null where it is not known: 1, 0, -1 (it hedges) or nothing.

    uncertain, blank: of the LabelPolicy.
    """
    number = pl.col(column).cast(pl.Float64)
    hedged = {"positive": True, "negative": False, "unknown": None}[uncertain]
    nothing = {"negative": False, "unknown": None}[blank]
    return (
        pl.when(number == 1)
        .then(True)
        .when(number == 0)
        .then(False)
        .when(number == -1)
        .then(pl.lit(hedged, pl.Boolean))
        .otherwise(pl.lit(nothing, pl.Boolean))
        .alias(column)
    )


def mentions(labels: Sequence[str], no_finding: str, uncertain: str, blank: str) -> Mapping[str, pl.Expr]:
    """Return the labels of CheXpert's labeller, by name; see `from_mentions`.

    Where `blank` is unknown, a report without finding still says no of every other one, but of devices; and one with a
    finding says no of "No Finding".
    """
    found = {label: from_mentions(label, uncertain, blank) for label in labels}
    if blank == "negative":
        return found
    others = [label for label in labels if label not in (no_finding, "Support Devices")]
    healthy = pl.col(no_finding).cast(pl.Float64) == 1
    ill = pl.any_horizontal((pl.col(label).cast(pl.Float64) == 1).fill_null(False) for label in others)
    said_no = {label: healthy.fill_null(False) for label in others} | {no_finding: ill}
    return {
        label: pl.when(pl.col(label).is_null() & said_no[label]).then(False).otherwise(one).alias(label)
        if label in said_no
        else one
        for label, one in found.items()
    }
