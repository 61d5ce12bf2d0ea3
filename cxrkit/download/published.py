"""The files that NIH publishes: name, address, size and checksums, from the manifest of the data set."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from cxrkit.base.errors import UserError
from cxrkit.datasets.nih.archives import ArchiveFact, archive_facts, manifest

_CHOICE = re.compile(r"(?:images_)?0*(\d{1,3})(?:\.tar\.gz)?")
_GZIP = b"\x1f\x8b"
_TABLE_STARTS = {"csv": b"Image Index,", "txt": b"0"}  # the lists begin with an image: 00000001_000.png


@dataclass(frozen=True)
class RemoteFile:
    """One file to download."""

    name: str
    """What it is called here: images_001.tar.gz."""

    url: str
    """Where it is."""

    size: int | None = None
    """Its size; None: not known."""

    md5: str = ""
    """Its MD5, hexadecimal; "": not known."""

    sha256: str = ""
    """Its SHA-256, hexadecimal; "": not known."""

    start: bytes = b""
    """What it begins with: anything else is not this file."""

    archive: ArchiveFact | None = None
    """What it holds, where it is one of the archives."""

    @property
    def has_checksum(self) -> bool:
        """Whether what has arrived can be told from what NIH has."""
        return bool(self.md5 or self.sha256)


def tables() -> list[RemoteFile]:
    """Return the data entry CSV, the official lists and the box list."""
    prefix = manifest()["download"]["table_prefix"]
    return [_remote(entry, prefix + entry["box_file"], _table_start(entry["name"])) for entry in manifest()["table"]]


def archives() -> list[RemoteFile]:
    """Return the twelve archives, in their order."""
    link = manifest()["download"]
    return [
        _remote(entry, f"{link['prefix']}{entry['box']}{link['suffix']}", _GZIP, fact)
        for entry, fact in zip(manifest()["archive"], archive_facts(), strict=True)
    ]


def chosen(only: str | None, tables_alone: bool) -> list[RemoteFile]:
    """Return the files to download: the tables, which are small and always needed, and the archives.

    only: names of archives, with commas ("images_001,images_012" or "1,12"); None: all. Raises UserError for others.
    """
    if tables_alone:
        if only is not None:
            raise UserError("--tables and --only: one wants no archive, the other some", remedy="choose one")
        return tables()
    offered = archives()
    if only is None:
        return [*tables(), *offered]
    numbers = set()
    for name in filter(None, (part.strip() for part in only.split(","))):
        match = _CHOICE.fullmatch(name)
        if match is None or not 1 <= int(match[1]) <= len(offered):
            last = offered[-1].name.partition(".")[0]
            raise UserError(
                f"--only {only}: {name!r} is none of NIH's archives, images_001 to {last}",
                remedy="write them like images_001,images_002",
            )
        numbers.add(int(match[1]))
    if not numbers:
        raise UserError("--only: names no archive", remedy="write them like images_001,images_002, or give --tables")
    return [*tables(), *(offered[number - 1] for number in sorted(numbers))]


def from_mirror(files: list[RemoteFile], base: str) -> list[RemoteFile]:
    """Return the same files, to be fetched from a copy under their own names: BASE/images_001.tar.gz.

    Raises UserError for an address that is not of the web.
    """
    if not re.match(r"https?://[^/\s]", base):
        raise UserError(f"--from {base}: not an address of the web", remedy="write it like https://host/folder")
    return [RemoteFile(**{**vars(file), "url": f"{base.rstrip('/')}/{file.name}"}) for file in files]


def _remote(entry: dict[str, Any], url: str, start: bytes, fact: ArchiveFact | None = None) -> RemoteFile:
    return RemoteFile(entry["name"], url, entry["bytes"] or None, entry["md5"], entry["sha256"], start, fact)


def _table_start(name: str) -> bytes:
    return _TABLE_STARTS[name.rpartition(".")[2]]
