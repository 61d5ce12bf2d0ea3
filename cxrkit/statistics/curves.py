"""ROC and precision-recall curves of one label, exact, and with fewer points for a figure. Numpy only."""

from __future__ import annotations

import heapq
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


def curves(score_N: NDArray[np.floating], truth_N: NDArray[np.bool_]) -> Curves | None:
    """Return the curves of one label; None where no image has it, or all have. Scores must be finite."""
    positives, negatives = int(truth_N.sum()), int((~truth_N).sum())
    if not positives or not negatives:
        return None
    order = np.argsort(-score_N, kind="stable")
    falling = score_N[order]
    last = np.append(np.flatnonzero(np.diff(falling)), len(falling) - 1)  # of each run of equal scores
    found, right = last + 1, np.cumsum(truth_N[order])[last]
    return Curves(
        np.append(0.0, (found - right) / negatives),
        np.append(0.0, right / positives),
        right / found,
    )


def thinned(x_K: Floats, y_K: Floats, points: int, tolerance: float = 0.0) -> NDArray[np.intp]:
    """Return the indices of at most `points` points, both ends among them, whose polyline is close to that of all.

    The point that lies farthest from the line is put in, then the next one, until there are `points`, or none is
    farther than `tolerance` from its stretch of the line (Ramer 1972, doi:10.1016/S0146-664X(72)80017-0). Distances
    are what the eye sees in a square panel whose sides are 1: across the curve, not along an axis.
    """
    kept = [0, len(x_K) - 1][: len(x_K)]
    waiting: list[tuple[float, int, int, int]] = []

    def look_between(first: int, last: int) -> None:
        if last - first > 1:
            between = distances(x_K[first : last + 1], y_K[first : last + 1])[1:-1]
            farthest = int(between.argmax())
            heapq.heappush(waiting, (-between[farthest], first, first + 1 + farthest, last))

    look_between(0, len(x_K) - 1)
    while waiting and len(kept) < points and -waiting[0][0] > tolerance:
        _, first, farthest, last = heapq.heappop(waiting)
        kept.append(farthest)
        look_between(first, farthest)
        look_between(farthest, last)
    return np.sort(np.array(kept, np.intp))


def distances(x_K: Floats, y_K: Floats) -> Floats:
    """Return how far each point lies from the stretch between the first one and the last one."""
    along_x, along_y = x_K - x_K[0], y_K - y_K[0]
    length = np.hypot(along_x[-1], along_y[-1])
    if length < 1e-12:  # one and the same point
        return np.hypot(along_x, along_y)
    across = np.abs(along_x * along_y[-1] - along_y * along_x[-1]) / length
    at = (along_x * along_x[-1] + along_y * along_y[-1]) / length  # of the foot, from the first point
    beyond = np.maximum(np.maximum(-at, at - length), 0.0)  # a saw-tooth may run back behind an end
    return np.hypot(across, beyond)
