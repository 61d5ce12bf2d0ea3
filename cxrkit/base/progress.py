"""A progress bar with images/s and the time left; where nobody watches, a line now and then.

And how numbers of seconds and bytes are said, in bars and elsewhere.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

LINE_EVERY_SECONDS = 30.0
SILENT_SECONDS = 2.0  # no longer than so without a word
BYTES = "bytes"  # the unit of a bar that counts them
_WIDEST_BAR = 40
_BESIDE_A_BAR = 62  # characters: label, 112,120/112,120, 1,500 portions/s, 0:00:00, and the spaces between


class Bar(Protocol):
    """What `progress_bar` yields."""

    def advance(self, count: int = 1) -> None:
        """Say that `count` more are done; fewer, where it is negative. Safe to call from any thread."""
        ...

    def note(self, text: str) -> None:
        """Print a line above the bar. Safe to call from any thread."""
        ...


@contextmanager
def progress_bar(
    description: str, total: int, *, console: Console | None = None, unit: str = "images"
) -> Iterator[Bar]:
    """Show how far `total` things of `unit` are done: description, bar, M of N, speed, time left, at last time taken.

    unit: in the plural; BYTES are shown as kB, MB and GB. On a terminal a live bar; elsewhere one line every half
    minute; without a console, and of no things, no bar.
    """
    if console is None or total == 0:
        yield _Silent(console)
    elif not console.is_terminal:
        yield _Lines(description, total, console, unit)
    else:
        width = min(_WIDEST_BAR, max(4, console.width - _BESIDE_A_BAR))
        about = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=width), _Done(unit))
        time_left = TimeRemainingColumn(elapsed_when_finished=True)
        with Progress(*about, _Speed(unit), time_left, console=console) as progress:
            yield _Live(progress, description, total)


@contextmanager
def waiting(what: str, console: Console | None) -> Iterator[None]:
    """Say what is waited for, where it cannot be said how long: with the time that passed, gone in the end.

    Where nobody watches, a line after two seconds and then one every half minute. Without a console, nothing. No bar
    can be shown meanwhile.
    """
    if console is None:
        yield
    elif console.is_terminal:
        # A sign of ASCII: any console can show it.
        columns = (SpinnerColumn("line"), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
        with Progress(*columns, console=console, transient=True) as progress:
            progress.add_task(what, total=None)
            yield
    else:
        ended = threading.Event()
        speaker = threading.Thread(target=_say_now_and_then, args=(what, console, ended), daemon=True)
        speaker.start()
        try:
            yield
        finally:
            ended.set()
            speaker.join()


def working(what: str) -> AbstractContextManager[None]:
    """Say on standard error what is waited for, as `waiting` does: standard output is the answer's."""
    return waiting(what, Console(stderr=True, emoji=False))


def _say_now_and_then(what: str, console: Console, ended: threading.Event) -> None:
    if ended.wait(SILENT_SECONDS):
        return
    began = time.monotonic() - SILENT_SECONDS
    console.print(Text(f"{what} ..."))
    while not ended.wait(LINE_EVERY_SECONDS):
        console.print(Text(f"{what}: {duration(time.monotonic() - began)}"))


class _Silent:
    def __init__(self, console: Console | None) -> None:
        self._console = console

    def advance(self, count: int = 1) -> None:
        pass

    def note(self, text: str) -> None:
        if self._console is not None:
            _print(self._console, text)


class _Live:
    def __init__(self, progress: Progress, description: str, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task(description, total=total)

    def advance(self, count: int = 1) -> None:
        self._progress.advance(self._task, count)

    def note(self, text: str) -> None:
        _print(self._progress.console, text)


class _Lines:
    def __init__(self, description: str, total: int, console: Console, unit: str) -> None:
        self._about = (description, total, console, unit)
        self._done = 0
        self._started = self._said = time.monotonic()

    def advance(self, count: int = 1) -> None:
        self._done += count
        now = time.monotonic()
        if now - self._said < LINE_EVERY_SECONDS:
            return
        self._said = now
        description, total, console, unit = self._about
        speed = self._done / (now - self._started)
        left = duration((total - self._done) / speed) if speed > 0 else "unknown"
        many = size_text(total) if unit == BYTES else f"{total:,} {unit}"
        done = size_text(self._done) if unit == BYTES else f"{self._done:,}"
        console.print(f"{description}: {done} of {many}, {_per_second(speed, unit)}{left} left", highlight=False)

    def note(self, text: str) -> None:
        _print(self._about[2], text)


def _print(console: Console, text: str) -> None:
    console.print(Text(text), highlight=False, soft_wrap=True)


def _per_second(speed: float, unit: str) -> str:
    """Return the speed as words, or nothing where it would be rounded to a 0."""
    if unit == BYTES:
        return f"{size_text(round(speed))}/s, " if speed >= 0.5 else ""
    return f"{speed:,.0f} {unit}/s, " if speed >= 0.5 else ""


class _Done(ProgressColumn):
    """M of N, with the same commas as everywhere."""

    def __init__(self, unit: str) -> None:
        self._unit = unit
        super().__init__()

    def render(self, task: Task) -> Text:
        done, total = int(task.completed), int(task.total or 0)
        if self._unit == BYTES:
            return Text(f"{size_text(done)} of {size_text(total)}")
        return Text(f"{done:>{len(f'{total:,}')},}/{total:,}")


class _Speed(ProgressColumn):
    def __init__(self, unit: str) -> None:
        self._unit = unit
        super().__init__()

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else _per_second(speed, self._unit).removesuffix(", "))


def duration(seconds: float) -> str:
    """Return `seconds` as people say it: 45 s, 12 min, 3 h 20 min, 12.5 days."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes >= 100 * 60:
        return f"{minutes / 1440:,.1f} days"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def size_text(count: int) -> str:
    """Return a number of bytes as people read it, in powers of 1000: 45.1 GB, 2.0 MB, 1.5 kB, 1 byte."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(count) >= scale:
            return f"{count / scale:,.1f} {unit}"
    return f"{count} byte{'' if count == 1 else 's'}"
