"""Which labels of two label sets mean the same: data_manifests/hospitals.toml, with its sources and caveats."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from cxrkit.base import manifests
from cxrkit.base.errors import UserError
from cxrkit.base.labels import CHESTXRAY14, LabelSet

FILE = "hospitals.toml"


@dataclass(frozen=True)
class Shared:
    """Two labels that stand for one another."""

    ours: str
    """Of the label set that a network was trained on."""

    theirs: str
    """Of the label set that it is evaluated with."""

    caveat: str = ""
    """In what they differ; "" where nothing is known."""


@cache
def _manifest() -> dict[str, Any]:
    return manifests.read(FILE)


def shared(ours: LabelSet, theirs: LabelSet) -> tuple[Shared, ...]:
    """Return the pairs of labels that two label sets share, in the order of `ours`.

    Equal sets share all. Otherwise one of the two has ChestX-ray14's labels, or some of them, and the table knows the
    other. Raises UserError where no table says what they share.
    """
    if ours.name == theirs.name:
        return tuple(Shared(label, label) for label in ours.labels)
    about = _manifest()
    if _is_nih(ours) and _is_nih(theirs):
        return tuple(Shared(label, label) for label in ours.labels if label in theirs.labels)
    if _is_nih(ours) and theirs.name in about:
        pairs = {item["ours"]: Shared(item["ours"], item["theirs"], item.get("caveat", "")) for item in _rows(theirs)}
    elif _is_nih(theirs) and ours.name in about:
        known = (item for item in _rows(ours) if item["ours"] in theirs.labels)
        pairs = {item["theirs"]: Shared(item["theirs"], item["ours"], item.get("caveat", "")) for item in known}
    else:
        sets = ", ".join(name for name in about if "shared" in about[name])
        raise UserError(
            f"no table says which labels {ours.name!r} and {theirs.name!r} share",
            remedy=f"data_manifests/{FILE} knows what {CHESTXRAY14.name} shares with {sets}; add a section there",
        )
    return tuple(pairs[label] for label in ours.labels if label in pairs)


def _is_nih(labels: LabelSet) -> bool:
    return set(labels.labels) <= set(CHESTXRAY14.labels)


def _rows(labels: LabelSet) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = _manifest()[labels.name]["shared"]
    return rows


def caveat_of(labels: LabelSet) -> str:
    """Return how the labels of a hospital came about, in words; "" where the table does not know it."""
    return str(_manifest().get(labels.name, {}).get("caveat", ""))


def apart(labels: LabelSet) -> Mapping[str, str]:
    """Return label -> why it is shared with none of ChestX-ray14's, of those that one might take for shared."""
    rows: list[dict[str, str]] = _manifest().get(labels.name, {}).get("apart", [])
    return {row["theirs"]: row["reason"] for row in rows}


def below_in_padchest() -> Mapping[str, tuple[str, ...]]:
    """Return label -> the labels below it in PadChest's tree."""
    return {label: tuple(names) for label, names in _manifest()["padchest23"]["below"].items()}


def broken_in_padchest() -> list[str]:
    """Return the file names of the films that were published damaged."""
    return list(_manifest()["padchest_broken"]["images"])


def names_in(text: str, dataset: str) -> bool:
    """Return whether `text`, the name of a pretraining, names a hospital's data set, by a word that it is known by."""
    words = _manifest()["named"].get(dataset.removeprefix("synthetic-"), [])
    return any(re.search(rf"(?<![a-z]){re.escape(word)}", text.lower()) for word in words)
