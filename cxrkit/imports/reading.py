"""Predictions as somebody wrote them, CSV, parquet or NPZ: which column holds the images, which each label's scores."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from cxrkit.base.errors import UserError, shown
from cxrkit.base.labels import LabelSet
from cxrkit.datasets import image_names
from cxrkit.datasets.image_names import plain
from cxrkit.datasets.lists import read_csv, read_parquet, text_of, unpacked
from cxrkit.imports.label_names import label_of, nearest
from cxrkit.sources.archives import ZIP_ERRORS

PLACE = "{label}"
_LABEL_ARRAYS = ("labels", "labelnames", "classes", "classnames", "pathologies", "findings", "columns", "targets")
_LISTED = 200  # characters of column names in a message
_REMEDY = "give a column of image names and one column of scores for each label"


@dataclass(frozen=True)
class Read:
    """A file of predictions, before anything was checked against the data set."""

    path: Path
    """The file."""

    sha256: str
    """Of its bytes, unpacked."""

    table: pl.DataFrame
    """Its columns, as they are."""


@dataclass(frozen=True)
class Chosen:
    """Which columns hold what."""

    image: str
    """The column of images."""

    by_label: dict[str, str]
    """The column of each label's scores."""

    left_out: tuple[str, ...]
    """Columns of scores that are of no label."""


def read_table(path: Path) -> Read:
    """Return a file of predictions. Raises UserError where it is none."""
    content = unpacked(path)
    ending = path.name.lower().removesuffix(".gz").rpartition(".")[2]
    if content.startswith(b"PAR1"):
        table = read_parquet(path, content)
    elif content.startswith(b"PK"):
        table = _from_npz(path, content)
    elif ending in ("csv", "tsv", "txt"):
        table = read_csv(path, text_of(path, content))
    else:
        raise UserError(
            f"{path}: the ending {path.suffix!r} and its first bytes are those of no table that can be read",
            remedy="write it as .csv, .csv.gz, .parquet or .npz",
        )
    if table.is_empty():
        raise UserError(f"{path}: has no rows", remedy=_REMEDY)
    return Read(path, hashlib.sha256(content).hexdigest(), table)


