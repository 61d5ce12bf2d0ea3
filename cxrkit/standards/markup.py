"""Markdown and YAML, as little of them as model cards need."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from cxrkit.report.document.tables import Report, Table
from cxrkit.report.rendering.formats import render


def plain(text: str) -> str:
    """Return text that Markdown shows as it is; `code` stays code."""
    pieces = " ".join(text.split()).split("`")
    for character in "\\*_<[":
        pieces[::2] = [piece.replace(character, f"\\{character}") for piece in pieces[::2]]
    return "`".join(pieces)


def section(table: Table) -> str:
    """Return a table under its title, as reports print it."""
    return render(Report("", (table,)), "md").partition("\n\n")[2].rstrip()


def yaml(value: Any) -> str:
    """Return mappings, lists and scalars as YAML 1.2 in block style.

    Text is written as JSON writes it, which YAML reads alike; so no word of it is taken for a number or a date.
    """
    return "\n".join(_lines(value)) + "\n"


def _lines(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _entry(f"{key}:", item)
    elif isinstance(value, list) and value:
        for item in value:
            first, *rest = _lines(item)
            yield f"- {first}"
            yield from (f"  {line}" for line in rest)
    else:
        yield _scalar(value)


def _entry(key: str, item: Any) -> Iterator[str]:
    if isinstance(item, Mapping | list) and item:
        yield key
        yield from (f"  {line}" for line in _lines(item))
    else:
        yield f"{key} {_scalar(item)}"


def _scalar(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    # YAML 1.1, which many still read, takes 1e-07 for text.
    return text.replace("e", ".0e") if isinstance(value, float) and "e" in text and "." not in text else text
