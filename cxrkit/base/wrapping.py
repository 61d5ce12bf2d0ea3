"""Lines of a terminal, broken between words and never inside a name: a path or an address can be copied as it is."""

from __future__ import annotations

import textwrap


def wrapped(text: str, width: int, *, indent: str = "") -> list[str]:
    """Return the lines of `text` at most `width` wide; what has no space stays whole, even if it is wider.

    Line breaks and leading spaces of `text` are kept; each line that is broken goes on below its own beginning, and
    `indent` further in.
    """
    lines: list[str] = []
    for line in text.split("\n"):
        own = line[: len(line) - len(line.lstrip())]
        lines += textwrap.wrap(
            line,
            width,
            subsequent_indent=own + indent,
            break_long_words=False,
            break_on_hyphens=False,
            replace_whitespace=False,
        ) or [""]
    return lines
