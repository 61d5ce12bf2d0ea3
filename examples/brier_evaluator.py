"""An evaluator: the Brier score of each label, a measure of calibration (Brier 1950)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cxrkit.labels import LabelSet


class Brier(NamedTuple):
    """The mean squared difference between score and truth, from 0 (perfect) to 1."""

    name: str
    label: str
    value: float


def evaluate(
    scores_NL: NDArray[np.floating[Any]],
    truth_NL: NDArray[np.floating[Any]],
    clusters_N: NDArray[np.intp],
    labels: LabelSet,
) -> Iterator[Brier]:
    """Yield the Brier score of each label over the images for which it is known; NaN where there is none."""
    for number, label in enumerate(labels.labels):
        known_N = ~np.isnan(truth_NL[:, number])
        squares = (scores_NL[known_N, number] - truth_NL[known_N, number]) ** 2
        yield Brier("brier", label, float(squares.mean()) if known_N.any() else float("nan"))
