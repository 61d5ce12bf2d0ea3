"""The data set's table without its pixels: from a prepared folder, a raw folder, or NIH's CSV alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from cxrkit.base import labels as label_sets
from cxrkit.base import registry
from cxrkit.base.errors import UserError
from cxrkit.base.labels import CHESTXRAY14, LabelSet
from cxrkit.datasets.nih import chestxray14, roster
from cxrkit.datasets.nih.tables import LIST_FILES, add_official_split, entries_path, read_entries
from cxrkit.datasets.nih.text import find_table
from cxrkit.shards.index import read_description, read_listed

NIH = chestxray14.NAME


@dataclass(frozen=True)
class Cohort:
    """Who is in a data set, and has what."""

    source: Path
    """The folder or file it was read from."""

    dataset: str
    """Registered name of the data set."""

    label_release: str
    """"v2020", "2017", "synthetic" or "unknown"."""

    labels: LabelSet
    """What the frame says of each image."""

    frame: pl.DataFrame
    """contracts.record_schema of the labels, sorted by image_id: every image of the data set."""


def from_prepared(folder: Path) -> Cohort:
    """Return the cohort of a prepared folder, of tables alone too. Raises UserError."""
    about = read_description(folder)
    labels = label_sets.get(about.label_set)
    return Cohort(folder, about.dataset, about.label_release, labels, read_listed(folder, about))


def from_raw(raw: Path, dataset: str = NIH) -> Cohort:
    """Return the cohort of a raw folder; for ChestX-ray14 its CSV is enough, or the CSV itself. Raises UserError.

    Where NIH's two lists are not beside the CSV, the roster says which images are in which.
    """
    if dataset != NIH:
        records = registry.load("dataset", dataset)(raw, allow_missing=True)
        return Cohort(raw, records.dataset, records.label_release, records.labels, records.frame)
    folder = raw if raw.is_dir() else raw.parent
    if (folder / chestxray14.SYNTHETIC_MARKER).exists():
        raise UserError(
            f"{folder}: a synthetic cohort ({chestxray14.SYNTHETIC_MARKER}), not ChestX-ray14",
            remedy="add --dataset synthetic, or name the folder with the download",
        )
    if not raw.exists():
        raise UserError(
            f"{raw}: there is no such folder or file",
            remedy="name the folder with NIH's Data_Entry_2017_v2020.csv, or that file",
        )
    csv = entries_path(raw) if raw.is_dir() else raw
    entries = read_entries(csv)
    if all(find_table(folder, (name,)) for name in LIST_FILES.values()):
        frame = add_official_split(folder, csv, entries)
    else:
        known = roster.read().select("image_id", "official")
        frame = entries.join(known, on="image_id", how="left", maintain_order="left")
    return Cohort(raw, NIH, chestxray14.label_release(frame), CHESTXRAY14, frame)


def records_of(raw: Path | None, data: Path | None, dataset: str = NIH) -> pl.DataFrame:
    """Return image_id, patient_id and official of a data set; of ChestX-ray14, from its roster, where none is named."""
    if raw is None and data is None:
        return roster.read()
    return read(raw, data, dataset).frame.select("image_id", "patient_id", "official")


def read(raw: Path | None, data: Path | None, dataset: str = NIH) -> Cohort:
    """Return the cohort of the raw or the prepared folder that is named. Raises UserError unless it is one of both."""
    if (raw is None) == (data is None):
        raise UserError(
            "--raw and --data: " + ("none of them is given" if raw is None else "both are given"),
            remedy="name a prepared folder with --data, or with --raw the folder of NIH's CSV, or the CSV itself",
        )
    return from_prepared(data) if data is not None else from_raw(Path(str(raw)), dataset)
