"""Which files there are, and what one of them shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrkit.base.errors import UserError
from cxrkit.base.words import count
from cxrkit.films.film import Film
from cxrkit.sources import gray, pixels
from cxrkit.sources.dicom import Header
from cxrkit.sources.pixels import DamagedImage

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm", ".dicom")
_TIFF = (b"II*\x00", b"MM\x00*")
_PREAMBLE = 128  # bytes before "DICM"


@dataclass(frozen=True)
class Found:
    """The files that were asked for."""

    files: tuple[tuple[str, Path], ...]
    """Name and path of each, sorted within a folder."""

    passed_over: tuple[str, ...]
    """The files of folders that are no images by their names and first bytes."""


def find(asked: Sequence[Path]) -> Found:
    """Return the files of `asked`: files as they are, of folders all images in them and below.

    Raises UserError for what is not there, and where no image is found.
    """
    files: dict[Path, str] = {}
    passed_over: list[str] = []
    for path in asked:
        if path.is_dir():
            for file in sorted(item for item in path.rglob("*") if item.is_file()):
                inside = file.relative_to(path)
                if any(part.startswith(".") for part in inside.parts):
                    continue
                if file.suffix.lower() in SUFFIXES or (not file.suffix and _is_dicom(_start(file))):
                    files.setdefault(file, str(inside))
                else:
                    passed_over.append(str(inside))
        elif path.exists():
            files.setdefault(path, path.name)
        else:
            raise UserError(f"--images {path}: does not exist", remedy="name an image file, or a folder of them")
    if not files:
        more = f" ({count(len(passed_over), 'other file')})" if passed_over else ""
        raise UserError(
            f"--images {', '.join(map(str, asked))}: holds no image{more}",
            remedy=f"name files that end in {', '.join(SUFFIXES)}",
        )
    return Found(tuple((name, path) for path, name in files.items()), tuple(passed_over))


def read(name: str, path: Path, side: int) -> Film:
    """Return the film in a file, on a canvas of `side` x `side` pixels.

    A gray PNG of that size gives its own pixels. Raises DamagedImage, with the reason, for what is no whole image.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DamagedImage(f"cannot be read ({error.strerror})") from None
    if is_dicom(path, data):
        from cxrkit.sources import dicom

        image_HW, header, notes = dicom.read(data)
    else:
        image_HW, notes = _plain(data, side)
        header = Header()
    height, width = image_HW.shape
    return Film(name, path, gray.square(image_HW, side), width, height, header, notes)


def header_of(path: Path) -> Header | None:
    """Return what a file says of itself, without its pixels: nothing unless it is DICOM; None where it is not read."""
    try:
        with open(path, "rb") as file:
            start = file.read(_PREAMBLE + 4)
            if not is_dicom(path, start):
                return Header()
            from cxrkit.sources import dicom

            return dicom.header(path.read_bytes())
    except (OSError, DamagedImage):
        return None


def is_dicom(path: Path, start: bytes) -> bool:
    """Return whether a file is DICOM, by its first bytes; one without the preamble by its name."""
    if _is_dicom(start):
        return True
    known = start.startswith((b"\x89PNG", b"\xff\xd8", *_TIFF))
    return path.suffix.lower() in (".dcm", ".dicom") and not known


def _is_dicom(start: bytes) -> bool:
    return start[_PREAMBLE : _PREAMBLE + 4] == b"DICM"


def _start(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(_PREAMBLE + 4)
    except OSError:
        return b""


def _plain(data: bytes, side: int) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Return (H, W) gray levels of a PNG, a JPEG or a TIFF, and what was done to them."""
    size = pixels.image_size(data)
    if size == (side, side) and _is_like_the_data_sets(data):
        read = pixels.read_image(data, side)
        mixed = ("in colour: mixed to gray",) if "colours mixed" in read.converted else ()
        return read.image, mixed
    if size is not None and max(size) > gray.LARGEST_SIDE:
        raise DamagedImage(f"{size[0]:,} x {size[1]:,} pixels, expected {gray.LARGEST_SIDE:,} at the most")
    image_HW, colour = gray.one_channel(_decoded(data))
    if min(image_HW.shape) < 32:
        raise DamagedImage(f"{image_HW.shape[1]} x {image_HW.shape[0]} pixels, too few for a film")
    levels_HW, depth = gray.eight_bits(image_HW)
    return levels_HW, (*colour, *depth)


def _is_like_the_data_sets(data: bytes) -> bool:
    """Whether a file is a JPEG, or a PNG of 8 bits that is not interlaced."""
    return not data.startswith(b"\x89PNG") or (data[24:25] == b"\x08" and data[28:29] == b"\x00")


def _decoded(data: bytes) -> NDArray[Any]:
    """Return the pixels as they are, (H, W) or (H, W, C). Raises DamagedImage for what is no whole PNG, JPEG or TIFF.

    OpenCV takes half a PNG for a whole one: its chunks are counted first.
    """
    import cv2

    if data.startswith(b"\xff\xd8"):
        return pixels.read_jpeg(data)
    if data.startswith(b"\x89PNG"):
        pixels.check_png_is_whole(data)
    elif not data.startswith(_TIFF):
        raise DamagedImage(f"not a PNG, JPEG, TIFF or DICOM file but {pixels.what_it_is(data[:512])}")
    try:
        done, pages = cv2.imdecodemulti(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:  # of sizes beyond all sense
        done, pages = False, ()
    if not done or not pages:
        raise DamagedImage("cannot be decoded: damaged, or of a kind that OpenCV does not know")
    if len(pages) > 1:
        raise DamagedImage(f"{len(pages):,} pages, expected one film")
    return np.asarray(pages[0])
