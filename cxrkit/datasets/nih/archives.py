"""The archives of ChestX-ray14: what the manifest says of NIH's twelve, and what any other one holds.

Only names are read here, never pixels, and nothing is ever extracted. A zip and a `.tar` are listed from their headers.
A `.tar.gz` can only be listed by decompressing it, which for NIH's twelve means 42 GiB before the first image is seen.
So an archive with the number and the exact size in bytes that the manifest gives is taken at the manifest's word for
what it holds, once its first header and its last bytes look right. Any other one is decompressed to its end, and its
checksum compared. Damage inside an archive taken at its word shows when its images are read.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import tarfile
import zipfile
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from cxrkit.base import manifests
from cxrkit.base.errors import UserError, shown
from cxrkit.datasets.nih.folders import image_stem
from cxrkit.sources.archives import ZIP_ERRORS
from cxrkit.sources.streams import READ_ERRORS, TarBytes, compression, open_stream, open_tar

MANIFEST = "nih_chestxray14.toml"
START_BYTES = 1 << 16  # of an image, enough for the headers of almost any

_NUMBERED_ARCHIVE = re.compile(r"images_0*(\d+)\.(tar\.gz|tgz)", re.IGNORECASE)
_NO_MORE_MEMBERS = bytes(tarfile.BLOCKSIZE)  # a tar ends with blocks of zeros
_PIECE = 1 << 20  # bytes
_ENCRYPTED = 0x1  # flag of a zip's member
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


@dataclass(frozen=True)
class ArchiveFact:
    """One of NIH's twelve archives."""

    name: str
    """images_001.tar.gz and so on."""
    images: int
    """How many it holds."""
    first: str
    """The first of its images in sorted order."""
    last: str
    """The last of them."""
    bytes: int
    """Its size."""
    md5: str
    """Its MD5, hexadecimal."""
    sha256: str
    """Its SHA-256, hexadecimal."""

    @property
    def number(self) -> int:
        """1 to 12, the NN of images_0NN.tar.gz."""
        return archive_number(self.name)


@dataclass(frozen=True)
class PackedImage:
    """An image in an archive."""

    member: str
    """Its name there."""
    size: int | None
    """Its bytes, unpacked; None where only its name is known."""


@dataclass
class Listing:
    """What an archive holds."""

    images: dict[str, PackedImage] = field(default_factory=dict)
    """By the file's stem, 00000001_000."""
    starts: dict[str, bytes] = field(default_factory=dict)
    """Member -> its first bytes, for a few images."""
    unsafe: str = ""
    """Which member no archive of images has any business to hold, and why; "" if there is none."""
    locked: str = ""
    """Why some of the images listed cannot be read (a password, an unknown method); "" if all can."""


@cache
def manifest() -> Mapping[str, Any]:
    """Return what the manifest of ChestX-ray14 says, read once."""
    return manifests.read(MANIFEST)


@cache
def archive_facts() -> tuple[ArchiveFact, ...]:
    """Return what the manifest says about each official archive, in their order."""
    wanted = [item.name for item in fields(ArchiveFact)]
    return tuple(ArchiveFact(**{key: entry[key] for key in wanted}) for entry in manifest()["archive"])


def archives_holding(image_ids: Iterable[str]) -> list[str]:
    """Return the names of the official archives that hold any of `image_ids`, in their order."""
    firsts = [fact.first for fact in archive_facts()]
    numbers = {bisect_right(firsts, image_id) - 1 for image_id in image_ids}
    return [fact.name for index, fact in enumerate(archive_facts()) if index in numbers]


def archive_number(name: str) -> int:
    """Return the NN of a file called images_0NN.tar.gz, in any of the spellings about; 0 for another name."""
    match = _NUMBERED_ARCHIVE.fullmatch(name)
    return int(match[1]) if match else 0


def list_archive(path: Path, ids: list[str], facts: Sequence[ArchiveFact]) -> Listing:
    """Return what an archive holds: from the manifest if it is an official one, else by reading it.

    ids: all image ids, sorted. Raises UserError when the archive is damaged or truncated.
    """
    size = path.stat().st_size
    for fact in facts:
        # A download by the bare link is called by the link's key; the size tells it as well.
        if archive_number(path.name) in (fact.number, 0) and fact.bytes == size and _begins_and_ends_well(path):
            held = ids[bisect_left(ids, fact.first) : bisect_right(ids, fact.last)]
            return Listing({stem: PackedImage(f"images/{stem}.png", None) for stem in (name[:-4] for name in held)})
    return scan_archive(path)


def scan_archive(path: Path) -> Listing:
    """Return what a tar or zip holds, read to its end. Raises UserError when it is damaged or truncated."""
    try:
        if compression(path) == "zip":
            return _list_zip(path)
        with closing(open_stream(path)) as stream:
            return _list_tar(stream)
    except ZIP_ERRORS as error:
        raise _broken(path, error) from None
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):  # an offset that leads nowhere; else it is the disk, or the rights
            raise
        raise _broken(path, error) from None


