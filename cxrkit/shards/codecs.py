"""How one grayscale image becomes bytes inside a shard, and back.

Every codec is a pair of functions on (H, W) uint8 arrays. All of them release the GIL while they work.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cxrkit.base.errors import UserError
from cxrkit.shards import bands, tiles

CODECS = ("jpeg", "raw", "png", "htj2k", "zstd")
LOSSLESS = ("raw", "png", "htj2k", "zstd")


def check(codec: str) -> None:
    """Raise a UserError unless `codec` is known and its library is installed."""
    if codec not in CODECS:
        raise UserError(f"unknown codec {codec!r}", remedy=f"choose one of {', '.join(CODECS)}")
    if codec == "htj2k":
        _imagecodecs()
    if codec == "zstd":
        bands.library()


def encode(codec: str, image_HW: np.ndarray, quality: int = 95, restart: int = 0) -> bytes | memoryview:
    """Return the bytes of `image_HW` (uint8); `quality` (1 to 100) and `restart` matter to jpeg alone.

    restart: about how many blocks a tile has (see tiles.interval); 0 for a JPEG without tiles.
    """
    import cv2

    if codec == "raw":
        return np.ascontiguousarray(image_HW).data.cast("B")
    if codec == "zstd":
        return bands.pack(image_HW)
    if codec == "jpeg":
        height, width = image_HW.shape
        blocks = tiles.interval(height, restart) if height == width else 0
        options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_RST_INTERVAL, blocks]
        done, buffer = cv2.imencode(".jpg", image_HW, options)
        if done and blocks:
            buffer = tiles.with_index(np.asarray(buffer, np.uint8).ravel(), height, blocks)
    elif codec == "png":
        done, buffer = cv2.imencode(".png", image_HW, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    else:
        return bytes(_imagecodecs().htj2k_encode(image_HW, reversible=True))
    assert done, f"OpenCV could not encode a {image_HW.shape} {image_HW.dtype} image as {codec}"
    return np.asarray(buffer, np.uint8).data.cast("B")


def decode(codec: str, data: np.ndarray, width: int, height: int | None = None) -> np.ndarray:
    """Return the (height, width) uint8 image in `data` (1-D uint8); a raw one is a view, not a copy.

    height: that of a square by default. Raises ValueError when the bytes are not such an image.
    """
    import cv2

    shape = width if height is None else height, width
    if codec == "raw":
        if len(data) != shape[0] * shape[1]:
            raise ValueError(f"the raw bytes are {len(data):,}, not those of a {_shown(shape)} image")
        return data.reshape(shape)
    if codec == "zstd":
        return bands.unpack(data, width, shape[0])
    try:
        image = _imagecodecs().htj2k_decode(data) if codec == "htj2k" else cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)
    except (RuntimeError, cv2.error) as error:  # of bytes that are none, and of sizes beyond all sense
        raise ValueError(f"the {codec} bytes cannot be decoded ({str(error).strip()})") from None
    if image is None or image.shape != shape:
        found = "no image" if image is None else f"a {_shown(image.shape)} image"
        raise ValueError(f"the {codec} bytes hold {found}, not a {_shown(shape)} one")
    return np.asarray(image)


def encoded_window(
    codec: str, data: np.ndarray, side: int, restart: int, window: Sequence[int]
) -> tuple[np.ndarray, tiles.Window]:
    """Return of an encoded level what `window` (left, top, right, bottom) needs, and the part of the level that it is.

    restart: what the level was encoded with. Raises ValueError where its tiles or bands are not as they were written.
    """
    if codec == "zstd":
        return bands.cut(data, side, window)
    blocks = tiles.interval(side, restart)
    return tiles.join(data, side, blocks, window) if blocks else (data, (0, 0, side, side))


def check_tiles(data: np.ndarray, side: int, restart: int) -> None:
    """Raise ValueError unless the tiles of an encoded level, where it has any, are as they were written."""
    if blocks := tiles.interval(side, restart):
        tiles.check(data, side, blocks)


def _shown(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _imagecodecs() -> Any:
    try:
        import imagecodecs
    except ImportError:
        raise UserError(
            "codec 'htj2k' needs the package imagecodecs, which is not installed",
            remedy="pip install 'cxrkit[htj2k]', or choose another codec",
        ) from None
    return imagecodecs
