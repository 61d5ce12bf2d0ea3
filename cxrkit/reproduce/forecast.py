"""`--dry-run`: the runs of a study with their states, and what is missing in time and disk."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from cxrkit.base.progress import duration, size_text
from cxrkit.reproduce.costs import Costs, Kind, disk_bytes
from cxrkit.reproduce.planning import Planned, existing
from cxrkit.reproduce.watching import Seen, seconds_left, see


def show(title: str, runs: Sequence[Planned], costs: Costs, beside: int, console: Console) -> None:
    """Print the runs, what is missing of them, and where that is known from. beside: runs that go on at a time."""
    table = Table(title=Text(title), title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("run", overflow="fold")
    table.add_column("state", no_wrap=True)
    for heading in ("epochs", "time left", "disk"):
        table.add_column(heading, justify="right", no_wrap=True)
    seconds, size = [], []
    for item in runs:
        seen = see(item)
        row: list[RenderableType] = [
            Text(item.name),
            _state(item, seen),
            f"{seen.epochs}/{item.config.schedule.epochs}",
        ]
        if item.done:
            table.add_row(*row, "", "")
            continue
        size.append(disk_bytes(item))
        epoch_seconds = costs.epoch_seconds(item)
        if epoch_seconds is not None:
            seconds.append(seconds_left(item, seen, epoch_seconds))
        table.add_row(*row, "?" if epoch_seconds is None else duration(seconds[-1]), size_text(size[-1]))
    console.print(table)
    say(console, f"{len(runs)} {'run' if len(runs) == 1 else 'runs'}, {len(size)} to do")
    if not size:
        return
    where = existing(runs[0].config.run.runs)
    free = shutil.disk_usage(where).free
    more = "" if len(seconds) == len(size) else "more than "
    say(console, f"time: {more}{duration(sum(seconds))} one after another{_beside(seconds, beside)}")
    say(console, f"disk: {size_text(sum(size))}, of {size_text(free)} free in {where}")
    for kind in dict.fromkeys(Kind.of(item) for item in runs if not item.done):
        known = costs.known.get(kind)
        if known is None:
            say(console, f"  {kind.text}: not known; not counted")
            continue
        say(console, f"  {kind.text}: {1 / known.train_seconds:,.1f} images/s, {known.source}")


def _beside(seconds: Sequence[float], beside: int) -> str:
    if beside < 2 or not seconds:
        return ""
    return f", {duration(max(sum(seconds) / beside, max(seconds)))} with {beside} at a time"


def _state(item: Planned, seen: Seen) -> Text:
    if item.done:
        return Text("scored", style="green")
    if item.claimed:
        return Text("running", style="cyan")
    return Text("to go on" if seen.state == "scored" else seen.state)


def say(console: Console, text: str) -> None:
    """Print a line as it is."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)
