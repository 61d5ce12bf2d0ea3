"""The current folder on Python's path, so that `--model mynet:build` finds ./mynet.py.

It stands last: what is installed, and Python's own modules, go before a file here of the same name. Python itself puts
the current folder first where it is started with -m, and not at all where a console script is.
"""

from __future__ import annotations

import sys
from pathlib import Path


def search_last() -> None:
    """Search the current folder for modules, after everything else; not at all with `python -P` (PYTHONSAFEPATH)."""
    folder = _folder()
    if folder and not sys.flags.safe_path and folder not in map(_absolute, sys.path):
        sys.path.append(folder)


def not_first() -> None:
    """Take the current folder from the front of the path, where `python -m cxrkit` has it, to the end."""
    folder = _folder()
    if folder and not sys.flags.safe_path and _absolute(sys.path[0]) == folder:
        del sys.path[0]
        sys.path.append(folder)


def holds(module: str) -> str | None:
    """Return the file or folder of the current folder that is a module of this name; None where there is none."""
    name = module.partition(".")[0]
    return next((found for found in (f"{name}.py", name) if Path(found).exists()), None)


def _absolute(path: str) -> str:
    return str(Path(path).absolute())


def _folder() -> str | None:
    try:
        return str(Path.cwd())
    except OSError:  # it was removed
        return None
