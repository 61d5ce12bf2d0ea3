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
from cxrkit.datasets.nih.folders import Contents
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
        return self.stamps.get(self._name(path)) == _stamp(path, file)

    def add(self, path: Path, file: RemoteFile) -> None:
        """Take note of a file that was compared, and keep it."""
        self.stamps[self._name(path)] = _stamp(path, file)
        write_json(self.path, self.stamps)

    def _name(self, path: Path) -> str:
        return path.relative_to(self.path.parent).as_posix()


def _stamp(path: Path, file: RemoteFile) -> list[Any]:
    about = path.stat()
    return [about.st_size, about.st_mtime_ns, file.md5 or file.sha256]


def find(folder: Path, file: RemoteFile, contents: Contents) -> Path | None:
    """Return what lies in `folder` as this file: a table also packed, an archive in any folder and spelling.

    NIH's script calls them images_01.tar.gz, and a bare link leaves its key as a name: vfk49....gz. contents: of the
    folder, as `look_into` finds them.
    """
    if file.archive is None:
        return find_table(folder, (file.name,))
    key = urlsplit(file.url).path.rpartition("/")[2]
    for path in (*contents.archives, *contents.doubtful):
        if path.name == key or archive_number(path.name) == file.archive.number:
            return path
    return None


def unpacked(files: Iterable[RemoteFile], contents: Contents) -> set[str]:
    """Return the names of the archives all of whose images lie there as files."""
    stems = sorted({name.rpartition(".")[0] for place in contents.folders for name in place.names})
    held = set()
    for file in files:
        if (fact := file.archive) is not None:
            first, last = fact.first.removesuffix(".png"), fact.last.removesuffix(".png")
            if bisect_right(stems, last) - bisect_left(stems, first) == fact.images:
                held.add(file.name)
    return held
