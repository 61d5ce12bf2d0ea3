"""A report as LaTeX with booktabs, to be read into an article: every table fits its page.

A table that is too wide is set in parts below each other, columns of text wrap, and a table that is too high for a page
breaks over several: latex_layout.py decides.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from cxrkit.report.document.figures import Figure
from cxrkit.report.document.tables import Cell, Report, Table
from cxrkit.report.literature.references import FILE as BIBLIOGRAPHY
from cxrkit.report.literature.references import cite_keys
from cxrkit.report.rendering.latex_layout import (
    BESIDE,
    FLOAT,
    PAGE_HEIGHT,
    Part,
    heading_height,
    height_of,
    laid_out,
    lines_of,
    notes_height,
)
from cxrkit.report.rendering.latex_text import escaped, number_or_text

CITE = "\\cxrkitcite"  # prints nothing until an article says how it cites


def latex(report: Report, figures: str = "") -> str:
    """Return the report. figures: the folder of the figures' PDF files, by key; "" where they are left out."""
    labels: Counter[str] = Counter()
    # Long commands and file names do not break: wide gaps are better than words in the margin.
    body = [f"{{\\sloppy {escaped(paragraph, breaks=True)}\\par}}" for paragraph in report.text]
    for table in report.tables:
        labels[table.key] += 1
        key = re.sub(r"[^\w-]+", "-", table.key) + (f"-{labels[table.key]}" if labels[table.key] > 1 else "")
        body += _table(table, f"tab:{key}" if table.key else "")
    body += [_figure(figure, figures) for figure in report.figures if figures]
    body += [_notes(report.notes)] * bool(report.notes)
    return "\n\n".join([_head(report.title, "\n".join(body)), *body]) + "\n"


def _head(title: str, body: str) -> str:
    """Return what an article needs for this: packages, the place of figures, and how published results are cited."""
    packages = ["booktabs", *["array"] * ("arraybackslash" in body), *["longtable"] * ("{longtable}" in body)]
    packages += ["graphicx"] * ("includegraphics" in body)
    lines = [f"% {' '.join(title.split())}", f"% needs \\usepackage{{{','.join(packages)}}}"]
    if "includegraphics" in body:
        lines.append("% and, in an article elsewhere, this file's folder as seen from it: \\graphicspath{{FOLDER/}}")
    if f"{CITE}{{" in body:
        lines.append(
            f"% cites works of {BIBLIOGRAPHY} where the preamble has \\newcommand{{{CITE}}}[1]{{~\\cite{{#1}}}}"
        )
        lines.append(f"\\providecommand{{{CITE}}}[1]{{}}")
    return "\n".join(lines)


def _cited(result: str) -> str:
    """Return the citation of a published result, "" for what is none."""
    return f"{CITE}{{{cite_keys()[result]}}}" if result in cite_keys() else ""


def _table(table: Table, label: str) -> Iterator[str]:
    """Yield the parts of a table, its notes in each of them; behind all of them where one has no room for notes."""
    table, parts = laid_out(table)
    heights = [height_of(table, part) for part in parts]
    inside = all(height <= FLOAT and height + BESIDE + notes_height(table.notes) <= PAGE_HEIGHT for height in heights)
    for number, (part, height) in enumerate(zip(parts, heights, strict=True)):
        caption = escaped(table.title, breaks=True) + (" (continued)" if number else "")
        said = f"\\caption{{{caption}}}" + (f"\\label{{{label}{f'-part{number + 1}' * bool(number)}}}" if label else "")
        build = _float if height <= FLOAT else _long
        yield build(table, part, said, table.notes if inside else ())
    if table.notes and not inside:
        yield _notes(table.notes, f"To Table~\\ref{{{label}}}:" if label else "")


