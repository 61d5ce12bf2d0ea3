"""Prediction files, their evaluation, and scores.json: the numbers, and what each bad input is told."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from tiny_runs import make_info, make_origin, make_records, make_run, make_scores, make_split

from cxrkit.base.contracts import LABELS, PATHOLOGIES, Metric
from cxrkit.base.errors import UserError
from cxrkit.base.labels import ADJUDICATED, CHESTXRAY14, CHEXPERT, LabelSet
from cxrkit.evaluators import auc, gates
from cxrkit.evaluators.scoring import evaluate_run
from cxrkit.evaluators.truth import Truth, read_truth
from cxrkit.runs.predictions import read_prediction_info, read_predictions, write_predictions
from cxrkit.runs.scores import Scores, SubsetScores, read_scores, write_scores

QUICK = {"replicates": 5}


@pytest.fixture
def records():
    return make_records()


@pytest.fixture
def split(records):
    return make_split(records)


@pytest.fixture
def origin(records, split):
    return make_origin(records, split)


@pytest.fixture
def run(tmp_path, records, split):
    """A run folder as a training leaves it."""
    return make_run(tmp_path / "runs" / "resnet50-large-meta" / "official", records, split)


def truth_of(records: pl.DataFrame, **said: str) -> Truth:
    return Truth(Path("records.parquet"), records, **said)


def scored(run: Path, records: pl.DataFrame, subset: str = "test", **options) -> SubsetScores:
    """Evaluate predictions that claim nothing of their labels, so that a test may change the records."""
    unclaimed(run)
    return evaluate_run(run, truth_of(records), options=QUICK | options).subsets[subset]


def unclaimed(run: Path) -> None:
    for path in (run / "predictions").iterdir():
        file = read_predictions(path)
        write_predictions(path, file.frame, replace(file.about, origin=replace(file.about.origin, labels_digest="")))


def of(scores: SubsetScores, label: str | None = None) -> Metric:
    metric = scores.metric("auc", label)
    assert metric is not None
    return metric


# The numbers


def test_scores_are_those_of_scikit_learn(run, records, split):
    found = scored(run, records, replicates=50)
    frame = make_scores(records, split)
    truth = frame.select("image_id").join(records, on="image_id", maintain_order="left")
    for label in LABELS:
        expected = roc_auc_score(truth[label].to_numpy(), frame[label].to_numpy())
        score = of(found, label)
        assert score.value == pytest.approx(expected, abs=1e-12)
        assert score.lower < score.value < score.upper
        assert (score.positives, score.negatives) == (truth[label].sum(), len(truth) - truth[label].sum())
    mean = of(found)
    assert mean.value == pytest.approx(np.mean([of(found, label).value for label in PATHOLOGIES]))
    assert mean.labels == 14
    assert mean.lower < mean.value < mean.upper
    assert mean.interval.startswith("95 % logit-t with effective patients, bootstrap over patients")
    assert (found.images, found.patients, found.complete, found.leakage_checked) == (50, 20, True, True)


def test_no_finding_does_not_enter_the_mean(run, records):
    before = scored(run, records)
    path = run / "predictions" / "test.parquet"
    file = read_predictions(path)
    write_predictions(path, file.frame.with_columns((1 - pl.col("No Finding")).alias("No Finding")), file.about)
    after = scored(run, records)
    assert of(after, "No Finding").value == pytest.approx(1 - of(before, "No Finding").value)
    assert of(after) == of(before)


def test_undefined_auc_is_null_with_the_reason(run, records):
    found = scored(run, records.with_columns(pl.lit(False).alias("Hernia"), pl.lit(True).alias("Edema")))
    assert (of(found, "Hernia").value, of(found, "Hernia").reason) == (None, "0 positives")
    assert (of(found, "Edema").value, of(found, "Edema").reason) == (None, "0 negatives")
    defined = [of(found, label).value for label in PATHOLOGIES if label not in ("Hernia", "Edema")]
    assert of(found).value == pytest.approx(np.mean(defined))
    assert (of(found).labels, of(found).reason) == (12, "over 12 of 14")


def test_too_few_patients_give_an_auc_without_an_interval(run, records):
    """Nine patients with the finding, and a mean that stands on them."""
    records = records.with_columns(pl.col("patient_id").cast(pl.Int32).is_between(52, 60).alias("Hernia"))
    found = scored(run, records, replicates=20)
    hernia = of(found, "Hernia")
    assert hernia.value is not None
    assert (hernia.lower, hernia.upper, hernia.mark) == (None, None, "too few patients")
    assert (hernia.interval, hernia.positive_patients) == ("9 patients with the finding, fewer than 10", 9)
    mean = of(found)
    assert (mean.lower, mean.mark, mean.positive_patients) == (None, "too few patients", 9)
    assert mean.interval == "Hernia: 9 patients with the finding, fewer than 10"


def test_intervals_are_logit_t_of_the_replicates_with_effective_patients(run, records):
    """From its definition, with scipy and nothing of cxrkit but the replicates."""
    from scipy import special, stats

    from cxrkit.statistics import ranking

    path = run / "predictions" / "test.parquet"
    file = read_predictions(path)
    duller = file.frame.with_columns(pl.col(label) + pl.col(label).shuffle(1) for label in LABELS)
    duller = duller.with_columns(pl.col(label) / 2 for label in LABELS)  # no replicate has an AUC of 1
    write_predictions(path, duller, file.about)
    found = scored(run, records, replicates=60, seed=3)
    frame = duller.join(records, on="image_id", suffix="_true", maintain_order="left")
    patients, cluster_N = np.unique(frame["patient_id"].to_numpy(), return_inverse=True)
    truth_NL = frame.select(f"{label}_true" for label in LABELS).to_numpy()
    drawn_RL = ranking.bootstrap(frame.select(LABELS).to_numpy(), truth_NL, cluster_N, replicates=60, seed=3)
    smallest = np.inf
    for place, label in enumerate(LABELS):
        counts = [np.bincount(cluster_N[chosen_N]) for chosen_N in (truth_NL[:, place], ~truth_NL[:, place])]
        effective = min(count_K.sum() ** 2 / (count_K**2).sum() for count_K in counts)
        metric = of(found, label)
        assert metric.clusters_effective == pytest.approx(effective)
        assert metric.positive_patients == len(set(cluster_N[truth_NL[:, place]])) < len(patients)
        assert metric.mark == "approximate"  # of 20 patients
        if label in PATHOLOGIES:
            smallest = min(smallest, effective)
        half = stats.t.ppf(0.975, effective - 1) * special.logit(drawn_RL[:, place]).std(ddof=1)
        expected = special.expit(special.logit(metric.value) + np.array([-half, half]))
        assert (metric.lower, metric.upper) == pytest.approx(tuple(expected), abs=1e-9)
    mean = of(found)
    averaged = [LABELS.index(label) for label in PATHOLOGIES]
    half = stats.t.ppf(0.975, smallest - 1) * special.logit(drawn_RL[:, averaged].mean(axis=1)).std(ddof=1)
    expected = special.expit(special.logit(mean.value) + np.array([-half, half]))
    assert (mean.lower, mean.upper) == pytest.approx(tuple(expected), abs=1e-9)
    assert mean.clusters_effective == pytest.approx(smallest)


def test_scores_of_before_the_effective_patients_are_read(run, records):
    """The fields are new in a file of the same version: who does not know them passes them over, and they may lack."""
    scores = evaluate_run(run, truth_of(records), options=QUICK)
    path = run / "scores.json"
    content = json.loads(path.read_text())
    for metric in content["subsets"]["test"]["metrics"]:
        assert metric.pop("clusters_effective") > 1
        del metric["positive_patients"], metric["mark"]
    path.write_text(json.dumps(content))
    read = of(read_scores(path).subsets["test"], "Mass")
    assert (read.clusters_effective, read.positive_patients, read.mark) == (None, None, "")
    assert read.value == of(scores.subsets["test"], "Mass").value


def test_part_of_a_subset_is_not_complete(run, records, split, origin):
    path = run / "predictions" / "test.parquet"
    write_predictions(path, make_scores(records, split).head(30), make_info(origin, split))
    found = scored(run, records)
    assert (found.images, found.subset_images, found.complete) == (30, split.images("test"), False)


def test_a_label_that_is_not_known_is_left_out(run, records, split):
    """Masked pairs count neither as positive nor as negative, for the point and for every replicate."""
    unknown = pl.int_range(pl.len()) % 3 == 0
    masked = records.with_columns(pl.when(unknown).then(None).otherwise(pl.col("Mass")).alias("Mass"))
    found = scored(run, masked, replicates=20)
    frame = make_scores(records, split).join(masked, on="image_id", suffix="_true", maintain_order="left")
    known = frame.filter(pl.col("Mass_true").is_not_null())
    mass = of(found, "Mass")
    assert 0 < len(known) < len(frame)
    assert mass.value == pytest.approx(roc_auc_score(known["Mass_true"].to_numpy(), known["Mass"].to_numpy()))
    assert mass.positives + mass.negatives == len(known)
    before = scored(run, records, replicates=20)
    assert of(found, "Hernia") == of(before, "Hernia")
    assert (mass.lower, mass.upper) != (of(before, "Mass").lower, of(before, "Mass").upper)


def test_a_constant_score_is_said(run, records, split, origin):
    path = run / "predictions" / "test.parquet"
    frame = make_scores(records, split).with_columns(pl.lit(0.5).alias("No Finding"))
    write_predictions(path, frame, make_info(origin, split))
    found = scored(run, records)
    assert (of(found, "No Finding").value, of(found, "No Finding").constant) == (0.5, True)
    assert not of(found, "Mass").constant


@pytest.mark.parametrize("labels", [ADJUDICATED, CHEXPERT], ids=lambda labels: labels.name)
def test_any_label_set(tmp_path, labels):
    """Nothing counts to 14: the labels and those of the mean are the set's."""
    records = make_records(labels=labels)
    run = make_run(tmp_path / "run", records, make_split(records), labels)
    found = evaluate_run(run, truth_of(records), options=QUICK).subsets["test"]
    assert [metric.label for metric in found.metrics] == [*labels.labels, None]
    assert of(found).labels == len(labels.averaged)
    assert of(found).value == pytest.approx(np.mean([of(found, label).value for label in labels.averaged]))
    assert read_scores(run / "scores.json").labels is labels


