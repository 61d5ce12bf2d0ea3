"""One table structure for every output: terminal, Markdown, LaTeX, CSV (and later HTML)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from cxrkit.contracts import NO_FINDING, PATHOLOGIES

AVERAGE = "Average"
# Keys of a result table's rows, in the paper's order; a row's key is a label or AVERAGE, its heading the paper's word.
ROWS = (*PATHOLOGIES, AVERAGE, NO_FINDING)
HEADINGS = {"Pleural_Thickening": "Pleural Thicken.", NO_FINDING: "No Findings"}

Number = float | int | None


@dataclass(frozen=True)
class Cell:
    """What is printed, and the plain numbers behind it, by field name ("auc", "lower", ...), for CSV."""

    text: str
    values: Mapping[str, Number] = field(default_factory=dict)
    bold: bool = False


EMPTY = Cell("-")


@dataclass(frozen=True)
class Column:
    """name: the full name, for CSV; heading: the lines that are printed; fields: what its cells hold for CSV.

    own: one of the user's runs, not a published column. left: text, aligned to the left.
    """

    name: str
    heading: tuple[str, ...]
    fields: tuple[str, ...] = ()
    own: bool = False
    left: bool = False


@dataclass(frozen=True)
class Row:
    """key: what the row is about, in contract names, or "" where it has no place in a CSV; cells: one per column."""

    key: str
    heading: str
    cells: tuple[Cell, ...]
    rule_above: bool = False


@dataclass(frozen=True)
class Table:
    """stub: the heading of the row headings. Notes are printed below."""

    title: str
    stub: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """Tables in reading order; the notes of the whole come last."""

    title: str
    tables: tuple[Table, ...]
    notes: tuple[str, ...] = ()


def label_rows(cells_by_column: Iterable[Mapping[str, Cell]]) -> tuple[Row, ...]:
    """Return the 16 rows of a result table from each column's cells by row key; "-" where a column has none."""
    columns = list(cells_by_column)
    return tuple(
        Row(
            key,
            HEADINGS.get(key, key),
            tuple(column.get(key, EMPTY) for column in columns),
            rule_above=key == AVERAGE,
        )
        for key in ROWS
    )


def bold_best(rows: Iterable[Row], field_name: str, decimals: int, columns: set[int]) -> tuple[Row, ...]:
    """Return the rows with the highest value among `columns` in bold, ties included, compared as they are printed."""
    return tuple(_bold_row(row, field_name, decimals, columns) for row in rows)


def _bold_row(row: Row, field_name: str, decimals: int, columns: set[int]) -> Row:
    printed = {
        index: float(f"{value:.{decimals}f}")
        for index, cell in enumerate(row.cells)
        if index in columns and (value := cell.values.get(field_name)) is not None
    }
    best = max(printed.values(), default=None)
    cells = (replace(cell, bold=True) if printed.get(i, -1.0) == best else cell for i, cell in enumerate(row.cells))
    return replace(row, cells=tuple(cells))


def heading_lines(name: str, width: int = 11) -> tuple[str, ...]:
    """Break a model or run name after its hyphens, colons and dots into lines of about `width` characters."""
    lines = [""]
    piece = ""
    for character in name:
        piece += character
        if character in "-_.:/":
            lines = _append(lines, piece, width)
            piece = ""
    return tuple(_append(lines, piece, width))


def _append(lines: list[str], piece: str, width: int) -> list[str]:
    if lines[-1] and len(lines[-1]) + len(piece) > width:
        return [*lines, piece]
    return [*lines[:-1], lines[-1] + piece]
