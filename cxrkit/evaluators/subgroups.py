"""AUCs by sex, age and view, and whether groups differ: what groups.py finds, as metrics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cxrkit.base.contracts import Metric
from cxrkit.base.errors import UserError
from cxrkit.base.labels import LabelSet
from cxrkit.evaluators import auc
from cxrkit.evaluators.groups import (
    AGE_EDGES,
    FACTORS,
    Factor,
    compare_groups,
    differences,
    has_enough,
    mean_difference,
    split,
)
from cxrkit.evaluators.probabilities import known_images
from cxrkit.statistics import comparing, intervals
from cxrkit.statistics.clustered import Estimate
from cxrkit.statistics.comparing import Comparison

DIFFERENCE = "auc_difference"
_HOW = "logit-t with effective patients, clustered variance (Obuchowski 1997)"
_HOW_DIFFERENCE = "Student's t with effective patients, clustered variance (Obuchowski 1997)"


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


def _over_which(factor: Factor, place: int, labels: LabelSet) -> str:
    """Return which labels the mean of a group leaves out, or why it has none: "over 13 of 14, without Hernia"."""
    averaged = [labels.labels.index(label) for label in labels.averaged if label in labels.labels]
    if place not in factor.counted:
        enough = sum(has_enough(factor.estimates[place][label]) for label in averaged)
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
        count, reason = len(factor.averaged) if mean is not None else 0, _over_which(factor, place, labels)
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
        count, reason = len(factor.averaged) if mean is not None else 0, _over_which(factor, small, labels)
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
