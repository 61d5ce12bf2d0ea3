"""How one grayscale image becomes bytes inside a shard, and back.

Every codec is a pair of functions on (H, W) uint8 arrays. All of them release the GIL while they work.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cxrkit.base.errors import UserError

CODECS = ("jpeg", "raw", "png", "htj2k")
LOSSLESS = ("raw", "png", "htj2k")


def check(codec: str) -> None:
    """Raise a UserError unless `codec` is known and its library is installed."""
    if codec not in CODECS:
        raise UserError(f"unknown codec {codec!r}", remedy=f"choose one of {', '.join(CODECS)}")
    if codec == "htj2k":
        _imagecodecs()


def encode(codec: str, image_HW: np.ndarray, quality: int = 95) -> bytes | memoryview:
    """Return the bytes of `image_HW` (uint8); `quality` (1 to 100) matters to jpeg alone."""
    import cv2

    if codec == "raw":
        return np.ascontiguousarray(image_HW).data.cast("B")
    if codec == "jpeg":
        done, buffer = cv2.imencode(".jpg", image_HW, [cv2.IMWRITE_JPEG_QUALITY, quality])
    elif codec == "png":
        done, buffer = cv2.imencode(".png", image_HW, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    else:
        return bytes(_imagecodecs().htj2k_encode(image_HW, reversible=True))
    assert done, f"OpenCV could not encode a {image_HW.shape} {image_HW.dtype} image as {codec}"
    return np.asarray(buffer, np.uint8).data.cast("B")


def decode(codec: str, data: np.ndarray, side: int) -> np.ndarray:
    """Return the (side, side) uint8 image in `data` (1-D uint8); a raw one is a view, not a copy.

    Raises ValueError when the bytes are not such an image.
    """
    import cv2

    if codec == "raw":
        if len(data) != side * side:
            raise ValueError(f"the raw bytes are {len(data):,}, not those of a {side}x{side} image")
        return data.reshape(side, side)
    try:
        image = _imagecodecs().htj2k_decode(data) if codec == "htj2k" else cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)
    except (RuntimeError, cv2.error) as error:  # of bytes that are none, and of sizes beyond all sense
        raise ValueError(f"the {codec} bytes cannot be decoded ({str(error).strip()})") from None
    if image is None or image.shape != (side, side):
        found = "no image" if image is None else f"a {'x'.join(map(str, image.shape))} image"
        raise ValueError(f"the {codec} bytes hold {found}, not a {side}x{side} one")
    return np.asarray(image)


def _imagecodecs() -> Any:
    try:
        import imagecodecs
    except ImportError:
        raise UserError(
            "codec 'htj2k' needs the package imagecodecs, which is not installed",
            remedy="pip install 'cxrkit[htj2k]', or choose another codec",
        ) from None
    return imagecodecs
