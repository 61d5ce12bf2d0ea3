"""Lines for the user that are no errors: above all, an optional service that is missing and done without."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from rich.console import Console

Say = Callable[[str], object]
"""Takes a text for the user to read."""


def to_stderr(text: str) -> None:
    """Print a note where there is no console: the first one of several processes, for all of them."""
    if os.environ.get("RANK", "0") == "0":
        print(text, file=sys.stderr)


def through(console: Console | None) -> Say:
    """Return what prints notes on `console`, brackets and all; on stderr without one."""
    if console is None:
        return to_stderr
    return lambda text: console.print(text, markup=False, highlight=False)
