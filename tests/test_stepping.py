"""One training step: recorded and replayed it is the same step, and where it cannot be recorded nothing is lost.

What a CUDA graph does is done here by `again`: it warms up, which changes everything, and its replay computes on the
memory of the recording. The same tests with a GPU: test_cuda_training.py.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_checkpoints import info
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from benchmarks.steps import make_step
from cxrkit import losses, models
from cxrkit.base.contracts import LABELS, Batch, Outputs
from cxrkit.base.errors import UserError
from cxrkit.models import ModelSpec, compute
from cxrkit.runs import checkpoints
from cxrkit.runs.sections import OptimizerSettings
from cxrkit.trainers import optimizers, stepping
from cxrkit.trainers.stepping import Step, tensors

RATE = 2.0**-9  # the same number in float32 and in float64
NETWORKS = ["resnet14-small-meta", "examples.dropout_net:build"]


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def again(step: Step, batch: Batch) -> tuple[torch.Tensor, Callable[[], object]]:
    for _ in range(stepping.WARM_UPS):
        step.plain(batch)
    step.rehearse(batch)
    loss = torch.full((), -1.0)
    return loss, lambda: loss.copy_(step.plain(batch))


def batch(number: int, images: int = 4, size: int = 32) -> Batch:
    generator = torch.Generator().manual_seed(number)
    image = torch.randint(0, 256, (images, 1, size, size), dtype=torch.uint8, generator=generator)
    target = torch.randint(0, 2, (images, len(LABELS)), generator=generator).float()
    return Batch(image, target, torch.rand(images, 3, generator=generator), torch.arange(images) + 10 * number)


def make(
    name: str | nn.Module = NETWORKS[0],
    *,
    precision: str = "fp32",
    rate_on_device: bool = False,
    loss: Any = None,
    notes: list[str] | None = None,
) -> Step:
    torch.manual_seed(7)
    model: Any = models.build(name, seed=1) if isinstance(name, str) else name
    optimizer = optimizers.build(OptimizerSettings(lr=RATE), model, "m", rate_on_device=rate_on_device)
    forward = compute.Forward(model.train(), model.spec, "cpu", precision)
    scaler = stepping.make_scaler("cpu", precision == "fp16")
    said: list[str] = [] if notes is None else notes
    return Step(model, forward, loss or losses.build(), optimizer, scaler, note=said.append)


def state(step: Step) -> list[torch.Tensor]:
    """Everything that a step changes, in copies."""
    moments = sorted(step.optimizer.state_dict()["state"].items())
    found = [*step.model.state_dict().values(), *(value[key] for _, value in moments for key in sorted(value))]
    scaler = [torch.tensor(float(value)) for value in step.scaler.state_dict().values()]
    return [value.clone() for value in (*found, *scaler, torch.get_rng_state())]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("steps_before", [0, 2])
def test_a_recorded_step_is_the_step(name: str, precision: str, steps_before: int) -> None:
    """Bit by bit: losses, weights, statistics, moments, the scale, random numbers; from the start and resumed."""
    plain, recorded = make(name, precision=precision), make(name, precision=precision)
    runs = []
    for step in (plain, recorded):
        torch.manual_seed(7)
        found = [step(batch(number)).item() for number in range(steps_before)]
        if step is recorded:
            step.record(batch(99), again)
            assert step.graph is not None
        found += [step(batch(number)).item() for number in range(steps_before, steps_before + 3)]
        runs.append((found, state(step)))
    assert runs[0][0] == runs[1][0]
    assert same(runs[0][1], runs[1][1])


def test_recording_changes_nothing_in_its_place() -> None:
    """The memory stays where it was: a recorded step goes on with it."""
    step = make(precision="fp16")
    step(batch(0))
    before, addresses = state(step), [value.data_ptr() for value in step.model.state_dict().values()]
    step.record(batch(1), again)
    assert same(state(step), before)
    assert [value.data_ptr() for value in step.model.state_dict().values()] == addresses
    assert all(parameter.grad is None for parameter in step.model.parameters())


def test_moments_made_by_a_recording_are_zero() -> None:
    step = make()
    step.record(batch(0), again)
    made = [value for moments in step.optimizer.state.values() for value in moments.values()]
    assert made
    assert not any(value.any() for value in made)


def test_all_of_a_batch_reaches_a_recorded_step() -> None:
    """A loss may read any of it."""

    def loss(outputs: Outputs, batch: Batch) -> torch.Tensor:
        read = batch.index.sum() + 2 * batch.meta.sum() + 3 * batch.target.sum() + 5 * batch.image.float().mean()
        return outputs.logits.sum() * 0 + read

    step = make("mlp-meta", loss=loss)
    step.record(batch(0), again)
    for number in range(1, 4):
        one = batch(number)
        expected = one.index.sum() + 2 * one.meta.sum() + 3 * one.target.sum() + 5 * one.image.float().mean()
        assert step(one).item() == pytest.approx(expected.item())


def test_a_loss_that_somebody_keeps_stays_what_it_was() -> None:
    step = make()
    step.record(batch(0), again)
    first = step(batch(1))
    value = first.item()
    assert step(batch(2)).item() != value
    assert first.item() == value
    assert not first.requires_grad


def test_a_batch_of_another_shape_is_trained_on_without_the_recording() -> None:
    notes: list[str] = []
    plain, recorded = make(), make(notes=notes)
    recorded.record(batch(99), again)
    batches = [batch(0), batch(1, images=3), batch(2), batch(3, size=40), batch(4, images=3), batch(5)]
    assert [recorded(one).item() for one in batches] == [plain(one).item() for one in batches]
    assert same(state(recorded), state(plain))
    (note,) = notes
    assert "gives a batch of image (3, 1, 32, 32), target (3, 15), meta (3, 3), and the training step was" in note
    assert "recorded for image (4, 1, 32, 32), target (4, 15), meta (4, 3): such batches" in note


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("where", ["loss", "step", "update"])
def test_a_step_that_cannot_be_recorded_is_taken_as_it_is(
    precision: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever in the step it fails: nothing has changed, and training goes on as if nobody had tried."""
    notes: list[str] = []
    plain, tried = make(precision=precision), make(precision=precision, notes=notes)
    for step in (plain, tried):
        step(batch(0))
    before = state(tried)

    def failing(step: Step, batch: Batch) -> Any:
        step.plain(batch)
        with monkeypatch.context() as patch:
            target: Any = {"loss": step, "step": step.optimizer, "update": step.scaler}[where]
            patch.setattr(target, where, lambda *_: (_ for _ in ()).throw(RuntimeError("it waits\nfor the device")))
            step.plain(batch)

    tried.record(batch(1), failing)
    assert tried.graph is None
    assert same(state(tried), before)
    (note,) = notes
    assert "cannot be recorded as one CUDA graph, so it is taken kernel by kernel, only slower: it waits\n" in note
    assert "remedy: give --no-graph" in note
    assert [tried(batch(n)).item() for n in (2, 3)] == [plain(batch(n)).item() for n in (2, 3)]
    assert same(state(tried), state(plain))


