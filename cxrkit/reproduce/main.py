"""`cxrkit reproduce`, from the study to its report."""

from __future__ import annotations

import functools
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from cxrkit.base import registry
from cxrkit.base.contracts import Executor, Share
from cxrkit.base.errors import Interrupted, UserError
from cxrkit.reproduce import calibration, display, forecast, planning, process, study
from cxrkit.reproduce.costs import Costs, disk_bytes
from cxrkit.reproduce.grid import Grid
from cxrkit.reproduce.planning import Places, Planned
from cxrkit.reproduce.watching import see


@dataclass(frozen=True)
class Request:
    """What the command line asks for."""

    study: str
    """Name of a study that ships, or a file."""

    places: Places
    """Where data and runs lie, and settings of all runs."""

    folds: tuple[str, ...] = ()
    """Instead of the study's."""

    seeds: tuple[int, ...] = ()
    """Instead of the study's."""

    engine: str = "local"
    """A registered executor, or package.module:Class."""

    engine_options: Mapping[str, Any] = field(default_factory=dict)
    """Of the executor."""

    jobs: int | None = None
    """At most so many runs at a time."""

    per_gpu: int = 1
    """So many share a GPU."""

    retries: int = 0
    """How often a run that failed is tried again."""

    dry_run: bool = False
    """Whether to list the runs only, with what is missing in time and disk."""


def reproduce(wanted: Request, console: Console) -> bool:
    """Run what is missing of a study and print its reports; returns whether all went well.

    Raises UserError for what cannot be run, before anything is started.
    """
    found = study.read(wanted.study, folds=wanted.folds, seeds=wanted.seeds)
    runs = planning.check(planning.plan(found, wanted.places))
    own = planning.own_folder(wanted.places.runs, found)
    costs = learned(runs)
    executor = make_executor(wanted, own)
    threads, file = process.computing_threads(executor.places or 1), own.parent / "calibration.json"
    calibration.recall(costs, runs, file, threads)
    if wanted.dry_run:
        calibration.calibrate(costs, [item for item in runs if not item.done], file, threads, console)
        forecast.show(
            found.title or found.name,
            runs,
            costs,
            max(1, (executor.places or wanted.jobs or 1) // wanted.per_gpu),
            console,
        )
        return True
    missing = [item for item in runs if not item.done]
    planning.refuse_full_disk(wanted.places.runs, sum(disk_bytes(item) for item in missing))
    grid = Grid(runs, executor, own, wanted.retries)
    console.print(Text(found.title or found.name, style="bold"))
    done = sum(status == "done" for status in grid.status.values())
    console.print(
        f"{len(runs)} {'run' if len(runs) == 1 else 'runs'}, {done} done; logs in {own}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    with ended_in_order(wanted), display.GridDisplay(console, grid, costs) as shown:
        grid.run(shown.watch)
    print_reports(found, runs, wanted.places.runs, console)
    for line in display.failures_text(grid):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return not grid.failures


def learned(runs: Sequence[Planned]) -> Costs:
    """Return what is known of the runs' cost from those that have taken epochs already."""
    costs = Costs()
    for item in runs:
        costs.learn(item, see(item))
    return costs


def make_executor(wanted: Request, own: Path) -> Executor:
    """Return the executor that is asked for. Raises UserError for an unknown one, or option."""
    factory = functools.partial(registry.load("executor", wanted.engine), Share(wanted.jobs, wanted.per_gpu, own))
    executor: Executor = registry.construct(
        "executor", wanted.engine, factory, None, wanted.engine_options  # type: ignore[arg-type]
    )  # fmt: skip
    return executor


@contextmanager
def ended_in_order(wanted: Request) -> Iterator[None]:
    """Let SIGTERM do what Ctrl-C does, and say how the study goes on."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    here = threading.current_thread() is threading.main_thread()  # no other may
    before = signal.signal(signal.SIGTERM, interrupt) if here else None
    try:
        yield
    except KeyboardInterrupt as error:
        raise Interrupted(
            f"interrupted: the runs that were under way keep their last checkpoint; `cxrkit reproduce {wanted.study}` "
            "with the same flags goes on"
        ) from error
    finally:
        if here:
            signal.signal(signal.SIGTERM, before)


def print_reports(found: study.Study, runs: Sequence[Planned], folder: Path, console: Console) -> None:
    """Print the study's reports, as far as there are runs for them."""
    from cxrkit import report as reports

    make: Mapping[str, Callable[[Path], reports.Report]] = {
        "table3": reports.resampled,
        "table5": reports.official,
        "probes": reports.probes,
    }
    for name in found.reports:
        try:
            made = make[name](folder)
        except UserError as error:
            console.print(f"{name}: no table yet: {error.what}", highlight=False, markup=False, soft_wrap=True)
            continue
        console.print(reports.to_rich(made))
