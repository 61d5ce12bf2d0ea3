"""cxrkit's own evaluators: against scikit-learn, scipy and dcurves, and what must hold of any predictions."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
import polars as pl
import pytest
from scipy import stats
from scipy.special import expit, logit
from sklearn.calibration import calibration_curve
from sklearn.metrics import average_precision_score, brier_score_loss, confusion_matrix, roc_auc_score, roc_curve

from cxrkit.base.contracts import IMAGE_SCHEMA, Metric, Validation
from cxrkit.base.errors import UserError
from cxrkit.base.labels import AGE, LabelSet
from cxrkit.evaluators import auc, average_precision, calibration, groups, net_benefit, subgroups, thresholds, youden
from cxrkit.statistics import clustered, comparing, ranking

LABELS = LabelSet("three", ("common", "rare", "beside"), ("common", "rare"))
IMAGES, PATIENTS = 900, 250
QUICK = {"replicates": 60}


class Drawn:
    """Images of patients with scores that know something, and some truth that is not known."""

    def __init__(self, seed: int, unknown: bool = True) -> None:
        generator = np.random.default_rng(seed)
        self.clusters = np.sort(generator.integers(0, PATIENTS, IMAGES))
        self.clusters = np.unique(self.clusters, return_inverse=True)[1]
        ill_K = generator.normal(size=PATIENTS)
        risk_NL = ill_K[self.clusters, None] + generator.normal(size=(IMAGES, 3))
        truth_NL = risk_NL > np.quantile(risk_NL, [0.7, 0.9, 0.5])
        logit_NL = 1.5 * truth_NL + generator.normal(size=truth_NL.shape) + logit([0.2, 0.05, 0.4])
        self.scores = np.round(expit(logit_NL), 3).astype(np.float32)  # some are tied
        self.truth = truth_NL.astype(np.float32)
        if unknown:
            self.truth[generator.random(self.truth.shape) < 0.05] = np.nan
        ages_K = generator.integers(5, 95, PATIENTS)
        self.images = pl.DataFrame(
            {
                "image_id": [f"{number:04d}" for number in range(IMAGES)],
                "patient_id": self.clusters.astype(str),
                "age_years": np.where(generator.random(IMAGES) < 0.02, 414, ages_K[self.clusters]),
                "sex": generator.choice(["F", "M"], PATIENTS)[self.clusters],
                "view": [None if number % 50 == 0 else "AP" if number % 3 else "PA" for number in range(IMAGES)],
            },
            schema=IMAGE_SCHEMA,
        )

    def known(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        known_N = ~np.isnan(self.truth[:, number])
        return self.scores[known_N, number], self.truth[known_N, number] > 0.5, self.clusters[known_N]


TEST, VAL = Drawn(1), Drawn(2)
VALIDATION = Validation(VAL.scores, VAL.truth, VAL.clusters)
ALL: dict[str, Callable[..., Iterable[Metric]]] = {
    "average-precision": partial(average_precision.evaluate, **QUICK),
    "calibration": partial(calibration.evaluate, validation=VALIDATION, **QUICK),
    "thresholds": partial(thresholds.evaluate, validation=VALIDATION),
    "subgroups": subgroups.evaluate,
    "net-benefit": partial(net_benefit.evaluate, **QUICK),
}


def found(name: str, drawn: Drawn = TEST, labels: LabelSet = LABELS, **options: object) -> dict[tuple, Metric]:
    if name == "subgroups":
        options = {"images": drawn.images} | options
    metrics = list(ALL[name](drawn.scores, drawn.truth, drawn.clusters, labels, **options))
    keyed = {(metric.name, metric.label, metric.group): metric for metric in metrics}
    assert len(keyed) == len(metrics)
    return keyed


def same(one: dict[tuple, Metric], other: dict[tuple, Metric]) -> None:
    assert one.keys() == other.keys()
    for key, metric in one.items():
        for field in ("value", "lower", "upper", "p_value"):
            assert getattr(metric, field) == pytest.approx(getattr(other[key], field), abs=1e-9), (key, field)
        assert (metric.mark, metric.positives) == (other[key].mark, other[key].positives)


# What must hold of each of them


@pytest.mark.parametrize("name", ALL)
def test_the_order_of_the_images_does_not_matter(name: str) -> None:
    order = np.random.default_rng(3).permutation(IMAGES)
    shuffled = Drawn(1)
    shuffled.scores, shuffled.truth = TEST.scores[order], TEST.truth[order]
    shuffled.clusters, shuffled.images = TEST.clusters[order], TEST.images[order.tolist()]
    same(found(name), found(name, shuffled))


@pytest.mark.parametrize("name", ALL)
def test_what_is_not_known_is_left_out(name: str) -> None:
    """Whatever score an image has, where its truth is not known."""
    other = Drawn(1)
    other.scores = np.where(np.isnan(TEST.truth), np.float32(0.99), TEST.scores)
    same(found(name), found(name, other))


@pytest.mark.parametrize("name", ALL)
def test_a_label_that_nobody_has_or_that_is_not_known_has_a_reason(name: str) -> None:
    bare = Drawn(1)
    bare.truth = TEST.truth.copy()
    bare.truth[:, 0], bare.truth[:, 1] = 0, np.nan
    metrics = found(name, bare)
    for metric in metrics.values():
        assert metric.value is not None or metric.reason or metric.interval, metric
        assert metric.value is None or np.isfinite(metric.value)
    undefined = {
        "average-precision": "average_precision",
        "net-benefit": "net_benefit@0.05",
        "subgroups": "auc",
    }
    if name in undefined:
        named = {group for _, _, group in metrics if not group or "against" not in group}
        assert all(metrics[undefined[name], "common", group].reason == "0 positives" for group in named)


@pytest.mark.parametrize("name", ALL)
def test_amounts_are_refused(name: str) -> None:
    with pytest.raises(UserError, match="age_years: in years, no probability of a label"):
        list(
            ALL[name](np.ones((4, 1)), np.ones((4, 1)), np.arange(4), AGE, **{"images": None} if "sub" in name else {})
        )


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("calibration", {"bins": 0}, "0 bins; expected at least 1"),
        ("calibration", {"replicates": 0}, "0 bootstrap replicates"),
        ("average-precision", {"confidence": 1.0}, "confidence 1.0"),
        ("net-benefit", {"thresholds": (0.1, 1.5)}, "threshold 1.5; expected probabilities"),
        ("net-benefit", {"thresholds": ()}, "threshold none; expected probabilities"),
        ("subgroups", {"by": ("sex", "colour")}, "subgroups by 'colour'\n  remedy: choose from sex, age, view"),
        ("subgroups", {"age_edges": (60, 20)}, "age bands at 60, 20 years; expected rising ages from 1 to 99"),
        ("subgroups", {"age_edges": (20, 150)}, "expected rising ages"),
        ("subgroups", {"images": None}, "nothing is known of the images"),
        ("subgroups", {"images": TEST.images.with_columns(sex=None), "by": ("sex",)}, "sex are not known of any image"),
    ],
)
def test_settings_that_cannot_be(name: str, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        found(name, **options)


# Average precision


def test_average_precision_equals_scikit_learn() -> None:
    metrics = found("average-precision")
    for number, label in enumerate(LABELS.labels):
        score_N, truth_N, _ = TEST.known(number)
        one = metrics["average_precision", label, ""]
        assert one.value == pytest.approx(average_precision_score(truth_N, score_N), abs=1e-12)
        assert one.lower < one.value < one.upper
        assert metrics["prevalence", label, ""].value == pytest.approx(truth_N.mean())
    mean = metrics["average_precision", None, ""]
    both = [metrics["average_precision", label, ""].value for label in LABELS.averaged]
    assert (mean.value, mean.labels) == (pytest.approx(np.mean(both)), 2)


def test_replicates_of_average_precision_are_those_of_the_drawn_images() -> None:
    """Each image as often as its patient was drawn, given to scikit-learn."""
    score_N, truth_N, cluster_N = TEST.known(1)
    weight_RK = ranking.draw(int(TEST.clusters.max()) + 1, 40, 5)
    ranked = ranking.rank(score_N, truth_N, cluster_N)
    drawn_R = ranking.weighted_average_precisions(ranked, weight_RK)
    for weight_K, drawn in zip(weight_RK, drawn_R, strict=True):
        expected = average_precision_score(truth_N, score_N, sample_weight=weight_K[cluster_N])
        assert drawn == pytest.approx(expected, abs=1e-12)
    nobody_K = np.where(np.isin(np.arange(weight_RK.shape[1]), cluster_N[truth_N]), 0, 1).astype(np.int32)
    assert np.isnan(ranking.weighted_average_precisions(ranked, nobody_K[None])).all()


def test_the_interval_of_average_precision_is_that_of_its_replicates() -> None:
    one = found("average-precision", replicates=60, seed=4)["average_precision", "rare", ""]
    drawn_R = ranking.bootstrap(
        TEST.scores,
        TEST.truth > 0.5,
        TEST.clusters,
        known_NL=~np.isnan(TEST.truth),
        replicates=60,
        seed=4,
        statistic=ranking.weighted_average_precisions,
    )[:, 1]
    half = stats.t.ppf(0.975, one.clusters_effective - 1) * logit(drawn_R).std(ddof=1)
    assert (one.lower, one.upper) == pytest.approx(expit(logit(one.value) + np.array([-half, half])), abs=1e-9)


# Calibration


def test_brier_and_calibration_error_equal_scikit_learn() -> None:
    metrics = found("calibration", bins=10)
    temperature = metrics["temperature", None, ""].value
    for number, label in enumerate(LABELS.labels):
        score_N, truth_N, _ = TEST.known(number)
        tempered_N = expit(logit(score_N.astype(float)) / temperature)
        for stage, expected_N in (("", score_N), ("_tempered", tempered_N)):
            one = metrics[f"brier{stage}", label, ""]
            assert one.value == pytest.approx(brier_score_loss(truth_N, expected_N), abs=1e-7)
            assert one.lower < one.value < one.upper
    # Without ties scikit-learn's quantile bins are these bins.
    smooth = Drawn(5, unknown=False)
    smooth.scores = np.random.default_rng(0).permutation(IMAGES * 3).reshape(IMAGES, 3).astype(np.float32) / (
        IMAGES * 3
    )
    observed_B, mean_B = calibration_curve(smooth.truth[:, 0], smooth.scores[:, 0], n_bins=10, strategy="quantile")
    expected = np.abs(observed_B - mean_B).mean()  # of equally many images each
    assert found("calibration", smooth, bins=10)["ece", "common", ""].value == pytest.approx(expected, abs=1e-6)


def test_the_temperature_and_the_prior_come_from_val_alone() -> None:
    metrics = found("calibration")
    assert metrics["temperature", None, ""].reason == "fitted on 900 validation images by cross-entropy"
    relabelled = Drawn(1)
    relabelled.truth = np.where(np.isnan(TEST.truth), np.nan, 1 - TEST.truth)
    again = found("calibration", relabelled)
    assert again["temperature", None, ""] == metrics["temperature", None, ""]
    for label in LABELS.labels:
        assert again["brier_shifted", label, ""].reason == metrics["brier_shifted", label, ""].reason


@pytest.mark.parametrize(
    ("turn", "value", "reason"),
    [
        (lambda score_NL: np.full_like(score_NL, 0.5), None, "every validation score is 0.5, which no temperature"),
        (lambda score_NL: 1 - score_NL, 50.0, "the search ends there, so the best one may lie beyond"),
    ],
)
def test_a_temperature_that_says_nothing_is_not_given_as_found(turn, value, reason) -> None:
    scores_NL = turn(np.clip(np.nan_to_num(VAL.truth), 0.1, 0.9).astype(np.float32))
    validation = Validation(scores_NL, VAL.truth, VAL.clusters)
    metrics = calibration.evaluate(TEST.scores, TEST.truth, TEST.clusters, LABELS, validation=validation, replicates=2)
    temperature = next(metric for metric in metrics if metric.name == "temperature")
    assert temperature.value == value
    assert reason in temperature.reason


def test_a_shift_of_the_prevalence_is_found_and_undone() -> None:
    """A model that is right about val, and a test set with three times the positives."""
    labels = LabelSet("one", ("ill",), ("ill",))

    def images(prevalence: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
        generator = np.random.default_rng(seed)
        truth_N = generator.random(40_000) < prevalence
        score_N = expit(2 * generator.normal(2 * truth_N, 1) - 2 + logit(0.05))
        return score_N.astype(np.float32)[:, None], truth_N.astype(np.float32)[:, None]

    validation = Validation(*images(0.05, 0), np.arange(40_000))
    scores, truth = images(0.15, 1)
    metrics = calibration.evaluate(scores, truth, np.arange(40_000), labels, validation=validation, **QUICK)
    one = {metric.name: metric for metric in metrics if metric.label}
    before, after = one["brier_tempered"], one["brier_shifted"]
    assert after.value < before.value
    assert one["ece_shifted"].value < one["ece_tempered"].value / 2
    words = after.reason.split()
    assert words[:2] == ["prevalence", "from"]
    assert float(words[2]) == pytest.approx(0.05, abs=0.01)
    assert float(words[6].rstrip(",")) == pytest.approx(0.15, abs=0.015)


def test_what_cannot_be_corrected_stays_as_tempered() -> None:
    too_high = Validation(np.full_like(VAL.scores, 0.9), VAL.truth, VAL.clusters)
    metrics = found("calibration", validation=too_high)
    assert metrics["brier_shifted", "rare", ""].reason.startswith("as tempered: the mean probability on val is 0.")
    assert metrics["brier_shifted", "rare", ""].value == metrics["brier_tempered", "rare", ""].value
    one_kind = Validation(VAL.scores, np.zeros_like(VAL.truth), VAL.clusters)
    reason = found("calibration", validation=one_kind)["brier_shifted", "rare", ""].reason
    assert reason == "as tempered: validation images of one kind only"
    # Every score at its highest: no prevalence but 1 explains them.
    sure = Drawn(1)
    sure.scores = np.full_like(TEST.scores, 0.97)
    reason = found("calibration", sure)["brier_shifted", "rare", ""].reason
    assert "as tempered: a prevalence of 1.0000 is estimated" in reason
    alone = found("calibration", validation=None)
    assert (alone["temperature", None, ""].value, alone["brier_tempered", "rare", ""].value) == (None, None)
    assert alone["temperature", None, ""].reason == "no validation predictions"
    assert alone["brier", "rare", ""].value == metrics["brier", "rare", ""].value


# Thresholds


def test_operating_points_are_those_of_the_confusion_matrix_at_vals_threshold() -> None:
    metrics = found("thresholds")
    for number, label in enumerate(LABELS.labels):
        val_N, val_truth_N, _ = VAL.known(number)
        false_T, true_T, score_T = roc_curve(val_truth_N, val_N)
        threshold = metrics["threshold", label, ""].value
        assert threshold in score_T[np.isclose(true_T - false_T, (true_T - false_T).max())]
        score_N, truth_N, _ = TEST.known(number)
        (right, alarms), (missed, caught) = confusion_matrix(truth_N, score_N >= threshold)
        expected = {
            "sensitivity": caught / (caught + missed),
            "specificity": right / (right + alarms),
            "ppv": caught / (caught + alarms),
            "npv": right / (right + missed),
        }
        for name, value in expected.items():
            one = metrics[name, label, ""]
            assert one.value == pytest.approx(value, abs=1e-12)
            assert one.lower < one.value < one.upper


def test_a_threshold_of_few_patients_is_marked() -> None:
    few = VAL.truth.copy()
    few[:, 1] = np.where(np.isin(VAL.clusters, np.unique(VAL.clusters)[:14]), few[:, 1], 0)
    few[np.isin(VAL.clusters, np.unique(VAL.clusters)[:14]), 1] = 1
    metrics = found("thresholds", validation=Validation(VAL.scores, few, VAL.clusters))
    assert metrics["threshold", "rare", ""].mark == "approximate"
    assert metrics["threshold", "rare", ""].reason.endswith("; 14 patients with the finding, fewer than 30")
    assert metrics["threshold", "common", ""].mark == ""


def test_youden_is_the_auc_and_a_part_of_the_thresholds() -> None:
    metrics = list(youden.evaluate(TEST.scores, TEST.truth, TEST.clusters, LABELS, validation=VALIDATION, **QUICK))
    expected = found("thresholds")
    assert {metric.name for metric in metrics} == {"auc", "threshold", "sensitivity", "specificity"}
    assert all(expected[metric.name, metric.label, ""] == metric for metric in metrics if metric.name != "auc")


# Subgroups


def test_the_auc_of_a_group_is_that_of_its_images() -> None:
    metrics = found("subgroups", age_edges=(50,))
    ages = TEST.images["age_years"]
    members = {
        "sex F": TEST.images["sex"] == "F",
        "age 0-49": ages < 50,
        "age 50+": (ages >= 50) & (ages < 100),
        "view AP": (TEST.images["view"] == "AP").fill_null(False),
    }
    for group, member in members.items():
        for number, label in enumerate(LABELS.labels):
            chosen_N = member.to_numpy() & ~np.isnan(TEST.truth[:, number])
            one = metrics["auc", label, group]
            expected = roc_auc_score(TEST.truth[chosen_N, number], TEST.scores[chosen_N, number])
            assert one.value == pytest.approx(expected, abs=1e-12)
            assert one.positives + one.negatives == chosen_N.sum()
            alone = clustered.estimate(
                TEST.scores[chosen_N, number], TEST.truth[chosen_N, number] > 0.5, TEST.clusters[chosen_N]
            )
            spread = alone.standard_error / (alone.value * (1 - alone.value))
            half = stats.t.ppf(0.975, alone.clusters_effective - 1) * spread
            assert (one.lower, one.upper) == pytest.approx(expit(logit(one.value) + np.array([-half, half])), abs=1e-9)
            assert one.clusters_effective == pytest.approx(alone.clusters_effective)


def test_a_group_of_all_images_is_the_whole() -> None:
    everyone = TEST.images.with_columns(sex=pl.lit("F"))
    metrics = found("subgroups", images=everyone, by=("sex",))
    whole = auc.evaluate(TEST.scores, TEST.truth, TEST.clusters, LABELS, replicates=400)
    for metric in whole:
        one = metrics["auc", metric.label, "sex F"]
        assert one.value == pytest.approx(metric.value, abs=1e-12)
        assert (one.positives, one.positive_patients, one.labels) == (
            metric.positives,
            metric.positive_patients,
            metric.labels,
        )
        assert one.clusters_effective == pytest.approx(metric.clusters_effective)
        assert (one.lower, one.upper) == pytest.approx((metric.lower, metric.upper), abs=0.01)  # another spread
    assert not any("against" in group for _, _, group in metrics)


def test_groups_that_share_patients_are_compared_with_their_covariance() -> None:
    """The difference of two views of the same patients: from the influences, and by the bootstrap over patients."""
    metrics = found("subgroups", by=("view",))
    one = metrics["auc_difference", "common", "view PA against AP"]
    members = [(TEST.images["view"] == view).fill_null(False).to_numpy() for view in ("PA", "AP")]
    known_N, clusters = ~np.isnan(TEST.truth[:, 0]), int(TEST.clusters.max()) + 1
    pair = [
        clustered.estimate(
            TEST.scores[:, 0], TEST.truth[:, 0] > 0.5, TEST.clusters, clusters=clusters, known_N=known_N & member_N
        )
        for member_N in members
    ]
    expected = comparing.compare(*pair)
    assert (one.value, one.lower, one.upper) == pytest.approx(
        (expected.difference, expected.lower, expected.upper), abs=1e-12
    )
    drawn = []
    weight_RK = ranking.draw(clusters, 1500, 0)
    for member_N in members:
        chosen_N = known_N & member_N
        ranked = ranking.rank(TEST.scores[chosen_N, 0], TEST.truth[chosen_N, 0] > 0.5, TEST.clusters[chosen_N])
        drawn.append(ranking.weighted_aucs(ranked, weight_RK))
    assert np.std(drawn[0] - drawn[1]) == pytest.approx(expected.standard_error, rel=0.08)
    labels = [metrics["auc_difference", label, "view PA against AP"] for label in LABELS.averaged]
    assert all(metric.p_value is not None for metric in labels)
    plain = [2 * stats.t.sf(abs(metric.value) / _error(metric), _freedom(metrics, metric.label)) for metric in labels]
    assert [metric.p_value for metric in labels] == pytest.approx(comparing.holm(plain), abs=1e-6)


def _freedom(metrics: dict[tuple, Metric], label: str | None) -> float:
    return min(metrics["auc", label, f"view {view}"].clusters_effective for view in ("AP", "PA")) - 1


def _error(metric: Metric) -> float:
    """The standard error behind a difference's interval."""
    freedom = _freedom(found("subgroups", by=("view",)), metric.label)
    return (metric.upper - metric.lower) / 2 / stats.t.ppf(0.975, freedom)


