"""The marks of one panel on matplotlib's axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from cxrkit.report.document.figures import Axis, Bars, Grid, Line, Panel, Ranges
from cxrkit.report.rendering.palette import MARKERS, Palette, Theme, whose

SHORT = 42  # letters of a name in a legend or at an axis
_TOGETHER = 0.72  # of the room of a category is taken by its marks
_ON_LIGHT, _ON_DARK = "#101318", "#fdfdfe"  # text on the cells of a grid, which keep their colours on any paper
_SEQUENTIAL = ("#f4f7fb", "#c3d9ec", "#79b0d9", "#2f7fb8", "#0b4a80")
_DIVERGING = ("#8c3d04", "#e08a3c", "#f6f5f2", "#5fa3d3", "#0b4a80")


def draw_marks(axes: Any, panel: Panel, number: int, colours: Palette, theme: Theme) -> None:
    """Draw the marks of a panel, and set up its axes. Each mark is a group "mark-<panel>-<place>" of an SVG."""
    beside = [mark for mark in panel.marks if isinstance(mark, Bars | Ranges)]
    for place, mark in _in_order(panel, colours):
        gid = f"mark-{number}-{place}"
        rank = colours.number(whose(mark)) if not isinstance(mark, Grid) and mark.name else None
        colour = theme.rest if rank is None else theme.colours[rank]
        if isinstance(mark, Line):
            artists = _line(axes, mark, colour, rank, theme)
        elif isinstance(mark, Grid):
            artists = _grid(axes, mark, theme)
        elif isinstance(mark, Bars):
            artists = _bars(axes, panel, mark, colour, _offset(beside, mark), _TOGETHER / len(beside))
        else:
            marker = MARKERS[rank or 0]
            artists = _ranges(axes, panel, mark, colour, _offset(beside, mark), marker, theme)
        for artist in artists:
            artist.set_gid(gid)
    _axis(axes.xaxis, axes.set_xlim, axes.set_xscale, panel.x)
    _axis(axes.yaxis, axes.set_ylim, axes.set_yscale, panel.y)
    if panel.categories:
        _categories(axes, panel)
    if panel.square:
        axes.set_box_aspect(1)


def _in_order(panel: Panel, colours: Palette) -> list[tuple[int, Any]]:
    """Return the marks with their places: what is grey first, so that it hides nothing; the first colour last."""

    def height(item: tuple[int, Any]) -> tuple[bool, int]:
        name = "" if isinstance(item[1], Grid) else whose(item[1])
        number = colours.number(name) if name else None
        return number is not None, -(number or 0)

    return sorted(enumerate(panel.marks), key=height)


def _line(axes: Any, mark: Line, colour: str, rank: int | None, theme: Theme) -> list[Any]:
    how = "steps-post" if mark.steps else "default"
    if not mark.name:
        return list(axes.plot(mark.x, mark.y, color=theme.muted, linewidth=0.8, dashes=(4, 3), drawstyle=how))
    marker = {"marker": MARKERS[rank or 0], "markersize": 3.2, "markeredgewidth": 0} if mark.markers else {}
    drawn = axes.plot(mark.x, mark.y, color=colour, linewidth=0.7 if rank is None else 1.3, drawstyle=how, **marker)
    if mark.lower and mark.upper:
        step = "post" if mark.steps else None
        axes.fill_between(mark.x, mark.lower, mark.upper, color=colour, alpha=0.14, linewidth=0, step=step)
    return list(drawn)


def _bars(axes: Any, panel: Panel, mark: Bars, colour: str, offset: float, width: float) -> list[Any]:
    at = np.arange(len(mark.values)) + offset
    draw = axes.barh if panel.across == "y" else axes.bar
    return list(draw(at, mark.values, 0.92 * width, color=colour, linewidth=0))


def _ranges(axes: Any, panel: Panel, mark: Ranges, colour: str, offset: float, marker: str, theme: Theme) -> list[Any]:
    values = np.asarray(mark.values, dtype=float)
    at = np.arange(len(values)) + offset
    lower, upper = np.asarray(mark.lower, dtype=float), np.asarray(mark.upper, dtype=float)
    whole = ~(np.isnan(lower) | np.isnan(upper))
    lines = axes.hlines if panel.across == "y" else axes.vlines
    whiskers = lines(at[whole], lower[whole], upper[whole], color=colour, linewidth=1.1)
    x, y = (values, at) if panel.across == "y" else (at, values)
    face = theme.paper if mark.hollow else colour
    points = axes.plot(
        x, y, linestyle="", marker=marker, markersize=3.6, color=colour, markerfacecolor=face, markeredgewidth=0.9
    )
    return [whiskers, *points]


def _grid(axes: Any, mark: Grid, theme: Theme) -> list[Any]:
    from matplotlib.colors import LinearSegmentedColormap

    values = np.asarray(mark.values, dtype=float)
    shades = LinearSegmentedColormap.from_list("cxrkit", _DIVERGING if mark.diverging else _SEQUENTIAL)
    finite = values[np.isfinite(values)]
    # From zero, so that numbers that hardly differ do not look as if they did.
    low, high = (min(0.0, float(finite.min())), float(finite.max())) if finite.size else (0.0, 1.0)
    if mark.diverging:
        high = max(abs(low), abs(high)) or 1.0
        low = -high
    if low == high:
        high = low + 1.0
    drawn = axes.pcolormesh(
        np.ma.masked_invalid(values), cmap=shades, vmin=low, vmax=high, edgecolors=theme.paper, linewidth=0.6
    )
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    for row, texts in enumerate(mark.texts):
        for column, text in enumerate(texts):
            value = values[row, column]
            share = (value - low) / (high - low)
            is_dark = share > 0.62 or (mark.diverging and share < 0.2)
            colour = theme.ink if np.isnan(value) else _ON_DARK if is_dark else _ON_LIGHT
            axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", color=colour, fontsize="small")
    return [drawn]


def _offset(beside: list[Any], mark: Bars | Ranges) -> float:
    """Return how far a mark stands from the middle of its category."""
    place = next(index for index, other in enumerate(beside) if other is mark)
    return _TOGETHER / len(beside) * (place - (len(beside) - 1) / 2)


def _axis(axis: Any, limit: Any, scale: Any, wanted: Axis) -> None:
    if wanted.logarithmic:
        from matplotlib.ticker import LogLocator, NullFormatter

        scale("log")
        low, high = axis.get_data_interval()
        axis.set_major_locator(LogLocator(subs=(1.0,) if high > 100 * low else (1.0, 2.0, 5.0)))
        axis.set_major_formatter("{x:,g}")
        axis.set_minor_formatter(NullFormatter())
    else:
        axis.get_major_locator().set_params(nbins=6)
        if max(map(abs, axis.get_data_interval())) >= 1000:
            axis.set_major_formatter("{x:,.0f}")
    if wanted.low is not None or wanted.high is not None:
        limit(wanted.low, wanted.high)


def _categories(axes: Any, panel: Panel) -> None:
    count, texts = len(panel.categories), [shortened(name) for name in panel.categories]
    in_grid = any(isinstance(mark, Grid) for mark in panel.marks)
    at = np.arange(count) + (0.5 if in_grid else 0.0)
    low, high = (0.0, float(count)) if in_grid else (-0.5, count - 0.5)
    if panel.across == "y" or in_grid:
        axes.set_yticks(at, texts)
        axes.set_ylim(high, low)  # from top to bottom
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
    if panel.across == "x" or in_grid:
        letters = max(map(len, texts))
        slanted = count * letters > (60 if count < 10 else 45)
        axes.set_xticks(at, texts)
        if slanted:
            axes.tick_params(axis="x", labelrotation=45)
            for label in axes.get_xticklabels():
                label.set(ha="right", rotation_mode="anchor")
        axes.set_xlim(low, high)
        axes.tick_params(axis="x", length=0)
        axes.grid(visible=False, axis="x")


def shortened(name: str) -> str:
    """Return a name of at most SHORT letters, its middle left out: beginnings and ends tell runs apart.

    It is cut between words, and inside one where that is too long.
    """
    name = " ".join(name.split())
    if len(name) <= SHORT:
        return name
    start, end = name[: SHORT // 2], name[-(SHORT // 2 - 1) :]
    if name[len(start)] != " " and " " in start[SHORT // 4 :]:
        start = start.rpartition(" ")[0]
    if name[-len(end) - 1] != " " and " " in end[: -SHORT // 4]:
        end = end.partition(" ")[2]
    return f"{start.rstrip()}…{end.lstrip()}"
