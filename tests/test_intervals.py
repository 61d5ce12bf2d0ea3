"""Logit-t intervals: against the formula by scipy, their marks and reasons, and what must not matter."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from cxrkit.statistics import clustered, intervals, ranking
from cxrkit.statistics.intervals import APPROXIMATE, TOO_FEW, Support

MANY = Support(120, 900, 60.0)


def test_interval_is_students_t_around_the_logit():
    drawn_R = np.random.default_rng(0).beta(30, 8, 500)
    found = intervals.of_replicates(0.8, drawn_R, MANY, confidence=0.9)
    spread = special.logit(drawn_R).std(ddof=1)
    expected = special.expit(stats.t.interval(0.9, 59, loc=special.logit(0.8), scale=spread))
    assert (found.lower, found.upper) == pytest.approx(tuple(expected), rel=1e-12)
    assert (found.mark, found.reason) == ("", "")


@pytest.mark.parametrize("degrees_of_freedom", [0.5, 1, 17.04, 300, 1e7])
def test_quantile_of_student(degrees_of_freedom):
    found = intervals.student_quantile(degrees_of_freedom, 0.95)
    assert found == pytest.approx(stats.t.ppf(0.975, degrees_of_freedom), rel=1e-9)


@pytest.mark.parametrize(
    ("rests_on", "mark", "reason"),
    [
        (Support(9, 500, 8.0), TOO_FEW, "9 patients with the finding, fewer than 10"),
        (Support(1, 500, 1.0), TOO_FEW, "1 patient with the finding, fewer than 10"),
        (Support(500, 4, 3.9), TOO_FEW, "4 patients without the finding, fewer than 10"),
        (Support(12, 500, 1.6), TOO_FEW, "12 patients with the finding that count as 1.6"),
        (Support(10, 500, 9.0), APPROXIMATE, "10 patients with the finding, fewer than 30"),
        (Support(500, 29, 20.0), APPROXIMATE, "29 patients without the finding, fewer than 30"),
        (Support(30, 500, 18.0), "", ""),
    ],
)
def test_marks(rests_on, mark, reason):
    found = intervals.of_replicates(0.8, np.random.default_rng(0).beta(30, 8, 50), rests_on)
    assert (found.mark, found.reason) == (mark, reason)
    assert (found.lower is None) == (found.upper is None) == (mark == TOO_FEW)


def test_the_weakest_label_supports_a_mean():
    assert Support.weakest([Support(5, 90, 3.0), Support(50, 20, 9.0)]) == Support(5, 20, 3.0)


def test_support_counts_patients_of_both_kinds():
    truth_N = np.array([True, True, True, False, False, True])
    found = intervals.support(truth_N, np.array([0, 0, 1, 1, 2, 3]))
    assert found == Support(3, 2, clustered.effective_clusters(truth_N, np.array([0, 0, 1, 1, 2, 3])))
    assert intervals.support(np.zeros(3, bool), np.arange(3)) == Support(0, 3, 0.0)


def test_replicates_without_a_value_leave_no_interval_when_they_are_many():
    drawn_R = np.full(100, 0.7)
    drawn_R[:11] = np.nan
    assert intervals.of_replicates(0.7, drawn_R, MANY).reason == "defined in 89 of 100 replicates"
    assert intervals.of_replicates(0.7, drawn_R[-1:], MANY).reason == "a single replicate has no spread"
    drawn_R[0] = 0.6
    assert intervals.of_replicates(0.7, drawn_R, MANY).lower is not None


def test_percentiles_are_for_amounts():
    drawn_R = np.append(np.arange(101.0), np.nan)
    found = intervals.of_percentiles(drawn_R, confidence=0.9)
    assert (found.lower, found.upper) == pytest.approx((5.0, 95.0))
    assert intervals.of_percentiles(np.full(4, np.nan)).reason == "defined in 0 of 4 replicates"
    assert intervals.of_percentiles(np.ones(1)).reason == "a single replicate has no spread"


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_perfect_auc_has_no_logit(value):
    found = intervals.of_replicates(value, np.full(50, value), MANY)
    assert (found.lower, found.upper, found.reason) == (None, None, f"an AUC of {value:g} has no logit")


def test_replicates_of_one_do_not_make_the_interval_endless():
    drawn_R = np.concatenate([np.random.default_rng(0).uniform(0.97, 0.999, 90), np.ones(10)])
    found = intervals.of_replicates(0.99, drawn_R, MANY)
    assert 0.8 < found.lower < 0.99 < found.upper < 1


@given(
    value=st.floats(0.01, 0.99),
    spread=st.floats(0.001, 2),
    effective=st.floats(2.1, 500),
    confidence=st.floats(0.5, 0.99),
)
@settings(deadline=None, max_examples=80)
def test_the_interval_holds_its_value_lies_in_0_to_1_and_mirrors(value, spread, effective, confidence):
    drawn_R = special.expit(special.logit(value) + spread * np.random.default_rng(0).normal(size=80))
    rests_on = Support(40, 40, effective)
    found = intervals.of_replicates(value, drawn_R, rests_on, confidence=confidence)
    assert 0 <= found.lower < value < found.upper <= 1
    mirrored = intervals.of_replicates(1 - value, 1 - drawn_R, rests_on, confidence=confidence)
    assert (1 - mirrored.upper, 1 - mirrored.lower) == pytest.approx((found.lower, found.upper), abs=1e-9)


def test_order_monotone_maps_and_names_of_patients_do_not_matter():
    """Renamed patients are drawn in another order, so that their interval is another draw of the same."""
    generator = np.random.default_rng(1)
    cluster_N = generator.integers(0, 150, 900)
    truth_N = generator.random(900) < 0.3
    score_N = truth_N + generator.normal(size=150)[cluster_N] + generator.normal(size=900)

    def interval(score_N, truth_N, cluster_N, replicates=400):
        drawn_RL = ranking.bootstrap(score_N[:, None], truth_N[:, None], cluster_N, replicates=replicates, threads=1)
        value = ranking.auc(score_N, truth_N)
        return intervals.of_replicates(value, drawn_RL[:, 0], intervals.support(truth_N, cluster_N))

    found = interval(score_N, truth_N, cluster_N)
    order = generator.permutation(900)
    assert interval(score_N[order], truth_N[order], cluster_N[order]) == found
    assert interval(np.arctan(score_N), truth_N, cluster_N) == found
    renamed = interval(score_N, truth_N, generator.permutation(150)[cluster_N])
    assert (renamed.lower, renamed.upper) == pytest.approx((found.lower, found.upper), abs=0.01)


def test_the_interval_of_many_patients_is_that_of_the_clustered_standard_error():
    generator = np.random.default_rng(4)
    cluster_N = generator.integers(0, 800, 2400)
    truth_N = generator.random(2400) < 0.4
    score_N = truth_N + generator.normal(size=800)[cluster_N] + generator.normal(size=2400)
    drawn_RL = ranking.bootstrap(score_N[:, None], truth_N[:, None], cluster_N, replicates=1500, threads=1)
    one = clustered.estimate(score_N, truth_N, cluster_N)
    found = intervals.of_replicates(one.value, drawn_RL[:, 0], intervals.support(truth_N, cluster_N))
    spread = one.standard_error / (one.value * (1 - one.value))
    expected = intervals.on_logit_scale(one.value, spread, one.degrees_of_freedom, 0.95)
    assert found.upper - found.lower == pytest.approx(expected[1] - expected[0], rel=0.06)
