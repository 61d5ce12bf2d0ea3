"""Every set-up of the paper trains a few steps on real images, predicts, and is reported as partial."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from rich.console import Console
from torchvision.models import resnet50

from cxrkit import pipeline, recipes, report
from cxrkit.datasets.nih.chestxray14 import read
from cxrkit.prepare.stage import PrepareConfig, prepare
from cxrkit.recipes.probing import is_probe
from cxrkit.runs.metrics import read_metrics

SIZE, LIMIT = 64, 24  # the paper's sizes are tried by hand: one step of ResNet-101 at 448 is seconds on a CPU
SET_UPS = [name for name in recipes.names() if name.startswith("resnet") and not is_probe(recipes.load(name))]


@pytest.fixture(scope="module")
def data(nih_raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a part of the real sample, prepared."""
    folder = tmp_path_factory.mktemp("real") / "shards"
    records = read(nih_raw, allow_missing=True)
    settings = PrepareConfig(raw=nih_raw, data=folder, allow_missing=True, levels=(256, 128), workers=1, limit=120)
    prepare(settings, records)
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file such as torchvision's ImageNet weights, of random numbers."""
    path = tmp_path_factory.mktemp("weights") / "resnet50.pth"
    torch.manual_seed(0)
    torch.save(resnet50(weights=None).state_dict(), path)
    return path


@pytest.mark.parametrize("name", SET_UPS)
def test_a_set_up_trains_predicts_and_is_reported_as_partial(name, data, weights, tmp_path):
    transfer = {"weights": weights} if "-ots" in name or "-ft" in name else {}
    said = {
        "data": data, "runs": tmp_path, "epochs": 1, "input_size": SIZE, "limit": LIMIT, "batch_size": 8,
        "threads": 1, "log_steps": 1, "precision": "fp32", "device": "cpu", "loader": "opencv",
    }  # fmt: skip
    config = pipeline.resolve(said | transfer, recipe=name)
    run = pipeline.train(config, False, Console(quiet=True))
    assert run.state() == "scored"
    losses = [line["loss"] for line in read_metrics(run.metrics) if line["kind"] == "step"]
    assert len(losses) == 3
    assert all(0 < loss < 20 for loss in losses)
    shown = report.render(report.official(tmp_path), "md")
    assert name in shown
    assert "of 25,596 test images" in shown
