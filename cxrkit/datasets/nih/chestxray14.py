"""NIH ChestX-ray14 (Wang et al., CVPR 2017): from the raw download to records.

A raw folder holds the data entry CSV, the two official lists, the images in whatever layout they were downloaded
(`nih_files`), and perhaps the box list. What all of it must count to is in `data_manifests/nih_chestxray14.toml`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from cxrkit.base.contracts import LABELS, PIXEL_SCHEMA, RECORD_SCHEMA, Records
from cxrkit.base.errors import UserError
from cxrkit.base.words import few
from cxrkit.datasets.nih.archives import ArchiveFact, archive_facts, archives_holding, manifest
from cxrkit.datasets.nih.files import find_images
from cxrkit.datasets.nih.tables import add_official_split, entries_path, read_boxes, read_entries
from cxrkit.datasets.nih.text import fetch_into

__all__ = ["NAME", "ArchiveFact", "archive_facts", "check_counts", "label_release", "missing_images", "read"]

NAME = "nih-chestxray14"
UNKNOWN_RELEASE = "unknown"
# Marks a folder in this layout whose images are phantoms: their results must never pass for ChestX-ray14.
SYNTHETIC_MARKER = "SYNTHETIC.json"


def read(raw: Path, *, allow_missing: bool = False) -> Records:
    """Return the records of the ChestX-ray14 download in `raw`; no pixel is read.

    Every image of the CSV is listed, those whose pixels are not at hand with a null path; unless `allow_missing`,
    any such image is an error. Raises UserError, too, when files are absent, damaged or contradict one another, and
    for a synthetic cohort.
    """
    records = read_layout(raw, allow_missing=allow_missing)
    if (raw / SYNTHETIC_MARKER).exists():
        raise UserError(
            f"{raw}: a synthetic cohort ({SYNTHETIC_MARKER}), not ChestX-ray14",
            remedy="add --dataset synthetic, or name the folder with the download",
        )
    return records


def read_layout(raw: Path, *, allow_missing: bool = False) -> Records:
    """Return what `read` does for any folder in ChestX-ray14's layout, a synthetic one too."""
    try:
        return _read(raw, allow_missing)
    except PermissionError as error:
        raise UserError(
            f"{error.filename or raw}: cannot be read ({error.strerror})", remedy="get read access to the raw folder"
        ) from None
    except OSError as error:
        raise UserError(
            f"{error.filename or raw}: cannot be read ({error.strerror or error})",
            remedy="see that the raw folder's disk is there and whole",
        ) from None


def label_release(frame: pl.DataFrame) -> str:
    """Return the release, "v2020" or "2017", that every count of images and positives agrees with, or "unknown".

    Compared are the images and the positives of all labels, in train_val and in test.
    """
    facts = manifest()
    for release in facts["labels"]["test"]:
        if not _label_differences(frame, facts, release):
            return str(release)
    return UNKNOWN_RELEASE


def check_counts(records: Records) -> list[str]:
    """Compare `records` with the manifest and return what differs, one sentence each; empty for the full data set.

    Compared are images and patients per subset; positives per label, sex and view per subset for the label release
    (where it is unknown, for the one that differs least); and boxes per label where there is a box list.
    """
    facts = manifest()
    findings: list[str] = []

    def compare(what: str, found: int, expected: int) -> None:
        if found != expected:
            findings.append(f"{what}: {found:,} found, {expected:,} expected")

    release = records.label_release
    if release not in facts["labels"]["test"]:
        findings.append(f"label release {release!r} is none of {', '.join(facts['labels']['test'])}")
        release = min(facts["labels"]["test"], key=lambda name: len(_label_differences(records.frame, facts, name)))
    for subset, expected in _expected_counts(facts, release).items():
        part = records.frame if subset == "all" else records.frame.filter(pl.col("official") == subset)
        for (column, value), number in expected.items():
            compare(f"{subset}, {value or column}", _count(part, column, value), number)
    if records.boxes is not None:
        compare("images with a box", records.boxes["image_id"].n_unique(), facts["boxes"]["images"])
        for label, number in facts["boxes"]["labels"].items():
            compare(f"boxes of {label}", records.boxes.filter(pl.col("label") == label).height, number)
        compare("boxes", records.boxes.height, sum(facts["boxes"]["labels"].values()))
    return findings


