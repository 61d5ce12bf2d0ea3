"""A network that has taken a few steps is looked at with statistics of its own; all else of a training is as it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from torch import nn

from cxrkit import models, pipeline
from cxrkit.base.contracts import Batch, Outputs
from cxrkit.loaders.inputs import Inputs
from cxrkit.losses import build as build_loss
from cxrkit.models import compute
from cxrkit.predict import load
from cxrkit.runs.folder import RunFolder
from cxrkit.runs.metrics import read_metrics
from cxrkit.trainers import settling

FROM_SCRATCH = {
    "model": "resnet50-1channel", "input_size": 32, "batch_size": 8, "lr": 0.01, "limit": 24, "epochs": 1,
    "precision": "fp32", "threads": 1, "log_steps": 1,
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def train(prepared: Path, runs: Path, **more: Any) -> RunFolder:
    config = pipeline.resolve(FROM_SCRATCH | {"data": prepared, "runs": runs} | more)
    return pipeline.train(config, False, Console(quiet=True))


def lines(run: RunFolder, kind: str) -> list[dict[str, Any]]:
    return [line for line in read_metrics(run.metrics) if line["kind"] == kind]


def validation_loss(checkpoint: Path, prepared: Path) -> float:
    model, spec, _ = load(checkpoint)
    inputs = Inputs.of(prepared, "official", FROM_SCRATCH["limit"])
    loader = inputs.loader(inputs.eval_plan("val", spec, 32), "opencv", "cpu", 1)
    loss = build_loss("bce-mean", labels=inputs.labels, options={})
    found = compute.score(model, loader, spec, "cpu", "fp32", loss).loss
    inputs.close()
    return found


def test_the_first_look_at_a_network_from_scratch_makes_sense(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three steps at the paper's rate. By the averages alone the loss is beyond all bounds, as it was shown before."""
    run = train(prepared, tmp_path / "settled")
    (epoch,) = lines(run, "epoch")
    assert epoch["val_loss"] < 5
    assert validation_loss(run.best, prepared) == pytest.approx(epoch["val_loss"], rel=1e-6), "what is kept is as seen"
    assert validation_loss(run.last, prepared) > 1000
    # And nothing of the training itself is touched: its losses and its last state are those of one that never settles.
    monkeypatch.setattr(settling, "SETTLED", 0)
    raw = train(prepared, tmp_path / "raw")
    assert lines(raw, "step") == lines(run, "step")
    assert lines(raw, "epoch")[0]["val_loss"] > 1000
    one, other = load_file(run.last), load_file(raw.last)
    assert all(torch.equal(value, other[name]) for name, value in one.items())


class Net(nn.Module):
    """A network with a layer of each kind that matters here."""

    def __init__(self) -> None:
        super().__init__()
        self.usual, self.slow = nn.BatchNorm2d(1), nn.BatchNorm2d(1, momentum=0.01)
        self.plain, self.without = nn.BatchNorm2d(1, momentum=None), nn.BatchNorm2d(1, track_running_stats=False)
        self.frozen, self.dropout = nn.BatchNorm2d(1), nn.Dropout(0.5)

    def train(self, mode: bool = True) -> Net:
        super().train(mode)
        self.frozen.eval()
        return self

    def forward(self, image_BCHW: torch.Tensor, meta_B3: torch.Tensor) -> Outputs:
        layers = (self.usual, self.slow, self.plain, self.without, self.frozen, self.dropout)
        return Outputs(nn.Sequential(*layers)(image_BCHW).mean((2, 3)))


def task(steps: int) -> Any:
    """All that `settle` asks of a task; the batches of epoch e are gray levels around e + 1."""

    def epoch(number: int) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(number)
        for _ in range(steps):
            image = torch.randint(100 * number, 100 * number + 50, (4, 1, 3, 3), generator=generator).to(torch.uint8)
            yield Batch(image, torch.zeros(4, 1), torch.zeros(4, 3), torch.arange(4))

    return SimpleNamespace(
        train=SimpleNamespace(steps=steps, epoch=epoch),
        spec=models.spec("resnet14-small"),
        device="cpu",
        precision="fp32",
    )


def state(net: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


def changed(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> set[str]:
    return {name.split(".")[0] for name, value in one.items() if not torch.equal(value, other[name])}


@pytest.mark.parametrize(
    ("steps", "epochs", "measured"),
    [(99, 1, {"usual", "slow"}), (100, 1, {"slow"}), (50, 2, {"slow"}), (1000, 1, set()), (4731, 1, set())],
)
def test_only_what_has_not_settled_is_measured_and_all_is_put_back(steps: int, epochs: int, measured: set[str]) -> None:
    net = Net().train()
    before, modes = state(net), {name: module.training for name, module in net.named_modules()}
    generator = torch.get_rng_state()
    said: list[str] = []
    statistics = settling.settle(task(steps), net, epochs, said.append)
    assert changed(before, state(net)) == measured
    assert len(said) == (epochs == 1 and bool(measured))
    assert {name: module.training for name, module in net.named_modules()} == modes
    assert (net.usual.momentum, net.slow.momentum, net.plain.momentum) == (0.1, 0.01, None)
    assert torch.equal(torch.get_rng_state(), generator)
    statistics.restore()
    assert changed(before, state(net)) == set()


def test_the_statistics_are_those_of_the_first_batches_of_the_epoch() -> None:
    net = Net().train()
    settling.settle(task(20), net, 2)
    spec = models.spec("resnet14-small")
    seen = [
        models.prepare_input(batch.image, spec) for batch, _ in zip(task(20).train.epoch(1), range(10), strict=False)
    ]
    expected = torch.stack([image.mean() for image in seen]).mean()
    assert net.usual.running_mean is not None
    assert net.usual.running_mean.item() == pytest.approx(expected.item(), rel=1e-5)
    assert net.usual.num_batches_tracked == 10
