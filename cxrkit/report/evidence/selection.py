"""Which runs a report is about: `--only` and `--hide`, globs over names of runs and the places where they lie."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TypeVar

from cxrkit.base.errors import UserError

_SHOWN = 5  # names in a message
Key = TypeVar("Key")


def place_of(path: Path, root: Path) -> str:
    """Return where a run folder lies in the folder of runs; of one that is the folder itself, NAME/SPLIT."""
    return path.relative_to(root).as_posix() if path != root else "/".join(path.absolute().parts[-2:])


def names_of(path: Path, root: Path, *own: str) -> tuple[str, ...]:
    """Return all that a pattern may match: NAME, NAME/SPLIT and the place of a run folder, and the run's `own` names.

    A run that has another name than its folder is found under both.
    """
    name, split = path.absolute().parent.name, path.absolute().name
    called = dict.fromkeys((name, *own))
    return tuple(dict.fromkeys((*called, *(f"{item}/{split}" for item in called), place_of(path, root))))


def chosen(names: Mapping[Key, Sequence[str]], only: Iterable[str], hide: Iterable[str], where: Path) -> set[Key]:
    """Return the keys of which a name matches one of `only`, or all where that is empty, and none of `hide`.

    Raises UserError for a pattern that matches nothing, with the near names: it is a slip, and a table that silently
    lacks a run, or has one too many, would be believed.
    """
    only = tuple(only)
    wanted: set[Key] = _matching(names, "--only", only, where) if only else set(names)
    hidden: set[Key] = _matching(names, "--hide", hide, where)
    return wanted - hidden


def _matching(names: Mapping[Key, Sequence[str]], option: str, patterns: Iterable[str], where: Path) -> set[Key]:
    found: set[Key] = set()
    for pattern in patterns:
        matched = {key for key, own in names.items() if any(_matches(name, pattern) for name in own)}
        if not matched:
            raise UserError(
                f"{option} {pattern}: none of the {len(names):,} runs in {where} has such a name",
                remedy=_near(pattern, [name for own in names.values() for name in own]),
            )
        found |= matched
    return found


def _matches(name: str, pattern: str) -> bool:
    return name == pattern or fnmatchcase(name, pattern)  # a name may itself hold a bracket or a star


def _near(pattern: str, names: Sequence[str]) -> str:
    bare = pattern.strip("*?")
    known = list(dict.fromkeys(names))
    near = [name for name in known if bare and bare.lower() in name.lower()]
    near = near or difflib.get_close_matches(bare, known, n=3, cutoff=0.5)
    if near:
        return f"did you mean {' or '.join(near[:3])}?"
    more = f" and {len(known) - _SHOWN:,} more" if len(known) > _SHOWN else ""
    return f"names are {', '.join(known[:_SHOWN])}{more}; a pattern such as 'resnet50*' matches several"
