"""Documents as one HTML page: nothing is fetched, and what needs a script can be read without it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cxrkit.base.errors import UserError
from cxrkit.report.document.figures import Figure
from cxrkit.report.document.tables import Report
from cxrkit.report.rendering.drawing import draw
from cxrkit.report.rendering.page_views import one_line, sections, sort_key
from cxrkit.report.rendering.palette import DARK, LIGHT, palette
from cxrkit.report.rendering.svg import THEMED

_TEMPLATES = Path(__file__).parent / "templates"


def page(
    documents: Sequence[Report],
    *,
    title: str,
    made: str,
    best: Sequence[str] = (),
    said_once: Sequence[str] = (),
    drawn: Mapping[str, str] | None = None,
) -> str:
    """Return the documents as one self-contained page of HTML, a section each.

    title: of the whole. made: one line below it: when and with which version. best: names that have a colour first
    where there are more than colours, such as the runs by their mean AUC. said_once: notes of all documents that
    the page has at its head instead. drawn: SVGs of figures that are drawn already, with the same colours, by the
    figures' keys, which are unique then. Raises UserError where jinja2 or matplotlib is not installed.
    """
    environment = _environment()
    script = (_TEMPLATES / "page.js").read_text(encoding="utf-8")
    colours = palette((figure for report in documents for figure in report.figures), best)

    def svg(figure: Figure) -> str:
        return (drawn or {}).get(figure.key) or draw(figure, "svg", colours=colours).decode()

    documents = [
        replace(report, notes=tuple(note for note in report.notes if note not in said_once)) for report in documents
    ]
    text: str = environment.get_template("page.html").render(
        title=title,
        made=made,
        said_once=said_once,
        sections=sections(documents, svg),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        themes={"light": LIGHT, "dark": DARK},
        themed=THEMED,
    )
    return text


def _environment() -> Any:
    try:
        import jinja2
    except ImportError:
        raise UserError(
            "the page is made with jinja2, which is not installed", remedy="pip install 'cxrkit[report]'"
        ) from None
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"prose": _prose, "sort_key": sort_key, "one_line": one_line}
    return environment


def _prose(text: str) -> Any:
    """Return a text with its `code` as code, everything else escaped."""
    from markupsafe import Markup, escape

    pieces = text.split("`")
    if len(pieces) % 2 == 0:  # one without an end
        return escape(text)
    return Markup("").join(
        Markup("<code>{}</code>").format(piece) if index % 2 else escape(piece) for index, piece in enumerate(pieces)
    )
