"""What a number was made of: one record, made once per training and nested whole in all that comes of it.

Checkpoints, prediction files and scores carry their Origin. Two numbers may be compared when their Origins agree, and
every refusal (to resume, to predict, to evaluate, to put side by side) comes out of `differences`. Digests that are
known beforehand are in `data_manifests/`: the labels of a release, the six splits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal

import polars as pl

from cxrkit.base.derived import with_labels
from cxrkit.base.labels import CHESTXRAY14, LabelSet
from cxrkit.base.pretraining import Pretraining, named

# checked: read from the thing itself by cxrkit. declared: somebody says so. unknown: nobody does. unused: nothing
# depends on it, as on the pixels where a network looks at none.
Known = Literal["checked", "declared", "unknown", "unused"]
_LINES_AT_ONCE = 1 << 14  # half a megabyte of text
Part = Literal["data set", "labels", "boxes", "metadata", "pixels", "split", "training images", "initial weights"]


@dataclass(frozen=True)
class Basis:
    """How each part of an Origin is known."""

    labels: Known = "checked"
    """Whether the digest is that of the records themselves."""

    pixels: Known = "checked"
    """Whether the source files were read."""

    split: Known = "checked"
    """Whether the assignment of images is known, not only its name."""

    training: Known = "checked"
    """Whether the training images are known, and hence that no test patient was among them."""

    pretraining: Known = "checked"
    """Whether it is known what the network had seen before."""


@dataclass(frozen=True)
class Origin:
    """Data, labels, pixels, split and training behind a number. A digest is a SHA-256 in hex, "" where not known."""

    dataset: str
    """Registered name of the data set, "nih-chestxray14"."""

    label_set: str
    """Name of the LabelSet that was learned and is scored."""

    label_release: str
    """"v2020", "2017", "synthetic" or "unknown"; for people: the digest decides."""

    labels_digest: str
    """`labels_digest` of the data set's records: ids, patients and labels."""

    pixels_digest: str
    """Of the source files' names, sizes and checksums as they were read into the prepared folder."""

    preparation_digest: str
    """Of the preparation's settings: levels, codec, quality, size of the sources."""

    image_side: int
    """Side length in pixels of the source images: 1024, or less for resized copies; 0 where not known."""

    split: str
    """Name of the split: "official", "resample-3", "file-NAME"."""

    split_digest: str
    """`Split.digest`: which image is in which subset."""

    train_images: int
    """How many images the model was trained on; 0 where not known."""

    train_subset_images: int
    """How many images the training subset of the split has in the whole data set."""

    initial_weights: str = ""
    """SHA-256 of the file that training started from; "" from scratch."""

    pretraining: str = "none"
    """What the network had seen before, by name: "none", "ImageNet", or what somebody declares."""

    pretrained: Pretraining = field(default_factory=Pretraining)
    """How much it had seen, as it was found or declared: see `saw`, which knows older files, too."""

    metadata_digest: str = ""
    """`metadata_digest` of the data set's records: age, sex and view, which -meta networks are given."""

    boxes_digest: str = ""
    """`boxes_digest` of the data set's box list where the training learned from boxes; "" where it did not."""

    validation_images: int = 0
    """How many validation images are declared for a model from elsewhere; 0 where val is the split's."""

    validation_digest: str = ""
    """SHA-256 over the sorted names of those images, one a line; "" where val is the split's."""

    basis: Basis = field(default_factory=Basis)
    """How each part is known."""

    @property
    def complete(self) -> bool:
        """Whether every training image of the split was trained on."""
        return self.train_images == self.train_subset_images

    @property
    def saw(self) -> Pretraining:
        """How much the network had seen before, of anything, of this data set and of its test images."""
        return self.pretrained if self.pretrained.known else named(self.pretraining)


@dataclass(frozen=True)
class Difference:
    """A part in which two Origins disagree, in words for a message."""

    part: Part
    """Where they disagree."""

    one: str
    """What the first says."""

    other: str
    """What the second says."""


# What each part is made of: (field, whether an empty value is "not known" and so no disagreement).
_FIELDS: dict[Part, tuple[str, ...]] = {
    "data set": ("dataset", "label_set"),
    "labels": ("label_release", "labels_digest"),
    "boxes": ("boxes_digest",),
    "metadata": ("metadata_digest",),
    "pixels": ("image_side", "preparation_digest", "pixels_digest"),
    "split": ("split_digest",),
    "training images": ("train_images",),
    "initial weights": ("initial_weights",),
}
PARTS: tuple[Part, ...] = tuple(_FIELDS)


