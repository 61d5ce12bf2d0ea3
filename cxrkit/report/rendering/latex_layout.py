"""How a table is set on a page of an article: in which size, in how many parts, and which columns wrap.

The sizes are those of the class `article` at 10 points on letter paper, the narrowest of its kind.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from cxrkit.report.document.tables import Row, Table, heading_lines
from cxrkit.report.rendering.latex_text import width_of

PAGE_WIDTH, PAGE_HEIGHT = 345.0, 550.0  # points
_NOTE_SIZE, _NOTE_LINE = 8.5, 9.5  # \footnotesize
_STUB = 130.0  # row headings that are wider wrap
_PROSE = 95.0  # the least width of a column that wraps
_NARROW = 7  # letters of a heading's line where a table is too wide
FLOAT = 440.0  # a table that is higher does not float, but breaks over pages
BESIDE = 60.0  # of a float: caption and the white around it
_FILL = 1.5  # lines of a wrapped text are not filled to the last point


@dataclass(frozen=True)
class Font:
    """How a table is set."""

    size: str
    """LaTeX's name of the size."""

    points: float
    """Of the font: Computer Modern is a little wider than its size says where it is small."""

    line: float
    """From one line to the next, in points."""

    between: float
    """White between two columns, in points."""

    @property
    def set(self) -> str:
        """The commands that set it."""
        return f"\\{self.size}\\setlength{{\\tabcolsep}}{{{self.between / 2:g}pt}}"


# From the largest to the smallest that a journal prints.
_FONTS = (Font("small", 9.3, 11.0, 8.0), Font("footnotesize", 8.6, 9.5, 6.0), Font("scriptsize", 7.8, 8.0, 5.0))


@dataclass(frozen=True)
class Part:
    """Columns of a table that stand side by side on one page."""

    font: Font
    """How it is set."""

    columns: Sequence[int]
    """By index."""

    stub: float
    """Width of the row headings in points where they wrap; 0: they do not."""

    wrapped: dict[int, float]
    """Width in points of each column that wraps."""


def parts_of(table: Table) -> list[Part]:
    """Return as few parts as fit, in the largest font in which they are so few."""
    return min((_parts_in(font, table) for font in _FONTS), key=len)


def laid_out(table: Table) -> tuple[Table, list[Part]]:
    """Return a table and its parts: with headings broken after every hyphen where it has fewer parts that way."""
    parts = parts_of(table)
    if len(parts) == 1:
        return table, parts
    columns = tuple(replace(column, heading=tuple(_narrow(column.heading))) for column in table.columns)
    narrow = replace(table, columns=columns)
    fewer = parts_of(narrow)
    return (narrow, fewer) if len(fewer) < len(parts) else (table, parts)


def _narrow(heading: Iterable[str]) -> Iterator[str]:
    for line in heading:
        yield from filter(None, heading_lines(line, _NARROW)) if "-" in line else [line]


def _parts_in(font: Font, table: Table) -> list[Part]:
    """Return as few parts as fit, with about as many columns each."""
    natural = [_natural(font, table, index) for index in range(len(table.columns))]
    needed = [min(width, _PROSE) if table.columns[index].left else width for index, width in enumerate(natural)]
    widest = max(width_of(text, font.points) for text in (table.stub, *(row.heading for row in table.rows)))
    stub = _STUB if widest > _STUB else 0.0
    left = PAGE_WIDTH - (stub or widest)
    groups = _grouped(font, needed, left, len(needed))
    even = _grouped(font, needed, left, math.ceil(len(needed) / len(groups)))
    groups = even if len(even) == len(groups) else groups
    return [Part(font, group, stub, _wrapped(font, table, group, natural, left)) for group in groups]


def _grouped(font: Font, needed: Sequence[float], width: float, most: int) -> list[list[int]]:
    groups: list[list[int]] = [[]]
    used = 0.0
    for index, needs in enumerate(needed):
        if groups[-1] and (used + needs + font.between > width or len(groups[-1]) == most):
            groups.append([])
            used = 0.0
        groups[-1].append(index)
        used += needs + font.between
    return groups


def _wrapped(
    font: Font, table: Table, group: Sequence[int], natural: Sequence[float], width: float
) -> dict[int, float]:
    """Share what is left among the columns of text: those that need less than their share take what they need."""
    free = width - font.between * len(group)
    texts = sorted((index for index in group if table.columns[index].left), key=lambda index: natural[index])
    free -= sum(natural[index] for index in group if not table.columns[index].left)
    wrapped = {}
    for place, index in enumerate(texts):
        share = free / (len(texts) - place)
        if natural[index] > share:
            wrapped[index] = max(share, _PROSE / 2)
        free -= min(natural[index], share)
    return wrapped


def _natural(font: Font, table: Table, index: int) -> float:
    """Return the width of a column without any wrapping."""
    cells = [width_of(row.cells[index].text, font.points, bold=row.cells[index].bold) for row in table.rows]
    return max([*(width_of(line, font.points) for line in table.columns[index].heading), *cells], default=0.0)


def lines_of(row: Row, part: Part) -> int:
    """Return about how many lines a row takes."""
    wrapped = [(row.cells[index].text, width) for index, width in part.wrapped.items()]
    wrapped += [(row.heading, part.stub)] * bool(part.stub)
    widths = [(width_of(text, part.font.points), width) for text, width in wrapped]
    return max((math.ceil(_FILL * text / width) if text > width else 1 for text, width in widths), default=1)


def height_of(table: Table, part: Part) -> float:
    """Return about how high a part of a table is, in points."""
    return part.font.line * (heading_height(table, part) + sum(lines_of(row, part) for row in table.rows))


def heading_height(table: Table, part: Part) -> int:
    """Return how many lines the heading has."""
    return max((len(table.columns[index].heading) for index in part.columns), default=1)


def notes_height(notes: Iterable[str]) -> float:
    """Return about how high notes are below a table, in points."""
    return _NOTE_LINE * sum(math.ceil(_FILL * width_of(note, _NOTE_SIZE) / PAGE_WIDTH) for note in notes)
