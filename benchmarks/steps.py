"""Training steps as contenders: the trainer's own `take_step`, on one fixed batch or with a real loader."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import torch

from benchmarks.ours import open_loader
from benchmarks.stopwatch import Pass
from cxrkit import losses, models
from cxrkit.base.contracts import LABELS, Batch, Loader, Outputs
from cxrkit.trainers import TrainTask
from cxrkit.trainers.plateau import Plateau
from cxrkit.trainers.supervised import Progress, Training, take_step

Step = Callable[[Batch], torch.Tensor]


class _Contiguous(torch.nn.Module):
    """The network with its input laid out channel by channel, as torch does unless told otherwise."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor, meta: torch.Tensor) -> Outputs:
        return cast(Outputs, self.network(image.contiguous(), meta))


def make_step(model: str, device: str, precision: str, *, channels_last: bool = True, compiled: bool = False) -> Step:
    """Return the trainer's step (forward, backward, fused Adam) on a new network."""
    network = models.build(model, pretrained=False)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    network = network.to(device, memory_format=layout).train()  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, fused=True)
    scaler = torch.amp.GradScaler(torch.device(device).type, enabled=precision == "fp16")
    forward: Any = network if channels_last else _Contiguous(network)
    if compiled:
        forward = torch.compile(forward)
    # All of the task that a step reads.
    task = cast(TrainTask, SimpleNamespace(spec=network.spec, device=device, precision=precision, loss=losses.build()))
    nothing: Any = None
    training = Training(task, network, forward, optimizer, scaler, Progress(Plateau(1e-4)), nothing)
    return lambda batch: take_step(training, batch)


def fixed_batch(size: int, batch: int, device: str) -> Batch:
    """Return a batch of noise that lies on `device`."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (batch, 1, size, size), dtype=torch.uint8, generator=generator)
    target = torch.randint(0, 2, (batch, len(LABELS)), generator=generator).float()
    meta = torch.rand((batch, 3), generator=generator)
    return Batch(image.to(device), target.to(device), meta.to(device), torch.arange(batch, device=device))


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
