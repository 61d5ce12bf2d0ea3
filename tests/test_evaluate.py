"""Prediction files, their evaluation, and scores.json: the numbers, and what each bad input is told."""

import json

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from cxrkit import predictions
from cxrkit.contracts import LABELS, PATHOLOGIES
from cxrkit.errors import UserError
from cxrkit.evaluators import auc, results
from cxrkit.predictions import PredictionInfo
from cxrkit.splits import Split

PATIENTS = 60  # the last 20 test, the 10 before validate


def make_records(seed: int = 0) -> pl.DataFrame:
    generator = np.random.default_rng(seed)
    rows = [
        (f"{patient:08d}_{image:03d}.png", str(patient))
        for patient in range(1, PATIENTS + 1)
        for image in range(1 + patient % 4)
    ]
    truth = {label: generator.random(len(rows)) < 0.35 for label in LABELS}
    ids, patients = zip(*rows, strict=True)
    return pl.DataFrame({"image_id": ids, "patient_id": patients, **truth}).sort("image_id")


def make_split(records: pl.DataFrame) -> Split:
    number = pl.col("patient_id").cast(pl.Int32)
    subset = pl.when(number > 40).then(pl.lit("test"))
    subset = subset.when(number > 30).then(pl.lit("val")).otherwise(pl.lit("train"))
    return Split("official", records.select("image_id", "patient_id", subset=subset))


def make_info(split: Split, subset: str = "test", **changes) -> PredictionInfo:
    values = {
        "model": "resnet50-large-meta",
        "split": split.name,
        "split_digest": split.digest,
        "subset": subset,
        "subset_images": split.images(subset),
        "dataset": "nih-chestxray14",
        "label_release": "v2020",
        "checkpoint_sha256": "ab" * 32,
        "input_size": 448,
        "epoch": 7,
        "train_images": split.images("train"),
        "train_subset_images": split.images("train"),
    }
    return PredictionInfo(**{**values, **changes})


def make_scores(records: pl.DataFrame, split: Split, subset: str = "test", seed: int = 1) -> pl.DataFrame:
    chosen = records.join(split.frame.filter(pl.col("subset") == subset).select("image_id"), on="image_id")
    noise = np.random.default_rng(seed).random((len(chosen), len(LABELS)))
    score_NL = (0.3 * chosen.select(LABELS).to_numpy() + 0.7 * noise).astype(np.float32)
    return chosen.select("image_id", "patient_id").hstack(pl.DataFrame(score_NL, schema=list(LABELS)))


@pytest.fixture
def records():
    return make_records()


@pytest.fixture
def split(records):
    return make_split(records)


@pytest.fixture
def run(tmp_path, records, split):
    """A run folder as a training leaves it."""
    folder = tmp_path / "runs" / "resnet50-large-meta" / "official"
    folder.mkdir(parents=True)
    split.frame.write_parquet(folder / "split.parquet")
    for subset in ("val", "test"):
        path = folder / "predictions" / f"{subset}.parquet"
        predictions.write(path, make_scores(records, split, subset), make_info(split, subset))
    return folder


# The numbers


def test_scores_are_those_of_scikit_learn(run, records, split):
    found = auc.evaluate(run / "predictions" / "test.parquet", records, split.frame, replicates=50)
    frame = make_scores(records, split)
    truth = frame.select("image_id").join(records, on="image_id", maintain_order="left")
    for label in LABELS:
        expected = roc_auc_score(truth[label].to_numpy(), frame[label].to_numpy())
        score = found.labels[label]
        assert score.auc == pytest.approx(expected, abs=1e-12)
        assert score.lower < score.auc < score.upper
        assert (score.positives, score.negatives) == (truth[label].sum(), len(truth) - truth[label].sum())
    fourteen = [found.labels[label].auc for label in PATHOLOGIES]
    assert found.mean.auc == pytest.approx(np.mean(fourteen))
    assert found.mean.labels == 14
    assert found.mean.lower < found.mean.auc < found.mean.upper
    assert (found.images, found.patients, found.complete, found.leakage_checked) == (
        split.images("test"),
        20,
        True,
        True,
    )


def test_no_finding_does_not_enter_the_mean(run, records, split):
    path = run / "predictions" / "test.parquet"
    before = auc.evaluate(path, records, None, replicates=5)
    frame, about = predictions.read(path)
    predictions.write(path, frame.with_columns((1 - pl.col("No Finding")).alias("No Finding")), about)
    after = auc.evaluate(path, records, None, replicates=5)
    assert after.labels["No Finding"].auc == pytest.approx(1 - before.labels["No Finding"].auc)
    assert after.mean == before.mean
    assert not after.leakage_checked


def test_undefined_auc_is_null_with_the_reason(run, records, split):
    records = records.with_columns(pl.lit(False).alias("Hernia"), pl.lit(True).alias("Edema"))
    found = auc.evaluate(run / "predictions" / "test.parquet", records, split.frame, replicates=20)
    assert (found.labels["Hernia"].auc, found.labels["Hernia"].reason) == (None, "0 positives")
    assert (found.labels["Edema"].auc, found.labels["Edema"].reason) == (None, "0 negatives")
    assert found.undefined == ["Edema", "Hernia"]
    defined = [found.labels[label].auc for label in PATHOLOGIES if label not in ("Hernia", "Edema")]
    assert found.mean.auc == pytest.approx(np.mean(defined))
    assert (found.mean.labels, found.mean.reason) == (12, "over 12 of 14")


