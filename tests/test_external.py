"""`cxrkit evaluate RUN --on FOLDER`: a network on another hospital's images, against scikit-learn and scipy."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from rich.console import Console
from scipy import stats
from sklearn.metrics import roc_auc_score
from tiny_hospitals import make_network_run, write_layout, write_own_data
from typer.testing import CliRunner

from cxrkit import report
from cxrkit.base.contracts import PATHOLOGIES
from cxrkit.base.errors import UserError
from cxrkit.base.pretraining import Pretraining
from cxrkit.cli.app import app
from cxrkit.evaluators.scoring import evaluate_run
from cxrkit.evaluators.truth import read_truth
from cxrkit.prepare.records import read_records
from cxrkit.prepare.stage import PrepareConfig, prepare, prepare_tables
from cxrkit.report.document.tables import AVERAGE
from cxrkit.report.each_run.external import external_of
from cxrkit.report.everything import DOCUMENTS, Material
from cxrkit.report.evidence.opened import Opened
from cxrkit.report.evidence.runs import FoundRuns, Run
from cxrkit.runs.external import read_validity
from cxrkit.runs.folder import RunFolder
from cxrkit.runs.predictions import read_predictions
from cxrkit.shards.store import ShardStore
from cxrkit.sources.films import read_film
from cxrkit.statistics.clustered import Estimate
from cxrkit.statistics.comparing import compare_independent

FILMS = 14


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with PadChest's phantoms prepared, tables of VinDr-CXR's, and a data set of one's own."""
    home = tmp_path_factory.mktemp("external")
    raw = write_layout(home, "padchest", FILMS)
    config = PrepareConfig(raw=raw, data=home / "shards", dataset="padchest", workers=1, codec="raw")
    prepare(config, read_records("padchest", raw, allow_missing=False))
    raw = write_layout(home, "vindr-cxr", 12)
    config = PrepareConfig(raw=raw, data=home / "vindr", dataset="vindr-cxr", tables_only=True)
    prepare_tables(config, read_records("vindr-cxr", raw, allow_missing=False))
    write_own_data(home)
    return home


@pytest.fixture(scope="module")
def evaluated(folder: Path) -> RunFolder:
    """Return a run with its external scores on PadChest's phantoms. Read-only."""
    run = make_network_run(folder / "runs", folder / "own")
    done = on(run, folder / "shards", "--out", str(folder / "external.csv"))
    assert done.exit_code == 0, done.output
    assert "External validity of mine (official) on synthetic-padchest" in done.output
    return run


def on(run: RunFolder, data: Path, *more: str):
    return CliRunner().invoke(
        app, ["evaluate", str(run.path), "--on", str(data), "--replicates", "50", *more], catch_exceptions=False
    )


def refused(run: RunFolder, data: Path, *more: str) -> str:
    with pytest.raises(UserError) as error:
        on(run, data, *more)
    return str(error.value)


def kept(run: RunFolder) -> Path:
    return run.path / "external" / "synthetic-padchest"


# Pixels and scores --------------------------------------------------------------------------------------------------


def test_films_of_16_bits_are_prepared_on_a_square_canvas(folder: Path) -> None:
    store = ShardStore(folder / "shards")
    image = store.image(0, 0)
    store.close()
    source = read_records("padchest", folder / "padchest", allow_missing=False).frame["path"][0]
    assert np.array_equal(image, read_film(Path(source).read_bytes(), 512).image)
    about = json.loads((folder / "shards" / "dataset.json").read_text())
    assert (about["fit"], about["image_size"], about["label_set"]) == ("letterbox", 512, "padchest23")


def test_what_is_kept_lies_apart_with_an_origin_of_its_own(folder: Path, evaluated: RunFolder) -> None:
    scores = read_predictions(kept(evaluated) / "scores.parquet")
    own = read_predictions(evaluated.predictions("test"))
    assert len(scores.frame) == FILMS - 1  # one is labelled "exclude" or said nothing of
    assert (scores.about.origin.dataset, own.about.origin.dataset) == ("synthetic-padchest", "synthetic")
    assert scores.about.origin.labels_digest != own.about.origin.labels_digest
    assert scores.about.origin.train_images == own.about.origin.train_images
    assert scores.about.checkpoint_sha256 == own.about.checkpoint_sha256
    assert not evaluated.scores.exists()


