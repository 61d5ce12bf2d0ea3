"""Groups of images by sex, age and view, and their AUCs with what is needed to compare them.

Variances are over patients (Obuchowski 1997, statistics/clustered.py). A patient may be in several groups, with images
of both views or as the years go by: patients are numbered alike in all groups, so differences take that into account.
The mean of a group is over those labels of which every group of its kind has enough patients: a mean over other labels
in each group would compare labels, not groups. A group with too few patients for half of the labels has no mean, and is
not asked.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cxrkit.base.derived import OLDEST_YEARS
from cxrkit.base.errors import UserError
from cxrkit.statistics import clustered, comparing
from cxrkit.statistics.clustered import Estimate
from cxrkit.statistics.comparing import Comparison
from cxrkit.statistics.intervals import TOO_FEW, Support

FACTORS = ("sex", "age", "view")
AGE_EDGES = (20, 40, 60, 80)  # years; the last band is open, and ages of 100 and more are taken for mistakes
_COLUMNS = {"sex": "sex", "age": "age_years", "view": "view"}


@dataclass(frozen=True)
class Group:
    """Some of the images."""

    factor: str
    """What they have in common: "sex", "age" or "view"."""

    value: str
    """The value of it: "F", "20-39", "AP"."""

    member: NDArray[np.bool_]
    """(N,) which images belong to it."""

    @property
    def name(self) -> str:
        """Return "sex F"."""
        return f"{self.factor} {self.value}"


@dataclass(frozen=True)
class Factor:
    """The AUCs of all groups of one kind."""

    groups: tuple[Group, ...]
    """In order."""

    estimates: tuple[tuple[Estimate, ...], ...]
    """Of each group, of each label; their patients are numbered alike."""

    counted: tuple[int, ...]
    """Places of the groups that have a mean: those with enough patients for half of the averaged labels."""

    averaged: tuple[int, ...]
    """Columns of the labels that the means are over: those of which every such group has enough patients."""

    @property
    def reference(self) -> int:
        """Place of the group that the others are compared with: the largest."""
        return int(np.argmax([group.member.sum() for group in self.groups]))

    def mean(self, place: int) -> Estimate | None:
        """Return the mean AUC of a group; None where it is too small to have one."""
        if place not in self.counted:
            return None
        return clustered.mean([self.estimates[place][label] for label in self.averaged])

    def pairs(self) -> list[tuple[int, int]]:
        """Return the places of each group that is compared, and of the group that it is compared with."""
        return [(place, self.reference) for place in range(len(self.groups)) if place != self.reference]


def split(
    images: pl.DataFrame, by: Sequence[str] = FACTORS, age_edges: Sequence[int] = AGE_EDGES
) -> list[tuple[Group, ...]]:
    """Return the groups of each kind that have images. Raises UserError for a kind that does not exist."""
    if unknown := [name for name in by if name not in FACTORS]:
        raise UserError(f"subgroups by {unknown[0]!r}", remedy=f"choose from {', '.join(FACTORS)}")
    if list(age_edges) != sorted({edge for edge in age_edges if 0 < edge <= OLDEST_YEARS}):
        raise UserError(
            f"age bands at {', '.join(map(str, age_edges))} years; expected rising ages from 1 to {OLDEST_YEARS}",
            remedy="write age_edges=20,40,60,80",
        )
    found = []
    for factor in by:
        column = images[_COLUMNS[factor]]
        values = _age_bands(column, age_edges) if factor == "age" else column
        names = list(dict.fromkeys(values.drop_nulls().sort().to_list())) if factor != "age" else _bands(age_edges)
        members = ((name, (values == name).fill_null(False).to_numpy()) for name in names)
        groups = tuple(Group(factor, name, member_N) for name, member_N in members if member_N.any())
        found += [groups] if groups else []
    return found


def _bands(age_edges: Sequence[int]) -> list[str]:
    """Return the names of the age bands: "0-19", "20-39", ..., "80+"."""
    edges = [0, *age_edges]
    return [f"{low}-{high - 1}" for low, high in itertools.pairwise(edges)] + [f"{edges[-1]}+"]


def _age_bands(age_N: pl.Series, age_edges: Sequence[int]) -> pl.Series:
    """Return the age band of each image; null where the age is not known, or cannot be."""
    names = _bands(age_edges)
    possible_N = age_N.is_between(0, OLDEST_YEARS).fill_null(False).to_numpy()
    place_N = np.searchsorted(age_edges, age_N.fill_null(0).to_numpy(), "right")
    return pl.Series(np.array(names)[place_N].tolist(), dtype=pl.String).set(pl.Series(~possible_N), None)


def compare_groups(
    scores_NL: NDArray[np.floating],
    positive_NL: NDArray[np.bool_],
    known_NL: NDArray[np.bool_],
    clusters_N: NDArray[np.intp],
    groups: Sequence[Group],
    averaged: Sequence[int],
) -> Factor:
    """Return the AUCs of the groups of one kind; averaged: columns of the labels that enter a mean."""
    clusters = int(clusters_N.max(initial=-1)) + 1
    estimates = tuple(
        tuple(
            clustered.estimates(
                scores_NL, positive_NL, clusters_N, known_NL=known_NL & group.member[:, None], clusters=clusters
            )
        )
        for group in groups
    )
    enough = [[label for label in averaged if has_enough(of_group[label])] for of_group in estimates]
    counted = tuple(place for place, has in enumerate(enough) if has and 2 * len(has) >= len(averaged))
    shared = tuple(label for label in averaged if all(label in enough[place] for place in counted))
    # Groups that have half of the labels each may have none in common.
    return Factor(tuple(groups), estimates, counted if shared else (), shared)


def has_enough(one: Estimate) -> bool:
    """Return whether an AUC rests on enough patients for an interval."""
    rests_on = Support(one.positive_patients, one.negative_patients, one.clusters_effective)
    return rests_on.mark != TOO_FEW and not np.isnan(one.variance)


def differences(factor: Factor, pair: tuple[int, int], confidence: float = 0.95) -> list[Comparison]:
    """Return the difference of two groups in each label."""
    one, other = (factor.estimates[place] for place in pair)
    return [comparing.compare(first, second, confidence=confidence) for first, second in zip(one, other, strict=True)]


def mean_difference(factor: Factor, pair: tuple[int, int], confidence: float = 0.95) -> Comparison | None:
    """Return the difference of the means of two groups; None where these have none."""
    one, other = (factor.mean(place) for place in pair)
    return None if one is None or other is None else comparing.compare(one, other, confidence=confidence)
