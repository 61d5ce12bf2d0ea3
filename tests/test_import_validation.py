"""Validation predictions of an import: those of the split, or of images of the model's own, in one file or in two."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import chestxray14_facts
import numpy as np
import polars as pl
import pytest
from rich.console import Console
from sklearn.metrics import roc_curve
from tiny_tables import small_cohort, write_raw

from cxrkit import pipeline
from cxrkit.base.contracts import NO_FINDING, PATHOLOGIES
from cxrkit.base.errors import UserError
from cxrkit.base.labels import CHESTXRAY14
from cxrkit.datasets import splits
from cxrkit.datasets.known_splits import list_digest
from cxrkit.evaluators.scoring import evaluate_run
from cxrkit.imports import placing, splitting
from cxrkit.imports.cohort import NIH, Cohort
from cxrkit.imports.importing import import_predictions
from cxrkit.imports.reading import Chosen, Read
from cxrkit.imports.request import ImportRequest
from cxrkit.imports.scored_file import ScoredFile
from cxrkit.runs.folder import RunFolder
from cxrkit.runs.imported import read_imported
from cxrkit.runs.scores import Scores

COHORT = small_cohort()
TEST = COHORT.filter(pl.col("official") == "test")
REST = COHORT.filter(pl.col("official") == "train_val")
PATIENT = pl.col("patient_id").cast(pl.Int32)
OWN = REST.filter(PATIENT > 30)  # a validation set that is not that of our split
TRAINED = REST.filter(PATIENT <= 30)


def scored(frame: pl.DataFrame, seed: int = 1) -> pl.DataFrame:
    """Return predictions that know a little, as most people write them: without No Finding."""
    noise_NL = np.random.default_rng(seed).random((len(frame), len(PATHOLOGIES)))
    score_NL = 0.3 * frame.select(PATHOLOGIES).to_numpy() + 0.7 * noise_NL
    return frame.select("image_id").hstack(pl.DataFrame(score_NL, schema=list(PATHOLOGIES)))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with raw/ and files of predictions."""
    folder = tmp_path_factory.mktemp("validation")
    write_raw(folder / "raw", COHORT)
    scored(TEST).write_csv(folder / "test.csv")
    scored(OWN, 2).write_csv(folder / "val.csv")
    pl.concat([scored(TEST), scored(OWN, 2)]).write_csv(folder / "both.csv")
    return folder


@pytest.fixture
def asked(files: Path, tmp_path: Path) -> ImportRequest:
    return ImportRequest(files / "test.csv", "mine", "official", raw=files / "raw", runs=tmp_path / "runs")


def written(path: Path, frame: pl.DataFrame) -> Path:
    frame.write_csv(path)
    return path


def do(request: ImportRequest, evaluator: str = "auc", **changes: Any) -> Scores:
    made = import_predictions(replace(request, **changes))
    return evaluate_run(made.run.path, made.truth, evaluator, {"replicates": 2})


# Images of its own


def test_two_files_make_one_run_with_thresholds(asked: ImportRequest, files: Path) -> None:
    alone = do(asked, name="alone")
    scores = do(asked, "auc,calibration,thresholds", val=files / "val.csv")
    test, val = scores.subsets["test"], scores.subsets["val"]
    assert (test.images_digest, scores.origin.split_digest) == (
        alone.subsets["test"].images_digest,
        alone.origin.split_digest,
    ), "its test stands where it stood"
    assert (val.images, val.subset_images, val.patients) == (len(OWN), len(OWN), OWN["patient_id"].n_unique())
    assert (scores.origin.validation_images, scores.origin.validation_digest) == (
        len(OWN),
        list_digest(OWN["image_id"]),
    )
    predicted = scored(OWN, 2)
    for label in PATHOLOGIES:
        false, true, threshold = roc_curve(OWN[label], predicted[label], drop_intermediate=False)
        found = test.metric("threshold", label)
        assert found is not None
        assert found.value == pytest.approx(threshold[np.argmax(true - false)], abs=1e-12)
    temperature = test.metric("temperature")
    assert temperature is not None
    assert temperature.value is not None
    run = RunFolder.of(asked.runs, "mine", "official")
    said = read_imported(run.imported).validation
    assert said is not None
    assert (said.images, said.patients, said.own) == (len(OWN), OWN["patient_id"].n_unique(), True)
    assert Path(said.file).name == "val.csv"