def test_aucs_are_scikit_learns_over_the_labels_that_both_have(folder: Path, evaluated: RunFolder) -> None:
    found = read_validity(kept(evaluated) / "validity.json")
    scores = pl.read_parquet(kept(evaluated) / "scores.parquet").sort("image_id")
    store = ShardStore(folder / "shards")
    truth = scores.select("image_id").join(store.records(), on="image_id", how="left", maintain_order="left")
    store.close()
    checked = 0
    assert [label.ours for label in found.labels] == [*PATHOLOGIES, "No Finding"]
    for label in found.labels:
        known = truth[label.theirs].is_not_null().to_numpy()
        answer, score = truth[label.theirs].to_numpy()[known].astype(bool), scores[label.ours].to_numpy()[known]
        assert label.external.positives == answer.sum()
        assert label.external.positives + label.external.negatives == known.sum()
        if not 0 < answer.sum() < len(answer):
            assert label.difference is None
            assert label.external.value is None
            continue
        assert label.external.value == pytest.approx(roc_auc_score(answer, score))
        assert label.difference == pytest.approx(label.external.value - label.internal.value)
        checked += 1
    assert checked > 6
    of_mean = [label for label in found.labels if label.ours in found.mean_labels]
    assert found.mean is not None
    assert "No Finding" not in found.mean_labels
    assert len(of_mean) == sum(label.difference is not None for label in found.labels[:-1])
    for side in ("internal", "external"):
        mean = np.mean([getattr(label, side).value for label in of_mean])
        assert getattr(found.mean, side).value == pytest.approx(mean)


def test_the_internal_aucs_are_those_of_its_own_test_images(folder: Path, evaluated: RunFolder) -> None:
    done = CliRunner().invoke(
        app,
        ["evaluate", str(copied(evaluated, folder / "copy").path), "--data", str(folder / "own"), "--replicates", "50"],
    )
    assert done.exit_code == 0, done.output
    own = json.loads((folder / "copy" / "official" / "scores.json").read_text())["subsets"]["test"]["metrics"]
    by_label = {metric["label"]: metric for metric in own if metric["name"] == "auc"}
    for label in read_validity(kept(evaluated) / "validity.json").labels:
        expected = by_label[label.ours]
        found = label.internal
        assert (found.value, found.lower, found.upper) == (expected["value"], expected["lower"], expected["upper"])


def copied(run: RunFolder, to: Path) -> RunFolder:
    return RunFolder(Path(shutil.copytree(run.path, to / run.path.name)))


@pytest.mark.parametrize(("n1", "n2", "v1", "v2"), [(20, 300, 4e-4, 1e-4), (60, 40, 1e-4, 9e-4)])
def test_the_difference_of_two_hospitals_is_welchs(n1: int, n2: int, v1: float, v2: float) -> None:
    one, other = (
        Estimate(value, np.array([np.sqrt(variance)]), count, count, count)
        for value, variance, count in ((0.83, v1, n1), (0.79, v2, n2))
    )
    found = compare_independent(one, other)
    welch = stats.ttest_ind_from_stats(0.83, np.sqrt(v1 * n1), n1, 0.79, np.sqrt(v2 * n2), n2, equal_var=False)
    assert found.difference == pytest.approx(0.04)
    assert found.p_value == pytest.approx(welch.pvalue)
    half = stats.t.ppf(0.975, found.degrees_of_freedom) * np.sqrt(v1 + v2)
    assert (found.lower, found.upper) == pytest.approx((0.04 - half, 0.04 + half))
    few = compare_independent(replace(one, positive_patients=9), other)
    assert np.isnan(few.lower)
    assert few.reason == "9 patients with the finding, fewer than 10"


# What is said -------------------------------------------------------------------------------------------------------


def test_the_report_shows_both_sides(folder: Path, evaluated: RunFolder) -> None:
    shown = external_of([evaluated.path])
    aucs, images = shown.tables
    assert next(row.key for row in aucs.rows if row.rule_above) == AVERAGE
    assert "Mean: over the labels that both have" in " ".join(aucs.notes)
    assert any("phantoms in the layout of that data set" in note for note in aucs.notes)
    assert any(note.startswith("Infiltration and infiltrates: with interstitial") for note in aucs.notes)
    assert [column.heading for column in images.columns][2:] == [
        ("Internal", "preval."), ("External", "preval."), ("External", "images"),
    ]  # fmt: skip
    terminal = Console(width=80, file=io.StringIO())
    terminal.print(report.to_rich(shown))
    assert "(continued)" not in terminal.file.getvalue()
    csv = pl.read_csv(folder / "external.csv")
    assert set(csv["metric"]) >= {"auc", "difference", "prevalence"}