def test_evaluate_run_writes_what_it_returns_and_twice_the_same(run, records, origin):
    scores = evaluate_run(run, truth_of(records, label_release="v2020"), options={"replicates": 30})
    text = (run / "scores.json").read_text()
    assert read_scores(run / "scores.json") == scores
    assert list(scores.subsets) == ["val", "test"]
    assert (scores.checkpoint_sha256, scores.origin, scores.evaluator) == ("ab" * 32, origin, "auc")
    for subset, found in scores.subsets.items():
        path = run / "predictions" / f"{subset}.parquet"
        assert found.predictions_sha256 == read_predictions(path).sha256 == read_prediction_info(path)[1]
    evaluate_run(run, truth_of(records), options={"replicates": 30})
    assert (run / "scores.json").read_text() == text


def test_the_evaluator_is_pure(records):
    """Arrays in, metrics out: what it is given stays as it was, and equal input gives equal metrics."""
    generator = np.random.default_rng(0)
    score_NL = generator.random((40, 15), np.float32)
    truth_NL = (generator.random((40, 15)) < 0.5).astype(np.float32)
    truth_NL[0] = np.nan
    cluster_N = np.arange(40) // 2
    before = score_NL.copy(), truth_NL.copy()
    first = list(auc.evaluate(score_NL, truth_NL, cluster_N, CHESTXRAY14, replicates=9))
    assert first == list(auc.evaluate(score_NL, truth_NL, cluster_N, CHESTXRAY14, replicates=9))
    np.testing.assert_array_equal(score_NL, before[0])
    np.testing.assert_array_equal(truth_NL, before[1])
    assert [metric.label for metric in first] == [*LABELS, None]


