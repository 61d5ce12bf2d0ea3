"""Are two models different? On the same test images, over several seeds, over folds, and among many models.

The images of a patient are not independent: taken as if they were, two models that know equally much are called
different at 5 % in a fifth (Hernia) to half (Effusion) of all comparisons (benchmarks/results/statistics). So every
standard error here is over patients (clustered.py), and Student's t has one degree of freedom less than there are
effective patients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from cxrkit.statistics import clustered
from cxrkit.statistics.clustered import Estimate
from cxrkit.statistics.intervals import TOO_FEW, Support, student_quantile

# Five resamples with 70 % for training and 20 % for testing: what Nadeau and Bengio call n2 / n1.
TEST_TO_TRAIN = 2 / 7


@dataclass(frozen=True)
class Comparison:
    """A difference and what is known of it. NaN stands for what cannot be known, with the reason."""

    difference: float
    """The first less the second."""

    standard_error: float
    """Of the difference."""

    degrees_of_freedom: float
    """Of Student's t."""

    lower: float
    """Lower bound of the interval of the difference."""

    upper: float
    """Upper bound of the interval of the difference."""

    p_value: float
    """Two-sided, of no difference."""

    mark: str = ""
    """intervals.APPROXIMATE, intervals.TOO_FEW, or nothing."""

    reason: str = ""
    """Why there is no interval and no p-value, or why they are approximate."""


def _student(difference: float, variance: float, freedom: float, confidence: float) -> Comparison:
    """Return the comparison by Student's t; equal models (no difference, no variance) are equal: p = 1."""
    from scipy.special import stdtr

    if not np.isfinite(variance) or freedom <= 0:
        nan = float("nan")
        error = float(np.sqrt(variance)) if np.isfinite(variance) else nan
        return Comparison(difference, error, freedom, nan, nan, nan, reason="no spread to learn from")
    error = float(np.sqrt(variance))
    half = student_quantile(freedom, confidence) * error
    t = abs(difference) / error if error else (0.0 if difference == 0 else np.inf)
    p_value = min(1.0, 2 * float(stdtr(freedom, -t)))
    return Comparison(difference, error, freedom, difference - half, difference + half, p_value)


def compare(one: Estimate, other: Estimate, *, confidence: float = 0.95) -> Comparison:
    """Compare two models on the same test images, or on subgroups that share patients.

    one, other: from `clustered.estimate` or `clustered.mean`, their patients numbered alike. No interval and no p-value
    where fewer than ten patients have the finding, or have it not.
    """
    return compare_seeds([one], [other], confidence=confidence)


def compare_seeds(one: Sequence[Estimate], other: Sequence[Estimate], *, confidence: float = 0.95) -> Comparison:
    """Compare two models of which one or several trainings, that differ in their seed, saw the same test images.

    The variance of the difference of the seed averages is the clustered one, for the patients, and s^2 / S of each
    model with S > 1 trainings, for the seeds; a single training says nothing of its model's spread over seeds, and the
    result then holds for that training alone. Degrees of freedom by Welch and Satterthwaite.
    """
    gap = clustered.difference(clustered.mean(one), clustered.mean(other))
    parts = [(gap.variance, gap.degrees_of_freedom)]
    for seeds in (one, other):
        if len(seeds) > 1:
            spread = float(np.var([seed.value for seed in seeds], ddof=1))
            parts.append((spread / len(seeds), len(seeds) - 1.0))
    total = sum(variance for variance, _ in parts)
    rests_on = Support(gap.positive_patients, gap.negative_patients, gap.clusters_effective)
    if rests_on.mark == TOO_FEW:
        found = _student(gap.value, total, 0.0, confidence)
    else:
        found = _student(gap.value, total, _satterthwaite(parts), confidence)
    return replace(found, mark=rests_on.mark, reason=rests_on.reason or found.reason)


