"""One PNG of the raw download -> a 1024 x 1024 gray array, or the reason why not.

Nearly all of ChestX-ray14 is 8-bit gray and takes the fast path: a strict decoder that checks every chunk's CRC, the
end chunk and that no row is missing, so that half an image never passes for a whole one. About 1 % are RGBA with
R = G = B; they and other colour types are converted here, openly.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

SIDE = 1024  # contracts.IMAGE_SIZE, without its imports

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GRAY, _RGB, _PALETTE, _GRAY_ALPHA, _RGBA = 0, 2, 3, 4, 6
_NAMES = {_GRAY: "gray", _RGB: "RGB", _PALETTE: "palette", _GRAY_ALPHA: "LA", _RGBA: "RGBA"}
_SAMPLES = {_GRAY: 1, _RGB: 3, _PALETTE: 1, _GRAY_ALPHA: 2, _RGBA: 4}  # bytes per pixel at 8 bits
# What people find under a .png name, by its first bytes.
_OTHERS = {
    b"\xff\xd8\xff": "a JPEG",
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
    """The bytes are not a whole 8-bit PNG of 1024 x 1024 pixels; the text says why."""


@dataclass(frozen=True)
class Pixels:
    """A decoded image.

    image: (1024, 1024) uint8. converted: "" for 8-bit gray, otherwise what it was converted from ("RGBA",
    "palette", ...), with ", colours mixed" or ", alpha applied" where that changed what is seen.
    """

    image: np.ndarray
    converted: str = ""


def read_png(data: bytes) -> Pixels:
    """Decode a PNG's bytes. Raises DamagedImage unless they are a whole 8-bit PNG of 1024 x 1024 pixels.

    Colour with R = G = B is taken as it is, other colour by the luma weights of ITU-R BT.601 (as Pillow's "L" and
    OpenCV do). An alpha of 255 everywhere is ignored, another one laid over black. A single shade or colour that is
    declared transparent (a tRNS chunk) is shown all the same.
    """
    from kornia_rs import io

    colour = _check_header(data)
    if colour != _GRAY:
        return _convert(data, colour)
    try:
        image_HW1 = io.decode_image_png_u8(data, (SIDE, SIDE), "mono")
    except Exception as error:
        raise DamagedImage(_plain(str(error))) from None
    return Pixels(image_HW1.reshape(SIDE, SIDE))


def _check_header(data: bytes) -> int:
    """Return the colour type of an 8-bit, 1024 x 1024, not interlaced PNG; refuse any other."""
    if len(data) == 0:
        raise DamagedImage("the file is empty (0 bytes)")
    start = data[:33]
    if start[:8] != _SIGNATURE:
        raise DamagedImage(f"not a PNG but {_what(data[:512])}")
    if len(start) < 33 or start[12:16] != b"IHDR":
        raise DamagedImage(f"the PNG is cut off inside its header ({len(data):,} bytes)")
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", start[16:29])
    if zlib.crc32(start[12:29]) != int.from_bytes(start[29:33], "big"):
        raise DamagedImage("the checksum of its PNG header does not match")
    if (width, height) != (SIDE, SIDE):
        raise DamagedImage(f"{width} x {height} pixels, expected {SIDE} x {SIDE}")
    if colour not in _NAMES:
        raise DamagedImage(f"unknown PNG colour type {colour}")
    if depth != 8:
        raise DamagedImage(f"{depth} bits per {_NAMES[colour]} sample, expected 8")
    if interlaced:
        raise DamagedImage("an interlaced PNG, expected one that is not")
    return int(colour)


def _what(start: bytes) -> str:
    for magic, name in _OTHERS.items():
        if start.startswith(magic):
            return name
    if not any(start):
        return "a file that begins with zeros (an unfinished download)"
    try:
        text = start.decode("ascii")
    except UnicodeDecodeError:
        return "a file of an unknown kind"
    return f"a text file (it begins with {text.splitlines()[0][:40]!r})"


def _plain(error: str) -> str:
    """Return the decoder's complaint in the user's terms."""
    error = error.removeprefix("Failed to decode the png image. ").rstrip(".")
    if "unexpected end of file" in error or "InsufficientInput" in error or "does not have enough data" in error:
        return "the PNG is cut off: pixels are missing"
    if error.startswith("CRC error"):
        return f"the checksum of a PNG chunk does not match ({error})"
    return f"the PNG cannot be decoded ({error})"


def _convert(data: bytes, colour: int) -> Pixels:
    """Decode colour or transparency with OpenCV, after checking by hand what it does not check."""
    import cv2

    _check_chunks(data, colour)
    image_HWC = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if image_HWC is None or image_HWC.shape[:2] != (SIDE, SIDE) or image_HWC.dtype != np.uint8:
        raise DamagedImage("the PNG cannot be decoded (OpenCV gave no such image)")
    image_HWC = image_HWC.reshape(SIDE, SIDE, -1)
    converted = _NAMES[colour]
    channels = image_HWC.shape[2]
    image_HW = np.ascontiguousarray(image_HWC[..., 0])
    if channels >= 3 and not (
        np.array_equal(image_HW, image_HWC[..., 1]) and np.array_equal(image_HW, image_HWC[..., 2])
    ):
        image_HW = cv2.cvtColor(image_HWC, cv2.COLOR_BGRA2GRAY if channels == 4 else cv2.COLOR_BGR2GRAY)
        converted += ", colours mixed"
    if channels in (2, 4) and (alpha_HW := image_HWC[..., -1]).min() != 255:
        image_HW = np.rint(image_HW * (alpha_HW / 255.0)).astype(np.uint8)
        converted += ", alpha applied"
    return Pixels(image_HW, converted)


def _check_chunks(data: bytes, colour: int) -> None:
    """Check every chunk's CRC, the end chunk and the number of pixel bytes."""
    pixels, names = [], []
    for name, body in _chunks(data):
        names.append(name)
        if name == b"IDAT":
            pixels.append(body)
    if not names or names[-1] != b"IEND":
        raise DamagedImage("the PNG is cut off: pixels are missing")
    expected = SIDE * (1 + SIDE * _SAMPLES[colour])  # one filter byte per row
    try:
        found = len(zlib.decompress(b"".join(pixels)))
    except zlib.error as error:
        raise DamagedImage(f"the PNG cannot be decoded ({error})") from None
    if found < expected:
        raise DamagedImage("the PNG is cut off: pixels are missing")


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
