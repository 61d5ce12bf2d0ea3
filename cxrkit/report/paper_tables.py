"""Tables 1 and 2 of Baltruschat et al. 2019 as they are printed, from `data_manifests/published/`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from cxrkit.base import manifests


@dataclass(frozen=True)
class PublishedLabel:
    """A row of Table 2(a)."""

    positive: int
    """Images with the label."""

    negative: int
    """Images without it."""

    prevalence: float
    """Per cent of all images."""


@dataclass(frozen=True)
class Table2:
    """Table 2, and the ages of section 2.4."""

    citation: str
    """Of the paper that prints it."""

    label_release: str
    """Of the labels that it counts."""

    labels: dict[str, PublishedLabel]
    """By label; "No Finding" is not printed."""

    sex: dict[str, int]
    """Images by "M" and "F", as printed: the two counts stand in each other's place."""

    sex_ratio: float
    """As printed."""

    view: dict[str, int]
    """Images by "PA" and "AP"."""

    view_ratio: float
    """As printed."""

    age_mean: float
    """In years."""

    age_sd: float
    """In years."""


@dataclass(frozen=True)
class PublishedLayer:
    """A row of Table 1."""

    name: str
    """The paper's, by which `models.layers` calls what is built."""

    output: str
    """Its output's sides in pixels, at an input of 224."""

    original: str
    """What the original network has there."""

    off_the_shelf: str
    """The column "Off-the-shelf"."""

    fine_tuned: str
    """The column "Fine-tuned"; "" where nothing is printed."""


@cache
def table1() -> tuple[str, tuple[PublishedLayer, ...]]:
    """Return citation and rows of Table 1 from `table1.toml`."""
    table = manifests.read("published/table1.toml")
    return table["citation"], tuple(PublishedLayer(**row) for row in table["layer"])


@cache
def table2() -> Table2:
    """Return Table 2 from `table2.toml`."""
    table = manifests.read("published/table2.toml")
    sex, view, age = table["sex"], table["view"], table["age_years"]
    return Table2(
        citation=table["citation"],
        label_release=table["label_release"],
        labels={
            row["name"]: PublishedLabel(row["positive"], row["negative"], row["prevalence"]) for row in table["label"]
        },
        sex={"M": sex["Male"], "F": sex["Female"]},
        sex_ratio=sex["ratio"],
        view={"PA": view["PA"], "AP": view["AP"]},
        view_ratio=view["ratio"],
        age_mean=age["mean"],
        age_sd=age["sd"],
    )
