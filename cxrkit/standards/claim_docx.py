"""A report of tables as a Word document: what journals ask the CLAIM checklist to be handed in as."""

from __future__ import annotations

import io
from typing import Any

from cxrkit.base.errors import UserError
from cxrkit.report.document.tables import Report, Table

_WIDTHS_CM = (1.2, 5.0, 13.0, 2.4)  # number, item, answer, page: A4 lengthwise has 25.7 within its margins
_POINTS = 9


def docx_bytes(report: Report) -> bytes:
    """Return the checklist as a .docx file, with an empty column for page and line.

    Raises UserError where python-docx is not installed.
    """
    try:
        import docx
    except ImportError:
        raise UserError(
            "a .docx file needs python-docx, which is not installed", remedy="pip install 'cxrkit[report]'"
        ) from None
    from docx.enum.section import WD_ORIENT

    document = docx.Document()
    page = document.sections[0]
    page.orientation = WD_ORIENT.LANDSCAPE
    page.page_width, page.page_height = docx.shared.Cm(29.7), docx.shared.Cm(21.0)
    page.left_margin = page.right_margin = page.top_margin = page.bottom_margin = docx.shared.Cm(2.0)
    document.styles["Normal"].font.size = docx.shared.Pt(_POINTS)
    document.core_properties.title = report.title
    document.core_properties.author = ""
    document.add_heading(report.title, 0)
    for note in report.notes:
        document.add_paragraph(note)
    for table in report.tables:
        document.add_heading(table.title, 2)
        _add(document, table)
        for note in table.notes:
            document.add_paragraph(note)
    buffer = io.BytesIO()
    document.save(buffer)
    return buffer.getvalue()


def _add(document: Any, table: Table) -> None:
    checklist = all(column.left for column in table.columns)
    heads = [table.stub, *(" ".join(column.heading) for column in table.columns), *["Page / line"] * checklist]
    lines = [heads] + [[row.heading, *(cell.text for cell in row.cells), *[""] * checklist] for row in table.rows]
    made = document.add_table(rows=len(lines), cols=len(heads))
    made.style = "Table Grid"
    made.autofit = not checklist
    for number, (row, texts) in enumerate(zip(made.rows, lines, strict=True)):
        _fill(row, texts, _WIDTHS_CM if checklist else (), bold=number == 0)
    _repeat(made.rows[0])


def _fill(row: Any, texts: list[str], widths_cm: tuple[float, ...], *, bold: bool) -> None:
    from docx.shared import Cm

    for place, (cell, text) in enumerate(zip(row.cells, texts, strict=True)):
        before, marked, left_open = text.partition("author: ")
        paragraph = cell.paragraphs[0]
        paragraph.add_run(before).bold = bold or None
        if marked:
            paragraph.add_run(f"{marked}{left_open}").italic = True
        if widths_cm:
            cell.width = Cm(widths_cm[place])


def _repeat(row: Any) -> None:
    """Print the heading again where the table goes on over the page."""
    from docx.oxml import OxmlElement

    row._tr.get_or_add_trPr().append(OxmlElement("w:tblHeader"))
