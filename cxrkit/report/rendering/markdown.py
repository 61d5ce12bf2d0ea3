"""A report as Markdown, with tables as GitHub and pandoc read them."""

from __future__ import annotations

from collections.abc import Iterable

from cxrkit.report.document.figures import Figure
from cxrkit.report.document.tables import Report, Table


def markdown(report: Report, figures: str = "") -> str:
    """Return the report. figures: the folder of the figures' SVG files, by key, as a link; "" where they are not."""
    parts = [f"# {_plain(report.title)}", *map(_plain, report.text)]
    for table in report.tables:
        parts += [f"## {_plain(table.title)}", _table(table), *_list(table.notes)]
    for figure in report.figures if figures else ():
        parts += [f"## {_plain(figure.title)}", _figure(figure, figures), _plain(figure.caption)]
    if report.notes:
        parts += ["## Notes", *_list(report.notes)]
    return "\n\n".join(parts) + "\n"


def _figure(figure: Figure, folder: str) -> str:
    return f"![{_plain(figure.title)}]({folder}/{figure.key}.svg)"


def _list(notes: Iterable[str]) -> list[str]:
    lines = [f"- {_plain(note)}" for note in notes]
    return ["\n".join(lines)] if lines else []


def _table(table: Table) -> str:
    heads = ["<br>".join(map(_plain, column.heading)) for column in table.columns]
    marks = ["---" if column.left else "---:" for column in table.columns]
    lines = [[_plain(table.stub), *heads], ["---", *marks]]
    for row in table.rows:
        cells = [f"**{_plain(cell.text)}**" if cell.bold else _plain(cell.text) for cell in row.cells]
        lines.append([_plain(row.heading), *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _plain(text: str) -> str:
    """Escape what Markdown would read as markup, but not inside `code`; a line end would end a row."""
    pieces = " ".join(text.split()).split("`")
    for character in "\\|*_<":
        pieces[::2] = [piece.replace(character, "\\" + character) for piece in pieces[::2]]
    return "`".join(pieces)