def test_what_the_user_can_repair_is_said_before_the_first_epoch() -> None:
    step = make()
    before = state(step)
    with pytest.raises(UserError, match=r"a batch of 1 image at \d+ px leaves batch normalisation(.|\n)*--batch-size"):
        step.record(batch(0, images=1), again)
    assert same(state(step), before)
    step = make("mlp-meta", loss=lambda outputs, batch: outputs.logits.detach().sum())
    with pytest.raises(UserError, match="loss 'loss' of model 'mlp-meta': has no gradient"):
        step.record(batch(0), again)
    with pytest.raises(UserError, match="has no gradient"):
        step(batch(0))


class Replacing(nn.Module):
    """Counts in a buffer, by making a new one."""

    count: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.spec = ModelSpec("replacing", input_size=32, resize=32)
        self.dense = nn.Linear(3, len(LABELS))
        self.register_buffer("count", torch.zeros(()))

    def forward(self, image: torch.Tensor, meta: torch.Tensor) -> Outputs:
        self.count = self.count + 1
        return Outputs(self.dense(meta))


def test_a_network_that_replaces_its_buffers_is_not_recorded() -> None:
    """The recording would count from the same number for ever."""
    notes: list[str] = []
    step = make(Replacing(), notes=notes)
    step.record(batch(0), again)
    assert step.graph is None
    assert "the network replaces its buffer 'count' instead of changing it in place" in notes[0]
    step(batch(0))
    assert step.model.count == 1


