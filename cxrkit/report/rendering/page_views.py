"""What a page shows, made ready for its template: tables in parts for paper, sort keys, the numbers of a figure."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from cxrkit.report.document.figures import Bars, Figure, Grid, Line, Panel, Ranges
from cxrkit.report.document.tables import EMPTY, Cell, Column, Report, Row, Table
from cxrkit.report.rendering.svg import inline, with_ids

_PAPER = 120  # characters in a line of a table on A4, upright
_PROSE = 30  # of them for a column that may wrap
_GAP = 3
_WIDE = 6  # columns: more may not fit a screen
_SHEET = 34  # rows
_MOST_NUMBERS = 240  # in the table behind a figure: more is nothing to read
_NUMBER = re.compile(r"[-+\u2212]?\d[\d,]*\.?\d*(?:e[-+]?\d+)?")


@dataclass(frozen=True)
class TableView:
    """One table of a page."""

    id: str
    """Its anchor, of this table alone."""

    table: Table
    """As it is."""

    parts: tuple[tuple[int, ...], ...]
    """Which columns stand together on paper, by index: one part where the table fits."""

    prose: frozenset[int]
    """Which columns hold sentences, by index: they take the room that is left."""

    @property
    def on_screen(self) -> tuple[int, ...]:
        """The columns, by index, as a screen has them: in a wide table the user's runs first, where they come last."""
        columns = self.table.columns
        own = [index for index, column in enumerate(columns) if column.own]
        others = [index for index, column in enumerate(columns) if not column.own]
        if self.is_wide and own and others and own[0] > others[-1]:
            return (*own, *others)
        return tuple(range(len(columns)))

    @property
    def is_wide(self) -> bool:
        """Whether it needs to save room from column to column."""
        return len(self.table.columns) > _WIDE

    @property
    def is_short(self) -> bool:
        """Whether it should stay on one sheet of paper."""
        return len(self.table.rows) <= _SHEET and not self.prose

    def kinds(self, index: int) -> str:
        """Return the classes of a column's cells."""
        column = self.table.columns[index]
        kinds = {"left": column.left, "prose": index in self.prose, "own": column.own and self._is_mixed}
        return " ".join(name for name, is_so in kinds.items() if is_so)

    @property
    def _is_mixed(self) -> bool:
        """Whether the user's columns stand beside numbers of others: where all are the user's, colour says nothing."""
        return any(not column.own and not column.left for column in self.table.columns)

    @property
    def choosable(self) -> bool:
        """Whether it has columns enough for one to leave some out."""
        return len(self.table.columns) > 2

    @property
    def groups(self) -> list[tuple[str, list[tuple[int, Column]]]]:
        """The columns to choose from, the user's own runs apart from published results."""
        numbered = list(enumerate(self.table.columns))
        own = [item for item in numbered if item[1].own]
        others = [item for item in numbered if not item[1].own]
        if not own:
            return [("", others)]
        return [("Yours, in all tables", own), *[("Others", others)] * bool(others)]


@dataclass(frozen=True)
class FigureView:
    """One figure of a page."""

    id: str
    """Its anchor, of this figure alone."""

    figure: Figure
    """As it is."""

    svg: str
    """An element of a page."""

    numbers: tuple[TableView, ...]
    """What is drawn, as tables; () where nobody would read so many numbers."""


@dataclass(frozen=True)
class Section:
    """One document of a page."""

    id: str
    """Its anchor."""

    report: Report
    """As it is."""

    tables: tuple[TableView, ...]
    """Of the report."""

    figures: tuple[FigureView, ...]
    """Of the report."""


Drawn = Callable[[Figure], str]
"""Returns the SVG of a figure, whose ids begin with its key."""


def sections(documents: Sequence[Report], drawn: Drawn) -> tuple[Section, ...]:
    """Return the documents of a page, with an anchor for each of their parts; raises what `drawn` does."""
    taken: set[str] = set()
    return tuple(_section(report, drawn, taken) for report in documents)


def _section(report: Report, drawn: Drawn, taken: set[str]) -> Section:
    own = _anchor(report.key or report.title, taken)
    tables = tuple(table_view(table, _anchor(table.key or f"{own}-table", taken)) for table in report.tables)
    figures = tuple(_figure(figure, _anchor(figure.key, taken), drawn) for figure in report.figures)
    return Section(own, report, tables, figures)


def _anchor(text: str, taken: set[str]) -> str:
    """Return a name that no other element of the page has, of letters that an address can hold."""
    plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40] or "part"
    # An id begins with a letter; "column-2" is also what a second "column" would be called.
    plain = plain if plain[0].isalpha() else f"part-{plain}"
    found, number = plain, 1
    while found in taken:
        number += 1
        found = f"{plain}-{number}"
    taken.add(found)
    return found