def test_a_set_that_averages_no_label_has_no_mean():
    """Warnings are errors here: a mean over nothing would be one."""
    none = LabelSet("none", ("Mass", "Nodule"), ())
    score_NL, cluster_N = np.linspace(0, 1, 80, dtype=np.float32).reshape(40, 2), np.arange(40)
    found = list(auc.evaluate(score_NL, (score_NL > 0.5).astype(np.float32), cluster_N, none, replicates=9))
    assert [metric.label for metric in found] == ["Mass", "Nodule"]


# Evaluators of somebody else

FOREIGN = """
import numpy as np
from cxrkit.base.contracts import Metric

def hits(score_NL, truth_NL, cluster_N, labels, *, threshold=0.5):
    right_NL = (score_NL > threshold) == (truth_NL > 0.5)
    for number, label in enumerate(labels.labels):
        yield Metric("accuracy", right_NL[:, number].mean(), label, positives=np.int64(truth_NL[:, number].sum()))
    yield Metric("patients", np.float32(len(np.unique(cluster_N))))

def nan(score_NL, truth_NL, cluster_N, labels):
    return [Metric("accuracy", float("nan"), "Mass")]

def nothing(score_NL, truth_NL, cluster_N, labels):
    return []

def strange(score_NL, truth_NL, cluster_N, labels):
    return [("accuracy", 0.5)]

def elsewhere(score_NL, truth_NL, cluster_N, labels):
    return [Metric("accuracy", 0.5, "Mumps")]

def broken(score_NL, truth_NL, cluster_N, labels):
    raise KeyError("oops")

number = 3
from builtins import dict as no_signature
"""


@pytest.fixture
def foreign(tmp_path, monkeypatch):
    """A module of somebody else, importable for this test alone."""
    name = f"foreign_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(FOREIGN)
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    sys.modules.pop(name, None)


