"""Calibration against scikit-learn and scipy, and against data whose calibration is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from cxrkit.statistics import calibration, ranking

PAIRS = st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.9, 1.0]), st.booleans()), min_size=1, max_size=50)


def drawn(seed: int, images: int = 3000, labels: int = 2):
    """Scores that mean what they say, and truth drawn from them."""
    generator = np.random.default_rng(seed)
    score_NL = expit(generator.normal(-1, 1.5, (images, labels)))
    return score_NL, generator.random((images, labels)) < score_NL


@given(pairs=PAIRS)
@settings(deadline=None, max_examples=60)
def test_brier_and_cross_entropy_equal_scikit_learn(pairs):
    score_N, truth_N = np.array([s for s, _ in pairs]), np.array([t for _, t in pairs])
    assert calibration.brier(score_N, truth_N) == pytest.approx(brier_score_loss(truth_N, score_N), abs=1e-12)
    inside_N = 0.9 * score_N + 0.05  # scikit-learn moves 0 and 1 to elsewhere
    expected = log_loss(truth_N, inside_N, labels=[False, True])
    assert calibration.cross_entropy(inside_N[:, None], truth_N[:, None]) == pytest.approx(expected, rel=1e-9)


def test_saturated_scores_keep_their_ranks_and_cost_what_the_next_number_would():
    score_NL = np.array([[0, 1e-44, 1e-8, 1 - 2**-24, 1]], np.float32).T
    mended_N = calibration.apply_temperature(score_NL, 3.0)[:, 0]
    assert (np.diff(mended_N) > 0).all()
    assert 0 < mended_N[0] < mended_N[-1] < 1
    assert calibration.cross_entropy(np.float32([[0.0]]), np.array([[True]])) == pytest.approx(103.97, abs=0.01)
    assert calibration.cross_entropy(np.float32([[1.0]]), np.array([[False]])) == pytest.approx(17.33, abs=0.01)


def test_reliability_equals_scikit_learns_quantile_bins():
    score_NL, truth_NL = drawn(0, images=15 * 200)
    observed_B, mean_B = calibration_curve(truth_NL[:, 0], score_NL[:, 0], n_bins=15, strategy="quantile")
    found = calibration.reliability(score_NL[:, 0], truth_NL[:, 0])
    assert {one.images for one in found} == {200}
    np.testing.assert_allclose([one.observed for one in found], observed_B, atol=0.006)  # it cuts between two images
    np.testing.assert_allclose([one.mean_score for one in found], mean_B, atol=0.006)
    expected = np.mean(np.abs([one.mean_score - one.observed for one in found]))
    assert calibration.expected_calibration_error(score_NL[:, 0], truth_NL[:, 0]) == pytest.approx(expected)


def test_calibration_error_of_known_cases():
    truth_N = np.array([True, False, False, False] * 30)
    error = calibration.expected_calibration_error
    assert error(np.full(120, 0.25), truth_N) == pytest.approx(0)
    assert error(np.full(120, 0.75), truth_N) == pytest.approx(0.5)
    assert error(truth_N.astype(float), truth_N) == 0
    assert len(calibration.reliability(np.full(120, 0.25), truth_N)) == 1  # equal scores are one bin
    assert np.isnan(error(truth_N[:0].astype(float), truth_N[:0]))
    assert np.isnan(calibration.brier(truth_N[:0].astype(float), truth_N[:0]))


@given(pairs=PAIRS, seed=st.integers(0, 99), bins=st.integers(1, 20))
@settings(deadline=None, max_examples=60)
def test_order_of_images_does_not_matter_and_bins_hold_every_image(pairs, seed, bins):
    score_N, truth_N = np.array([s for s, _ in pairs]), np.array([t for _, t in pairs])
    order = np.random.default_rng(seed).permutation(len(pairs))
    found = calibration.reliability(score_N, truth_N, bins=bins)
    again = calibration.reliability(score_N[order], truth_N[order], bins=bins)
    assert sum(one.images for one in found) == len(pairs)
    assert sum(one.images * one.observed for one in found) == pytest.approx(truth_N.sum())
    assert [one.images for one in again] == [one.images for one in found]
    np.testing.assert_allclose([one.mean_score for one in again], [one.mean_score for one in found])
    assert [one.mean_score for one in found] == sorted(one.mean_score for one in found)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_temperature_is_found_again(temperature):
    score_NL, truth_NL = drawn(1, images=20_000)
    spoilt_NL = expit(logit(score_NL) * temperature)
    found = calibration.fit_temperature(spoilt_NL, truth_NL)
    assert found == pytest.approx(temperature, rel=0.03)
    best = minimize_scalar(lambda inverse: log_loss(truth_NL.ravel(), expit(logit(spoilt_NL.ravel()) * inverse)))
    assert found == pytest.approx(1 / best.x, rel=1e-4)
    mended_NL = calibration.apply_temperature(spoilt_NL, found)
    np.testing.assert_allclose(mended_NL, expit(logit(spoilt_NL) / found), rtol=1e-9)
    assert calibration.cross_entropy(mended_NL, truth_NL) <= calibration.cross_entropy(spoilt_NL, truth_NL) + 1e-9


def test_temperature_leaves_unknown_pairs_out_and_keeps_every_rank():
    score_NL, truth_NL = drawn(2)
    known_NL = np.random.default_rng(0).random(score_NL.shape) < 0.7
    sure_NL = expit(2 * logit(score_NL))
    found = calibration.fit_temperature(sure_NL, truth_NL, known_NL)
    assert found == calibration.fit_temperature(sure_NL, truth_NL ^ ~known_NL, known_NL)
    mended_NL = calibration.apply_temperature(sure_NL, found)
    for label in range(2):
        before = ranking.auc(sure_NL[:, label], truth_NL[:, label])
        assert ranking.auc(mended_NL[:, label], truth_NL[:, label]) == pytest.approx(before, abs=1e-12)


def test_saturated_scores_and_separated_labels_give_the_edge_of_the_range():
    truth_NL = np.array([[True], [False], [True], [False]])
    found = calibration.fit_temperature(np.float32([[0.9], [0.1], [1.0], [0.0]]), truth_NL)
    assert found == calibration.TEMPERATURES[0]
    found = calibration.fit_temperature(np.float32([[0.0], [1.0], [0.0], [1.0]]), truth_NL)
    assert found == calibration.TEMPERATURES[1]
    assert calibration.is_bound(found)
    assert not calibration.is_bound(calibration.fit_temperature(np.float32([[0.6], [0.6], [0.6]]), truth_NL[:3]))


def test_scores_of_one_half_have_no_temperature():
    half_NL = np.full((3, 1), 0.5, np.float32)
    assert np.isnan(calibration.fit_temperature(half_NL, np.array([[True], [False], [False]])))


def test_a_shifted_prior_is_bayes_rule_and_can_be_undone():
    """Two normal classes: the posterior under any prevalence is known."""
    x_N = np.linspace(-3, 5, 60)

    def posterior(prior):
        return expit(2 * x_N - 2 + logit(prior))  # classes N(0, 1) and N(2, 1)

    np.testing.assert_allclose(calibration.shift_prior(posterior(0.03), 0.03, 0.104), posterior(0.104), rtol=1e-12)
    there = calibration.shift_prior(posterior(0.03), 0.03, 0.4)
    np.testing.assert_allclose(calibration.shift_prior(there, 0.4, 0.03), posterior(0.03), rtol=1e-12)


@pytest.mark.parametrize("prevalence", [0.01, 0.104, 0.6])
def test_the_prevalence_of_test_is_found_without_its_labels(prevalence):
    """A model that learned 2.8 % on val; the maximum of the likelihood is scipy's too."""
    generator = np.random.default_rng(5)
    truth_N = generator.random(20_000) < prevalence
    score_N = expit(2 * generator.normal(2 * truth_N, 1) - 2 + logit(0.028))
    found = calibration.estimate_prior(score_N, 0.028)
    assert found == pytest.approx(truth_N.mean(), abs=0.006)
    ratio_N = score_N / (1 - score_N) * (1 - 0.028) / 0.028  # of the two densities
    best = minimize_scalar(
        lambda prior: -np.log(prior * ratio_N + 1 - prior).sum(), bounds=(1e-6, 1 - 1e-6), method="bounded",
        options={"xatol": 1e-10},
    )  # fmt: skip
    assert found == pytest.approx(best.x, abs=1e-5)
    mended_N = calibration.shift_prior(score_N, 0.028, found)
    error = calibration.expected_calibration_error
    assert error(mended_N, truth_N) < min(0.012, error(score_N, truth_N))
    assert ranking.auc(mended_N, truth_N) == pytest.approx(ranking.auc(score_N, truth_N), abs=1e-12)


def test_scores_that_say_nothing_leave_the_prior_as_it_is():
    assert calibration.estimate_prior(np.full(50, 0.2), 0.2) == pytest.approx(0.2)
    assert calibration.estimate_prior(np.ones(50), 0.2) == 1.0