class Counting(nn.Module):
    """Weighs its loss by the number of steps so far, in Python."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0

    def forward(self, outputs: Outputs, batch: Batch) -> torch.Tensor:
        self.steps += 1
        return outputs.logits.square().mean() * self.steps


def closure(draw: Callable[[], float] | None = None) -> Callable[[Outputs, Batch], torch.Tensor]:
    steps = 0

    def loss(outputs: Outputs, batch: Batch) -> torch.Tensor:
        nonlocal steps
        if draw is None:
            steps += 1
        return outputs.logits.square().mean() * (steps if draw is None else 1 + draw())

    def checked(outputs: Outputs, batch: Batch) -> torch.Tensor:  # as losses of one's own are
        return loss(outputs, batch)

    return checked


class CountingNetwork(nn.Module):
    """Keeps count of its steps in a part of it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.spec = ModelSpec("counting", input_size=32, resize=32)
        self.part = nn.Linear(3, len(LABELS))
        self.part.steps = 0  # type: ignore[assignment]

    def forward(self, image: torch.Tensor, meta: torch.Tensor) -> Outputs:
        self.part.steps += 1  # type: ignore[operator, assignment]
        return Outputs(self.part(meta) * self.part.steps)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("name", "loss", "what"),
    [
        ("mlp-meta", Counting, "the loss's steps"),
        ("mlp-meta", closure, "the loss's steps"),
        ("mlp-meta", lambda: closure(random.random), "the state of Python's random generator"),
        ("mlp-meta", lambda: closure(np.random.rand), "the state of numpy's random generator"),
        (CountingNetwork, losses.build, "the network's part.steps"),
    ],
    ids=["object", "closure", "random", "numpy", "network"],
)
def test_what_changes_in_python_is_not_recorded(name: Any, loss: Any, what: str) -> None:
    """A recorded step would repeat the first one's number for ever; taken as it is, it begins with that of before."""
    values = []
    for record in (True, False):
        random.seed(3)
        np.random.seed(3)
        notes: list[str] = []
        step = make(name if isinstance(name, str) else name(), loss=loss(), notes=notes)
        if record:
            step.record(batch(9), again)
            assert step.graph is None
            assert f"only slower: each step changes {what}, which a recorded one would not\n" in notes[0]
        values.append([step(batch(number)).item() for number in range(3)])
    assert values[0] == values[1]


def test_a_rate_on_the_device_is_the_same_adam() -> None:
    """Capturable and with the rate in a tensor, as recorded steps need it: equal bits, also when the rate falls."""
    usual, on_device = make(), make(rate_on_device=True)
    rate = on_device.optimizer.param_groups[0]["lr"]
    on_device.record(batch(9), again)
    for number in range(6):
        assert usual(batch(number)).item() == on_device(batch(number)).item()
        for step in (usual, on_device):
            optimizers.set_rate(step.optimizer, RATE / 2**number)
    assert on_device.optimizer.param_groups[0]["lr"] is rate
    assert rate.item() == RATE / 2**5
    assert same(state(usual), state(on_device))


def test_a_rate_that_falls_takes_effect_in_a_recorded_step() -> None:
    step = make(rate_on_device=True)
    step.record(batch(9), again)
    step(batch(0))
    before = [parameter.clone() for parameter in step.model.parameters()]
    optimizers.set_rate(step.optimizer, 0.0)
    step(batch(1))
    assert all(torch.equal(a, b) for a, b in zip(before, step.model.parameters(), strict=True))
    optimizers.set_rate(step.optimizer, RATE)
    step(batch(1))
    assert not any(torch.equal(a, b) for a, b in zip(before, step.model.parameters(), strict=True))


@pytest.mark.parametrize("from_device", [False, True])
def test_moments_go_through_a_checkpoint_to_the_other_kind_of_adam(from_device: bool, tmp_path: Path) -> None:
    through, stopped, resumed = make(), make(rate_on_device=from_device), make(rate_on_device=not from_device)
    expected = [through(batch(number)).item() for number in range(5)]
    assert [stopped(batch(number)).item() for number in range(2)] == expected[:2]
    path = tmp_path / "last.safetensors"
    checkpoints.save(path, stopped.model, info(), stopped.optimizer)
    saved, _ = checkpoints.read(path)
    checkpoints.load_model(path, saved, resumed.model, "m")
    checkpoints.load_optimizer(saved, resumed.optimizer)
    optimizers.set_rate(resumed.optimizer, RATE)
    resumed.record(batch(9), again)
    assert [resumed(batch(number)).item() for number in range(2, 5)] == expected[2:]
    assert same(state(resumed), state(through))