def compare_independent(one: Estimate, other: Estimate, *, confidence: float = 0.95) -> Comparison:
    """Compare a model on two test sets that share no patient, as of two hospitals: `one` less `other`.

    The variances add up, and Student's t has the degrees of freedom of Welch (1947) and Satterthwaite. No interval and
    no p-value where either set has fewer than ten patients with the finding, or without it.
    """
    rests_on = Support.weakest(
        [Support(it.positive_patients, it.negative_patients, it.clusters_effective) for it in (one, other)]
    )
    parts = [(it.variance, it.degrees_of_freedom) for it in (one, other)]
    freedom = 0.0 if rests_on.mark == TOO_FEW else _satterthwaite(parts)
    found = _student(one.value - other.value, one.variance + other.variance, freedom, confidence)
    return replace(found, mark=rests_on.mark, reason=rests_on.reason or found.reason)


@dataclass(frozen=True)
class LabelComparisons:
    """Two models on the same test images, label by label and on the mean."""

    mean: Comparison
    """Of the unweighted means over the averaged labels: the one primary outcome, whose p-value stands by itself."""

    labels: tuple[Comparison, ...]
    """Of each label."""

    adjusted: tuple[float, ...]
    """p-values of the averaged labels, adjusted by Holm for their number; NaN for a label that is not averaged."""


def compare_labels(
    one: Sequence[Sequence[Estimate]],
    other: Sequence[Sequence[Estimate]],
    averaged: Sequence[int],
    *,
    confidence: float = 0.95,
) -> LabelComparisons:
    """Compare two models in every label and in the mean.

    one, other: for each seed the estimates of all labels (`clustered.estimates`); a single training is a list of one.
    averaged: places of the labels that the mean is over, all of which have an AUC.
    """

    def compared(places: Sequence[int]) -> Comparison:
        sides = ([clustered.mean([seed[place] for place in places]) for seed in seeds] for seeds in (one, other))
        return compare_seeds(*sides, confidence=confidence)

    labels = tuple(compared([place]) for place in range(len(one[0])))
    adjusted = np.full(len(labels), np.nan)
    adjusted[list(averaged)] = holm([labels[place].p_value for place in averaged])
    return LabelComparisons(compared(averaged), labels, tuple(adjusted.tolist()))


def _satterthwaite(parts: Sequence[tuple[float, float]]) -> float:
    """Return the degrees of freedom of a sum of variances, each given with its own; the first's where all are 0."""
    total = sum(variance for variance, _ in parts)
    if not total > 0 or len(parts) == 1:
        return parts[0][1]
    return float(total**2 / sum(variance**2 / freedom for variance, freedom in parts if variance))


