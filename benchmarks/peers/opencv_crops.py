"""Random crops with OpenCV, for the peers that leave decoding and sampling to a function of the user's."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]


def decoded(path: str) -> Bytes:
    """Return a gray image, (side, side)."""
    image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert image is not None, f"{path} is not an image"
    return image.view()  # type: ignore[return-value]


def paths_of(folder: str, limit: int | None = None) -> list[str]:
    """Return the folder's files, in the order of the labels."""
    return [str(path) for path in sorted(Path(folder).iterdir())[:limit]]


def sample_into(out_HW: Bytes, image: Bytes, generator: np.random.Generator, rotate: bool) -> None:
    """Sample a random crop of `image`, flipped half the time, into `out_HW`: bilinear, without antialiasing.

    rotate: also rotate it by up to 7 degrees, in the same step; otherwise crop and resize, which is cheaper.
    """
    side, size = image.shape[0], out_HW.shape[0]
    area, aspect, left, top, angle, flip = generator.uniform(size=6)
    edge = side * math.sqrt(0.08 + 0.92 * area)
    stretch = math.exp((aspect - 0.5) * math.log(4 / 3))  # the aspect's root: 3/4 to 4/3, evenly in its logarithm
    width, height = min(side, round(edge * stretch)), min(side, round(edge / stretch))
    x, y = int(left * (side - width + 1)), int(top * (side - height + 1))
    if not rotate:
        crop = image[y : y + height, x : x + width]
        if flip < 0.5:
            crop = cv2.flip(crop, 1)  # type: ignore[assignment]
        cv2.resize(crop, (size, size), dst=out_HW, interpolation=cv2.INTER_LINEAR)
        return
    turn = math.radians(14 * angle - 7)
    across, down = width / size * (1 if flip < 0.5 else -1), height / size
    cos, sin = math.cos(turn), math.sin(turn)
    matrix = np.array([[cos * across, -sin * down, 0.0], [sin * across, cos * down, 0.0]])
    middle = (size - 1) / 2
    matrix[:, 2] = np.array([x + (width - 1) / 2, y + (height - 1) / 2]) - matrix[:, :2] @ [middle, middle]
    cv2.warpAffine(image, matrix, (size, size), dst=out_HW, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
