"""Contenders side by side: on the images of one test set, or over the resampling folds.

On images their AUCs keep the influence of every patient (statistics/clustered.py), so that differences have their
variance; over folds a contender is one AUC a fold and label. pairing.py makes both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxrkit.base.labels import LabelSet
from cxrkit.statistics import clustered, comparing
from cxrkit.statistics.clustered import Estimate
from cxrkit.statistics.comparing import LabelComparisons, Pairwise


@dataclass(frozen=True)
class OnImages:
    """Contenders on the images of one test set."""

    names: tuple[str, ...]
    """Of the contenders."""

    labels: LabelSet
    """What is compared."""

    estimates: tuple[tuple[dict[str, Estimate], ...], ...]
    """Of each contender, for each of its seeds, by label; patients are numbered alike."""

    split: str
    """The split whose test images these are."""

    images: int
    """On how many images."""

    patients: int
    """Of how many patients."""

    partial: bool = False
    """Whether the split has more test images than these."""

    notes: tuple[str, ...] = ()
    """What was left out."""

    def seeds(self, contender: int, label: str | None = None) -> list[Estimate]:
        """Return the AUC of a label, or the mean (None), for each seed of a contender."""
        labels = self.labels.averaged if label is None else (label,)
        return [clustered.mean([seed[name] for name in labels]) for seed in self.estimates[contender]]

    def auc(self, contender: int, label: str | None = None) -> float:
        """Return an AUC, averaged over the seeds; None: the mean over the averaged labels."""
        return clustered.mean(self.seeds(contender, label)).value

    def spread(self, contender: int, label: str | None = None) -> float | None:
        """Return the standard deviation over the seeds, None for a single one."""
        return comparing.seed_spread([seed.value for seed in self.seeds(contender, label)])

    def versus(self, one: int, other: int) -> LabelComparisons:
        """Compare two contenders in every label and in the mean."""
        labels = self.labels.labels
        mine, theirs = ([[seed[label] for label in labels] for seed in self.estimates[n]] for n in (one, other))
        return comparing.compare_labels(mine, theirs, averaged_places(self.labels))

    def pairwise(self, label: str | None = None) -> Pairwise:
        """Compare all contenders with each other in one label, or in the mean."""
        return comparing.pairwise([self.seeds(number, label) for number in range(len(self.names))])


@dataclass(frozen=True)
class OnFolds:
    """Contenders over the resampling folds that all of them have."""

    names: tuple[str, ...]
    """Of the contenders."""

    labels: LabelSet
    """What is compared."""

    values: NDArray[np.float64]
    """AUCs of contender, fold and label, shape (Q, F, L), averaged over seeds."""

    folds: tuple[str, ...]
    """The splits."""

    notes: tuple[str, ...] = ()
    """What was left out."""

    def by_fold(self, label: str | None = None) -> NDArray[np.float64]:
        """Return the AUCs of a label, or the mean over the averaged labels, shape (Q, F)."""
        if label is None:
            return np.asarray(self.values[:, :, averaged_places(self.labels)].mean(axis=2))
        return self.values[:, :, self.labels.labels.index(label)]

    def auc(self, contender: int, label: str | None = None) -> float:
        """Return an AUC, averaged over the folds; None: the mean over the averaged labels."""
        return float(self.by_fold(label)[contender].mean())

    def spread(self, contender: int, label: str | None = None) -> float | None:
        """Return the standard deviation over the folds."""
        return comparing.seed_spread(self.by_fold(label)[contender].tolist())

    def versus(self, one: int, other: int) -> LabelComparisons:
        """Compare two contenders in every label and in the mean."""
        return comparing.compare_fold_labels(self.values[one], self.values[other], averaged_places(self.labels))

    def pairwise(self, label: str | None = None) -> Pairwise:
        """Compare all contenders with each other in one label, or in the mean."""
        return comparing.pairwise_folds(self.by_fold(label))


Contest = OnImages | OnFolds


def averaged_places(labels: LabelSet) -> list[int]:
    """Return where the averaged labels stand among all."""
    return [labels.labels.index(label) for label in labels.averaged]
