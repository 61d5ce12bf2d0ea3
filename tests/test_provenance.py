"""Provenance and protocol: every word from the run's own files, and nothing said that they do not say."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import study_runs

from cxrkit.base import registry
from cxrkit.datasets.known_splits import known_splits
from cxrkit.report.document.tables import Report
from cxrkit.report.each_run.protocol import LOSSES, protocol
from cxrkit.report.each_run.provenance import provenance
from cxrkit.report.evidence.run_names import run_names
from cxrkit.report.evidence.runs import Run, find_runs
from cxrkit.runs.config import recipe_digest
from cxrkit.runs.folder import RunFolder
from cxrkit.runs.opening import run_config


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Run, ...]]:
    folder = tmp_path_factory.mktemp("study")
    with study_runs.known(folder / "manifests"):
        study = study_runs.build(folder / "study")
        yield find_runs(study.runs).runs


def said(report: Report, part: str) -> dict[str, str]:
    """What the protocol says of a part: who it is said of, by sentence."""
    rows = [row for table in report.tables for row in table.rows if row.heading == part]
    return {row.cells[0].text: row.cells[1].text for row in rows}


def named(runs: Sequence[Run]) -> list[str]:
    """What the tables call the runs: as figures do."""
    names = run_names(runs)
    return [names[run.folder] for run in runs]


def test_runs_are_told_apart_by_split_and_seed_only_where_they_must(runs: tuple[Run, ...]) -> None:
    names = named(runs)
    assert len(set(names)) == len(runs)
    assert "resnet50-large, seed 1, official" in names
    assert "resnet38-large-meta, official" in names
    official = [run for run in runs if run.split == "official" and run.scores.seed == 0]
    official = [run for run in official if run.name not in ("elsewhere", "partial")]  # called by their recipes, too
    assert named(official) == [run.name for run in official]


def test_every_number_has_its_origin(runs: tuple[Run, ...]) -> None:
    recipes, data, files = provenance(runs).tables
    for table in (recipes, data, files):
        assert [row.heading for row in table.rows] == named(runs)
        assert {len(row.cells) for row in table.rows} == {len(table.columns)}
    by_name = {row.heading: [cell.text for cell in row.cells] for row in data.rows}
    run = next(run for run in runs if run.name == "resnet38-large-meta")
    origin = run.origin
    known = known_splits()["official"]
    cells = by_name["resnet38-large-meta, official"]
    assert cells[1] == f"chestxray14, release v2020, {origin.labels_digest[:12]}"
    assert cells[2] == f"from 1,024 pixels, {'bb' * 6}"
    assert cells[3] == f"official, {known.digest[:12]}"
    assert cells[4:8] == [f"{known.train:,}", f"{known.test:,}", f"{known.test_patients:,}", "checked"]
    assert by_name["mlp-meta, official"][2] == "not looked at"
    assert by_name["partial, resnet101-large, official"][5] == f"60 of {known.test:,}"
    assert by_name["elsewhere, official"][4] == "not known"
    assert by_name["elsewhere, official"][7] == "not checked"


def test_files_and_machines_are_those_of_the_run_folder(runs: tuple[Run, ...], tmp_path: Path) -> None:
    run = next(run for run in runs if run.name == "mlp-meta")
    copy = replace(run, folder=tmp_path / "mlp-meta" / "official")
    shutil.copytree(run.folder, copy.folder)
    path = copy.folder / "provenance.json"
    more = {"python": "3.12.1", "packages": {"torch": "2.9.1", "polars": "1.0"}, "processor": "A processor"}
    more |= {"git": "ab" * 20 + "+changes", "time": "2026-11-30T19:44:42+00:00", "processes": 2}
    path.write_text(json.dumps(json.loads(path.read_text()) | more))
    cells = [cell.text for cell in provenance([copy]).tables[2].rows[0].cells]
    assert cells == [
        run.scores.checkpoint_sha256[:12],
        run.test.predictions_sha256[:12],
        "cxrkit 0.3.0, Python 3.12.1, torch 2.9.1",
        "A processor, cpu, fp32, 2 processes",
        "abababababab with changes",
        "2026-11-30 19:44:42",
    ]
    for broken in ("{", "[1]", '{"packages": 3, "git": null}'):
        path.write_text(broken)
        assert [cell.text for cell in provenance([copy]).tables[2].rows[0].cells][2:] == ["-", "-", "-", "-"]


def test_an_import_says_which_file_it_is_of(runs: tuple[Run, ...]) -> None:
    run = next(run for run in runs if run.name == "elsewhere")
    recipes, _, files = provenance([run]).tables
    assert recipes.title == "What was declared of each network"
    assert recipes.rows[0].cells[0].text == "imported, trained elsewhere"
    assert recipes.rows[0].cells[5].text == "not known"
    assert ", from elsewhere.csv, " in files.rows[0].cells[1].text  # where it lay is nobody's business
    assert files.rows[0].cells[3].text == "-"
    assert recipes.rows[0].cells[2].text == "-"  # nobody told cxrkit the seed of a training elsewhere


def test_a_network_without_images_has_no_input_in_pixels(runs: tuple[Run, ...]) -> None:
    inputs = {run.name: provenance([run]).tables[0].rows[0].cells[4].text for run in runs}
    assert inputs["mlp-meta"] == "-"
    assert inputs["resnet50-large-meta"] == "448"


def test_runs_that_agree_share_a_line_of_the_protocol(runs: tuple[Run, ...]) -> None:
    trained = [run for run in runs if run.name == "resnet50-large-meta" and run.split == "official"]
    report = protocol(trained)
    (table,) = report.tables
    assert len(table.rows) == len({row.heading for row in table.rows})
    assert {row.cells[1].text for row in table.rows} == {"resnet50-large-meta"}
    several = said(protocol(runs), "Optimiser")
    assert len(several) == 3
    assert several["Adam, learning rate 0.001, betas 0.9 and 0.999, no weight decay; batches of 256; in auto"] == (
        "mlp-meta, official"
    )
    assert several["not known to cxrkit: the predictions were imported"] == "elsewhere, official"
    assert any(text.startswith(f"{len(runs) - 2}: ") for text in several.values())


def test_the_protocol_says_what_the_config_says(runs: tuple[Run, ...]) -> None:
    run = next(run for run in runs if run.name == "resnet50-large-meta" and run.split == "official")
    report = protocol([run])
    assert list(said(report, "Network")) == ["resnet50-large-meta, with age, sex and view; from scratch"]
    assert list(said(report, "Input")) == [
        "448 x 448 pixels of 1 gray channel from images of 1,024 pixels; pixels scaled to [0, 1], minus 0.504, divided "
        "by 0.258"
    ]
    assert list(said(report, "Augmentation")) == [
        "a random crop of 8 to 100 % of the area with sides of 3/4 to 4/3, scaled to the input; turned by up to 7 "
        "degrees either way; mirrored with probability 0.5"
    ]
    assert list(said(report, "Schedule")) == [
        "30 epochs; the learning rate times 0.5 after an epoch without a lower validation loss"
    ]
    assert list(said(report, "Selection")) == ["the epoch of the lowest validation loss"]
    assert list(said(report, "Test")) == [
        "each image once, scaled to 480 x 480 pixels, its centre of 448 x 448; evaluator auc"
    ]
    (split,) = said(report, "Split")
    known = known_splits()["official"]
    assert f"{known.train:,} images to train on, {known.val:,} to validate, {known.test:,} to test" in split
    assert "no test image and no patient of one was trained on" in split
    (intervals,) = said(report, "Intervals")
    assert "bootstrap over patients" in intervals
    assert f"{study_runs.REPLICATES} replicates" in intervals


@pytest.mark.parametrize(
    ("old", "new", "part", "expected"),
    [
        ("epochs = 30", "epochs = 1", "Schedule", "1 epoch; "),
        ("patience = 0", "patience = 2", "Schedule", "after 3 epochs without"),
        ('metric = "val_loss"', 'metric = "val_auc"', "Selection", "the highest mean validation AUC"),
        ("weight_decay = 0.0", "weight_decay = 0.0001", "Optimiser", "L2 penalty 0.0001"),
        ('name = "bce-mean"', 'name = "mine:loss"', "Loss", "a loss of its own, mine:loss"),
        ('trainer = "supervised"', 'trainer = "mine:train"', "Optimiser", "by a trainer of its own, mine:train"),
        ("epochs = 30", "epochs = ", "Schedule", "not known: its config.toml cannot be read"),
    ],
)
def test_a_changed_config_is_a_changed_protocol(
    runs: tuple[Run, ...], tmp_path: Path, old: str, new: str, part: str, expected: str
) -> None:
    run = next(run for run in runs if run.name == "resnet38-large-meta")
    copy = replace(run, folder=tmp_path / "official")
    shutil.copytree(run.folder, copy.folder)
    path = copy.folder / "config.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    report = protocol([copy])
    (sentence,) = said(report, part)
    assert expected in sentence
    assert bool(report.notes) == ("cannot be read" in expected)


def test_every_loss_has_words() -> None:
    assert LOSSES.keys() == registry.BUILT_IN["loss"].keys()


def test_of_an_import_only_what_is_known_is_said(runs: tuple[Run, ...], tmp_path: Path) -> None:
    run = next(run for run in runs if run.name == "elsewhere")
    known = known_splits()["official"]
    report = protocol([run])
    whole = " ".join((*report.text, *(cell.text for row in report.tables[0].rows for cell in row.cells)))
    assert list(said(report, "Split")) == [
        f"split official; {known.test:,} test images; what it was trained on is not known; validation images not known"
    ]
    for untrue in (f"{known.train:,}", f"{known.val:,}", "config.toml", "was trained on;", "to validate"):
        assert untrue not in whole
    assert list(said(report, "Network")) == ["elsewhere; what it had seen before is not known"]
    assert list(said(report, "Test")) == ["scores as imported; evaluator auc"]


def test_what_was_declared_of_an_import_is_said_to_be(runs: tuple[Run, ...], tmp_path: Path) -> None:
    run = next(run for run in runs if run.name == "elsewhere")
    origin = replace(
        run.origin, train_images=30, train_subset_images=30, basis=replace(run.origin.basis, training="declared")
    )
    test = replace(run.test, leakage_checked=True)
    # Its name and its size are those of a network of cxrkit's, which it need not be.
    scores = replace(run.scores, origin=origin, model="resnet50-ots", input_size=224, subsets={"test": test})
    declared = replace(run, scores=scores, folder=tmp_path / "declared")
    (split,) = said(protocol([declared]), "Split")
    assert split.endswith(
        "trained on 30 images as declared, none of them of a test patient (their list was checked); "
        "validation images not known"
    )
    assert list(said(protocol([declared]), "Input")) == ["224 x 224 pixels (declared)"]
    assert list(said(protocol([declared]), "Network")) == ["resnet50-ots; what it had seen before is not known"]
    with_val = replace(declared, scores=replace(scores, subsets={"test": test, "val": replace(test, images=7)}))
    assert next(iter(said(protocol([with_val]), "Split"))).endswith("predictions of 7 validation images imported, too")
    shutil.copytree(run.folder, declared.folder)
    path = declared.folder / "import.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"logits": True}))
    assert list(said(protocol([declared]), "Test")) == [
        "scores as imported; they were logits, and their sigmoid is the score; evaluator auc"
    ]


def test_labels_without_scores_are_not_counted(runs: tuple[Run, ...]) -> None:
    run = next(run for run in runs if run.name == "elsewhere")
    kept = tuple(metric for metric in run.test.metrics if metric.label != "No Finding")
    scores = replace(run.scores, subsets={"test": replace(run.test, metrics=kept)})
    (labels,) = said(protocol([replace(run, scores=scores)]), "Labels")
    assert labels.startswith("14 of the 15 labels (no scores of No Finding) of chestxray14, of release ")


def test_views_of_the_predictions_are_told(runs: tuple[Run, ...]) -> None:
    run = next(run for run in runs if run.name == "resnet38-large-meta")
    config = run_config(RunFolder(run.folder))
    for views, words in (("flip", "the mirror image of that"), ("ten-crop", "five crops of 448 x 448")):
        digest = recipe_digest(config.with_values({"test.views": views}))
        (tested,) = said(protocol([replace(run, scores=replace(run.scores, recipe_digest=digest))]), "Test")
        assert words in tested
        assert "probabilities averaged" in tested
