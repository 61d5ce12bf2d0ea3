"""A report as LaTeX with booktabs, to be read into an article: every table fits its page.

A table that is too wide is set in parts below each other, columns of text wrap, and a table that is too high for a page
breaks over several. The sizes are those of the class `article` at 10 points on letter paper, the narrowest of its kind.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from cxrkit.report.figures import Figure
from cxrkit.report.rendering.latex_text import escaped, number_or_text, width_of
from cxrkit.report.tables import Cell, Report, Row, Table

PAGE_WIDTH, PAGE_HEIGHT = 345.0, 550.0  # points
_SIZE, _LINE = 9.25, 11.0  # \small: cmr9 is a little wider for its size, and stands on lines of 11 points
_NOTE_SIZE, _NOTE_LINE = 8.5, 9.5  # \footnotesize
_GAP = 8.0  # twice \tabcolsep
_STUB = 130.0  # row headings that are wider wrap
_PROSE = 95.0  # the least width of a column that wraps
_FLOAT = 440.0  # a table that is higher does not float, but breaks over pages
_BESIDE = 60.0  # of a float: caption and the white around it
_FILL = 1.5  # lines of a wrapped text are not filled to the last point


def latex(report: Report, figures: str = "") -> str:
    """Return the report. figures: the folder of the figures' PDF files, by key; "" where they are left out."""
    labels: Counter[str] = Counter()
    body = []
    for table in report.tables:
        labels[table.key] += 1
        key = re.sub(r"[^\w-]+", "-", table.key) + (f"-{labels[table.key]}" if labels[table.key] > 1 else "")
        body += _table(table, f"tab:{key}" if table.key else "")
    body += [_figure(figure, figures) for figure in report.figures if figures]
    body += [_notes(report.notes)] * bool(report.notes)
    return "\n\n".join([_head(report.title, "\n".join(body)), *body]) + "\n"


def _head(title: str, body: str) -> str:
    packages = ["booktabs", *["array"] * ("arraybackslash" in body), *["longtable"] * ("{longtable}" in body)]
    packages += ["graphicx"] * ("includegraphics" in body)
    return f"% {' '.join(title.split())}\n% needs \\usepackage{{{','.join(packages)}}}"


@dataclass(frozen=True)
class _Part:
    """Columns of a table that stand side by side on one page."""

    columns: Sequence[int]
    """By index."""

    stub: float
    """Width of the row headings in points where they wrap; 0: they do not."""

    wrapped: dict[int, float]
    """Width in points of each column that wraps."""


def _parts(table: Table) -> list[_Part]:
    """Return as few parts as fit, with about as many columns each."""
    natural = [_natural(table, index) for index in range(len(table.columns))]
    needed = [min(width, _PROSE) if table.columns[index].left else width for index, width in enumerate(natural)]
    widest = max(_width(text) for text in (table.stub, *(row.heading for row in table.rows)))
    stub = _STUB if widest > _STUB else 0.0
    left = PAGE_WIDTH - (stub or widest)
    groups = _grouped(needed, left, len(needed))
    even = _grouped(needed, left, math.ceil(len(needed) / len(groups)))
    groups = even if len(even) == len(groups) else groups
    return [_Part(group, stub, _wrapped(table, group, natural, left)) for group in groups]


def _grouped(needed: Sequence[float], width: float, most: int) -> list[list[int]]:
    groups: list[list[int]] = [[]]
    used = 0.0
    for index, needs in enumerate(needed):
        if groups[-1] and (used + needs + _GAP > width or len(groups[-1]) == most):
            groups.append([])
            used = 0.0
        groups[-1].append(index)
        used += needs + _GAP
    return groups


def _wrapped(table: Table, group: Sequence[int], natural: Sequence[float], width: float) -> dict[int, float]:
    """Share what is left among the columns of text: those that need less than their share take what they need."""
    free = width - _GAP * len(group)
    texts = sorted((index for index in group if table.columns[index].left), key=lambda index: natural[index])
    free -= sum(natural[index] for index in group if not table.columns[index].left)
    wrapped = {}
    for place, index in enumerate(texts):
        share = free / (len(texts) - place)
        if natural[index] > share:
            wrapped[index] = max(share, _PROSE / 2)
        free -= min(natural[index], share)
    return wrapped


