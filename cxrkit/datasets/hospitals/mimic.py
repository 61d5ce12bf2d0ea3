"""MIMIC-CXR-JPG (Johnson et al. 2019), Boston: mimic-cxr-2.0.0-{chexpert,metadata,split}.csv.gz of version 2.

Labels (of a study, by CheXpert's labeller on its report: 1.0, 0.0, -1.0 or nothing), view and date (of a film), and the
published split (train, validate, test: test is the official test part here). A film is called by its dicom_id and lies
at files/p10/p10000032/s50414267/DICOM_ID.jpg. Neither age nor sex is in these tables: they come from patients.csv(.gz)
of MIMIC-IV's `hosp` module where that is beside them, the age as anchor_age and the years that have passed since
anchor_year, both shifted in time alike.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from cxrkit.base.contracts import Note, Records
from cxrkit.base.errors import UserError
from cxrkit.base.labels import CHEXPERT, NO_FINDING
from cxrkit.datasets.hospitals import tables
from cxrkit.datasets.hospitals.assembling import Listing, assemble, mentions
from cxrkit.datasets.hospitals.chexpert import CHOICES, VALUES
from cxrkit.datasets.hospitals.films import at_paths
from cxrkit.datasets.hospitals.policy import LabelPolicy, read_policy

NAME = "mimic-cxr-jpg"
VERSION = "2.0.0"  # in the tables' names, of version 2.1.0, too
LABEL_TABLE, METADATA_TABLE, SPLIT_TABLE = (f"mimic-cxr-{VERSION}-{name}.csv" for name in (
    "chexpert", "metadata", "split"
))  # fmt: skip
PATIENT_TABLE = "patients.csv"
_PARTS = {"train": "train_val", "validate": "train_val", "test": "test"}
_REMEDY = "take it from physionet.org/content/mimic-cxr-jpg"
_FILMS = "put the folder `files` of MIMIC-CXR-JPG beside the tables"


def read(raw: Path, *, allow_missing: bool = False, policy: str = "") -> Records:
    """Return the records of MIMIC-CXR-JPG's frontal films in `raw`; no pixel is read.

    policy: `uncertain=unknown|positive|negative,blank=negative|unknown`. Raises UserError where a table or a column is
    missing, a cell is none of the published ones, or films are missing.
    """
    chosen = read_policy(policy, NAME, *CHOICES)
    what = "a table of MIMIC-CXR-JPG"
    labels, metadata, split = (
        tables.find(raw, (name,), what, _REMEDY) for name in (LABEL_TABLE, METADATA_TABLE, SPLIT_TABLE)
    )
    frame = _films(metadata, split).join(_labels(labels, chosen), on=["patient_id", "study"], how="left")
    frame = frame.with_columns(_people(raw, frame))
    paths = frame.select(
        pl.format("p{}/p{}/s{}/{}.jpg", pl.col("patient_id").str.head(2), "patient_id", "study", "image_id")
    ).to_series()
    home = _home(raw, metadata.parent)
    frame = frame.with_columns(at_paths([f"{home}/{path}" for path in paths]))
    release = f"{VERSION}, {chosen.said(*CHOICES)}"
    listing = Listing(raw, NAME, CHEXPERT, release, frame, _FILMS)
    listing.leave_out(pl.col("view").is_in(["PA", "AP"]), "lateral ones, and other views than PA and AP")
    if tables.optional(raw, (PATIENT_TABLE,)) is None:
        listing.notes.append(
            Note(
                f"{raw}: no {PATIENT_TABLE} of MIMIC-IV, so neither age nor sex is known",
                "put it beside the tables where a network needs them",
            )
        )
    return assemble(listing, allow_missing=allow_missing)


def _films(metadata: Path, split: Path) -> pl.DataFrame:
    """Return image_id, patient_id, study, year, view and official of every film."""
    about = tables.read(metadata, ("dicom_id", "subject_id", "study_id", "ViewPosition", "StudyDate"), _REMEDY)
    for name in ("subject_id", "study_id"):
        about.refuse(name, pl.col(name).str.contains(r"^\d{8}$"), "a number of eight digits")
    about.refuse("dicom_id", pl.col("dicom_id").str.contains(r"^[0-9a-f]{8}(-[0-9a-f]{8}){4}$"), "five groups of hex")
    parts = tables.read(split, ("dicom_id", "split"), _REMEDY)
    parts.refuse("split", pl.col("split").is_in(list(_PARTS)), ", ".join(_PARTS))
    frame = about.frame.join(parts.frame.select("dicom_id", "split"), on="dicom_id", how="left")
    if lacking := frame["split"].null_count():
        raise UserError(f"{split}: {lacking:,} films of {metadata.name} are not in it", remedy=_REMEDY)
    return frame.select(
        image_id="dicom_id",
        patient_id="subject_id",
        study="study_id",
        year=pl.col("StudyDate").str.head(4).cast(pl.Int32, strict=False),
        view="ViewPosition",
        official=pl.col("split").replace_strict(_PARTS, return_dtype=pl.String),
    )


def _labels(path: Path, chosen: LabelPolicy) -> pl.DataFrame:
    """Return patient_id, study and the 14 labels of every study; a study that is not listed has none that is known."""
    table = tables.read(path, ("subject_id", "study_id", *CHEXPERT.labels), _REMEDY)
    for label in CHEXPERT.labels:
        table.refuse(label, pl.col(label).is_null() | pl.col(label).is_in(VALUES), "1.0, 0.0, -1.0 or nothing")
    return table.frame.select(
        patient_id="subject_id",
        study="study_id",
        **mentions(CHEXPERT.labels, NO_FINDING, chosen.uncertain, chosen.blank),
    )


def _people(raw: Path, frame: pl.DataFrame) -> pl.DataFrame:
    """Return sex and age_years of each film of `frame`, null where MIMIC-IV's patients are not at hand."""
    path = tables.optional(raw, (PATIENT_TABLE,))
    if path is None:
        nobody = pl.Series([None] * len(frame))
        return pl.DataFrame({"sex": nobody.cast(pl.String), "age_years": nobody.cast(pl.Int32)})
    remedy = "take it from the hosp module of physionet.org/content/mimiciv, or leave it out"
    table = tables.read(path, ("subject_id", "gender", "anchor_age", "anchor_year"), remedy)
    table.refuse("gender", pl.col("gender").is_in(["M", "F"]), "M or F")
    for name in ("anchor_age", "anchor_year"):
        table.refuse(name, pl.col(name).str.contains(r"^\d{1,4}$"), "a whole number of years")
    known = table.frame.select("subject_id", "gender", pl.col("anchor_age", "anchor_year").cast(pl.Int32))
    both = frame.join(known, left_on="patient_id", right_on="subject_id", how="left", maintain_order="left")
    age = pl.col("anchor_age") + pl.col("year") - pl.col("anchor_year")
    return both.select(sex="gender", age_years=pl.when(age >= 0).then(age))


def _home(raw: Path, beside: Path) -> Path:
    """Return the folder that holds p10, p11, ...: beside the tables, as `files` or as it is."""
    homes = (beside / "files", raw / "files", beside, raw)
    return next((home for home in homes if any(home.glob("p1[0-9]"))), beside / "files")