def test_what_is_added_later_is_as_if_it_had_come_at_once(asked: ImportRequest, files: Path) -> None:
    at_once = do(asked, val=files / "val.csv", name="mine", runs=asked.runs / "other")
    do(asked)
    made = import_predictions(replace(asked, file=files / "val.csv", subsets=("val",)))
    assert made.notes[0] == "added to the test predictions of before"
    assert made.notes[1].startswith(f"{len(OWN)} validation images of {OWN['patient_id'].n_unique()} patients, as dec")
    assert made.run.state() == "predicted", "the scores of before are gone: they knew no validation images"
    scores = evaluate_run(made.run.path, made.truth, options={"replicates": 2})
    assert scores == at_once
    validation = read_imported(asked.runs / "other" / "mine" / "official" / "import.json").validation
    assert read_imported(made.run.imported).validation == validation
    with pytest.raises(UserError, match=r"already holds imported predictions of (test and val|val and test)"):
        import_predictions(replace(asked, file=files / "val.csv", subsets=("val",)))


def test_the_validation_images_of_the_split_are_those(asked: ImportRequest, files: Path, tmp_path: Path) -> None:
    split = splits.make(COHORT, "official").frame
    ours = COHORT.join(split.filter(pl.col("subset") == "val").select("image_id"), on="image_id", how="semi")
    file = written(tmp_path / "ours.csv", scored(ours))
    scores = do(asked, val=file)
    assert (scores.origin.validation_images, scores.origin.validation_digest) == (0, "")
    assert scores.subsets["val"].images == len(ours)
    run = RunFolder.of(asked.runs, "mine", "official")
    assert not run.validation_list.exists()
    said = read_imported(run.imported).validation
    assert said is not None
    assert not said.own
    # They may come first; what comes next is said, and works.
    console = Console(record=True, width=200)
    pipeline.import_predictions(replace(asked, file=file, subsets=("val",), name="first"), console)
    said = console.export_text()
    assert re.search(r"next: cxrkit import TEST.csv --name first --subset test --raw \S+csv --runs", said)
    made = import_predictions(replace(asked, subsets=("test",), name="first"))
    assert made.notes[0] == "added to the val predictions of before"
    assert read_imported(made.run.imported).file == str(files / "test.csv")
    found = evaluate_run(made.run.path, made.truth, options={"replicates": 2})
    assert {name: part.metrics for name, part in found.subsets.items()} == {
        name: part.metrics for name, part in scores.subsets.items()
    }


def test_a_table_of_subsets_says_which_validate(asked: ImportRequest, files: Path, tmp_path: Path) -> None:
    parts = {"test": TEST, "val": OWN, "train": TRAINED}
    table = pl.concat([frame.select("image_id", subset=pl.lit(name)) for name, frame in parts.items()])
    scores = do(asked, file=files / "both.csv", split=str(written(tmp_path / "own.csv", table)))
    assert {name: part.images for name, part in scores.subsets.items()} == {"test": len(TEST), "val": len(OWN)}
    assert scores.origin.split == "file-own"
    assert scores.origin.validation_digest == "", "val is that of the split, which is the table"
    first = replace(asked, file=files / "both.csv", split=str(tmp_path / "own.csv"), name="first")
    import_predictions(replace(first, subsets=("val",)))
    made = import_predictions(replace(first, subsets=("test",)))
    assert not any("left out" in note for note in made.notes), "what lies there is not left out"
    found = evaluate_run(made.run.path, made.truth, options={"replicates": 2})
    assert found.subsets["test"].metrics == scores.subsets["test"].metrics


def test_an_earlier_import_says_nothing_of_validation(asked: ImportRequest, files: Path) -> None:
    run = import_predictions(asked).run
    before = json.loads(run.imported.read_text())
    del before["validation"]
    run.imported.write_text(json.dumps(before))
    assert read_imported(run.imported).validation is None
    import_predictions(replace(asked, file=files / "val.csv", subsets=("val",)))
    assert read_imported(run.imported).validation is not None


# What is refused


