"""A study: recipes x folds x seeds x settings, in a small TOML file. The paper's tables are studies that ship.

title = "Which learning rate?"
folds = [1, 2]                      # official, 1 to 5, or tables of one's own; default: official
seeds = [0, 1, 2]                   # default: 0
recipes = ["resnet50-ft"]           # names that ship, or files beside the study
reports = ["table3"]                # printed when all is done

[settings]                          # of every run, as in a recipe
schedule.epochs = 10

[[runs]]                            # more runs, with words of their own
recipe = "resnet38-1channel"
settings = {optimizer.weight_decay = 1e-4}
vary = {"optimizer.lr" = [0.01, 0.001]}

[[runs]]
recipe = "probe.toml"
needs = "resnet50-ft"               # is scored before, on the same fold and seed; {needs} is its run folder
settings = {model.weights = "{needs}/checkpoints/best.safetensors"}
"""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cxrkit.base import registry, typed
from cxrkit.base.errors import UserError
from cxrkit.datasets import splits
from cxrkit.runs.config import settings as known_settings

FOLDER = Path(__file__).parent / "studies"
REPORTS = ("table3", "table5", "probes")
# A study says these in words of its own.
_NOT_SETTINGS = {"run.fold": "folds", "run.seed": "seeds", "run.name": "name", "run.runs": "--runs"}


@dataclass(frozen=True)
class Runs:
    """[[runs]] of a study: one recipe, on folds and seeds, with settings."""

    recipe: str
    """Name of a recipe that ships, or a file, named from the study's folder."""

    name: str = ""
    """What the runs are called; default: as the recipe."""

    folds: tuple[str | int, ...] = ()
    """Instead of the study's."""

    seeds: tuple[int, ...] = ()
    """Instead of the study's."""

    settings: dict[str, Any] = field(default_factory=dict)
    """Beside the study's; these go first."""

    vary: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    """By "section.key", the values to try: every combination is a run, named after them."""

    needs: str = ""
    """Name of the run that must be scored before, on the same fold and seed."""


@dataclass(frozen=True)
class _File:
    title: str = ""
    folds: tuple[str | int, ...] = ()
    seeds: tuple[int, ...] = ()
    recipes: tuple[str, ...] = ()
    reports: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    runs: tuple[Runs, ...] = ()
    studies: tuple[str, ...] = ()


@dataclass(frozen=True)
class Wanted:
    """One run of a study, before it is resolved."""

    recipe: str
    """Name or file."""

    name: str
    """What it is called; "" as its recipe."""

    fold: str
    """official, 1 to 5, or a table."""

    seed: int
    """Its seed."""

    settings: tuple[tuple[str, Any], ...]
    """("section.key", value), later ones go first."""

    needs: str = ""
    """Name of the run that must be scored before."""


@dataclass(frozen=True)
class Study:
    """What is to be run, and what is printed in the end."""

    name: str
    """Its file's, without .toml."""

    title: str
    """What it is about."""

    source: str
    """Its file, as messages name it."""

    runs: tuple[Wanted, ...]
    """In the order in which they are started."""

    reports: tuple[str, ...] = ()
    """Of REPORTS."""


