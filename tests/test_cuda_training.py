"""Training on a GPU: precisions, ways of taking steps, resuming. Marked `cuda`: pytest -m cuda.

Most of it runs on a CPU as well, where `again` stands for a CUDA graph and the compiler's front end for the compiler.
Losses, poolings, optimizers and the systems of others: test_cuda_parts.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from cuda_steps import MODES, ON_CUDA, SIZE, every_mode, loud
from safetensors.torch import load_file
from test_train import QUIET, SMALL, scores_of, train

from cxrkit import losses, models, pipeline
from cxrkit.base.contracts import LABELS, Batch, Outputs
from cxrkit.models import compute
from cxrkit.runs.metrics import read_metrics
from cxrkit.runs.sections import OptimizerSettings
from cxrkit.trainers import optimizers, stepping, supervised
from cxrkit.trainers.snapshot import generator_states, restore_generators
from cxrkit.trainers.stepping import Step, fixed_batch


def only_on_cuda(function: Any) -> Any:
    for mark in ON_CUDA:
        function = mark(function)
    return function


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=ON_CUDA)])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a device that trains in every mode, and put torch's switches back afterwards."""
    with every_mode(request.param, monkeypatch) as device:
        yield device


def make(
    device: str,
    mode: str = "graph",
    precision: str = "fp32",
    name: str = "resnet14-small-meta",
    *,
    lr: float = 1e-3,
    loss: Any = None,
    notes: list[str] | None = None,
    images: int = 8,
) -> Step:
    """Return the step as a training makes it, recorded in mode `graph`."""
    compute.set_switches(device, precision)
    note = loud if notes is None else notes.append
    model: Any = models.build(name, pretrained=False, seed=1).to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimizer = optimizers.build(OptimizerSettings(lr=lr), model, name, rate_on_device=not compute.on_cpu(device))
    compile = mode != "eager"
    forward = compute.Forward(model, model.spec, device, precision, compile=compile, images=images, note=note)
    scaler = stepping.make_scaler(device, precision == "fp16")
    step = Step(model, forward, loss or losses.build(), optimizer, scaler, note=note)
    if mode == "graph":
        step.record(fixed_batch(images, SIZE[device], len(LABELS), device))
    return step


def batches(device: str, count: int, images: int = 8) -> list[Batch]:
    """Return batches whose labels can be read off the metadata and the brightness."""
    made = []
    for number in range(count):
        one = fixed_batch(images, SIZE[device], len(LABELS), "cpu")
        generator = torch.Generator().manual_seed(number)
        bright = torch.rand(images, generator=generator)
        image = (one.image * bright[:, None, None, None]).to(torch.uint8)
        target = (bright[:, None] > torch.linspace(0.2, 0.8, len(LABELS))).float()
        meta = bright[:, None].expand(-1, 3).contiguous()
        made.append(Batch(*(value.to(device) for value in (image, target, meta, one.index))))
    return made


@pytest.mark.parametrize(
    ("device", "precision", "mode"),
    [
        *(("cpu", precision, "graph") for precision in ("fp32", "bf16", "fp16")),
        *(pytest.param("cuda", *way, marks=ON_CUDA) for way in product(("fp32", "tf32", "bf16", "fp16"), MODES)),
    ],
    indirect=["device"],
)
def test_losses_fall(device: str, precision: str, mode: str) -> None:
    step = make(device, mode, precision)
    values = [step(one).item() for one in batches(device, 8) * 5]
    assert sum(values[-8:]) < 0.7 * sum(values[:8])
    assert all(parameter.dtype == torch.float32 for parameter in step.model.parameters())


