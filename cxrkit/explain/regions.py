"""From a map to boxes, and how well boxes fit: IoU, IoBB, a mask's IoU.

A box is x, y, width and height in pixels of the film, as in the data set's own list: pixels x to x + width are inside.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cxrkit.base.contracts import IMAGE_SIZE

TOP = 255.0


def scaled(map_YX: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return a map of the film scaled to [0, 255]: its own lowest value is 0, its highest 255; 0 where it is NaN.

    A map that is the same everywhere says nothing of a place: it is 0 everywhere.
    """
    low, high = np.nanmin(map_YX), np.nanmax(map_YX)
    if not high > low:
        return np.zeros(map_YX.shape, np.float32)
    shares: NDArray[np.float32] = np.nan_to_num((map_YX - low) * (TOP / (high - low)), nan=0.0).astype(np.float32)
    return shares


def boxes_round(above_YX: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return (R, 4): a box round every region of pixels that touch each other, at a side or at a corner."""
    import cv2

    count, _, stats, _ = cv2.connectedComponentsWithStats(above_YX.astype(np.uint8), connectivity=8)
    if count < 2:  # the first is all that is in no region
        return np.zeros((0, 4))
    sides = (cv2.CC_STAT_LEFT, cv2.CC_STAT_TOP, cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT)
    return np.asarray(stats[1:, sides], np.float64)


def overlap(found_P4: NDArray[np.float64], true_Q4: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (P, Q): the area that boxes have in common."""
    low = np.maximum(found_P4[:, None, :2], true_Q4[None, :, :2])
    high = np.minimum((found_P4[:, :2] + found_P4[:, 2:])[:, None], (true_Q4[:, :2] + true_Q4[:, 2:])[None])
    return np.prod(np.maximum(high - low, 0), axis=2)  # type: ignore[no-any-return]


def iou(found_P4: NDArray[np.float64], true_Q4: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (P, Q): intersection over union."""
    common = overlap(found_P4, true_Q4)
    area_P, area_Q = np.prod(found_P4[:, 2:], axis=1), np.prod(true_Q4[:, 2:], axis=1)
    return _ratio(common, area_P[:, None] + area_Q[None] - common)


def iobb(found_P4: NDArray[np.float64], true_Q4: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (P, Q): intersection over the detected box (Wang et al. 2017, section 4.2), 1 inside the true one."""
    return _ratio(overlap(found_P4, true_Q4), np.prod(found_P4[:, 2:], axis=1)[:, None])


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    whole = np.broadcast_to(whole, part.shape)
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def inside(true_Q4: NDArray[np.float64], point: tuple[float, float]) -> bool:
    """Whether a point lies in one of the boxes."""
    offset = np.asarray(point) - true_Q4[:, :2]
    return bool(((offset >= 0) & (offset <= true_Q4[:, 2:])).all(axis=1).any())


def mask_of(boxes_Q4: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return the film's pixels whose centres lie in a box, (1024, 1024)."""
    mask = np.zeros((IMAGE_SIZE, IMAGE_SIZE), bool)
    for x, y, width, height in boxes_Q4:
        left, top, right, bottom = (int(np.ceil(side - 0.5)) for side in (x, y, x + width, y + height))
        mask[max(0, top) : bottom, max(0, left) : right] = True
    return mask


def mask_iou(one_YX: NDArray[np.bool_], other_YX: NDArray[np.bool_]) -> float:
    """Return the intersection over union of two masks; 0 where both are empty."""
    union = int(np.count_nonzero(one_YX | other_YX))
    return int(np.count_nonzero(one_YX & other_YX)) / union if union else 0.0
