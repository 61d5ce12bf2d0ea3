"""One document for every output: terminal, Markdown, LaTeX, CSV, JSON, HTML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from cxrkit.base.labels import LabelSet
from cxrkit.report.document.figures import Figure
from cxrkit.report.document.numbers import rounded

AVERAGE = "Average"  # the key of a result table's row that is no label's
UNCHECKED = "*"  # marks a run of whose origin something is not checked
ROUGHLY = "~"  # marks an interval of few patients
CONSTANT = "†"  # marks an AUC of scores that are all equal

Number = int | float | None  # in this order: a whole number in a file stays one


@dataclass(frozen=True)
class Cell:
    """One cell of a table."""

    text: str
    """What is printed."""

    values: Mapping[str, Number] = field(default_factory=dict)
    """The plain numbers behind it, by field name ("auc", "lower", ...), for CSV."""

    bold: bool = False
    """Whether it is the best of its row."""

    competes: bool = True
    """Whether it may be the best of its row."""


EMPTY = Cell("-")


@dataclass(frozen=True)
class Column:
    """One column of a table, without its cells."""

    name: str
    """The full name, for CSV."""

    heading: tuple[str, ...]
    """The lines that are printed."""

    fields: tuple[str, ...] = ()
    """What its cells hold for CSV: the metric ("auc"), or several. What is said of a metric needs no mention, see CSV's
    QUALIFIERS. () where they are text, or stand in another table."""

    own: bool = False
    """Whether it is one of the user's runs, not a published column."""

    left: bool = False
    """Whether it is text, aligned to the left."""

    doubts: tuple[str, ...] = ()
    """What nobody has checked of the run: the mark in the heading stands for it."""

    cite: str = ""
    """The published result that it is, by its key in `literature.toml`; "" where it is none."""


@dataclass(frozen=True)
class Row:
    """One row of a table."""

    key: str
    """What it is about: a label or AVERAGE; "" where it has no place in a CSV."""

    heading: str
    """What is printed at its beginning."""

    cells: tuple[Cell, ...]
    """One per column."""

    rule_above: bool = False
    """Whether a line separates it from the row above."""

    own: bool = False
    """Whether it is one of the user's runs, in a table whose rows are runs."""

    doubts: tuple[str, ...] = ()
    """What nobody has checked of that run."""

    cite: str = ""
    """The published result that it is, by its key in `literature.toml`; "" where it is none."""


@dataclass(frozen=True)
class Table:
    """Rows and columns, and what is to be said of them."""

    title: str
    """Printed above."""

    stub: str
    """The heading of the row headings."""

    columns: tuple[Column, ...]
    """From left to right."""

    rows: tuple[Row, ...]
    """From top to bottom."""

    notes: tuple[str, ...] = ()
    """Printed below."""

    key: str = ""
    """A short name for files, anchors and LaTeX labels: "table5", "intervals"; "" for one that nobody refers to."""

    rows_are_runs: bool = False
    """Whether its rows are runs and its columns what was found; otherwise its columns are runs, its rows labels."""


@dataclass(frozen=True)
class Report:
    """A document of tables and figures."""

    title: str
    """Printed first."""

    tables: tuple[Table, ...]
    """In reading order."""

    notes: tuple[str, ...] = ()
    """Of the whole; they come last."""

    figures: tuple[Figure, ...] = ()
    """In reading order, behind the tables. The terminal and CSV leave them out."""

    key: str = ""
    """A short name for files: "official", "compare"."""

    text: tuple[str, ...] = ()
    """Paragraphs before the tables: what is explained in words, such as a protocol."""


def label_rows(cells_by_column: Iterable[Mapping[str, Cell]], labels: LabelSet) -> tuple[Row, ...]:
    """Return the rows of a result table: the averaged labels, their mean, the labels beside it.

    cells_by_column: each column's cells by row key; "-" where a column has none.
    """
    columns = list(cells_by_column)
    return tuple(
        Row(key, labels.heading(key), tuple(column.get(key, EMPTY) for column in columns), rule_above=key == AVERAGE)
        for key in (*labels.averaged, AVERAGE, *labels.beside)
    )


def bold_best(rows: Iterable[Row], field_name: str, decimals: int, columns: set[int]) -> tuple[Row, ...]:
    """Return the rows with the highest value among `columns` in bold, ties included, compared as they are printed."""
    return tuple(_bold_row(row, field_name, decimals, columns) for row in rows)


def _bold_row(row: Row, field_name: str, decimals: int, columns: set[int]) -> Row:
    printed = {
        index: float(rounded(value, decimals))
        for index, cell in enumerate(row.cells)
        if index in columns and cell.competes and (value := cell.values.get(field_name)) is not None
    }
    best = max(printed.values(), default=None)
    cells = (replace(cell, bold=True) if printed.get(i, -1.0) == best else cell for i, cell in enumerate(row.cells))
    return replace(row, cells=tuple(cells))


def heading_lines(name: str, width: int = 11) -> tuple[str, ...]:
    """Break a run's name or a setting after its punctuation into lines of about `width` characters."""
    lines = [""]
    piece = ""
    for character, following in zip(name, f"{name[1:]} ", strict=False):  # an empty name has no character
        piece += character
        inside_a_number = character == "." and following.isdigit()
        if character in "-_.:/=, " and not inside_a_number:
            lines = _append(lines, piece, width)
            piece = ""
    return tuple(line.strip() for line in _append(lines, piece, width))


def _append(lines: list[str], piece: str, width: int) -> list[str]:
    if lines[-1] and len(lines[-1]) + len(piece) > width:
        return [*lines, piece]
    return [*lines[:-1], lines[-1] + piece]