def test_nothing_in_a_step_waits_for_the_device() -> None:
    """With tensors that have no values, whatever needs one raises."""
    for precision in ("fp32", "bf16", "fp16"):
        for name in ("resnet14-small-meta", "resnet50-ots", "mlp-meta"):
            _fake_step(name, precision, losses.build())
    with pytest.raises(DataDependentOutputException):
        _fake_step("mlp-meta", "fp32", lambda outputs, batch: outputs.logits.sum() * batch.target.sum().item())


def _fake_step(name: str, precision: str, loss: Any) -> None:
    with FakeTensorMode():
        model: Any = models.build(name, pretrained=False)
        optimizer = optimizers.build(OptimizerSettings(lr=RATE), model, name, rate_on_device=True)
        forward = compute.Forward(model.train(), model.spec, "cpu", precision)
        step = Step(model, forward, loss, optimizer, stepping.make_scaler("cpu", precision == "fp16"))
        target, meta = torch.zeros(8, len(LABELS)), torch.rand(8, 3)
        one = Batch(torch.zeros(8, 1, 64, 64, dtype=torch.uint8), target, meta, torch.arange(8))
        for _ in range(2):
            assert step(one).shape == ()
        scored = forward(one).logits.sigmoid()
        assert scored.shape == (8, len(LABELS))


@pytest.mark.parametrize("precision", ["fp32", "tf32"])
def test_all_of_a_forward_pass_lies_on_one_gpu(precision: str) -> None:
    """Dtypes and devices, without a GPU; autocast, the backward pass and Adam ask for a real one."""
    with FakeTensorMode():
        model: Any = models.build("resnet50-large-meta", pretrained=False)
        for module in model.modules():
            for found in (module._parameters, module._buffers):
                for key, value in [(key, value) for key, value in found.items() if value is not None]:
                    moved = torch.empty(value.shape, dtype=value.dtype, device="cuda")
                    found[key] = nn.Parameter(moved) if found is module._parameters else moved
        one = stepping.tensors(batch(0, size=64))
        moved_batch = Batch(*(torch.empty(value.shape, dtype=value.dtype, device="cuda") for value in one))
        outputs = compute.Forward(model, model.spec, "cuda", precision)(moved_batch)
        loss = losses.build()(outputs, moved_batch)
        assert (outputs.logits.dtype, loss.device.type) == (torch.float32, "cuda")


def test_a_fixed_batch_draws_nothing() -> None:
    before = torch.get_rng_state()
    one, other = (stepping.fixed_batch(4, 32, 15, "cpu") for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(tensors(one), tensors(other), strict=True))
    assert [(value.dtype, tuple(value.shape)) for value in tensors(one)] == [
        (value.dtype, tuple(value.shape)) for value in tensors(batch(0))
    ]


def test_a_step_leaves_no_graph_behind() -> None:
    """Nodes that outlive a warm-up would tie a recording to the stream of before."""
    step = make("mlp-meta")
    loss = step(batch(0))
    gc.collect()
    assert loss.grad_fn is None


def test_when_steps_are_recorded_and_what_it_is_called() -> None:
    cases = [(None, "cuda"), (True, "cuda:1"), (False, "cuda"), (None, "cpu"), (True, "cpu")]
    assert [stepping.records(graph, device) for graph, device in cases] == [True, True, False, False, False]
    names = [stepping.mode_name(*mode) for mode in ((None, False), (True, False), (True, True), (False, True))]
    assert names == ["eager", "compiled", "compiled, a CUDA graph a step", "a CUDA graph a step"]


def test_the_benchmarks_step_is_the_trainers() -> None:
    one = stepping.fixed_batch(4, 32, len(LABELS), "cpu")
    take = make_step("mlp-meta", "cpu", "fp32")
    values = [take(one).item() for _ in range(30)]
    assert values[-1] < values[0]
    take = make_step("resnet14-small-meta", "cpu", "fp32", channels_last=False)
    assert take(one).item() == pytest.approx(make_step("resnet14-small-meta", "cpu", "fp32")(one).item(), rel=1e-4)
    with pytest.raises(ValueError, match="mode 'fast': choose from eager, compiled, graph"):
        make_step("mlp-meta", "cpu", "fp32", "fast")
