"""The records of a raw folder, by the data set of a name; those of a foreign one are checked before a pixel is read.

Everything after this relies on them: a fault would be told by whatever stumbles over it, hours later.
"""

from __future__ import annotations

import functools
import inspect
from pathlib import Path
from typing import Any

import polars as pl

from cxrkit.base import labels as label_sets
from cxrkit.base import registry
from cxrkit.base.contracts import BOX_SCHEMA, PIXEL_SCHEMA, Records, record_schema
from cxrkit.base.errors import UserError
from cxrkit.base.labels import LabelSet
from cxrkit.base.words import count

_REMEDY = "correct the data set; examples/table_dataset.py is one, cxrkit/base/contracts.py says what Records hold"
_WORDS = {"sex": ("M", "F"), "view": ("PA", "AP"), "official": ("train_val", "test")}


def read_records(dataset: str, raw: Path, *, allow_missing: bool, policy: str = "") -> Records:
    """Return the records of `raw`.

    policy: how doubtful labels are read, for the data sets that ask (their reader has an argument `policy`). Raises
    UserError for a data set that does not, and for what a foreign one does wrong, as the data set's.
    """
    read = registry.load("dataset", dataset)
    if policy:
        read = _with_policy(read, dataset, policy)
    if not registry.is_foreign("dataset", dataset):
        found: Records = read(raw, allow_missing=allow_missing)
        return found
    try:
        found = read(raw, allow_missing=allow_missing)
    except (UserError, KeyboardInterrupt):
        raise
    except Exception as error:
        if _is_interrupted(error):
            raise
        raise registry.failed("dataset", dataset, error, f"reading {raw}") from error
    if wrong := _wrong_with(found):
        raise UserError(f"dataset {dataset!r}: {wrong}", remedy=_REMEDY)
    return found


def _with_policy(read: Any, dataset: str, policy: str) -> Any:
    if "policy" not in inspect.signature(read).parameters:
        raise UserError(
            f"--label-policy {policy}: the labels of {dataset} leave nothing to choose", remedy="leave it out"
        )
    return functools.partial(read, policy=policy)


def _is_interrupted(error: BaseException) -> bool:
    """Whether a Ctrl-C is behind it: Python itself turns one into another error while it makes a class."""
    cause = error.__cause__ or error.__context__
    return isinstance(error, KeyboardInterrupt) or (cause is not None and _is_interrupted(cause))


def _wrong_with(found: Any) -> str | None:
    """Return the first thing that is wrong with what a data set returned; None: nothing is."""
    if not isinstance(found, Records):
        return f"expected cxrkit.base.contracts.Records, found {_shown(found)}"
    frame, boxes = _any(found.frame), _any(found.boxes)
    if not isinstance(frame, pl.DataFrame):
        return f"expected a polars.DataFrame as the frame of its Records, found {_shown(frame)}"
    if boxes is not None and not isinstance(boxes, pl.DataFrame):
        return f"expected a polars.DataFrame or None as the boxes of its Records, found {_shown(boxes)}"
    for name in ("dataset", "label_release"):
        if not isinstance(value := getattr(found, name), str) or not value:
            return f"its Records' {name} is {value!r}, expected a name"
    if type(found.side) is not int or found.side < 1:
        return f"its Records' side is {found.side!r}, expected the pixels along each side of an image"
    return (
        _wrong_with_labels(found.labels)
        or _wrong_columns("frame", found.frame, {**record_schema(found.labels), **PIXEL_SCHEMA})
        or _wrong_cells(found.frame)
        or (None if boxes is None else _wrong_columns("boxes", boxes, BOX_SCHEMA))
    )


def _any(value: Any) -> Any:
    """Return what is annotated, and may be anything: nobody has checked a plug-in's types."""
    return value


def _shown(value: object) -> str:
    return f"a {type(value).__name__}"


def _wrong_with_labels(labels: Any) -> str | None:
    if not isinstance(labels, LabelSet) or not labels.labels:
        return f"expected a cxrkit.base.labels.LabelSet with labels as its Records' labels, found {labels!r:.80}"
    try:
        again = label_sets.get(labels.name)
    except UserError as error:
        return (
            f"its label set {labels.name!r} cannot be found again by that name, as every later step must "
            f"({error.what}); call it package.module:ATTRIBUTE, by the place where it stands"
        )
    return None if again == labels else f"its label set {labels.name!r} is another one than is found by that name"


def _wrong_columns(table: str, frame: pl.DataFrame, schema: dict[str, pl.DataType]) -> str | None:
    if missing := [name for name in schema if name not in frame.columns]:
        return f"its {table} lacks the column {', '.join(map(repr, missing))}; what is not known is null, not left out"
    for name, kind in schema.items():
        if frame.schema[name] != kind:
            return f"column {name!r} of its {table} is {frame.schema[name]}, expected {kind}"
    return None


def _wrong_cells(frame: pl.DataFrame) -> str | None:
    if frame.is_empty():
        return "lists no image"
    for name in ("image_id", "patient_id"):
        if empty := int((frame[name].is_null() | (frame[name].str.strip_chars() == "")).sum()):
            return f"{name} is empty in {empty:,} of {len(frame):,} rows; every image has one"
    if twice := frame["image_id"].filter(frame["image_id"].is_duplicated()).unique(maintain_order=True).to_list():
        return f"{len(twice):,} images are listed more than once, the first {twice[0]}"
    for name, words in _WORDS.items():
        other = frame[name].filter(frame[name].is_not_null() & ~frame[name].is_in(words))
        if len(other):
            return f"{name} is {other[0]!r} in {count(len(other), 'row')}, expected {', '.join(words)} or null"
    if (negative := frame["age_years"].filter(frame["age_years"] < 0)).len():
        rows = count(len(negative), "row")
        return f"age_years is {negative[0]} in {rows}, expected years, or null where it is not known"
    return _wrong_official(frame)


def _wrong_official(frame: pl.DataFrame) -> str | None:
    """Name a patient who is on both sides of the official split: no score of that would mean anything."""
    sides = frame.filter(pl.col("official").is_not_null()).group_by("patient_id").agg(pl.col("official").n_unique())
    both = sides.filter(pl.col("official") > 1)["patient_id"].sort()
    if not len(both):
        return None
    return f"patient {both[0]!r} is in train_val and in test of its official split ({len(both):,} such patients)"
