"""The examples, plugged in by `package.module:attribute` and by an entry point of an installed package."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from conftest import REPOSITORY
from rich.console import Console
from test_loaders import keep, make, write_folder
from tiny_cohort import image_id, write_images

from cxrkit import losses, models, pipeline
from cxrkit.base import registry
from cxrkit.base.contracts import Batch, Job, Outputs, Share
from cxrkit.base.errors import UserError
from cxrkit.base.labels import ADJUDICATED, CHESTXRAY8, CHESTXRAY14
from cxrkit.loaders import targets
from cxrkit.loaders.plan import Plan
from cxrkit.models import compute
from cxrkit.runs.metrics import read_metrics
from cxrkit.runs.scores import read_scores
from cxrkit.shards.store import ShardStore

EXAMPLES = {
    "model": "examples.dropout_net:build",
    "loss": "examples.focal_loss:build",
    "loader": "examples.plain_loader:PlainLoader",
    "trainer": "examples.head_first_trainer:train",
    "evaluator": "examples.brier_evaluator:evaluate",
    "executor": "examples.serial_executor:SerialExecutor",
}


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(REPOSITORY)


@pytest.fixture(params=["target", "entry point"])
def plugged(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return the examples' names: as they are, or as an installed package gives them."""
    if request.param == "target":
        return EXAMPLES
    info = tmp_path / "examples-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: examples\nVersion: 1.0\n")
    lines = [f"[{registry.group(kind)}]\nmine-{kind} = {target}\n" for kind, target in EXAMPLES.items()]
    (info / "entry_points.txt").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)
    return {kind: f"mine-{kind}" for kind in EXAMPLES}


def random_batch(labels: int, size: int = 64) -> Batch:
    generator = torch.Generator().manual_seed(0)
    target = (torch.rand(6, labels, generator=generator) > 0.5).float()
    target[0, 0] = math.nan
    image = torch.randint(0, 256, (6, 1, size, size), dtype=torch.uint8, generator=generator)
    return Batch(image, target, torch.rand(6, 3, generator=generator), torch.arange(6))


def test_a_model_and_a_loss(plugged: dict[str, str]) -> None:
    model = models.build(plugged["model"], labels=CHESTXRAY8, options={"dropout": 0.25, "input_size": 96})
    spec: Any = model.spec
    assert (spec.name, spec.input_size, spec.source) == (plugged["model"], 96, "own")
    batch = random_batch(len(CHESTXRAY8), 96)
    outputs = compute.forward(model, batch, spec, "cpu", "fp32")
    loss = losses.build(plugged["loss"], labels=CHESTXRAY8, options={"gamma": 2.0})(outputs, batch)
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    with pytest.raises(UserError, match="unknown option 'gama'\n  remedy: did you mean gamma"):
        losses.build(plugged["loss"], options={"gama": 1})


def test_dropout_draws_in_training_only() -> None:
    model = models.build(EXAMPLES["model"])
    batch = random_batch(15)

    def logits(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return compute.forward(model, batch, model.spec, "cpu", "fp32").logits  # type: ignore[arg-type]

    assert torch.equal(logits(1), logits(1))
    assert not torch.equal(logits(1), logits(2))
    model.eval()
    assert torch.equal(logits(1), logits(2))


def test_tied_weights_stay_one_tensor() -> None:
    model: Any = models.build("examples.tied_net:build", labels=ADJUDICATED)
    state = model.state_dict()
    assert state["fine.weight"].data_ptr() == state["coarse.weight"].data_ptr()
    compute.forward(model, random_batch(4), model.spec, "cpu", "fp32").logits.sum().backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert torch.equal(model.fine.weight, model.coarse.weight)


@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_the_focal_loss(gamma: float) -> None:
    logits, target = torch.tensor([[0.4, -2.0, 3.0]]), torch.tensor([[1.0, 0.0, math.nan]])
    batch = Batch(torch.zeros(1, 1, 4, 4, dtype=torch.uint8), target, torch.zeros(1, 3), torch.zeros(1))
    right = [1 / (1 + math.exp(-0.4)), 1 - 1 / (1 + math.exp(2.0))]
    expected = sum(-((1 - p) ** gamma) * math.log(p) for p in right) / 2
    found = losses.build(EXAMPLES["loss"], options={"gamma": gamma})(Outputs(logits), batch)
    assert found.item() == pytest.approx(expected, rel=1e-6)


def test_a_loader(plugged: dict[str, str], tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "shards", "png")
    for train in (True, False):
        plain, opencv = (keep(make(name, folder, train=train).epoch(1)) for name in (plugged["loader"], "opencv"))
        for one, other in zip(plain, opencv, strict=True):
            assert torch.equal(one.index, other.index)
            assert torch.equal(one.target, other.target)
            assert torch.equal(one.meta, other.meta)
            assert (one.image.int() - other.image.int()).abs().max() <= 1


def test_eight_labels_go_from_the_table_to_the_loss(tmp_path: Path) -> None:
    """Nothing on the way counts to fifteen; a label that is not known arrives as such."""
    store = ShardStore(write_folder(tmp_path / "shards", "raw"))
    frame = store.index.with_columns(pl.when(pl.col("Mass")).then(None).otherwise("Mass").alias("Mass"))
    plan = Plan(np.arange(len(store)), True, 0, 8, 56, 64, store.levels, 128)
    tables = targets.targets(frame, CHESTXRAY8), targets.metadata(frame, (0, 90))
    for name in ("opencv", "resident", EXAMPLES["loader"]):
        loader = registry.load("loader", name)(store, plan, *tables, threads=1, device="cpu")
        model = models.build("resnet14-small-meta", labels=CHESTXRAY8, options={"input_size": 56, "width": 4})
        unknown = []
        for batch in loader.epoch(0):
            outputs = compute.forward(model, batch, model.spec, "cpu", "fp32")  # type: ignore[arg-type]
            assert outputs.logits.shape == batch.target.shape == (len(batch.index), 8)
            losses.build(labels=CHESTXRAY8)(outputs, batch).backward()
            unknown += batch.index[batch.target[:, CHESTXRAY8.labels.index("Mass")].isnan()].tolist()
        assert sorted(unknown) == np.flatnonzero(frame["Mass"].is_null()).tolist() != []
        assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None)
        scored = compute.score(model, loader, model.spec, "cpu", "fp32", losses.build())  # type: ignore[arg-type]
        assert np.isfinite(scored.loss)
        loader.close()


