"""Evaluators: scores and truth in, metrics out. No files and no torch here; who reads and writes is in `scoring`.

An evaluator is a function. Registered ones are in cxrkit/registry.py; `package.module:function` works as well.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cxrkit.labels import LabelSet


@dataclass(frozen=True)
class Metric:
    """One number that an evaluator found, with all that is needed to read it alone."""

    name: str
    """What is measured: "auc", "f1", ... Reports make AUC tables of the metrics called "auc"."""

    value: float | None
    """The number; None where it is undefined, with `reason`."""

    label: str | None = None
    """The label that it is of, or None for the mean over the averaged labels."""

    lower: float | None = None
    """Lower bound of the interval; None where there is no interval."""

    upper: float | None = None
    """Upper bound of the interval; None where there is no interval."""

    positives: int | None = None
    """How many images have the label; None for a mean."""

    negatives: int | None = None
    """How many images are known not to have the label; None for a mean."""

    labels: int | None = None
    """How many labels a mean is over; None for a single label."""

    reason: str = ""
    """Why there is no value ("0 positives"), or what a reader must know of it ("over 12 of 14")."""

    interval: str = ""
    """How the interval was made, or why there is none."""

    constant: bool = False
    """Whether every image has the same score: such a model says nothing of this label."""


class Evaluator(Protocol):
    """A pure function from scores and truth to metrics."""

    def __call__(
        self,
        scores_NL: NDArray[np.float32],
        truth_NL: NDArray[np.float32],
        clusters_N: NDArray[np.intp],
        labels: LabelSet,
        /,
    ) -> Iterable[Metric]:
        """Return the metrics of N images and L labels, in the order of `labels.labels`.

        scores_NL: probabilities, finite. truth_NL: 1, 0, or NaN where an image's label is not known; such pairs are to
        be left out. clusters_N: the number of each image's patient, from 0. Further settings are keyword arguments with
        defaults; those that the user gives are passed on.
        """
        ...
