"""What a number was made of: the digest of labels, and the comparison of two origins."""

from __future__ import annotations

from dataclasses import fields, replace

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxrkit.base import origin
from cxrkit.base.contracts import LABELS
from cxrkit.base.files import digest_lines
from cxrkit.base.origin import Origin, boxes_digest, differences, digest_column, labels_digest

ORIGIN = Origin(
    dataset="nih-chestxray14",
    label_set="chestxray14",
    label_release="v2020",
    labels_digest="aa" * 32,
    pixels_digest="bb" * 32,
    preparation_digest="cc" * 32,
    image_side=1024,
    split="official",
    split_digest="dd" * 32,
    train_images=75_707,
    train_subset_images=75_707,
    boxes_digest="ff" * 32,
)


def records(patients: int) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "image_id": [f"{number:08d}_000.png" for number in range(patients)],
            "patient_id": [str(number) for number in range(patients)],
            **{label: [(number + place) % 3 == 0 for number in range(patients)] for place, label in enumerate(LABELS)},
        }
    )


@pytest.mark.parametrize("count", [0, 1, 40_000])
def test_the_digest_of_a_column_is_that_of_its_lines(count: int) -> None:
    lines = [f"{number} \u00e4" for number in range(count)]
    column = pl.Series(lines, dtype=pl.String)
    assert digest_column(column) == digest_lines(lines)
    assert digest_column(column, first="first\n") == digest_lines(["first", *lines])


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 8), st.sampled_from(("image_id", "patient_id", *LABELS)), st.booleans())
def test_any_change_of_any_cell_changes_the_digest(row: int, column: str, unknown: bool) -> None:
    frame = records(9)
    value = (None if unknown else not frame[column][row]) if column in LABELS else "another"
    changed = frame.with_columns(
        pl.when(pl.int_range(pl.len()) == row).then(pl.lit(value, frame[column].dtype)).otherwise(column).alias(column)
    )
    assert labels_digest(changed) != labels_digest(frame)


def test_the_order_of_rows_and_columns_does_not_matter() -> None:
    frame = records(9)
    assert labels_digest(frame.reverse().select(reversed(frame.columns))) == labels_digest(frame)


@pytest.mark.parametrize(
    ("change", "part", "words"),
    [
        ({"dataset": "synthetic"}, "data set", "synthetic"),
        ({"labels_digest": "ee" * 32}, "labels", "v2020 labels with digest eeeeeeeeeeee"),
        ({"label_release": "2017", "labels_digest": "ee" * 32}, "labels", "labels of release 2017"),
        ({"boxes_digest": "ee" * 32}, "boxes", "boxes with digest eeeeeeeeeeee"),
        ({"pixels_digest": "ee" * 32}, "pixels", "source files with digest eeeeeeeeeeee"),
        ({"image_side": 224}, "pixels", "source images of 224 pixels"),
        ({"split": "file-mine", "split_digest": "ee" * 32}, "split", "split file-mine with digest eeeeeeeeeeee"),
        ({"train_images": 100}, "training images", "100 training images"),
        ({"initial_weights": "ee" * 32}, "initial weights", "weights eeeeeeeeeeee"),
    ],
)
def test_differences_are_named(change: dict[str, object], part: str, words: str) -> None:
    (found,) = differences(ORIGIN, replace(ORIGIN, **change))
    assert (found.part, found.other) == (part, words)


def test_what_is_not_known_is_no_disagreement_and_equal_origins_agree() -> None:
    assert differences(ORIGIN, ORIGIN) == []
    assert differences(ORIGIN, replace(ORIGIN, labels_digest="", pixels_digest="", split_digest="")) == []
    assert differences(ORIGIN, replace(ORIGIN, boxes_digest="")) == []  # another network, which learned from no box


def test_the_digest_of_boxes_is_of_the_box_list() -> None:
    place = {"x": [1.5, 0.0], "y": [2.0, 0.1], "width": [3.0, 4.0], "height": [5.0, 6.0]}
    boxes = pl.DataFrame({"image_id": ["b", "a"], "label": ["Mass", "Nodule"], **place})
    lines = ["a|Nodule|0.0|0.1|4.0|6.0", "b|Mass|1.5|2.0|3.0|5.0"]
    assert boxes_digest(boxes) == boxes_digest(boxes.reverse()) == digest_lines(lines)
    assert boxes_digest(boxes.with_columns(pl.col("x") + 1)) != boxes_digest(boxes)
    assert boxes_digest(boxes.with_columns(label=pl.lit("a label that is not learned"))) == digest_lines([])


def test_only_the_parts_asked_for_are_compared() -> None:
    other = replace(ORIGIN, dataset="synthetic", train_images=1)
    assert [found.part for found in differences(ORIGIN, other, {"training images"})] == ["training images"]


def test_every_field_that_decides_a_number_is_compared() -> None:
    compared = {name for names in origin._FIELDS.values() for name in names}
    # Names for people, the size of the subset (the split's digest holds it), how the rest is known, and which images
    # validate: others make other thresholds, and no other AUC.
    beside = {"split", "train_subset_images", "pretraining", "pretrained", "basis"}
    beside |= {"validation_images", "validation_digest"}
    assert compared | beside == {field.name for field in fields(Origin)}
