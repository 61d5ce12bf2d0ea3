"""The AUC and its bootstrap against scikit-learn, which sorts anew for every replicate."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from cxrkit.statistics import ranking


def cohort(seed: int, images: int = 600, patients: int = 70, labels: int = 4, levels: int = 40):
    """Draw clustered scores with many ties, labels, and patients with different numbers of images."""
    generator = np.random.default_rng(seed)
    patient_N = generator.integers(0, patients, images) * 7 + 3
    truth_NL = generator.random((images, labels)) < np.linspace(0.05, 0.5, labels)
    noise_NL = generator.normal(size=(images, labels)) + generator.normal(size=(1000, labels))[patient_N % 1000]
    score_NL = np.round((truth_NL + noise_NL) * levels / 8).astype(np.float32)
    return score_NL, truth_NL, patient_N


@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0]), st.booleans()), min_size=2, max_size=60
    ).filter(lambda pairs: len({truth for _, truth in pairs}) == 2)
)
@settings(deadline=None, max_examples=150)
def test_auc_with_ties_equals_scikit_learn(pairs):
    score_N, truth_N = np.array([s for s, _ in pairs]), np.array([t for _, t in pairs])
    assert ranking.auc(score_N, truth_N) == pytest.approx(roc_auc_score(truth_N, score_N), abs=1e-12)


def test_auc_of_known_cases():
    truth_N = np.array([False, False, True, True])
    assert ranking.auc(np.array([0.1, 0.4, 0.35, 0.8]), truth_N) == 0.75
    assert ranking.auc(np.array([0.1, 0.2, 0.3, 0.4]), truth_N) == 1.0
    assert ranking.auc(np.array([0.4, 0.3, 0.2, 0.1]), truth_N) == 0.0
    assert ranking.auc(np.full(4, 0.5), truth_N) == 0.5


@pytest.mark.parametrize("truth", [True, False])
def test_auc_of_one_class_is_undefined(truth):
    assert np.isnan(ranking.auc(np.array([0.1, 0.2]), np.array([truth, truth])))


def test_every_replicate_equals_scikit_learn_weighted_and_repeated():
    score_NL, truth_NL, patient_N = cohort(seed=1)
    drawn_RL = ranking.bootstrap(score_NL, truth_NL, patient_N, replicates=40, seed=5)
    patients, cluster_N = np.unique(patient_N, return_inverse=True)
    weight_RK = ranking.draw(len(patients), 40, 5)
    for weight_K, drawn_L in zip(weight_RK, drawn_RL, strict=True):
        weight_N = weight_K[cluster_N]
        repeated = np.repeat(np.arange(len(score_NL)), weight_N)
        for label, drawn in enumerate(drawn_L):
            weighted = roc_auc_score(truth_NL[:, label], score_NL[:, label], sample_weight=weight_N)
            again = roc_auc_score(truth_NL[repeated, label], score_NL[repeated, label])
            assert drawn == pytest.approx(weighted, abs=1e-12)
            assert drawn == pytest.approx(again, abs=1e-12)


def test_order_of_images_blocks_and_threads_change_no_digit(monkeypatch):
    score_NL, truth_NL, patient_N = cohort(seed=2)
    expected = ranking.bootstrap(score_NL, truth_NL, patient_N, replicates=37, seed=1, threads=1)
    order = np.random.default_rng(0).permutation(len(patient_N))
    shuffled = ranking.bootstrap(score_NL[order], truth_NL[order], patient_N[order], replicates=37, seed=1, threads=3)
    np.testing.assert_array_equal(shuffled, expected)
    monkeypatch.setattr(ranking, "BLOCK", 5)
    np.testing.assert_array_equal(ranking.bootstrap(score_NL, truth_NL, patient_N, replicates=37, seed=1), expected)


def test_a_replicate_without_positives_is_undefined_and_the_others_are_not():
    # One of three patients has the only positive: it is absent from (2/3)^3 = 30 % of the replicates.
    score_NL = np.array([[0.9], [0.1], [0.2]])
    truth_NL = np.array([[True], [False], [False]])
    drawn_R = ranking.bootstrap(score_NL, truth_NL, np.array([1, 2, 3]), replicates=500, seed=0)[:, 0]
    weight_RK = ranking.draw(3, 500, 0)
    undefined = (weight_RK[:, 0] == 0) | (weight_RK[:, 1:].sum(axis=1) == 0)
    np.testing.assert_array_equal(np.isnan(drawn_R), undefined)
    assert 0.2 < undefined.mean() < 0.45
    assert (drawn_R[~undefined] == 1).all()


def test_draws_take_as_many_patients_as_there_are_and_begin_alike():
    few, many = ranking.draw(50, 3, seed=9), ranking.draw(50, 8, seed=9)
    np.testing.assert_array_equal(many[:3], few)
    assert (many.sum(axis=1) == 50).all()
    assert not np.array_equal(ranking.draw(50, 3, seed=10), few)


def test_patients_make_wider_intervals_than_images():
    """Twenty equal images of a patient carry no more than one: the interval must not shrink by sqrt(20)."""
    score_NL, truth_NL, _ = cohort(seed=3, images=60, levels=1000)
    repeated = np.repeat(np.arange(60), 20)
    score_NL, truth_NL = score_NL[repeated, -1:], truth_NL[repeated, -1:]
    by_patient = ranking.bootstrap(score_NL, truth_NL, repeated, replicates=400)
    by_image = ranking.bootstrap(score_NL, truth_NL, np.arange(1200), replicates=400)
    assert np.std(by_patient) > 3 * np.std(by_image)


def test_one_sort_per_label(monkeypatch):
    """Replicates must not sort: the number of sorts does not depend on how many there are."""
    calls = []
    real_rank = ranking.rank
    monkeypatch.setattr(ranking, "rank", lambda *args: calls.append(None) or real_rank(*args))
    score_NL, truth_NL, patient_N = cohort(seed=4)
    ranking.bootstrap(score_NL, truth_NL, patient_N, replicates=100)
    assert len(calls) == truth_NL.shape[1]
