"""What the evaluators of probabilities share: labels that are yes or no, their known images, and means over labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxrkit.base.contracts import Metric
from cxrkit.base.errors import UserError
from cxrkit.base.labels import LabelSet


@dataclass(frozen=True)
class Known:
    """The images of which it is known whether they have a label."""

    label: str
    """The label."""

    number: int
    """Its column."""

    scores: NDArray[np.float32]
    """(N,) probabilities of these images."""

    truth: NDArray[np.bool_]
    """(N,) whether they have it."""

    clusters: NDArray[np.intp]
    """(N,) the number of each image's patient."""

    @property
    def positives(self) -> int:
        """How many images have the label."""
        return int(self.truth.sum())

    @property
    def negatives(self) -> int:
        """How many images are known not to have it."""
        return len(self.truth) - self.positives

    @property
    def lacking(self) -> str:
        """Why nothing can be said that takes both kinds: "0 positives", "0 negatives", or nothing."""
        return "" if self.positives and self.negatives else "0 negatives" if self.positives else "0 positives"


def known_images(
    scores_NL: NDArray[np.float32], truth_NL: NDArray[np.float32], clusters_N: NDArray[np.intp], labels: LabelSet
) -> Iterator[Known]:
    """Yield each label with the images of which it is known. Raises UserError where labels are amounts."""
    if labels.unit:
        raise UserError(
            f"{', '.join(labels.labels)}: in {labels.unit}, no probability of a label",
            remedy="evaluate amounts with --evaluator mae",
        )
    for number, label in enumerate(labels.labels):
        known_N = ~np.isnan(truth_NL[:, number])
        yield Known(label, number, scores_NL[known_N, number], truth_NL[known_N, number] > 0.5, clusters_N[known_N])


def mean_over(name: str, found: Mapping[str, float | None], labels: LabelSet) -> Metric:
    """Return the unweighted mean of a metric over the averaged labels that have it; the set averages at least one."""
    values = [value for label in labels.averaged if (value := found.get(label)) is not None]
    return Metric(
        name,
        float(np.mean(values)) if values else None,
        labels=len(values),
        reason=over(len(values), labels.averaged),
    )


def over(count: int, averaged: Sequence[str]) -> str:
    """Return "over 12 of 14", nothing where a mean is over all."""
    return "" if count == len(averaged) else f"over {count} of {len(averaged)}"