def _broken(path: Path, error: Exception) -> UserError:
    compare = f", and compare its MD5 with the one in data_manifests/{MANIFEST}" if archive_number(path.name) else ""
    return UserError(
        f"{path}: a damaged or incomplete archive ({shown(error)}; {path.stat().st_size:,} bytes)",
        remedy=f"download it again{compare}, or move it out of the raw folder",
    )


def is_tar(path: Path) -> bool:
    """Whether the file, unpacked if it is compressed, begins like a tar."""
    try:
        with closing(open_stream(path)) as stream:
            tarfile.TarInfo.frombuf(stream.read(tarfile.BLOCKSIZE), "utf-8", "surrogateescape")
    except READ_ERRORS:
        return False
    return True


def _list_tar(stream: TarBytes) -> Listing:
    listing = Listing()
    remembering = _LastRead(stream)
    archive = open_tar(remembering)
    for member in _members(archive):
        listing.unsafe = listing.unsafe or _unsafe(member.name, _kind_of(member))
        stem = image_stem(member.name)
        if stem is not None and member.isreg():
            listing.images.setdefault(stem, PackedImage(member.name, member.size))
            if not listing.starts:
                remembering.seek(member.offset_data)
                listing.starts[member.name] = remembering.read(min(member.size, START_BYTES))
    # tarfile takes a broken header, or the end of the file, for the end of the archive: only zeros are.
    if remembering.last != _NO_MORE_MEMBERS:
        raise tarfile.ReadError(f"it breaks off after {len(listing.images):,} images")
    while stream.read(_PIECE):
        pass  # gzip compares its checksum at the very end
    return listing


def _members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while (member := archive.next()) is not None:
        archive.members = []  # type: ignore[attr-defined]  # tarfile would remember every one
        yield member


def _list_zip(path: Path) -> Listing:
    listing = Listing()
    with zipfile.ZipFile(path) as archive:
        readable = []
        for info in archive.infolist():
            listing.unsafe = listing.unsafe or _unsafe(info.filename, _kind_in_zip(info))
            stem = image_stem(info.filename)
            if stem is None or info.is_dir() or stem in listing.images:
                continue
            listing.images[stem] = PackedImage(info.filename, info.file_size)
            if locked := _locked(info):
                listing.locked = listing.locked or locked
            else:
                readable.append(info)
        for info in {id(readable[at]): readable[at] for at in (0, len(readable) // 2, -1) if readable}.values():
            listing.starts[info.filename] = _start(archive, info)
    return listing


def _start(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    try:
        with archive.open(info) as file:
            return file.read(START_BYTES)
    except (*ZIP_ERRORS, OSError):  # this member alone is damaged: it is said when it is prepared
        return b""


def _locked(info: zipfile.ZipInfo) -> str:
    if info.flag_bits & _ENCRYPTED:
        return "is protected by a password"
    if info.compress_type not in _ZIP_METHODS:
        return f"is packed by a method that is not read here (number {info.compress_type})"
    return ""


def _begins_and_ends_well(path: Path) -> bool:
    """Whether the first member is that of an official archive and the gzip trailer was written.

    Some download tools make the file in its full size first; zeros at its end then mean that it is not complete.
    """
    with open(path, "rb") as file:
        file.seek(-8, os.SEEK_END)
        if file.read() == bytes(8):
            return False
    if compression(path) != "gz":
        return False
    try:
        with closing(open_stream(path)) as stream:
            header = tarfile.TarInfo.frombuf(stream.read(tarfile.BLOCKSIZE), "utf-8", "surrogateescape")
    except READ_ERRORS:
        return False
    return header.name == "images" or header.name.startswith("images/")


class _LastRead:
    """A forward-reading file for tarfile that remembers what was read last."""

    def __init__(self, stream: TarBytes) -> None:
        self.stream = stream
        self.last = b""

    def read(self, size: int) -> bytes:
        self.last = self.stream.read(size)
        return self.last

    def tell(self) -> int:
        return self.stream.tell()

    def seek(self, offset: int) -> int:
        return self.stream.seek(offset)

    def close(self) -> None:
        self.stream.close()


def _kind_of(member: tarfile.TarInfo) -> str:
    if member.issym() or member.islnk():
        return f"is a link to {shown(member.linkname)!r}"
    return "" if member.isreg() or member.isdir() else "is a device or another special file"


def _kind_in_zip(info: zipfile.ZipInfo) -> str:
    return "is a link" if stat.S_ISLNK(info.external_attr >> 16) else ""


def _unsafe(name: str, kind: str) -> str:
    """Return what is wrong with a member of this name and kind, "" for a plain file or folder inside the archive."""
    path = PurePosixPath(name)
    if kind:
        problem = kind
    elif path.is_absolute():
        problem = "has an absolute path"
    elif ".." in path.parts:
        problem = "leads out of the archive ('..')"
    else:
        return ""
    return f"member {shown(name)!r} {problem}"