def test_means_are_over_the_labels_that_all_groups_have() -> None:
    lopsided = Drawn(1)
    lopsided.truth = TEST.truth.copy()
    women = (TEST.images["sex"] == "F").to_numpy()
    lopsided.truth[women, 1] = 0  # nobody of them has it
    metrics = found("subgroups", lopsided, by=("sex",))
    for group in ("sex F", "sex M"):
        mean = metrics["auc", None, group]
        assert (mean.value, mean.labels) == (metrics["auc", "common", group].value, 1)
        assert mean.reason == "over 1 of 2, without rare (too few patients in a group)"
    gap = metrics["auc_difference", None, next(group for _, _, group in metrics if "against" in group)]
    assert (gap.labels, gap.mark) == (1, "")


def test_a_group_that_is_too_small_has_no_mean_and_is_not_asked() -> None:
    ages = np.where(np.isin(TEST.clusters, np.unique(TEST.clusters)[:6]), 90, 30 + 20 * (TEST.clusters % 2))
    metrics = found("subgroups", images=TEST.images.with_columns(age_years=pl.Series(ages)), by=("age",))
    small = metrics["auc", None, "age 80+"]
    assert (small.value, small.reason) == (None, "enough patients for 0 of 2 labels")
    assert metrics["auc", "common", "age 80+"].mark == "too few patients"
    assert metrics["auc", None, "age 20-39"].labels == metrics["auc", None, "age 40-59"].labels == 2
    against = {group for _, _, group in metrics if "against" in group}
    assert len(against) == 2
    for group in against:
        gap = metrics["auc_difference", None, group]
        assert (gap.p_value is None) == ("80+" in group)


