"""A tar archive as a stream of bytes that is read forward, once, whatever it was compressed by.

What it is is told by its first bytes, not by its name: browsers unpack .gz unasked and keep the name. Nothing that a
damaged or malicious file says makes it read backwards, or hold more than `MOST_BYTES` at once.
"""

from __future__ import annotations

import bz2
import lzma
import tarfile
import zlib
from pathlib import Path
from typing import IO, Any, Protocol

PIECE = 1 << 16  # bytes of the compressed file per step; larger pieces fall out of the processor's cache
MOST_BYTES = 64 << 20  # of one member; a 1024 x 1024 image with four channels has 4 MiB before compression
_LZMA_MEMORY = 512 << 20  # bytes; xz -9 needs 65 MiB

# First bytes -> what a compressed file is called by those who made it.
COMPRESSIONS = {b"\x1f\x8b": "gz", b"BZh": "bz2", b"\xfd7zXZ\x00": "xz"}
ZIP_STARTS = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")

# What tarfile and the decompressors raise on bytes that are no archive; tarfile lets many a Python error through.
READ_ERRORS = (
    tarfile.TarError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    ValueError,
    OverflowError,
    LookupError,
    RecursionError,
)


class TarBytes(Protocol):
    """What tarfile needs of a file, and no more: see `open_stream`."""

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes, fewer at the end."""
        ...

    def tell(self) -> int:
        """Return the position in the tar."""
        ...

    def seek(self, offset: int) -> int:
        """Move forward to `offset`."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...


def compression(path: Path) -> str:
    """Return "gz", "bz2", "xz" or "zip" by the first bytes of `path`; "" for anything else, a plain tar too."""
    with open(path, "rb") as file:
        start = file.read(8)
    if start.startswith(ZIP_STARTS):
        return "zip"
    return next((name for magic, name in COMPRESSIONS.items() if start.startswith(magic)), "")


def open_stream(path: Path) -> TarBytes:
    """Open a tar, compressed or not, as a forward stream. Reading raises one of READ_ERRORS where it is damaged."""
    kind = compression(path)
    file = open(path, "rb")  # noqa: SIM115 - closed with the stream
    return _Inflated(file, kind) if kind in COMPRESSIONS.values() else _Plain(file)


def open_tar(stream: TarBytes) -> tarfile.TarFile:
    """Return tarfile's reader of the stream. Raises one of READ_ERRORS where its first header is damaged."""
    return tarfile.open(fileobj=stream, mode="r:")  # type: ignore[call-overload, no-any-return]


def _refuse_backwards(here: int, offset: int) -> None:
    if offset < here:  # a negative size in a header; tarfile would go round in circles
        raise tarfile.ReadError("a header leads backwards")


def _refuse_huge(size: int) -> None:
    if not 0 <= size <= MOST_BYTES:  # a long name or a PAX header of gigabytes
        raise tarfile.ReadError(f"a header asks for {size:,} bytes at once")


class _Plain:
    """An uncompressed tar."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int) -> bytes:
        _refuse_huge(size)
        return self._file.read(size)

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int) -> int:
        _refuse_backwards(self.tell(), offset)
        return self._file.seek(offset)

    def close(self) -> None:
        self._file.close()


class _Inflated:
    """A compressed tar. zlib, bz2 and lzma let other threads run while they work.

    gzip.GzipFile would do, at 1.5 times the cost: it copies through two more buffers.
    """

    def __init__(self, file: IO[bytes], kind: str) -> None:
        self._file = file
        self._kind = kind
        self._inflate: Any = _decompressor(kind)
        self._waiting = b""  # compressed bytes that zlib was not yet allowed to inflate
        self._ready = memoryview(b"")
        self._position = 0

    def read(self, size: int) -> bytes:
        _refuse_huge(size)
        pieces, length = [], 0
        while length < size and (piece := self._next(size - length)):
            pieces.append(piece)
            length += len(piece)
        return bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces)

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int) -> int:
        _refuse_backwards(self._position, offset)
        while self._position < offset and self._next(offset - self._position):
            pass
        return self._position

    def close(self) -> None:
        self._file.close()

    def _next(self, most: int) -> memoryview:
        """Return at most `most` of the next bytes, none at the end."""
        if not self._ready:
            self._ready = memoryview(self._more())
        piece, self._ready = self._ready[:most], self._ready[most:]
        self._position += len(piece)
        return piece

    def _more(self) -> bytes:
        """Return the next inflated bytes, empty at the end of the file. Raises EOFError where that comes too early."""
        while True:
            if self._inflate.eof:
                # Another compressed stream may follow, or zeros that fill a block.
                left = self._inflate.unused_data.lstrip(b"\0") or self._file.read(PIECE).lstrip(b"\0")
                if not left:
                    return b""
                self._inflate = _decompressor(self._kind)
                self._waiting = left
            elif not self._waiting and getattr(self._inflate, "needs_input", True):
                self._waiting = self._file.read(PIECE)
                if not self._waiting:
                    raise EOFError(f"the {self._kind} stream ends too early")
            try:
                # A limit, because 64 KiB of bz2 can hold a gigabyte of zeros.
                data: bytes = self._inflate.decompress(self._waiting, 16 * PIECE)
            except OSError as error:  # bz2's word for damage
                raise EOFError(f"the {self._kind} stream is corrupt ({error})") from None
            self._waiting = getattr(self._inflate, "unconsumed_tail", b"")
            if data:
                return data


def _decompressor(kind: str) -> Any:
    if kind == "gz":
        return zlib.decompressobj(wbits=31)
    if kind == "bz2":
        return bz2.BZ2Decompressor()
    return lzma.LZMADecompressor(memlimit=_LZMA_MEMORY)
