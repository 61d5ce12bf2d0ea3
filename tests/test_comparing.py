"""Comparisons of models: against scipy, numbers of statsmodels, and errors of the first kind by simulation."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cxrkit.statistics import clustered, comparing, ranking
from cxrkit.statistics.intervals import APPROXIMATE, TOO_FEW


def cohort(generator, patients=150, images=900, models=2, shared=0.5, gain=0.0):
    """Draw models that know equally much (the first `gain` more), of patients that are hard or easy for all."""
    cluster_N = np.sort(generator.integers(0, patients, images))
    truth_N = (generator.random(patients) < 0.3)[cluster_N] & (generator.random(images) < 0.7)
    noise_NM = generator.normal(size=(patients, models))[cluster_N] + generator.normal(size=(images, models))
    common_N = generator.normal(size=patients)[cluster_N]
    score_NM = 1.2 * truth_N[:, None] + shared * common_N[:, None] + noise_NM
    score_NM[:, 0] += gain * truth_N
    return score_NM, truth_N, cluster_N


def estimates(score_NM, truth_N, cluster_N):
    return [clustered.estimate(score_N, truth_N, cluster_N) for score_N in score_NM.T]


def test_compare_is_students_t_with_one_less_than_the_effective_patients():
    one, other = estimates(*cohort(np.random.default_rng(0), gain=0.2))
    found = comparing.compare(one, other, confidence=0.9)
    matrix = clustered.covariance([one, other])
    error = np.sqrt(matrix[0, 0] + matrix[1, 1] - 2 * matrix[0, 1])
    freedom = one.clusters_effective - 1
    t = stats.t(freedom, loc=one.value - other.value, scale=error)
    assert found.standard_error == pytest.approx(error)
    assert found.degrees_of_freedom == freedom
    assert (found.lower, found.upper) == pytest.approx(t.interval(0.9))
    assert found.p_value == pytest.approx(2 * stats.t.sf(abs(one.value - other.value) / error, freedom), rel=1e-9)
    back = comparing.compare(other, one, confidence=0.9)
    assert (back.difference, back.p_value) == pytest.approx((-found.difference, found.p_value))
    assert (back.lower, back.upper) == pytest.approx((-found.upper, -found.lower))


def test_a_model_does_not_differ_from_itself_nor_from_a_monotone_map_of_it():
    score_NM, truth_N, cluster_N = cohort(np.random.default_rng(1))
    one, other = estimates(np.stack([score_NM[:, 0], np.arctan(score_NM[:, 0])], axis=1), truth_N, cluster_N)
    found = comparing.compare(one, other)
    assert (found.difference, found.standard_error, found.p_value) == (0, 0, 1)
    assert (found.lower, found.upper) == (0, 0)


def test_the_error_of_a_difference_is_that_of_the_paired_bootstrap():
    score_NM, truth_N, cluster_N = cohort(np.random.default_rng(2), patients=400, images=2000, gain=0.1)
    truth_NM = np.repeat(truth_N[:, None], 2, axis=1)
    drawn_RM = ranking.bootstrap(score_NM, truth_NM, cluster_N, replicates=1500, threads=1)
    found = comparing.compare(*estimates(score_NM, truth_N, cluster_N))
    assert found.standard_error == pytest.approx((drawn_RM[:, 0] - drawn_RM[:, 1]).std(ddof=1), rel=0.06)


def test_equal_models_are_called_different_by_images_not_by_patients():
    """At 5 %: of 200 comparisons of models that know the same, images call far more different, patients about ten."""
    generator = np.random.default_rng(3)
    by_patient = by_image = 0
    for _ in range(200):
        score_NM, truth_N, cluster_N = cohort(generator, patients=80, images=800)
        by_patient += comparing.compare(*estimates(score_NM, truth_N, cluster_N)).p_value <= 0.05
        by_image += comparing.compare(*estimates(score_NM, truth_N, np.arange(800))).p_value <= 0.05
    assert 3 <= by_patient <= 20
    assert by_image > 40


@pytest.mark.parametrize(
    ("ill", "mark", "reason"),
    [
        (9, TOO_FEW, "9 patients with the finding, fewer than 10"),
        (10, APPROXIMATE, "10 patients with the finding, fewer than 30"),
        (30, "", ""),
        (200, TOO_FEW, "0 patients without the finding, fewer than 10"),
    ],
)
def test_too_few_patients_give_a_difference_without_a_p_value(ill, mark, reason):
    generator = np.random.default_rng(4)
    truth_N = np.arange(200) < ill
    found = comparing.compare(*estimates(generator.normal(size=(200, 2)), truth_N, np.arange(200)))
    assert (found.mark, found.reason) == (mark, reason)
    assert np.isfinite([found.difference, found.standard_error]).all() == (ill < 200)
    assert np.isnan([found.p_value, found.lower, found.upper]).all() == (mark == TOO_FEW)


# Seeds and folds


def test_several_seeds_add_their_own_variance():
    score_NM, truth_N, cluster_N = cohort(np.random.default_rng(5), models=5)
    found = estimates(score_NM, truth_N, cluster_N)
    one, other = found[:3], found[3:]
    compared = comparing.compare_seeds(one, other)
    gap = clustered.difference(clustered.mean(one), clustered.mean(other))
    spreads = [np.var([seed.value for seed in seeds], ddof=1) / len(seeds) for seeds in (one, other)]
    variance = gap.variance + sum(spreads)
    assert compared.difference == pytest.approx(gap.value)
    assert compared.standard_error == pytest.approx(np.sqrt(variance))
    freedom = variance**2 / (gap.variance**2 / gap.degrees_of_freedom + spreads[0] ** 2 / 2 + spreads[1] ** 2 / 1)
    assert compared.degrees_of_freedom == pytest.approx(freedom)
    assert comparing.seed_spread([seed.value for seed in one]) == pytest.approx(np.sqrt(3 * spreads[0]))
    assert comparing.seed_spread([0.8]) is None


def test_seeds_alone_are_welchs_test():
    """Without the patients' part (their estimates have no influence) the test of seeds is scipy's."""
    values = [0.81, 0.83, 0.80, 0.84], [0.79, 0.80, 0.77]
    one, other = ([clustered.Estimate(value, np.zeros(3), 1e9, 99, 99) for value in side] for side in values)
    found = comparing.compare_seeds(one, other)
    expected = stats.ttest_ind(*values, equal_var=False)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-6)
    assert found.degrees_of_freedom == pytest.approx(expected.df, rel=1e-6)


def test_folds_are_compared_by_nadeau_and_bengio():
    difference_F = [0.010, 0.014, 0.004, 0.012, 0.007]
    found = comparing.compare_folds(difference_F)
    naive = stats.ttest_1samp(difference_F, 0)
    widening = np.sqrt((1 / 5 + 2 / 7) / (1 / 5))  # 1.56
    assert widening == pytest.approx(1.56, abs=0.005)
    assert found.standard_error == pytest.approx(widening * stats.sem(difference_F))
    assert found.degrees_of_freedom == 4
    assert found.p_value == pytest.approx(2 * stats.t.sf(naive.statistic / widening, 4))
    uncorrected = comparing.compare_folds(difference_F, test_to_train=0)
    assert uncorrected.p_value == pytest.approx(naive.pvalue)
    assert (uncorrected.lower, uncorrected.upper) == pytest.approx(tuple(naive.confidence_interval()))


def test_a_single_fold_has_no_spread():
    found = comparing.compare_folds([0.01])
    assert (found.difference, found.reason) == (0.01, "a single fold has no spread")
    assert np.isnan(found.p_value)


# Many labels, many models


def test_labels_are_compared_one_by_one_and_in_the_mean():
    generator = np.random.default_rng(11)
    score_NM, truth_N, cluster_N = cohort(generator, models=6, gain=0.4)
    truth_NL = np.stack([truth_N, np.roll(truth_N, 5), ~truth_N], axis=1)
    known_NL = generator.random(truth_NL.shape) < 0.9
    sides = [
        clustered.estimates(score_NM[:, part], truth_NL, cluster_N, known_NL=known_NL)
        for part in (slice(3), slice(3, 6))
    ]
    found = comparing.compare_labels([sides[0]], [sides[1]], [0, 2])
    for place, (one, other) in enumerate(zip(*sides, strict=True)):
        alone = clustered.estimate(
            score_NM[known_NL[:, place], place], truth_NL[known_NL[:, place], place], cluster_N[known_NL[:, place]]
        )
        assert one.value == alone.value
        assert found.labels[place] == comparing.compare(one, other)
    assert found.adjusted[::2] == pytest.approx(comparing.holm([found.labels[0].p_value, found.labels[2].p_value]))
    assert np.isnan(found.adjusted[1])
    means = [clustered.mean([side[0], side[2]]) for side in sides]
    assert found.mean == comparing.compare(*means)
    seeds = comparing.compare_labels([sides[0], sides[1]], [sides[1]], [0, 2])
    assert seeds.mean.standard_error > 0
    assert seeds.mean.difference == pytest.approx(found.mean.difference / 2)


def test_holm_equals_statsmodels():
    """From statsmodels 0.15.0: multipletests(p_values, method="holm")."""
    assert comparing.holm([0.01, 0.04, 0.03, 0.005, 0.03, 0.2, 0.9]) == pytest.approx(
        [0.06, 0.15, 0.15, 0.035, 0.15, 0.4, 0.9]
    )
    fourteen = [0.001, 0.02, 0.02, 0.5, 0.0004, 0.013, 0.04, 0.049, 0.07, 0.3, 0.8, 0.0035, 0.11, 0.6]
    expected = [0.013, 0.2, 0.2, 1.0, 0.0056, 0.143, 0.32, 0.343, 0.42, 1.0, 1.0, 0.042, 0.55, 1.0]
    assert comparing.holm(fourteen) == pytest.approx(expected)


@given(p_values=st.lists(st.floats(0, 1), max_size=20), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=80)
def test_holm_is_between_the_p_values_and_bonferroni_in_any_order(p_values, seed):
    found = comparing.holm(p_values)
    assert (found >= p_values).all()
    assert (found <= np.minimum(1, len(p_values) * np.array(p_values)) + 1e-12).all()
    order = np.random.default_rng(seed).permutation(len(p_values))
    np.testing.assert_array_equal(comparing.holm(np.array(p_values)[order]), found[order])
    with_gap = comparing.holm([float("nan"), *p_values])
    assert np.isnan(with_gap[0])
    np.testing.assert_array_equal(with_gap[1:], found)


def test_tied_groups_of_known_cases():
    values = [0.80, 0.84, 0.82, 0.70]
    nothing = np.zeros((4, 4), bool)
    assert comparing.tied_groups(values, nothing) == [(1, 2, 0, 3)]
    all_differ = ~np.eye(4, dtype=bool)
    assert comparing.tied_groups(values, all_differ) == [(1,), (2,), (0,), (3,)]
    different = nothing.copy()
    different[[0, 1, 0, 1, 2, 3, 3, 3], [1, 0, 3, 3, 3, 0, 1, 2]] = True  # 0 and 1, and 3 from all
    assert comparing.tied_groups(values, different) == [(1, 2), (2, 0), (3,)]
    assert comparing.tied_groups([], np.zeros((0, 0), bool)) == []


@given(data=st.data(), models=st.integers(1, 7))
@settings(deadline=None, max_examples=80)
def test_tied_groups_are_the_largest_sets_without_a_difference(data, models):
    from itertools import combinations

    different = np.zeros((models, models), bool)
    for one, other in combinations(range(models), 2):
        different[one, other] = different[other, one] = data.draw(st.booleans())
    free = [
        set(members)
        for size in range(1, models + 1)
        for members in combinations(range(models), size)
        if not different[np.ix_(members, members)].any()
    ]
    expected = {frozenset(group) for group in free if not any(group < larger for larger in free)}
    found = comparing.tied_groups(list(range(models)), different)
    assert len(found) == len(expected)
    assert {frozenset(group) for group in found} == expected


def test_ties_of_forty_models_are_found_at_once():
    generator = np.random.default_rng(0)
    upper = np.triu(generator.random((40, 40)) < 0.3, 1)
    started = time.perf_counter()
    found = comparing.tied_groups(generator.random(40), upper | upper.T)
    assert len(found) > 500
    assert time.perf_counter() - started < 2  # 40 s by insert and absorb


def test_pairwise_adjusts_over_all_pairs_and_groups_what_is_left():
    generator = np.random.default_rng(8)
    score_NM, truth_N, cluster_N = cohort(generator, patients=600, images=3000, models=4)
    score_NM[:, 0] += 1.5 * truth_N
    found = comparing.pairwise([[one] for one in estimates(score_NM, truth_N, cluster_N)])
    assert list(found.comparisons) == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    raw = [one.p_value for one in found.comparisons.values()]
    assert list(found.adjusted.values()) == pytest.approx(comparing.holm(raw).tolist())
    assert found.groups[0] == (0,)
    assert sorted(found.groups[1]) == [1, 2, 3]


# Many labels and many models over folds


def test_folds_are_compared_label_by_label_and_in_the_mean():
    one_FL, other_FL = np.random.default_rng(9).normal(0.8, 0.02, size=(2, 5, 4))
    found = comparing.compare_fold_labels(one_FL, other_FL, [0, 1, 3])
    for place in range(4):
        assert found.labels[place] == comparing.compare_folds(one_FL[:, place] - other_FL[:, place])
    means = one_FL[:, [0, 1, 3]].mean(axis=1) - other_FL[:, [0, 1, 3]].mean(axis=1)
    assert found.mean.difference == pytest.approx(means.mean())
    assert found.mean.p_value == pytest.approx(comparing.compare_folds(means).p_value)
    assert np.isnan(found.adjusted[2])
    raw = [found.labels[place].p_value for place in (0, 1, 3)]
    assert [found.adjusted[place] for place in (0, 1, 3)] == pytest.approx(comparing.holm(raw))


def test_models_over_folds_are_compared_in_pairs():
    value_QF = np.random.default_rng(10).normal(0.8, 0.002, size=(3, 5))
    value_QF[2] -= 0.2
    found = comparing.pairwise_folds(value_QF)
    assert found.comparisons[0, 2] == comparing.compare_folds(value_QF[0] - value_QF[2])
    raw = [found.comparisons[pair].p_value for pair in ((0, 1), (0, 2), (1, 2))]
    assert [found.adjusted[pair] for pair in ((0, 1), (0, 2), (1, 2))] == pytest.approx(comparing.holm(raw))
    assert found.groups[-1] == (2,)
    assert set(found.groups[0]) == {0, 1}
