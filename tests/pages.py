"""The pages of the repository, and what stands in their code blocks."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from conftest import REPOSITORY

PAGES = sorted(
    path.relative_to(REPOSITORY).as_posix()
    for path in [
        *REPOSITORY.glob("*.md"),
        *(REPOSITORY / "docs").rglob("*.md"),
        *(REPOSITORY / "benchmarks").rglob("*.md"),
        *(REPOSITORY / "examples").rglob("*.md"),
    ]
    if "results" not in path.parts and path.name != "CHANGELOG.md"
)
LANGUAGES = {"sh": "commands", "python": "code", "toml": "files", "text": "output, which nothing reads"}
_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```\s*$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?:(?<=\n\n)|\A)((?:    [^\n]*\n|\n(?=    ))+)")


def blocks(page: str, language: str) -> list[str]:
    """Return the code of a page in one language, block by block."""
    return [code for name, code in _FENCE.findall((REPOSITORY / page).read_text()) if name == language]


def languages(page: str) -> set[str]:
    """Return what the blocks of a page are in; "" is a block that does not say it."""
    text = (REPOSITORY / page).read_text()
    found = {name for name, _ in _FENCE.findall(text)}
    return found | ({""} if _INDENTED.search(_FENCE.sub("", text)) else set())


def lines(page: str) -> Iterator[list[str]]:
    """Yield the words of each command line of a page, without its comment."""
    for code in blocks(page, "sh"):
        for line in code.replace("\\\n", " ").splitlines():
            if words := shlex.split(line, comments=True):
                yield words


def commands(page: str) -> Iterator[list[str]]:
    """Yield the words after `cxrkit` in each command line of a page that calls it."""
    for words in lines(page):
        for start in (["cxrkit"], [".venv/bin/cxrkit"], ["-m", "cxrkit"]):
            for place in range(len(words)):
                if words[place : place + len(start)] == start and "install" not in words[:place]:
                    yield words[place + len(start) :]
