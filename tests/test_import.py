"""Predictions from elsewhere: every way to write them, every mistake in them, and the run that they become."""

from __future__ import annotations

import gzip
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import chestxray14_facts
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from sklearn.metrics import roc_auc_score
from tiny_tables import small_cohort, write_raw
from typer.testing import CliRunner

from cxrkit import pipeline
from cxrkit import report as reports
from cxrkit.base.contracts import LABELS, NO_FINDING, PATHOLOGIES
from cxrkit.base.errors import UserError
from cxrkit.base.labels import CHESTXRAY14, CHEXPERT
from cxrkit.cli.app import app
from cxrkit.datasets import splits
from cxrkit.evaluators.scoring import evaluate_run
from cxrkit.imports import cohort as cohorts
from cxrkit.imports.checking import sigmoid
from cxrkit.imports.importing import ImportRequest, import_predictions
from cxrkit.imports.label_names import label_of
from cxrkit.prepare.stage import PrepareConfig, prepare_raw
from cxrkit.runs.folder import RunFolder
from cxrkit.runs.imported import read_imported
from cxrkit.runs.predictions import read_predictions
from cxrkit.runs.scores import Scores, read_scores

COHORT = small_cohort()
TEST = COHORT.filter(pl.col("official") == "test")
NOISE = np.random.default_rng(1).random((len(TEST), len(LABELS)))
# A model that knows a little: (N, L) probabilities, in the order of TEST and LABELS.
SCORE_NL = 0.3 * TEST.select(LABELS).to_numpy().astype(np.float64) + 0.7 * NOISE


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_raw(tmp_path_factory.mktemp("import") / "raw", COHORT)


def predictions(**columns: Any) -> pl.DataFrame:
    """Return a file's table as most people write it; columns: to add or replace."""
    scores = pl.DataFrame(SCORE_NL, schema=list(LABELS))
    return TEST.select("image_id").hstack(scores).with_columns(**columns)


def csv(path: Path, frame: pl.DataFrame | None = None) -> Path:
    (predictions() if frame is None else frame).write_csv(path)
    return path


@pytest.fixture
def asked(raw: Path, tmp_path: Path) -> ImportRequest:
    file = csv(tmp_path / "mine.csv")
    return ImportRequest(file, "mine", "official", raw=raw, runs=tmp_path / "runs")


def do(request: ImportRequest, **changes: Any) -> Scores:
    """Import and evaluate, with few replicates: intervals are not looked at here."""
    made = import_predictions(replace(request, **changes))
    return evaluate_run(made.run.path, made.truth, options={"replicates": 2})


def aucs(scores: Scores, subset: str = "test") -> dict[str, float | None]:
    return {str(metric.label): metric.value for metric in scores.subsets[subset].metrics if metric.label is not None}


def by_sklearn(truth: pl.DataFrame, score_NL: np.ndarray) -> dict[str, float]:
    return {label: float(roc_auc_score(truth[label], score_NL[:, place])) for place, label in enumerate(LABELS)}


EXPECTED = by_sklearn(TEST, SCORE_NL)


# A run like any other


def test_a_file_becomes_a_run(asked: ImportRequest, raw: Path) -> None:
    console = Console(record=True, width=120)
    run = pipeline.import_predictions(asked, console)
    assert run == RunFolder(asked.runs / "mine" / "official")
    assert run.state() == "scored"
    scores = read_scores(run.scores)
    assert aucs(scores) == pytest.approx(EXPECTED, abs=1e-12)
    origin = scores.origin
    assert (origin.basis.labels, origin.basis.split) == ("checked", "checked")
    assert (origin.basis.training, origin.basis.pixels, origin.basis.pretraining) == ("unknown",) * 3
    assert (origin.train_images, origin.pretraining) == (0, "unknown")
    assert not scores.subsets["test"].leakage_checked
    imported = read_imported(run.imported)
    assert imported.truth == raw / "Data_Entry_2017_v2020.csv"
    assert imported.columns["Hernia"] == "Hernia"
    said = console.export_text()
    assert f"{len(TEST)} of {len(TEST)} test images of split official" in said
    assert "Mean AUC on test: 0." in said
    # Evaluated again from what the folder says, the numbers are found again.
    before = run.scores.read_text()
    pipeline.evaluate(run, None, Console(quiet=True))
    assert run.scores.read_text() == before


