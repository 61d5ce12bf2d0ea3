"""ROC and precision-recall curves of one label, exact, and with fewer points for a figure. Numpy only."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Curves:
    """What every threshold on the scores of one label gives: K different scores, from the highest down.

    Images of equal scores are found together, so a threshold lies between two different scores.
    """

    false_positive_rate: Floats
    """(K + 1,) of the images without the label, those that are found; from 0, where none is, to 1."""

    true_positive_rate: Floats
    """(K + 1,) of the images with the label, those that are found: the recall."""

    precision: Floats
    """(K,) of the images that are found, those that have the label; at every threshold that finds any image."""

    @property
    def average_precision(self) -> float:
        """The mean of the precision over the recall, by steps: sum of (R_k - R_(k-1)) P_k. Equals sklearn's."""
        return float(np.diff(self.true_positive_rate) @ self.precision)

    def bends(self) -> NDArray[np.intp]:
        """Return the thresholds, from 1 to K, between which both curves are straight, the first and the last with them.

        All but those inside a run of images without the label: there the ROC curve goes straight to the right, and the
        precision straight down. They are at most twice as many as the images with the label, and two.
        """
        rises = np.diff(self.true_positive_rate) > 0
        return np.flatnonzero(np.append(rises[1:], True) | rises | (np.arange(len(rises)) == 0)) + 1


def curves(score_N: NDArray[np.floating], truth_N: NDArray[np.bool_]) -> Curves | None:
    """Return the curves of one label; None where no image has it, or all have. Scores must be finite."""
    positives, negatives = int(truth_N.sum()), int((~truth_N).sum())
    if not positives or not negatives:
        return None
    order = np.argsort(-score_N)  # equal scores in any order: only the last of them counts
    falling = score_N[order]
    last = np.append(np.flatnonzero(np.diff(falling)), len(falling) - 1)  # of each run of equal scores
    found, right = last + 1, np.cumsum(truth_N[order])[last]
    return Curves(
        np.append(0.0, (found - right) / negatives),
        np.append(0.0, right / positives),
        right / found,
    )


def by_importance(
    x_K: Floats, y_K: Floats, points: int, tolerance: float = 0.0, *, vertical: bool = False
) -> NDArray[np.intp]:
    """Return the indices of at most `points` points, so that a line through the first few is near to that through all.

    Both ends come first; then, again and again, the point that lies farthest from the line through those before it,
    until there are `points`, or none is farther than `tolerance` (Ramer 1972, doi:10.1016/S0146-664X(72)80017-0).
    Distances are what the eye sees in a square panel whose sides are 1: across the line, not along an axis. vertical:
    along y instead, so that the y that is read at any x is at most `tolerance` wrong, where `points` are enough.
    """
    distances = _square_heights if vertical else _square_distances
    chosen = [0, len(x_K) - 1][: len(x_K)]
    waiting: list[tuple[float, int, int, int]] = []

    def look_between(first: int, last: int) -> None:
        if last - first > 1:
            square = distances(x_K[first : last + 1], y_K[first : last + 1])
            farthest = int(square.argmax())
            heapq.heappush(waiting, (-float(square[farthest]), first, first + 1 + farthest, last))

    look_between(0, len(x_K) - 1)
    while waiting and len(chosen) < points and -waiting[0][0] > tolerance**2:
        _, first, farthest, last = heapq.heappop(waiting)
        chosen.append(farthest)
        look_between(first, farthest)
        look_between(farthest, last)
    return np.array(chosen, np.intp)


def _square_heights(x_K: Floats, y_K: Floats) -> Floats:
    """Return how far each point but the two ends lies above or below the stretch between these, squared.

    x_K must not fall. On an upright stretch, where x stays, every point lies on it.
    """
    width = float(x_K[-1] - x_K[0])
    if width <= 0:
        return np.zeros(len(x_K) - 2)
    line = y_K[0] + (y_K[-1] - y_K[0]) * ((x_K[1:-1] - x_K[0]) / width)
    return np.asarray((y_K[1:-1] - line) ** 2)


def _square_distances(x_K: Floats, y_K: Floats) -> Floats:
    """Return how far each point but the two ends lies from the stretch between these, squared."""
    x, y = x_K[1:-1] - x_K[0], y_K[1:-1] - y_K[0]
    end_x, end_y = float(x_K[-1] - x_K[0]), float(y_K[-1] - y_K[0])
    length = math.hypot(end_x, end_y)
    if length < 1e-12:  # one and the same point
        return np.asarray(x * x + y * y)
    end_x, end_y = end_x / length, end_y / length
    across = x * end_y - y * end_x
    at = x * end_x + y * end_y  # of the foot, from the first end
    beyond = at - np.minimum(np.maximum(at, 0.0), length)  # a tooth of a saw may reach beyond an end
    return np.asarray(across * across + beyond * beyond)
