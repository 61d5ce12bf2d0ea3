"""What a score means: how the network's scores for the validation images lie, and the threshold chosen there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxrkit.base.errors import UserError
from cxrkit.evaluators import gates
from cxrkit.evaluators.scoring import validation_of
from cxrkit.evaluators.thresholds import youden_on
from cxrkit.evaluators.truth import read_truth
from cxrkit.runs.folder import RunFolder
from cxrkit.runs.predictions import read_predictions
from cxrkit.statistics.intervals import Support
from cxrkit.statistics.thresholds import operating_point


@dataclass(frozen=True)
class Meaning:
    """One label on the validation images of which it is known."""

    images: int
    """How many these are."""

    prevalence: float
    """The share of them that have it."""

    threshold: float
    """Youden's, chosen on them; NaN where they are of one kind."""

    sensitivity: float | None
    """At the threshold, on the same images."""

    specificity: float | None
    """At the threshold, on the same images."""

    few: str
    """Set where the threshold rests on few patients: "14" with the finding, or "15 without it"."""

    scores: NDArray[np.float32]
    """(images,) sorted."""

    def rank(self, score: float) -> float:
        """Return the share of the validation images whose score is lower."""
        return float(np.searchsorted(self.scores, score, "left")) / self.images


def meanings(run: RunFolder, data: Path, checkpoint_sha256: str) -> tuple[dict[str, Meaning], str]:
    """Return what a score of each label means, and the reason in words where that is not known of any.

    data: where the labels are. checkpoint_sha256: of the network that was asked.
    """
    path = run.predictions("val")
    if not path.exists():
        return {}, "the run has no predictions of its validation images; cxrkit predict makes them"
    try:
        file = read_predictions(path)
        if file.about.checkpoint_sha256 != checkpoint_sha256:
            return {}, "the run's validation images were predicted by another checkpoint"
        truth = read_truth(data)
        records = gates.check_labels(path, file.about, truth)
        known = validation_of({path: file}, {path: gates.true_labels(path, file, records, truth.source)})
    except UserError as error:
        return {}, f"the validation images could not be asked ({error.what})"
    assert known is not None, "the file is of val"
    found = {}
    for number, label in enumerate(file.about.scored.labels):
        there = ~np.isnan(known.truth[:, number])
        score, truth_N, clusters = known.scores[there, number], known.truth[there, number] > 0.5, known.clusters[there]
        if not len(score):
            continue
        chosen = youden_on(known, number)
        point = None
        if not np.isnan(chosen.value):
            point = operating_point(score, truth_N, clusters, chosen.value)
        found[label] = Meaning(
            len(score),
            float(truth_N.mean()),
            chosen.value,
            point.sensitivity.value if point else None,
            point.specificity.value if point else None,
            _few(chosen.support),
            np.sort(score),
        )
    return found, ""


def _few(support: Support) -> str:
    if not support.mark:
        return ""
    without = " without it" if support.negative_patients < support.positive_patients else ""
    return f"{support.fewest}{without}"