def test_too_few_patients_give_an_auc_without_an_interval(run, records, split):
    """One patient with the finding: a third of the replicates lack it, and the rest would feign certainty."""
    records = records.with_columns((pl.col("patient_id") == "60").alias("Hernia"))
    found = auc.evaluate(run / "predictions" / "test.parquet", records, split.frame, replicates=200)
    hernia = found.labels["Hernia"]
    assert hernia.auc is not None
    assert (hernia.lower, hernia.upper) == (None, None)
    assert hernia.interval_reason.startswith("defined in 1")
    assert hernia.interval_reason.endswith("of 200 replicates")
    assert found.mean.lower is None


def test_part_of_a_subset_is_not_complete(run, records, split):
    path = run / "predictions" / "test.parquet"
    predictions.write(path, make_scores(records, split).head(30), make_info(split))
    found = auc.evaluate(path, records, split.frame, replicates=5)
    assert (found.images, found.subset_images, found.complete) == (30, split.images("test"), False)


def test_evaluate_run_writes_what_it_returns_and_twice_the_same(run, records):
    scores = auc.evaluate_run(run, records, label_release="v2020", replicates=30)
    text = (run / "scores.json").read_text()
    assert results.read(run / "scores.json") == scores
    assert list(scores.subsets) == ["val", "test"]
    assert scores.checkpoint_sha256 == "ab" * 32
    auc.evaluate_run(run, records, replicates=30)
    assert (run / "scores.json").read_text() == text


# Bad predictions


def rewrite(path, frame, **metadata):
    """Write a prediction file without the checks of `predictions.write`."""
    about = json.loads(pl.read_parquet_metadata(path)["cxrkit"]) | metadata
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
    rewrite(path, spoil(predictions.read(path)[0]))
    with pytest.raises(UserError, match=message) as caught:
        predictions.read(path)
    assert str(path) in str(caught.value)
    assert "remedy: " in str(caught.value)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"format_version": 2}, "prediction format version 2; this cxrkit reads version 1"),
        ({"epoch": "seven"}, "its metadata says 'seven' for epoch, expected int"),
        ({"model": None}, "its metadata says None for model, expected str"),
        ({"subset": "train"}, "subset 'train', expected val or test"),
        ({"subset_images": 3}, "images, but the test subset of official has 3"),
    ],
)
def test_bad_prediction_metadata(run, metadata, message):
    path = run / "predictions" / "test.parquet"
    rewrite(path, predictions.read(path)[0], **metadata)
    with pytest.raises(UserError, match=message):
        predictions.read(path)


def test_not_a_prediction_file(tmp_path):
    path = tmp_path / "test.parquet"
    with pytest.raises(UserError, match="there is no such prediction file"):
        predictions.read(path)
    path.write_text("image_id,score\n")
    with pytest.raises(UserError, match="not a readable prediction file"):
        predictions.read(path)
    pl.DataFrame({"a": [1]}).write_parquet(path)
    with pytest.raises(UserError, match='its metadata lacks the key "cxrkit"'):
        predictions.read(path)
    pl.DataFrame({"a": [1]}).write_parquet(path, metadata={"cxrkit": "{"})
    with pytest.raises(UserError, match="its metadata is not valid JSON"):
        predictions.read(path)
    pl.DataFrame({"a": [1]}).write_parquet(path, metadata={"cxrkit": "[]"})
    with pytest.raises(UserError, match="its metadata is not a JSON object"):
        predictions.read(path)


def test_a_refused_write_leaves_the_old_file(run, records, split):
    path = run / "predictions" / "test.parquet"
    before = path.read_bytes()
    with pytest.raises(UserError, match="a NaN comes from a training that diverged"):
        predictions.write(path, make_scores(records, split).with_columns(Mass=pl.lit(float("nan"))), make_info(split))
    assert path.read_bytes() == before
    assert sorted(p.name for p in path.parent.iterdir()) == ["test.parquet", "val.parquet"]


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
def test_images_of_another_subset_are_refused(run, records, split, subset, predicted, message):
    path = run / "predictions" / f"{subset}.parquet"
    foreign = make_scores(records, split, predicted).head(3)
    predictions.write(path, foreign, make_info(split, subset))
    with pytest.raises(UserError, match=message):
        auc.evaluate(path, records, split.frame, replicates=5)


def test_one_trained_image_among_many_is_found(run, records, split):
    path = run / "predictions" / "test.parquet"
    mixed = pl.concat([make_scores(records, split).tail(20), make_scores(records, split, "train").head(1)])
    predictions.write(path, mixed, make_info(split))
    with pytest.raises(UserError, match=r"1 of 21 test images belong to the train subset .* first 00000001_000\.png"):
        auc.evaluate(path, records, split.frame, replicates=5)