def test_a_foreign_evaluator_from_predictions_to_scores(run, records, foreign):
    scores = evaluate_run(run, truth_of(records), f"{foreign}:hits", {"threshold": 0.6})
    test = read_scores(run / "scores.json").subsets["test"]
    assert read_scores(run / "scores.json") == scores
    assert scores.evaluator == f"{foreign}:hits"
    assert test.names == ("accuracy", "patients")
    assert test.metric("patients").value == 20
    assert 0 < test.metric("accuracy", "Mass").value < 1
    assert test.metric("auc") is None


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        ("nan", {}, "accuracy of Mass: value is nan; where it is undefined, give None and the reason"),
        ("nothing", {}, "it found no metric"),
        ("strange", {}, r"\('accuracy', 0\.5\) is not a Metric"),
        ("elsewhere", {}, "accuracy of Mumps: no label of chestxray14"),
        ("broken", {}, "failed: KeyError: 'oops'"),
        ("number", {}, "is not a function"),
        ("no_signature", {}, "failed: TypeError: dict expected at most 1 argument"),
        ("hits", {"replicates": 3}, "takes no 'replicates'\n  remedy: leave --replicates out"),
    ],
)
def test_what_a_foreign_evaluator_does_wrong_is_told_as_its_own(run, records, foreign, function, options, message):
    with pytest.raises(UserError, match=message) as caught:
        evaluate_run(run, truth_of(records), f"{foreign}:{function}", options)
    assert f"{foreign}:{function}" in str(caught.value)
    assert not (run / "scores.json").exists()


# Bad predictions


def rewrite(path, frame, **metadata):
    """Write a prediction file without the checks of `write_predictions`."""
    about = json.loads(pl.read_parquet_metadata(path)["cxrkit"])
    for name, value in metadata.items():
        where, _, field = name.rpartition("__")
        (about[where] if where else about)[field] = value
    frame.write_parquet(path, metadata={"cxrkit": json.dumps(about)})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: f.drop("Hernia"), "no column 'Hernia'; expected one per label"),
        (lambda f: f.with_columns(pl.lit(float("nan"), pl.Float32).alias("Mass")), r"Mass of 00000041_000\.png is nan"),
        (lambda f: f.with_columns(pl.lit(None, pl.Float32).alias("Mass")), r"Mass of 00000041_000\.png is None"),
        (lambda f: f.with_columns(pl.col("Mass") * 30), "expected a probability between 0 and 1"),
        (lambda f: f.with_columns(pl.lit("much").alias("Mass")), "a column is of the wrong type"),
        (lambda f: pl.concat([f, f.head(2)]), r"2 images occur more than once, first 00000041_000\.png"),
        (lambda f: f.with_columns(pl.lit(None, pl.String).alias("patient_id")), "a row without image_id or patient_id"),
        (lambda f: f.head(0), "holds no images"),
    ],
)
def test_bad_prediction_table(run, spoil, message):
    path = run / "predictions" / "test.parquet"
    rewrite(path, spoil(read_predictions(path).frame))
    with pytest.raises(UserError, match=message) as caught:
        read_predictions(path)
    assert str(path) in str(caught.value)
    assert "remedy: " in str(caught.value)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (
            {"format_version": 1},
            r"prediction format version 1 \(int\); this cxrkit reads version 2\n  remedy: train, pred",
        ),
        ({"format_version": True}, r"prediction format version True \(bool\)"),
        ({"epoch": "seven"}, r"in its metadata epoch is 'seven' \(str\), expected a whole number"),
        ({"model": None}, "in its metadata model is null, expected text"),
        ({"changes": [1]}, r"in its metadata changes\[0\] is 1 \(int\), expected text"),
        ({"origin": {}}, r"in its metadata origin\.dataset is missing"),
        ({"origin__image_side": 0.5}, r"in its metadata origin\.image_side is 0\.5 \(float\), expected a whole number"),
        (
            {"origin__basis": {"labels": "sure"}},
            r"origin\.basis\.labels is 'sure' \(str\), expected one of checked, de",
        ),
        ({"origin__label_set": "mine"}, "unknown label set 'mine'"),
        ({"subset": "train"}, "subset 'train', expected val or test"),
        ({"subset_images": 3}, "images, but the test subset of official has 3"),
    ],
)
def test_bad_prediction_metadata(run, metadata, message):
    path = run / "predictions" / "test.parquet"
    rewrite(path, read_predictions(path).frame, **metadata)
    with pytest.raises(UserError, match=message):
        read_predictions(path)


def test_not_a_prediction_file(tmp_path):
    path = tmp_path / "test.parquet"
    with pytest.raises(UserError, match="there is no such prediction file"):
        read_predictions(path)
    with pytest.raises(UserError, match=r"not a readable prediction file \(Is a directory\)"):
        read_predictions(tmp_path)
    path.write_text("image_id,score\n")
    with pytest.raises(UserError, match="not a readable prediction file"):
        read_predictions(path)
    pl.DataFrame({"a": [1]}).write_parquet(path)
    with pytest.raises(UserError, match='its metadata lacks the key "cxrkit"'):
        read_predictions(path)
    for text, message in (("{", "is not valid JSON"), ("[]", "is not a JSON object"), ("[" * 99_999, "not valid JSON")):
        pl.DataFrame({"a": [1]}).write_parquet(path, metadata={"cxrkit": text})
        with pytest.raises(UserError, match=message):
            read_predictions(path)