def test_ages_that_cannot_be_are_in_no_band() -> None:
    bands = groups.split(TEST.images, ("age",), (20, 40, 60, 80))[0]
    assert [group.name for group in bands] == ["age 0-19", "age 20-39", "age 40-59", "age 60-79", "age 80+"]
    assert sum(group.member.sum() for group in bands) == (TEST.images["age_years"] <= 99).sum() < IMAGES


# Net benefit


def test_net_benefit_is_that_of_the_decision_curve() -> None:
    metrics = found("net-benefit", thresholds=(0.05, 0.25))
    for number, label in enumerate(LABELS.labels):
        score_N, truth_N, _ = TEST.known(number)
        for threshold in (0.05, 0.25):
            called_N = score_N >= threshold
            cost = threshold / (1 - threshold)
            expected = (called_N & truth_N).mean() - cost * (called_N & ~truth_N).mean()
            one = metrics[f"net_benefit@{threshold:g}", label, ""]
            assert one.value == pytest.approx(expected, abs=1e-9)
            assert one.lower < one.value < one.upper
            everyone = truth_N.mean() - cost * (1 - truth_N.mean())
            assert metrics[f"net_benefit_of_all@{threshold:g}", label, ""].value == pytest.approx(everyone, abs=1e-9)


def test_net_benefit_without_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dcurves", None)
    with pytest.raises(
        UserError, match=r"net benefit needs the library dcurves\n  remedy: pip install 'cxrkit\[report"
    ):
        found("net-benefit")
