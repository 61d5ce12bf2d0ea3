"""Options of evaluators: what a user writes, and what the evaluator is given."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import Result
from tiny_runs import make_records, make_run, make_split
from typer.testing import CliRunner

from cxrkit.base import registry
from cxrkit.base.contracts import IMAGE_SCHEMA, LABELS
from cxrkit.base.errors import UserError
from cxrkit.base.labels import CHESTXRAY14
from cxrkit.cli.app import app
from cxrkit.evaluators import choosing
from cxrkit.evaluators.scoring import evaluate_run, is_by, rehearse
from cxrkit.evaluators.truth import Truth, read_truth
from cxrkit.runs.scores import read_scores

MODULE = "options_of_test"
SOURCE = """
from __future__ import annotations
from typing import TYPE_CHECKING
from cxrkit.base.contracts import Metric
if TYPE_CHECKING:
    from somewhere import Nothing

def typed(scores, truth, clusters, labels, *, whole: int | None = None, part=0.5, way="a", yes: bool = False,
          ages=(1, 2), names: tuple[str, ...] = ()):
    yield Metric("seen", float(part), reason=repr((whole, part, way, yes, ages, names)))

def strange(scores, truth, clusters, labels, *, other: Nothing = None):
    yield Metric("seen", 1.0, reason=repr(other))

def anything(scores, truth, clusters, labels, **options):
    yield Metric("seen", 1.0, reason=repr(options))

def looks(scores, truth, clusters, labels, *, images):
    for sex in ("F", "M"):
        yield Metric("share", (images["sex"] == sex).mean(), group=f"sex {sex}", reason=str(images.columns))
