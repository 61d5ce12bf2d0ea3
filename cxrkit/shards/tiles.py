r"""Parts of a JPEG that decode alone, so that a window costs what it holds and not what its image holds.

A level is written with a restart marker behind every `interval` blocks of 8 x 8 pixels. What lies between two markers,
a tile of 8 * interval x 8 pixels, needs nothing of what came before it: tiles joined behind a header of their common
size are a JPEG of that part, and its pixels are those of the whole image, to the last bit. The record stays a file that
every decoder reads. Where the rows of tiles lie is said in an application segment behind the first one (JFIF's), all
numbers big-endian as in all of JPEG:

    FF E9, length (uint16), "cxrkit\0", where the frame header begins (uint16),
    where each row of tiles begins, and where the last one ends (uint32 each)

Within a row the markers themselves say where a tile ends. An index of the tiles too would save 20 of the 60
microseconds that joining takes at 1024 pixels, and make the files 2.8 instead of 1.9 % larger than without tiles.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

RESTART = 16  # blocks a tile, where they divide a row; 8 would save 5 % of the decoding, for files 3.5 % larger
_BLOCK = 8  # pixels along each side
_FEWEST, _MOST = 16, 128  # blocks in a row of a level with tiles
_START = 20  # where the index begins: behind the start of the image and JFIF's segment
_HEADERS = 1024  # bytes that hold all headers of a gray JPEG, which has one table of each kind
_INDEX = struct.Struct(">2sH7sH")
_PLACE, _SIZE = struct.Struct(">I"), struct.Struct(">HH")
_NAME = b"cxrkit\0"
_APP9, _JFIF, _FRAME = b"\xff\xe9", b"\xff\xd8\xff\xe0\x00\x10JFIF\0", b"\xff\xc0\x00\x0b\x08"
_RST0, _EOI = 0xD0, 0xD9
_MARKERS = bytes(range(_RST0, _RST0 + 8)) * (_MOST * _MOST // 8)  # they count from 0 to 7 and again from 0
_CYCLE = np.frombuffer(_MARKERS, np.uint8)

Window = tuple[int, int, int, int]  # left, top, right, bottom


@cache
def interval(side: int, restart: int) -> int:
    """Return the blocks between two restart markers of a level: the divisor of a row nearest to `restart`; 0 for none.

    A divisor, so that every row begins a tile: 16 for 1024, 512 and 256, 20 for 320 and 160, 14 for 224. A level below
    121 pixels has none, as joining would cost what it saves, nor has one above 1024.
    """
    row = -(-side // _BLOCK)
    if not restart or not _FEWEST <= row <= _MOST:
        return 0
    # Below 8 the markers would be 5 % of the file and more.
    divisors = [blocks for blocks in range(8, row + 1) if row % blocks == 0]
    return min(divisors, key=lambda blocks: max(blocks / restart, restart / blocks))


def with_index(data: NDArray[np.uint8], side: int, blocks: int) -> NDArray[np.uint8]:
    """Return the JPEG `data` of a (side, side) image with an interval of `blocks`, with its index put in."""
    rows, columns = _grid(side, blocks)
    header, scan_header = data[:_HEADERS].tobytes(), _scan_header(blocks)
    frame, scan = header.find(_frame_header(side)), header.find(scan_header) + len(scan_header)
    assert header.startswith(_JFIF), "OpenCV writes JFIF"
    assert frame > 0, "OpenCV writes gray baseline JPEGs"
    assert scan > frame, "OpenCV writes the interval right before the only scan"
    length = _INDEX.size + _PLACE.size * (rows + 1)
    index = np.empty(length, np.uint8)
    _INDEX.pack_into(index.data, 0, _APP9, length - 2, _NAME, frame + length)
    row_ends = _ends(data[scan:], 0, rows * columns, last=True)[columns - 1 :: columns] + scan
    index[_INDEX.size :].view(">u4")[:] = np.concatenate([[scan], row_ends]) + length
    return np.concatenate([data[:_START], index, data[_START:]])


def join(data: NDArray[np.uint8], side: int, blocks: int, window: Sequence[int]) -> tuple[NDArray[np.uint8], Window]:
    """Return a JPEG of the tiles that `window` (left, top, right, bottom) meets, and the part of the level that it is.

    data: what `with_index` made. That itself is returned where the window meets all tiles. Raises ValueError where the
    index or the markers in these rows are not as they were written.
    """
    left, top, right, bottom = window
    assert 0 <= left < right <= side
    assert 0 <= top < bottom <= side
    width, (rows, columns) = _BLOCK * blocks, _grid(side, blocks)
    first, end, first_row, end_row = left // width, -(-right // width), top // _BLOCK, -(-bottom // _BLOCK)
    part = first * width, first_row * _BLOCK, min(end * width, side), min(end_row * _BLOCK, side)
    if part == (0, 0, side, side):
        return data, part
    header, start, stop = _read(data, side, blocks, part)
    ends = _ends(data[start:stop], first_row * columns, (end_row - first_row) * columns, last=end_row == rows)
    view = data.data[start:stop]
    pieces = [view]
    if end - first < columns:
        ends_RC = ends.reshape(-1, columns)
        starts = ends_RC[:, first - 1].tolist() if first else [0, *ends_RC[:-1, -1].tolist()]
        pieces = [view[begin:until] for begin, until in zip(starts, ends_RC[:, end - 1].tolist(), strict=True)]
    joined = np.frombuffer(bytearray().join([header, *pieces]), np.uint8)
    ends[1:] -= ends[:-1]  # now their sizes
    marks = ends.reshape(-1, columns)[:, first:end].cumsum()
    marks += len(header) - 1
    joined[marks] = _CYCLE[: len(marks)]
    joined[-1] = _EOI
    return joined, part


def check(data: NDArray[np.uint8], side: int, blocks: int) -> None:
    """Raise ValueError unless the index and every marker of the JPEG are as they were written."""
    rows, columns = _grid(side, blocks)
    _, start, stop = _read(data, side, blocks, (0, 0, side, side))
    row_ends = _ends(data[start:stop], 0, rows * columns, last=True)[columns - 1 :: columns] + start
    if not np.array_equal(np.frombuffer(data, ">u4", rows + 1, _START + _INDEX.size)[1:], row_ends):
        raise ValueError("the rows of jpeg tiles do not lie where the index says")


def _grid(side: int, blocks: int) -> tuple[int, int]:
    """Return the rows and columns of tiles."""
    return -(-side // _BLOCK), -(-side // (_BLOCK * blocks))


@cache
def _frame_header(side: int) -> bytes:
    """Return how the header of a gray baseline JPEG of this size begins."""
    return _FRAME + _SIZE.pack(side, side)


@cache
def _scan_header(blocks: int) -> bytes:
    """Return what lies before the first tile: the interval, and the header of a scan of one component."""
    return b"\xff\xdd\x00\x04" + struct.pack(">H", blocks) + b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00"


def _ends(tiles: NDArray[np.uint8], number: int, count: int, *, last: bool) -> NDArray[np.int64]:
    """Return where each of the `count` tiles ends, its marker included, from the first one, which is tile `number`.

    last: the last of them is the last of the image, and ends with it.
    """
    expected = _MARKERS[number : number + count]
    if last:
        expected = expected[:-1] + bytes((_EOI,))
    # FF 00 is a byte of a tile, FF and anything else is a marker.
    places: NDArray[np.int64] = ((tiles[:-1] == 0xFF) & (tiles[1:] != 0)).nonzero()[0]
    places += 1
    if tiles[places].tobytes() != expected or places[-1] + 1 != len(tiles):
        raise ValueError("the markers between the jpeg tiles are not as they were written")
    places += 1
    return places


def _read(data: NDArray[np.uint8], side: int, blocks: int, part: Window) -> tuple[bytearray, int, int]:
    """Return the header of a JPEG of `part`, and where the first of its rows of tiles begins and the last one ends."""
    rows, columns = _grid(side, blocks)
    length = _INDEX.size + _PLACE.size * (rows + 1)
    view = data.data
    if len(view) < _START + length:
        raise ValueError("the jpeg bytes hold no index of their tiles")
    marker, said, name, frame = _INDEX.unpack_from(view, _START)
    if (marker, said, name) != (_APP9, length - 2, _NAME):
        raise ValueError("the jpeg bytes hold no index of their tiles")
    left, top, right, bottom = part
    first_row, end_row = top // _BLOCK, -(-bottom // _BLOCK)
    places = _START + _INDEX.size
    scan, start, stop, total = (
        _PLACE.unpack_from(view, places + _PLACE.size * row)[0] for row in (0, first_row, end_row, rows)
    )
    header = bytearray().join([view[:_START], view[_START + length : scan]])
    at = frame - length
    if not (header.startswith(_JFIF) and header.endswith(_scan_header(blocks))):
        raise ValueError("the jpeg header is not that of a level with tiles")
    if at < _START or not header.startswith(_frame_header(side), at):
        raise ValueError(f"the jpeg header is not that of a {side}x{side} image")
    _SIZE.pack_into(header, at + len(_FRAME), bottom - top, right - left)
    before = bytes((0xFF, _MARKERS[first_row * columns - 1]))
    begins = start == scan if first_row == 0 else view[start - 2 : start] == before
    if not (begins and scan <= start < stop <= total == len(view)):
        raise ValueError("the rows of jpeg tiles do not lie where the index says")
    return header, start, stop
