"""Thresholds, operating points and average precision: against scikit-learn, scipy and statsmodels' numbers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import average_precision_score, confusion_matrix, roc_curve

from cxrkit.statistics import thresholds
from cxrkit.statistics.intervals import APPROXIMATE, TOO_FEW

ROWS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0]), st.booleans(), st.integers(0, 20)),
    min_size=2,
    max_size=60,
).filter(lambda rows: len({truth for _, truth, _ in rows}) == 2)


def unpack(rows):
    return np.array([s for s, _, _ in rows]), np.array([t for _, t, _ in rows]), np.array([k for _, _, k in rows])


@given(rows=ROWS, seed=st.integers(0, 99))
@settings(deadline=None, max_examples=80)
def test_youden_equals_scikit_learns_curve(rows, seed):
    score_N, truth_N, cluster_N = unpack(rows)
    found = thresholds.youden(score_N, truth_N, cluster_N)
    false_T, true_T, score_T = roc_curve(truth_N, score_N, drop_intermediate=False)
    assert found.youden == pytest.approx((true_T - false_T)[1:].max(), abs=1e-12)
    best_T = score_T[1:][np.isclose((true_T - false_T)[1:], found.youden, atol=1e-12)]
    assert found.value == best_T.max()
    order = np.random.default_rng(seed).permutation(len(rows))
    assert thresholds.youden(score_N[order], truth_N[order], cluster_N[order]) == found
    moved = thresholds.youden(np.exp(score_N), truth_N, cluster_N)
    assert (moved.value, moved.youden) == (np.exp(found.value), found.youden)


def test_youden_says_what_it_was_chosen_on():
    truth_N = np.arange(100) < 14
    found = thresholds.youden(np.random.default_rng(0).random(100), truth_N, np.arange(100))
    assert (found.support.positive_patients, found.support.mark) == (14, APPROXIMATE)
    nobody = thresholds.youden(np.random.default_rng(0).random(100), np.zeros(100, bool), np.arange(100))
    assert np.isnan(nobody.value)
    assert nobody.support.mark == TOO_FEW


@given(rows=ROWS, threshold=st.sampled_from([0.1, 0.3, 0.75, 1.0]))
@settings(deadline=None, max_examples=80)
def test_operating_points_are_those_of_the_confusion_matrix(rows, threshold):
    score_N, truth_N, cluster_N = unpack(rows)
    found = thresholds.operating_point(score_N, truth_N, cluster_N, threshold)
    (healthy_right, healthy_wrong), (ill_wrong, ill_right) = confusion_matrix(truth_N, score_N >= threshold)
    assert found.sensitivity.value == pytest.approx(ill_right / (ill_right + ill_wrong))
    assert found.specificity.value == pytest.approx(healthy_right / (healthy_right + healthy_wrong))
    called = ill_right + healthy_wrong
    assert found.positive_predictive_value.images == called
    if called:
        assert found.positive_predictive_value.value == pytest.approx(ill_right / called)
    else:
        assert found.positive_predictive_value.value is None
        assert found.positive_predictive_value.interval.reason == "of no image"
    other = thresholds.operating_point(score_N[::-1], truth_N[::-1], 20 - cluster_N[::-1], threshold)
    for one, again in zip(vars(found).values(), vars(other).values(), strict=True):
        assert again.interval.lower == pytest.approx(one.interval.lower)
        assert again.interval.upper == pytest.approx(one.interval.upper)
        if one.interval.lower is not None:
            assert 0 <= one.interval.lower <= one.value <= one.interval.upper <= 1


def test_the_interval_is_that_of_a_clustered_logistic_regression():
    """From statsmodels 0.15.0: the cluster-robust standard error of a constant's logit, without small-sample factor."""
    images, hits = [1, 4, 2, 7, 1, 3, 5, 1, 2, 9, 3, 2], [1, 3, 0, 7, 0, 2, 1, 1, 2, 4, 0, 1]
    cluster_N = np.repeat(np.arange(12), images)
    hit_N = np.concatenate([np.arange(count) < hit for count, hit in zip(images, hits, strict=True)])
    found = thresholds.share(hit_N, np.ones(40, bool), cluster_N)
    error = 0.4529714611066395 * np.sqrt(12 / 11)
    freedom = 40**2 / sum(count**2 for count in images) - 1
    half = stats.t.ppf(0.975, freedom) * error
    expected = 1 / (1 + np.exp(-(np.log(22 / 18) + np.array([-half, half]))))
    assert (found.value, found.images, found.patients) == (0.55, 40, 12)
    assert (found.interval.lower, found.interval.upper) == pytest.approx(tuple(expected), rel=1e-6)
    assert (found.interval.mark, found.interval.reason) == (APPROXIMATE, "12 patients")