def test_states_of_an_imported_run(asked: ImportRequest) -> None:
    run = import_predictions(asked).run
    assert run.state() == "predicted"
    pipeline.evaluate(run, None, Console(quiet=True), replicates=2)
    assert run.state() == "scored"
    run.predictions("test").unlink()
    assert run.state() == "new"


def test_it_is_no_training(asked: ImportRequest) -> None:
    run = import_predictions(asked).run
    with pytest.raises(UserError, match="holds predictions that were imported; there is no network to ask"):
        pipeline.predict(run, Console(quiet=True))
    values = {"name": "mine", "runs": asked.runs, "data": asked.runs, "device": "cpu"}
    config = pipeline.resolve(values, recipe="mlp-meta", resume=True)
    for resume in (True, False):
        with pytest.raises(UserError, match="there is no training to go on with\n  remedy: choose another --name"):
            pipeline.train(config, resume, Console(quiet=True))
    with pytest.raises(UserError, match="already holds imported predictions of test\n  remedy: choose another --name"):
        import_predictions(asked)


def test_an_import_that_was_cut_off_is_begun_again(asked: ImportRequest) -> None:
    run = import_predictions(asked).run
    run.imported.unlink()  # it is written last
    run.predictions("test").rename(run.predictions("val"))
    assert run.state() == "new"
    assert aucs(do(asked)) == pytest.approx(EXPECTED, abs=1e-12)
    assert not run.predictions("val").exists()


def test_a_training_is_not_written_over(asked: ImportRequest) -> None:
    run = RunFolder.of(asked.runs, "mine", "official")
    run.path.mkdir(parents=True)
    run.config.write_text("")
    with pytest.raises(UserError, match="already holds a training"):
        import_predictions(asked)
    assert [path.name for path in run.path.iterdir()] == ["config.toml"]


@pytest.mark.parametrize("kind", ["prepared folder of tables", "csv alone", "folder"])
def test_where_labels_come_from(asked: ImportRequest, raw: Path, tmp_path: Path, kind: str) -> None:
    if kind == "prepared folder of tables":
        prepare_raw(PrepareConfig(raw=raw, data=tmp_path / "tables", tables_only=True))
        scores = do(asked, raw=None, data=tmp_path / "tables")
    elif kind == "csv alone":
        # Without NIH's lists their roster says which images test; ours are others, so the list is given.
        shutil.copy(raw / "Data_Entry_2017_v2020.csv", tmp_path)
        (tmp_path / "test.txt").write_text("\n".join(TEST["image_id"]))
        scores = do(asked, raw=tmp_path / "Data_Entry_2017_v2020.csv", split=str(tmp_path / "test.txt"))
    else:
        scores = do(asked)
    assert aucs(scores) == pytest.approx(EXPECTED, abs=1e-12)


def test_labels_of_another_data_set(asked: ImportRequest, tmp_path: Path) -> None:
    cohort = write_raw(tmp_path / "phantoms", COHORT, synthetic=True)
    found = cohorts.read(cohort, None, "synthetic")
    test = found.frame.filter(pl.col("official") == "test")
    frame = test.select("image_id", *(pl.lit(0.5).alias(label) for label in LABELS))
    frame = frame.with_columns(Mass=pl.int_range(pl.len()) / pl.len())
    scores = do(asked, file=csv(tmp_path / "phantom.csv", frame), raw=cohort, dataset="synthetic")
    assert scores.origin.dataset == "synthetic"
    run = RunFolder.of(asked.runs, "mine", "official")
    with pytest.raises(UserError, match="imported with the labels of a raw folder\n  remedy: name a prepared folder"):
        pipeline.evaluate(run, None, Console(quiet=True))


# Ways to write predictions

SPELLED = {"Pleural_Thickening": "Pleural Thicken.", "Infiltration": "Infiltrate", "Effusion": "Pleural Effusion"}


def as_npz_matrix(path: Path, frame: pl.DataFrame) -> None:
    names = frame.drop("image_id").columns
    np.savez(
        path, image_ids=np.array(frame["image_id"].to_list()), labels=np.array(names), preds=frame[names].to_numpy()
    )


