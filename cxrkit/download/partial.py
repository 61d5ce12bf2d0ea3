"""A file that has not wholly arrived: its bytes under NAME.part, their checksums, and which file they are of.

A part is continued by the next run, whatever ended this one. What the server called the file (`tag`) lies beside it, so
that the end of another file is never put behind the beginning of this one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

from cxrkit.base.errors import UserError
from cxrkit.base.files import PART_SUFFIX, output_error, publish, read_json, write_json
from cxrkit.download.published import RemoteFile

_PIECE = 1 << 20  # bytes
Advance = Callable[[int], None]


class Digests:
    """MD5 and SHA-256 of bytes as they come."""

    def __init__(self) -> None:
        """Begin with no byte."""
        self.size = 0
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._sha256 = hashlib.sha256()

    def update(self, data: bytes) -> None:
        """Take in some more."""
        self.size += len(data)
        self._md5.update(data)
        self._sha256.update(data)

    def differing(self, file: RemoteFile) -> str:
        """Return how these bytes differ from those of `file`, "" if they do not as far as it is known.

        NIH's own MD5 decides where there is one; the SHA-256 of its archives is known from a third party.
        """
        if file.size is not None and self.size != file.size:
            return f"has {self.size:,} bytes, NIH's has {file.size:,}"
        if file.md5:
            return "" if self._md5.hexdigest() == file.md5 else f"its MD5 is not NIH's {file.md5}"
        if file.sha256 and self._sha256.hexdigest() != file.sha256:
            return f"its SHA-256 is not the known one, {file.sha256}"
        return ""

    def doubt(self, file: RemoteFile) -> str:
        """Return what is to be said of bytes that do not differ: a SHA-256 that disagrees with NIH's MD5."""
        if file.md5 and file.sha256 and self._sha256.hexdigest() != file.sha256:
            return f"its MD5 is NIH's, but its SHA-256 not the one known from a third party, {file.sha256}"
        return ""


def digests_of(path: Path, advance: Advance, stopped: Callable[[], bool] = lambda: False) -> Digests:
    """Read a file and return its digests; `advance` hears of every piece. Raises OSError."""
    found = Digests()
    with open(path, "rb") as file:
        while not stopped() and (data := file.read(_PIECE)):
            found.update(data)
            advance(len(data))
    return found


class Partial:
    """What there is of one file. Raises UserError where it cannot be written: a full disk, no right to."""

    def __init__(self, folder: Path, file: RemoteFile) -> None:
        """Look at the part of an earlier run; `load` reads it."""
        self.path = folder / f"{file.name}{PART_SUFFIX}"
        self.tag = ""
        self.digests = Digests()
        self._file = file
        self._out: IO[bytes] | None = None
        self._note = folder / f".{file.name}{PART_SUFFIX}.json"

    @property
    def size(self) -> int:
        """Bytes that have arrived."""
        return self.digests.size

    def load(self, advance: Advance, stopped: Callable[[], bool]) -> None:
        """Read what an earlier run has left, unless nothing would tell whether its rest belongs to it."""
        if not self.path.is_file():
            return
        with suppress(UserError):
            note = read_json(self._note, "what is known of a part", "")
            if isinstance(note, dict) and note.get("url") == self._file.url and isinstance(note.get("tag"), str):
                self.tag = note["tag"]
        if not self.tag and not self._file.has_checksum:
            return
        try:
            self.digests = digests_of(self.path, advance, stopped)
        except OSError as error:
            raise output_error(self.path, error) from error

    def begin(self, tag: str) -> None:
        """Begin anew, with the file that has this tag."""
        self.close()
        try:
            self.path.write_bytes(b"")
        except OSError as error:
            raise output_error(self.path, error) from error
        self.digests = Digests()
        self.go_on(tag)

    def go_on(self, tag: str) -> None:
        """Take note of the tag that the server gives the file now."""
        if tag != self.tag or not self._note.exists():
            self.tag = tag
            write_json(self._note, {"url": self._file.url, "tag": tag})

    def append(self, data: bytes) -> None:
        """Write some more."""
        try:
            if self._out is None:
                self._out = open(self.path, "ab", buffering=0)  # noqa: SIM115 - see close
            left = memoryview(data)
            while left:
                left = left[self._out.write(left) :]
        except OSError as error:
            self.close()
            self._cut_to(self.size)
            raise output_error(self.path, error) from error
        self.digests.update(data)

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        if self._out is not None:
            self._out.close()
            self._out = None

    def publish(self, path: Path) -> None:
        """Make the whole file durable under its name. Raises UserError where something has that name by now."""
        self.close()
        try:
            if path.exists():
                raise UserError(
                    f"{path}: has appeared meanwhile, and is not overwritten; what was downloaded is in {self.path}",
                    remedy="keep one of the two",
                )
            publish(self.path, path)
        except OSError as error:
            raise output_error(path, error) from error
        self._note.unlink(missing_ok=True)

    def _cut_to(self, size: int) -> None:
        """Take away what was written of a piece that did not fit, so that what counts is what is there."""
        with suppress(OSError), open(self.path, "r+b") as file:
            file.truncate(size)