def table_view(table: Table, anchor: str) -> TableView:
    """Return a table with its columns in parts that fit on paper, each about as wide as the others."""
    stub = min(_PROSE, max(len(text) for text in (table.stub, *(row.heading for row in table.rows))))
    longest = [
        max((len(text) for text in (*column.heading, *(row.cells[index].text for row in table.rows))), default=1)
        for index, column in enumerate(table.columns)
    ]
    needed = [
        (min(length, _PROSE) if column.left else length) + _GAP
        for length, column in zip(longest, table.columns, strict=True)
    ]
    parts = _parts(needed, _PAPER - stub)
    room = next(room for room in range(1, _PAPER) if len(_parts(needed, room)) <= len(parts) or room == _PAPER - stub)
    prose = frozenset(index for index, length in enumerate(longest) if length > _PROSE and table.columns[index].left)
    return TableView(anchor, table, tuple(map(tuple, _parts(needed, room))), prose)


def _parts(needed: Sequence[int], room: int) -> list[list[int]]:
    """Return the columns, by index, that stand together: as many as there is room for, at least one."""
    parts: list[list[int]] = [[]]
    left = room
    for index, width in enumerate(needed):
        if parts[-1] and width > left:
            parts.append([])
            left = room
        parts[-1].append(index)
        left -= width
    return parts


def one_line(lines: Sequence[str]) -> str:
    """Return the lines of a heading as one, as it was before `heading_lines` broke it behind its punctuation."""
    return "".join(line if line.endswith(tuple("-_.:/=")) else f"{line} " for line in lines).strip()


def sort_key(cell: Cell) -> float | None:
    """Return the number that a cell is sorted by: the first behind it, or the first in its text; None: it has none."""
    for value in cell.values.values():
        return None if value is None or math.isnan(value) else float(value)
    found = _NUMBER.search(cell.text)
    return float(found[0].replace(",", "").replace("\N{MINUS SIGN}", "-")) if found else None


def _figure(figure: Figure, anchor: str, drawn: Drawn) -> FigureView:
    svg = with_ids(drawn(figure), figure.key, anchor)
    numbers = tuple(
        table_view(table, f"{anchor}-numbers-{number}") for number, table in enumerate(_number_tables(figure), 1)
    )
    return FigureView(anchor, figure, inline(svg, f"{anchor}-title", f"{anchor}-caption"), numbers)


def _number_tables(figure: Figure) -> list[Table]:
    """Return a table for each panel, none where they would be long or a panel's curves have different places."""
    tables = [_panel_table(panel, figure) for panel in figure.panels]
    whole = [table for table in tables if table is not None]
    count = sum(len(table.rows) * len(table.columns) for table in whole)
    return whole if len(whole) == len(tables) and 0 < count <= _MOST_NUMBERS else []


def _panel_table(panel: Panel, figure: Figure) -> Table | None:
    title = panel.title or figure.title
    grid = next((mark for mark in panel.marks if isinstance(mark, Grid)), None)
    if grid is not None:
        columns = tuple(Column(name, (name,)) for name in panel.categories)
        rows = zip(panel.categories, grid.values, strict=True)
        return Table(title, "", columns, tuple(Row("", name, tuple(map(_cell, values))) for name, values in rows))
    if panel.categories:
        marks = [mark for mark in panel.marks if isinstance(mark, Bars | Ranges)]
        names = [mark.name for mark in marks]
        places: tuple[str, ...] = panel.categories
        cells = [list(_with_ends(mark)) for mark in marks]
        stub = ""
    else:
        lines = [mark for mark in panel.marks if isinstance(mark, Line) and mark.name]
        if len({line.x for line in lines}) != 1:
            return None
        places = tuple(_text(value) for value in lines[0].x)
        cells = [[_cell(value) for value in line.y] for line in lines]
        names, stub = [line.name for line in lines], panel.x.label
    if not names:
        return None
    columns = tuple(Column(name, (name,)) for name in names)
    rows_of = zip(places, zip(*cells, strict=True), strict=True)
    return Table(title, stub, columns, tuple(Row("", place, tuple(row)) for place, row in rows_of))


def _with_ends(mark: Bars | Ranges) -> Iterator[Cell]:
    if isinstance(mark, Bars):
        yield from map(_cell, mark.values)
        return
    for value, lower, upper in zip(mark.values, mark.lower, mark.upper, strict=True):
        cell = _cell(value)
        known = not any(map(math.isnan, (value, lower, upper)))
        yield replace(cell, text=f"{cell.text} [{_text(lower)}, {_text(upper)}]") if known else cell


def _cell(value: float) -> Cell:
    return EMPTY if math.isnan(value) else Cell(_text(value), {"value": value})


def _text(value: float) -> str:
    if float(value).is_integer():
        return f"{value:z,.0f}"
    return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.3f}" if abs(value) >= 0.001 else f"{value:.2g}"