def test_every_example_in_one_training(plugged: dict[str, str], prepared: Path, tmp_path: Path) -> None:
    given: dict[str, Any] = dict(plugged)
    given |= {"data": prepared, "runs": tmp_path / "runs", "epochs": 1, "limit": 8, "batch_size": 4, "device": "cpu"}
    run = pipeline.train(pipeline.resolve(given), False, Console(quiet=True))
    assert run.state() == "scored"
    metrics = read_scores(run.scores).subsets["test"].metrics
    assert [(metric.name, metric.label) for metric in metrics] == [("brier", label) for label in CHESTXRAY14.labels]
    (line,) = [line for line in read_metrics(run.metrics) if line["kind"] == "epoch"]
    assert line["train_images"] == 8
    from safetensors.torch import load_file

    trained = load_file(run.best)
    initial = models.build(plugged["model"]).state_dict()
    learned = {name for name, value in initial.items() if not torch.equal(value, trained[f"model/{name}"])}
    parameters = {name for name, _ in models.build(plugged["model"]).named_parameters()}
    assert learned & parameters == {"dense.weight", "dense.bias"}


def test_an_evaluator(plugged: dict[str, str]) -> None:
    evaluate = registry.load("evaluator", plugged["evaluator"])
    scores = np.array([[0.9, 0.5, 0.1, 0.0]] * 3, dtype=np.float32)
    truth = np.array([[1, 0, math.nan, 0], [0, 0, math.nan, 0], [1, math.nan, math.nan, 0]], dtype=np.float32)
    metrics = list(evaluate(scores, truth, np.array([0, 0, 1]), ADJUDICATED))
    assert [metric.label for metric in metrics] == list(ADJUDICATED.labels)
    assert [metric.value for metric in metrics] == [pytest.approx(0.83 / 3), 0.25, None, 0]
    assert [metric.positives for metric in metrics] == [2, 0, None, 0]


def test_an_executor(plugged: dict[str, str], tmp_path: Path) -> None:
    executor = registry.load("executor", plugged["executor"])(Share(folder=tmp_path), nice=1)
    for code in (0, 3):
        command = (sys.executable, "-c", f"print('said'); raise SystemExit({code})")
        executor.submit(Job(f"job-{code}", command, tmp_path, tmp_path / "jobs.log"))
    assert [(end.name, end.code) for end in executor.ended()] == [("job-0", 0), ("job-3", 3)]
    assert (tmp_path / "jobs.log").read_text() == "said\nsaid\n"
    assert not list(executor.ended())
    executor.close()


def test_a_data_set_with_labels_of_its_own(tmp_path: Path) -> None:
    """From the raw folder to scores: three labels, of which some are not known; no age, no sex, no official split."""
    from cxrkit.prepare.stage import PrepareConfig, prepare_raw

    raw, data, patients = tmp_path / "raw", tmp_path / "shards", 24
    write_images(raw / "images", 3 * patients)
    names = [image_id(number) for number in range(3 * patients)]
    rows = [f"{name},{name[:8]},{number % 2},{['', '1', '0'][number % 3]},0" for number, name in enumerate(names)]
    (raw / "table.csv").write_text("image_id,patient_id,Effusion,Fracture,Device\n" + "\n".join(rows))
    config = PrepareConfig(raw, data, dataset="examples.table_dataset:read", levels=(128, 64), workers=1)
    assert prepare_raw(config).images == 3 * patients
    given = {
        "model": "resnet14-small-meta",
        "input_size": 32,
        "batch_size": 8,
        "fold": "1",
        "epochs": 1,
        "device": "cpu",
    }
    run = pipeline.train(
        pipeline.resolve(given | {"data": data, "runs": tmp_path / "runs"}), False, Console(quiet=True)
    )
    scores = read_scores(run.scores)
    assert scores.origin.label_set == "examples.table_dataset:FINDINGS"
    metrics = {metric.label: metric for metric in scores.subsets["test"].metrics}
    assert set(metrics) == {"Effusion", "Fracture", "Device", None}
    assert metrics["Device"].value is None
    fracture = metrics["Fracture"]
    assert fracture.positives is not None
    assert fracture.positives + (fracture.negatives or 0) < scores.subsets["test"].images, (
        "what is not known is left out"
    )
    pipeline.predict(run, Console(quiet=True))
    pipeline.evaluate(run, None, Console(quiet=True))
    assert run.state() == "scored"
