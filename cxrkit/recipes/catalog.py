"""What `cxrkit recipes` lists."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cxrkit.recipes import load, names

if TYPE_CHECKING:
    from rich.console import Group


def table() -> Group:
    """Return the recipes for a terminal, a table for each source: name, expected result, cost. It fits 80 columns.

    A cost that all recipes of a source have in common is said once, below them.
    """
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table

    by_source: dict[str, list[str]] = {}
    for name in names():
        by_source.setdefault(load(name).about.source, []).append(name)
    # All tables alike: as wide as the longest name of any.
    width = max(map(len, names()))
    shown: list[Table | str] = []
    for source, its_names in by_source.items():
        costs = {load(name).about.cost for name in its_names}
        part = Table(title=escape(source), title_justify="left", title_style="bold", box=None, pad_edge=False)
        part.add_column("name", no_wrap=True, width=width)
        part.add_column("expected", ratio=1)
        if len(costs) > 1:
            part.add_column("cost", ratio=1)
        for name in its_names:
            about = load(name).about
            part.add_row(name, escape(about.expected), *([escape(about.cost)] if len(costs) > 1 else []))
        shown.append(part)
        if len(costs) == 1:
            shown.append(f"cost{' of each' if len(its_names) > 1 else ''}: {escape(costs.pop())}")
        shown.append("")
    return Group(
        *shown,
        "cxrkit train --recipe NAME; cxrkit recipes show NAME prints one, with what its source leaves open.",
    )