def _read(raw: Path, allow_missing: bool) -> Records:
    if not raw.is_dir():
        raise UserError(
            f"{raw}: there is no such folder",
            remedy=f"name the folder of the NIH download by --raw, or make it: {fetch_into(raw)}; or try cxrkit demo",
        )
    csv = entries_path(raw)
    frame = add_official_split(raw, csv, read_entries(csv))
    boxes = read_boxes(raw, csv, frame)
    images = find_images(raw, frame["image_id"])
    frame = frame.join(images.frame, on="image_id", how="left").select(*RECORD_SCHEMA, *PIXEL_SCHEMA).sort("image_id")
    records = Records(NAME, frame, label_release(frame), boxes, images.side, images.notes)
    if records.missing and not allow_missing:
        raise missing_images(raw, records)
    return records


def missing_images(raw: Path, records: Records) -> UserError:
    """Return the error for images that are not at hand, with all that was passed over: they may be in there."""
    absent = records.frame.filter(pl.col("path").is_null())["image_id"].to_list()
    holding = archives_holding(absent)
    if records.label_release == UNKNOWN_RELEASE or len(holding) > 3:
        holding = ["images_001.tar.gz to images_012.tar.gz"]
    remedies = [f"put {', '.join(holding)} or the extracted images/ into this folder ({fetch_into(raw)})"]
    if len(absent) < records.frame.height:
        remedies.append("go on with those that are there by --allow-missing")
    return UserError(
        "\n  ".join(
            [
                f"{raw}: {len(absent):,} of {records.frame.height:,} images are missing: {few(absent)}",
                *(f"{note.found} -> {note.remedy}" for note in records.notes),
            ]
        ),
        remedy=", or ".join(remedies),
    )


def _label_differences(frame: pl.DataFrame, facts: Mapping[str, Any], release: str) -> list[tuple[str, str]]:
    """Return (subset, label) of each count of positives that differs from the release's; label "" for the images."""
    differing = []
    for subset in ("train_val", "test"):
        part = frame.filter(pl.col("official") == subset)
        labels = facts["labels"]["train_val"] if subset == "train_val" else facts["labels"]["test"][release]
        expected = {"": facts["split"][subset]["images"], **{label: labels[label] for label in LABELS}}
        found = {"": part.height, **part.select(pl.col(LABELS).sum()).row(0, named=True)}
        differing += [(subset, label) for label, number in expected.items() if found[label] != number]
    return differing


def _expected_counts(facts: Mapping[str, Any], release: str) -> dict[str, dict[tuple[str, str], int]]:
    """Return subset -> {(column, value): images}; the value "" stands for distinct images or patients."""
    expected: dict[str, dict[tuple[str, str], int]] = {}
    for subset, totals in facts["split"].items():
        counts = {("images", ""): totals["images"], ("patients", ""): totals["patients"]}
        if subset != "all":
            labels = facts["labels"]["train_val"] if subset == "train_val" else facts["labels"]["test"][release]
            counts |= {(label, ""): labels[label] for label in LABELS}
            for column in ("sex", "view"):  # not counted for every release
                counts |= {(column, value): n for value, n in facts[column].get(release, {}).get(subset, {}).items()}
        expected[subset] = counts
    return expected


def _count(part: pl.DataFrame, column: str, value: str) -> int:
    if column == "images":
        return part["image_id"].n_unique()
    if column == "patients":
        return part["patient_id"].n_unique()
    return int((part[column] == value).sum() if value else part[column].sum())
