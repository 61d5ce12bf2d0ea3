"""Every recipe that looks at images trains three steps on real ones, predicts, and is reported as partial.

At a small size: few channels, 64 pixels. The layouts are the recipes' own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import small_modern
import torch
from rich.console import Console
from small_systems import smaller

from cxrkit import models, pipeline, recipes, report
from cxrkit.base.contracts import Records
from cxrkit.datasets.nih import chestxray8
from cxrkit.datasets.nih.chestxray14 import read
from cxrkit.models.grammar import SPECS
from cxrkit.prepare.stage import PrepareConfig, prepare
from cxrkit.recipes.probing import is_probe
from cxrkit.runs.folder import RunFolder
from cxrkit.runs.metrics import read_metrics

IMAGES, LIMIT, BATCH = 80, 24, 8
WIDTH = "model.options.width=4"  # an eighth of the channels of the paper's small networks; the depth is each one's own
QUIET = Console(quiet=True)
PROBES = [name for name in recipes.names() if is_probe(recipes.load(name))]
OURS = [name for name in recipes.names() if name in SPECS and SPECS[name].image and name not in PROBES]
SYSTEMS = [name for name in recipes.names() if name not in SPECS and name not in small_modern.MODERN]
EXTRACTOR = "resnet50-large"


def test_no_recipe_is_left_out() -> None:
    assert {*PROBES, *OURS, *SYSTEMS, *small_modern.MODERN, "mlp-meta"} == set(recipes.names())


@pytest.fixture(scope="module")
def records(nih_raw: Path) -> Records:
    return read(nih_raw, allow_missing=True)


def prepared(raw: Path, folder: Path, records: Records) -> Path:
    settings = PrepareConfig(
        raw, folder, records.dataset, allow_missing=True, levels=(128,), codec="raw", workers=1, limit=IMAGES
    )
    prepare(settings, records)
    return folder


@pytest.fixture(scope="module")
def data(nih_raw: Path, records: Records, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a part of the real sample, prepared."""
    return prepared(nih_raw, tmp_path_factory.mktemp("real") / "shards", records)


@pytest.fixture(scope="module")
def eight(nih_raw: Path, records: Records, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the same films with the labels of ChestX-ray8."""
    of_eight = chestxray8.eight_of(records, chestxray8.NAME)
    return prepared(nih_raw, tmp_path_factory.mktemp("eight") / "shards", of_eight)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file such as torchvision's ImageNet weights, of random numbers and of the small network."""
    path = tmp_path_factory.mktemp("weights") / "resnet50.pth"
    net = models.build("resnet50-ft", options={"width": 4}, pretrained=False)
    torch.save({name: value for name, value in net.state_dict().items() if not name.startswith("fc.")}, path)
    return path


def train(name: str, data: Path, runs: Path, sets: list[str], **more: Any) -> RunFolder:
    said = {
        "data": data, "runs": runs, "epochs": 1, "limit": LIMIT, "batch_size": BATCH, "threads": 1, "log_steps": 1,
        "precision": "fp32", "device": "cpu", "loader": "opencv",
    }  # fmt: skip
    run = pipeline.train(pipeline.resolve(said | more, recipe=name, sets=sets), False, QUIET)
    assert run.state() == "scored"
    losses = [line["loss"] for line in read_metrics(run.metrics) if line["kind"] == "step"]
    assert len(losses) == 3
    assert all(0 < loss < 30 for loss in losses)
    return run


@pytest.fixture(scope="module")
def extractor(data: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Return the run whose features the probes are given."""
    return train(EXTRACTOR, data, tmp_path_factory.mktemp("extractor"), [WIDTH], input_size=64)


@pytest.mark.parametrize("name", OURS)
def test_a_set_up_trains_predicts_and_is_reported_as_partial(
    name: str, data: Path, weights: Path, tmp_path: Path
) -> None:
    transfer = {"weights": weights} if SPECS[name].pretrained else {}
    train(name, data, tmp_path, [WIDTH], input_size=64, **transfer)
    shown = report.render(report.official(tmp_path), "md")
    assert name in shown
    assert "of 25,596 test images" in shown


@pytest.mark.parametrize("name", PROBES)
def test_a_probe_learns_from_the_features_of_a_run(name: str, data: Path, extractor: RunFolder, tmp_path: Path) -> None:
    train(name, data, tmp_path, [], from_=extractor.path)
    shown = report.render(report.probes(tmp_path), "md")
    assert name in shown
    assert "of 25,596 test images" in shown


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_system_trains_predicts_and_is_reported_as_partial(
    name: str, data: Path, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """On the first fold: of the official split no training image has a box, and li2018-box needs some."""
    if name.endswith("-8"):
        data = request.getfixturevalue("eight")
    # The real boxes are few: all images, in three batches, so that some of those that have boxes are among them.
    boxes = {"limit": None, "batch_size": 17} if name == "li2018-box" else {}
    said, sets = smaller(name)
    train(name, data, tmp_path, sets, fold="1", **(said | boxes))
    shown = report.render(report.resampled(tmp_path), "md")
    assert name in shown
    assert "of 22,425 test images" in shown


@pytest.mark.parametrize("name", small_modern.MODERN)
def test_todays_systems_train_predict_and_are_reported_as_partial(name: str, data: Path, tmp_path: Path) -> None:
    """From a file in the place of their authors' weights, which they are refused without."""
    said, sets = small_modern.smaller(name)
    weights = small_modern.weights_of(name, tmp_path / "weights.pth")
    train(name, data, tmp_path, sets, weights=weights, **said)
    shown = report.render(report.official(tmp_path, apart=True), "md")
    assert name in shown
    assert "of 25,596 test images" in shown
