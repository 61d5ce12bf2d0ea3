"""Training steps as contenders: the trainer's own `stepping.Step`, on one fixed batch or with a real loader."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import cast

import torch

from benchmarks.ours import open_loader
from benchmarks.stopwatch import ContenderFailed, Pass
from cxrkit import losses, models
from cxrkit.base import compiling
from cxrkit.base.contracts import LABELS, Batch, Loader, Outputs
from cxrkit.models import compute
from cxrkit.runs.sections import OptimizerSettings
from cxrkit.trainers import optimizers, stepping

Step = Callable[[Batch], torch.Tensor]
MODES = ("eager", "compiled", "graph")


class _Contiguous(torch.nn.Module):
    """The network with its input laid out channel by channel, as torch does unless told otherwise."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor, meta: torch.Tensor) -> Outputs:
        return cast(Outputs, self.network(image.contiguous(), meta))


def make_step(model: str, device: str, precision: str, mode: str = "eager", *, channels_last: bool = True) -> Step:
    """Return the trainer's step (forward, backward, fused Adam) on a new network.

    mode: eager, compiled, or graph: compiled and recorded whole for batches like the first one, where there is CUDA.
    Raises ContenderFailed, at the first step too, where that cannot be done.
    """
    if mode not in MODES:
        raise ValueError(f"mode {mode!r}: choose from {', '.join(MODES)}")
    torch._dynamo.reset()  # what was compiled for the network before is of no more use, and takes memory
    compute.set_switches(device, precision)
    network = models.build(model, pretrained=False)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    network = network.to(device, memory_format=layout).train()  # type: ignore[call-overload]
    optimizer = optimizers.build(OptimizerSettings(lr=1e-4), network, model, rate_on_device=not compute.on_cpu(device))
    called = network if channels_last else _Contiguous(network)
    forward = compute.Forward(called, network.spec, device, precision, compile=mode != "eager", note=not_instead)
    scaler = stepping.make_scaler(device, precision == "fp16")
    step = stepping.Step(network, forward, losses.build(), optimizer, scaler, note=not_instead)
    records = mode == "graph" and stepping.records(None, device)

    def take(batch: Batch) -> torch.Tensor:
        nonlocal records
        if records:
            records = False
            step.record(batch)
        return step(batch)

    return take


def not_instead(note: str) -> None:
    """Fail where a training would go on in another way than it was asked to: a rate is of the mode it is said to be."""
    if compiling.CACHE_VARIABLE not in note:  # where the compiler keeps its files makes no rate another
        raise ContenderFailed(note.splitlines()[0])


def fixed_batch(size: int, batch: int, device: str) -> Batch:
    """Return a batch of noise that lies on `device`."""
    return stepping.fixed_batch(batch, size, len(LABELS), device)


def endless(loader: Loader) -> Iterator[Batch]:
    """Yield the batches of epoch after epoch."""
    for epoch in itertools.count():
        yield from loader.epoch(epoch)


def steps_pass(step: Step, batches: Iterator[Batch], steps: int, device: str) -> Pass:
    """Return a pass of `steps` training steps that ends when the device is done."""

    def one_pass() -> Mapping[str, float]:
        images = 0
        for batch in itertools.islice(batches, steps):
            step(batch)
            images += len(batch.index)
        synchronize(device)
        return {"images": images}

    return one_pass


def synchronize(device: str) -> None:
    """Wait for the GPU; nothing on a CPU."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def train(
    model: str,
    size: int,
    batch: int,
    steps: int,
    precision: str,
    channels_last: bool = True,
    data: str | None = None,
    threads: int | None = None,
) -> Pass:
    """Return a pass of CPU training steps: on a fixed batch, or from the prepared folder `data`."""
    step = make_step(model, "cpu", precision, channels_last=channels_last)
    if data is None:
        batches: Iterator[Batch] = itertools.repeat(fixed_batch(size, batch, "cpu"))
    else:
        batches = endless(open_loader(Path(data), "opencv", size, batch, threads, drop_last=True))
    return steps_pass(step, batches, steps, "cpu")
