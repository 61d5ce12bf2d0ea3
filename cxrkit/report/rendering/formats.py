"""The formats of a report on disk, each a function of the whole report, and which one a file's ending names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cxrkit import __version__
from cxrkit.base.errors import UserError, shown
from cxrkit.base.files import write_text
from cxrkit.report.document.tables import Report
from cxrkit.report.rendering.document import as_json
from cxrkit.report.rendering.latex import latex
from cxrkit.report.rendering.markdown import markdown
from cxrkit.report.rendering.tidy import tidy


@dataclass(frozen=True)
class Format:
    """One way to write a report down."""

    ending: str
    """Of its files, with the dot."""

    render: Callable[[Report, str], str]
    """The report, and the folder in which its figures lie by key ("" where they are not drawn) -> the text."""


def _html(report: Report, figures: str = "") -> str:
    from cxrkit.report.rendering.page import page

    return page([report], title=report.title, made=f"cxrkit {__version__}")


FORMATS: dict[str, Format] = {
    "md": Format(".md", markdown),
    "latex": Format(".tex", latex),
    "csv": Format(".csv", tidy),
    "json": Format(".json", as_json),
    "html": Format(".html", _html),
}


def render(report: Report, format: str, figures: str = "") -> str:
    """Return the report as `md`, `latex`, `csv`, `json` or `html`. Raises UserError for another format.

    figures: the folder in which its figures lie, as seen from the text's own file, for links to them; "" for none.
    """
    if format not in FORMATS:
        raise UserError(f"--format {format}: there is no such format", remedy=f"choose {', '.join(FORMATS)}")
    return FORMATS[format].render(report, figures)


def write(report: Report, out: Path, format: str) -> None:
    """Write the rendered report to `out`, atomically."""
    write_text(out, render(report, format))


def format_of(out: Path, *, choosable: bool = False, folders: bool = False) -> str:
    """Return the format that a file's ending names. Raises UserError for an ending that names none.

    choosable: whether the command has --format, which an ending can then be left to. folders: whether it has --all,
    too, which takes a folder.
    """
    endings = {found.ending: name for name, found in FORMATS.items()}
    if out.suffix not in endings:
        choice = f", or choose with --format {', '.join(FORMATS)}" if choosable else ""
        folder = f"; a folder of all documents is written with --all --out {shown(out)}" if folders else ""
        names = f"the ending {out.suffix!r} names no format" if out.suffix else "has no ending that names a format"
        raise UserError(f"--out {out}: {names}", remedy=f"end it in {', '.join(endings)}{choice}{folder}")
    return endings[out.suffix]