def names() -> list[str]:
    """Return the studies that ship."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def read(study: str, *, folds: Sequence[str] = (), seeds: Sequence[int] = ()) -> Study:
    """Return a study: one that ships, by name, or a file. folds, seeds: instead of those that it names.

    Raises UserError for an unknown name, with the nearest known ones, and for a file that is not a study.
    """
    shipped = not (study.endswith(".toml") or "/" in study)
    if shipped and study not in names():
        raise registry.unknown("study", study, names(), own="a TOML file: cxrkit reproduce STUDY.toml")
    path = FOLDER / f"{study}.toml" if shipped else Path(study)
    file = _read_file(path)
    runs = list(_expand(file, path, folds, seeds))
    reports = list(file.reports)
    for part in file.studies:
        inner = read(part if part in names() else str(path.parent / part), folds=folds, seeds=seeds)
        runs += inner.runs
        reports += inner.reports
    if not runs:
        raise UserError(f"{path}: no run in it", remedy='name some, for instance recipes = ["mlp-meta"]')
    # `all` names some runs twice, by way of two tables.
    return Study(path.stem, file.title, str(path), tuple(_once(runs)), tuple(dict.fromkeys(reports)))


def _once(runs: list[Wanted]) -> Iterator[Wanted]:
    for number, run in enumerate(runs):
        if run not in runs[:number]:
            yield run


def _read_file(path: Path) -> _File:
    remedy = "compare it with the studies in docs/grid.md"
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise UserError(
            f"{path}: there is no such file", remedy=f"name a file, or one of {', '.join(names())}"
        ) from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})", remedy="name a TOML file") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid TOML ({error})", remedy=remedy) from None
    try:
        file: _File = typed.build(_File, values, extra="refuse")
    except typed.FieldError as error:
        raise UserError(f"{path}: {error}", remedy=remedy) from None
    for report in file.reports:
        if report not in REPORTS:
            raise UserError(f"{path}: {registry.unknown('report', report, REPORTS, own='')}")
    return file


def _expand(file: _File, path: Path, folds: Sequence[str], seeds: Sequence[int]) -> Iterator[Wanted]:
    """Yield the runs of a file: for each fold and seed all recipes, so that a first fold is soon complete."""
    entries = [*(Runs(recipe) for recipe in file.recipes), *file.runs]
    common = tuple(_flat(file.settings, path))
    own = [tuple(_flat(entry.settings, path)) for entry in entries]

    def folds_of(entry: Runs) -> list[str]:
        return list(folds) or [_fold(fold, path) for fold in entry.folds or file.folds or ("official",)]

    def seeds_of(entry: Runs) -> list[int]:
        return list(seeds) or list(entry.seeds or file.seeds or (0,))

    every_seed = dict.fromkeys(seed for entry in entries for seed in seeds_of(entry))
    every_fold = dict.fromkeys(fold for entry in entries for fold in folds_of(entry))
    for seed, fold in itertools.product(every_seed, every_fold):
        splits.name_of(fold)
        for entry, settings in zip(entries, own, strict=True):
            if fold in folds_of(entry) and seed in seeds_of(entry):
                for suffix, varied in _variants(entry, path):
                    name = entry.name or (Path(entry.recipe).stem if suffix else "")
                    recipe = _beside(entry.recipe, path)
                    yield Wanted(recipe, name + suffix, fold, seed, (*common, *settings, *varied), entry.needs)


def _variants(entry: Runs, path: Path) -> Iterator[tuple[str, tuple[tuple[str, Any], ...]]]:
    for values in itertools.product(*entry.vary.values()):
        settings = tuple(zip(entry.vary, values, strict=True))
        yield "".join(f"-{key.rpartition('.')[2]}-{value}" for key, value in settings), settings


def _fold(fold: str | int, path: Path) -> str:
    return str(path.parent / fold) if isinstance(fold, str) and splits.is_file(fold) else str(fold)


def _beside(recipe: str, path: Path) -> str:
    return str(path.parent / recipe) if recipe.endswith(".toml") else recipe


def _flat(values: Mapping[str, Any], path: Path) -> Iterator[tuple[str, Any]]:
    """Yield ("section.key", value) of settings in sections, as a recipe has them; options one by one."""
    tables = {item.path for item in known_settings() if item.kind is dict}
    for section, content in values.items():
        if not isinstance(content, dict):
            raise UserError(
                f"{path}: settings.{section} is {typed.describe(content)}, expected a section",
                remedy="write it as in a recipe, for instance schedule.epochs = 10 under [settings]",
            )
        for key, value in content.items():
            place = f"{section}.{key}"
            if own := _NOT_SETTINGS.get(place):
                raise UserError(f"{path}: {place} among the settings", remedy=f"say it as {own}")
            if place in tables and isinstance(value, dict):
                yield from ((f"{place}.{option}", chosen) for option, chosen in value.items())
            else:
                yield place, value
