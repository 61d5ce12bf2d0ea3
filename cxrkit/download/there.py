"""What a folder holds of NIH's files already, under whatever name: whole, to be checked, or unpacked."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cxrkit.base.errors import UserError
from cxrkit.base.files import read_json, write_json
from cxrkit.datasets.nih.archives import archive_number
from cxrkit.datasets.nih.folders import look_into
from cxrkit.datasets.nih.text import find_table
from cxrkit.download.published import RemoteFile

CHECKED = ".cxrkit-download.json"


@dataclass
class Checked:
    """The files whose checksums were compared, by name: none is read twice that has not changed."""

    path: Path
    """Where this is kept."""

    stamps: dict[str, Any] = field(default_factory=dict)
    """Name -> [bytes, modification time in ns, the checksum that it was compared with]."""

    @classmethod
    def of(cls, folder: Path) -> Checked:
        """Return what is kept in `folder`; nothing where that cannot be read."""
        found: Any = {}
        with suppress(UserError):
            found = read_json(folder / CHECKED, "the list of checked files", "")
        return cls(folder / CHECKED, found if isinstance(found, dict) else {})

    def knows(self, path: Path, file: RemoteFile) -> bool:
        """Whether the file has been compared as it is now."""
        return self.stamps.get(path.name) == _stamp(path, file)

    def add(self, path: Path, file: RemoteFile) -> None:
        """Take note of a file that was compared, and keep it."""
        self.stamps[path.name] = _stamp(path, file)
        write_json(self.path, self.stamps)


def _stamp(path: Path, file: RemoteFile) -> list[Any]:
    about = path.stat()
    return [about.st_size, about.st_mtime_ns, file.md5 or file.sha256]


def find(folder: Path, file: RemoteFile) -> Path | None:
    """Return what lies in `folder` as this file: a table also packed, an archive also as NIH's script calls it.

    Its links are called by keys (vfk49....gz), and its script writes images_01.tar.gz.
    """
    if file.archive is None:
        return find_table(folder, (file.name,))
    key = urlsplit(file.url).path.rpartition("/")[2]
    names = [file.name, key, *sorted(path.name for path in folder.glob("[iI]mages_*") if path.is_file())]
    called = (
        folder / name for name in names if name in (file.name, key) or archive_number(name) == file.archive.number
    )
    return next((path for path in called if path.is_file()), None)


def unpacked(folder: Path, files: Iterable[RemoteFile]) -> set[str]:
    """Return the names of the archives all of whose images lie in `folder` as files."""
    stems = sorted({name.rpartition(".")[0] for place in look_into(folder).folders for name in place.names})
    held = set()
    for file in files:
        if (fact := file.archive) is not None:
            first, last = fact.first.removesuffix(".png"), fact.last.removesuffix(".png")
            if bisect_right(stems, last) - bisect_left(stems, first) == fact.images:
                held.add(file.name)
    return held