def as_npz_columns(path: Path, frame: pl.DataFrame) -> None:
    np.savez(
        path, **{name: frame[name].to_numpy().astype("U" if name == "image_id" else float) for name in frame.columns}
    )


def packed(path: Path, frame: pl.DataFrame) -> None:
    path.write_bytes(gzip.compress(frame.write_csv().encode()))


WRITERS: dict[str, Callable[[Path, pl.DataFrame], Any]] = {
    "a.csv": lambda path, frame: frame.write_csv(path),
    "b.csv.gz": packed,
    "c.tsv": lambda path, frame: frame.write_csv(path, separator="\t"),
    "d.csv": lambda path, frame: frame.write_csv(path, separator=";"),
    "e.csv": lambda path, frame: path.write_bytes(frame.write_csv(line_terminator="\r\n").encode("utf-16")),
    "f.parquet": lambda path, frame: frame.write_parquet(path),
    "g.npz": as_npz_matrix,
    "h.npz": as_npz_columns,
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format(asked: ImportRequest, tmp_path: Path, name: str) -> None:
    """Shuffled, labels in another order and in other spellings."""
    frame = predictions().sample(fraction=1, shuffle=True, seed=3)
    frame = frame.select("image_id", *reversed(LABELS)).rename(SPELLED)
    WRITERS[name](tmp_path / name, frame)
    assert aucs(do(asked, file=tmp_path / name)) == pytest.approx(EXPECTED, abs=1e-12)


@pytest.mark.parametrize(
    ("column", "form"),
    [
        ("Image Index", "{}.png"),
        ("path", "/data/images_001/{}.png"),
        ("filename", "{}"),
        ("img", "images\\{}.jpg"),
        ("", "{}.png"),
        ("what_it_is_of", "{}.dcm"),
    ],
)
def test_every_way_to_name_images(asked: ImportRequest, column: str, form: str, tmp_path: Path) -> None:
    names = [form.format(name.removesuffix(".png")) for name in TEST["image_id"]]
    frame = pl.DataFrame({"id": range(len(TEST)), column: names}).hstack(predictions().drop("image_id"))
    assert aucs(do(asked, file=csv(tmp_path / "x.csv", frame))) == pytest.approx(EXPECTED, abs=1e-12)


@pytest.mark.parametrize("pattern", ["prob_{label}", "{label} (score)", "y[{label}]"])
def test_columns_by_pattern_beside_the_truth(asked: ImportRequest, tmp_path: Path, pattern: str) -> None:
    scores = predictions().rename({label: pattern.replace("{label}", label) for label in LABELS})
    frame = scores.hstack(TEST.select(pl.col(LABELS).cast(pl.Int8))).with_columns(
        pl.lit(0.5).alias(pattern.replace("{label}", "Fracture"))
    )
    file = csv(tmp_path / "x.csv", frame)
    made = import_predictions(replace(asked, file=file, columns=pattern))
    assert aucs(evaluate_run(made.run.path, made.truth, options={"replicates": 2})) == pytest.approx(
        EXPECTED, abs=1e-12
    )
    assert any("of no label of chestxray14: " + pattern.replace("{label}", "Fracture") in note for note in made.notes)
    with pytest.raises(UserError, match="its scores are the labels themselves, in every row"):
        do(asked, file=file, name="truth")


def test_spellings() -> None:
    for said, label in {
        "Pleural Thickening": "Pleural_Thickening",
        "PLEURAL_THICKENING": "Pleural_Thickening",
        "Pleural_Thicken.": "Pleural_Thickening",
        "no finding": NO_FINDING,
        "No_Findings": NO_FINDING,
        "Pleural Effusion": "Effusion",
        "Normal": None,
        "": None,
        "Lung Lesion": None,
    }.items():
        assert label_of(said, CHESTXRAY14) == label
    for label in LABELS:
        assert label_of(label, CHESTXRAY14) == label
    assert label_of("Effusion", CHEXPERT) == "Pleural Effusion"


def test_spaces_behind_commas_and_categories(asked: ImportRequest, tmp_path: Path) -> None:
    """The notes read the file as the numbers do; and pandas' categories are text."""
    spaced = tmp_path / "spaced.csv"
    spaced.write_text(asked.file.read_text().replace(",", ", "))
    made = import_predictions(replace(asked, file=spaced, logits=True))
    assert any("all values lie within 0 and 1" in note for note in made.notes)
    coded = tmp_path / "coded.parquet"
    predictions().with_columns(pl.col("image_id").cast(pl.Categorical)).write_parquet(coded)
    assert aucs(do(asked, file=coded, name="coded")) == pytest.approx(EXPECTED, abs=1e-12)


def test_without_no_finding(asked: ImportRequest, tmp_path: Path) -> None:
    file = csv(tmp_path / "x.csv", predictions().drop(NO_FINDING))
    made = import_predictions(replace(asked, file=file))
    assert any("no scores of No Finding" in note for note in made.notes)
    scores = evaluate_run(made.run.path, made.truth, options={"replicates": 2})
    found = aucs(scores)
    assert found == pytest.approx({label: EXPECTED[label] for label in PATHOLOGIES}, abs=1e-12)
    mean = scores.subsets["test"].metric("auc")
    assert mean is not None
    assert (mean.labels, mean.value) == (14, pytest.approx(np.mean([EXPECTED[label] for label in PATHOLOGIES])))
    stored = read_predictions(made.run.predictions("test"))
    assert stored.about.unscored == (NO_FINDING,)
    assert stored.frame[NO_FINDING].null_count() == len(TEST)
    # Beside a run that has it, the table lines up: a dash stands where there is no number.
    do(asked, name="whole")
    text = reports.render(reports.official(asked.runs), "md")
    row = next(line for line in text.splitlines() if line.startswith("| No Finding") and "n/a" not in line)
    assert "| - |" in row


@settings(max_examples=12, deadline=None)
@given(data=st.data(), logits=st.booleans(), ending=st.sampled_from(["csv", "parquet"]))
def test_any_file_has_the_aucs_of_scikit_learn(raw: Path, data: st.DataObject, logits: bool, ending: str) -> None:
    """Ties, values that float32 would make equal, and logits that are all 1 as probabilities."""
    low, high = (-1e4, 1e4) if logits else (0, 1)
    values = st.floats(low, high, allow_nan=False) | st.sampled_from([low, high, (low + high) / 2])
    near = data.draw(values)
    spread = st.integers(0, 30).map(lambda steps: float(np.clip(near + steps * 1e-13, low, high)))
    column = st.lists(values | spread, min_size=len(TEST), max_size=len(TEST))
    score_NL = np.array([data.draw(column) if place < 2 else NOISE[:, place] for place in range(len(LABELS))]).T
    frame = TEST.select("image_id").hstack(pl.DataFrame(score_NL, schema=list(LABELS)))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"x.{ending}"
        frame.write_csv(file) if ending == "csv" else frame.write_parquet(file)
        asked = ImportRequest(file, "any", "official", raw=raw, logits=logits, runs=Path(folder))
        found = aucs(do(asked))
    assert found == pytest.approx(by_sklearn(TEST, score_NL), abs=1e-12)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60), st.sampled_from([1.0, 1e-12, 1e-300]))
