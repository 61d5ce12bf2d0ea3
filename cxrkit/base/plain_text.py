"""Output that a console without UTF-8 can show: signs of ours become ASCII, what it cannot spell becomes "?".

`LANG=C`, `PYTHONIOENCODING=ascii`, and some Windows and cluster consoles end in an error at the first "±" otherwise.
"""

from __future__ import annotations

import codecs
from typing import TextIO

# Every sign beyond ASCII that cxrkit itself prints.
_ASCII = {
    "±": "+-",
    "×": "x",  # noqa: RUF001
    "·": "-",
    "†": "#",
    "–": "-",  # noqa: RUF001
    "—": "-",
    "…": "...",
    "─": "-",
    "━": "-",
    "│": "|",
    "✓": "ok",
    "→": "->",
}
_HANDLER = "cxrkit-ascii"


def to_ascii(text: str) -> str:
    """Return `text` in ASCII; a character that is none of our signs becomes "?"."""
    return "".join(_ASCII.get(character, character if character.isascii() else "?") for character in text)


def spelled(text: str, encoding: str) -> str:
    """Return `text` with what `encoding` cannot write in ASCII."""
    return text.encode(encoding, _HANDLER).decode(encoding)


def survive_any_encoding(*streams: TextIO) -> None:
    """Make the streams write what they cannot encode as ASCII, instead of raising UnicodeEncodeError."""
    for stream in streams:
        # A test's or a notebook's stand-in for a stream may have no encoding at all.
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors=_HANDLER)


def _replace(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError), "only registered for writing"
    return to_ascii(error.object[error.start : error.end]), error.end


codecs.register_error(_HANDLER, _replace)