def test_a_refused_write_leaves_the_old_file(run, records, split, origin):
    path = run / "predictions" / "test.parquet"
    before = path.read_bytes()
    with pytest.raises(UserError, match="a NaN comes from a training that diverged"):
        write_predictions(
            path, make_scores(records, split).with_columns(Mass=pl.lit(float("nan"))), make_info(origin, split)
        )
    assert path.read_bytes() == before
    assert sorted(p.name for p in path.parent.iterdir()) == ["test.parquet", "val.parquet"]


def test_brackets_in_a_path_are_no_pattern(tmp_path, records, split):
    """Polars takes them for one: beside `r1` the folder `r[1]` would be evaluated with the files of the other."""
    ours = make_run(tmp_path / "r[1]", records, split)
    make_run(tmp_path / "r1", records, split, info={"epoch": 99})
    assert evaluate_run(ours, truth_of(records), options=QUICK).epoch == 7
    table = tmp_path / "t[1].csv"
    records.write_csv(table)
    records.head(3).write_csv(tmp_path / "t1.csv")
    assert read_truth(table).records(CHESTXRAY14).height == records.height


# Labels: the predictions say which, by digest


def test_two_inverted_labels_are_refused(run, records, tmp_path):
    """Accepted before, with the release's name alone compared: the mean AUC went from 0.530 to 0.656."""
    evaluate_run(run, truth_of(records), options=QUICK)
    before = (run / "scores.json").read_bytes()
    inverted = records.with_columns(~pl.col("Mass"), ~pl.col("Nodule"))
    inverted.write_parquet(tmp_path / "records.parquet")
    with pytest.raises(UserError) as caught:
        evaluate_run(run, read_truth(tmp_path / "records.parquet"))
    ours, theirs = (make_origin(frame, make_split(records)).labels_digest[:12] for frame in (records, inverted))
    text = str(caught.value)
    assert str(run / "predictions" / "val.parquet") in text
    assert str(tmp_path / "records.parquet") in text
    assert ours in text
    assert theirs in text
    assert "--data" in text
    assert (run / "scores.json").read_bytes() == before


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(row=st.integers(0, 149), label=st.sampled_from(LABELS), unknown=st.booleans())
def test_any_label_that_differs_is_refused(records, split, origin, row, label, unknown):
    about = make_info(origin, split)
    there = pl.int_range(pl.len()) == row
    changed = records.with_columns(
        pl.when(there).then(None if unknown else ~pl.col(label)).otherwise(label).alias(label)
    )
    gates.check_labels(Path("test.parquet"), about, truth_of(records.reverse()))
    with pytest.raises(UserError, match="v2020 labels with digest"):
        gates.check_labels(Path("test.parquet"), about, truth_of(changed, label_release="v2020"))


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (
            {"label_release": "2017"},
            r"predicted for labels of release v2020, but .* has labels of release 2017 \(labels d",
        ),
        (
            {"dataset": "synthetic"},
            r"predicted for nih-chestxray14, but records\.parquet has synthetic \(labels digest",
        ),
        ({}, r"but records\.parquet has labels with digest"),
    ],
)
def test_other_records_are_named_for_what_they_are(run, records, said, message):
    fewer = records.head(100)
    with pytest.raises(UserError, match=message):
        evaluate_run(run, truth_of(fewer, **said))


def test_the_same_labels_under_another_name_are_the_same(run, records):
    assert evaluate_run(run, truth_of(records, label_release="unknown"), options=QUICK)


def test_records_from_a_folder_a_table_and_a_csv_are_the_same(prepared, tmp_path):
    folder = read_truth(prepared)
    assert (folder.dataset, folder.label_release) == ("synthetic", "synthetic")
    records = folder.records(CHESTXRAY14)
    numbers = records.with_columns(pl.col(label).cast(pl.Int8) for label in LABELS)
    numbers.write_csv(tmp_path / "numbers.csv")
    numbers.with_columns(pl.col(LABELS).cast(pl.Float64)).write_parquet(tmp_path / "numbers.parquet")
    records.write_csv(tmp_path / "words.CSV")
    for name in ("numbers.csv", "numbers.parquet", "words.CSV"):
        assert read_truth(tmp_path / name).records(CHESTXRAY14).equals(records)
    assert read_truth(folder.source).records(CHESTXRAY14).equals(records)


def test_ids_of_digits_stay_text_and_an_empty_cell_is_unknown(tmp_path):
    path = tmp_path / "mine.csv"
    one = LabelSet("one", ("Mass",), ("Mass",))
    path.write_text("image_id,patient_id,Mass\n007,01,1\n7,1,\n0007,001,False\n")
    found = read_truth(path).records(one)
    assert found.rows() == [("007", "01", True), ("7", "1", None), ("0007", "001", False)]