def test_the_sigmoid_keeps_the_order(values: list[float], scale: float) -> None:
    logit_N = np.array(values) * scale
    probability_N = sigmoid(logit_N)
    assert ((probability_N >= 0) & (probability_N <= 1)).all()
    assert (np.unique(probability_N, return_inverse=True)[1] == np.unique(logit_N, return_inverse=True)[1]).all()
    with np.errstate(over="ignore"):
        assert np.abs(probability_N - 1 / (1 + np.exp(-logit_N))).max() < 1e-13


# What is wrong with a file


def without(name: str) -> pl.DataFrame:
    return predictions().drop(name)


def with_cell(column: str, row: int, value: object) -> pl.DataFrame:
    frame = predictions()
    cells = frame[column].to_list()
    cells[row] = value
    return frame.with_columns(pl.Series(column, cells, strict=False))


FIRST = TEST["image_id"][0]
TRAINED = COHORT.filter(pl.col("official") == "train_val")


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (without("Hernia"), "no column of scores for Hernia; found Cardiomegaly.*remedy: name a column for each of"),
        (without("Hernia").with_columns(Herniaa=0.5), "'Herniaa' is no label of chestxray14; did you mean Hernia?"),
        (predictions(Infiltrate=0.5), "columns 'Infiltration' and 'Infiltrate' are both of Infiltration"),
        (without("image_id"), "no column of image names; found Cardiomegaly"),
        (predictions().head(0), "has no rows"),
        (with_cell("image_id", 0, None), "1 row without an image name"),
        (with_cell("image_id", 0, "00009999_000.png"), "1 of .* not in the data set, first\n?.*'00009999_000.png'"),
        (with_cell("image_id", 1, f"x/{FIRST}"), rf"1 image has more than one row, first {FIRST} \(2 times\)"),
        (with_cell("Mass", 0, float("nan")), rf"Mass of {FIRST} is (nan|NaN), expected a number \(1 such row\)"),
        (with_cell("Mass", 0, None), f"Mass of {FIRST} is empty, expected a number"),
        (with_cell("Mass", 0, float("inf")), f"Mass of {FIRST} is inf, expected a number"),
        (predictions(Mass=pl.lit("high")), f"Mass of {FIRST} is high, expected a number"),
        (predictions(Mass=pl.col("Mass") * 100), "Mass of .* outside 0 to 1 .*\n  remedy: say --logits if"),
        (predictions(image_id=TRAINED["image_id"][: len(TEST)]), "none of its .* is in the test subset of split of"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_mistakes(asked: ImportRequest, tmp_path: Path, frame: pl.DataFrame, message: str, ending: str) -> None:
    file = tmp_path / f"x.{ending}"
    frame.write_csv(file) if ending == "csv" else frame.write_parquet(file)
    with pytest.raises(UserError, match=f"(?s){message}") as error:
        import_predictions(replace(asked, file=file))
    assert error.value.remedy
    assert not asked.runs.exists(), "nothing is written"


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"ids": np.array(TEST["image_id"].to_list()), "p": SCORE_NL},
            "no array says which labels the 15 columns of 'p'",
        ),
        ({"labels": np.array(LABELS), "a": SCORE_NL, "b": SCORE_NL}, "2 arrays with two axes, a, b; expected one"),
        ({"labels": np.array(["Mass", "Mass"]), "p": np.zeros((3, 2))}, "'labels' names Mass more than once"),
        ({"p": np.zeros((3, 2, 1))}, "no array with one axis or two"),
        ({"ids": np.array(["a"]), "Mass": np.zeros(3)}, "its arrays are of different lengths .ids 1, Mass 3"),
        ({"ids": np.array(["a", None]), "Mass": np.zeros(2)}, "not a readable .npz"),
    ],
)
def test_mistakes_in_npz(asked: ImportRequest, tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(UserError, match=message):
        import_predictions(replace(asked, file=tmp_path / "x.npz"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"file": Path("nowhere.csv")}, "nowhere.csv: there is no such file"),
        ({"split": "resample-9"}, "--split resample-9: there is no such split, and no such file"),
        ({"columns": "prob"}, "--columns prob: expected {label} once"),
        ({"columns": "p_{label}"}, "no column of scores for 14 of 14 labels"),
        ({"raw": None}, "--raw and --data: none of them is given"),
        ({"raw": Path("nowhere")}, "nowhere: there is no such folder or file"),
        ({"about": Path("nowhere.toml")}, "--about nowhere.toml: there is no such file"),
        ({"trained_on": Path("nowhere.txt")}, "nowhere.txt: there is no such file"),
        ({"name": ".."}, "--name '..': not the name of a folder"),
        ({"name": "../x"}, "--name '../x': holds /, and a run is a folder of that name\n.*give --name 'x'"),
        ({"name": "my model/1"}, "give --name 'my model-1'"),
        ({"val": Path("v.csv"), "subsets": ("test", "val")}, "--val v.csv and --subset val: both say where"),
        ({"subsets": ("val",)}, "none of its .* images is in the val subset of split official"),
    ],
)
def test_mistakes_in_what_is_asked(asked: ImportRequest, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        import_predictions(replace(asked, **changes))
    assert not asked.runs.exists()


def test_files_that_are_no_table(asked: ImportRequest, tmp_path: Path) -> None:
    as_npz_matrix(tmp_path / "whole.npz", predictions())
    whole = (tmp_path / "whole.npz").read_bytes()
    for name, content, message in (
        ("x.pkl", b"\x80\x04", "the ending '.pkl' and its first bytes are those of no table"),
        ("x.parquet", b"PAR1 and no more", "not a readable parquet file"),
        ("x.csv", b"a\0b", "not a text file"),
        ("x.npz", whole.replace(b"image", b"IMAGE", 1), "not a readable .npz"),
        ("x.csv.gz", gzip.compress(b"image_id,Mass\n" * 99)[:-9], "cannot be unpacked"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=message):
            import_predictions(replace(asked, file=tmp_path / name))


def test_what_is_only_said(asked: ImportRequest, tmp_path: Path) -> None:
    """A constant column, logits that look like probabilities, and images of other subsets stop nobody."""
    frame = predictions(Hernia=0.25)
    more = TRAINED.select("image_id", *(pl.lit(0.5).alias(label) for label in LABELS)).head(7)
    file = csv(tmp_path / "x.csv", pl.concat([frame, more]))
    made = import_predictions(replace(asked, file=file, logits=True))
    said = "\n".join(made.notes)
    assert "same score for Hernia" not in said, "the seven others have another one"
    assert "as probabilities do; without --logits they are taken as such" in said
    left = read_imported(made.run.imported).left_out
    assert sum(left.values()) == 7
    assert "test" not in left
    assert "left out of x.csv: 7 of the train subset" in said
    constant = import_predictions(replace(asked, file=csv(tmp_path / "y.csv", frame), name="constant"))
    assert any("every image has the same score for Hernia" in note for note in constant.notes)
    scores = evaluate_run(constant.run.path, constant.truth, options={"replicates": 2})
    metric = scores.subsets["test"].metric("auc", "Hernia")
    assert metric is not None
    assert (metric.value, metric.constant) == (0.5, True)


def test_scores_of_no_label_are_named(asked: ImportRequest, tmp_path: Path) -> None:
    frame = predictions().with_columns(Cancer=pl.lit(0.5), age=pl.lit(63), site=pl.lit("A"))
    made = import_predictions(replace(asked, file=csv(tmp_path / "x.csv", frame)))
    assert "left out, since they are of no label of chestxray14: Cancer" in made.notes, "an age is no score"


def test_many_columns_are_not_cut_within_a_name(asked: ImportRequest, tmp_path: Path) -> None:
    frame = predictions().rename({label: f"the model's score of {label}" for label in LABELS})
    with pytest.raises(UserError, match=r"found .*score of \w+ and \d+ more\n"):
        import_predictions(replace(asked, file=csv(tmp_path / "x.csv", frame)))


def test_a_part_of_the_split_is_kept_apart(asked: ImportRequest, tmp_path: Path) -> None:
    made = import_predictions(replace(asked, file=csv(tmp_path / "x.csv", predictions().head(30))))
    lost = TEST["image_id"].sort()[30]
    assert made.notes[:2] == (
        f"30 of {len(TEST)} test images of split official",
        f"{len(TEST) - 30} of {len(TEST)} test images are missing, the first {lost}: a partial result, which reports "
        "keep apart",
    )
    scores = evaluate_run(made.run.path, made.truth, options={"replicates": 2})
    assert not scores.subsets["test"].complete
    assert f"30 of {len(TEST)} test images" in reports.render(reports.official(asked.runs), "md")


# Splits, and what a model has seen


def test_validation_too(asked: ImportRequest, raw: Path, tmp_path: Path) -> None:
    split = splits.make(cohorts.read(raw, None).frame, "official")
    val = split.frame.filter(pl.col("subset") == "val").select("image_id")
    more = val.select("image_id", *(pl.int_range(1, pl.len() + 1).truediv(99).alias(label) for label in LABELS))
    file = csv(tmp_path / "x.csv", pl.concat([predictions(), more]))
    scores = do(asked, file=file, subsets=("val", "test"))
    assert scores.subsets["val"].images == len(val)
    assert aucs(scores) == pytest.approx(EXPECTED, abs=1e-12)


def test_a_list_of_test_images_is_a_split(asked: ImportRequest, tmp_path: Path) -> None:
    some = TEST.filter(pl.col("patient_id").cast(pl.Int32) < 40)["image_id"]
    (tmp_path / "ours.txt").write_text("\n".join(f"images/{name} 0 1" for name in some))
    (tmp_path / "again.json").write_text(json.dumps(some.to_list()))
    one, other = do(asked, split=str(tmp_path / "ours.txt")), do(asked, split=str(tmp_path / "again.json"), name="two")
    assert (one.origin.split, other.origin.split) == ("file-ours", "file-again")
    assert one.origin.split_digest == other.origin.split_digest
    assert one.subsets["test"].images == len(some)
    assert one.subsets["test"].complete


def test_a_table_of_subsets_is_a_split(asked: ImportRequest, tmp_path: Path) -> None:
    table = COHORT.select("image_id", fold=pl.col("official").replace({"train_val": "training"}))
    scores = do(asked, split=str(csv(tmp_path / "own.csv", table)))
    assert scores.origin.split == "file-own"
    assert aucs(scores) == pytest.approx(EXPECTED, abs=1e-12)
    for other in ("test", "val"):
        torn = pl.when(pl.int_range(pl.len()) % 2 == 0).then(pl.lit("train")).otherwise(pl.lit(other))
        with pytest.raises(UserError, match="patients in more than one subset, first patient 1"):
            do(asked, split=str(csv(tmp_path / "torn.csv", table.with_columns(fold=torn))), name="torn")
    untested = csv(tmp_path / "untested.csv", table.with_columns(fold=pl.col("fold").replace({"test": "val"})))
    with pytest.raises(UserError, match="no test images"):
        do(asked, split=str(untested), name="untested")
    named = csv(tmp_path / "named.csv", table.with_columns(fold=pl.col("fold").replace({"test": "holdout"})))
    with pytest.raises(UserError, match="a subset called 'holdout', expected train, val, test"):
        do(asked, split=str(named), name="named")
    twice = csv(tmp_path / "twice.csv", pl.concat([table, table.head(1).with_columns(fold=pl.lit("test"))]))
    with pytest.raises(UserError, match=r"1 image in two subsets, first 00000001_000\.png"):
        do(asked, split=str(twice), name="twice")
    strange = tmp_path / "strange.txt"
    strange.write_text("00000003_000.png\nsomebody.png")
    with pytest.raises(UserError, match=r"--split .*strange\.txt: 1 of 2 images is not in"):
        do(asked, split=str(strange), name="strange")


def listed(path: Path, names: pl.Series) -> Path:
    path.write_text("\n".join(names))
    return path


def test_declared_training_images(asked: ImportRequest, tmp_path: Path) -> None:
    scores = do(asked, trained_on=listed(tmp_path / "train.txt", TRAINED["image_id"]))
    assert (scores.origin.basis.training, scores.origin.train_images) == ("declared", len(TRAINED))
    assert scores.subsets["test"].leakage_checked
    run = RunFolder.of(asked.runs, "mine", "official")
    assert pl.read_parquet(run.training_list).height == len(TRAINED)
    # The list is looked at whenever the run is evaluated.
    pl.concat([TRAINED, TEST.head(1)]).select("image_id", "patient_id").write_parquet(run.training_list)
    with pytest.raises(
        UserError, match=r"1 of .* test images and 1 of their patients are among the images that the model"
    ):
        pipeline.evaluate(run, None, Console(quiet=True))
    run.training_list.unlink()
    with pytest.raises(UserError, match="the declared training images cannot be read"):
        pipeline.evaluate(run, None, Console(quiet=True))


def test_training_images_that_test(asked: ImportRequest, tmp_path: Path) -> None:
    leak = listed(tmp_path / "leak.txt", pl.concat([TRAINED["image_id"], TEST["image_id"].head(5)]))
    with pytest.raises(
        UserError, match=r"5 of the \d+ test images are among its training images, and 2 of their patients"
    ):
        do(asked, trained_on=leak)
    patient = TEST.filter(pl.col("patient_id") == "3")["image_id"]
    rest = csv(tmp_path / "rest.csv", predictions().filter(pl.col("image_id") != patient[0]))
    with pytest.raises(UserError, match=f"0 of the .* and 1 of their patients, first {patient[1]}"):
        do(asked, file=rest, trained_on=listed(tmp_path / "one.txt", patient.head(1)))
    whole = csv(
        tmp_path / "whole.csv", COHORT.select("image_id", split=pl.col("official").replace("train_val", "train"))
    )
    assert do(asked, trained_on=whole).origin.train_images == len(TRAINED), "of several subsets the one called train"


def test_what_is_said_of_a_model(asked: ImportRequest, tmp_path: Path) -> None:
    about = tmp_path / "about.toml"
    about.write_text(
        'model = "densenet121"\ninput_size = 224\npretraining = "ImageNet"\nseed = 2\nsource = "a paper"\n'
    )
    scores = do(asked, about=about)
    assert (scores.name, scores.model, scores.input_size, scores.seed) == ("mine", "densenet121", 224, 2)
    assert (scores.origin.pretraining, scores.origin.basis.pretraining) == ("ImageNet", "declared")
    assert read_imported(asked.runs / "mine" / "official-seed-2" / "import.json").about.source == "a paper"
    # Folds and seeds of one model are pooled, so its terms do not depend on the file.
    about.write_text(about.read_text().replace("seed = 2", "seed = 3"))
    other = do(asked, about=about, file=csv(tmp_path / "other.csv", predictions().reverse()))
    assert other.recipe_digest == scores.recipe_digest
    assert do(asked, name="plain").recipe_digest != scores.recipe_digest
    for text, message in (
        ("modell = 1", "modell"),
        ("seed = -1", "a seed or an input_size below 0"),
        ("seed = 'x'", "seed is 'x'"),
        ("seed = ", "not valid TOML"),
        ("pretrained = { seen = 'yes' }", "pretrained.seen is 'yes'.*remedy: write none, images or labels"),
    ):
        about.write_text(text)
        with pytest.raises(UserError, match=f"(?s)--about .*about.toml: .*{message}"):
            do(asked, about=about)


# The real data set, without its images


@pytest.fixture(scope="module")
def nih_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return NIH's table alone, made of the facts of the tests: no lists beside it."""
    folder = write_raw(tmp_path_factory.mktemp("nih") / "raw", chestxray14_facts.records())
    return folder / "Data_Entry_2017_v2020.csv"


def test_the_official_table_has_it_beside_published_results(nih_csv: Path, tmp_path: Path) -> None:
    for name in ("train_val_list.txt", "test_list.txt"):
        (nih_csv.parent / name).unlink(missing_ok=True)
    records = chestxray14_facts.records().filter(pl.col("official") == "test")
    generator = np.random.default_rng(0)
    score_NL = records.select(PATHOLOGIES).to_numpy() + generator.normal(size=(len(records), 14))
    frame = records.select(pl.format("images/{}", "image_id").alias("path"))
    frame = frame.hstack(pl.DataFrame(score_NL, schema=[f"logit_{label}" for label in PATHOLOGIES]))
    frame.write_parquet(tmp_path / "x.parquet")
    asked = ImportRequest(
        tmp_path / "x.parquet", "theirs", "official", raw=nih_csv, columns="logit_{label}", logits=True,
        runs=tmp_path / "runs",
    )  # fmt: skip
    scores = do(asked)
    for place, label in enumerate(PATHOLOGIES):
        assert aucs(scores)[label] == pytest.approx(roc_auc_score(records[label], score_NL[:, place]), abs=1e-12)
    assert scores.origin.label_release == "v2020"
    table = reports.official(tmp_path / "runs").tables[0]
    assert not any(note.startswith("Epochs:") for note in table.notes), "what was made elsewhere has none here"
    assert [column.heading for column in table.columns if column.own] == [("theirs *",)]
    assert any("pixels, training images, pretraining unknown" in note for note in table.notes)
    with pytest.raises(
        UserError, match="its images are the 25,596 test images of split official, not those of resample-1"
    ):
        import_predictions(replace(asked, split="resample-1", name="elsewhere"))
    # A list of the same test images is the same split by another name.
    listed(tmp_path / "theirs.txt", records["image_id"])
    made = import_predictions(replace(asked, split=str(tmp_path / "theirs.txt"), name="by-list"))
    assert made.run.path.name == "official"
    assert "its test images are those of split official" in made.notes[0]


def test_the_command(raw: Path, tmp_path: Path) -> None:
    file = csv(tmp_path / "mine.csv")
    arguments = ["import", str(file), "--name", "mine", "--raw", str(raw), "--runs", str(tmp_path / "runs")]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert f"{len(TEST)} of {len(TEST)} test images of split official" in result.output
    assert "cxrkit report --official-split" in result.output
    assert (tmp_path / "runs" / "mine" / "official" / "scores.json").exists()
