"""`references.bib`: a BibTeX entry for each work that a report names, of what `data_manifests/published/` knows of it.

No field is made up: a work of which no author was read has none, and what is neither an arXiv number nor a DOI nor an
address stands as it is. Results of one work share an entry; a comment above it names them.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from cxrkit import __version__
from cxrkit.base import manifests
from cxrkit.base.plain_text import to_ascii
from cxrkit.report.literature import works
from cxrkit.report.literature.works import Work

FILE = "references.bib"
ALWAYS = ("baltruschat2019", "wang2017", "cxrkit")  # whose tables and splits these are, whose data, by what
_ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")
_DOI = re.compile(r"doi:(10\.\d{4,}/\S+)")
_NAME_AND_YEAR = re.compile(r"[a-z]+\d{4}")
_INITIALS = re.compile(r"(.+?) ((?:[A-Z]\.)+)")
_SPECIAL = re.compile(r"([&%$#_])")


@dataclass(frozen=True)
class Entry:
    """One entry of a BibTeX file."""

    key: str
    """By which it is cited."""

    kind: str
    """BibTeX's type: article, inproceedings, misc."""

    fields: Mapping[str, str]
    """By name, as they stand between the braces."""

    refs: tuple[str, ...] = ()
    """What the results of the work have in common in their `ref`."""


@cache
def cite_keys() -> Mapping[str, str]:
    """Return by what each published result is cited: all results of one work by the same key."""
    return {result: entry.key for entry, results in _entries() for result in results}


def bibtex(results: Iterable[str]) -> str:
    """Return the BibTeX file of these published results, by key, and of what is always cited."""
    wanted = set(results)
    shown = []
    for entry, members in _entries():
        named = [key for key in members if key in wanted]
        if named or entry.key in ALWAYS:
            shown.append(_text(entry, named))
    head = f"% Works that this report of cxrkit {__version__} names. Fields that are not here were not read.\n"
    return "\n".join([head, *shown])


@cache
def _entries() -> tuple[tuple[Entry, tuple[str, ...]], ...]:
    """Return all entries, each with the keys of its results: those of references.toml first."""
    own = [Entry(item["key"], item["kind"], item["fields"], tuple(item["refs"])) for item in _own()]
    members: dict[str, list[str]] = {entry.key: [] for entry in own}
    others: dict[tuple[str, str], list[Work]] = defaultdict(list)
    for work in works.literature().values():
        entry = next((entry for entry in own if any(ref in work.ref for ref in entry.refs)), None)
        if entry is not None:
            members[entry.key].append(work.key)
        else:
            others[work.ref or work.title, work.title].append(work)
    names = [_name(group[0].key) for group in others.values()]
    found = [(entry, tuple(members[entry.key])) for entry in own]
    for name, group in zip(names, others.values(), strict=True):
        key = name if names.count(name) == 1 and name not in members else group[0].key
        found.append((Entry(key, "misc", _fields(group[0])), tuple(work.key for work in group)))
    return tuple(found)


def _own() -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = manifests.read("published/references.toml")["entry"]
    return entries


def _name(key: str) -> str:
    """Return the part of a result's key that names its work: "xiao2023" of "xiao2023-vits-mae", or all of it."""
    first = key.partition("-")[0]
    return first if _NAME_AND_YEAR.fullmatch(first) else key


def _fields(work: Work) -> dict[str, str]:
    fields = {"author": _authors(work.authors)} if work.authors else {"key": work.key}  # BibTeX sorts by one of them
    fields |= {"title": _escaped(work.title), "year": f"{work.year}"}
    rest = []
    for part in re.split(r"[;,] +(?=doi:)|; +", work.ref):
        if found := _ARXIV.fullmatch(part):
            fields |= {"eprint": found[1], "archiveprefix": "arXiv"}
        elif found := _DOI.match(part):
            fields["doi"] = found[1]
        elif part.startswith("github.com/"):
            fields["url"] = f"https://{part}"
        elif part:
            rest.append(part)
    if rest:
        fields["howpublished"] = _escaped("; ".join(rest))
    return fields


def _authors(text: str) -> str:
    """Return authors as BibTeX reads them: "Ma C., Guan, Huang, et al." is "Ma, C. and Guan and Huang and others"."""
    found = []
    for name in re.split(r", *", re.sub(r",? et al\.?$", ", others", text)):
        initials = _INITIALS.fullmatch(name)
        if initials:
            found.append(f"{_escaped(initials[1])}, {initials[2]}")
        else:  # a family name of two words, and whoever goes by the name of an account
            found.append(f"{{{_escaped(name)}}}" if " " in name else _escaped(name))
    return " and ".join(found)


def _escaped(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", to_ascii(text).replace('"', "''"))


def _text(entry: Entry, named: Iterable[str]) -> str:
    comment = [f"% {', '.join(named)}"] if named else []
    fields = dict(entry.fields) | ({"version": __version__} if entry.key == "cxrkit" else {})
    fields |= {"title": f"{{{fields['title']}}}"}  # its capitals stay
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items()]
    return "\n".join([*comment, f"@{entry.kind}{{{entry.key},", *lines, "}", ""])