def _float(table: Table, part: Part, caption: str, notes: Sequence[str]) -> str:
    lines = [
        "\\begin{table}[htbp]",
        f"  \\centering{part.font.set}",
        f"  {caption}",
        f"  \\begin{{tabular}}{{{_kinds(table, part)}}}",
        "    \\toprule",
        *_heading(table, part),
        "    \\midrule",
        *_body(table, part),
        "    \\bottomrule",
        "  \\end{tabular}",
    ]
    lines += ["  \\par\\smallskip", f"  {_notes(notes)}"] * bool(notes)
    return "\n".join([*lines, "\\end{table}"])


def _long(table: Table, part: Part, caption: str, notes: Sequence[str]) -> str:
    del notes  # they stand behind it
    heading = ["    \\toprule", *_heading(table, part), "    \\midrule"]
    return "\n".join([
        f"{{{part.font.set}",
        f"  \\begin{{longtable}}{{{_kinds(table, part)}}}",
        f"    {caption}\\\\",
        *heading,
        "    \\endfirsthead",
        *heading,
        "    \\endhead",
        *_body(table, part),
        "    \\bottomrule",
        "  \\end{longtable}}",
    ])  # fmt: skip


def _kinds(table: Table, part: Part) -> str:
    def wrapping(width: float) -> str:
        return f">{{\\raggedright\\arraybackslash}}p{{{width:.0f}pt}}"

    kinds = [wrapping(part.stub) if part.stub else "l"]
    for index in part.columns:
        plain = "l" if table.columns[index].left else "r"
        kinds.append(wrapping(part.wrapped[index]) if index in part.wrapped else plain)
    return f"@{{}}{''.join(kinds)}@{{}}"


def _heading(table: Table, part: Part) -> list[str]:
    """Return the heading's lines, each a row of the table, aligned at the bottom."""
    columns = [table.columns[index] for index in part.columns]
    height = heading_height(table, part)
    lines = []
    for line in range(height):
        texts = [escaped(table.stub) if line == height - 1 else ""]
        for column in columns:
            above = height - len(column.heading)
            cited = _cited(column.cite) if line == height - 1 else ""
            texts.append(escaped(column.heading[line - above]) + cited if line >= above else "")
        lines.append(f"    {_line(texts)}")
    return lines


def _body(table: Table, part: Part) -> list[str]:
    lines: list[str] = []
    airy = any(lines_of(row, part) > 1 for row in table.rows)
    for row in table.rows:
        if row.rule_above:
            lines.append("    \\midrule")
        elif airy and lines:
            lines.append("    \\addlinespace")
        cells = [_cell(row.cells[index], wraps=index in part.wrapped) for index in part.columns]
        lines.append(f"    {_line([escaped(row.heading, breaks=bool(part.stub)) + _cited(row.cite), *cells])}")
    return lines


def _line(texts: list[str]) -> str:
    if texts[0].startswith(("[", "*")):  # the line above would take it for its own
        texts = [f"{{}}{texts[0]}", *texts[1:]]
    return " & ".join(texts) + " \\\\"


def _cell(cell: Cell, *, wraps: bool) -> str:
    text = escaped(cell.text, breaks=True) if wraps else number_or_text(cell.text)
    return f"\\textbf{{{text}}}" if cell.bold else text


def _notes(notes: Iterable[str], before: str = "") -> str:
    """Return notes in small print, a paragraph each: a line end would take a star behind it for its own."""
    texts = [before] * bool(before) + [escaped(note, breaks=True) for note in notes]
    return "{\\footnotesize\\raggedright\\setlength{\\parindent}{0pt}\n  " + "\\par\n  ".join(texts) + "\\par}"


def _figure(figure: Figure, folder: str) -> str:
    return "\n".join([
        "\\begin{figure}[htbp]",
        "  \\centering",
        f"  \\includegraphics[width=\\linewidth,height=0.7\\textheight,keepaspectratio]{{{folder}/{figure.key}.pdf}}",
        f"  \\caption{{{escaped(figure.caption, breaks=True)}}}\\label{{fig:{figure.key}}}",
        "\\end{figure}",
    ])  # fmt: skip
