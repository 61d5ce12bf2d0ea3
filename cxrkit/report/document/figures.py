"""Figures as plain data: what is drawn, not how. rendering/drawing.py draws them, every output from the same numbers.

A figure is a grid of panels; a panel holds marks on two axes. Colour belongs to what is shown, not to its place: the
same run has the same colour in all panels of all figures (`Mark.name` decides), and a mark without a name is grey.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Numbers = tuple[float, ...]


@dataclass(frozen=True)
class Line:
    """A curve, with a band around it where lower and upper are given."""

    name: str
    """What the legend calls it; "" for a line of reference, which is grey and dashed."""

    x: Numbers
    """Along the horizontal axis."""

    y: Numbers
    """As many as x."""

    lower: Numbers = ()
    """Lower edge of the band, as many as x; () for none."""

    upper: Numbers = ()
    """Upper edge of the band."""

    steps: bool = False
    """Whether y holds from its x on until the next one."""

    markers: bool = False
    """Whether each point is marked."""

    of: str = ""
    """Whose colour and place in the legend it has: the model's, where it is of one of several runs of it; "" for its
    own name."""


@dataclass(frozen=True)
class Bars:
    """One bar for each of the panel's categories."""

    name: str
    """What the legend calls them."""

    values: Numbers
    """As many as the panel has categories; NaN: no bar."""


@dataclass(frozen=True)
class Ranges:
    """A point with an interval for each of the panel's categories: a forest plot, or mean with minimum and maximum."""

    name: str
    """What the legend calls them."""

    values: Numbers
    """As many as the panel has categories; NaN: no point."""

    lower: Numbers
    """Lower end of each interval; NaN: a point alone."""

    upper: Numbers
    """Upper end of each interval; NaN: a point alone."""

    hollow: bool = False
    """Whether the points are hollow, as for published results."""


@dataclass(frozen=True)
class Grid:
    """A matrix of numbers in colours, with the panel's categories at both sides."""

    values: tuple[Numbers, ...]
    """Rows of columns; NaN: empty."""

    texts: tuple[tuple[str, ...], ...] = ()
    """What is written into the cells; () for nothing."""

    diverging: bool = False
    """Whether zero is the middle of the colours: differences."""


Mark = Line | Bars | Ranges | Grid


@dataclass(frozen=True)
class Axis:
    """One axis of a panel."""

    label: str = ""
    """What is written beside it, with the unit."""

    low: float | None = None
    """Where it begins; None: where the marks do."""

    high: float | None = None
    """Where it ends; None: where the marks do."""

    logarithmic: bool = False
    """Whether equal ratios are equal lengths."""


@dataclass(frozen=True)
class Panel:
    """Marks on two axes."""

    title: str
    """Written above; "" for none."""

    marks: tuple[Mark, ...]
    """In the order in which they are drawn."""

    x: Axis = Axis()
    """The horizontal axis."""

    y: Axis = Axis()
    """The vertical axis."""

    categories: tuple[str, ...] = ()
    """What Bars, Ranges and Grids are of, in order; () where both axes are numbers. They stand at 0, 1, 2, ..., where a
    Line may stand beside them."""

    across: Literal["x", "y"] = "x"
    """Which axis has the categories: "y" for a forest plot, from top to bottom."""

    square: bool = False
    """Whether both axes have the same length, as for ROC curves."""


@dataclass(frozen=True)
class Figure:
    """Panels, and what is to be said of them."""

    key: str
    """A short name for files, anchors and LaTeX labels: "roc", "figure3"."""

    title: str
    """One line, printed above."""

    caption: str
    """What a reader must know to read it alone: what is shown, of which images, what bands and whiskers are."""

    panels: tuple[Panel, ...]
    """Row by row."""

    columns: int = 1
    """How many panels stand side by side."""
