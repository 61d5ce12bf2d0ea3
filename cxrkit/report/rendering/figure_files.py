"""Figures of documents as files: SVG for a page, PDF for a paper, PNG for slides."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from cxrkit.base.errors import UserError
from cxrkit.base.files import replacing
from cxrkit.report.rendering.drawing import Format, draw
from cxrkit.report.rendering.palette import palette
from cxrkit.report.tables import Report

FORMATS: tuple[Format, ...] = ("svg", "pdf", "png")


def write_figures(
    documents: Sequence[Report], folder: Path, formats: Sequence[str] = ("svg", "pdf"), best: Sequence[str] = ()
) -> list[Path]:
    """Write every figure of the documents into `folder` as REPORT-FIGURE.FORMAT; return the paths, in that order.

    A name has the same colour in all of them, and as in `page.page` with the same `best`. Raises UserError for an
    unknown format, and as `draw` does.
    """
    if unknown := [name for name in formats if name not in FORMATS]:
        raise UserError(f"figures as {unknown[0]}: there is no such format", remedy=f"choose {', '.join(FORMATS)}")
    colours = palette((figure for report in documents for figure in report.figures), best)
    written: list[Path] = []
    for report in documents:
        for figure in report.figures:
            name = _free("-".join(filter(None, map(_plain, (report.key, figure.key)))) or "figure", written)
            for format in FORMATS:
                if format in formats:
                    path = folder / f"{name}.{format}"
                    with replacing(path) as part:
                        part.write_bytes(draw(figure, format, colours=colours))
                    written.append(path)
    return written


def _plain(key: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", key).strip("-.")


def _free(name: str, written: Sequence[Path]) -> str:
    """Return a name that no file has yet: two documents may have a figure of the same key."""
    taken = {path.stem for path in written}
    found, number = name, 1
    while found in taken:
        number += 1
        found = f"{name}-{number}"
    return found
