"""An evaluator: the Brier score of each label, a measure of calibration (Brier 1950).

cxrkit train --evaluator examples.brier_evaluator:evaluate
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from cxrkit.base.contracts import Metric
from cxrkit.base.labels import LabelSet


def evaluate(
    scores_NL: NDArray[np.float32],
    truth_NL: NDArray[np.float32],
    clusters_N: NDArray[np.intp],
    labels: LabelSet,
) -> Iterator[Metric]:
    """Yield each label's mean squared difference between score and truth, from 0 (perfect) to 1, where it is known."""
    for number, label in enumerate(labels.labels):
        known_N = ~np.isnan(truth_NL[:, number])
        if not known_N.any():
            yield Metric("brier", None, label, reason="not known for any image")
            continue
        squares = (scores_NL[known_N, number] - truth_NL[known_N, number]) ** 2
        positives = int(truth_NL[known_N, number].sum())
        negatives = int(known_N.sum()) - positives
        yield Metric("brier", float(squares.mean()), label, positives=positives, negatives=negatives)
