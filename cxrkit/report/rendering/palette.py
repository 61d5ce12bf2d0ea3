"""Colours of figures: eight that differ for colour-blind readers too, on white and on black.

They were searched so that any two of them differ by at least 12 in Oklab (times 100) for normal sight and as people
with protanopia and deuteranopia see them (matrices of Machado et al. 2009), and have a contrast of at least 3 with the
paper (WCAG 1.4.11). tests/test_drawing.py checks it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cxrkit.report.document.figures import Bars, Figure, Line, Ranges

MARKERS = "osD^vPX*"  # beside the colour, for print in grey


@dataclass(frozen=True)
class Theme:
    """The colours of one background."""

    paper: str
    """Behind everything; SVG and PDF leave it out."""

    ink: str
    """Text."""

    muted: str
    """Axes and their numbers, lines of reference."""

    faint: str
    """Lines of the grid."""

    rest: str
    """Those that have no colour of their own."""

    colours: tuple[str, ...]
    """Of what has a name."""


LIGHT = Theme(
    paper="#ffffff",
    ink="#1b1f27",
    muted="#5d6572",
    faint="#e5e8ed",
    rest="#b6bcc7",
    colours=("#0072b2", "#d55e00", "#1b9e8f", "#7a1f50", "#069ce4", "#232ea0", "#9c4438", "#511903"),
)
DARK = Theme(
    paper="#15181d",
    ink="#e8eaee",
    muted="#a0a8b5",
    faint="#2b3038",
    rest="#565d69",
    colours=("#6cb6f5", "#ff9d57", "#a6f8b7", "#fee32d", "#8ee3fd", "#7777f2", "#cf6924", "#298c9b"),
)


@dataclass(frozen=True)
class Palette:
    """Which name has which colour, in all figures of a report."""

    numbers: Mapping[str, int]
    """Which colour of a theme each name has, counted from 0; a name that is not in it is drawn in grey."""

    def number(self, name: str) -> int | None:
        """Return the number of a name's colour; None: grey."""
        return self.numbers.get(name)


def names(figure: Figure) -> list[str]:
    """Return what the legend of a figure is of, in order."""
    marks = (mark for panel in figure.panels for mark in panel.marks if isinstance(mark, Line | Bars | Ranges))
    return list(dict.fromkeys(whose(mark) for mark in marks if mark.name))


def whose(mark: Line | Bars | Ranges) -> str:
    """Return whose colour a mark has: that of its model, or of its own name; "" for a line of reference."""
    return (mark.of or mark.name) if isinstance(mark, Line) else mark.name


def palette(figures: Iterable[Figure], best: Sequence[str] = ()) -> Palette:
    """Return the colours of all names in `figures`.

    best: names that choose first, such as the runs by their mean AUC; the others follow as the figures name them. Each
    takes the first colour that nothing beside it in any figure has. Where more stand in a figure than there are
    colours, the last are grey: lines that nobody can tell apart, behind those that one can.
    """
    together = [names(figure) for figure in figures]
    found = dict.fromkeys(name for group in together for name in group)
    numbers: dict[str, int] = {}
    for name in dict.fromkeys([*(name for name in best if name in found), *found]):
        taken = {numbers.get(other) for group in together if name in group for other in group}
        free = [number for number in range(len(LIGHT.colours)) if number not in taken]
        if free:
            numbers[name] = free[0]
    return Palette(numbers)
