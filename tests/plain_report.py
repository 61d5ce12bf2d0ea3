"""A document as plain lines: what it says, whatever renders it."""

from __future__ import annotations

import os
from pathlib import Path

from cxrkit.report.document.figures import Figure, Grid, Ranges
from cxrkit.report.document.tables import Report, Table

GOLDEN = Path(__file__).parent / "golden"


def plain(report: Report) -> str:
    """Return title, text, tables, figures and notes, a row a line."""
    parts = [f"{report.key}: {report.title}", *report.text]
    parts += [plain_table(table) for table in report.tables]
    parts += [_figure(figure) for figure in report.figures]
    return "\n\n".join([*parts, *report.notes]) + "\n"


def plain_table(table: Table) -> str:
    """Return a table as lines; bold cells stand between stars."""
    heads = " | ".join([table.stub, *(" ".join(column.heading) for column in table.columns)])
    lines = [f"[{table.key}] {table.title}", heads]
    for row in table.rows:
        cells = [f"*{cell.text}*" if cell.bold else cell.text for cell in row.cells]
        lines.append(" | ".join([row.heading, *cells]))
    return "\n".join([*lines, *(f"- {note}" for note in table.notes)])


def _figure(figure: Figure) -> str:
    lines = [f"({figure.key}) {figure.title}", figure.caption]
    for panel in figure.panels:
        for mark in panel.marks:
            if isinstance(mark, Ranges):
                numbers = zip(panel.categories, mark.values, mark.lower, mark.upper, strict=True)
                lines += [f"{name}: {value:.4f} {low:.4f} {high:.4f}" for name, value, low, high in numbers]
            if isinstance(mark, Grid):
                pairs = zip(panel.categories, mark.texts, strict=True)
                lines += [f"{name}: {' | '.join(texts)}" for name, texts in pairs]
    return "\n".join(lines)


def matches_golden(text: str, name: str) -> None:
    """Compare with a golden file; CXRKIT_UPDATE_GOLDEN=1 writes it anew."""
    path = GOLDEN / name
    if os.environ.get("CXRKIT_UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")
