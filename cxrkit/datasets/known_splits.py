"""The splits of ChestX-ray14 that are known beforehand: our six, and what other groups publish or ship.

Digests and counts are in `data_manifests/splits.toml`; the images of our six follow from the data set's roster, so none
of this needs a download.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cache

import polars as pl

from cxrkit.base import manifests, typed
from cxrkit.base.contracts import SUBSETS
from cxrkit.base.origin import digest_column
from cxrkit.base.registry import unknown
from cxrkit.datasets import splits
from cxrkit.datasets.nih import roster
from cxrkit.datasets.splits import Split

FILE = "splits.toml"


@dataclass(frozen=True)
class KnownSplit:
    """One of the six splits of the paper's protocol, as `data_manifests/splits.toml` lists them."""

    name: str
    """"official" or "resample-1" to "resample-5"."""

    train: int
    """Images to train on."""

    val: int
    """Images to validate on."""

    test: int
    """Images to test on."""

    test_patients: int
    """Patients of the test images."""

    test_digest: str
    """SHA-256 over the sorted names of the test images, one a line."""

    digest: str
    """SHA-256 over which image is in which subset (splits.Split.digest)."""


@dataclass(frozen=True)
class ForeignSplit:
    """A split that somebody else publishes or ships."""

    name: str
    """A short name for it."""

    title: str
    """Who uses it."""

    source: str
    """Where it is published."""

    official_test: bool
    """Whether its test images are those of NIH's list."""

    train: int
    """Images to train on."""

    val: int
    """Images to validate on; 0 where none are set apart."""

    test: int
    """Images to test on."""

    basis: str
    """How its facts are known."""

    train_digest: str = ""
    """`list_digest` of its training images; "" where not known."""

    val_digest: str = ""
    """`list_digest` of its validation images; "" where not known."""

    test_digest: str = ""
    """`list_digest` of its test images; "" where not known."""


@dataclass(frozen=True)
class KnownList:
    """A list of images that is known by its digest."""

    split: str
    """Name of the split."""

    subset: str
    """Which of its subsets."""


def list_digest(image_ids: Iterable[str] | pl.Series) -> str:
    """Return the SHA-256 over the sorted names of a set of images, one a line."""
    return digest_column(pl.Series("image_id", list(image_ids), dtype=pl.String).unique().sort())


@cache
def known_splits() -> dict[str, KnownSplit]:
    """Return our six splits by name."""
    names = [field.name for field in fields(KnownSplit)]
    tables = manifests.read(FILE)["split"]
    return {table["name"]: KnownSplit(**{name: table[name] for name in names}) for table in tables}


@cache
def foreign_splits() -> dict[str, ForeignSplit]:
    """Return the splits of others by name."""
    tables = manifests.read(FILE)["foreign"]
    found = (typed.build(ForeignSplit, table, "foreign", extra="refuse") for table in tables)
    return {split.name: split for split in found}


@cache
def our_split(name: str) -> Split:
    """Return one of our six splits of ChestX-ray14, made of its roster: every image, its patient and its subset."""
    split = splits.make(roster.read(), name)
    assert split.digest == known_splits()[split.name].digest, "the roster is that of the data set"
    return split


@cache
def known_lists() -> Mapping[str, tuple[KnownList, ...]]:
    """Return what each known digest is the list of; the same images may be a subset of several splits."""
    found: dict[str, list[KnownList]] = {}
    for name in known_splits():
        frame = our_split(name).frame
        for subset in SUBSETS:
            digest = digest_column(frame.filter(pl.col("subset") == subset)["image_id"])
            found.setdefault(digest, []).append(KnownList(name, subset))
    for split in foreign_splits().values():
        for subset in SUBSETS:
            if digest := getattr(split, f"{subset}_digest"):
                found.setdefault(digest, []).append(KnownList(split.name, subset))
    return {digest: tuple(lists) for digest, lists in found.items()}


def identify(digests: Iterable[str]) -> list[str]:
    """Return the names of the known splits whose subsets, as far as their digests are known, are exactly these lists.

    digests: `list_digest` of each list. A split of which one digest only is known is not told by that one.
    """
    lists = set(digests)
    return [name for name, known in _digests_by_split().items() if known == lists]


@cache
def _digests_by_split() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for digest, lists in known_lists().items():
        for known in lists:
            found.setdefault(known.split, set()).add(digest)
    return {name: digests for name, digests in found.items() if len(digests) > 1}


def alike(counts: Iterable[int]) -> list[str]:
    """Return the names of splits of others that have lists of just these sizes, whatever is known of their images."""
    sizes = sorted(counts)
    return [
        split.name
        for split in foreign_splits().values()
        if sorted(size for size in (split.train, split.val, split.test) if size) == sizes
    ]


def get(name: str) -> KnownSplit | ForeignSplit:
    """Return the known split called `name`; 1 to 5 stand for resample-1 to -5. Raises UserError."""
    ours = splits.resample(name) if name in splits.FOLDS[1:] else name
    known: dict[str, KnownSplit | ForeignSplit] = {**known_splits(), **foreign_splits()}
    if ours not in known:
        raise unknown("split", name, known, own="")
    return known[ours]