def test_all_or_none_have_the_interval_of_clopper_and_pearson():
    """As statsmodels' proportion_confint(20, 20, method="beta") and (0, 12, alpha=0.1, method="beta")."""
    every = thresholds.share(np.ones(20, bool), np.ones(20, bool), np.arange(20))
    assert (every.interval.lower, every.interval.upper) == pytest.approx((0.8315665290169146, 1.0))
    none = thresholds.share(np.zeros(12, bool), np.ones(12, bool), np.arange(12), confidence=0.9)
    assert (none.interval.lower, none.interval.upper) == pytest.approx((0.0, 0.2209221919455559))
    # Five images of each patient carry no more than one.
    repeated = thresholds.share(np.ones(100, bool), np.ones(100, bool), np.repeat(np.arange(20), 5))
    assert repeated.interval == every.interval


@pytest.mark.parametrize(
    ("cluster_N", "reason"),
    [(np.arange(9), "9 patients"), (np.r_[np.zeros(100, int), np.arange(1, 12)], "12 patients that count as 1.2")],
)
def test_too_few_patients_give_a_share_without_an_interval(cluster_N, reason):
    found = thresholds.share(cluster_N % 2 == 0, np.ones(len(cluster_N), bool), cluster_N)
    assert found.value == (cluster_N % 2 == 0).mean()
    assert (found.interval.lower, found.interval.mark, found.interval.reason) == (None, TOO_FEW, reason)


def test_intervals_cover_the_sensitivity_of_clustered_images():
    """Of 300 test sets, about 95 % hold the truth; intervals over images hold far fewer."""
    generator = np.random.default_rng(1)
    by_patient = by_image = 0
    for _ in range(300):
        cluster_N = np.repeat(np.arange(80), generator.integers(1, 12, 80))
        hit_N = generator.random(len(cluster_N)) < generator.beta(1.4, 0.6, 80)[cluster_N]  # 0.7 on average
        everyone = np.ones(len(cluster_N), bool)
        for found, image in (
            (thresholds.share(hit_N, everyone, cluster_N), False),
            (thresholds.share(hit_N, everyone, np.arange(len(cluster_N))), True),
        ):
            covered = found.interval.lower <= 0.7 <= found.interval.upper
            by_patient, by_image = by_patient + (covered and not image), by_image + (covered and image)
    assert 0.91 * 300 <= by_patient <= 0.985 * 300
    assert by_image < 0.8 * 300


@given(rows=ROWS)
@settings(deadline=None, max_examples=40)
def test_average_precision_stands_beside_its_prevalence(rows):
    score_N, truth_N, _ = unpack(rows)
    expected = average_precision_score(truth_N, score_N), truth_N.mean()
    assert thresholds.average_precision(score_N, truth_N) == pytest.approx(expected)


def test_average_precision_without_a_positive_is_undefined():
    found, prevalence = thresholds.average_precision(np.array([0.1, 0.2]), np.array([False, False]))
    assert np.isnan(found)
    assert prevalence == 0