"""


@pytest.fixture(autouse=True)
def _importable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / f"{MODULE}.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    records = make_records()
    return make_run(tmp_path / "runs" / "net" / "official", records, make_split(records))


def truth(**columns: object) -> Truth:
    said = {key: pl.lit(value) for key, value in columns.items()}
    return Truth(Path("labels"), make_records().with_columns(**said), "nih-chestxray14", "v2020")


def test_a_value_becomes_what_the_evaluator_wants() -> None:
    texts = ["whole=3", "part=1", "way=b=c", "yes=True", "ages=4, 5,6", "names=x,y"]
    found = choosing.read_options(f"{MODULE}:typed", texts)
    assert found == {"whole": 3, "part": 1.0, "way": "b=c", "yes": True, "ages": (4, 5, 6), "names": ("x", "y")}
    assert [type(found[name]) for name in ("whole", "part", "yes")] == [int, float, bool]
    assert choosing.read_options(f"{MODULE}:strange", ["other=7"]) == {"other": "7"}
    assert choosing.read_options(f"{MODULE}:anything", ["other=7"]) == {"other": "7"}
    found = choosing.read_options("auc,calibration,subgroups", ["bins=10", "replicates=5", "age-edges=50"])
    assert found == {"bins": 10, "replicates": 5, "age_edges": (50,)}


@pytest.mark.parametrize(
    ("names", "texts", "message"),
    [
        (
            "auc",
            ["bins=10"],
            r"'auc' takes no 'bins'\n  remedy: leave .*, or add --evaluator auc,calibration",
        ),
        ("auc,mae", ["bins=1"], "none of the evaluators 'auc,mae' takes 'bins'"),
        ("auc", ["colour=red"], "leave --option colour out; auc takes replicates, seed, confidence"),
        (
            "calibration",
            ["bins=ten"],
            "bins=ten: expected a whole number, found 'ten'\n  remedy: write it like --option bins=10",
        ),
        ("calibration", ["bins=2.5"], "--option bins=2.5: expected a whole number"),
        ("calibration", ["confidence=inf"], "--option confidence=inf: expected a number"),
        ("subgroups", ["age_edges=20,x"], "expected a whole number, found 'x'"),
        (f"{MODULE}:typed", ["yes=perhaps"], "--option yes=perhaps: expected true or false"),
        ("auc", ["replicates"], "--option 'replicates': expected name=value"),
        ("auc", ["=3"], "--option '=3': expected name=value"),
        ("auc", ["seed=1", "seed=2"], "--option seed: is given twice"),
        ("thresholds", ["validation=1"], "takes no 'validation'"),
        (f"{MODULE}:anything", ["images=1"], "takes no 'images'"),
        ("auc", ["labels=1"], "takes no 'labels'"),
        ("acu", ["seed=1"], r"unknown evaluator 'acu'\n  remedy: did you mean auc\? Known: auc, average-precision, "),
        ("nosuch", [], "unknown evaluator 'nosuch'\n  remedy: known: auc, average-precision, calibration, mae"),
        ("calibration", ["binss=3"], r"takes no 'binss'\n  remedy: did you mean bins\? calibration takes bins, "),
    ],
)
def test_a_wrong_option_is_told(names: str, texts: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        choosing.read_options(names, texts)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("calibration", "auc,calibration"),
        ("subgroups, thresholds", "auc,subgroups,thresholds"),
        ("calibration,auc", "calibration,auc"),
        ("youden", "youden"),
        ("mae", "mae"),
        (f"calibration,{MODULE}:typed", f"calibration,{MODULE}:typed"),
    ],
)
def test_aucs_are_added_where_none_are_named(names: str, expected: str) -> None:
    assert choosing.with_aucs(names) == expected


def test_every_own_evaluator_has_aucs_or_is_given_them(run: Path) -> None:
    """So a new one cannot be forgotten."""
    for name in set(registry.BUILT_IN["evaluator"]) - {"mae", "net-benefit"}:
        known = truth(sex="F", age_years=50)
        scores = evaluate_run(run, known, choosing.with_aucs(name), {} if name == "mae" else {"confidence": 0.9})
        assert scores.subsets["test"].metric("auc") is not None, name


def test_scores_say_the_options_that_were_asked_for(run: Path) -> None:
    names = f"thresholds,auc,{MODULE}:typed"
    options = choosing.read_options(names, ["replicates=5", "confidence=0.9", "ages=7"])
    written = evaluate_run(run, truth(), names, options)
    read = read_scores(run / "scores.json")
    assert read == written
    assert read.options == {
        "auc": {"replicates": 5, "confidence": 0.9},
        "thresholds": {"confidence": 0.9},
        f"{MODULE}:typed": {"ages": [7]},
    }
    assert read.subsets["test"].metric("seen").reason == "(None, 0.5, 'a', False, (7,), ())"
    assert read.subsets["test"].metric("auc").interval.startswith("90 % logit-t")
    assert is_by(run, names)
    assert is_by(run, "auc")  # who else was asked by hand does not matter
    assert not is_by(run, "auc,calibration")


def test_scores_of_before_options_and_groups_are_read(run: Path) -> None:
    evaluate_run(run, truth(), options={"replicates": 5})
    path = run / "scores.json"
    content = json.loads(path.read_text())
    del content["options"]
    for metric in content["subsets"]["test"]["metrics"]:
        del metric["group"], metric["p_value"]
    path.write_text(json.dumps(content))
    read = read_scores(path)
    assert read.options == {}
    assert (read.subsets["test"].metric("auc").group, read.subsets["test"].metric("auc").p_value) == ("", None)


def test_an_evaluator_that_asks_is_told_of_the_images(run: Path) -> None:
    records = make_records()
    sex = pl.Series(np.where(np.arange(len(records)) % 3 == 0, "F", "M"))
    evaluate_run(run, truth(sex=sex, age_years=50), f"{MODULE}:looks", {})
    test = read_scores(run / "scores.json").subsets["test"]
    female, male = (test.metric("share", group=f"sex {one}") for one in "FM")
    assert (female.value + male.value, female.reason) == (
        1.0,
        "['image_id', 'patient_id', 'age_years', 'sex', 'view']",
    )
    chosen = records.filter(np.isin(records["patient_id"].cast(int), np.arange(41, 61))).with_row_index()
    assert test.images == len(chosen)
    assert (test.metric("share"), test.names) == (None, ())
    rehearse(f"{MODULE}:looks,subgroups,thresholds,calibration,average-precision", CHESTXRAY14)


def test_a_metric_of_a_group_is_another_than_that_of_all(run: Path) -> None:
    evaluate_run(run, truth(sex="F", age_years=50, view="PA"), "auc,subgroups", {"replicates": 5})
    test = read_scores(run / "scores.json").subsets["test"]
    assert test.names == ("auc",)
    for label in (*LABELS, None):
        assert test.metric("auc", label).group == ""
        assert test.metric("auc", label, "sex F").group == "sex F"
    content = json.loads((run / "scores.json").read_text())
    content["subsets"]["test"]["metrics"].append(content["subsets"]["test"]["metrics"][-1])
    (run / "scores.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="auc of the mean, view PA is given twice"):
        read_scores(run / "scores.json")


def test_the_command_takes_options(tmp_path: Path, run: Path) -> None:
    (run / "config.toml").write_text("")
    labels = tmp_path / "labels.csv"
    make_records().with_columns(sex=pl.lit("F"), age_years=pl.lit("64.0")).write_csv(labels)

    def evaluate(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["evaluate", str(run), "--data", str(labels), *arguments])

    done = evaluate("--evaluator", "auc,calibration,subgroups", "--option", "bins=4", "--replicates", "3")
    assert done.exit_code == 0, done.output
    scores = read_scores(run / "scores.json")
    assert scores.options == {"auc": {"replicates": 3}, "calibration": {"bins": 4, "replicates": 3}}
    assert scores.subsets["test"].metric("auc", "Mass", "age 60-79").value is not None
    before = (run / "scores.json").read_bytes()
    refused = evaluate("--evaluator", "auc", "--option", "bins=4")
    assert isinstance(refused.exception, UserError)
    assert "evaluator 'auc' takes no 'bins'" in str(refused.exception)
    twice = evaluate("--option", "replicates=4", "--replicates", "3")
    assert "--option replicates: is given twice" in str(twice.exception)
    assert (run / "scores.json").read_bytes() == before


def test_metadata_of_a_table_of_text(tmp_path: Path) -> None:
    """Of a CSV all is text: a number may be written as one of another kind, and a cell may be empty."""
    path = tmp_path / "labels.csv"
    path.write_text("image_id,patient_id,age_years,sex\na,1,64,F\nb,1,64.0, M\nc,2,,\nd,2,old,F\n")
    frame = pl.DataFrame({"image_id": ["d", "c", "b", "a", "e"], "patient_id": ["2", "2", "1", "1", "3"]})
    images = read_truth(path).images(frame)
    assert images.schema == pl.Schema(IMAGE_SCHEMA)
    assert images["age_years"].to_list() == [None, None, 64, 64, None]
    assert images["sex"].to_list() == ["F", None, "M", "F", None]
    assert images["view"].null_count() == 5
