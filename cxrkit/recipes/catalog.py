"""What `cxrkit recipes` lists."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cxrkit.recipes import load, names

if TYPE_CHECKING:
    from rich.table import Table


def table() -> Table:
    """Return the recipes for a terminal: name, expected result, source."""
    from rich.markup import escape
    from rich.table import Table

    shown = Table(
        title="Recipes",
        caption="cxrkit train --recipe NAME; cxrkit recipes show NAME prints one, with what its source leaves open.",
        caption_justify="left",
        box=None,
        pad_edge=False,
    )
    shown.add_column("name", no_wrap=True)
    shown.add_column("expected")
    shown.add_column("source")
    for name in names():
        about = load(name).about
        shown.add_row(name, escape(about.expected), escape(about.source))
    return shown
