"""One film of another hospital, of any size and proportions -> a square gray array of 8 bits, or the reason why not.

Letterboxed: the whole film is scaled until its longer side fits the square, keeping its proportions, and laid on the
middle of a black one. So nothing of the lungs is cut off, and a box on the film is a box on the square (`Placed`).

A PNG of 16 bits is spread linearly from its own darkest to its own brightest pixel onto 0 to 255. How many of the 16
bits a film uses differs between machines (10, 12 or all), so that a division by 65,535 would leave many nearly black.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from cxrkit.sources import dicom, pixels
from cxrkit.sources.pixels import DamagedImage, Pixels

LETTERBOX = "letterbox"  # what ShardSettings.fit calls all of this
SIXTEEN_BITS = "16 bits"
DICOM = "DICOM"
LARGEST = 8192  # pixels along a side; the largest published film has 4,891
_BAR = 0  # gray level of the bars, as of the collimated edges of ChestX-ray14's films

_Image = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Placed:
    """Where a film lies on the square canvas, in pixels of the canvas."""

    side: int
    """Pixels along each side of the canvas."""
    left: int
    """Of the film's left edge."""
    top: int
    """Of the film's top edge."""
    width: int
    """Of the film."""
    height: int
    """Of the film."""

    @classmethod
    def of(cls, width: int, height: int, side: int) -> Placed:
        """Return the place of a film of `width` x `height` pixels on a canvas of `side` x `side`."""
        longer = max(width, height)
        wide, high = (max(1, round(edge * side / longer)) for edge in (width, height))
        return cls(side, (side - wide) // 2, (side - high) // 2, wide, high)

    def box(
        self, x: float, y: float, width: float, height: float, film: tuple[int, int]
    ) -> tuple[float, float, float, float]:
        """Return x, y, width and height on the canvas of a box in pixels of the film; film: its width and height."""
        across, down = self.width / film[0], self.height / film[1]
        return self.left + x * across, self.top + y * down, width * across, height * down


def read_film(data: bytes, side: int) -> Pixels:
    """Decode a PNG of 8 or 16 bits, a JPEG or a DICOM file, of any size, onto a canvas of `side` x `side` pixels.

    Colour is made gray as `pixels.read_image` does; a DICOM is shown by its own window (sources/dicom.py). Raises
    DamagedImage unless the bytes are a whole image, UserError for a DICOM where pydicom is missing.
    """
    if dicom.looks_like_one(data):
        return Pixels(letterboxed(dicom.read(data)[0], side), DICOM)
    film = _read_jpeg(data) if data[:2] == pixels.JPEG_START else _read_png(data)
    return Pixels(letterboxed(film.image, side), film.converted)


def letterboxed(film_HW: _Image, side: int) -> _Image:
    """Return (side, side) uint8: the whole film in the middle, its proportions kept, and black bars beside it."""
    import cv2

    height, width = film_HW.shape
    place = Placed.of(width, height, side)
    if (place.width, place.height) != (width, height):
        how = cv2.INTER_AREA if place.width < width else cv2.INTER_LINEAR
        film_HW = np.asarray(cv2.resize(film_HW, (place.width, place.height), interpolation=how))
    canvas_HW = np.full((side, side), _BAR, np.uint8)
    canvas_HW[place.top : place.top + place.height, place.left : place.left + place.width] = film_HW
    return canvas_HW


def in_8_bits(film_HW: _Image) -> _Image:
    """Return a film of 16 bits in 8: its darkest pixel is 0, its brightest 255, and what lies between is rounded.

    A film of a single gray level becomes 0.
    """
    low, high = int(film_HW.min()), int(film_HW.max())
    if high == low:
        return np.zeros(film_HW.shape, np.uint8)
    # By a table of at most 65,536 entries: a film has some five million pixels.
    levels = np.arange(high + 1, dtype=np.int64)
    table = ((np.maximum(levels - low, 0) * 510 + (high - low)) // (2 * (high - low))).astype(np.uint8)
    return np.asarray(table[film_HW])


def _check_size(width: int, height: int) -> None:
    if not (0 < width <= LARGEST and 0 < height <= LARGEST):
        raise DamagedImage(f"{width} x {height} pixels, expected 1 to {LARGEST} along each side")


def _read_png(data: bytes) -> Pixels:
    import cv2

    width, height, depth, colour = _header(data)
    row = -(-width * pixels.SAMPLES[colour] * depth // 8)
    pixels.check_chunks(data, height * (1 + row))  # one filter byte per row
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None or image.shape[:2] != (height, width) or image.dtype not in (np.uint8, np.uint16):
        raise DamagedImage("the PNG cannot be decoded (OpenCV gave no such image)")
    image_HWC = image.reshape(height, width, -1)
    name = pixels.COLOURS[colour] if colour != pixels.GRAY else ""
    if image_HWC.dtype == np.uint16:
        return Pixels(in_8_bits(image_HWC[..., 0]), f"{name}, {SIXTEEN_BITS}".removeprefix(", "))
    if image_HWC.shape[2] == 1:
        return Pixels(np.ascontiguousarray(image_HWC[..., 0]), name)
    return pixels.to_gray(image_HWC[..., :3], name)


def _header(data: bytes) -> tuple[int, int, int, int]:
    """Return width, height, bits per sample and colour type of a PNG that can be read, or say why it cannot."""
    if data[:8] != pixels.SIGNATURE:
        raise DamagedImage(f"not a PNG or JPEG but {pixels.what_it_is(data[:512])}")
    if len(data) < 33 or data[12:16] != b"IHDR":
        raise DamagedImage(f"the PNG is cut off inside its header ({len(data):,} bytes)")
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", data[16:29])
    if zlib.crc32(data[12:29]) != int.from_bytes(data[29:33], "big"):
        raise DamagedImage("the checksum of its PNG header does not match")
    _check_size(width, height)
    if colour not in pixels.COLOURS:
        raise DamagedImage(f"unknown PNG colour type {colour}")
    if depth != 8 and not (depth == 16 and colour == pixels.GRAY):
        raise DamagedImage(f"{depth} bits per {pixels.COLOURS[colour]} sample, expected 8, or 16 of gray")
    if interlaced:
        raise DamagedImage("an interlaced PNG, expected one that is not")
    return width, height, depth, colour


def _read_jpeg(data: bytes) -> Pixels:
    frame = pixels.jpeg_frame(data)
    if frame is not None:  # before anything is decoded; a header that is cut off is told below
        _check_size(frame.width, frame.height)
    image_HWC = pixels.read_jpeg(data)
    return pixels.to_gray(image_HWC, "" if image_HWC.shape[2] == 1 else "JPEG in colour")