def test_report_all_has_a_document_of_it(folder: Path, evaluated: RunFolder, tmp_path: Path) -> None:
    run = copied(evaluated, tmp_path)
    scores = evaluate_run(run.path, read_truth(folder / "own"), "auc", {"replicates": 20})
    material = Material(FoundRuns((Run(run.path, scores.name, scores),), ()), Opened(None))
    document = DOCUMENTS["external"]
    assert document.applies(material)
    assert document.build(material).key == "external"
    shutil.rmtree(run.path / "external")
    assert not document.applies(material)


def test_what_is_of_another_network_is_left_out(evaluated: RunFolder, tmp_path: Path) -> None:
    run = copied(evaluated, tmp_path)
    run.best.write_bytes(run.best.read_bytes() + b"\0")
    with pytest.raises(UserError, match=r"best.safetensors was replaced since"):
        external_of([run.path])
    with pytest.raises(UserError, match="no run with external scores"):
        external_of([tmp_path / "nothing"])


def test_ages_that_are_not_known_are_said(folder: Path, tmp_path: Path) -> None:
    """VinDr-CXR tells the view alone; its films have no patients."""
    run = make_network_run(tmp_path, folder / "own", "mlp-meta")
    done = on(run, folder / "vindr", "--part", "all")
    assert done.exit_code == 0, done.output
    found = read_validity(run.path / "external" / "synthetic-vindr-cxr" / "validity.json")
    assert found.by_image
    assert found.part == "all"
    assert found.images == 12
    said = " ".join(found.notes)
    assert "given as half way between: age (all of 12 films), sex (all of 12 films)" in said
    assert "no patient ids: its intervals are by image" in said
    assert "Not shared: Hernia, Mass, Nodule" in said
    assert "Nodule/Mass there is none of these labels" in said
    assert all(label.external.constant for label in found.labels)  # every film is PA


def test_the_official_test_part_is_taken_where_there_is_one(folder: Path, tmp_path: Path) -> None:
    run = make_network_run(tmp_path, folder / "own", "mlp-meta")
    command = ["evaluate", str(run.path), "--on", str(folder / "vindr"), "--data", str(folder / "own")]
    assert CliRunner().invoke(app, command, catch_exceptions=False).exit_code == 0
    found = read_validity(run.path / "external" / "synthetic-vindr-cxr" / "validity.json")
    assert found.part == "test"
    assert 0 < found.images < 12
    assert any("frontal films of its official test part" in note for note in found.notes)


def test_a_pretraining_on_that_data_set_is_said_to_contaminate(folder: Path, tmp_path: Path) -> None:
    seen = {"pretraining": "MAE on VinDr-CXR", "pretrained": Pretraining("images")}
    run = make_network_run(tmp_path / "seen", folder / "own", "mlp-meta", **seen)
    assert "Contaminated: the network was pretrained on 'MAE on VinDr-CXR'" in plain(on(run, folder / "vindr").output)
    unknown = {"pretraining": "in house", "pretrained": Pretraining()}
    run = make_network_run(tmp_path / "unknown", folder / "own", "mlp-meta", **unknown)
    assert "What the network had seen before is not known ('in house')" in plain(on(run, folder / "vindr").output)


def plain(text: str) -> str:
    return " ".join(text.split())


# Refusals -----------------------------------------------------------------------------------------------------------


def test_the_runs_own_data_set_is_no_other(folder: Path, evaluated: RunFolder) -> None:
    assert "is synthetic, which the run was trained on" in refused(evaluated, folder / "own")


def test_a_part_that_there_is_not(folder: Path, evaluated: RunFolder) -> None:
    assert "has no official test part" in refused(evaluated, folder / "shards", "--part", "test")
    assert "--part valid: there is no such part" in refused(evaluated, folder / "shards", "--part", "valid")


def test_a_network_that_looks_at_images_needs_some(folder: Path, evaluated: RunFolder) -> None:
    message = refused(evaluated, folder / "vindr")
    assert "films of part 'test' is prepared" in message


def test_a_run_without_predictions_or_with_those_of_another_checkpoint(
    folder: Path, evaluated: RunFolder, tmp_path: Path
) -> None:
    run = copied(evaluated, tmp_path)
    shutil.rmtree(run.path / "external")
    checkpoint = run.best.read_bytes()
    run.best.write_bytes(checkpoint + b"\0")
    assert "is of another checkpoint than best.safetensors" in refused(run, folder / "shards")
    run.predictions("test").unlink()
    assert "there is no such prediction file" in refused(run, folder / "shards")
    assert not (run.path / "external").exists()
