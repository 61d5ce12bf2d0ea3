"""A report on the terminal, with rich. A table that is too wide is continued below: a number is never cut."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from cxrkit.report.tables import Cell, Report, Table

_GAP = 2  # columns between two columns
_PROSE = 24  # the least width of a column that may wrap


def to_rich(report: Report) -> Group:
    """Return the report for `rich.console.Console.print`."""
    parts: list[RenderableType] = [Text(report.title, style="bold underline"), Text()]
    for table in report.tables:
        parts += [_Fitted(table), *_notes(table.notes), Text()]
    if report.notes:
        parts += [Text("Notes", style="bold"), *_notes(report.notes)]
    return Group(*parts)


@dataclass(frozen=True)
class _Fitted:
    """A table that breaks into as many parts as the console's width asks for."""

    table: Table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        for number, columns in enumerate(_fit(self.table, options.max_width)):
            if number:
                yield Text()
            yield Text(self.table.title + (" (continued)" if number else ""), style="bold")
            yield _part(self.table, columns)


def _fit(table: Table, width: int) -> list[list[int]]:
    """Return the columns of each part, by index: as many as fit beside the row headings, at least one."""
    stub = max(len(text) for text in (table.stub, *(row.heading for row in table.rows)))
    parts: list[list[int]] = [[]]
    left = width - stub
    for index, column in enumerate(table.columns):
        needed = max(map(len, column.heading))
        if column.left:
            needed = max(needed, _PROSE)
        else:
            needed = max(needed, *(len(row.cells[index].text) for row in table.rows))
        if parts[-1] and needed + _GAP > left:
            parts.append([])
            left = width - stub
        parts[-1].append(index)
        left -= needed + _GAP
    return parts


def _part(table: Table, columns: list[int]) -> RichTable:
    shown = RichTable(
        box=box.SIMPLE_HEAD,
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


def _notes(notes: tuple[str, ...]) -> list[RenderableType]:
    if not notes:
        return []
    grid = RichTable.grid(padding=(0, 1, 0, 0))
    for note in notes:
        grid.add_row(Text("·"), Text(note, style="dim"))
    return [grid]