def differences(one: Origin, other: Origin, parts: Collection[Part] = PARTS) -> list[Difference]:
    """Return the `parts` in which the two disagree, in the order of PARTS; what either does not know is passed over."""
    return [
        Difference(part, *shown)
        for part in PARTS
        if part in parts and (shown := _first_difference(part, one, other)) is not None
    ]


def _first_difference(part: Part, one: Origin, other: Origin) -> tuple[str, str] | None:
    for name in _FIELDS[part]:
        mine, theirs = getattr(one, name), getattr(other, name)
        # From scratch is knowledge, too: only the basis says whether the initial weights are known.
        known = part == "initial weights" or (mine and theirs)
        if known and mine != theirs:
            return _words(name, mine, one), _words(name, theirs, other)
    return None


def _words(name: str, value: str | int, origin: Origin) -> str:
    match name:
        case "image_side":
            return f"source images of {value} pixels"
        case "labels_digest":
            return f"{origin.label_release} labels with digest {str(value)[:12]}".lstrip()
        case "boxes_digest":
            return f"boxes with digest {str(value)[:12]}"
        case "metadata_digest":
            return f"ages, sexes and views with digest {str(value)[:12]}"
        case "label_release":
            return f"labels of release {value}"
        case "split_digest":
            return f"split {origin.split} with digest {str(value)[:12]}"
        case "preparation_digest":
            return f"preparation settings with digest {str(value)[:12]}"
        case "pixels_digest":
            return f"source files with digest {str(value)[:12]}"
        case "train_images":
            return f"{value:,} training images"
        case "initial_weights":
            return f"weights {str(value)[:12]}" if value else "training from scratch"
        case _:
            return str(value)


def labels_digest(records: pl.DataFrame, labels: LabelSet = CHESTXRAY14) -> str:
    """Return the SHA-256 over who has what: a line of label names, then per image its id, patient and labels.

    records: image_id, patient_id and one Boolean column a label (or the metadata that they are read from), in any
    order; a label that is unknown (null) counts as a third value. 112,120 images take 0.05 s.
    """
    digits = (
        pl.col(label).cast(pl.String).fill_null("?")
        if labels.unit
        else pl.when(pl.col(label)).then(pl.lit("1")).when(~pl.col(label)).then(pl.lit("0")).otherwise(pl.lit("?"))
        for label in labels.labels
    )
    lines = (
        with_labels(records, labels)
        .sort("image_id")
        .select(pl.concat_str(pl.col("image_id"), pl.lit(" "), pl.col("patient_id"), pl.lit(" "), *digits))
    )
    return digest_column(lines.to_series(), first=f"{labels.name} {'|'.join(labels.labels)}\n")


def metadata_digest(records: pl.DataFrame) -> str:
    """Return the SHA-256 over a line "image_id age_years sex view" per image, sorted; "?" for what is not known."""
    cells = (pl.col(name).cast(pl.String).fill_null("?") for name in ("image_id", "age_years", "sex", "view"))
    return digest_column(records.sort("image_id").select(pl.concat_str(*cells, separator=" ")).to_series())


def boxes_digest(boxes: pl.DataFrame, labels: LabelSet = CHESTXRAY14) -> str:
    """Return the SHA-256 over a line "image_id|label|x|y|width|height" per box of one of `labels`, sorted.

    boxes: contracts.BOX_SCHEMA, of the whole data set, as the digest of labels is: folds that learn from the boxes of
    different images have one box list all the same.
    """
    numbers = (pl.col(name).cast(pl.Float64).cast(pl.String) for name in ("x", "y", "width", "height"))
    mine = boxes.filter(pl.col("label").is_in(labels.labels))
    return digest_column(mine.select(pl.concat_str("image_id", "label", *numbers, separator="|")).to_series().sort())


def digest_column(lines: pl.Series, first: str = "") -> str:
    """Return `files.digest_lines` of a column of text behind `first`, without an object for every line."""
    assert not lines.null_count(), "a line that is null has no digest"
    sha = hashlib.sha256(first.encode())
    for start in range(0, len(lines), _LINES_AT_ONCE):
        sha.update(lines.slice(start, _LINES_AT_ONCE).str.join("\n").item().encode())
        sha.update(b"\n")
    return sha.hexdigest()
