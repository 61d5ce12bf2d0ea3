"""What a legend calls things: names on lines that are broken between words, or without some of their parts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from cxrkit.report.rendering.marks import SHORT, shortened

LINES = 3  # of one name at most; a longer one loses parts
_LEFT_OUT = "…"


def legend_texts(names: Sequence[str]) -> list[str]:
    """Return what a legend says for each name, lines of at most SHORT letters: no two names are called the same.

    A name is a head and parts, "resnet50, at 64 px, 3 epochs". One with too many for LINES lines loses parts, from the
    last on, as long as that tells it from the others; no word is ever cut but one that is longer than a line.
    """
    wrapped = [_lines(" ".join(name.split())) for name in names]
    short = [lines if len(lines) <= LINES else _fewer_parts(name) for name, lines in zip(names, wrapped, strict=True)]
    counts = Counter(map(tuple, short))
    chosen = [few if counts[tuple(few)] == 1 else lines for few, lines in zip(short, wrapped, strict=True)]
    return ["\n".join(lines) for lines in chosen]


def _fewer_parts(name: str) -> list[str]:
    parts = " ".join(name.split()).split(", ")
    while len(parts) > 1:
        parts.pop()
        lines = _lines(", ".join((*parts, _LEFT_OUT)))
        if len(lines) <= LINES:
            return lines
    return [shortened(name)]


def _lines(text: str) -> list[str]:
    """Return the text on lines of at most SHORT letters: broken behind a comma where it can be, else between words."""
    lines = [""]
    for part in re.findall(r"[^,]+,? ?", text):
        if len((lines[-1] + part).rstrip()) <= SHORT:
            lines[-1] += part
            continue
        if lines[-1]:
            lines.append("")
        words = re.findall(r"[^\s/_-]+[\s/_-]*|[\s/_-]+", part)
        for word in words if max(map(len, words)) <= SHORT else [shortened(part)]:
            if lines[-1] and len((lines[-1] + word).rstrip()) > SHORT:
                lines.append("")
            lines[-1] += word
    return [line.strip() for line in lines]
