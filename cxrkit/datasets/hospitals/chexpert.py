"""CheXpert (Irvin et al., AAAI 2019), Stanford: train.csv and valid.csv of CheXpert-v1.0 or CheXpert-v1.0-small.

Path, Sex, Age, Frontal/Lateral, AP/PA, then 14 observations as 1, 0, -1 or nothing. Labels of train are mined from
reports; valid has 234 films that three radiologists labelled, and is the official test part here (the hidden test set
was published later, under other file names). Ages are 0 where they are not known and 90 for all who are older; one sex
is "Unknown". A film is called by its path without the version: train/patient00001/study1/view1_frontal.jpg.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from cxrkit.base.contracts import Records
from cxrkit.base.errors import UserError, shown
from cxrkit.base.labels import CHEXPERT, NO_FINDING
from cxrkit.datasets.hospitals import tables
from cxrkit.datasets.hospitals.assembling import Listing, assemble, mentions
from cxrkit.datasets.hospitals.films import at_paths
from cxrkit.datasets.hospitals.policy import LabelPolicy, read_policy
from cxrkit.datasets.hospitals.tables import Table

NAME = "chexpert"
CHOICES = ("uncertain", "blank")
TABLES = {"train.csv": "train_val", "valid.csv": "test"}  # file -> its part of the official split
COLUMNS = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *CHEXPERT.labels)
VALUES = ("1.0", "0.0", "-1.0", "1", "0", "-1")
_REMEDY = "take it from the download of CheXpert (stanfordmlgroup.github.io/competitions/chexpert)"
_PATH = r"(?:([^/]*)/)?((?:train|valid)/(patient\d+)/study\d+/[^/]+\.jpg)"


def read(raw: Path, *, allow_missing: bool = False, policy: str = "") -> Records:
    """Return the records of CheXpert's frontal films in `raw`, or just below it; no pixel is read.

    policy: `uncertain=unknown|positive|negative,blank=negative|unknown`. Raises UserError where a table or a column is
    missing, a cell is none of the published ones, films are missing, or are those of another version.
    """
    chosen = read_policy(policy, NAME, *CHOICES)
    first = tables.find(raw, list(TABLES), "a table of CheXpert", _REMEDY)
    found = {part: path for name, part in TABLES.items() if (path := tables.optional(first.parent, (name,)))}
    frames, versions = zip(*(_read(path, part, chosen) for part, path in found.items()), strict=True)
    frame = pl.concat(frames)
    version = versions[0]
    frame = frame.with_columns(at_paths(_films(raw, first.parent, version, frame["image_id"].to_list())))
    release = f"{version}, {chosen.said(*CHOICES)}"
    listing = Listing(raw, NAME, CHEXPERT, release, frame, f"unpack the train and valid folders of {version} there")
    listing.leave_out(pl.col("plane") == "Frontal", "lateral films")
    listing.leave_out(pl.col("view").is_not_null(), "frontal by their name, but neither PA nor AP")
    return assemble(listing, allow_missing=allow_missing)


def _read(path: Path, part: str, chosen: LabelPolicy) -> tuple[pl.DataFrame, str]:
    """Return the films of a table, and the version that its paths begin with."""
    table = tables.read(path, COLUMNS, _REMEDY)
    _check(table)
    frame = table.frame.with_columns(
        version=pl.col("Path").str.extract(f"^{_PATH}$", 1).fill_null(""),
        image_id=pl.col("Path").str.extract(f"^{_PATH}$", 2),
        patient_id=pl.col("Path").str.extract(f"^{_PATH}$", 3),
    )
    age = pl.col("Age").cast(pl.Float64).cast(pl.Int32)
    found = frame.select(
        "image_id",
        "patient_id",
        age_years=pl.when(age > 0).then(age),
        sex=pl.col("Sex").replace_strict({"Male": "M", "Female": "F"}, default=None, return_dtype=pl.String),
        view=pl.when(pl.col("AP/PA").is_in(["AP", "PA"])).then("AP/PA"),
        plane="Frontal/Lateral",
        official=pl.lit(part),
        **mentions(CHEXPERT.labels, NO_FINDING, chosen.uncertain, chosen.blank),
    )
    return found, str(frame["version"][0]) or "CheXpert"


def _check(table: Table) -> None:
    example = "CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg"
    table.refuse("Path", pl.col("Path").str.contains(f"^{_PATH}$"), f"a path like {example}")
    table.refuse("Sex", pl.col("Sex").is_in(["Male", "Female", "Unknown"]), "Male, Female or Unknown")
    table.refuse("Age", pl.col("Age").str.contains(r"^\d{1,3}(\.0)?$"), "a whole number of years")
    table.refuse("Frontal/Lateral", pl.col("Frontal/Lateral").is_in(["Frontal", "Lateral"]), "Frontal or Lateral")
    for label in CHEXPERT.labels:
        table.refuse(label, pl.col(label).is_null() | pl.col(label).is_in(VALUES), "1.0, 0.0, -1.0 or nothing")


def _films(raw: Path, beside: Path, version: str, image_ids: list[str]) -> list[str]:
    """Return where each film must be. Raises UserError where the folders are those of another version.

    beside: the folder of the tables.
    """
    homes = [beside, beside / version, raw, raw / version]
    home = next((path for path in homes if (path / "train").is_dir() or (path / "valid").is_dir()), None)
    if home is None:
        others = sorted(path.name for path in {*raw.glob("CheXpert*"), *beside.glob("CheXpert*")} if path.is_dir())
        if others:
            raise UserError(
                f"{beside}: its tables are of {version}, but the films are of {shown(', '.join(others[:3]))}",
                remedy="take tables and films of one version; of the full one, unpack the batches into the folders "
                f"{version}/train and {version}/valid",
            )
        home = beside
    if home.name.startswith("CheXpert-v") and version.startswith("CheXpert-v") and home.name != version:
        raise UserError(
            f"{beside}: its tables are of {version}, but the films are in {home.name}",
            remedy="take tables and films of one version, in a folder of its name",
        )
    return [f"{home}/{image_id}" for image_id in image_ids]
