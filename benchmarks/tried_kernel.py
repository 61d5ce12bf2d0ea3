"""`loaders.opencv.sample` as a kernel that numba compiles: for tried.py. Not used by cxrkit."""

from __future__ import annotations

import importlib
import math
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from cxrkit.loaders.geometry import NO_SIGMA

_numba: Any = importlib.import_module("numba")
_compiled: Any = _numba.njit(nogil=True, cache=True, fastmath=True, boundscheck=False)
_ONE = 128  # fixed point: 7 bits for each of the two weights


def sample(
    image_HW: NDArray[np.uint8], matrix: NDArray[np.float64], sigma: tuple[float, float], out_HW: NDArray[np.uint8]
) -> None:
    """Fill `out_HW` as `loaders.opencv.sample` does, but for rounding."""
    if max(sigma) > NO_SIGMA:
        side = _side_weight(sigma[0]), _side_weight(sigma[1])
        image_HW = _blur(image_HW, np.float32(side[0]), np.float32(side[1]))
    height, width = image_HW.shape
    row = image_HW.strides[0]
    # Every four bytes as one number, wherever they begin: a vector unit gathers numbers, not bytes.
    size = (height - 1) * row + width
    words = np.ndarray((size - 3,), "<u4", as_strided(image_HW, (size,), (1,)).data, strides=(1,))
    _warp(words, image_HW, row, matrix.astype(np.float32), out_HW)


def _side_weight(sigma: float) -> float:
    """Return the weight of each neighbour in OpenCV's Gaussian of three."""
    if sigma <= 0:
        return 0.0
    side = math.exp(-0.5 / sigma**2)
    return side / (1 + 2 * side)


@_compiled
def _blur(image_HW, side_x, side_y):  # type: ignore[no-untyped-def]
    height, width = image_HW.shape
    out_HW = np.empty((height, width), np.uint8)
    line = np.empty(width + 2, np.float32)
    middle_x, middle_y = np.float32(1) - 2 * side_x, np.float32(1) - 2 * side_y
    half = np.float32(0.5)
    for y in range(height):
        above = image_HW[1 if y == 0 else y - 1]  # OpenCV mirrors at the edge
        here = image_HW[y]
        below = image_HW[height - 2 if y == height - 1 else y + 1]
        for x in range(width):
            line[x + 1] = middle_y * np.float32(here[x]) + side_y * (np.float32(above[x]) + np.float32(below[x]))
        line[0], line[width + 1] = line[2], line[width - 1]
        for x in range(width):
            out_HW[y, x] = np.uint8(middle_x * line[x + 1] + side_x * (line[x] + line[x + 2]) + half)
    return out_HW


@_compiled
def _warp(words, image_HW, row, matrix, out_HW):  # type: ignore[no-untyped-def]
    height, width = image_HW.shape
    rows, columns = out_HW.shape
    step_x, step_y = matrix[0, 0], matrix[1, 0]
    one, half = np.float32(_ONE), np.float32(0.5)
    low, eight, fourteen = np.uint32(255), np.uint32(8), np.int32(14)
    whole, rounding = np.int32(_ONE), np.int32(_ONE * _ONE // 2)
    right, down, place = np.empty(columns, np.int32), np.empty(columns, np.int32), np.empty(columns, np.int32)
    top, bottom = np.empty(columns, np.uint32), np.empty(columns, np.uint32)
    for y in range(rows):
        x_0 = matrix[0, 1] * np.float32(y) + matrix[0, 2]
        y_0 = matrix[1, 1] * np.float32(y) + matrix[1, 2]
        first, last = 0.0, float(columns)
        for start, step, most in ((x_0, step_x, width - 4), (y_0, step_y, height - 2)):
            if step > 1e-7 or step < -1e-7:
                begin, end = (0.0 - start) / step, (most - start) / step
                first, last = max(first, min(begin, end)), min(last, max(begin, end))
            elif start < 0 or start > most:
                last = -1.0
        inner = max(0, math.ceil(first))
        outer = min(columns, math.floor(last))
        if outer <= inner:
            inner = outer = columns
        for x in range(inner):
            out_HW[y, x] = _at_edge(image_HW, x_0 + step_x * x, y_0 + step_y * x)
        # Three loops, since in one the compiler cannot know that what is written is not what is read.
        line_W = out_HW[y, inner:outer]
        x_0, y_0 = x_0 + step_x * np.float32(inner), y_0 + step_y * np.float32(inner)
        for x in range(len(line_W)):
            at_x, at_y = x_0 + step_x * np.float32(x), y_0 + step_y * np.float32(x)
            column, line = np.int32(at_x), np.int32(at_y)
            right[x] = np.int32((at_x - np.float32(column)) * one + half)
            down[x] = np.int32((at_y - np.float32(line)) * one + half)
            place[x] = line * np.int32(row) + column
        for x in range(len(line_W)):
            top[x], bottom[x] = words[np.uintp(place[x])], words[np.uintp(place[x]) + np.uintp(row)]
        for x in range(len(line_W)):
            upper = np.int32(top[x] & low) * (whole - right[x]) + np.int32((top[x] >> eight) & low) * right[x]
            lower = np.int32(bottom[x] & low) * (whole - right[x]) + np.int32((bottom[x] >> eight) & low) * right[x]
            line_W[x] = np.uint8((upper * (whole - down[x]) + lower * down[x] + rounding) >> fourteen)
        x_0, y_0 = x_0 - step_x * np.float32(inner), y_0 - step_y * np.float32(inner)
        for x in range(outer, columns):
            out_HW[y, x] = _at_edge(image_HW, x_0 + step_x * x, y_0 + step_y * x)


@_compiled
def _at_edge(image_HW, at_x, at_y):  # type: ignore[no-untyped-def]
    height, width = image_HW.shape
    left, upper = math.floor(at_x), math.floor(at_y)
    right, down = at_x - left, at_y - upper
    x_0, x_1 = min(max(int(left), 0), width - 1), min(max(int(left) + 1, 0), width - 1)
    y_0, y_1 = min(max(int(upper), 0), height - 1), min(max(int(upper) + 1, 0), height - 1)
    above = image_HW[y_0, x_0] * (1 - right) + image_HW[y_0, x_1] * right
    below = image_HW[y_1, x_0] * (1 - right) + image_HW[y_1, x_1] * right
    return np.uint8(above * (1 - down) + below * down + 0.5)
