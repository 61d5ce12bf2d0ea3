"""One image file of the raw download -> a square gray array, or the reason why not.

Nearly all of ChestX-ray14 is 8-bit gray PNG and takes the fast path: a strict decoder that checks every chunk's CRC,
the end chunk and that no row is missing, so that half an image never passes for a whole one. About 1 % are RGBA with
R = G = B; they, other colour types and the JPEGs of other people's copies are converted here, openly.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

SIDE = 1024  # contracts.IMAGE_SIZE, without its imports
LARGEST = 4096  # pixels; no copy of the data set has more, and a file of 100 kB can claim a gigabyte

SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_START = b"\xff\xd8"
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15; the others are tables
_JPEG_FILLERS = frozenset({0x01, 0xFF, *range(0xD0, 0xD8)})  # markers without a length
GRAY, _RGB, _PALETTE, _GRAY_ALPHA, _RGBA = 0, 2, 3, 4, 6
COLOURS = {GRAY: "gray", _RGB: "RGB", _PALETTE: "palette", _GRAY_ALPHA: "LA", _RGBA: "RGBA"}
SAMPLES = {GRAY: 1, _RGB: 3, _PALETTE: 1, _GRAY_ALPHA: 2, _RGBA: 4}  # bytes per pixel at 8 bits
# What people find under a .png name, by its first bytes.
_OTHERS = {
    SIGNATURE: "a PNG that is cut off inside its header",
    JPEG_START: "a JPEG that is cut off inside its header",
    b"GIF8": "a GIF",
    b"BM": "a BMP",
    b"II*\x00": "a TIFF",
    b"MM\x00*": "a TIFF",
    b"RIFF": "a WebP or another RIFF file",
    b"PK\x03\x04": "a ZIP archive",
    b"\x1f\x8b": "a gzip archive",
    b"version https://git-lfs": "a Git LFS pointer, not the file itself",
}


class DamagedImage(Exception):  # noqa: N818 - it says what the image is
    """The bytes are not a whole 8-bit PNG or JPEG of the expected size; the text says why."""


@dataclass(frozen=True)
class Pixels:
    """A decoded image."""

    image: np.ndarray
    """(side, side) uint8."""
    converted: str = ""
    """Empty for an 8-bit gray PNG, otherwise what it was converted from ("RGBA", "palette", "JPEG", ...), followed by
    ", colours mixed" or ", alpha ignored" where that could change what is seen."""


def read_image(data: bytes, side: int) -> Pixels:
    """Decode the bytes of a PNG or a JPEG. Raises DamagedImage unless they are a whole one of `side` x `side` pixels.

    Colour with R = G = B is taken as it is, other colour by the luma weights of ITU-R BT.601. Transparency, by an
    alpha channel or by a tRNS chunk, is ignored: the values are taken as they are stored. Pillow's `convert("L")`,
    OpenCV's and torchvision's gray modes do the same, and with them all who have published on this data set.
    """
    if data[:2] == JPEG_START:
        return _read_jpeg(data, side)
    colour = _check_header(data, side)
    if colour != GRAY:
        return _convert(data, colour, side)
    from kornia_rs import io

    try:
        image_HW1 = io.decode_image_png_u8(data, (side, side), "mono")
    except Exception as error:
        raise DamagedImage(_plain(str(error))) from None
    return Pixels(image_HW1.reshape(side, side))


def read_png(data: bytes) -> Pixels:
    """Return `read_image` of a full-size image, 1024 x 1024 pixels."""
    return read_image(data, SIDE)


def image_size(start: bytes) -> tuple[int, int] | None:
    """Return (width, height) in pixels from the first bytes of a PNG or JPEG; None where they do not tell."""
    if start[:8] == SIGNATURE:
        return struct.unpack(">II", start[16:24]) if start[12:16] == b"IHDR" and len(start) >= 24 else None
    if start[:2] == JPEG_START and (frame := jpeg_frame(start)):
        return frame.width, frame.height
    return None


def check_png_is_whole(data: bytes) -> None:
    """Raise DamagedImage unless every chunk of a PNG, of any size and depth, is there up to the end chunk."""
    names = [name for name, _ in _chunks(data)]
    if not names or names[-1] != b"IEND":
        raise DamagedImage("the PNG is cut off: pixels are missing")


def read_jpeg(data: bytes) -> np.ndarray:
    """Return the pixels of a JPEG of any size, (H, W, 1) or (H, W, 3) with blue first, uint8.

    By a decoder that, unlike OpenCV's and Pillow's, takes a corrupt stream for an error. Raises DamagedImage.
    """
    from kornia_rs import io

    frame = jpeg_frame(data)
    if frame is None:
        raise DamagedImage(f"the JPEG is cut off inside its header ({len(data):,} bytes)")
    if frame.depth != 8 or frame.channels not in (1, 3):
        raise DamagedImage(f"a JPEG of {frame.channels} channels of {frame.depth} bits, expected 1 or 3 of 8")
    try:
        image_HWC = io.decode_image_jpegturbo(data, "mono" if frame.channels == 1 else "rgb")
    except Exception:  # it does not say what is wrong
        raise DamagedImage("the JPEG is cut off or damaged") from None
    return np.asarray(image_HWC).reshape(frame.height, frame.width, frame.channels)[..., ::-1]


def what_it_is(start: bytes) -> str:
    """Return what a file that is no whole image is, from its first bytes: "a GIF", "a Git LFS pointer, ..."."""
    for magic, name in _OTHERS.items():
        if start.startswith(magic):
            return name
    if not any(start):
        return "a file that begins with zeros (an unfinished download)" if start else "an empty file"
    try:
        text = start.decode("ascii")
    except UnicodeDecodeError:
        return "a file of an unknown kind"
    return f"a text file (it begins with {(text.splitlines() or [''])[0][:40]!r})"


def _check_header(data: bytes, side: int) -> int:
    """Return the colour type of an 8-bit, `side` x `side`, not interlaced PNG; refuse any other."""
    if len(data) == 0:
        raise DamagedImage("the file is empty (0 bytes)")
    start = data[:33]
    if start[:8] != SIGNATURE:
        raise DamagedImage(f"not a PNG but {what_it_is(data[:512])}")
    if len(start) < 33 or start[12:16] != b"IHDR":
        raise DamagedImage(f"the PNG is cut off inside its header ({len(data):,} bytes)")
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", start[16:29])
    if zlib.crc32(start[12:29]) != int.from_bytes(start[29:33], "big"):
        raise DamagedImage("the checksum of its PNG header does not match")
    _check_size(width, height, side)
    if colour not in COLOURS:
        raise DamagedImage(f"unknown PNG colour type {colour}")
    if depth != 8:
        raise DamagedImage(f"{depth} bits per {COLOURS[colour]} sample, expected 8")
    if interlaced:
        raise DamagedImage("an interlaced PNG, expected one that is not")
    return int(colour)


def _check_size(width: int, height: int, side: int) -> None:
    if side > LARGEST:
        raise DamagedImage(f"{width} x {height} pixels, expected {LARGEST} x {LARGEST} at the most")
    if (width, height) != (side, side):
        raise DamagedImage(f"{width} x {height} pixels, expected {side} x {side}")


def _plain(error: str) -> str:
    """Return the decoder's complaint in the user's terms."""
    error = error.removeprefix("Failed to decode the png image. ").rstrip(".")
    if "unexpected end of file" in error or "InsufficientInput" in error or "does not have enough data" in error:
        return "the PNG is cut off: pixels are missing"
    if error.startswith("CRC error"):
        return f"the checksum of a PNG chunk does not match ({error})"
    return f"the PNG cannot be decoded ({error})"


def _convert(data: bytes, colour: int, side: int) -> Pixels:
    """Decode what is not plain gray by OpenCV, after checking by hand what it does not check."""
    import cv2

    check_chunks(data, side * (1 + side * SAMPLES[colour]))  # one filter byte per row
    image_HWC = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if image_HWC is None or image_HWC.shape[:2] != (side, side) or image_HWC.dtype != np.uint8:
        raise DamagedImage("the PNG cannot be decoded (OpenCV gave no such image)")
    image_HWC = image_HWC.reshape(side, side, -1)
    channels = image_HWC.shape[2]
    pixels = to_gray(image_HWC[..., :3] if channels >= 3 else image_HWC[..., :1], COLOURS[colour])
    if channels in (2, 4) and image_HWC[..., -1].min() != 255:
        return Pixels(pixels.image, pixels.converted + ", alpha ignored")
    return pixels


def to_gray(image_HWC: np.ndarray, converted: str) -> Pixels:
    """Return the one channel, or the three of a BGR image in one: as they are if they agree, else mixed."""
    import cv2

    image_HW = np.ascontiguousarray(image_HWC[..., 0])
    if all(np.array_equal(image_HW, image_HWC[..., channel]) for channel in range(1, image_HWC.shape[2])):
        return Pixels(image_HW, converted)
    mixed_HW = cv2.cvtColor(np.ascontiguousarray(image_HWC), cv2.COLOR_BGR2GRAY)
    return Pixels(mixed_HW, converted + ", colours mixed")


def check_chunks(data: bytes, expected: int) -> None:
    """Check every chunk's CRC, the end chunk and the number of pixel bytes, the filter bytes among them.

    Raises DamagedImage.
    """
    pixels, names = [], []
    for name, body in _chunks(data):
        names.append(name)
        if name == b"IDAT":
            pixels.append(body)
    if not names or names[-1] != b"IEND":
        raise DamagedImage("the PNG is cut off: pixels are missing")
    try:
        found = _inflated_size(b"".join(pixels), expected)
    except zlib.error as error:
        raise DamagedImage(f"the PNG cannot be decoded ({error})") from None
    if found < expected:
        raise DamagedImage("the PNG is cut off: pixels are missing")
    if found > expected:
        raise DamagedImage("the PNG holds more pixels than its header says")


def _inflated_size(data: bytes, expected: int) -> int:
    """Return how many bytes `data` inflates to, or `expected` + 1 where they are more: a bomb must not go off here.

    Raises zlib.error where the stream is damaged or its checksum does not match.
    """
    inflate = zlib.decompressobj()
    found = 0
    while not inflate.eof and found <= expected:
        piece = inflate.decompress(data, expected + 1 - found)
        data = inflate.unconsumed_tail
        if not piece and not inflate.eof:
            break
        found += len(piece)
    return found


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield (name, body) up to the end chunk, or up to where the file is cut off."""
    position, name = 8, b""
    while position + 12 <= len(data) and name != b"IEND":
        length = int.from_bytes(data[position : position + 4], "big")
        name, body = data[position + 4 : position + 8], data[position + 8 : position + 8 + length]
        crc32 = data[position + 8 + length : position + 12 + length]
        if len(crc32) < 4:
            return
        if zlib.crc32(body, zlib.crc32(name)) != int.from_bytes(crc32, "big"):
            raise DamagedImage(f"the checksum of a PNG chunk does not match ({name.decode('ascii', 'replace')})")
        yield name, body
        position += 12 + length


@dataclass(frozen=True)
class JpegFrame:
    """What a JPEG's frame header says."""

    width: int
    """Pixels."""
    height: int
    """Pixels."""
    depth: int
    """Bits per sample."""
    channels: int
    """1 for gray, 3 for colour."""


def _read_jpeg(data: bytes, side: int) -> Pixels:
    """Decode a JPEG of `side` x `side` pixels."""
    frame = jpeg_frame(data)
    if frame is not None:
        _check_size(frame.width, frame.height, side)
    return to_gray(read_jpeg(data), "JPEG")


def jpeg_frame(data: bytes) -> JpegFrame | None:
    """Return the frame header, which stands before the pixels; None where the bytes end before it or make no sense."""
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker in _JPEG_FILLERS:
            position += 1 if marker == 0xFF else 2
            continue
        if marker in _JPEG_FRAMES:
            if position + 10 > len(data):
                return None
            depth, height, width, channels = struct.unpack(">BHHB", data[position + 4 : position + 10])
            return JpegFrame(width, height, depth, channels)
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return None