def test_nihs_own_csv_is_read(tmp_path):
    path = tmp_path / "Data_Entry_2017_v2020.csv"
    path.write_text(
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
        "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]\n"
        "00000001_000.png,Cardiomegaly|Mass,0,1,57,M,PA,2682,2749,0.143,0.143\n"
    )
    found = read_truth(path)
    assert found.dataset == "nih-chestxray14"
    assert [label for label in LABELS if found.records(CHESTXRAY14)[label][0]] == ["Cardiomegaly", "Mass"]


def test_a_table_in_utf_16(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(f"image_id,patient_id,{','.join(LABELS)}\na,1,{','.join('1' * len(LABELS))}\n", encoding="utf-16")
    assert read_truth(path).records(CHESTXRAY14)["image_id"].to_list() == ["a"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image_id,patient_id\na,b\n", "no column 'Cardiomegaly', 'Emphysema'"),
        ("image_id,patient_id,{labels}\na,1,{ones}\na,1,{ones}\n", "a is listed more than once"),
        ("image_id,patient_id,{labels}\na,,{ones}\n", "a row without patient_id"),
        ("image_id,patient_id,{labels}\na,1,{twos}\n", "Cardiomegaly is '2' in 1 row, expected 1, 0 or nothing"),
        ("", "not a readable table"),
    ],
)
def test_tables_that_are_no_records(tmp_path, text, message):
    path = tmp_path / "mine.csv"
    ones, twos = (",".join(digit * len(LABELS)) for digit in "12")
    path.write_text(text.format(labels=",".join(LABELS), ones=ones, twos=twos))
    with pytest.raises(UserError, match=message) as caught:
        read_truth(path).records(CHESTXRAY14)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{"])
def test_a_folder_that_is_not_prepared(tmp_path, text):
    with pytest.raises(UserError, match=r"dataset\.json"):
        read_truth(tmp_path)
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(UserError, match=r"dataset\.json"):
        read_truth(tmp_path)
    with pytest.raises(UserError, match="there is no such folder or file"):
        read_truth(tmp_path / "nowhere")


# Contamination and contradictions


@pytest.mark.parametrize(
    ("subset", "predicted", "message"),
    [
        ("test", "train", "test images belong to the train subset of split official"),
        ("test", "val", "test images belong to the val subset of split official"),
        ("val", "train", "val images belong to the train subset of split official"),
        ("val", "test", "images are not in the val subset of split official"),
    ],
)
def test_images_of_another_subset_are_refused(run, records, split, origin, subset, predicted, message):
    path = run / "predictions" / f"{subset}.parquet"
    write_predictions(path, make_scores(records, split, predicted).head(3), make_info(origin, split, subset))
    with pytest.raises(UserError, match=message):
        evaluate_run(run, truth_of(records), options=QUICK)


def test_one_trained_image_among_many_is_found(run, records, split, origin):
    path = run / "predictions" / "test.parquet"
    mixed = pl.concat([make_scores(records, split).tail(20), make_scores(records, split, "train").head(1)])
    write_predictions(path, mixed, make_info(origin, split))
    with pytest.raises(UserError, match=r"1 of 21 test images belong to the train subset .* first 00000001_000\.png"):
        evaluate_run(run, truth_of(records), options=QUICK)


def test_patients_that_were_trained_on_are_refused(tmp_path, records, split):
    """A split by image: the images differ, their patients do not."""
    last = records.filter(pl.col("patient_id") == "59")["image_id"][0]
    moved = pl.when(pl.col("image_id") == last).then(pl.lit("train")).otherwise("subset").alias("subset")
    run = make_run(tmp_path / "run", records, replace(split, frame=split.frame.with_columns(moved)))
    with pytest.raises(UserError, match="1 patients of the test images are also in train or val, first patient 59"):
        evaluate_run(run, truth_of(records), options=QUICK)


def test_subset_size_must_be_that_of_the_split(run, records, split, origin):
    path = run / "predictions" / "test.parquet"
    write_predictions(path, make_scores(records, split), make_info(origin, split, subset_images=99))
    with pytest.raises(UserError, match="says that the test subset has 99 images, but the run's split lists 50"):
        evaluate_run(run, truth_of(records), options=QUICK)


def test_records_of_another_data_set_are_refused(run, records):
    """Also where the predictions do not say which labels they were made for."""
    unclaimed(run)
    with pytest.raises(UserError, match=r"10 of 50 predicted images are not in records\.parquet, first 00000057"):
        scored(run, records.filter(pl.col("patient_id").cast(pl.Int32) <= 56))
    renumbered = records.with_columns((pl.col("patient_id").cast(pl.Int32) + 1).cast(pl.String))
    with pytest.raises(UserError, match=r"00000031_000\.png is of patient 31, but records\.parquet says 32"):
        scored(run, renumbered)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"replicates": 0}, "0 bootstrap replicates"), ({"confidence": 95.0}, "expected a number between 0 and 1")],
)
def test_bad_settings(run, records, options, message):
    with pytest.raises(UserError, match=message):
        evaluate_run(run, truth_of(records), options=options)


