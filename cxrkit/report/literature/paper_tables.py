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

    output: int
    """Side of its output in pixels, at the table's input size."""

    off_the_shelf: str
    """The column "Off-the-shelf"; "same": as the original."""

    fine_tuned: str
    """The column "Fine-tuned"; "" where nothing is printed."""

    text: str = ""
    """What the original network has there; "" where it is a block."""

    convolutions: tuple[tuple[int, int, int], ...] = ()
    """Kernel, channels and stride of each convolution of one block."""

    blocks: int = 0
    """How often the block is repeated."""


@dataclass(frozen=True)
class Table1:
    """Table 1."""

    citation: str
    """Of the paper that prints it."""

    input_size: int
    """Side of the input in pixels that its output sizes are for."""

    layers: tuple[PublishedLayer, ...]
    """From the image to the loss."""


@cache
def table1() -> Table1:
    """Return Table 1 from `table1.toml`."""
    table = manifests.read("published/table1.toml")
    rows = []
    for row in table["layer"]:
        convolutions = tuple((kernel, channels, stride) for kernel, channels, stride in row.get("convolutions", ()))
        rows.append(PublishedLayer(**{**row, "convolutions": convolutions}))
    return Table1(table["citation"], table["input_size"], tuple(rows))


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
