"""A list of films with and without a chest drain, and how well a finding is told with and without them.

NEATX (Cheplygina et al. 2023, arXiv 2309.02244; zenodo.org/records/14944064, CC BY-NC-SA) lists the films of
ChestX-ray14 that are labelled with a pneumothorax in `NIH-CX14_TubeAnnotations_NonExperts_aggregated.csv`: columns
"Image Index" and "Drain", 1 or 0. Any table with a column of images and one that says drain or none is taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from cxrkit.base.errors import UserError, shown
from cxrkit.base.words import count as counted
from cxrkit.datasets.image_names import image_column_rank, match, plain
from cxrkit.datasets.lists import read_csv, read_parquet, text_of, unpacked

# What the column is called, without case, spaces and signs; the likelier first.
COLUMNS = ("drain", "chestdrain", "chesttube", "chestdraintube", "drains", "hasdrain", "drainneatx", "tube")
_YES = (
    "1",
    "1.0",
    "true",
    "yes",
    "y",
    "drain",
    "chest drain",
    "chest tube",
    "2",
    "2.0",
)  # 2 in lists of several annotators
_NO = ("0", "0.0", "false", "no", "n", "none", "no drain", "no chest drain", "no chest tube")
_REMEDY = 'give a CSV with a column "Image Index" and a column "Drain" of 1 and 0, as NEATX has'


@dataclass(frozen=True)
class Drains:
    """What a list says of the films of a data set."""

    path: Path
    """The list."""

    table: pl.DataFrame
    """image_id (String) and drain (Boolean), each film once."""

    listed: int
    """How many films it names, of this data set or not."""

    unclear: int
    """How many of the data set's it names with a drain in one row and without in another; they are left out."""


def read(path: Path, image_ids: pl.Series) -> Drains:
    """Return what a list says of the films `image_ids`. Raises UserError where it says nothing of any of them.

    A row without an answer is passed over.
    """
    content = unpacked(path)
    table = read_parquet(path, content) if content.startswith(b"PAR1") else read_csv(path, text_of(path, content))
    table = table.rename({name: name.strip() for name in table.columns if name.strip() not in table.columns})
    image, drain = _columns(path, table)
    said = _answers(path, table[drain])
    names = table[image].cast(pl.String)
    rows = pl.DataFrame({"name": names, "image_id": match(names, image_ids), "drain": said}).drop_nulls(
        ["name", "drain"]
    )
    known = rows.drop_nulls("image_id")
    if known.is_empty():
        count = counted(len(rows), "film")
        example = f", such as {shown(str(rows['name'][0]))}," if len(rows) else ""
        raise UserError(
            f"{path}: none of its {count}{example} is one of this data set, such as {image_ids[0]}",
            remedy="name the list of this data set",
        )
    films = known.group_by("image_id", maintain_order=True).agg(
        drain=pl.col("drain").any(), clear=pl.col("drain").n_unique() == 1
    )
    unclear = int((~films["clear"]).sum())
    return Drains(path, films.filter("clear").select("image_id", "drain"), rows["name"].n_unique(), unclear)


def _columns(path: Path, table: pl.DataFrame) -> tuple[str, str]:
    """Return the columns of images and of drains."""
    found = shown(", ".join(table.columns)[:200])
    by_rank = {COLUMNS.index(plain(name)): name for name in reversed(table.columns) if plain(name) in COLUMNS}
    if not by_rank:
        raise UserError(f"{path}: no column says where a drain is; found {found}", remedy=_REMEDY)
    drain = by_rank[min(by_rank)]
    ranks = {name: rank for name in table.columns if name != drain and (rank := image_column_rank(name)) is not None}
    if not ranks:
        raise UserError(f"{path}: no column of images; found {found}", remedy=_REMEDY)
    return min(ranks, key=ranks.__getitem__), drain


def _answers(path: Path, column: pl.Series) -> pl.Series:
    """Return yes, no or null (nothing is said) of each row."""
    text = column.cast(pl.String).str.strip_chars().str.to_lowercase()
    text = pl.select(pl.when(~text.is_in(["", "nan", "na", "-1", "-1.0"])).then(text)).to_series()
    wrong = text.filter(text.is_not_null() & ~text.is_in([*_YES, *_NO]))
    if len(wrong):
        raise UserError(
            f"{path}: {column.name} is {shown(repr(wrong[0]))} in {counted(len(wrong), 'row')}, "
            "expected 1, 0 or nothing",
            remedy=_REMEDY,
        )
    return text.replace_strict(dict.fromkeys(_YES, True) | dict.fromkeys(_NO, False), return_dtype=pl.Boolean)
