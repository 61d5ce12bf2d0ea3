"""Published results, read from `data_manifests/published/`: the paper's two tables and the literature."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

from cxrkit import manifests
from cxrkit.contracts import NO_FINDING, PATHOLOGIES
from cxrkit.errors import UserError
from cxrkit.registry import unknown


@dataclass(frozen=True)
class Reference:
    """What a run must have been measured on to stand beside the columns of a published table."""

    dataset: str
    label_release: str
    images: int = 0
    images_digest: str = ""


@dataclass(frozen=True)
class Published:
    """One published column of AUCs on the official test list.

    heading: one or two short lines; auc: by label, without the labels that were not published; mean: as stated.
    """

    key: str
    heading: tuple[str, ...]
    name: str
    ref: str
    auc: dict[str, float]
    mean: float | None
    note: str = ""


@dataclass(frozen=True)
class PublishedFolds:
    """One column of Table 3: AUC x 100, mean and standard deviation by label; average: of the Average row."""

    heading: tuple[str, ...]
    name: str
    model: str
    folds: dict[str, tuple[float, float]]
    average: tuple[float, float]


@cache
def table5() -> tuple[str, Reference, tuple[Published, ...]]:
    """Return Table 5 of Baltruschat et al. 2019: its citation, what it was measured on, and its columns."""
    table = manifests.read("published/table5.toml")
    reference = {name: value for name, value in table["reference"].items() if name != "split"}
    columns = tuple(
        Published(
            key=column["key"],
            heading=tuple(column["heading"]),
            name=column["name"],
            ref=column["ref"],
            auc=_by_label(table, column),
            mean=column["mean"],
            note=column.get("note", ""),
        )
        for column in table["column"]
    )
    return table["citation"], Reference(**reference), columns


@cache
def table3() -> tuple[str, Reference, int, dict[str, PublishedFolds]]:
    """Return Table 3: its citation, what it was measured on, the number of folds, and its columns by model name."""
    table = manifests.read("published/table3.toml")
    columns = {}
    for column in table["column"]:
        pairs = [*zip(column["mean"], column["std"], strict=True), tuple(column["no_finding"])]
        columns[column["model"]] = PublishedFolds(
            heading=tuple(column["heading"]),
            name=column["name"],
            model=column["model"],
            folds=dict(zip((*table["pathologies"], NO_FINDING), pairs, strict=True)),
            average=tuple(column["average"]),
        )
    return table["citation"], Reference(table["dataset"], table["label_release"]), table["folds"], columns


@cache
def literature() -> dict[str, dict[str, Any]]:
    """Return the results of `literature.toml` by key, each as written there, with `auc` by pathology."""
    table = manifests.read("published/literature.toml")
    return {result["key"]: {**result, "auc": _by_label(table, result)} for result in table["result"]}


def from_literature(key: str) -> Published:
    """Return one literature result as a column for the official table.

    Raises UserError for an unknown key (with the nearest known one) and for a result that was not measured on the
    official test list.
    """
    results = literature()
    if key not in results:
        raise unknown("published result", key, results)
    result = results[key]
    if not result["comparable"]:
        raise UserError(
            f"published result {key!r} was not measured on the official test list (split: {result['split']})",
            remedy="choose one that says `comparable = true` in data_manifests/published/literature.toml",
        )
    return Published(
        key=key,
        heading=(key.split("-")[0], key.partition("-")[2] or str(result["year"])),
        name=f"{result.get('authors', key)} {result['year']}",
        ref=result.get("ref", ""),
        auc=result["auc"],
        mean=result.get("mean"),
        note="; ".join(result.get("notes", [])),
    )


def _by_label(table: dict[str, Any], column: dict[str, Any]) -> dict[str, float]:
    assert set(table["pathologies"]) == set(PATHOLOGIES), "a manifest's pathologies are those of the contracts"
    values = dict(zip(table["pathologies"], column["auc"], strict=True)) if "auc" in column else {}
    if "no_finding" in column:
        values[NO_FINDING] = column["no_finding"]
    return {label: value for label, value in values.items() if not math.isnan(value)}
