"""Published localisation results, read from `data_manifests/published/localisation.toml`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from cxrkit.base import manifests

DATASET = "nih-chestxray14"  # whose boxes they were measured on


@dataclass(frozen=True)
class PublishedBoxes:
    """What a published network's boxes of the findings were worth."""

    name: str
    """Whose, in words."""

    accuracy: dict[tuple[str, float], dict[str, float]]
    """By criterion and threshold, then by finding."""

    false_boxes: dict[tuple[str, float], dict[str, float]]
    """AFP, likewise; where it was published."""


@cache
def wang2017() -> tuple[PublishedBoxes, ...]:
    """Return the networks of Wang et al. 2017, that of 14 findings first."""
    table = manifests.read("published/localisation.toml")
    found = []
    for network, name in (("14", "Wang 2017, 14 findings"), ("8", "Wang 2017, 8 findings")):
        rows = [row for row in table["row"] if row["network"] == network]
        by_part = {
            part: {
                (row["criterion"], row["threshold"]): dict(zip(table["findings"], row[part], strict=True))
                for row in rows
                if part in row
            }
            for part in ("accuracy", "false_boxes")
        }
        found.append(PublishedBoxes(name, by_part["accuracy"], by_part["false_boxes"]))
    return tuple(found)


def citation() -> str:
    """Return where the results were printed."""
    return str(manifests.read("published/localisation.toml")["citation"])
