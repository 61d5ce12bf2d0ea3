"""What is wrong with predictions from elsewhere: one clear message each; and what their reader should know."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cxrkit.base.errors import UserError
from cxrkit.base.labels import LabelSet
from cxrkit.base.words import count, of_them
from cxrkit.datasets import image_names
from cxrkit.imports.reading import Chosen, Read


def scores_of(read: Read, chosen: Chosen, records: pl.DataFrame, labels: LabelSet, *, logits: bool) -> pl.DataFrame:
    """Return image_id, patient_id and a probability for each label of the set, null where it has no column.

    records: image_id, patient_id and the labels of the whole data set. Raises UserError for images that it does not
    have, images given twice, and scores that are none.
    """
    images = _images(read, chosen, records)
    columns = []
    for label in labels.labels:
        if label in chosen.by_label:
            score = _numbers(read, chosen.by_label[label], images)
            columns.append(_probabilities(read, chosen.by_label[label], score, images, logits=logits).alias(label))
        else:
            columns.append(pl.Series(label, [None] * len(images), dtype=pl.Float64))
    frame = pl.DataFrame([images.alias("image_id"), *columns])
    return frame.join(records.select("image_id", "patient_id"), on="image_id", maintain_order="left")


def _images(read: Read, chosen: Chosen, records: pl.DataFrame) -> pl.Series:
    names = read.table[chosen.image]
    if missing := names.null_count():
        raise UserError(
            f"{read.path}: {count(missing, 'row')} without an image name", remedy="name the image of every row"
        )
    found = image_names.match(names, records["image_id"])
    unknown = names.filter(found.is_null())
    if len(unknown):
        raise UserError(
            f"{read.path}: {of_them(len(unknown), len(names), 'image')} not in the data set, first "
            f"{unknown[0]!r:.80}; expected names like {records['image_id'][0]}",
            remedy="name the data set that was predicted with --raw or --data, or leave these rows out",
        )
    if found.is_duplicated().any():
        twice = found.filter(found.is_duplicated())
        images = twice.n_unique()
        raise UserError(
            f"{read.path}: {count(images, 'image')} {'has' if images == 1 else 'have'} more than one row, "
            f"first {twice[0]} ({(found == twice[0]).sum()} times)",
            remedy="give one row an image; average the scores of several crops first",
        )
    return found


def _numbers(read: Read, name: str, images: pl.Series) -> pl.Series:
    """Return a column as finite Float64."""
    column = read.table[name]
    if not (column.dtype == pl.String or column.dtype.is_numeric() or column.dtype in (pl.Boolean, pl.Null)):
        raise UserError(f"{read.path}: column {name!r} holds {column.dtype}, expected numbers", remedy="write numbers")
    score = _float(column)
    bad = score.is_null() | ~score.is_finite().fill_null(False)
    if bad.any():
        first = int(bad.arg_max() or 0)
        value = "empty" if column[first] is None else column[first]
        raise UserError(
            f"{read.path}: {name} of {images[first]} is {value}, expected a number "
            f"({count(int(bad.sum()), 'such row')})",
            remedy="a NaN comes from a model that diverged or an image that failed: predict these images again, or "
            "leave their rows out; what is left is then partial",
        )
    return score


def _float(column: pl.Series) -> pl.Series:
    """Return a column of numbers, or of text that says some, as Float64; null where it says none."""
    text = column.str.strip_chars() if column.dtype == pl.String else column
    return text.cast(pl.Float64, strict=False)


def _probabilities(read: Read, name: str, score: pl.Series, images: pl.Series, *, logits: bool) -> pl.Series:
    if logits:
        return pl.Series(name, sigmoid(score.to_numpy()))
    outside = (score < 0) | (score > 1)
    if outside.any():
        first = int(outside.arg_max() or 0)
        raise UserError(
            f"{read.path}: {name} of {images[first]} is {score[first]:g}, outside 0 to 1 "
            f"({count(int(outside.sum()), 'such row')})",
            remedy="say --logits if these are a network's outputs before the sigmoid; divide percentages by 100",
        )
    return score


def sigmoid(logit_N: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return probabilities in the very order of the logits: different logits never become one probability.

    Near 1 the sigmoid of float64 has steps of 1.1e-16, and logits above 37 would all be 1: ties that the model did not
    make, and that move its AUC. Where that happens a value is moved to the next free number, by some 1e-11 at most,
    were the logits of all 112,120 images above 37.
    """
    distinct, place_N = np.unique(logit_N, return_inverse=True)
    with np.errstate(over="ignore", under="ignore"):
        small = np.exp(-np.abs(distinct))
        probability = np.where(distinct >= 0, 1 / (1 + small), small / (1 + small))
    if len(distinct) > 1 and not (np.diff(probability) > 0).all():
        values = probability.tolist()
        for place in range(len(values) - 2, -1, -1):  # from the top, each below the one above ...
            values[place] = max(0.0, min(values[place], math.nextafter(values[place + 1], -1)))
        for place in range(1, len(values)):  # ... and at the bottom, where no room was left, each above the one below
            values[place] = max(values[place], math.nextafter(values[place - 1], 2))
        probability = np.array(values)
    return probability[place_N]


def notes(read: Read, chosen: Chosen, frame: pl.DataFrame, labels: LabelSet, *, logits: bool) -> Iterator[str]:
    """Yield what a reader of the numbers should know: nothing that stops an import."""
    scored = [label for label in labels.labels if label in chosen.by_label]
    constant = [label for label in scored if frame[label].n_unique() == 1]
    if constant:
        yield f"every image has the same score for {', '.join(constant)}: such an AUC says nothing, and is marked"
    two = [label for label in scored if frame[label].n_unique() == 2]
    if two and len(frame) > 2:
        which = f"all {len(two)} columns of scores" if len(two) == len(scored) else ", ".join(two)
        yield (
            f"{which} {'holds' if len(two) == 1 else 'hold'} two different values only: decisions, not scores? "
            "An AUC of two values is one point of a curve"
        )
    if absent := [label for label in labels.labels if label not in chosen.by_label]:
        yield f"no scores of {', '.join(absent)}: the mean is over the {len(labels.averaged)} others as ever"
    if chosen.left_out:
        yield f"left out, since they are of no label of {labels.name}: {', '.join(chosen.left_out)}"
    if logits and all(_float(read.table[name]).is_between(0, 1).all() for name in chosen.by_label.values()):
        yield "all values lie within 0 and 1, as probabilities do; without --logits they are taken as such"


def refuse_truth(read: Read, chosen: Chosen, frame: pl.DataFrame, records: pl.DataFrame) -> None:
    """Raise a UserError where the scores are the labels themselves: then the wrong columns were taken."""
    truth = frame.select("image_id").join(records, on="image_id", maintain_order="left")
    for label in chosen.by_label:
        if not (frame[label] == truth[label].cast(pl.Float64)).fill_null(True).all():
            return
    raise UserError(
        f"{read.path}: its scores are the labels themselves, in every row",
        remedy="these columns hold the truth; name those of the scores with --columns 'prob_{label}'",
    )
