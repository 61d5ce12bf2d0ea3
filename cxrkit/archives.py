"""Read the images of a tar archive in the order in which they lie there: forward, once, never to the disk."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import threading
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from cxrkit.errors import UserError

_PIECE = 1 << 16  # bytes of the compressed file per step; larger pieces fall out of the processor's cache


@dataclass(frozen=True)
class Member:
    """One image found. offset, size: where its bytes are in the buffer; why: set instead when it has none."""

    row: int
    offset: int
    size: int
    why: str = ""


class ArchiveReader:
    """Hands out an archive's wanted members in runs of `run_length`, in the archive's own order.

    The order, and so which images share a run, depends on the archive alone. `lock` is for the caller: reading moves
    the one position there is. Links are never followed and nothing is extracted.
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
        self._file: IO[bytes] | None = None
        self._tar: tarfile.TarFile | None = None

    def next_run(self, buffer: int | None) -> list[Member]:
        """Write the next run's bytes to the file descriptor `buffer` and say where each member is.

        With None the run is passed over. Raises UserError when the archive is damaged, or ends too early.
        """
        try:
            return self._next_run(buffer)
        except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
            self.close()
            raise self._broken(f"is damaged or cut off ({error})") from None
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        if self._file is not None:
            self._file.close()

    def _next_run(self, buffer: int | None) -> list[Member]:
        if self._tar is None:
            self._tar = self._open()
        length = min(self._run_length, len(self._wanted))
        run: list[Member] = []
        position = 0
        while len(run) < length:
            info = self._tar.next()
            # tarfile would remember every member it ever saw.
            self._tar.members = []  # type: ignore[attr-defined]
            if info is None:
                raise self._broken(f"ends without {len(self._wanted):,} of its images ({_first(self._wanted)})")
            row = self._wanted.pop(info.name, None)
            if row is None:
                continue
            if not info.isreg():
                run.append(Member(row, 0, 0, f"member {info.name!r} is a link or special, not a plain file"))
                continue
            if buffer is not None:
                self._copy(info, buffer, position)
            run.append(Member(row, position, info.size))
            position += info.size
            self._last_good = info.name
        self.runs_read += 1
        if not self._wanted:
            self.exhausted = True
            self.close()
        return run

    def _open(self) -> tarfile.TarFile:
        self._file = open(self.path, "rb")  # noqa: SIM115 - closed with the reader
        zipped = self._file.read(2) == b"\x1f\x8b"
        self._file.seek(0)
        stream: Any = _Inflated(self._file) if zipped else self._file
        return tarfile.open(fileobj=stream, mode="r|", bufsize=_PIECE)

    def _copy(self, info: tarfile.TarInfo, buffer: int, position: int) -> None:
        assert self._tar is not None
        source = self._tar.extractfile(info)
        assert source is not None, "only a link gives None"
        data = source.read()
        if len(data) != info.size:
            raise EOFError(f"member {info.name!r} has {len(data):,} of {info.size:,} bytes")
        view = memoryview(data)
        while view:
            written = os.pwrite(buffer, view, position)
            view, position = view[written:], position + written

    def _broken(self, what: str) -> UserError:
        return UserError(
            f"{self.path}: this archive {what}; the last good member is {self._last_good}",
            remedy="download it again, then run the same command again; shards already finished are kept",
        )


def _first(names: Mapping[str, int]) -> str:
    name = min(names)
    return name if len(names) == 1 else f"{name} and others"


class _Inflated(io.RawIOBase):
    """A gzip file as a forward stream. zlib lets other threads run while it inflates.

    gzip.GzipFile would do, at 1.5 times the cost: it copies through two more buffers.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._inflate = zlib.decompressobj(wbits=31)
        self._ready = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        pieces, length = [], 0
        while length < size:
            if not self._ready:
                self._ready = self._more()
                if not self._ready:
                    break
            piece = self._ready[: size - length]
            self._ready = self._ready[len(piece) :]
            pieces.append(piece)
            length += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _more(self) -> bytes:
        """Return the next inflated bytes, empty at the end of the file."""
        while True:
            if self._inflate.eof:
                left = self._inflate.unused_data.lstrip(b"\0") or self._file.read(_PIECE).lstrip(b"\0")
                if not left:
                    return b""
                self._inflate = zlib.decompressobj(wbits=31)
            else:
                left = self._file.read(_PIECE)
                if not left:
                    raise EOFError("the gzip stream ends too early")
            if data := self._inflate.decompress(left):
                return data
