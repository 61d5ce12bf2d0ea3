"""Every loss, pooling, optimizer and system of others on a GPU: recorded as one CUDA graph, and as eager steps are.

Marked `cuda`: pytest -m cuda. A few run on a CPU as well, uncompiled, where `again` stands for a CUDA graph.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pytest
import torch
from cuda_steps import MODES, ON_CUDA, SIZE, every_mode, loud
from small_systems import smaller

from cxrkit import losses, models, recipes
from cxrkit.base import registry
from cxrkit.base.contracts import LABELS, Batch
from cxrkit.base.labels import CHESTXRAY14
from cxrkit.models import compute
from cxrkit.runs.config import TrainConfig
from cxrkit.trainers import making, masking, stepping
from cxrkit.trainers.stepping import Step, fixed_batch

IMAGES = 8
# What is of amounts is no loss of findings; what needs a network of its own is tried with its system.
OF_LOGITS = sorted(
    name for name in registry.BUILT_IN["loss"] if "error" not in name and name not in ("yao2017-sequence", "mil-box")
)
SYSTEMS = ("yao2017", "yao2018", "li2018-mil", "li2018-box", "guendel2018-noloc", "wang2017-resnet50", "chexnet")
OPTIMIZERS: dict[str, list[str]] = {
    "sgd": ["optimizer.name=sgd", "optimizer.weight_decay=1e-4"],
    "adamw": ["optimizer.name=adamw", "optimizer.weight_decay=0.05", "optimizer.decay_norms=false"],
    "layer decay": ["optimizer.layer_decay=0.75"],
    "in parts": ["optimizer.micro_batch=4"],
    "clipped": ["optimizer.clip_norm=0.1"],
    "averaged": ["optimizer.ema=0.99"],
    "all of it": ["optimizer.name=sgd", "optimizer.micro_batch=2", "optimizer.clip_norm=1.0", "optimizer.ema=0.9"],
}


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=ON_CUDA)])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with every_mode(request.param, monkeypatch) as chosen:
        yield chosen


def config(recipe: str, sets: list[str], **said: Any) -> TrainConfig:
    return recipes.resolve({"batch_size": IMAGES} | said, recipe=recipe, sets=sets)


def make(config: TrainConfig, device: str, mode: str = "graph", precision: str = "fp32") -> Step:
    """Return the step as a training makes it from a config, recorded in mode `graph`."""
    compute.set_switches(device, precision)
    assert config.input.size is not None
    model: Any = models.build(config.model.name, options=config.model.options, pretrained=False, seed=1)
    spec = model.spec.at(config.input.size)
    model = model.to(device, memory_format=torch.channels_last).train()
    prevalence = [0.1] * len(LABELS)
    loss = losses.build(config.loss.name, options=config.loss.options, prevalence=prevalence)
    loss = masking.masked(loss, CHESTXRAY14, config.loss.masked, device)
    step = making.make_step(
        config, model, spec, loss,
        images=IMAGES, device=device, precision=precision, compile=mode != "eager" and device != "cpu", note=loud,
    )  # fmt: skip
    if mode == "graph":
        places = getattr(loss, "region_places", 0)
        step.record(fixed_batch(IMAGES, spec.input_size, len(LABELS), device, places=places))
        assert step.graph is not None
    return step


def batches(device: str, size: int, count: int = 2, places: int = 0) -> list[Batch]:
    """Return batches whose labels can be read off the brightness; a box is the upper left quarter."""
    made = []
    for number in range(count):
        one = fixed_batch(IMAGES, size, len(LABELS), "cpu", places=places)
        bright = torch.rand(IMAGES, generator=torch.Generator().manual_seed(number))
        image = (one.image * bright[:, None, None, None]).to(torch.uint8)
        target = (bright[:, None] > torch.linspace(0.2, 0.8, len(LABELS))).float()
        region = one.region
        if region is not None:
            region[:, :, : places // 2, : places // 2] = 1
        whole = Batch(image, target, one.meta, one.index, region)
        made.append(Batch(*(value.to(device) for value in stepping.tensors(whole))))
    return made


def losses_of(step: Step, made: list[Batch], rounds: int) -> list[float]:
    return [step(one).item() for one in made * rounds]


def agree(config: TrainConfig, device: str, mode: str, places: int = 0) -> None:
    """Assert that steps in `mode` are eager ones, a few steps far: rounding makes more of them drift apart."""
    made = batches(device, config.input.size or 0, places=places)
    found = {way: losses_of(make(config, device, way), made, 3) for way in ("eager", mode)}
    assert all(map(math.isfinite, found[mode]))
    assert found[mode] == pytest.approx(found["eager"], rel=2e-2, abs=2e-2)


def ways(names: Iterable[str], *on_cpu: str) -> list[Any]:
    """Return (name, device, mode): all on CUDA, and what stands for them on a CPU."""
    on_cuda = (pytest.param(name, "cuda", mode, marks=ON_CUDA) for name in names for mode in MODES[1:])
    return [*((name, "cpu", "graph") for name in on_cpu), *on_cuda]


@pytest.mark.parametrize(("loss", "device", "mode"), ways(OF_LOGITS, "bce-training-weighted"), indirect=["device"])
def test_every_loss_is_recorded(loss: str, device: str, mode: str) -> None:
    agree(config("resnet14-small", [f"loss.name={loss}"], input_size=SIZE[device], lr=1e-4), device, mode)


@pytest.mark.parametrize(("name", "device", "mode"), ways(OPTIMIZERS, "all of it"), indirect=["device"])
def test_every_optimizer_is_recorded(name: str, device: str, mode: str) -> None:
    agree(config("resnet14-small", OPTIMIZERS[name], input_size=SIZE[device], lr=1e-4), device, mode)


def of_system(name: str) -> tuple[TrainConfig, int]:
    """Return a small version of a system's recipe, and the places of its boxes."""
    said, sets = smaller(name)
    sets = [*sets, *(["optimizer.micro_batch=4"] if name.startswith("wang") else [])]
    return config(name, sets, **{key: value for key, value in said.items() if key != "precision"}, lr=1e-4), (
        4 if name == "li2018-box" else 0
    )


