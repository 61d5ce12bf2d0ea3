"""Panels as PNG files, and all of them in one page of HTML that fetches nothing."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxrkit.base.errors import UserError
from cxrkit.base.files import replacing, write_text

if TYPE_CHECKING:
    from PIL.Image import Image

PAGE = "index.html"
_QUALITY = 88  # of the page's JPEGs, a fifth of the PNGs' size
_EFFORT = 4  # of zlib, for PNGs: 15 % larger than with its most, which takes 13 times as long
_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Exhibit:
    """One panel of a gallery."""

    heading: str
    """The finding that it is shown under."""

    name: str
    """The film's."""

    score: float
    """The network's, for the finding."""

    caption: str
    """What is to be said below it."""

    words: str
    """What it shows, for who cannot see it."""

    picture: Image
    """The panel."""

    @property
    def file(self) -> str:
        """The name of its PNG."""
        return f"{_plain(self.heading)}-{_plain(Path(self.name).stem)}.png"

    @property
    def source(self) -> str:
        """The picture as a data URL."""
        buffer = io.BytesIO()
        self.picture.save(buffer, "JPEG", quality=_QUALITY)
        return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def write(folder: Path, exhibits: Sequence[Exhibit], *, title: str, about: Sequence[str]) -> Path:
    """Write a PNG for each exhibit and the page into `folder`; return the page. about: lines below the title.

    Raises UserError where jinja2 is missing, before anything is written, and where a file cannot be written.
    """
    text = page(exhibits, title=title, about=about)
    for exhibit in exhibits:
        buffer = io.BytesIO()
        exhibit.picture.save(buffer, "PNG", compress_level=_EFFORT)
        with replacing(folder / exhibit.file) as part:
            part.write_bytes(buffer.getbuffer())
    write_text(folder / PAGE, text)
    return folder / PAGE


def page(exhibits: Sequence[Exhibit], *, title: str, about: Sequence[str]) -> str:
    """Return the page: the exhibits under their headings, in their order."""
    headings = dict.fromkeys(exhibit.heading for exhibit in exhibits)
    sections = [(heading, [item for item in exhibits if item.heading == heading]) for heading in headings]
    text: str = _environment().get_template("gallery.html").render(title=title, about=about, sections=sections)
    return text


def _environment() -> Any:
    try:
        import jinja2
    except ImportError:
        raise UserError(
            "the gallery is made with jinja2, which is not installed", remedy="pip install 'cxrkit[explain]'"
        ) from None
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _plain(text: str) -> str:
    """Return text that is a file's name everywhere."""
    return re.sub(r"[^A-Za-z0-9_.]+", "_", text).strip("._") or "image"
