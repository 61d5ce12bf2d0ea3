"""The phantom grid: its other task, the weights that come of it, and the study that starts from them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from rich.console import Console

from benchmarks.phantom_grid import elsewhere, weights
from cxrkit import models, pipeline
from cxrkit.base.labels import PATHOLOGIES
from cxrkit.datasets.phantom import cohort
from cxrkit.prepare.stage import PrepareConfig, prepare_raw
from cxrkit.reproduce import study
from cxrkit.runs.config import read_config
from cxrkit.runs.folder import RunFolder

FOLDER = Path(elsewhere.__file__).parent
SMALL = {"blocks": [1, 1, 1, 1], "width": 16}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohort") / "raw"
    cohort.generate(folder, 30, seed=1)
    return folder


def test_the_other_task_knows_whose_film_it_is_and_where_something_lies(raw: Path) -> None:
    found, drawn = elsewhere.read(raw), cohort.read(raw)
    assert drawn.boxes is not None
    assert not set(PATHOLOGIES) & set(found.frame.columns)
    assert found.frame["image_id"].equals(drawn.frame["image_id"])
    for film, other in zip(drawn.frame.iter_rows(named=True), found.frame.iter_rows(named=True), strict=True):
        centres = [
            (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
            for box in drawn.boxes.iter_rows(named=True)
            if box["image_id"] == film["image_id"]
        ]
        zones = {f"Zone {int(3 * y / 1024)}{int(3 * x / 1024)}" for x, y in centres}
        assert {name for name in other if name.startswith("Zone") and other[name]} == zones
        assert other["Man"] == (film["sex"] == "M")
        assert other["Portable"] == (film["view"] == "AP")
        assert other["Above 50"] == (film["age_years"] > 50)


def test_its_network_becomes_the_weights_of_the_transfer_networks(raw: Path, tmp_path: Path) -> None:
    console, data = Console(quiet=True), tmp_path / "shards"
    name = "benchmarks.phantom_grid.elsewhere:read"
    prepare_raw(PrepareConfig(raw, data, name, levels=(128, 64), workers=1), console=console)
    said = {"data": data, "runs": tmp_path / "runs", "fold": "1", "epochs": 1, "batch_size": 8, "threads": 1}
    run = pipeline.train(pipeline.resolve(said, recipe=str(FOLDER / "elsewhere.toml")), False, console)
    assert run == RunFolder(tmp_path / "runs" / "elsewhere" / "resample-1")
    weights.write(run, tmp_path / "weights.safetensors")

    trained = weights.backbone(run)
    for model in ("resnet50-ots", "resnet50-ft-meta"):
        net = models.build(model, options=SMALL, weights=tmp_path / "weights.safetensors")
        assert net.initial_weights.sha256
        for parameter, value in net.state_dict().items():
            if not parameter.startswith("fc."):
                torch.testing.assert_close(value, trained[parameter], rtol=0, atol=0)


def test_the_study_has_the_eight_set_ups_of_table_3_on_five_resamples() -> None:
    found = study.read(str(FOLDER / "table3.toml"))
    assert len(found.runs) == 40
    assert {(run.recipe, run.fold) for run in found.runs} == {
        (f"resnet50-{kind}{meta}", str(fold))
        for kind in ("ots", "ft", "1channel", "large")
        for meta in ("", "-meta")
        for fold in range(1, 6)
    }
    options = read_config(FOLDER / "elsewhere.toml").model.options
    for run in found.runs:
        settings = dict(run.settings)
        assert {key: options[key] for key in SMALL} == {key: settings[f"model.options.{key}"] for key in SMALL}
        assert settings["input.size"] == (64 if "large" in run.recipe else 32)
