"""A report as tidy CSV: one row for each run, label and metric, as pandas and R want it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from cxrkit.report.document.tables import EMPTY, Cell, Column, Number, Report, Row, Table

QUALIFIERS = (
    "lower", "upper", "std", "std_seeds", "folds", "splits", "seeds", "images", "patients", "positives", "negatives",
    "positive_patients", "n_eff", "approximate", "too_few", "constant",
)  # fmt: skip
"""What is said of a metric: a column each, whatever the table. Any other field of a cell is a metric, a row each."""

COLUMNS = ("report", "table", "run", "source", "label", "metric", "value", *QUALIFIERS, "doubts", "text")
"""The header, the same for every report. text: the cell as it is printed; source: own, or published."""

_COUNTS = ("images", "patients", "positives", "negatives", "positive_patients")
_OF_THE_FIRST = ("lower", "upper", "approximate", "too_few")
"""What is said of a cell's first metric alone: a p-value beside a difference does not have its interval."""


def tidy(report: Report, figures: str = "") -> str:
    """Return the numbers of the report's tables, six digits each; figures have none of their own here.

    A table without numbers, or whose rows have no keys, gives a row for each cell: the heading of its row as label, the
    name of its column as metric, and its text.
    """
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for table in report.tables:
        for line in _lines(table):
            writer.writerow({"report": report.key, "table": table.key or table.title, **line})
    return out.getvalue()


def _lines(table: Table) -> Iterator[dict[str, str]]:
    """Yield the rows of a table, run by run."""
    numbers = any(cell.values for row in table.rows if row.key for cell in row.cells)
    for index, column in enumerate(table.columns):
        for row in table.rows:
            cell = row.cells[index]
            where = {**_where(table, row, column), "text": cell.text}
            if not numbers:
                yield {"label": row.key or row.heading, "metric": column.name, "text": cell.text}
            elif row.key and column.fields and cell != EMPTY:
                for place, metric in enumerate(_metrics(column.fields, cell)):
                    said = {name: _number(_said(cell, metric, name, first=place == 0)) for name in QUALIFIERS}
                    yield {**where, "metric": metric, "value": _number(cell.values.get(metric)), **said}


def _where(table: Table, row: Row, column: Column) -> dict[str, str]:
    run: Row | Column
    if table.rows_are_runs:
        run, name, label = row, row.key or row.heading, column.name
    else:
        run, name, label = column, column.name, row.key or row.heading
    source = "own" if run.own else "published"
    return {"run": name, "source": source, "label": label, "doubts": "; ".join(run.doubts)}


def _metrics(fields: tuple[str, ...], cell: Cell) -> list[str]:
    """Return the fields of a column that are metrics, no qualifiers: those of the cell, or one that it has not got."""
    metrics = [name for name in fields if name not in QUALIFIERS and not _is_said_of_another(name, fields)]
    # A count of images where no metric stands is a number like others.
    counts = [name for name in fields if name in _COUNTS and name in cell.values]
    return [name for name in metrics if name in cell.values] or counts or metrics[:1]


def _is_said_of_another(name: str, fields: tuple[str, ...]) -> bool:
    """Whether a field is, say, "mae lower" beside "mae"."""
    metric, _, qualifier = name.rpartition(" ")
    return qualifier in QUALIFIERS and metric in fields


def _said(cell: Cell, metric: str, qualifier: str, *, first: bool) -> Number:
    of_the_cell = cell.values.get(qualifier) if first or qualifier not in _OF_THE_FIRST else None
    return cell.values.get(f"{metric} {qualifier}", of_the_cell)


def _number(value: Number) -> str:
    return "" if value is None else str(value) if isinstance(value, int) else f"{value:.6g}"