@pytest.mark.parametrize(("name", "device", "mode"), ways(SYSTEMS, "yao2017", "li2018-box"), indirect=["device"])
def test_every_system_is_recorded(name: str, device: str, mode: str) -> None:
    wanted, places = of_system(name)
    agree(wanted, device, mode, places)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("precision", ["tf32", "bf16", "fp16"])
@pytest.mark.parametrize("name", SYSTEMS)
def test_every_system_learns_in_every_precision(name: str, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its losses fall, its parameters stay float32, and no step waits for the GPU."""
    wanted, places = of_system(name)
    wanted = wanted.with_values({"optimizer.lr": 1e-3, "optimizer.name": "adam"})
    with every_mode("cuda", monkeypatch):
        step = make(wanted, "cuda", "graph", precision)
        made = batches("cuda", wanted.input.size or 0, 4, places)
        values = losses_of(step, made, 10)
        assert sum(values[-8:]) < sum(values[:8])
        assert all(parameter.dtype == torch.float32 for parameter in step.model.parameters())
        with stepping.no_waiting():
            for one in made:
                step(one)


POOLINGS: Mapping[str, dict[str, Any]] = {"lse": {"r": 10.0}, "lse-lba": {"r0": 5.0}, "noisy-or": {}, "max": {}}


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("name", POOLINGS)
def test_a_pooling_is_the_cpus(name: str) -> None:
    """Values and gradients, of maps that are far from 0 as well."""
    found = {}
    for where in ("cpu", "cuda"):
        pooling: Any = registry.construct(
            "pooling", name, registry.load("pooling", name), CHESTXRAY14, POOLINGS[name]
        ).to(where)
        maps = torch.linspace(-30, 30, 2 * len(LABELS) * 16).reshape(2, len(LABELS), 4, 4).to(where).requires_grad_()
        pooled = pooling(maps)
        pooled.sigmoid().sum().backward()
        found[where] = pooled.detach().cpu(), maps.grad.cpu()  # type: ignore[union-attr]
    for one, other in zip(found["cpu"], found["cuda"], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
