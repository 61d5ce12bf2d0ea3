"""What a number must have been made of to stand beside published ones: known splits and labels, from the manifests."""

from __future__ import annotations

from functools import cache

from cxrkit.base import manifests
from cxrkit.base.labels import CHESTXRAY14
from cxrkit.base.origin import Origin
from cxrkit.datasets.known_splits import KnownSplit, known_splits
from cxrkit.prepare.config import PrepareConfig, default_levels
from cxrkit.shards.codecs import LOSSLESS
from cxrkit.shards.file import ShardSettings

__all__ = ["KnownSplit", "known_preparations", "known_splits", "reference_origin"]


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
