"""A report as text: Markdown, CSV or LaTeX (booktabs)."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable
from pathlib import Path

from cxrkit.base.errors import UserError
from cxrkit.base.files import write_text
from cxrkit.report.tables import Cell, Column, Report, Table


def render(report: Report, format: str) -> str:
    """Return the report as `md`, `csv` or `latex`. Raises UserError for another format."""
    if format not in FORMATS:
        raise UserError(f"--format {format}: there is no such format", remedy=f"choose {', '.join(FORMATS)}")
    return FORMATS[format](report)


def write(report: Report, out: Path, format: str) -> None:
    """Write the rendered report to `out`, atomically."""
    write_text(out, render(report, format))


def format_of(out: Path) -> str:
    """Return the format that a file's ending names. Raises UserError for an ending that names none."""
    endings = {".md": "md", ".csv": "csv", ".tex": "latex"}
    if out.suffix not in endings:
        raise UserError(
            f"--out {out}: the ending {out.suffix!r} names no format",
            remedy=f"end it in {', '.join(endings)}, or choose with --format {', '.join(FORMATS)}",
        )
    return endings[out.suffix]


def _markdown(report: Report) -> str:
    parts = [f"# {report.title}"]
    for table in report.tables:
        parts += [f"## {_plain_markdown(table.title)}", _markdown_table(table)]
        if table.notes:
            parts.append("\n".join(f"- {_plain_markdown(note)}" for note in table.notes))
    if report.notes:
        parts += ["## Notes", "\n".join(f"- {_plain_markdown(note)}" for note in report.notes)]
    return "\n\n".join(parts) + "\n"


def _markdown_table(table: Table) -> str:
    heads = ["<br>".join(map(_plain_markdown, column.heading)) for column in table.columns]
    marks = ["---" if column.left else "---:" for column in table.columns]
    lines = [[table.stub, *heads], ["---", *marks]]
    for row in table.rows:
        cells = [f"**{_plain_markdown(cell.text)}**" if cell.bold else _plain_markdown(cell.text) for cell in row.cells]
        lines.append([_plain_markdown(row.heading), *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _plain_markdown(text: str) -> str:
    """Escape what Markdown would read as markup, but not inside `code`."""
    pieces = _one_line(text).split("`")
    for character in "\\|*_<":
        pieces[::2] = [piece.replace(character, "\\" + character) for piece in pieces[::2]]
    return "`".join(pieces)


def _one_line(text: str) -> str:
    """Return `text` without line ends, which would end a row."""
    return " ".join(text.split())


def _csv(report: Report) -> str:
    """One row per label under its contract name; a column per field of every column that has fields."""
    columns = [
        (_by_key(table, index), column)
        for table in report.tables
        for index, column in enumerate(table.columns)
        if column.fields
    ]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["label", *(f"{column.name}: {name}" for _, column in columns for name in column.fields)])
    for key in dict.fromkeys(key for cells, _ in columns for key in cells):
        values = [_number(cells.get(key), name) for cells, column in columns for name in column.fields]
        writer.writerow([key, *values])
    return out.getvalue()


def _by_key(table: Table, index: int) -> dict[str, Cell]:
    return {row.key: row.cells[index] for row in table.rows if row.key}


def _number(cell: Cell | None, name: str) -> str:
    value = cell.values.get(name) if cell else None
    return "" if value is None else str(value) if isinstance(value, int) else f"{value:.6g}"


def _latex(report: Report) -> str:
    parts = [f"% {report.title}\n% needs \\usepackage{{booktabs}}"]
    parts += [_latex_table(table) for table in report.tables]
    parts += ["\\noindent{\\footnotesize " + _latex_lines(report.notes, "\n") + "\\par}"] * bool(report.notes)
    return "\n\n".join(parts) + "\n"


def _latex_table(table: Table) -> str:
    kinds = "".join("p{0.4\\linewidth}" if column.left else "r" for column in table.columns)
    lines = [
        "\\begin{table}[htbp]",
        "  \\centering",
        f"  \\caption{{{_plain_latex(table.title)}}}",
        f"  \\begin{{tabular}}{{l{kinds}}}",
        "    \\toprule",
        *_latex_heading(table.stub, table.columns),
        "    \\midrule",
    ]
    for row in table.rows:
        if row.rule_above:
            lines.append("    \\midrule")
        cells = [_latex_cell(cell) for cell in row.cells]
        lines.append(f"    {_latex_line([_plain_latex(row.heading), *cells])}")
    lines += ["    \\bottomrule", "  \\end{tabular}"]
    if table.notes:
        notes = _latex_lines(table.notes, "\n    ")
        lines += ["  \\par\\smallskip", f"  \\parbox{{\\linewidth}}{{\\footnotesize {notes}}}"]
    return "\n".join([*lines, "\\end{table}"])


def _latex_lines(notes: Iterable[str], between: str) -> str:
    """Return the notes, each on a line, whose end would take a star or a bracket behind it for its own."""
    texts = (_plain_latex(note) for note in notes)
    return f" \\\\{between}".join(f"{{}}{text}" if text[:1] in ("*", "[") else text for text in texts)


def _latex_heading(stub: str, columns: Iterable[Column]) -> list[str]:
    """Return the heading's lines, each a row of the table, aligned at the bottom."""
    columns = list(columns)
    height = max((len(column.heading) for column in columns), default=1)
    lines = []
    for line in range(height):
        texts = [_plain_latex(stub) if line == height - 1 else ""]
        for column in columns:
            above = height - len(column.heading)
            texts.append(_plain_latex(column.heading[line - above]) if line >= above else "")
        lines.append("    " + _latex_line(texts))
    return lines


def _latex_line(texts: list[str]) -> str:
    return " & ".join(texts) + " \\\\"


def _latex_cell(cell: Cell) -> str:
    text = _plain_latex(cell.text)
    return f"\\textbf{{{text}}}" if cell.bold else text


_LATEX = {
    "\\": "\\textbackslash{}",
    "±": "$\\pm$",
    "†": "$\\dagger$",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    **{character: "\\" + character for character in "&%$#_{}"},
}


def _plain_latex(text: str) -> str:
    """Escape text; `code` becomes typewriter, and its dashes stay two dashes."""
    pieces = [
        "".join(_LATEX.get(character, character) for character in piece)
        for piece in " ".join(text.splitlines()).split("`")
    ]
    pieces[1::2] = [f"\\texttt{{{piece.replace('--', '-{}-')}}}" for piece in pieces[1::2]]
    return "".join(pieces)


FORMATS: dict[str, Callable[[Report], str]] = {"md": _markdown, "csv": _csv, "latex": _latex}