def test_a_run_without_predictions(tmp_path, records):
    with pytest.raises(UserError, match=r"no predictions/val\.parquet or predictions/test\.parquet"):
        evaluate_run(tmp_path, truth_of(records))


@pytest.mark.parametrize(
    ("changes", "of_origin", "message"),
    [
        ({"checkpoint_sha256": "cd" * 32}, {}, "test.parquet: checkpoint_sha256 'abab.*, but val.parquet has .*'cdcd"),
        ({"epoch": 8}, {}, "test.parquet: epoch 7, but val.parquet has epoch 8"),
        ({"seed": 8}, {}, "test.parquet: seed 0, but val.parquet has seed 8"),
        ({"recipe_digest": "0"}, {}, "recipe_digest 'eeee"),
        (
            {},
            {"pixels_digest": "dd" * 32},
            "test.parquet: source files with digest bbbbbbbbbbbb, but val.parquet has sour",
        ),
        (
            {},
            {"pretraining": "ImageNet"},
            "test.parquet: pretraining 'none', but val.parquet has pretraining 'ImageNet'",
        ),
    ],
)
def test_a_run_must_be_of_one_checkpoint(run, records, split, origin, changes, of_origin, message):
    val = run / "predictions" / "val.parquet"
    write_predictions(
        val, make_scores(records, split, "val"), make_info(replace(origin, **of_origin), split, "val", **changes)
    )
    with pytest.raises(UserError, match=message):
        evaluate_run(run, truth_of(records))


def test_a_file_of_the_other_subset(run, records, split, origin):
    write_predictions(
        run / "predictions" / "val.parquet", make_scores(records, split), make_info(origin, split, "test")
    )
    with pytest.raises(UserError, match=r"val\.parquet: holds predictions of the test subset"):
        evaluate_run(run, truth_of(records))


def test_a_run_whose_split_was_changed(run, records, split):
    split.frame.with_columns(pl.lit("test").alias("subset")).write_parquet(run / "split.parquet")
    with pytest.raises(
        UserError, match=r"split\.parquet: this is split official with digest .* but the predictions were"
    ):
        evaluate_run(run, truth_of(records))
    (run / "split.parquet").write_text("gone")
    with pytest.raises(UserError, match=r"split\.parquet: not a readable split"):
        evaluate_run(run, truth_of(records))
    assert not (run / "scores.json").exists()
    (run / "split.parquet").unlink()
    assert not evaluate_run(run, truth_of(records), options=QUICK).subsets["test"].leakage_checked


# scores.json


def change(value, path, new):
    *parents, last = path
    for key in parents:
        value = value[key]
    if new is None:
        del value[last]
    else:
        value[last] = new


