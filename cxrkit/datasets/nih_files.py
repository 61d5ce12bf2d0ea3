"""Find the pixels of ChestX-ray14: loose PNGs and tar archives, in whichever of the usual layouts they lie.

Looked into are the raw folder and, below it, folders named `images` or `images_0NN`, three deep: one extracted
`images/`, Kaggle's `images_0NN/images/`, archives beside the CSV or inside `images/`, and any mixture. A loose file
wins over an archive, and among equals the one that sorts first.

Only names are read here, never pixels, and nothing is ever extracted. A `.tar` is listed from its headers. A `.tar.gz`
can only be listed by decompressing it, which for NIH's twelve means 42 GiB before the first image is seen. So an
archive with the number and the exact size in bytes that the manifest gives is taken at the manifest's word for what it
holds, once its first header and its last bytes look right. Any other one is decompressed to its end, and its checksum
compared. Damage inside an archive taken at its word shows when its images are read.
"""

from __future__ import annotations

import gzip
import io
import os
import re
import tarfile
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path, PurePosixPath

import polars as pl

from cxrkit import manifests
from cxrkit.contracts import PIXEL_SCHEMA
from cxrkit.errors import UserError

MANIFEST = "nih_chestxray14.toml"

_IMAGE_FOLDER = re.compile(r"images(_\d+)?")
_ARCHIVE = re.compile(r"images.*\.(tar|tar\.gz|tgz)")
_NUMBERED_ARCHIVE = re.compile(r"images_0*(\d+)\.(tar\.gz|tgz)")
_NIH_IMAGE = re.compile(r"\d{8}_\d{3}\.png")
_MAX_DEPTH = 3
_NO_MORE_MEMBERS = bytes(tarfile.BLOCKSIZE)  # a tar ends with blocks of zeros
_PIECE = 1 << 20  # bytes


@dataclass(frozen=True)
class ArchiveFact:
    """One of NIH's twelve archives: its images in sorted order run from `first` to `last`."""

    name: str
    images: int
    first: str
    last: str
    bytes: int
    md5: str
    sha256: str

    @property
    def number(self) -> int:
        """1 to 12, the NN of images_0NN.tar.gz."""
        return _archive_number(self.name)


@cache
def archive_facts() -> tuple[ArchiveFact, ...]:
    """Return what the manifest says about each official archive, in their order."""
    wanted = [field.name for field in fields(ArchiveFact)]
    return tuple(ArchiveFact(**{key: entry[key] for key in wanted}) for entry in manifests.read(MANIFEST)["archive"])


def find_images(raw: Path, image_ids: pl.Series, facts: Sequence[ArchiveFact] | None = None) -> pl.DataFrame:
    """Return where the pixels of `image_ids` are: image_id + PIXEL_SCHEMA, one row per image found, sorted.

    `facts` are the archives that need no listing (default: the official ones). Raises UserError for a damaged
    archive, one with unsafe members, and an image that is not among `image_ids`.
    """
    facts = archive_facts() if facts is None else facts
    ids = sorted(image_ids.to_list())
    listed = set(ids)
    found: dict[str, tuple[str, str | None]] = {}
    archives: list[Path] = []
    for folder, images, packed in _folders(raw):
        archives += packed
        _refuse_unlisted(str(folder), images, listed)
        for name in images:
            found.setdefault(name, (f"{folder}/{name}", None))
    # Listing an unknown archive is zlib's work, which lets other threads run.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for archive, members in zip(archives, pool.map(lambda path: _members(path, ids, facts), archives), strict=True):
            _refuse_unlisted(str(archive), members, listed)
            for name, member in members.items():
                found.setdefault(name, (str(archive), member))
    rows = [(name, *where) for name, where in found.items()]
    return pl.DataFrame(rows, schema={"image_id": pl.String(), **PIXEL_SCHEMA}, orient="row").sort("image_id")


def archives_holding(image_ids: Iterable[str]) -> list[str]:
    """Return the names of the official archives that hold any of `image_ids`, in their order."""
    firsts = [fact.first for fact in archive_facts()]
    numbers = {bisect_right(firsts, image_id) - 1 for image_id in image_ids}
    return [fact.name for index, fact in enumerate(archive_facts()) if index in numbers]


def few(names: Iterable[str], most: int = 3) -> str:
    """Return "a, b, c and 12 more": enough of `names` (sorted) to find the rest, safe to print."""
    names = sorted(names)
    # A file name need not be valid UTF-8.
    shown = ", ".join(name.encode("utf-8", "backslashreplace").decode() for name in names[:most])
    return shown + (f" and {len(names) - most:,} more" if len(names) > most else "")


def scan_archive(path: Path) -> dict[str, str]:
    """List a tar, gzipped or not, to its end and return {image_id: member} of its PNGs.

    Raises UserError when it is damaged or truncated, and when a member is a link, a device, absolute or outside (..).
    """
    try:
        with _readable(path) as stream:
            return _list_members(path, stream)
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(
            f"{path}: a damaged or incomplete archive ({error}; {path.stat().st_size:,} bytes)",
            remedy=f"download it again, and compare its MD5 with the one in data_manifests/{MANIFEST}",
        ) from None


