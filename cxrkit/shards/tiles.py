r"""Parts of a JPEG that decode alone, so that a window costs what it holds and not what its image holds.

A level is written with a restart marker behind every `interval` blocks of 8 x 8 pixels. What lies between two markers,
a tile of 8 * interval x 8 pixels, needs nothing of what came before it: tiles joined behind a header of their common
size are a JPEG of that part, and its pixels are those of the whole image, to the last bit. The record stays a file that
every decoder reads. What the rows of tiles take lies in an application segment behind the first one (JFIF's), all
numbers big-endian as in all of JPEG:

    FF E9, length (uint16), "cxrkit\0", where the frame header begins (uint16), where the first tile begins (uint16),
    bytes of each row of tiles with its markers (uint16 each)

Within a row the markers themselves say where a tile ends. A size for each tile would save 30 of the 65 microseconds
that joining takes at 1024 pixels, and would make the files 2.7 instead of 1.8 % larger than without tiles.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

RESTART = 16  # blocks a tile, where they divide a row; 8 would save 5 % of the decoding, for files 3.5 % larger
_BLOCK = 8  # pixels along each side
_FEWEST, _MOST = 16, 128  # blocks in a row of a level with tiles
_START = 20  # where the index begins: behind the start of the image and JFIF's segment
_INDEX = struct.Struct(">2sH7sHH")
_SIZE = struct.Struct(">HH")
_NAME = b"cxrkit\0"
_APP9, _JFIF, _FRAME = b"\xff\xe9", b"\xff\xd8\xff\xe0\x00\x10JFIF\0", b"\xff\xc0\x00\x0b\x08"
_RST0, _EOI = 0xD0, 0xD9
_CYCLE = np.tile(np.arange(_RST0, _RST0 + 8, dtype=np.uint8), _MOST * _MOST // 8)

Window = tuple[int, int, int, int]  # left, top, right, bottom


def interval(side: int, restart: int) -> int:
    """Return the blocks between two restart markers of a level: the divisor of a row nearest to `restart`; 0 for none.

    A divisor, so that every row begins a tile: 16 for 1024, 512 and 256, 20 for 320 and 160, 14 for 224. A level below
    121 pixels has none, as joining would cost what it saves; nor has one above 1024, where a row might be too long for
    its number in the index.
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
    whole, scan_header = data.tobytes(), _scan_header(blocks)
    frame, scan = whole.find(_FRAME + _SIZE.pack(side, side)), whole.find(scan_header) + len(scan_header)
    assert whole.startswith(_JFIF), "OpenCV writes JFIF"
    assert frame > 0, "OpenCV writes gray baseline JPEGs"
    assert scan > frame, "OpenCV writes the interval right before the only scan"
    ends = _ends(data, scan, len(data), rows * columns, 0)
    sizes = np.diff(ends[columns - 1 :: columns], prepend=scan).astype(">u2").tobytes()
    length = _INDEX.size + len(sizes)
    index = _INDEX.pack(_APP9, length - 2, _NAME, frame + length, scan + length) + sizes
    return np.concatenate([data[:_START], np.frombuffer(index, np.uint8), data[_START:]])


def join(
    data: NDArray[np.uint8], side: int, blocks: int, window: Sequence[int], *, whole: bool = False
) -> tuple[NDArray[np.uint8], Window]:
    """Return a JPEG of the tiles that `window` (left, top, right, bottom) meets, and the part of the level that it is.

    data: what `with_index` made. That itself is returned where the window meets all tiles, unless `whole`. Raises
    ValueError where the index or the markers in these rows are not as they were written.
    """
    left, top, right, bottom = window
    assert 0 <= left < right <= side
    assert 0 <= top < bottom <= side
    width, (rows, columns) = _BLOCK * blocks, _grid(side, blocks)
    first, end, first_row, end_row = left // width, -(-right // width), top // _BLOCK, -(-bottom // _BLOCK)
    part = first * width, first_row * _BLOCK, min(end * width, side), min(end_row * _BLOCK, side)
    if part == (0, 0, side, side) and not whole:
        return data, part
    header, row_ends = _read(data, side, blocks, part)
    start, stop = int(row_ends[first_row]), int(row_ends[end_row])
    count, last_row = (end_row - first_row) * columns, end_row == rows
    ends_RC = _ends(data, start, stop, count, first_row * columns, to_the_end=last_row).reshape(-1, columns)
    if not np.array_equal(ends_RC[:, -1], row_ends[first_row + 1 : end_row + 1]):
        raise ValueError("the rows of jpeg tiles do not end where the index says")
    starts = row_ends[first_row:end_row] if first == 0 else ends_RC[:, first - 1]
    stops = ends_RC[:, end - 1]
    view = data.data
    if end - first == columns:
        pieces = [view[start:stop]]
    else:
        pieces = [view[begin:until] for begin, until in zip(starts.tolist(), stops.tolist(), strict=True)]
    joined = np.frombuffer(bytearray().join([header, *pieces]), np.uint8)
    # The markers count from 0 to 7 and again from 0, and the last tile ends with the image.
    sizes = stops - starts
    moved = len(header) - 1 - starts + sizes.cumsum() - sizes
    marks = (ends_RC[:, first:end] + moved[:, None]).ravel()
    joined[marks] = _CYCLE[: len(marks)]
    joined[-1] = _EOI
    return joined, part


