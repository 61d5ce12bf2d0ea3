"""`cxrkit doctor`: is this machine, and this download, fit for the work? Every finding comes with its remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console

from cxrkit.doctor import gpu, machine, raw_folder, times
from cxrkit.doctor.findings import Finding, to_rich

__all__ = ["Finding", "examine", "to_rich"]


def examine(
    raw: Path | None, data: Path, runs: Path = Path("runs"), *, measure: bool = False, console: Console | None = None
) -> Iterator[Finding]:
    """Yield the findings on this machine, the disk under `data`, and the raw folder, if one is given; and how long.

    runs: the runs folder, where what was measured of trainings is kept. measure: measure a training too, where nothing
    is known of any; `console` shows how far that is.
    """
    checks: list[Callable[[], Iterator[Finding]]] = [
        machine.python, gpu.torch, gpu.driver, gpu.dali, machine.processor, machine.memory, machine.open_files,
        machine.compiler, lambda: machine.disk(data),
    ]  # fmt: skip
    for check in checks:
        yield from check()
    records = None
    if raw is not None:
        records = yield from raw_folder.look(raw)
    yield from times.preparing(raw, records)
    yield from times.training(runs, measure=measure, console=console)
