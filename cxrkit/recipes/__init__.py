"""Recipes: what is trained, and on what terms. One TOML file each, named as the run folders that come of it.

`--recipe NAME|FILE` starts from one, `--model NAME` from the recipe of the paper for that network; flags and
`--set section.key=value` then go first. A file of one's own need only say what differs from the defaults (config.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from cxrkit.base import registry
from cxrkit.datasets import splits
from cxrkit.models import grammar
from cxrkit.recipes.figures import with_figures
from cxrkit.runs.config import TrainConfig, changed, parse_set, read_config, settings, with_set

_FOLDER = Path(__file__).parent


def names() -> list[str]:
    """Return the names of the recipes that ship, in natural order of their files."""
    return list(_names())


@cache
def _names() -> tuple[str, ...]:
    return tuple(sorted((path.stem for path in _FOLDER.glob("*.toml")), key=_natural))


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(piece) if piece.isdigit() else -1, piece) for piece in _pieces(name)]


def _pieces(name: str) -> list[str]:
    return re.findall(r"\d+|\D+", name)


def load(recipe: str) -> TrainConfig:
    """Return a recipe: one that ships, by name or its model's short name, or a file.

    Raises UserError for an unknown name, with the nearest known ones, and for a file that cannot be read.
    """
    if _is_file(recipe):
        path = Path(recipe)
        config = read_config(path)
        return config if config.recipe else _named(config, path.stem)
    name = grammar.ALIASES.get(recipe, recipe)
    if name not in names():
        raise registry.unknown("recipe", recipe, names(), own="a TOML file: --recipe FILE.toml")
    config = read_config(_FOLDER / f"{name}.toml")
    return _named(
        replace(config, about=replace(config.about, expected=with_figures(config.about.expected, name))), name
    )


def _is_file(recipe: str) -> bool:
    return recipe.endswith(".toml") or "/" in recipe


def _named(config: TrainConfig, name: str) -> TrainConfig:
    return replace(config, recipe=name)


def text(name: str) -> str:
    """Return a recipe's file, with the published figures in their places. Raises UserError for an unknown name."""
    recipe = load(name).recipe
    return with_figures((_FOLDER / f"{recipe}.toml").read_text(encoding="utf-8"), recipe)


def of_model(model: str) -> TrainConfig:
    """Return the recipe of the paper for a network: its file, or the paper's protocol for anybody's own network."""
    name = grammar.ALIASES.get(model, model)
    if name in names():
        return load(name)
    return TrainConfig().with_values({"model.name": name})


def resolve(
    said: Mapping[str, Any], *, recipe: str | None = None, sets: Sequence[str] = (), base: TrainConfig | None = None
) -> TrainConfig:
    """Return the config of what a user asks for.

    said: flags by argument name ("input_size"); None is not said. recipe: a name or a file. sets: "section.key=value",
    which go before flags. base: what to start from instead of a recipe: a run's own config, when it is resumed.
    """
    values = {item.path: said[item.argument] for item in settings() if said.get(item.argument) is not None}
    model = values.pop("model.name", None)
    if base is None:
        base = load(recipe) if recipe is not None else of_model(model or TrainConfig().model.name)
    if recipe is not None and model is not None:
        values["model.name"] = grammar.ALIASES.get(model, model)
    config = base.with_values(values)
    for text in sets:
        config = with_set(config, *parse_set(text))
    return config


def said_paths(said: Mapping[str, Any], sets: Sequence[str]) -> set[str]:
    """Return the settings, as "section.key", that a user names by flags and --set."""
    paths = {item.path for item in settings() if said.get(item.argument) is not None}
    return paths | {".".join(parse_set(text)[0].split(".")[:2]) for text in sets}


def said_values(
    fresh: TrainConfig, stored: TrainConfig, said: Mapping[str, Any], recipe: str | None, sets: Sequence[str]
) -> dict[str, Any]:
    """Return, by "section.key", the values of `fresh` that a user has said who resumes the run of `stored`.

    Said is what stands in flags, in --set, and in a recipe file where that is not a default. Model, name and fold have
    chosen the run folder, whatever way they were spelled; a precision of auto is what it was resolved to.
    """
    paths = said_paths(said, sets)
    if recipe is not None:
        paths |= {item.path for item in changed(TrainConfig(), load(recipe))}
    paths -= {"model.name", "run.name"}
    if fresh.run.precision == "auto":
        paths.discard("run.precision")
    if not splits.is_file(fresh.run.fold):
        paths.discard("run.fold")
    return {item.path: item.of(fresh) for item in settings() if item.path in paths}


def origin_of(config: TrainConfig) -> TrainConfig:
    """Return the recipe that a config started from, as it ships; the config itself where the recipe was a file."""
    return load(config.recipe) if config.recipe in names() else config
