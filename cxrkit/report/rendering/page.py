"""Documents as one HTML page: nothing is fetched, and what needs a script can be read without it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cxrkit.base.errors import UserError
from cxrkit.report.rendering.page_views import sections, sort_key
from cxrkit.report.rendering.palette import DARK, LIGHT, palette
from cxrkit.report.rendering.svg import THEMED
from cxrkit.report.tables import Report

_TEMPLATES = Path(__file__).parent / "templates"


def page(documents: Sequence[Report], *, title: str, made: str, best: Sequence[str] = ()) -> str:
    """Return the documents as one self-contained page of HTML, a section each.

    title: of the whole. made: one line below it: when and with which version. best: names that have a colour first
    where there are more than colours, such as the runs by their mean AUC. Raises UserError where jinja2 or matplotlib
    is not installed.
    """
    environment = _environment()
    script = (_TEMPLATES / "page.js").read_text(encoding="utf-8")
    colours = palette((figure for report in documents for figure in report.figures), best)
    text: str = environment.get_template("page.html").render(
        title=title,
        made=made,
        sections=sections(documents, colours),
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
    environment.filters |= {"prose": _prose, "sort_key": sort_key}
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
