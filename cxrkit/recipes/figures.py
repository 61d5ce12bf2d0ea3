"""Published figures in what recipes say of the result to expect: their one home is `data_manifests/published/`.

A recipe writes `{wang2017-official}` for the mean AUC of that result, `{table3}` for its own mean in Table 3 of
Baltruschat et al. 2019, and `{mae}` or another metric for its own figure among the paper's probes.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from cxrkit.base import manifests

_PLACE = re.compile(r"\{([a-z][a-z0-9-]+)\}")


def with_figures(text: str, recipe: str) -> str:
    """Return what a recipe that ships says, with the figures in their places. Raises KeyError for one there is not."""
    found = _figures(recipe) if _PLACE.search(text) else {}
    return _PLACE.sub(lambda place: found[place[1]], text)


@cache
def _figures(recipe: str) -> dict[str, str]:
    figures = {key: _three(mean) for key, mean in _means().items()}
    for column in _published("table3")["column"]:
        if column["recipe"] == recipe:
            figures["table3"] = _three(column["average"][0] / 100)
    for probe in _published("probes")["probe"]:
        if probe["model"] == recipe:
            figures |= {name: " ± ".join(f"{value:g}" for value in values) for name, values in probe["metric"].items()}
    return figures


@cache
def _means() -> dict[str, float]:
    return {result["key"]: result["mean"] for result in _published("literature")["result"] if "mean" in result}


def _published(name: str) -> dict[str, Any]:
    return manifests.read(f"published/{name}.toml")


def _three(mean: float) -> str:
    """Return a mean with the digits of its source, at least three."""
    return f"{mean:.{max(3, len(f'{mean:.6g}'.partition('.')[2]))}f}"
