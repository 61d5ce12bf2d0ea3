"""Where run folders are: in a folder at any depth, or by a name. Names of files decide; no file is opened."""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from cxrkit.base.errors import UserError
from cxrkit.base.words import few

MARKS = frozenset({"scores.json", "config.toml", "import.json", "predictions"})  # one of them makes a run folder
RUNS = Path("runs")  # where runs lie unless it is said otherwise
_LISTED = 8  # runs that an error names
_A_RUNS_OWN = frozenset(
    {"predictions", "checkpoints", "derived", "done", "trackers", "tensorboard", "wandb"}
)  # folders in which no other run lies


@dataclass(frozen=True)
class RunFolders:
    """What a search has found."""

    paths: tuple[Path, ...]
    """Folders that look like a run, by the way that leads to them, sorted."""

    unreadable: tuple[tuple[Path, str], ...]
    """Folders that could not be looked into, with the reason."""


def run_folders(root: Path) -> RunFolders:
    """Return `root`, where it is a run folder, and those below it. Raises UserError when `root` cannot be read.

    Hidden folders and a run's own are passed over. Links are followed, after all that is no link: a run that is
    reached in two ways is found once, by its own place, and a circle ends.
    """
    found: list[Path] = []
    unreadable: list[tuple[Path, str]] = []
    seen: set[tuple[int, int]] = set()
    waiting, links = [root], deque[Path]()
    while waiting or links:
        folder = waiting.pop() if waiting else links.popleft()
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                inside = sorted(entries, key=lambda entry: entry.name)
            if any(entry.name in MARKS for entry in inside):
                found.append(folder)
            for entry in inside:
                if entry.name not in _A_RUNS_OWN and not entry.name.startswith(".") and entry.is_dir():
                    (links if entry.is_symlink() else waiting).append(folder / entry.name)
        except OSError as error:
            if folder == root:
                raise UserError(
                    f"{root}: cannot be looked into ({error.strerror})", remedy="name another folder with --runs"
                ) from error
            unreadable.append((folder, error.strerror or "unknown error"))
    return RunFolders(tuple(sorted(found)), tuple(sorted(unreadable)))


def is_run(path: Path) -> bool:
    """Whether a folder is one run's: it has a config, scores, or predictions."""
    return any((path / name).exists() for name in MARKS - {"predictions"}) or any(path.glob("predictions/*.parquet"))


def runs_named(text: Path, runs: Path = RUNS) -> tuple[Path, ...]:
    """Return the run folders that `text` names: itself, those of its splits and seeds, or the same below `runs`.

    () where there is none.
    """
    for place in dict.fromkeys((text, runs / text)):
        if place.is_dir() and (found := [place] if is_run(place) else sorted(filter(is_run, place.glob("[!.]*")))):
            return tuple(found)
    return ()


def run_named(text: Path, runs: Path = RUNS) -> Path:
    """Return the one run folder that `text` names (see `runs_named`); `text` where it names none.

    Raises UserError where several fit.
    """
    found = runs_named(text, runs)
    if len(found) > 1:
        raise UserError(
            f"{text}: holds {len(found):,} runs, expected one", remedy=f"name one of {few(map(str, found), _LISTED)}"
        )
    return found[0] if found else text