def check(data: NDArray[np.uint8], side: int, blocks: int) -> None:
    """Raise ValueError unless the index and every marker of the JPEG are as they were written."""
    join(data, side, blocks, (0, 0, side, side), whole=True)


def _grid(side: int, blocks: int) -> tuple[int, int]:
    """Return the rows and columns of tiles."""
    return -(-side // _BLOCK), -(-side // (_BLOCK * blocks))


def _scan_header(blocks: int) -> bytes:
    """Return what lies before the first tile: the interval, and the header of a scan of one component."""
    return b"\xff\xdd\x00\x04" + struct.pack(">H", blocks) + b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00"


def _ends(
    data: NDArray[np.uint8], start: int, stop: int, count: int, number: int, *, to_the_end: bool = True
) -> NDArray[np.int64]:
    """Return where each of `count` tiles ends, its marker included; the first one, at `start`, is tile `number`.

    to_the_end: the last of them is the last of the image.
    """
    tiles = data[start:stop]
    places = np.flatnonzero(tiles[:-1] == 0xFF)
    markers = tiles[places + 1]
    places, markers = places[markers != 0], markers[markers != 0]  # FF 00 is a byte of a tile
    expected = _CYCLE[number : number + count]
    if to_the_end:
        expected = expected.copy()
        expected[-1] = _EOI
    if not np.array_equal(markers, expected) or int(places[-1]) + 2 != stop - start:
        raise ValueError("the markers between the jpeg tiles are not as they were written")
    ends: NDArray[np.int64] = places + (start + 2)
    return ends


def _read(data: NDArray[np.uint8], side: int, blocks: int, part: Window) -> tuple[bytearray, NDArray[np.int64]]:
    """Return the header of a JPEG of `part`, and where the first row of tiles begins and each one ends."""
    rows, _ = _grid(side, blocks)
    length = _INDEX.size + 2 * rows
    if len(data) < _START + length:
        raise ValueError("the jpeg bytes hold no index of their tiles")
    marker, said, name, frame, scan = _INDEX.unpack_from(data.data, _START)
    if (marker, said, name) != (_APP9, length - 2, _NAME):
        raise ValueError("the jpeg bytes hold no index of their tiles")
    header = bytearray(data[:_START]) + bytearray(data[_START + length : scan])
    at = frame - length
    if not (header.startswith(_JFIF) and header.endswith(_scan_header(blocks))):
        raise ValueError("the jpeg header is not that of a level with tiles")
    if at < _START or header[at : at + len(_FRAME) + _SIZE.size] != _FRAME + _SIZE.pack(side, side):
        raise ValueError(f"the jpeg header is not that of a {side}x{side} image")
    left, top, right, bottom = part
    _SIZE.pack_into(header, at + len(_FRAME), bottom - top, right - left)
    row_ends = np.empty(rows + 1, np.int64)
    row_ends[0] = scan
    row_ends[1:] = np.frombuffer(data, ">u2", rows, _START + _INDEX.size)
    row_ends = row_ends.cumsum()
    if row_ends[-1] != len(data):
        raise ValueError("the sizes of the rows of jpeg tiles do not add up")
    return header, row_ends
