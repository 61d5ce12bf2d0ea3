"""AUC, and sensitivity and specificity at the threshold that Youden's index chooses on the validation images.

Baltruschat et al. 2019, section 3, of their probes for sex and view: "After choosing the optimal threshold based on
Youden index, we calculated a sensitivity and specificity". On which images it was chosen they do not say. Here it is
chosen on val (evaluators/thresholds.py, which has the predictive values as well).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from cxrkit.base.contracts import Metric, Validation
from cxrkit.base.labels import LabelSet
from cxrkit.evaluators import auc, thresholds

_OF_THE_PAPER = (thresholds.THRESHOLD, "sensitivity", "specificity")


def evaluate(
    scores_NL: NDArray[np.float32],
    truth_NL: NDArray[np.float32],
    clusters_N: NDArray[np.intp],
    labels: LabelSet,
    *,
    validation: Validation | None = None,
    replicates: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Iterator[Metric]:
    """Yield the metrics of evaluators.auc, then threshold, sensitivity and specificity of each label.

    See evaluators.thresholds. Raises UserError for settings that cannot be.
    """
    yield from auc.evaluate(
        scores_NL, truth_NL, clusters_N, labels, replicates=replicates, seed=seed, confidence=confidence
    )
    found = thresholds.evaluate(scores_NL, truth_NL, clusters_N, labels, validation=validation, confidence=confidence)
    yield from (metric for metric in found if metric.name in _OF_THE_PAPER)
