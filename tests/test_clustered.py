"""Clustered variances and covariances against pROC's numbers, and DeLong and Obuchowski written out as loops."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from cxrkit.statistics import clustered

FACTS = Path(__file__).parent / "facts" / "asah.csv"


@pytest.fixture(scope="module")
def asah() -> dict[str, clustered.Estimate]:
    """Every patient of the data set has one image, so to say."""
    frame = pl.read_csv(FACTS, comment_prefix="#")
    truth_N, cluster_N = frame["poor_outcome"].to_numpy() == 1, np.arange(len(frame))
    return {name: clustered.estimate(frame[name].to_numpy(), truth_N, cluster_N) for name in ("wfns", "s100b", "ndka")}


def test_variance_equals_that_of_proc(asah):
    """pROC::var(roc(aSAH$outcome, aSAH$s100b)), by DeLong."""
    assert asah["s100b"].variance == pytest.approx(0.00266868245717244, rel=1e-12)


@pytest.mark.parametrize(
    ("one", "other", "z"),
    [
        ("wfns", "s100b", 2.20898359144091),
        ("wfns", "ndka", 2.79777591868904),
        ("ndka", "s100b", -1.39077002573558),
    ],
)
def test_paired_z_equals_that_of_proc(asah, one, other, z):
    """pROC::roc.test(..., paired = TRUE, method = "delong")."""
    found = clustered.difference(asah[one], asah[other])
    assert found.value / found.standard_error == pytest.approx(z, rel=1e-12)


def cohort(seed: int, images: int = 90, patients: int = 20, models: int = 3):
    """Draw clustered scores with ties, truth and patients, of whom some have no positive and some no negative."""
    generator = np.random.default_rng(seed)
    cluster_N = np.concatenate([np.arange(patients), generator.integers(0, patients, images - patients)])
    ill_K = generator.random(patients)
    truth_N = generator.random(images) < np.round(ill_K[cluster_N], 0) * 0.7 + 0.1
    noise_NM = generator.normal(size=(images, models)) + generator.normal(size=(patients, 1))[cluster_N]
    return np.round(2 * (truth_N[:, None] + noise_NM)) / 2, truth_N, cluster_N


def obuchowski(score_NM, truth_N, cluster_N):
    """Return the covariance matrix as the paper writes it (equations 2 to 6): loops over pairs of images."""
    models = score_NM.shape[1]
    kernel = np.array(
        [
            [
                [(one > other) + 0.5 * (one == other) for other in score_NM[~truth_N, model]]
                for one in score_NM[truth_N, model]
            ]
            for model in range(models)
        ],
        float,
    )
    v10_MP, v01_MQ, auc_M = kernel.mean(axis=2), kernel.mean(axis=1), kernel.mean(axis=(1, 2))
    patients = np.unique(cluster_N)
    have_positive = [k for k in patients if truth_N[cluster_N == k].any()]
    have_negative = [k for k in patients if (~truth_N)[cluster_N == k].any()]
    positives, negatives = truth_N.sum(), (~truth_N).sum()

    def one(value_MN, members, model, k):
        return value_MN[model][members == k].sum() - (members == k).sum() * auc_M[model]

    of_positive, of_negative = cluster_N[truth_N], cluster_N[~truth_N]
    found = np.empty((models, models))
    for i in range(models):
        for j in range(models):
            s10 = sum(one(v10_MP, of_positive, i, k) * one(v10_MP, of_positive, j, k) for k in have_positive)
            s01 = sum(one(v01_MQ, of_negative, i, k) * one(v01_MQ, of_negative, j, k) for k in have_negative)
            s11 = sum(one(v10_MP, of_positive, i, k) * one(v01_MQ, of_negative, j, k) for k in patients)
            s11 += sum(one(v10_MP, of_positive, j, k) * one(v01_MQ, of_negative, i, k) for k in patients)
            found[i, j] = (
                s10 * len(have_positive) / ((len(have_positive) - 1) * positives**2)
                + s01 * len(have_negative) / ((len(have_negative) - 1) * negatives**2)
                + s11 * len(patients) / ((len(patients) - 1) * positives * negatives)
            )
    return auc_M, found


@pytest.mark.parametrize("seed", range(3))
def test_covariance_of_models_is_obuchowskis(seed):
    score_NM, truth_N, cluster_N = cohort(seed)
    auc_M, expected = obuchowski(score_NM, truth_N, cluster_N)
    found = [clustered.estimate(score_N, truth_N, cluster_N) for score_N in score_NM.T]
    np.testing.assert_allclose([one.value for one in found], auc_M, rtol=1e-13)
    np.testing.assert_allclose(clustered.covariance(found), expected, rtol=1e-11, atol=1e-16)


def test_images_that_are_their_own_patients_give_delongs_covariance():
    score_NM, truth_N, _ = cohort(5)
    aucs, s10, s01 = [], [], []
    for score_N in score_NM.T:
        kernel = np.sign(score_N[truth_N][:, None] - score_N[~truth_N][None]) / 2 + 0.5
        aucs.append(kernel.mean())
        s10.append(kernel.mean(axis=1))
        s01.append(kernel.mean(axis=0))
    expected = np.cov(s10) / truth_N.sum() + np.cov(s01) / (~truth_N).sum()
    found = [clustered.estimate(score_N, truth_N, np.arange(len(truth_N))) for score_N in score_NM.T]
    np.testing.assert_allclose(clustered.covariance(found), expected, rtol=1e-11)
    assert [one.value for one in found] == pytest.approx(aucs, rel=1e-13)


SCORES = st.lists(
    st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0]), st.booleans(), st.integers(0, 6)),
    min_size=4,
    max_size=60,
).filter(lambda rows: min(len({k for _, t, k in rows if t}), len({k for _, t, k in rows if not t})) > 1)


def unpack(rows):
    return np.array([s for s, _, _ in rows]), np.array([t for _, t, _ in rows]), np.array([k for _, _, k in rows])


@given(rows=SCORES, seed=st.integers(0, 99))
@settings(deadline=None, max_examples=60)
def test_order_monotone_maps_and_names_of_patients_do_not_matter(rows, seed):
    score_N, truth_N, cluster_N = unpack(rows)
    found = clustered.estimate(score_N, truth_N, cluster_N)
    assert found.value == pytest.approx(roc_auc_score(truth_N, score_N), abs=1e-12)
    order = np.random.default_rng(seed).permutation(len(rows))
    renamed = np.random.default_rng(seed).permutation(9)[cluster_N]
    for other in (
        clustered.estimate(score_N[order], truth_N[order], cluster_N[order]),
        clustered.estimate(np.exp(3 * score_N) - 7, truth_N, cluster_N),
        clustered.estimate(score_N, truth_N, renamed),
    ):
        assert other.value == pytest.approx(found.value, abs=1e-14)
        assert other.variance == pytest.approx(found.variance, rel=1e-10, abs=1e-18)
        assert other.clusters_effective == pytest.approx(found.clusters_effective)


@given(rows=SCORES)
@settings(deadline=None, max_examples=60)
def test_the_other_way_round_is_the_complement(rows):
    """Negated scores have 1 - AUC, swapped truth too; both have the same variance."""
    score_N, truth_N, cluster_N = unpack(rows)
    found = clustered.estimate(score_N, truth_N, cluster_N)
    for other in (clustered.estimate(-score_N, truth_N, cluster_N), clustered.estimate(score_N, ~truth_N, cluster_N)):
        assert other.value == pytest.approx(1 - found.value, abs=1e-14)
        assert other.variance == pytest.approx(found.variance, rel=1e-10, abs=1e-18)


def test_repeated_images_of_a_patient_add_nothing():
    """Twenty equal images of each patient carry no more than one; seen as images, they seem to."""
    generator = np.random.default_rng(3)
    truth_N = generator.random(60) < 0.4
    score_N = truth_N + generator.normal(size=60)
    once = clustered.estimate(score_N, truth_N, np.arange(60))
    again = np.repeat(np.arange(60), 20)
    repeated = clustered.estimate(score_N[again], truth_N[again], again)
    assert repeated.variance == pytest.approx(once.variance, rel=1e-12)
    assert repeated.clusters_effective == pytest.approx(once.clusters_effective)
    assert once.clusters_effective == pytest.approx(min(truth_N.sum(), (~truth_N).sum()))
    as_images = clustered.estimate(score_N[again], truth_N[again], np.arange(1200))
    assert as_images.variance < once.variance / 15


def test_means_and_differences_follow_from_the_covariance_matrix():
    score_NM, truth_N, cluster_N = cohort(7)
    other_truth_N = np.roll(truth_N, 11)
    parts = [clustered.estimate(score_N, truth_N, cluster_N) for score_N in score_NM.T]
    parts += [clustered.estimate(score_N, other_truth_N, cluster_N) for score_N in score_NM.T]
    matrix = clustered.covariance(parts)
    assert np.linalg.eigvalsh(matrix).min() > -1e-15
    mean = clustered.mean(parts)
    assert mean.value == pytest.approx(np.mean([part.value for part in parts]))
    assert mean.variance == pytest.approx(matrix.mean())
    assert mean.clusters_effective == min(part.clusters_effective for part in parts)
    assert mean.positive_patients == min(part.positive_patients for part in parts)
    gap = clustered.difference(parts[0], parts[4])
    assert gap.value == pytest.approx(parts[0].value - parts[4].value)
    assert gap.variance == pytest.approx(matrix[0, 0] + matrix[4, 4] - 2 * matrix[0, 4])


def test_subgroups_that_share_patients_are_correlated_and_others_are_not():
    """The two views of a patient share what makes the patient easy; two halves of the patients share nothing."""
    score_NM, truth_N, cluster_N = cohort(9, images=2000, patients=200)
    view_N = np.arange(2000) % 2 == 0

    def pair(chosen_N):
        return [
            clustered.estimate(score_NM[:, 0], truth_N, cluster_N, clusters=200, known_N=known_N)
            for known_N in (chosen_N, ~chosen_N)
        ]

    shared = clustered.covariance(pair(view_N))
    apart = clustered.covariance(pair(cluster_N < 100))
    assert shared[0, 1] > 0.3 * shared[0, 0]
    assert apart[0, 1] == 0
    alone = clustered.estimate(score_NM[view_N, 0], truth_N[view_N], cluster_N[view_N])
    assert pair(view_N)[0].variance == pytest.approx(alone.variance)


def test_the_variance_is_that_of_the_bootstrap_over_patients():
    from cxrkit.statistics import ranking

    score_NM, truth_N, cluster_N = cohort(2, images=3000, patients=400)
    drawn_R = ranking.bootstrap(score_NM[:, :1], truth_N[:, None], cluster_N, replicates=2000, threads=1)[:, 0]
    found = clustered.estimate(score_NM[:, 0], truth_N, cluster_N)
    assert found.standard_error == pytest.approx(drawn_R.std(ddof=1), rel=0.06)


def test_effective_clusters_of_known_cases():
    truth_N = np.array([True] * 6 + [False] * 9)
    equal = np.array([0, 0, 1, 1, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 5])
    assert clustered.effective_clusters(truth_N, equal) == pytest.approx(3)
    uneven = np.array([0, 0, 0, 0, 1, 2, 3, 3, 3, 4, 4, 4, 5, 5, 5])
    assert clustered.effective_clusters(truth_N, uneven) == pytest.approx(36 / 18)
    assert clustered.effective_clusters(~truth_N, uneven) == pytest.approx(36 / 18)
    assert clustered.effective_clusters(truth_N & False, uneven) == 0


def test_effective_clusters_of_hernia_in_the_official_test_set():
    """The sparest finding: 86 positives of 32 patients count as 18."""
    from chestxray14_facts import records

    test = records().filter(pl.col("official") == "test")
    cluster_N = np.unique(test["patient_id"].to_numpy(), return_inverse=True)[1]
    truth_N = test["Hernia"].to_numpy()
    found = clustered.estimate(np.zeros(len(test)), truth_N, cluster_N)
    assert (truth_N.sum(), found.positive_patients) == (86, 32)
    assert found.clusters_effective == pytest.approx(18.0, abs=0.05)


@pytest.mark.parametrize(
    ("truth", "patients", "value"),
    [
        ([True, True, True], [0, 1, 2], None),
        ([False, False, False], [0, 1, 2], None),
        ([True, True, False], [0, 0, 1], 1.0),
    ],
)
def test_without_a_spread_to_learn_from_there_is_no_variance(truth, patients, value):
    found = clustered.estimate(np.array([0.9, 0.8, 0.1]), np.array(truth), np.array(patients))
    assert np.isnan(found.variance)
    assert found.value == value if value else np.isnan(found.value)
