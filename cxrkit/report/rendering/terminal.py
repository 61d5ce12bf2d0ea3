"""A report on the terminal, with rich. A table that is too wide is continued below: a number is never cut."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from cxrkit.base.plain_text import spelled
from cxrkit.report.document.tables import Cell, Column, Report, Row, Table

_GAP = 2  # columns between two columns
_PROSE = 24  # the least width of a column that may wrap
_ASCII_HEAD = box.Box(str(box.SIMPLE_HEAD).replace("─", "-"), ascii=True)  # rich's own draws a grid


def to_rich(report: Report) -> RenderableType:
    """Return the report for `rich.console.Console.print`."""
    return _Page(report)


@dataclass(frozen=True)
class _Page:
    """A report in the console's width, and in the signs that it can show."""

    report: Report

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        # Before the layout: "±" takes one place, and its "+-" two.
        report = _spelled_report(self.report, lambda text: spelled(text, options.encoding))
        bullet = spelled("·", options.encoding)
        yield Text(report.title, style="bold underline")
        yield Text()
        for paragraph in report.text:
            yield Text(paragraph)
            yield Text()
        for table in report.tables:
            yield from _table(table, options)
            yield from _notes(table.notes, bullet)
            yield Text()
        if report.notes:
            yield Text("Notes", style="bold")
            yield from _notes(report.notes, bullet)


def _spelled_report(report: Report, say: Callable[[str], str]) -> Report:
    tables = tuple(_spelled_table(table, say) for table in report.tables)
    notes, text = (tuple(map(say, lines)) for lines in (report.notes, report.text))
    return replace(report, title=say(report.title), tables=tables, notes=notes, text=text)


def _spelled_table(table: Table, say: Callable[[str], str]) -> Table:
    def column(item: Column) -> Column:
        return replace(item, heading=tuple(map(say, item.heading)))

    def row(item: Row) -> Row:
        cells = tuple(replace(cell, text=say(cell.text)) for cell in item.cells)
        return replace(item, heading=say(item.heading), cells=cells)

    return replace(
        table,
        title=say(table.title),
        stub=say(table.stub),
        columns=tuple(map(column, table.columns)),
        rows=tuple(map(row, table.rows)),
        notes=tuple(map(say, table.notes)),
    )


def _table(table: Table, options: ConsoleOptions) -> Iterator[RenderableType]:
    lines = _ASCII_HEAD if options.ascii_only else box.SIMPLE_HEAD
    for number, columns in enumerate(_fit(table, options.max_width)):
        if number:
            yield Text()
        yield Text(table.title + (" (continued)" if number else ""), style="bold")
        yield _part(table, columns, lines)


def _fit(table: Table, width: int) -> list[list[int]]:
    """Return the columns of each part, by index: as many as fit beside the row headings, at least one."""
    stub = max(len(text) for text in (table.stub, *(row.heading for row in table.rows)))
    parts: list[list[int]] = [[]]
    left = width - stub
    for index, column in enumerate(table.columns):
        longest = max((len(row.cells[index].text) for row in table.rows), default=0)
        needed = max(*map(len, column.heading), min(longest, _PROSE) if column.left else longest)
        if parts[-1] and needed + _GAP > left:
            parts.append([])
            left = width - stub
        parts[-1].append(index)
        left -= needed + _GAP
    return parts


def _part(table: Table, columns: list[int], lines: box.Box) -> RichTable:
    shown = RichTable(
        box=lines,
        show_edge=False,
        padding=(0, _GAP - 1, 0, 0),  # the box draws one more
        pad_edge=False,
    )
    shown.add_column(Text(table.stub), no_wrap=True, vertical="top")
    for column in (table.columns[index] for index in columns):
        shown.add_column(
            Text("\n".join(column.heading)),
            justify="left" if column.left else "right",
            style="cyan" if column.own else "",
            header_style="bold cyan" if column.own else "bold",
            no_wrap=not column.left,
            vertical="top",
        )
    for number, row in enumerate(table.rows):
        rule_below = number + 1 < len(table.rows) and table.rows[number + 1].rule_above
        shown.add_row(Text(row.heading), *(_cell(row.cells[index]) for index in columns), end_section=rule_below)
    return shown


def _cell(cell: Cell) -> Text:
    return Text(cell.text, style="bold" if cell.bold else "")


def _notes(notes: tuple[str, ...], bullet: str) -> Iterator[RenderableType]:
    # No grid: that fills every line up with blanks, which stay in a file.
    yield from (_Note(bullet, note) for note in notes)


@dataclass(frozen=True)
class _Note:
    """A note behind its bullet, wrapped in the console's width."""

    bullet: str
    """The sign before it."""

    text: str
    """What it says."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        indent = len(self.bullet) + 1
        for number, line in enumerate(Text(self.text).wrap(console, options.max_width - indent)):
            before = f"{self.bullet} " if number == 0 else " " * indent
            yield Text.assemble(before, (line.plain.rstrip(), "dim"))
