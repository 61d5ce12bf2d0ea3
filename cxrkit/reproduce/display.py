"""What `cxrkit reproduce` shows while it runs: a live table in a terminal, one line a change elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cxrkit.base.progress import duration
from cxrkit.reproduce.costs import Costs
from cxrkit.reproduce.grid import Grid, Status
from cxrkit.reproduce.planning import Planned
from cxrkit.reproduce.watching import Seen, seconds_left, see

_LOOK_SECONDS = 2.0  # between two looks at the files of what runs
_PACE_EPOCHS = 3  # the first of them may have begun before it was looked at
_NEXT = 3  # of what waits, so many are shown
_AROUND = 6  # lines of the terminal that are not runs
_STYLES: dict[Status, str] = {"running": "green", "elsewhere": "cyan", "failed": "red", "held": "red"}
_WORDS = {
    "new": "starting",
    "training": "training",
    "trained": "predicting",
    "predicted": "scoring",
    "scored": "ending",
}


class GridDisplay:
    """Shows where the runs of a grid stand; `watch` is to be called again and again."""

    def __init__(self, console: Console, grid: Grid, costs: Costs) -> None:
        self._console = console
        self._grid = grid
        self._costs = costs
        self._live: Live | None = None
        self._seen: dict[str, Seen] = {}
        self._told: dict[str, tuple[Status, int]] = {item.name: (grid.status[item.name], -1) for item in grid.runs}
        self._first: dict[str, tuple[float, int]] = {}
        self._looked = 0.0

    def __enter__(self) -> GridDisplay:
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def watch(self) -> None:
        """Look at the runs that are under way, and show them."""
        now = time.monotonic()
        if now - self._looked >= _LOOK_SECONDS:
            self._looked = now
            for item in self._of("running", "elsewhere"):
                self._seen[item.name] = see(item)
                self._learn(item, self._seen[item.name], now)
        if self._live is not None:
            self._live.update(Group(self._table(), self._summary()), refresh=True)
        else:
            self._say_changes()

    def _learn(self, item: Planned, seen: Seen, now: float) -> None:
        """Take the time of a run's epochs, by the clock once some have passed: checkpoints take time, too."""
        since, epochs = self._first.setdefault(item.name, (now, seen.epochs))
        if seen.epochs - epochs >= _PACE_EPOCHS:
            self._costs.learn_pace(item, (now - since) / (seen.epochs - epochs))
        else:
            self._costs.learn(item, seen)

    def _of(self, *statuses: Status) -> list[Planned]:
        return [item for item in self._grid.runs if self._grid.status[item.name] in statuses]

    def _table(self) -> RenderableType:
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
        table.add_column("run", overflow="fold")
        table.add_column("state", no_wrap=True)
        for heading in ("epoch", "images/s", "val AUC", "left"):
            table.add_column(heading, justify="right", no_wrap=True)
        shown, left_out = self._shown()
        for item in shown:
            table.add_row(*self._row(item))
        if left_out:
            table.add_row(Text(f"and {left_out} more", style="dim"))
        return table

    def _shown(self) -> tuple[list[Planned], int]:
        """Return the runs that have a row: what runs and what failed, as far as the terminal is high, and the next."""
        room = max(3, self._console.height - _AROUND)
        urgent = [*self._of("running", "elsewhere"), *self._of("failed")]
        shown = urgent[:room]
        return [*shown, *self._of("waiting")[: min(_NEXT, room - len(shown))]], len(urgent) - len(shown)

    def _row(self, item: Planned) -> Iterator[RenderableType]:
        status = self._grid.status[item.name]
        seen = self._seen.get(item.name)
        yield Text(item.name)
        word = _WORDS.get(seen.state, seen.state) if seen and status == "running" else status
        yield Text(word, style=_STYLES.get(status, "dim"))
        if seen is None or status not in ("running", "elsewhere"):
            yield from ("", "", "", "")
            return
        yield f"{seen.epochs}/{item.config.schedule.epochs}"
        yield "" if seen.images_per_second is None else f"{seen.images_per_second:,.0f}"
        yield "" if seen.val_auc is None else f"{seen.val_auc:.4f}"
        left = self._left(item)
        yield "" if left is None else duration(left)

    def _left(self, item: Planned) -> float | None:
        epoch_seconds = self._costs.epoch_seconds(item)
        if epoch_seconds is None:
            return None
        if item.name not in self._seen:  # it waits, so one look will do until it is started
            self._seen[item.name] = see(item)
        return seconds_left(item, self._seen[item.name], epoch_seconds)

    def _summary(self) -> Text:
        counts = Counter(self._grid.status.values())
        words = {"done": "done", "running": "running", "elsewhere": "running elsewhere", "failed": "failed"}
        parts = [f"{counts[status]} {word}" for status, word in words.items() if counts[status] or status == "done"]  # type: ignore[index]
        if counts["waiting"]:
            parts.append(f"{counts['waiting']} waiting")
        if counts["held"]:
            parts.append(f"{counts['held']} not started")
        return Text(f"{_runs(len(self._grid.runs))}: {', '.join(parts)}{self._time()}", style="bold")

    def _time(self) -> str:
        """Return when all will be done, as far as that is known."""
        items = self._of("running", "elsewhere", "waiting")
        known = [left for item in items if (left := self._left(item)) is not None]
        if not known:
            return ""
        beside = max(1, len(self._of("running")), min(self._grid.executor.places or 1, len(items)))
        whole = max(sum(known) / beside, max(known))
        return f"; {'about' if len(known) == len(items) else 'more than'} {duration(whole)} left"

    def _say_changes(self) -> None:
        """Print a line for every run that has begun, finished an epoch, or ended since the last look."""
        for item in self._grid.runs:
            status, seen = self._grid.status[item.name], self._seen.get(item.name)
            epochs = seen.epochs if seen and status == "running" else -1
            before, self._told[item.name] = self._told[item.name], (status, epochs)
            if status != before[0]:
                self._say(item, self._change(item, status))
            if epochs > max(0, before[1]) and seen is not None:
                auc = "" if seen.val_auc is None else f", val AUC {seen.val_auc:.4f}"
                rate = "" if seen.images_per_second is None else f", {seen.images_per_second:,.0f} images/s"
                left = self._left(item)
                more = "" if left is None else f", {duration(left)} left"
                self._say(item, f"epoch {epochs}/{item.config.schedule.epochs}{auc}{rate}{more}")

    def _change(self, item: Planned, status: Status) -> str:
        if status in ("done", "failed", "held"):
            what = "done" if status == "done" else self._grid.failures[item.name].reason
            return f"{what}  ({self._summary().plain})"
        return {"waiting": "waiting again", "running": "started", "elsewhere": "another process works in it"}[status]

    def _say(self, item: Planned, what: str) -> None:
        self._console.print(f"{item.name}: {what}", highlight=False, markup=False, soft_wrap=True)


def failures_text(grid: Grid) -> Sequence[str]:
    """Return the lines that say what failed, each with the end of its log, and what was not started."""
    lines: list[str] = []
    for name, failure in grid.failures.items():
        if grid.status[name] == "failed":
            lines += [f"failed: {name}: {failure.reason}", *(f"    {line}" for line in failure.lines)]
            lines += [f"  log: {failure.log}"]
    held = Counter(failure.reason for name, failure in grid.failures.items() if grid.status[name] == "held")
    lines += [f"{_runs(count)} {reason}" for reason, count in held.items()]
    return lines


def _runs(count: int) -> str:
    return f"{count} {'run' if count == 1 else 'runs'}"
