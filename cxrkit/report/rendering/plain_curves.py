"""Curves as plain text for a terminal: a panel of lines in a few rows of characters, two panels side by side."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from cxrkit.report.document.figures import Axis, Figure, Line, Panel

ROWS = 7  # of a panel
BESIDE = 8  # columns for the numbers of the vertical axis
_NARROWEST = 24  # columns of a panel
_WIDEST = 48
_BRAILLE = 0x2800
# Of the dots in one sign of braille, two columns of four, top to bottom.
_DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])
_COLOURS = ("cyan", "magenta", "yellow", "green", "blue", "red")


@dataclass(frozen=True)
class PlainCurves:
    """A figure of lines, for `rich.console.Console.print`; other marks are not drawn.

    One line is drawn in braille, several in letters that the last row explains, so that no colour is needed. Where a
    console has neither, in ASCII.
    """

    figure: Figure
    """Its panels have numbers on both axes."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the rows."""
        names = list(dict.fromkeys(mark.name for panel in self.figure.panels for mark in _lines(panel)))
        plain = options.ascii_only or not options.encoding.startswith("utf")
        letters = _letters(names, plain)
        columns = 2 if options.max_width >= 2 * (_NARROWEST + BESIDE) + 2 else 1
        width = min(_WIDEST, (options.max_width - 2 * (columns - 1)) // columns)
        panels = self.figure.panels
        for start in range(0, len(panels), columns):
            drawn = [_panel(panel, width, names, letters, plain) for panel in panels[start : start + columns]]
            for row in zip(*drawn, strict=True):
                yield Text("  ").join(row)
            yield Text()
        if len(names) > 1:
            yield from _legend(names, letters)


def _letters(names: Sequence[str], plain: bool) -> dict[str, str]:
    """Return what each line is drawn with; "" for braille."""
    if len(names) == 1:
        return {names[0]: "*" if plain else ""}
    return {name: "abcdefghijklmnopqrstuvwxyz"[place % 26] for place, name in enumerate(names)}


def _legend(names: Sequence[str], letters: Mapping[str, str]) -> Iterator[Text]:
    for place, name in enumerate(names):
        yield Text(f"{letters[name]}  {name}", style=_COLOURS[place % len(_COLOURS)])


def _lines(panel: Panel) -> list[Line]:
    return [mark for mark in panel.marks if isinstance(mark, Line)]


def _panel(panel: Panel, width: int, names: Sequence[str], letters: Mapping[str, str], plain: bool) -> list[Text]:
    """Return the title, ROWS rows and the horizontal axis, each `width` wide."""
    lines = _lines(panel)
    across = width - BESIDE - 1
    x = _Scale.of(panel.x, [value for line in lines for value in line.x])
    y = _Scale.of(panel.y, [value for line in lines for value in line.y])
    signs = [[(" ", "")] * across for _ in range(ROWS)]
    for line in sorted(lines, key=lambda line: line.markers):  # what is marked lies above
        colour = _COLOURS[names.index(line.name) % len(_COLOURS)]
        letter = letters[line.name]
        if line.markers:
            letter = ("o" if plain else "●") if not letter or letter == "*" else letter.upper()
            _put(signs, x.of_(line.x) * (across - 1), y.of_(line.y) * (ROWS - 1), letter, f"bold {colour}")
        elif letter:
            at, height = _drawn(line, x, y, across)
            _put(signs, at, height * (ROWS - 1), letter, colour)
        else:
            _put_braille(signs, line, x, y, colour)
    unit = f" ({panel.y.label})" if panel.y.label else ""
    bar = "|" if plain else "│"
    rows = [Text(f"{panel.title}{unit}"[:width].ljust(width), style="bold")]
    for number, row in enumerate(signs):
        said = {0: _short(y.high), ROWS - 1: _short(y.low)}.get(number, "")
        text = Text(f"{said:>{BESIDE - 1}} {bar}")
        for sign, style in row:
            text.append(sign, style)
        rows.append(text)
    first, last = _short(x.low), _short(x.high)
    label = f"{first} {panel.x.label.lower()}"
    rows.append(Text(" " * (BESIDE + 1) + label + last.rjust(across - len(label)), style="dim"))
    return rows


@dataclass(frozen=True)
class _Scale:
    """From a value to its place, 0 to 1, on an axis."""

    low: float
    high: float
    logarithmic: bool

    @classmethod
    def of(cls, axis: Axis, values: Sequence[float]) -> _Scale:
        finite = [value for value in values if math.isfinite(value)] or [0.0]
        low = min(finite) if axis.low is None else axis.low
        return cls(low, max(finite) if axis.high is None else axis.high, axis.logarithmic)

    def of_(self, values: Sequence[float]) -> NDArray[np.float64]:
        scaled = np.asarray(values, float)
        ends = np.array([self.low, self.high])
        if self.logarithmic:
            scaled, ends = np.log(scaled), np.log(ends)
        span = ends[1] - ends[0]
        return (scaled - ends[0]) / span if span else np.full(len(scaled), 0.5)


def _drawn(line: Line, x: _Scale, y: _Scale, across: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return columns, and the height (0 to 1) of a line in each of them; between two points it is straight."""
    at, height = x.of_(line.x) * (across - 1), y.of_(line.y)
    columns = np.arange(math.ceil(at.min()), math.floor(at.max()) + 1, dtype=float)
    if not len(columns):
        return at, height
    if line.steps:
        return columns, height[np.searchsorted(at, columns, "right") - 1]
    return columns, np.interp(columns, at, height)


def _put(
    signs: list[list[tuple[str, str]]],
    columns: NDArray[np.float64],
    rows: NDArray[np.float64],
    sign: str,
    style: str,
) -> None:
    for column, row in zip(columns, rows, strict=True):
        if math.isfinite(row):
            signs[ROWS - 1 - round(row)][round(column)] = (sign, style)


def _put_braille(signs: list[list[tuple[str, str]]], line: Line, x: _Scale, y: _Scale, style: str) -> None:
    """Draw a line in dots, two in a column of characters and four in a row; steep parts are joined."""
    across = len(signs[0])
    dots = np.zeros((4 * ROWS, 2 * across), bool)
    columns, heights = _drawn(line, x, y, 2 * across)
    rows = 4 * ROWS - 1 - np.round(heights * (4 * ROWS - 1)).astype(int)
    before = rows[0]
    for column, row in zip(columns.round().astype(int), rows, strict=True):
        low, high = sorted((before, row))
        dots[low : high + 1, column] = True
        before = row
    for row in range(ROWS):
        for column in range(across):
            cell = dots[4 * row : 4 * row + 4, 2 * column : 2 * column + 2]
            if cell.any():
                signs[row][column] = (chr(_BRAILLE + int(_DOTS[cell].sum())), style)


def _short(value: float) -> str:
    """Return a number in at most seven characters."""
    text = f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.4g}"
    return text if len(text) < BESIDE else f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e+")