def seed_spread(values: Sequence[float]) -> float | None:
    """Return the standard deviation over seeds, None for a single one: to be shown apart from the intervals."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def compare_folds(
    difference_F: Sequence[float], *, test_to_train: float = TEST_TO_TRAIN, confidence: float = 0.95
) -> Comparison:
    """Compare two models over F resamples by the corrected resampled t-test (Nadeau and Bengio 2003, section 3).

    difference_F: of the two in each resample. Training sets of resamples overlap, so their differences are no
    independent draws: the variance of the mean is (1 / F + test / train) s^2, not s^2 / F.
    """
    folds, average = len(difference_F), float(np.mean(difference_F))
    if folds < 2:
        return replace(_student(average, float("nan"), 0.0, confidence), reason="a single fold has no spread")
    variance = (1 / folds + test_to_train) * float(np.var(difference_F, ddof=1))
    return _student(average, variance, folds - 1.0, confidence)


def compare_fold_labels(
    one_FL: NDArray[np.float64], other_FL: NDArray[np.float64], averaged: Sequence[int], *, confidence: float = 0.95
) -> LabelComparisons:
    """Compare two models over F resamples in every label and in the mean, by their AUCs; see `compare_folds`."""
    gap_FL = one_FL - other_FL
    labels = tuple(compare_folds(gap_F, confidence=confidence) for gap_F in gap_FL.T)
    adjusted = np.full(len(labels), np.nan)
    adjusted[list(averaged)] = holm([labels[place].p_value for place in averaged])
    mean = compare_folds(gap_FL[:, list(averaged)].mean(axis=1), confidence=confidence)
    return LabelComparisons(mean, labels, tuple(adjusted.tolist()))


def holm(p_values: Sequence[float]) -> NDArray[np.float64]:
    """Return the p-values adjusted for their number by Holm (1979); what is NaN stays so and is not counted.

    statsmodels' multipletests(method="holm") gives the same; its packages are many for so few lines.
    """
    found = np.asarray(p_values, float)
    adjusted = np.full(found.shape, np.nan)
    counted = np.flatnonzero(~np.isnan(found))
    order = counted[np.argsort(found[counted], kind="stable")]
    steps = found[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return adjusted


def tied_groups(values: Sequence[float], different: NDArray[np.bool_]) -> list[tuple[int, ...]]:
    """Return the groups of models that are statistically tied: the largest sets in which no two differ.

    values: of the models, by which groups and their members are sorted, the highest first. different: (Q, Q), whether
    two models differ, which is for the caller to say (`differ`). A model may be in several groups: being tied is not
    transitive. The groups are those of the compact letter display (Piepho 2004, Journal of Computational and Graphical
    Statistics 13, 456-466): the maximal cliques of the graph of pairs that do not differ, found by Bron and Kerbosch
    with pivots (1973), since insert and absorb may take minutes for forty models.
    """
    models = range(len(values))
    tied = [{other for other in models if other != one and not different[one, other]} for one in models]
    groups: list[set[int]] = []

    def grow(group: set[int], candidates: set[int], seen: set[int]) -> None:
        """Add the largest groups with all of `group`, some of the candidates and none of those seen."""
        if not candidates and not seen:
            groups.append(group)
            return
        pivot = max(candidates | seen, key=lambda model: len(tied[model] & candidates))
        for model in candidates - tied[pivot]:
            grow(group | {model}, candidates & tied[model], seen & tied[model])
            candidates = candidates - {model}
            seen = seen | {model}

    if len(values):
        grow(set(), set(models), set())
    ordered = [tuple(sorted(group, key=lambda model: (-values[model], model))) for group in groups]
    return sorted(ordered, key=lambda group: [(-values[model], model) for model in group])


@dataclass(frozen=True)
class Pairwise:
    """Every model against every other on the same test images."""

    comparisons: dict[tuple[int, int], Comparison]
    """By the places of the two, the lower first: the first less the second."""

    adjusted: dict[tuple[int, int], float]
    """p-values adjusted by Holm over all pairs."""

    groups: list[tuple[int, ...]]
    """Places of the models that are statistically tied, the best group first."""


def pairwise(models: Sequence[Sequence[Estimate]], *, confidence: float = 0.95) -> Pairwise:
    """Compare all models with each other; a model is one estimate, or one for each of its seeds.

    Two models differ where the p-value of their difference, adjusted by Holm over all pairs, is at most
    1 - confidence; where there is no p-value, nothing says that they differ.
    """
    found = {
        (one, other): compare_seeds(models[one], models[other], confidence=confidence)
        for one, other in combinations(range(len(models)), 2)
    }
    return _adjusted(found, [clustered.mean(seeds).value for seeds in models], confidence)


def pairwise_folds(
    value_QF: NDArray[np.float64], *, test_to_train: float = TEST_TO_TRAIN, confidence: float = 0.95
) -> Pairwise:
    """Compare all models with each other over F resamples, of which each has an AUC in each; see `compare_folds`."""
    found = {
        (one, other): compare_folds(value_QF[one] - value_QF[other], test_to_train=test_to_train, confidence=confidence)
        for one, other in combinations(range(len(value_QF)), 2)
    }
    return _adjusted(found, value_QF.mean(axis=1).tolist(), confidence)


def _adjusted(found: dict[tuple[int, int], Comparison], values: Sequence[float], confidence: float) -> Pairwise:
    """Return the comparisons of all pairs with Holm's adjustment over them, and the models that stay tied."""
    adjusted = dict(zip(found, holm([item.p_value for item in found.values()]).tolist(), strict=True))
    different = np.zeros((len(values), len(values)), bool)
    for one, other in found:
        different[one, other] = different[other, one] = adjusted[one, other] <= 1 - confidence  # NaN is not
    return Pairwise(found, adjusted, tied_groups(values, different))