def test_patients_that_were_trained_on_are_refused(run, records, split):
    """A split by image: the images differ, their patients do not."""
    last = records.filter(pl.col("patient_id") == "59")["image_id"][0]
    by_image = split.frame.with_columns(
        pl.when(pl.col("image_id") == last).then(pl.lit("train")).otherwise("subset").alias("subset")
    )
    path = run / "predictions" / "test.parquet"
    frame = make_scores(records, split).filter(pl.col("image_id") != last)
    predictions.write(path, frame, make_info(split))
    with pytest.raises(UserError, match="1 patients of the test images are also in train or val, first patient 59"):
        auc.evaluate(path, records, by_image, replicates=5)


def test_subset_size_must_be_that_of_the_split(run, records, split):
    path = run / "predictions" / "test.parquet"
    predictions.write(path, make_scores(records, split), make_info(split, subset_images=99))
    with pytest.raises(UserError, match="says that the test subset has 99 images, but the run's split lists 50"):
        auc.evaluate(path, records, split.frame, replicates=5)


def test_records_of_another_data_set_are_refused(run, records, split):
    path = run / "predictions" / "test.parquet"
    with pytest.raises(UserError, match="10 of 50 predicted images are not in the data set's records, first 00000057"):
        auc.evaluate(path, records.filter(pl.col("patient_id").cast(pl.Int32) <= 56), split.frame, replicates=5)
    renumbered = records.with_columns((pl.col("patient_id").cast(pl.Int32) + 1).cast(pl.String))
    with pytest.raises(UserError, match=r"00000041_000\.png is of patient 41, but the records say 42"):
        auc.evaluate(path, renumbered, split.frame, replicates=5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"replicates": 0}, "0 bootstrap replicates"), ({"confidence": 95.0}, "expected a number between 0 and 1")],
)
def test_bad_settings(run, records, settings, message):
    with pytest.raises(UserError, match=message):
        auc.evaluate_run(run, records, **settings)


def test_a_run_without_predictions(tmp_path, records):
    with pytest.raises(UserError, match=r"no predictions/val\.parquet or predictions/test\.parquet"):
        auc.evaluate_run(tmp_path, records)


def test_a_run_must_be_of_one_checkpoint_and_label_release(run, records, split):
    with pytest.raises(UserError, match="labels of release v2020, but the records are 2017"):
        auc.evaluate_run(run, records, label_release="2017")
    val = run / "predictions" / "val.parquet"
    predictions.write(val, make_scores(records, split, "val"), make_info(split, "val", checkpoint_sha256="cd" * 32))
    with pytest.raises(UserError, match="checkpoint_sha256 is 'abab"):
        auc.evaluate_run(run, records)
    predictions.write(val, make_scores(records, split), make_info(split))
    with pytest.raises(UserError, match=r"val\.parquet: holds predictions of the test subset"):
        auc.evaluate_run(run, records)


def test_a_run_whose_split_was_changed(run, records, split):
    split.frame.with_columns(pl.lit("test").alias("subset")).write_parquet(run / "split.parquet")
    with pytest.raises(UserError, match=r"split\.parquet: this split has digest .* but the predictions were made for"):
        auc.evaluate_run(run, records)
    (run / "split.parquet").write_text("gone")
    with pytest.raises(UserError, match=r"split\.parquet: not a readable split"):
        auc.evaluate_run(run, records)
    assert not (run / "scores.json").exists()


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
        (["schema_version"], 2, "scores of schema version 2; this cxrkit reads version 1"),
        (["model"], None, "model is missing"),
        (["epoch"], "7", r"epoch is '7' \(str\), expected int"),
        (["epoch"], True, r"epoch is True \(bool\), expected int"),
        (["subsets"], [], r"subsets is \[\] \(list\), expected an object"),
        (["subsets", "test"], 1, r"subsets\.test is 1 \(int\), expected an object"),
        (["subsets", "test", "labels", "Mass", "auc"], 1.5, r"an AUC of Mass is 1\.5, outside \[0, 1\]"),
        (["subsets", "test", "labels", "Mass"], None, r"subsets\.test\.labels are Cardiomegaly, .*; expected"),
        (["subsets", "test", "mean", "auc"], "high", r"subsets\.test\.mean\.auc is 'high' \(str\), expected float"),
        (["subsets", "test", "images"], 1000, r"subsets\.test\.images is 1000 of 50"),
        (["subsets", "test", "subset"], "val", r"subsets\.test\.subset is 'val'"),
    ],
)
def test_broken_scores_name_the_field(run, records, where, new, message):
    auc.evaluate_run(run, records, replicates=2)
    path = run / "scores.json"
    value = json.loads(path.read_text())
    change(value, where, new)
    path.write_text(json.dumps(value))
    with pytest.raises(UserError, match=message) as caught:
        results.read(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"), [("{", "the scores file is not valid JSON"), ("[]", "expected a JSON object, found")]
)
def test_scores_that_are_no_object(tmp_path, text, message):
    path = tmp_path / "scores.json"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        results.read(path)
