"""AUCs by sex, age and view, and whether groups differ.

Variances are over patients (Obuchowski 1997, statistics/clustered.py). A patient may be in several groups, with images
of both views or as the years go by: patients are numbered alike in all groups, so differences take that into account.
The mean of a group is over those labels of which every group of its kind has enough patients: a mean over other labels
in each group would compare labels, not groups. A group with too few patients for half of the labels has no mean, and is
not asked.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cxrkit.base.contracts import Metric
from cxrkit.base.derived import OLDEST_YEARS
from cxrkit.base.errors import UserError
from cxrkit.base.labels import LabelSet
from cxrkit.evaluators import auc
from cxrkit.evaluators.probabilities import known_images
from cxrkit.statistics import clustered, comparing, intervals
from cxrkit.statistics.clustered import Estimate
from cxrkit.statistics.comparing import Comparison
from cxrkit.statistics.intervals import TOO_FEW, Support

DIFFERENCE = "auc_difference"
FACTORS = ("sex", "age", "view")
AGE_EDGES = (20, 40, 60, 80)  # years; the last band is open, and ages of 100 and more are taken for mistakes
_COLUMNS = {"sex": "sex", "age": "age_years", "view": "view"}
_HOW = "logit-t with effective patients, clustered variance (Obuchowski 1997)"
_HOW_DIFFERENCE = "Student's t with effective patients, clustered variance (Obuchowski 1997)"


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


def evaluate(
    scores_NL: NDArray[np.float32],
    truth_NL: NDArray[np.float32],
    clusters_N: NDArray[np.intp],
    labels: LabelSet,
    *,
    images: pl.DataFrame | None = None,
    by: tuple[str, ...] = FACTORS,
    age_edges: tuple[int, ...] = AGE_EDGES,
    confidence: float = 0.95,
) -> Iterator[Metric]:
    """Yield the AUC of each label in each group, and their mean; then their differences from the largest group.

    images: IMAGE_SCHEMA of the images; those of which a value is not known are in none of its groups. by: of sex, age
    and view. age_edges: the years at which a new age band begins. Metrics say their group: "sex F", "age 20-39";
    differences (auc_difference) both: "view AP against PA". The p-values of the labels' differences are adjusted by
    Holm over the averaged labels; the mean's stands by itself. Raises UserError for settings that cannot be, and where
    nothing is known of the images.
    """
    auc.check_settings(1, confidence)
    for _ in known_images(scores_NL, truth_NL, clusters_N, labels):
        pass
    if images is None:
        raise UserError("subgroups: nothing is known of the images", remedy="evaluate a run with `cxrkit evaluate`")
    known_NL = ~np.isnan(truth_NL)
    averaged = [labels.labels.index(label) for label in labels.averaged if label in labels.labels]
    several = split(images, by, age_edges)
    if not several:
        raise UserError(
            f"subgroups: {' and '.join(by)} are not known of any image",
            remedy="name a prepared folder, or a table with age_years, sex and view, with --data",
        )
    for groups in several:
        factor = compare_groups(scores_NL, truth_NL > 0.5, known_NL, clusters_N, groups, averaged)
        for place in range(len(factor.groups)):
            yield from _of_group(factor, place, labels, known_NL, truth_NL > 0.5, confidence)
        for pair in factor.pairs():
            yield from _of_pair(factor, pair, labels, averaged, confidence)


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
    bands = [
        None if age is None or not 0 <= age <= OLDEST_YEARS else names[sum(age >= edge for edge in age_edges)]
        for age in age_N.to_list()
    ]
    return pl.Series(bands, dtype=pl.String)


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
    enough = [[label for label in averaged if _has_enough(of_group[label])] for of_group in estimates]
    counted = tuple(place for place, has in enumerate(enough) if has and 2 * len(has) >= len(averaged))
    shared = tuple(label for label in averaged if all(label in enough[place] for place in counted))
    # Groups that have half of the labels each may have none in common.
    return Factor(tuple(groups), estimates, counted if shared else (), shared)


def support_of(one: Estimate) -> Support:
    """Return what an estimate rests on."""
    return Support(one.positive_patients, one.negative_patients, one.clusters_effective)


def _has_enough(one: Estimate) -> bool:
    return support_of(one).mark != TOO_FEW and not np.isnan(one.variance)


def over_which(factor: Factor, place: int, labels: LabelSet) -> str:
    """Return which labels the mean of a group leaves out, or why it has none: "over 13 of 14, without Hernia"."""
    averaged = [labels.labels.index(label) for label in labels.averaged if label in labels.labels]
    if place not in factor.counted:
        enough = sum(_has_enough(factor.estimates[place][label]) for label in averaged)
        return f"enough patients for {enough} of {len(averaged)} labels"
    left = [labels.heading(labels.labels[label]) for label in averaged if label not in factor.averaged]
    if not left:
        return ""
    without = ", ".join(left) if len(left) <= 3 else f"{len(left)} labels"
    return f"over {len(averaged) - len(left)} of {len(averaged)}, without {without} (too few patients in a group)"


def _of_group(
    factor: Factor,
    place: int,
    labels: LabelSet,
    known_NL: NDArray[np.bool_],
    positive_NL: NDArray[np.bool_],
    confidence: float,
) -> Iterator[Metric]:
    group = factor.groups[place]
    for number, label in enumerate(labels.labels):
        of_label_N = known_NL[:, number] & group.member
        positives = int((positive_NL[:, number] & of_label_N).sum())
        negatives = int(of_label_N.sum()) - positives
        metric = Metric(auc.NAME, None, label, positives=positives, negatives=negatives, group=group.name)
        if not positives or not negatives:
            reason = "0 positives" if not positives else "0 negatives"
            yield replace(metric, reason=reason, interval=reason)
            continue
        yield _with_interval(metric, factor.estimates[place][number], confidence)
    if labels.averaged:
        mean = factor.mean(place)
        count, reason = len(factor.averaged) if mean is not None else 0, over_which(factor, place, labels)
        metric = Metric(auc.NAME, None, labels=count, reason=reason, group=group.name)
        yield metric if mean is None else _with_interval(metric, mean, confidence)


def _with_interval(metric: Metric, one: Estimate, confidence: float) -> Metric:
    found = intervals.of_estimate(one, confidence=confidence)
    return replace(
        metric,
        value=one.value,
        lower=found.lower,
        upper=found.upper,
        interval=found.said(f"{100 * confidence:g} % {_HOW}"),
        mark=found.mark,
        positive_patients=one.positive_patients,
        clusters_effective=one.clusters_effective,
    )


def differences(factor: Factor, pair: tuple[int, int], confidence: float = 0.95) -> list[Comparison]:
    """Return the difference of two groups in each label."""
    one, other = (factor.estimates[place] for place in pair)
    return [comparing.compare(first, second, confidence=confidence) for first, second in zip(one, other, strict=True)]


def mean_difference(factor: Factor, pair: tuple[int, int], confidence: float = 0.95) -> Comparison | None:
    """Return the difference of the means of two groups; None where these have none."""
    one, other = (factor.mean(place) for place in pair)
    return None if one is None or other is None else comparing.compare(one, other, confidence=confidence)


def _of_pair(
    factor: Factor, pair: tuple[int, int], labels: LabelSet, averaged: Sequence[int], confidence: float
) -> Iterator[Metric]:
    one, other = (factor.groups[place] for place in pair)
    group = f"{one.name} against {other.value}"
    found = differences(factor, pair, confidence)
    adjusted_L = np.full(len(labels), np.nan)
    adjusted_L[list(averaged)] = comparing.holm([found[number].p_value for number in averaged])
    for number, label in enumerate(labels.labels):
        p_value = adjusted_L[number] if number in averaged else found[number].p_value
        yield _difference(Metric(DIFFERENCE, None, label, group=group), found[number], float(p_value), confidence)
    mean = mean_difference(factor, pair, confidence)
    if labels.averaged:
        small = next((place for place in pair if place not in factor.counted), pair[0])
        count, reason = len(factor.averaged) if mean is not None else 0, over_which(factor, small, labels)
        metric = Metric(DIFFERENCE, None, labels=count, reason=reason, group=group)
        yield metric if mean is None else _difference(metric, mean, mean.p_value, confidence)


def _difference(metric: Metric, found: Comparison, p_value: float, confidence: float) -> Metric:
    if np.isnan(found.difference):
        return replace(metric, reason=metric.reason or "undefined in one of them", interval="undefined in one of them")
    bounded = not np.isnan(found.lower)
    return replace(
        metric,
        value=found.difference,
        lower=found.lower if bounded else None,
        upper=found.upper if bounded else None,
        p_value=None if np.isnan(p_value) else p_value,
        interval=f"{100 * confidence:g} % {_HOW_DIFFERENCE}" if bounded else found.reason,
        mark=found.mark,
    )
