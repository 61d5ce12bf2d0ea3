"""A progress bar with images/s and the time left; where nobody watches, a line now and then."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
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


class Bar(Protocol):
    """What `progress_bar` yields."""

    def advance(self, count: int = 1) -> None:
        """Say that `count` more are done. Safe to call from any thread."""
        ...


@contextmanager
def progress_bar(
    description: str, total: int, *, console: Console | None = None, unit: str = "images"
) -> Iterator[Bar]:
    """Show how far `total` things of `unit` are done: description, bar, M of N, speed, time left.

    On a terminal a live bar; elsewhere one line every half minute; without a console, and of no things, nothing.
    """
    if console is None or total == 0:
        yield _Silent()
    elif not console.is_terminal:
        yield _Lines(description, total, console, unit)
    else:
        about = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
        with Progress(*about, _Speed(unit), TimeRemainingColumn(), console=console) as progress:
            yield _Live(progress, description, total)


@contextmanager
def working(description: str, console: Console | None = None) -> Iterator[None]:
    """Show that something is being done, of which nobody knows how far it is: description and time passed.

    console: standard error. On a terminal a live line, which is gone in the end; elsewhere a line every half minute.
    """
    console = Console(stderr=True, emoji=False) if console is None else console
    if console.is_terminal:
        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
        with Progress(*columns, console=console, transient=True) as progress:
            progress.add_task(description, total=None)
            yield
        return
    ended = threading.Event()
    speaker = threading.Thread(target=_say_now_and_then, args=(description, console, ended), daemon=True)
    speaker.start()
    try:
        yield
    finally:
        ended.set()
        speaker.join()


def _say_now_and_then(description: str, console: Console, ended: threading.Event) -> None:
    began = time.monotonic()
    while not ended.wait(LINE_EVERY_SECONDS):
        console.print(f"{description}: {duration(time.monotonic() - began)}", highlight=False, markup=False)


class _Silent:
    def advance(self, count: int = 1) -> None:
        pass


class _Live:
    def __init__(self, progress: Progress, description: str, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task(description, total=total)

    def advance(self, count: int = 1) -> None:
        self._progress.advance(self._task, count)


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
        left = duration((total - self._done) / speed) if speed else "unknown"
        console.print(
            f"{description}: {self._done:,} of {total:,} {unit}, {_per_second(speed, unit)}{left} left", highlight=False
        )


def _per_second(speed: float, unit: str) -> str:
    """Return the speed as words, or nothing where it would be rounded to a 0."""
    return f"{speed:,.0f} {unit}/s, " if speed >= 0.5 else ""


class _Speed(ProgressColumn):
    def __init__(self, unit: str) -> None:
        self._unit = unit
        super().__init__()

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else _per_second(speed, self._unit).removesuffix(", "))


def duration(seconds: float) -> str:
    """Return `seconds` as people say it: 45 s, 12 min, 3 h 20 min."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
