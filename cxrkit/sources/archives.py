"""Read the images of a tar or zip archive in the order in which they lie there: forward, once, never to the disk."""

from __future__ import annotations

import os
import struct
import tarfile
import threading
import zipfile
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cxrkit.base.errors import UserError, shown
from cxrkit.sources.streams import MOST_BYTES, READ_ERRORS, TarBytes, compression, open_stream, open_tar

# What zipfile raises: RuntimeError for a password, NotImplementedError for a method it does not know.
ZIP_ERRORS = (*READ_ERRORS, zipfile.BadZipFile, struct.error, RuntimeError, NotImplementedError)


@dataclass(frozen=True)
class Member:
    """One image found."""

    row: int
    """What the caller called it."""
    offset: int
    """Where its bytes begin in the buffer."""
    size: int
    """How many bytes it has."""
    why: str = ""
    """Why it has none, if it has none."""


class ArchiveReader:
    """Hands out an archive's wanted members in runs of `run_length`, in the archive's own order.

    Tar archives (plain, gzip, bzip2, xz) and zip archives are told apart by their first bytes. The order, and so which
    images share a run, depends on the archive alone. `lock` is for the caller: reading moves the one position there
    is. Links are never followed and nothing is extracted. A member that alone is damaged, as a zip can say and a
    compressed tar cannot, gets its reason (`Member.why`), and the others are read all the same.
    """

    def __init__(self, path: Path, wanted: Mapping[str, int], run_length: int) -> None:
        """Prepare to read `path`; wanted: member name -> row. The file is opened with the first run."""
        self.path = path
        self.lock = threading.Lock()
        self.runs = -(-len(wanted) // run_length)
        self.runs_read = 0
        self.exhausted = not wanted
        self._wanted = dict(wanted)
        self._run_length = run_length
        self._last_good = "nothing"
        self._members: _Members | None = None

    def next_run(self, buffer: int | None) -> list[Member]:
        """Write the next run's bytes to the file descriptor `buffer` and say where each member is.

        With None the run is passed over. Raises UserError when the archive is damaged, or ends too early.
        """
        try:
            return self._next_run(buffer)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        if self._members is not None:
            self._members.close()

    def _next_run(self, buffer: int | None) -> list[Member]:
        length = min(self._run_length, len(self._wanted))
        run: list[Member] = []
        position = 0
        while len(run) < length:
            name, data, why = self._next_member(read=buffer is not None)
            run.append(Member(self._wanted.pop(name), position, len(data), why))
            if buffer is not None:
                _write(data, buffer, position)
            position += len(data)
            if not why:
                self._last_good = name
        self.runs_read += 1
        if not self._wanted:
            self.exhausted = True
            self.close()
        return run

    def _next_member(self, *, read: bool) -> tuple[str, bytes, str]:
        """Return name, bytes and what is wrong with the next wanted member; no bytes unless `read`."""
        try:
            if self._members is None:
                self._members = _open(self.path, self._wanted)
            name = self._members.next(self._wanted)
            if name is not None:
                return (name, *self._members.data(read=read))
        except UserError:
            raise
        except ZIP_ERRORS as error:
            raise self._broken(f"is damaged or cut off ({_reason(error)})") from None
        except OSError as error:
            raise self._broken(f"cannot be read ({error.strerror or error})") from None
        raise self._broken(f"ends without {len(self._wanted):,} of its images ({_first(self._wanted)})")

    def _broken(self, what: str) -> UserError:
        return UserError(
            f"{self.path}: this archive {what}; the last good member is {shown(self._last_good)}",
            remedy="download it again, then run the same command again; shards already finished are kept",
        )


class _Members(Protocol):
    """The members of one archive, from the first to the last."""

    def next(self, wanted: Mapping[str, int]) -> str | None:
        """Go to the next member in `wanted` and return its name; None at the end."""
        ...

    def data(self, *, read: bool) -> tuple[bytes, str]:
        """Return the present member's bytes (none unless `read`) and "", or b"" and why it has none."""
        ...

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        ...


def _open(path: Path, wanted: Mapping[str, int]) -> _Members:
    return _ZipMembers(path, wanted) if compression(path) == "zip" else _TarMembers(path)


class _TarMembers:
    def __init__(self, path: Path) -> None:
        self._stream: TarBytes = open_stream(path)
        self._tar: tarfile.TarFile | None = None
        self._info = tarfile.TarInfo()

    def next(self, wanted: Mapping[str, int]) -> str | None:
        if self._tar is None:
            self._tar = open_tar(self._stream)
        while (info := self._tar.next()) is not None:
            # tarfile would remember every member it ever saw.
            self._tar.members = []  # type: ignore[attr-defined]
            if info.name in wanted:
                self._info = info
                return info.name
        return None

    def data(self, *, read: bool) -> tuple[bytes, str]:
        info = self._info
        if not info.isreg() or info.issparse():
            return b"", f"member {info.name!r} is a link or special, not a plain file"
        if info.size > MOST_BYTES:
            return b"", _too_large(info.size)
        if not read:
            return b"", ""
        self._stream.seek(info.offset_data)
        data = self._stream.read(info.size)
        if len(data) != info.size:
            raise EOFError(f"member {info.name!r} has {len(data):,} of {info.size:,} bytes")
        return data, ""

    def close(self) -> None:
        self._stream.close()


class _ZipMembers:
    """A zip lists its members at its end; they are read in the order in which they lie in the file."""

    def __init__(self, path: Path, wanted: Mapping[str, int]) -> None:
        self._zip = zipfile.ZipFile(path)
        infos = {info.filename: info for info in self._zip.infolist() if info.filename in wanted}
        self._left = deque(sorted(infos.values(), key=lambda info: info.header_offset))
        self._info = zipfile.ZipInfo()

    def next(self, wanted: Mapping[str, int]) -> str | None:
        if not self._left:
            return None
        self._info = self._left.popleft()
        return self._info.filename

    def data(self, *, read: bool) -> tuple[bytes, str]:
        if self._info.file_size > MOST_BYTES:
            return b"", _too_large(self._info.file_size)
        if not read:
            return b"", ""
        try:
            with self._zip.open(self._info) as file:
                data = file.read(self._info.file_size + 1)  # not one byte more than the list says
        except (*ZIP_ERRORS, OSError) as error:  # OSError: an offset that leads nowhere, damaged bzip2
            return b"", f"cannot be read from the zip ({_reason(error)})"
        if len(data) != self._info.file_size:
            return b"", f"has {len(data):,} bytes in the zip, {self._info.file_size:,} by its list"
        return data, ""

    def close(self) -> None:
        self._zip.close()


def _write(data: bytes, buffer: int, position: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(buffer, view, position)
        view, position = view[written:], position + written


def _too_large(size: int) -> str:
    return f"has {size:,} bytes, more than any image"


def _reason(error: BaseException) -> str:
    """Return the error's first line, fit to print; its kind where it says nothing."""
    if isinstance(error, RecursionError):
        return "headers without end"
    return shown((str(error).splitlines() or [""])[0][:200] or type(error).__name__)


def _first(names: Mapping[str, int]) -> str:
    name = shown(min(names))
    return name if len(names) == 1 else f"{name} and others"
