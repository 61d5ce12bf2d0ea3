"""What the rows of gpu.py do, each in a process of its own: functions that return a stopwatch.Pass.

Nothing here touches the GPU, or DALI, before a function is called: rows are forked from a process that imported this.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import torch

from benchmarks.ours import open_loader
from benchmarks.steps import endless, fixed_batch, make_step, not_instead, steps_pass, synchronize
from benchmarks.stopwatch import ContenderFailed, Pass
from cxrkit.base.contracts import Batch
from cxrkit.loaders import dali_setup

SLEEP_CYCLES = 50_000_000  # some 30 ms of a GPU, with which a batch is held up
NO_ERROR = 1e-6  # squared, below which two images count as equal: 108 dB
NVIDIA = ("dali", "nvimgcodec", "nvjpeg", "nvcomp", "cudnn", "nccl")


class Facts:
    """A pass that does nothing, with what there is to say in `facts`."""

    def __init__(self, facts: dict[str, Any], free_gb: float) -> None:
        self.facts, self.free_gb = facts, free_gb

    def __call__(self) -> Mapping[str, float]:
        """Return the memory that is free."""
        return {"images": 1, "free GB": self.free_gb}


def environment(device: str) -> Facts:
    """Say what the machine has: the GPU and its driver, and NVIDIA's libraries."""
    libraries = {
        name.lower(): found.version
        for found in metadata.distributions()
        if (name := found.metadata["Name"] or "").lower().startswith("nvidia") and any(key in name for key in NVIDIA)
    }
    facts: dict[str, Any] = {"torch": torch.__version__, "libraries": dict(sorted(libraries.items()))}
    if not device.startswith("cuda"):
        return Facts(facts, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES") / 1e9)
    if not torch.cuda.is_available():
        raise ContenderFailed("torch finds no CUDA device; try it with --device cpu --tiny")
    found, (free, total) = torch.cuda.get_device_properties(device), torch.cuda.mem_get_info(device)
    facts["gpu"] = {
        "name": found.name,
        "memory_gb": round(total / 1e9, 1),
        "capability": f"{found.major}.{found.minor}",
        "cuda": torch.version.cuda,
        "driver": _driver(),
    }
    facts["multiprocessors"] = found.multi_processor_count
    facts["cudnn"] = cast(Any, torch.backends.cudnn).version()
    facts["mps"] = bool(os.environ.get("CUDA_MPS_PIPE_DIRECTORY"))
    return Facts(facts, free / 1e9)


def _driver() -> str:
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, timeout=20).stdout.partition("\n")[0].strip()
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"


def decode(data: str, level: int, device: str, batch: int, hardware: float) -> Pass:
    """Decode every image of a level, whole."""
    from benchmarks.decoding import decode_pass

    return decode_pass(Path(data), level, device, batch, hardware)


def decode_windows(data: str, size: int, device: str, batch: int, hardware: float, joined: bool) -> Pass:
    """Decode what an epoch's crops need: whole levels, or the tiles that a crop meets."""
    from benchmarks.decoding import windows_pass

    return windows_pass(Path(data), size, device, batch, hardware, joined)


def loading(
    data: str, backend: str, size: int, batch: int, threads: int | None, device: str, options: Mapping[str, Any]
) -> Pass:
    """Load an epoch, another one every time; it ends when the last batch is on the device."""
    loader = open_loader(Path(data), backend, size, batch, threads, device, **options)
    counter = itertools.count()

    def one_pass() -> Mapping[str, float]:
        images = sum(len(batch.index) for batch in loader.epoch(next(counter)))
        synchronize(device)
        return {"images": images}

    return one_pass


def fidelity(data: str, backend: str, size: int, batch: int, device: str, options: Mapping[str, Any]) -> Pass:
    """Compare two epochs of a loader with those of OpenCV threads, image by image."""
    theirs = open_loader(Path(data), backend, size, batch, None, device, **options)
    ours = open_loader(Path(data), "opencv", size, batch, None, "cpu")

    def one_pass() -> Mapping[str, float]:
        found = []
        for epoch in range(2):
            for one, other in zip(theirs.epoch(epoch), ours.epoch(epoch), strict=True):
                if not torch.equal(one.index.cpu(), other.index) or not torch.equal(one.target.cpu(), other.target):
                    raise ContenderFailed("another image than OpenCV's, or another target")
                error = (one.image.cpu().float() - other.image.float()).square().mean(dim=(1, 2, 3))
                found.append(10 * torch.log10(255**2 / error.clamp_min(NO_ERROR)))
        decibels = torch.cat(found)
        return {"images": len(decibels), "mean dB": decibels.mean().item(), "worst dB": decibels.min().item()}

    return one_pass