@pytest.mark.parametrize(
    ("where", "new", "message"),
    [
        (
            ["schema_version"],
            1,
            r"scores of schema version 1 \(int\); this cxrkit reads version 2\n  remedy: train, predict",
        ),
        (["model"], None, "model is missing"),
        (["epoch"], "7", r"epoch is '7' \(str\), expected a whole number"),
        (["epoch"], True, r"epoch is True \(bool\), expected a whole number"),
        (["origin", "split"], 3, r"origin\.split is 3 \(int\), expected text"),
        (["origin", "label_set"], "mine", r"origin\.label_set: unknown label set 'mine'"),
        (["subsets"], [], r"subsets is a list of 0, expected an object"),
        (["subsets", "test"], 1, r"subsets\.test is 1 \(int\), expected an object"),
        (["subsets", "test", "metrics", 6, "value"], 1.5, r"subsets\.test: auc of Mass is 1\.5, outside \[0, 1\]"),
        (["subsets", "test", "metrics", 6, "label"], "Mumps", r"auc of Mumps: no label of chestxray14"),
        (["subsets", "test", "metrics", 6, "label"], "Hernia", r"auc of Hernia is given twice"),
        (["subsets", "test", "metrics", 6, "lower"], None, r"auc of Mass has one bound of its interval only"),
        (
            ["subsets", "test", "metrics", 15, "value"],
            "high",
            r"metrics\[15\]\.value is 'high' \(str\), expected a number",
        ),
        (["subsets", "test", "images"], 1000, r"subsets\.test\.images is 1000 of 50"),
        (["subsets", "test", "subset"], "val", r"subsets\.test\.subset is 'val'"),
    ],
)
def test_broken_scores_name_the_field(run, records, where, new, message):
    evaluate_run(run, truth_of(records), options={"replicates": 40})
    path = run / "scores.json"
    value = json.loads(path.read_text())
    change(value, where, new)
    path.write_text(json.dumps(value))
    with pytest.raises(UserError, match=message) as caught:
        read_scores(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"), [("{", "the scores file is not valid JSON"), ("[]", "expected a JSON object, found")]
)
def test_scores_that_are_no_object(tmp_path, text, message):
    path = tmp_path / "scores.json"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_scores(path)


# Whatever stands in the files, the user's error is told, never an internal one

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def places(value, path=()):
    """Yield the path of every value inside parsed JSON."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def mutated(data, value, new):
    """Return parsed JSON with one value replaced or left out."""
    value = json.loads(json.dumps(value))
    path = data.draw(st.sampled_from(list(places(value))))
    if not path:
        return new
    change(value, path, None if data.draw(st.booleans()) else new)
    return value


def only_user_errors(action) -> None:
    with suppress(UserError):
        action()


@FUZZ
@given(data=st.data(), new=JSON)
def test_fuzzed_scores(run, records, data, new):
    path = run / "scores.json"
    if not path.exists():
        evaluate_run(run, truth_of(records), options=QUICK)
        path.rename(path.with_name("good.json"))
    good = json.loads(path.with_name("good.json").read_text())
    path.write_text(json.dumps(mutated(data, good, new)))

    def read():
        scores = read_scores(path)
        assert isinstance(scores, Scores)
        write_scores(path, scores)
        assert read_scores(path) == scores

    only_user_errors(read)


@FUZZ
@given(data=st.data(), new=JSON)
def test_fuzzed_prediction_metadata(run, data, new):
    path = run / "predictions" / "test.parquet"
    about = json.loads(pl.read_parquet_metadata(run / "predictions" / "val.parquet")["cxrkit"])
    text = json.dumps(mutated(data, about | {"subset": "test", "subset_images": 50}, new))
    frame = make_scores(make_records(), make_split(make_records()))
    frame.write_parquet(path, metadata={"cxrkit": text})
    only_user_errors(lambda: read_predictions(path))
    only_user_errors(lambda: read_prediction_info(path))


COLUMN = st.sampled_from(
    [
        pl.Series([None] * 3),
        pl.Series([1, 2, 3]),
        pl.Series(["a", "b", None]),
        pl.Series([0.5, float("inf"), -1.0]),
        pl.Series([[1], [2], []]),
        pl.Series([{"a": 1}] * 3),
        pl.Series([b"\xff", b"", None]),
        pl.Series([0.1, 0.2, 0.3]),
        pl.Series(["train", "val", "test"]),
        pl.Series([10**12, 0, 5]).cast(pl.Datetime),
        pl.Series(["x", "y", "x"], dtype=pl.Categorical),
        pl.Series([True, False, None]),
    ]
)


@FUZZ
@given(columns=st.dictionaries(st.sampled_from(("image_id", "patient_id", "subset", *LABELS)), COLUMN, max_size=4))
def test_fuzzed_columns_of_predictions_split_and_records(run, records, columns):
    """Columns of every type, missing ones, and values that cannot be."""
    for path, whole in (
        (run / "predictions" / "val.parquet", make_scores(records, make_split(records), "val").head(3)),
        (run / "split.parquet", make_split(records).frame.head(3)),
        (run / "records.parquet", records.head(3)),
    ):
        before = path.read_bytes() if path.exists() else None
        frame = whole.with_columns(series.alias(name) for name, series in columns.items())
        text = pl.read_parquet_metadata(path).get("cxrkit") if before and "predictions" in path.parts else None
        frame.write_parquet(path, metadata={"cxrkit": text} if text else None)
        only_user_errors(lambda: evaluate_run(run, truth_of(records), options={"replicates": 1}))
        only_user_errors(lambda path=path: read_truth(path).records(CHESTXRAY14))
        if before:
            path.write_bytes(before)


@FUZZ
@given(data=st.data())
def test_fuzzed_bytes_of_predictions_and_split(run, records, data):
    """Files that are cut off, or of which some bytes are others."""
    for path in (run / "predictions" / "val.parquet", run / "split.parquet"):
        whole = path.read_bytes()
        content = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
        for _ in range(data.draw(st.integers(0, 3))):
            if content:
                content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(content)
        only_user_errors(lambda: evaluate_run(run, truth_of(records), options={"replicates": 1}))
        path.write_bytes(whole)


# The command


def command(*arguments: object, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "cxrkit", *map(str, arguments)],
        capture_output=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        timeout=120,
    )


def test_evaluate_command_takes_a_path_literally_and_prints_it_whole(tmp_path, records, split):
    run = make_run(tmp_path / "r [exp1]" / "mine" / "official", records, split)
    records.write_csv(tmp_path / "labels [1].csv")
    (run / "config.toml").write_text("")
    done = command("evaluate", run, "--data", tmp_path / "labels [1].csv", "--replicates", 3)
    assert done.returncode == 0, done.stderr
    assert str(run / "scores.json") in done.stdout.decode()
    assert "3 replicates" in (run / "scores.json").read_text()
