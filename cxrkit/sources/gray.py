"""From any pixels to the data set's canvas: gray, 8 bits, square.

Wang et al. 2017 (ChestX-ray8, section 3) took the DICOM's own display window and resized to 1024 x 1024; Baltruschat et
al. 2019 (section 3): "without preserving the aspect ratio". That is so in the PNGs: of 242 at hand, 164 were not square
(OriginalImage[Width,Height] of NIH's table, by more than 4 %), and none of these has the bands that padding leaves. So
a film is stretched to the square here, too: with bands the network would see what it never saw.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGEST_SIDE = 16384  # pixels; a file of 100 kB can claim many gigabytes


def one_channel(image: NDArray[Any]) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Return (H, W) of the same depth, and notes, from (H, W) or (H, W, 1 to 4) with blue first and alpha last.

    Equal colours are taken as they are, others by the luma weights of ITU-R BT.601; alpha is ignored
    (sources/pixels.py does the same for the data set's own).
    """
    if image.ndim == 2:
        return image, ()
    colours = image[..., :3] if image.shape[2] >= 3 else image[..., :1]
    first: NDArray[Any] = np.ascontiguousarray(colours[..., 0])
    if all(np.array_equal(first, colours[..., channel]) for channel in range(1, colours.shape[2])):
        return first, ()
    weights = np.array([0.114, 0.587, 0.299])
    mixed = colours.astype(np.float64) @ weights
    kind = image.dtype
    return (np.rint(mixed) if np.issubdtype(kind, np.integer) else mixed).astype(kind), ("in colour: mixed to gray",)


def eight_bits(image_HW: NDArray[Any]) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Return the image in 8 bits: as it is, or where it has more, from its lowest to its highest value.

    A PNG or a TIFF has no window. Dividing by 65,535 would make a film of 12 bits black.
    """
    if image_HW.dtype == np.uint8:
        return image_HW, ()
    low, high = float(image_HW.min()), float(image_HW.max())
    note = f"{image_HW.dtype}: levels {low:,.0f} to {high:,.0f} were spread over 0 to 255, for it has no window"
    return spread(image_HW, low, high), (note,)


def spread(values_HW: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """Return gray levels that rise from 0 at `low` to 255 at `high`; all 0 where the two are equal."""
    share = (values_HW.astype(np.float64) - low) / max(high - low, np.finfo(float).tiny)
    return np.rint(255 * np.clip(share, 0, 1)).astype(np.uint8)


def square(image_HW: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Return the image stretched to (side, side): averaged where it shrinks, else between its pixels."""
    import cv2

    height, width = image_HW.shape
    if (height, width) == (side, side):
        return np.ascontiguousarray(image_HW)
    # By area along both axes or along none: OpenCV averages only where both shrink.
    way = cv2.INTER_AREA if min(height, width) >= side else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image_HW, (side, side), interpolation=way), np.uint8)