def test_who_is_tested_or_trained_on_does_not_validate(asked: ImportRequest, files: Path, tmp_path: Path) -> None:
    for frame, message in (
        (TEST, rf"{len(TEST)} of its {len(TEST)} validation images are test images of split official, and 20 of"),
        (
            pl.concat([OWN, TEST.head(1)]),
            r"1 of its \d+ validation images is a test image .* and 1 of their pat",
        ),
    ):
        with pytest.raises(UserError, match=message):
            import_predictions(replace(asked, val=written(tmp_path / "x.csv", scored(frame))))
    trained = tmp_path / "train.txt"
    images = OWN.filter(pl.col("patient_id").is_duplicated())["image_id"]
    trained.write_text("\n".join([*TRAINED["image_id"], images[0]]))
    with pytest.raises(UserError, match=rf"1 of the {len(OWN)} validation images is among its training images, and"):
        import_predictions(replace(asked, val=files / "val.csv", trained_on=trained))
    rest = written(tmp_path / "rest.csv", scored(OWN.filter(pl.col("image_id") != images[0])))
    with pytest.raises(UserError, match=rf"0 of the {len(OWN) - 1} validation images are among .* and 1 of their"):
        import_predictions(replace(asked, val=rest, trained_on=trained))
    assert not asked.runs.exists(), "nothing is written"
    import_predictions(replace(asked, trained_on=trained))
    with pytest.raises(UserError, match=r"training.parquet and .*val.csv: 1 of the \d+ validation images is among"):
        import_predictions(replace(asked, file=files / "val.csv", subsets=("val",)))


def test_what_is_added_is_of_the_same_model(asked: ImportRequest, files: Path, tmp_path: Path) -> None:
    whole = scored(TEST).with_columns(pl.lit(0.5).alias(NO_FINDING))
    run = import_predictions(replace(asked, file=written(tmp_path / "whole.csv", whole))).run
    before = {path: path.read_bytes() for path in sorted(run.path.rglob("*")) if path.is_file()}
    val = replace(asked, file=files / "val.csv", subsets=("val",))
    with pytest.raises(UserError, match=r"val.csv: no column of scores for No Finding, which .*test.parquet has"):
        import_predictions(val)
    (tmp_path / "about.toml").write_text('model = "another"')
    with pytest.raises(UserError, match=r"about.toml: says something else of the model than at the import"):
        import_predictions(replace(val, about=tmp_path / "about.toml"))
    (tmp_path / "train.txt").write_text("\n".join(TRAINED["image_id"]))
    with pytest.raises(UserError, match=r"train.txt: other training images than at the import"):
        import_predictions(replace(val, trained_on=tmp_path / "train.txt"))
    assert {path: path.read_bytes() for path in sorted(run.path.rglob("*")) if path.is_file()} == before


def test_what_one_file_knows_more_is_left_out(asked: ImportRequest, tmp_path: Path) -> None:
    more = written(tmp_path / "more.csv", scored(OWN, 2).with_columns(pl.lit(0.5).alias(NO_FINDING)))
    scores = do(asked, "auc,thresholds", val=more)
    assert all(part.metric("auc", NO_FINDING) is None for part in scores.subsets.values())


def test_the_declared_images_are_looked_at_again(asked: ImportRequest, files: Path) -> None:
    made = import_predictions(replace(asked, val=files / "val.csv"))
    listed = pl.read_parquet(made.run.validation_list)
    assert listed["image_id"].to_list() == OWN["image_id"].sort().to_list()
    listed.head(3).write_parquet(made.run.validation_list)
    with pytest.raises(UserError, match=r"validation.parquet: holds validation images with digest"):
        evaluate_run(made.run.path, made.truth)
    made.run.validation_list.unlink()
    with pytest.raises(UserError, match=r"validation.parquet: the declared validation images cannot be read"):
        evaluate_run(made.run.path, made.truth)


# What is hard to believe


def doubts_of(request: ImportRequest) -> str:
    console = Console(record=True, width=300)
    pipeline.import_predictions(request, console)
    return console.export_text()


