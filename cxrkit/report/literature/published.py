"""Published results, read from `data_manifests/published/`: the paper's two tables and the literature."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from cxrkit.base import manifests
from cxrkit.base.labels import CHESTXRAY14, NO_FINDING
from cxrkit.report.document.tables import heading_lines
from cxrkit.report.literature import works

PAPER = "Baltruschat et al. 2019"  # "the paper", wherever cxrkit says so


def of_the_paper(part: str) -> str:
    """Return what a caption calls a table, figure or section of the paper whose experiments are repeated."""
    return f"{part} of {PAPER}"


@dataclass(frozen=True)
class Published:
    """One published column of AUCs on the official test list."""

    key: str
    """Its key in `literature.toml`."""

    heading: tuple[str, ...]
    """One or two short lines."""

    name: str
    """The full name, for CSV."""

    ref: str
    """Where it was published: arXiv number or DOI."""

    auc: dict[str, float]
    """By label, without the labels that were not published."""

    mean: float | None
    """Over the pathologies, as stated."""

    note: str = ""
    """What a reader must know of it."""

    recipes: Mapping[str, str] = field(default_factory=dict)
    """The recipes of this toolkit that repeat it, each with what it must leave out; "" for nothing."""

    input_size: int = 0
    """Side of the network's input in pixels; 0 where not known."""


@dataclass(frozen=True)
class PublishedFolds:
    """One column of Table 3: AUC x 100, mean and standard deviation over the folds."""

    heading: tuple[str, ...]
    """One or two short lines."""

    name: str
    """The full name, for CSV."""

    recipe: str
    """The recipe of this toolkit that repeats it; its network has the same name."""

    input_size: int
    """Side of the network's input in pixels."""

    folds: dict[str, tuple[float, float]]
    """Mean and standard deviation by label."""

    average: tuple[float, float]
    """Of the Average row."""

    @property
    def recipes(self) -> dict[str, str]:
        """Its recipe, which leaves out nothing."""
        return {self.recipe: ""}


@dataclass(frozen=True)
class Table5:
    """Table 5 of Baltruschat et al. 2019."""

    citation: str
    """Of the paper that prints it."""

    label_release: str
    """Of the labels that it was measured on."""

    columns: tuple[Published, ...]
    """In the paper's order."""


@dataclass(frozen=True)
class Table3:
    """Table 3 of Baltruschat et al. 2019."""

    citation: str
    """Of the paper that prints it."""

    label_release: str
    """Of the labels that it was measured on."""

    folds: int
    """Number of folds behind every column."""

    columns: dict[str, PublishedFolds]
    """By the name of the recipe that repeats them, in the paper's order."""


@cache
def table5() -> Table5:
    """Return Table 5 from `table5.toml`."""
    table = manifests.read("published/table5.toml")
    columns = tuple(
        Published(
            key=column["key"],
            heading=tuple(column["heading"]),
            name=column["name"],
            ref=column["ref"],
            auc=_by_label(table, column),
            mean=column["mean"],
            note=column.get("note", ""),
            recipes=works.get(column["key"]).recipes,
            input_size=works.get(column["key"]).input_size,
        )
        for column in table["column"]
    )
    return Table5(table["citation"], table["label_release"], columns)


@cache
def table3() -> Table3:
    """Return Table 3 from `table3.toml`."""
    table = manifests.read("published/table3.toml")
    columns = {}
    for column in table["column"]:
        pairs = [*zip(column["mean"], column["std"], strict=True), tuple(column["no_finding"])]
        columns[column["recipe"]] = PublishedFolds(
            heading=tuple(column["heading"]),
            name=column["name"],
            recipe=column["recipe"],
            input_size=column["input_size"],
            folds=dict(zip((*table["pathologies"], NO_FINDING), pairs, strict=True)),
            average=tuple(column["average"]),
        )
    return Table3(table["citation"], table["label_release"], table["folds"], columns)


def from_literature(key: str) -> Published:
    """Return one literature result as a column for the official table. Raises UserError for an unknown key."""
    work = works.get(key)
    first, _, rest = key.partition("-")
    who = f"{work.authors or work.title}, {work.year}".lstrip(", ")
    return Published(
        key=key,
        heading=(first, *(heading_lines(rest) if rest else ())),
        name=f"{key} ({who})",
        ref=work.ref,
        auc=work.by_label,
        mean=work.mean,
        note="; ".join((f"from {work.source}", *work.notes)),
        recipes=work.recipes,
        input_size=work.input_size,
    )


def by_recipe(columns: Iterable[Published]) -> dict[str, Published]:
    """Return columns by the recipes that repeat them."""
    return {recipe: column for column in columns for recipe in column.recipes}


def _by_label(table: dict[str, Any], column: dict[str, Any]) -> dict[str, float]:
    assert set(table["pathologies"]) == set(CHESTXRAY14.averaged), "a manifest's pathologies are those of the label set"
    values = dict(zip(table["pathologies"], column["auc"], strict=True)) if "auc" in column else {}
    if "no_finding" in column:
        values[NO_FINDING] = column["no_finding"]
    return {label: value for label, value in values.items() if not math.isnan(value)}
