"""What a number must have been made of to stand beside published ones: known splits and labels, from the manifests."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache

from cxrkit.base import manifests
from cxrkit.base.labels import CHESTXRAY14
from cxrkit.base.origin import Origin
from cxrkit.prepare.config import PrepareConfig, default_levels
from cxrkit.shards.codecs import LOSSLESS
from cxrkit.shards.file import ShardSettings


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


@cache
def known_splits() -> dict[str, KnownSplit]:
    """Return the six splits by name."""
    names = [field.name for field in fields(KnownSplit)]
    tables = manifests.read("splits.toml")["split"]
    return {table["name"]: KnownSplit(**{name: table[name] for name in names}) for table in tables}


@cache
def known_preparations() -> frozenset[str]:
    """Return the digests of preparations that need no mention: the default one, and its levels without loss.

    Other levels, another quality or resized sources are other pixels: a heading says so.
    """
    facts = manifests.read("nih_chestxray14.toml")
    name, side = facts["registry_name"], facts["image"]["width"]
    qualities = {PrepareConfig.codec: PrepareConfig.quality, **dict.fromkeys(LOSSLESS, 0)}
    return frozenset(
        ShardSettings(name, codec, quality, default_levels(side), side).digest for codec, quality in qualities.items()
    )


@cache
def reference_origin(split: str, label_release: str = "v2020") -> Origin:
    """Return what a number on a known split is made of, as far as it is known beforehand: not the pixels' digest."""
    known = known_splits()[split]
    facts = manifests.read("nih_chestxray14.toml")
    return Origin(
        dataset=facts["registry_name"],
        label_set=CHESTXRAY14.name,
        label_release=label_release,
        labels_digest=facts["labels"]["digest"][label_release],
        pixels_digest="",
        preparation_digest="",
        image_side=facts["image"]["width"],
        split=split,
        split_digest=known.digest,
        train_images=known.train,
        train_subset_images=known.train,
        metadata_digest=facts["metadata"]["digest"].get(label_release, ""),
    )