@pytest.mark.parametrize(
    ("device", "mode"),
    [("cpu", "graph"), *(pytest.param("cuda", mode, marks=ON_CUDA) for mode in MODES)],
    indirect=["device"],
)
def test_an_overflow_is_skipped_and_recovered(device: str, mode: str) -> None:
    """Nothing moves while the scale is too high, Adam's count of steps neither; then it trains."""
    step = make(device, mode, "fp16")
    one = batches(device, 1)[0]
    step(one)  # the scaler makes its tensors in the first step
    step.scaler.load_state_dict(step.scaler.state_dict() | {"scale": 2.0**34})
    before = [parameter.clone() for parameter in step.model.parameters()]
    first = next(iter(step.optimizer.state.values()))["step"]
    step(one)
    assert all(torch.equal(a, b) for a, b in zip(before, step.model.parameters(), strict=True))
    assert (first.item(), step.scaler.get_scale()) == (1.0, 2.0**33)
    values = [step(one).item() for _ in range(40)]
    assert step.scaler.get_scale() < 2.0**33
    assert first.item() > 1
    assert all(map(math.isfinite, values))
    assert values[-1] < values[0]


@pytest.mark.parametrize("mode", ["compiled", "graph"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_mode_against_eager_and_nothing_is_compiled_twice(device: str, precision: str, mode: str) -> None:
    """Over an epoch with a validation whose last batch is short, and an odd batch in the next one."""
    found = {}
    with torch._dynamo.config.patch(error_on_recompile=True):  # type: ignore[attr-defined]
        for name in ("eager", mode):
            step = make(device, name, precision, lr=1e-4)
            compile = name != "eager"
            evaluate = compute.Forward(step.model, step.forward.spec, device, precision, compile=compile)
            values = [step(one).item() for one in batches(device, 20)]
            values.append(_score(step, evaluate, device, precision).loss)
            values += [step(one).item() for one in batches(device, 2)]
            values.append(step(batches(device, 1, images=5)[0]).item())
            values.append(step(batches(device, 1)[0]).item())
            found[name] = values
    tolerance = 1e-2 if precision == "fp32" else 5e-2
    assert found[mode] == pytest.approx(found["eager"], rel=tolerance, abs=tolerance)


def _score(step: Step, forward: compute.Forward, device: str, precision: str) -> compute.Scored:
    class Loader:
        steps = 3

        def epoch(self, epoch: int, start_step: int = 0) -> Any:
            yield from [*batches(device, 2), *batches(device, 1, images=3)]

        def close(self) -> None: ...

    loss = losses.build()
    return compute.score(step.model, Loader(), step.forward.spec, device, precision, loss, forward=forward)


@only_on_cuda
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
def test_no_step_waits(precision: str, mode: str) -> None:
    step = make("cuda", mode, precision)
    made = batches("cuda", 4)
    for one in made:
        step(one)
    total = torch.zeros((), dtype=torch.float64, device="cuda")
    with stepping.no_waiting():
        for one in made:
            total += step(one).double() * len(one.index)
        optimizers.set_rate(step.optimizer, 1e-5)
        step(one)
    assert math.isfinite(total.item())


@pytest.mark.parametrize(
    ("device", "mode"),
    [("cpu", "graph"), *(pytest.param("cuda", mode, marks=ON_CUDA) for mode in MODES)],
    indirect=["device"],
)
def test_a_frozen_backbone_stays_as_it_is(device: str, mode: str) -> None:
    step = make(device, mode, "bf16", "resnet50-ots")
    before = {name: value.clone() for name, value in step.model.state_dict().items()}
    for one in batches(device, 3):
        step(one)
    changed = {name for name, value in step.model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"fc.weight", "fc.bias"}
    assert len(step.optimizer.state) == 2


@pytest.mark.parametrize("mode", MODES)
def test_another_rate_takes_effect(device: str, mode: str) -> None:
    step, one = make(device, mode), batches(device, 1)[0]
    step(one)
    before = step.model.fc.weight.clone()  # type: ignore[operator, union-attr]
    optimizers.set_rate(step.optimizer, 0.0)
    step(one)
    assert torch.equal(step.model.fc.weight, before)  # type: ignore[arg-type]
    optimizers.set_rate(step.optimizer, 1e-3)
    step(one)
    assert not torch.equal(step.model.fc.weight, before)  # type: ignore[arg-type]


def test_a_recording_leaves_the_training_where_it_was(device: str) -> None:
    """Weights, statistics, moments and random numbers; so that a resumed training goes on from its checkpoint."""
    step = make(device, "compiled", "fp16", "examples.dropout_net:build")
    for one in batches(device, 2):
        step(one)

    def state() -> list[torch.Tensor]:
        moments = [value for found in step.optimizer.state.values() for value in found.values()]
        return [value.clone().cpu() for value in (*step.model.state_dict().values(), *moments)] + [
            torch.tensor(step.scaler.get_scale()),
            *generator_states(device).values(),
        ]

    before = state()
    step.record(fixed_batch(8, SIZE[device], len(LABELS), device))
    assert step.graph is not None
    assert all(torch.equal(a, b) for a, b in zip(before, state(), strict=True))


def test_dropout_draws_other_numbers_in_every_recorded_step(device: str) -> None:
    """And the same after a resume: the generator's state is what decides."""
    step = make(device, "graph", name="examples.dropout_net:build", lr=1e-9)
    one = batches(device, 1)[0]
    states = generator_states(device)
    first = [step(one).item() for _ in range(3)]
    assert len(set(first)) == 3
    restore_generators(states, device)
    assert [step(one).item() for _ in range(3)] == pytest.approx(first, rel=1e-5)


@only_on_cuda
@pytest.mark.parametrize("found", ["in the warm-up", "by the recording"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_loss_that_waits_is_not_recorded_and_breaks_nothing(
    found: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the recording itself fails, which ends it in the midst: training goes on, and another one works."""
    plain = losses.build()
    if found == "by the recording":
        if stepping._version() < stepping.MENDED:
            pytest.skip("before PyTorch 2.12 nothing goes on after a failed recording")
        monkeypatch.setattr(stepping, "no_waiting", nullcontext)

    def loss(outputs: Outputs, batch: Batch) -> torch.Tensor:
        value = plain(outputs, batch)
        return value * (1.0 if value.item() > 0 else 2.0)

    notes: list[str] = []
    stream = torch.cuda.current_stream()
    step = make("cuda", "graph", precision, "examples.dropout_net:build", loss=loss, notes=notes)
    assert step.graph is None
    assert ["cannot be recorded as one CUDA graph" in note for note in notes] == [True]
    assert torch.cuda.current_stream() == stream
    made = batches("cuda", 8)
    values = [step(one).item() for one in made * 4]
    assert sum(values[-8:]) < sum(values[:8])
    step = make("cuda", name="examples.dropout_net:build")
    assert step.graph is not None
    assert all(math.isfinite(step(one).item()) for one in made)


@only_on_cuda
@pytest.mark.parametrize("mode", MODES)
def test_memory_is_flat(mode: str) -> None:
    step = make("cuda", mode, "bf16")
    evaluate = compute.Forward(step.model, step.forward.spec, "cuda", "bf16", compile=mode != "eager")
    made, odd, used = batches("cuda", 4), batches("cuda", 1, images=5)[0], []
    for _ in range(6):
        for one in [*made, odd, *made]:
            step(one)
        _score(step, evaluate, "cuda", "bf16")
        torch.cuda.synchronize()
        used.append((torch.cuda.memory_allocated(), torch.cuda.memory_reserved()))
    assert len(set(used[3:])) == 1


def epochs(run: Any) -> list[float]:
    """The losses of every step and epoch, and the rates."""
    keys = ("loss", "train_loss", "val_loss", "lr")
    return [line[key] for line in read_metrics(run.metrics) for key in keys if key in line]


@pytest.fixture
def given(device: str, prepared: Path, tmp_path: Path) -> dict[str, Any]:
    return SMALL | {"data": prepared, "log_steps": 1, "device": device, "compile": device != "cpu", "epochs": 2}


def close(device: str) -> Callable[[list[float]], Any]:
    """To the last bit on a CPU; on a GPU cuDNN may choose another algorithm."""
    return lambda values: values if device == "cpu" else pytest.approx(values, rel=5e-2, abs=5e-2)


def test_whole_trainings_recorded_and_not(device: str, given: dict[str, Any], tmp_path: Path) -> None:
    """A validation after each epoch, and the steps go on."""
    runs = [train(given | {"runs": tmp_path / str(graph), "graph": graph}) for graph in (True, False)]
    assert runs[0].state() == "scored"
    assert epochs(runs[0]) == close(device)(epochs(runs[1]))
    if device == "cpu":
        ours, theirs = (load_file(run.last) for run in runs)
        assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
        assert scores_of(runs[0]).equals(scores_of(runs[1]))


@pytest.mark.parametrize("stop", ["epoch", "step"])
def test_a_resumed_training_is_one_that_ran_through(
    stop: str, device: str, given: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(given | {"runs": tmp_path / "a", "epochs": 3})
    there = given | {"runs": tmp_path / "b"}
    if stop == "epoch":
        train(there)
    else:
        with monkeypatch.context() as patch:
            calls = iter(range(100))
            save = supervised.save_last
            patch.setattr(supervised, "save_last", lambda training: [save(training), _interrupt(next(calls) == 2)])
            with pytest.raises(KeyboardInterrupt):
                train(there | {"checkpoint_minutes": 0})
    resumed = train(there | {"epochs": 3}, resume=True)
    assert epochs(resumed) == close(device)(epochs(whole))
    if device == "cpu":
        ours, theirs = load_file(resumed.last), load_file(whole.last)
        assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def _interrupt(now: bool) -> None:
    if now:
        raise KeyboardInterrupt


@pytest.mark.parametrize("loader", ["opencv", "dali", "resident"])
def test_every_loader_feeds_recorded_steps(loader: str, device: str, given: dict[str, Any], tmp_path: Path) -> None:
    if loader == "dali":
        pytest.importorskip("nvidia.dali")
    choice = {"cache": "gpu"} if loader == "resident" else {"loader": loader}
    recorded = train(given | choice | {"runs": tmp_path / "a", "graph": True})
    plain = train(given | choice | {"runs": tmp_path / "b", "graph": False})
    assert epochs(recorded) == close(device)(epochs(plain))


def test_a_checkpoint_goes_to_the_cpu_and_back(device: str, given: dict[str, Any], tmp_path: Path) -> None:
    there = given | {"runs": tmp_path, "epochs": 1}
    run = train(there)
    before = scores_of(run)
    pipeline.predict(run, QUIET, device="cpu")
    columns = [before.select(LABELS).to_numpy(), scores_of(run).select(LABELS).to_numpy()]
    assert abs(columns[0] - columns[1]).max() < 1e-3
    train(there | {"device": "cpu", "compile": False, "epochs": 2}, resume=True)
    run = train(there | {"epochs": 3}, resume=True)
    lines = [line for line in read_metrics(run.metrics) if line["kind"] == "epoch"]
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert lines[-1]["train_loss"] < lines[0]["train_loss"]


def test_the_rate_falls_at_plateaus(device: str, given: dict[str, Any], tmp_path: Path) -> None:
    """With a rate so high that it must: recorded or not, the same rates and losses."""
    high = given | {"epochs": 6, "limit": 8, "lr": 0.05}
    recorded = train(high | {"runs": tmp_path / "a", "graph": True})
    rates = [line["lr"] for line in read_metrics(recorded.metrics) if line["kind"] == "epoch"]
    assert len(set(rates)) > 1
    if device == "cpu":
        assert epochs(recorded) == epochs(train(high | {"runs": tmp_path / "b", "graph": False}))