def _list_members(path: Path, stream: gzip.GzipFile | io.BufferedReader) -> dict[str, str]:
    members: dict[str, str] = {}
    remembering = _LastRead(stream)
    with tarfile.open(fileobj=remembering, mode="r:") as archive:  # type: ignore[call-overload]
        for member in archive:
            _refuse_unsafe(path, member)
            name = PurePosixPath(member.name).name
            if member.isreg() and _is_image(name):
                members.setdefault(name, member.name)
    # tarfile takes a broken header, or the end of the file, for the end of the archive: only zeros are.
    if remembering.last != _NO_MORE_MEMBERS:
        raise tarfile.ReadError(f"it breaks off after {len(members):,} images")
    while stream.read(_PIECE):
        pass  # gzip compares its checksum at the very end
    return members


def _folders(folder: Path, depth: int = 0) -> Iterator[tuple[Path, list[str], list[Path]]]:
    """Yield (folder, its PNG names, its archives) for the raw folder and each image folder below, sorted."""
    images: list[str] = []
    archives: list[Path] = []
    below: list[Path] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            if name.endswith(".png"):
                # Beside the CSV somebody may well keep a figure of their own.
                if (depth or _NIH_IMAGE.fullmatch(name)) and _is_image(name) and entry.is_file():
                    images.append(name)
            elif _ARCHIVE.fullmatch(name) and entry.is_file():
                archives.append(folder / name)
            elif depth < _MAX_DEPTH and _IMAGE_FOLDER.fullmatch(name) and entry.is_dir():
                below.append(folder / name)
    yield folder, sorted(images), sorted(archives)
    for path in sorted(below):
        yield from _folders(path, depth + 1)


def _is_image(name: str) -> bool:
    return name.endswith(".png") and not name.startswith(".")  # macOS leaves ._NAME.png beside NAME.png


def _archive_number(name: str) -> int:
    match = _NUMBERED_ARCHIVE.fullmatch(name)
    return int(match[1]) if match else 0


def _members(path: Path, ids: list[str], facts: Sequence[ArchiveFact]) -> dict[str, str]:
    """Return {image_id: member} of an archive: from the manifest if it is an official one, else by listing it."""
    size = path.stat().st_size
    for fact in facts:
        if fact.number == _archive_number(path.name) and fact.bytes == size and _begins_and_ends_well(path):
            return {name: f"images/{name}" for name in ids[bisect_left(ids, fact.first) : bisect_right(ids, fact.last)]}
    return scan_archive(path)


def _begins_and_ends_well(path: Path) -> bool:
    """Whether the first member is that of an official archive and the gzip trailer was written.

    Some download tools make the file in its full size first; zeros at its end then mean that it is not complete.
    """
    with open(path, "rb") as file:
        file.seek(-8, os.SEEK_END)
        if file.read() == bytes(8):
            return False
    try:
        with gzip.open(path) as stream:
            header = tarfile.TarInfo.frombuf(stream.read(tarfile.BLOCKSIZE), "utf-8", "surrogateescape")
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile):
        return False
    return header.name == "images" or header.name.startswith("images/")


def _readable(path: Path) -> gzip.GzipFile | io.BufferedReader:
    """Open a tar for reading, by what it is rather than by what it is called: browsers unpack .gz unasked."""
    with open(path, "rb") as file:
        gzipped = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if gzipped else open(path, "rb")


class _LastRead:
    """A forward-reading file for tarfile that remembers what was read last, and skips in large pieces."""

    def __init__(self, stream: gzip.GzipFile | io.BufferedReader) -> None:
        self.stream = stream
        self.last = b""

    def read(self, size: int = -1) -> bytes:
        self.last = self.stream.read(size)
        return self.last

    def tell(self) -> int:
        return self.stream.tell()

    def seek(self, offset: int) -> int:
        if not isinstance(self.stream, gzip.GzipFile):
            return self.stream.seek(offset)
        while (ahead := offset - self.stream.tell()) > 0 and self.stream.read(min(ahead, _PIECE)):
            pass
        return self.stream.tell()


def _refuse_unsafe(path: Path, member: tarfile.TarInfo) -> None:
    name = PurePosixPath(member.name)
    if member.issym() or member.islnk():
        problem = f"is a link to {member.linkname!r}"
    elif not (member.isreg() or member.isdir()):
        problem = "is a device or another special file"
    elif name.is_absolute():
        problem = "has an absolute path"
    elif ".." in name.parts:
        problem = "leads out of the archive ('..')"
    else:
        return
    raise UserError(
        f"{path}: member {member.name!r} {problem}; an archive of ChestX-ray14 holds plain files under images/ only",
        remedy="do not unpack this archive; download the original from NIH",
    )


def _refuse_unlisted(where: str, names: Iterable[str], listed: set[str]) -> None:
    unlisted = [name for name in names if name not in listed]
    if unlisted:
        raise UserError(
            f"{where}: {len(unlisted):,} image(s) in no row of the CSV: {few(unlisted)}",
            remedy="move them out of the raw folder, or use the CSV that lists them",
        )