def test_implausible_files_are_doubted(asked: ImportRequest, files: Path, tmp_path: Path) -> None:
    good = scored(TEST)
    said = doubts_of(replace(asked, val=files / "val.csv"))
    assert "doubtful" not in said
    assert "thresholds: cxrkit evaluate" in said
    knows_nothing = scored(TEST.with_columns(pl.lit(False).alias(name) for name in PATHOLOGIES))
    said = doubts_of(replace(asked, file=written(tmp_path / "r.csv", knows_nothing), name="r"))
    assert re.search(r"doubtful: the mean AUC on test, 0\.[45]\d+, is that of chance", said)
    inverse = written(tmp_path / "i.csv", good.with_columns((1 - pl.col(name)).alias(name) for name in PATHOLOGIES))
    said = doubts_of(replace(asked, file=inverse, name="i"))
    assert "below 0.5: do high scores stand for the absence of a finding?" in said
    decided = good.with_columns((pl.col(name) > 0.5).cast(pl.Float64) for name in PATHOLOGIES)
    said = doubts_of(replace(asked, file=written(tmp_path / "d.csv", decided), name="d"))
    assert "all 14 columns of scores hold two different values only: decisions, not scores?" in said
    one = good.with_columns((pl.col("Mass") > 0.5).cast(pl.Float64))
    said = doubts_of(replace(asked, file=written(tmp_path / "o.csv", one), name="o"))
    assert "Mass holds two different values only" in said
    assert "the same file, byte by byte, as that of run mine" in doubts_of(replace(asked, name="again"))


# The real data set, without its images


@pytest.fixture(scope="module")
def real() -> Cohort:
    return Cohort(Path("real"), NIH, "v2020", CHESTXRAY14, chestxray14_facts.records())


def file_of(images: pl.DataFrame) -> ScoredFile:
    frame = images.select("image_id", "patient_id", pl.lit(0.5).alias("Mass"))
    return ScoredFile(Read(Path("x.csv"), "", frame), Chosen("image_id", {"Mass": "Mass"}, ()), frame)


def test_a_table_of_the_official_test_keeps_its_own_validation_images(real: Cohort, tmp_path: Path) -> None:
    own = pl.col("image_id").hash(seed=1) % 7 == 0
    patients = real.frame.filter(own & (pl.col("official") == "train_val"))["patient_id"].unique()
    mine = pl.col("patient_id").is_in(patients.implode()) & (pl.col("official") != "test")
    subset = pl.when(pl.col("official") == "test").then(pl.lit("test")).when(mine).then(pl.lit("val"))
    table = real.frame.select("image_id", "patient_id", subset=subset.otherwise(pl.lit("train")))
    asked = splitting.split_of(str(written(tmp_path / "t.csv", table.drop("patient_id"))), real)
    assert (asked.split.name, asked.own_validation) == ("official", True)
    assert asked.split.digest == splits.make(real.frame, "official").digest
    parts = placing.place(file_of(table), asked, ("test", "val"), real)
    assert [(len(part.frame), part.own) for part in parts.values()] == [
        (25596, False),
        (table.filter(pl.col("subset") == "val").height, True),
    ]


def test_images_of_another_split_are_not_taken_for_a_part_of_this_one(real: Cohort) -> None:
    official = splitting.split_of("official", real)
    other = splits.make(real.frame, "resample-1").frame.filter(pl.col("subset") == "test")
    random = real.frame.sample(22000, seed=1)
    val = official.listed("val")
    for frame, message in (
        (other.head(20000), r"20,000 of them are in the test subset of split resample-1\n.*give --split resample-1"),
        (random, r"only [\d,]+ of 22,000 .*; nor are they a subset of another known split\n.*--split FILE"),
        (val, r"none of its 10,817 images is in the test .* \(10,817 in val\)\n.*give --subset val"),
    ):
        with pytest.raises(UserError, match=message):
            placing.place(file_of(frame), official, ("test",), real)
    whole = placing.place(file_of(real.frame), official, ("test",), real)["test"]
    assert len(whole.missing) == 0, "a file of the whole data set has all of the test images"
    missing = placing.place(file_of(official.listed("test").tail(-3)), official, ("test",), real)
    _, lost = placing.coverage_notes(missing, "official")
    assert lost.startswith("3 of 25,596 test images are missing, the first 00000003_000.png")