def _from_npz(path: Path, content: bytes) -> pl.DataFrame:
    """Return the arrays as columns: one of names; scores as one array a label, or as (N, L) with an array of labels."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (*ZIP_ERRORS, OSError, MemoryError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{path}: not a readable .npz ({shown(reason)})", remedy="write names as text, not as Python objects"
        ) from None
    arrays = {name: array for name, array in arrays.items() if array.dtype.kind in "USbiuf"}  # text and numbers
    scores = {name: array for name, array in arrays.items() if array.ndim == 2}
    if len(scores) > 1:
        raise UserError(
            f"{path}: {len(scores)} arrays with two axes, {', '.join(scores)}; expected one of scores",
            remedy="leave the others out",
        )
    columns = {name: array for name, array in arrays.items() if array.ndim == 1}
    for name, array in scores.items():
        names = next((key for key in columns if plain(key) in _LABEL_ARRAYS and columns[key].dtype.kind in "US"), None)
        if names is None or len(columns[names]) != array.shape[1]:
            raise UserError(
                f"{path}: no array says which labels the {array.shape[1]} columns of {name!r} are of",
                remedy="add an array `labels` with their names, in their order",
            )
        labels = [_text(value) for value in columns.pop(names)]
        if twice := {label for label in labels if label and labels.count(label) > 1}:
            raise UserError(
                f"{path}: {names!r} names {shown(min(twice))} more than once", remedy="name each column of scores once"
            )
        columns |= {label: array[:, place] for place, label in enumerate(labels)}
    if not columns:
        raise UserError(f"{path}: no array with one axis or two, of text or numbers", remedy=_REMEDY)
    lengths = {len(array) for array in columns.values()}
    if len(lengths) != 1:
        found = ", ".join(f"{name} {len(array):,}" for name, array in columns.items())
        raise UserError(f"{path}: its arrays are of different lengths ({shown(found[:200])})", remedy=_REMEDY)
    return pl.DataFrame(
        {
            name: [_text(value) for value in array] if array.dtype.kind in "US" else np.ascontiguousarray(array)
            for name, array in columns.items()
        }
    )


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def choose_columns(read: Read, image_ids: pl.Series, labels: LabelSet, pattern: str | None) -> Chosen:
    """Return which columns hold the images and the scores of each label. Raises UserError.

    image_ids: of the data set. pattern: of the columns of scores, with {label} in it; None: a label's bare name.
    """
    image = _image_column(read, image_ids)
    names = [name for name in read.table.columns if name != image]
    if pattern is None:
        candidates = {name: name for name in names}
    else:
        if pattern.count(PLACE) != 1:
            raise UserError(
                f"--columns {pattern}: expected {PLACE} once", remedy=f"write it like --columns 'prob_{PLACE}'"
            )
        before, after = map(re.escape, pattern.split(PLACE))
        found = ((name, re.fullmatch(f"{before}(.*){after}", name)) for name in names)
        candidates = {name: match[1] for name, match in found if match}
    by_label: dict[str, str] = {}
    strangers = []
    for name, said in candidates.items():
        label = label_of(said, labels)
        if label is None:
            strangers.append(name)
        elif label in by_label:
            raise UserError(
                f"{read.path}: columns {by_label[label]!r} and {name!r} are both of {label}",
                remedy="leave one of them out, or name the right ones with --columns 'prob_{label}'",
            )
        else:
            by_label[label] = name
    missing = [label for label in labels.labels if label not in by_label and label not in labels.beside]
    if missing:
        raise _missing_labels(read, labels, missing, strangers, names, pattern)
    return Chosen(
        image, by_label, tuple(name for name in strangers if pattern is not None or _are_scores(read.table[name]))
    )


def _are_scores(column: pl.Series) -> bool:
    """Whether a column that nobody named looks like scores: fractions, where ages and patients are whole numbers."""
    if not (column.dtype == pl.String or column.dtype.is_float()):
        return False
    number = column.cast(pl.Float64, strict=False)  # of a CSV every column is text
    return number.is_not_null().all() and bool((number != number.round()).any())


def _missing_labels(
    read: Read, labels: LabelSet, missing: list[str], strangers: list[str], names: list[str], pattern: str | None
) -> UserError:
    """Return the error for labels without a column, with the nearest column, or how the columns seem to be called."""
    which = ", ".join(missing) if len(missing) < 4 else f"{len(missing)} of {len(labels.averaged)} labels"
    found = _listed(names)
    near = nearest(missing[0], strangers)
    wrapped = sorted({re.sub(re.escape(label), PLACE, name) for label in missing for name in names if label in name})
    if near and len(missing) < 4:
        remedy = f"rename it: {near!r} is no label of {labels.name}; did you mean {missing[0]}?"
    elif wrapped and wrapped[0] != pattern:
        remedy = f"say how the columns are called, perhaps --columns '{wrapped[0]}'"
    else:
        remedy = f"name a column for each of {', '.join(labels.averaged)}, or say how with --columns 'prob_{PLACE}'"
    return UserError(f"{read.path}: no column of scores for {which}; found {found}", remedy=remedy)


def _listed(names: Sequence[str]) -> str:
    """Return names for a message: as many as have room, and how many more there are."""
    told: list[str] = []
    for name in names:
        if told and len(", ".join([*told, name])) > _LISTED:
            break
        told.append(name[:_LISTED])
    more = len(names) - len(told)
    return shown(", ".join(told)) + f" and {more:,} more" * bool(more)


def _image_column(read: Read, image_ids: pl.Series) -> str:
    """Return the column that holds most images of the data set: among usual names, else among all of text."""
    texts = [name for name, kind in read.table.schema.items() if kind == pl.String]
    ranked = {name: rank for name in texts if (rank := image_names.image_column_rank(name)) is not None}
    for group in (sorted(ranked, key=ranked.__getitem__), [name for name in texts if name not in ranked]):
        for name in group:
            column = read.table[name]
            if image_names.match(column.drop_nulls().head(1000), image_ids).is_not_null().any():
                return name
    if ranked:  # what is wrong with its names will be said later
        return min(ranked, key=ranked.__getitem__)
    found = _listed(read.table.columns)
    raise UserError(f"{read.path}: no column of image names; found {found}", remedy="name it image_id")
