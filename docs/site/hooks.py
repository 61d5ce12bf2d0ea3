"""What the site's generator does beside rendering docs/: other pages of the repository, and the links between them.

The README is the first page, CONTRIBUTING.md and the records of the benchmarks are pages too. Pages are written to be
read in the repository, with links to files beside docs/; here such a link leads to the page that was made of the file,
or to a copy of it. A link that leads nowhere is a warning, and `mkdocs build --strict` ends with an error.
"""

from __future__ import annotations

import logging
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
_LINK = re.compile(r"(!?\[[^\]]*\]\()([^)\s#]*)(#[^)\s]*)?(\))")
_FENCE = re.compile(r"^(```|~~~).*?^\1\s*$", re.MULTILINE | re.DOTALL)
_log = logging.getLogger("mkdocs.hooks.cxrkit")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages and files beside docs/ that some page links to, and those that these link to in turn."""
    for path, place in PAGES.items():
        if (ROOT / path).exists():
            files.append(File.generated(config, place, abs_src_path=str(ROOT / path)))
    waiting = [file for file in files if file.is_documentation_page()]
    while waiting:
        file = waiting.pop()
        for _, target, _, _ in _LINK.findall(_without_code(_text(file))):
            path = _path(_home(file), target)
            if path is None or _place(path) is None or files.get_file_from_path(_place(path) or ""):
                continue
            added = File.generated(config, _place(path) or "", abs_src_path=str(_file(path)))
            files.append(added)
            if added.is_documentation_page():
                waiting.append(added)
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Turn links as they stand in the repository into links between pages of the site."""
    home = _home(page.file)

    def changed(match: re.Match[str]) -> str:
        before, target, anchor, after = match.groups()
        path = _path(home, target)
        if path is None:
            return match[0]
        place = _place(path)
        if place is None:
            _log.warning("%s links to %s, which is not there", home, target)
            return match[0]
        start = posixpath.dirname(page.file.src_uri) or "."
        return f"{before}{posixpath.relpath(place, start)}{anchor or ''}{after}"

    parts, last = [], 0
    for fence in _FENCE.finditer(markdown):
        parts += [_LINK.sub(changed, markdown[last : fence.start()]), fence[0]]
        last = fence.end()
    return "".join([*parts, _LINK.sub(changed, markdown[last:])])


def _text(file: File) -> str:
    return Path(file.abs_src_path or "").read_text(encoding="utf-8")


def _without_code(text: str) -> str:
    return _FENCE.sub("", text)


def _home(file: File) -> str:
    """Return where a page's source lies in the repository."""
    return Path(file.abs_src_path or "").resolve().relative_to(ROOT).as_posix()


def _path(home: str, target: str) -> str | None:
    """Return the path in the repository that a link of the file `home` leads to; None: to somewhere else."""
    if not target or re.match(r"[a-z]+:", target) or target.startswith("/"):
        return None
    return posixpath.normpath(posixpath.join(posixpath.dirname(home), target))


def _file(path: str) -> Path:
    """Return the file itself; of a folder, its README."""
    return ROOT / path / "README.md" if (ROOT / path).is_dir() else ROOT / path


def _place(path: str) -> str | None:
    """Return where a file of the repository stands in the site; None: there is no such file."""
    file = _file(path)
    if not file.is_file():
        return None
    name = file.relative_to(ROOT).as_posix()
    if name in PAGES:
        return PAGES[name]
    return name.removeprefix("docs/")
