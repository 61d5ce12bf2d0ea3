"""A few training steps on noise, to know what a run will take before it is started; kept in a file by machine."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from cxrkit.base.errors import UserError
from cxrkit.base.files import read_json, write_json
from cxrkit.base.progress import progress_bar
from cxrkit.reproduce.costs import Costs, Kind, Known
from cxrkit.reproduce.planning import Planned

if TYPE_CHECKING:
    from cxrkit.trainers.stepping import Step

SECONDS = 2.0  # a measurement goes on for so long, and for no less than two steps
_SOURCE = "measured here, on noise (the loader is not counted)"


def recall(costs: Costs, runs: Sequence[Planned], file: Path, threads: int) -> None:
    """Take what was measured before on this machine, for the kinds of runs of which nothing is known."""
    measured = _read(file).get(_machine(threads), {})
    for kind in costs.unknown(runs):
        if (found := measured.get(_key(kind))) is not None:
            costs.known[kind] = Known(found, _SOURCE)


def calibrate(costs: Costs, runs: Sequence[Planned], file: Path, threads: int, console: Console) -> None:
    """Measure the kinds of runs of which nothing is known, with as many threads as each run will have."""
    import torch

    # A probe learns from another run's features in minutes; what it waits for is the other run.
    unknown = costs.unknown(item for item in runs if not getattr(item.spec, "probe", False))
    if not unknown:
        return
    stored = _read(file)
    measured = stored.setdefault(_machine(threads), {})
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with progress_bar("measuring", len(unknown), console=console, unit="networks") as bar:
            for kind, item in unknown.items():
                try:
                    measured[_key(kind)] = measure(item)
                except Exception as error:  # a GPU that is too small; a network of one's own
                    reason = (str(error).splitlines() or [type(error).__name__])[0]
                    console.print(f"{kind.text}: not measured ({reason})", highlight=False, markup=False)
                else:
                    costs.known[kind] = Known(measured[_key(kind)], _SOURCE)
                bar.advance()
    finally:
        torch.set_num_threads(before)
    with suppress(UserError):  # it is measured again, then
        write_json(file, stored)


def _machine(threads: int) -> str:
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{platform.node()}, {gpu}, {threads} threads, torch {torch.__version__}"


def _key(kind: Kind) -> str:
    return json.dumps(astuple(kind))


def _read(file: Path) -> dict[str, dict[str, float]]:
    """Return what was measured before; a file that holds anything else is begun anew."""
    try:
        stored: Any = read_json(file, "what was measured", "")
    except UserError:
        return {}
    return {
        machine: {kind: value for kind, value in values.items() if isinstance(value, float)}
        for machine, values in (stored.items() if isinstance(stored, dict) else ())
        if isinstance(values, dict)
    }


def measure(item: Planned) -> float:
    """Return the seconds that a training step takes, for each of its images."""
    from cxrkit.models import compute
    from cxrkit.trainers import stepping

    device = compute.choose_device(item.config.run.device)
    batch_size = item.config.optimizer.batch_size
    assert batch_size is not None
    step = _make_step(item, device)
    assert item.labels is not None
    side = item.spec.input_size if item.spec.image else 0
    batch = stepping.fixed_batch(batch_size, side, len(item.labels), device)
    if stepping.records(item.config.run.graph, device):
        step.record(batch)
    step(batch).item()  # compiles, and finds its memory
    began, steps = time.perf_counter(), 0
    while steps < 2 or time.perf_counter() - began < SECONDS:
        step(batch).item()  # waits for the device
        steps += 1
    return (time.perf_counter() - began) / (steps * batch_size)


def _make_step(item: Planned, device: str) -> Step:
    """Return the step that the training would take, with a network of its shape."""
    import torch

    from cxrkit import losses, models
    from cxrkit.base import notes
    from cxrkit.models import compute
    from cxrkit.trainers import making

    config = item.config
    precision = compute.choose_precision(config.run.precision, device)
    compute.set_switches(device, precision)
    assert item.labels is not None
    model = models.build(config.model.name, labels=item.labels, options=config.model.options, pretrained=False)
    model = model.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    compiled = not compute.on_cpu(device) if config.run.compile is None else config.run.compile
    loss = losses.build(config.loss.name, labels=item.labels, options=config.loss.options)
    return making.make_step(
        config.with_values({"optimizer.lr": 1e-4}),
        model,
        item.spec,
        loss,
        images=config.optimizer.batch_size or item.spec.batch_size,
        device=device,
        precision=precision,
        compile=compiled,
        note=notes.to_stderr,
    )
