"""What reports work out from predictions: aligned by image, kept in the run folder, made anew when anything changed."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score
from tiny_runs import make_records, make_run, make_split

from cxrkit.base.errors import UserError
from cxrkit.evaluators.scoring import evaluate_run
from cxrkit.evaluators.truth import read_truth
from cxrkit.report.evidence import keeping
from cxrkit.report.evidence.opened import Derivation, Evidence, Opened
from cxrkit.report.evidence.runs import Run, find_runs
from cxrkit.runs.predictions import read_predictions, write_predictions


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    records = make_records().with_columns(age_years=pl.lit(50), sex=pl.lit("F"))
    records.write_parquet(tmp_path / "labels.parquet")
    return tmp_path / "labels.parquet"


@pytest.fixture
def run(tmp_path: Path, truth: Path) -> Run:
    records = make_records()
    path = make_run(tmp_path / "runs" / "net" / "official", records, make_split(records))
    evaluate_run(path, read_truth(truth), options={"replicates": 20})
    return find_runs(tmp_path / "runs").runs[0]


def test_evidence_gives_the_aucs_of_the_scores(run: Run, truth: Path) -> None:
    evidence = Opened(truth).evidence(run)
    for number, estimate in enumerate(evidence.estimates()):
        label = evidence.labels.labels[number]
        expected = roc_auc_score(evidence.truth[:, number], evidence.scores[:, number])
        assert estimate.value == pytest.approx(expected, abs=1e-12)
        assert run.auc(label).value == pytest.approx(expected, abs=1e-12)
    assert set(evidence.images["sex"]) == {"F"}
    assert evidence.images["view"].null_count() == len(evidence.images)


def test_what_is_derived_is_kept_until_something_changes(run: Run, truth: Path) -> None:
    asked = []

    def compute(evidence: Evidence) -> dict[str, np.ndarray]:
        asked.append(len(evidence.images))
        return {"mean": evidence.scores.mean(axis=0), "names": np.array(evidence.labels.labels)}

    first = Opened(truth).derived(run, Derivation("mean", 1, compute))
    again = Opened().derived(run, Derivation("mean", 1, compute))
    assert asked == [run.test.images]
    assert {name: again[name].tolist() for name in again} == {name: first[name].tolist() for name in first}
    Opened(truth).derived(run, Derivation("mean", 2, compute))
    assert len(asked) == 2
    (run.folder / "derived" / "mean-test.npz").write_bytes(b"PK\x03\x04 cut short")
    Opened(truth).derived(run, Derivation("mean", 2, compute))
    assert len(asked) == 3


def _damage(path: Path, how: str) -> None:
    whole = dict(np.load(path))
    content = path.read_bytes()
    match how:
        case "truncated":
            path.write_bytes(content[: len(content) // 2])
        case "one byte is another":
            place = content.index(b"numbers") + 150
            path.write_bytes(content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :])
        case "empty":
            path.write_bytes(b"")
        case "an array is missing":
            np.savez(path, **{name: array for name, array in whole.items() if name != "numbers"})
        case "an array is another":
            np.savez(path, **whole | {"numbers": whole["numbers"][:3]})
        case "nothing but the key":
            np.savez(path, made_of=whole["made_of"])
        case "a single array":
            path.write_bytes(b"")
            with open(path, "wb") as file:
                np.save(file, whole["numbers"])
        case "pickled":
            np.savez(path, **whole | {"numbers": np.array([{}], object)})
        case "a zip of something else":
            with zipfile.ZipFile(path, "w") as file:
                file.writestr("letter.txt", "dear reader")
        case "a folder":
            path.unlink()
            path.mkdir()


@pytest.mark.parametrize(
    "how",
    [
        "truncated",
        "one byte is another",
        "empty",
        "an array is missing",
        "an array is another",
        "nothing but the key",
        "a single array",
        "pickled",
        "a zip of something else",
        "a folder",
    ],
)
def test_a_damaged_file_is_worked_out_anew_without_a_word(how: str, tmp_path: Path) -> None:
    path = tmp_path / "derived.npz"
    arrays = {"numbers": np.arange(50.0), "names": np.array(["one", "two"])}
    keeping.keep(path, "key", arrays)
    found = keeping.kept(path, "key")
    assert found is not None
    assert {name: array.tolist() for name, array in found.items()} == {
        name: array.tolist() for name, array in arrays.items()
    }
    assert keeping.is_kept(path, "key")
    assert keeping.kept(path, "other key") is None
    assert not keeping.is_kept(path, "other key")
    _damage(path, how)
    assert keeping.kept(path, "key") is None
    keeping.keep(path, "key", arrays)
    assert (keeping.kept(path, "key") is None) == (how == "a folder")


def test_what_is_kept_is_refused_for_labels_that_are_not_the_runs(run: Run, truth: Path, tmp_path: Path) -> None:
    mean = Derivation("mean", 1, lambda evidence: {"mean": evidence.scores.mean(axis=0)})
    Opened(truth).derived(run, mean)
    other = tmp_path / "other.parquet"
    pl.read_parquet(truth).with_columns(pl.col("Effusion").reverse()).write_parquet(other)
    with pytest.raises(UserError, match=r"predicted for .* labels with digest .*, but .*other\.parquet has"):
        Opened(other).derived(run, mean)
    with pytest.raises(UserError, match=r"gone\.parquet: there is no such folder or file"):
        Opened(tmp_path / "gone.parquet").derived(run, mean)


def test_predictions_that_were_replaced_are_no_evidence_of_the_scores(run: Run, truth: Path) -> None:
    path = run.folder / "predictions" / "test.parquet"
    found = read_predictions(path)
    turned = found.frame.with_columns(
        (1 - pl.col(label)).alias(label).cast(pl.Float32) for label in found.about.labels.labels
    )
    write_predictions(path, turned, found.about)
    with pytest.raises(UserError, match=r"test\.parquet: was replaced after it was scored") as error:
        Opened(truth).evidence(run)
    assert "cxrkit evaluate" in error.value.remedy