def race(data: str, size: int, batch: int, device: str, rounds: int, options: Mapping[str, Any]) -> Pass:
    """Count the batches whose pixels change when the GPU is kept busy before each of them is read."""
    loader = open_loader(Path(data), "dali", size, batch, None, device, **options)

    def images(hold_up: bool) -> list[torch.Tensor]:
        taken = []
        for one in loader.epoch(0):
            if hold_up and device.startswith("cuda"):
                cast(Any, torch.cuda)._sleep(SLEEP_CYCLES)
            taken.append(one.image.clone())  # queued behind the wait, while DALI is free to go on
            if not hold_up:
                synchronize(device)
        synchronize(device)
        return taken

    def one_pass() -> Mapping[str, float]:
        wanted = images(hold_up=False)
        changed = 0
        for _ in range(rounds):
            found = images(hold_up=True)
            changed += sum(not torch.equal(*pair) for pair in zip(found, wanted, strict=True))
        return {"images": rounds * len(wanted) * batch, "batches": rounds * len(wanted), "changed": changed}

    return one_pass


def training(
    model: str,
    size: int,
    batch: int,
    precision: str,
    mode: str,
    device: str,
    steps: int,
    backend: str | None,
    threads: int | None,
    data: str = "",
    options: Mapping[str, Any] | None = None,
) -> Pass:
    """Train for some steps on one fixed batch (backend None), or on a loader's.

    The step is compiled and recorded on the fixed batch before a loader begins: DALI waits for the whole device from a
    thread of its own, which breaks a recording.
    """
    if backend == "dali":
        dali_setup.modules()  # without it there is no need to compile anything
    step = make_step(model, device, precision, mode)
    fixed = fixed_batch(size, batch, device)
    step(fixed)
    synchronize(device)
    batches: Iterator[Batch] = itertools.repeat(fixed)
    if backend is not None:
        opened = open_loader(Path(data), backend, size, batch, threads, device, drop_last=True, **(options or {}))
        batches = endless(opened)
    some_steps = steps_pass(step, batches, steps, device)
    return lambda: {**some_steps(), **memory(device)}


def memory(device: str) -> dict[str, float]:
    """Return the most that PyTorch had in use, and what all processes have on the device now, in GB."""
    if not device.startswith("cuda"):
        return {}
    free, total = torch.cuda.mem_get_info(device)
    return {"peak GB": torch.cuda.max_memory_allocated(device) / 1e9, "device GB": (total - free) / 1e9}


def evaluation(
    data: str, model: str, size: int, batch: int, precision: str, device: str, backend: str, threads: int | None
) -> Pass:
    """Score all images, as predicting and the validation after an epoch do."""
    from cxrkit import models
    from cxrkit.models import compute

    compute.set_switches(device, precision)
    network = models.build(model, pretrained=False)
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    loader = open_loader(Path(data), backend, size, batch, threads, device, train=False)
    forward = compute.Forward(
        network, network.spec, device, precision, compile=not compute.on_cpu(device), images=batch, note=not_instead
    )

    def one_pass() -> Mapping[str, float]:
        scored = compute.score(network, loader, network.spec, device, precision, forward=forward)
        return {"images": len(scored.index)}

    return one_pass


def first_batch(
    data: str, backend: str, size: int, batch: int, threads: int | None, device: str, options: Mapping[str, Any]
) -> Pass:
    """Open a loader and wait for its first batch: the first pass in a process also starts CUDA and imports DALI."""

    def one_pass() -> Mapping[str, float]:
        loader = open_loader(Path(data), backend, size, batch, threads, device, **options)
        batches = loader.epoch(0)
        images = len(next(batches).index)
        synchronize(device)
        cast(Any, batches).close()
        loader.close()
        return {"images": images}

    return one_pass


def change_of_epoch(
    data: str, backend: str, size: int, batch: int, threads: int | None, device: str, options: Mapping[str, Any]
) -> Pass:
    """Measure from the last batch of an epoch to the first of the next, and the usual time between two batches."""
    loader = open_loader(Path(data), backend, size, batch, threads, device, **options)
    counter = itertools.count()

    def one_pass() -> Mapping[str, float]:
        times, images = [], 0
        for _ in range(2):
            times.append(time.perf_counter())
            for one in loader.epoch(next(counter)):
                synchronize(device)
                times.append(time.perf_counter())
                images += len(one.index)
        # The second epoch is asked for right after the first one's last batch: times has one entry more there.
        asked = len(times) // 2
        usual = sorted(later - earlier for earlier, later in itertools.pairwise(times[asked + 1 :]))
        change = times[asked + 1] - times[asked - 1]
        middle = usual[len(usual) // 2] if usual else 0.0
        return {"images": images, "change ms": 1000 * change, "usual ms": 1000 * middle}

    return one_pass


def upload(data: str, size: int, batch: int, threads: int | None, device: str) -> Pass:
    """Fill the device's memory as `--cache gpu` does."""

    def one_pass() -> Mapping[str, float]:
        began = time.perf_counter()
        loader = open_loader(Path(data), "resident", size, batch, threads, device)
        synchronize(device)
        seconds = time.perf_counter() - began
        kept = torch.cuda.memory_allocated(device) / 1e9 if device.startswith("cuda") else 0.0
        images = len(cast(Any, loader)._store)
        loader.close()
        return {"images": images, "GB": kept, "GB/s": kept / seconds}

    return one_pass
