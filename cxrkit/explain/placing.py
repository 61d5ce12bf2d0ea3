"""From the network's map back to the film: the way of the evaluation crop, backwards. numpy only.

A network sees the centre crop of an image, scaled to its input size, and its map has one value for each of h x w equal
cells of that input. Here the map is laid over the film where it was taken from. Coordinates are those of
loaders/geometry.py, of the 1024 x 1024 film: continuous, the first pixel's centre at (0.5, 0.5).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxrkit.base.contracts import IMAGE_SIZE
from cxrkit.loaders.plan import Plan


@dataclass(frozen=True)
class Placement:
    """Where on the film the network's input lies."""

    matrix: NDArray[np.float64]
    """(2, 3), from input coordinates to those of the film; no rotation."""

    input_size: int
    """Pixels along each side of the input."""

    @classmethod
    def of(cls, plan: Plan) -> Placement:
        """Return the placement of an evaluation plan, which cuts all images alike."""
        assert not plan.train, "training crops differ from image to image"
        first = plan.batch(0, 0)
        matrix = first.matrix[0] * (IMAGE_SIZE / plan.levels[int(first.level[0])])
        assert matrix[0, 1] == matrix[1, 0] == 0, "the centre crop is not turned"
        return cls(matrix, plan.input_size)

    @property
    def window(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of what the network sees."""
        (sx, _, x), (_, sy, y) = self.matrix
        return float(x), float(y), float(x + sx * self.input_size), float(y + sy * self.input_size)

    @property
    def cuts(self) -> bool:
        """Whether a margin of the film is not seen."""
        left, top, right, bottom = self.window
        return min(left, top) >= 1 or max(right, bottom) <= IMAGE_SIZE - 1

    def to_film(self, map_hw: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return the map on the film, (1024, 1024): bilinear between the cells' centres, NaN where nothing was seen.

        Between the outermost centres and the crop's edge the outermost values hold.
        """
        height, width = map_hw.shape
        across_WX = _weights(self.matrix[0, 0], self.matrix[0, 2], self.input_size, width)
        down_HY = _weights(self.matrix[1, 1], self.matrix[1, 2], self.input_size, height)
        return (down_HY.T @ map_hw.astype(np.float64) @ across_WX).astype(np.float32)

    def point(self, map_hw: NDArray[np.floating]) -> tuple[float, float]:
        """Return x and y of the map's highest place: the centre of a cell, where a bilinear map has its maxima."""
        height, width = map_hw.shape
        row, column = np.unravel_index(int(np.argmax(map_hw)), map_hw.shape)
        there = np.array([(column + 0.5) / width * self.input_size, (row + 0.5) / height * self.input_size, 1.0])
        x, y = self.matrix @ there
        return float(x), float(y)


def _weights(scale: float, start: float, input_size: int, cells: int) -> NDArray[np.float64]:
    """Return (cells, 1024): with which weights each pixel of the film mixes the cells along one axis; NaN: unseen."""
    film = np.arange(IMAGE_SIZE) + 0.5
    along = (film - start) / scale / input_size  # 0 to 1 within the crop
    place = np.clip(along * cells - 0.5, 0, cells - 1)
    weights: NDArray[np.float64] = np.maximum(0.0, 1 - np.abs(place[None, :] - np.arange(cells)[:, None]))
    weights[:, (along < 0) | (along > 1)] = np.nan
    return weights