def _natural(table: Table, index: int) -> float:
    """Return the width of a column without any wrapping."""
    cells = [_width(row.cells[index].text, bold=row.cells[index].bold) for row in table.rows]
    return max([*map(_width, table.columns[index].heading), *cells], default=0.0)


def _width(text: str, *, bold: bool = False) -> float:
    return width_of(text, _SIZE, bold=bold)


def _lines(row: Row, part: _Part) -> int:
    """Return about how many lines a row takes."""
    wrapped = [(_width(row.cells[index].text), width) for index, width in part.wrapped.items()]
    wrapped += [(_width(row.heading), part.stub)] * bool(part.stub)
    return max((math.ceil(_FILL * text / width) if text > width else 1 for text, width in wrapped), default=1)


def _table(table: Table, label: str) -> Iterator[str]:
    """Yield the parts of a table, and its notes behind them where the last part has no room for them."""
    parts = _parts(table)
    heights = [_LINE * (_heading_height(table, part) + sum(_lines(row, part) for row in table.rows)) for part in parts]
    written = sum(math.ceil(_FILL * width_of(note, _NOTE_SIZE) / PAGE_WIDTH) for note in table.notes)
    inside = heights[-1] <= _FLOAT and heights[-1] + _BESIDE + _NOTE_LINE * written <= PAGE_HEIGHT
    for number, (part, height) in enumerate(zip(parts, heights, strict=True)):
        caption = escaped(table.title, breaks=True) + (" (continued)" if number else "")
        said = f"\\caption{{{caption}}}" + (f"\\label{{{label}{f'-part{number + 1}' * bool(number)}}}" if label else "")
        last = number == len(parts) - 1
        build = _float if height <= _FLOAT else _long
        yield build(table, part, said, table.notes if last and inside else ())
    if table.notes and not inside:
        yield _notes(table.notes, f"To Table~\\ref{{{label}}}:" if label else "")


def _heading_height(table: Table, part: _Part) -> int:
    return max((len(table.columns[index].heading) for index in part.columns), default=1)


def _float(table: Table, part: _Part, caption: str, notes: Sequence[str]) -> str:
    lines = [
        "\\begin{table}[htbp]",
        "  \\centering\\small\\setlength{\\tabcolsep}{4pt}",
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


def _long(table: Table, part: _Part, caption: str, notes: Sequence[str]) -> str:
    del notes  # they stand behind it
    heading = ["    \\toprule", *_heading(table, part), "    \\midrule"]
    return "\n".join([
        "{\\small\\setlength{\\tabcolsep}{4pt}",
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


def _kinds(table: Table, part: _Part) -> str:
    def wrapping(width: float) -> str:
        return f">{{\\raggedright\\arraybackslash}}p{{{width:.0f}pt}}"

    kinds = [wrapping(part.stub) if part.stub else "l"]
    for index in part.columns:
        plain = "l" if table.columns[index].left else "r"
        kinds.append(wrapping(part.wrapped[index]) if index in part.wrapped else plain)
    return f"@{{}}{''.join(kinds)}@{{}}"


def _heading(table: Table, part: _Part) -> list[str]:
    """Return the heading's lines, each a row of the table, aligned at the bottom."""
    columns = [table.columns[index] for index in part.columns]
    height = _heading_height(table, part)
    lines = []
    for line in range(height):
        texts = [escaped(table.stub) if line == height - 1 else ""]
        for column in columns:
            above = height - len(column.heading)
            texts.append(escaped(column.heading[line - above]) if line >= above else "")
        lines.append(f"    {_line(texts)}")
    return lines


def _body(table: Table, part: _Part) -> list[str]:
    lines = []
    for row in table.rows:
        if row.rule_above:
            lines.append("    \\midrule")
        cells = [_cell(row.cells[index], wraps=index in part.wrapped) for index in part.columns]
        lines.append(f"    {_line([escaped(row.heading, breaks=bool(part.stub)), *cells])}")
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
        f"  \\includegraphics[width=\\linewidth]{{{folder}/{figure.key}.pdf}}",
        f"  \\caption{{{escaped(figure.caption, breaks=True)}}}\\label{{fig:{figure.key}}}",
        "\\end{figure}",
    ])  # fmt: skip
