"""One row of a benchmark in a process of its own: what crashes, hangs or poisons the GPU there costs one row.

The processes are forked from one that has imported PyTorch and nothing that touches a GPU, so a row begins in a moment
and not after seconds of importing. Several of one kind may run at once, their runs started together.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import signal
import tempfile
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from benchmarks.quiet import CPU
from benchmarks.stopwatch import ContenderFailed, Lap, run

ROOT = Path(__file__).resolve().parent.parent
PRELOAD = "benchmarks.gpu_cases"


@dataclass(frozen=True)
class Work:
    """What a process is asked to do."""

    target: str
    """ "module:function" that returns a stopwatch.Pass."""

    job: Mapping[str, Any]
    """The function's keyword arguments, as JSON has them."""

    runs: int
    """Laps that count."""

    warm_up: int
    """Laps before those."""

    seconds: float
    """The least that a lap takes, the warm-up's too."""

    environment: Mapping[str, str]
    """Variables that are set first; PyTorch, imported by then, is told OMP_NUM_THREADS."""


@dataclass(frozen=True)
class Done:
    """What a process has done."""

    laps: list[Lap]
    """Those that count."""

    before: list[Lap]
    """The warm-up."""

    build_seconds: float
    """From the call of the function until it returned its pass."""

    facts: dict[str, Any]
    """The `facts` of the pass, where it has such an attribute."""


def measure(work: Work, limit_seconds: float, at_once: int = 1) -> list[Done]:
    """Do `work` in `at_once` processes at a time and return what each has done.

    Raises ContenderFailed with the signal or exit code and the last words of the first that failed, and when
    `limit_seconds` are over; no process is left behind.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([PRELOAD])
    barrier = context.Barrier(at_once) if at_once > 1 else None
    with tempfile.TemporaryDirectory(prefix="cxrkit-row-") as folder, _importable():
        processes = [
            context.Process(target=_serve, args=(work, str(Path(folder) / str(number)), barrier))
            for number in range(at_once)
        ]
        for process in processes:
            process.start()
        try:
            return _collect(processes, Path(folder), limit_seconds)
        finally:
            for process in processes:
                _end(process)


def _collect(processes: list[Any], folder: Path, limit_seconds: float) -> list[Done]:
    deadline = time.monotonic() + limit_seconds
    running: dict[Any, int] = {process.sentinel: number for number, process in enumerate(processes)}
    done: dict[int, Done] = {}
    while running:
        ended = wait(list(running), max(0.0, deadline - time.monotonic()))
        if not ended:
            # A result that is there counts, also where its process hangs at its end.
            late = [number for number in running.values() if not (folder / f"{number}.json").exists()]
            if not late:
                done |= {number: _result(0, folder / str(number)) for number in running.values()}
                break
            number = late[0]
            raise ContenderFailed(_with_words(f"took longer than {limit_seconds:.0f} s", folder / str(number)))
        for sentinel in ended:
            number = running.pop(sentinel)
            processes[number].join()
            done[number] = _result(processes[number].exitcode, folder / str(number))
    return [done[number] for number in sorted(done)]


def _result(code: int, place: Path) -> Done:
    result = place.with_suffix(".json")
    if not result.exists():
        how = f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        raise ContenderFailed(_with_words(how, place))
    found = json.loads(result.read_text())
    if "error" in found:
        raise ContenderFailed(found["error"][:300])
    laps, before = ([Lap(**lap) for lap in found[key]] for key in ("laps", "before"))
    return Done(laps, before, found["build_seconds"], found["facts"])


def _with_words(how: str, place: Path) -> str:
    words = place.with_suffix(".words")
    said = words.read_text(errors="replace").splitlines() if words.exists() else []
    said = [line.strip() for line in said if line.strip()]
    return (f"{how}; last words: {said[-1]}" if said else how)[:300]


def _end(process: Any) -> None:
    """End a process and all that it started."""
    if process.exitcode is None:
        for end in (os.killpg, os.kill):
            try:
                end(process.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                continue
    process.join()
    process.close()


class _importable:  # noqa: N801 - a context manager
    """The process that others are forked from finds this package, wherever it is started."""

    def __enter__(self) -> None:
        self.before = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = str(ROOT)

    def __exit__(self, *_: object) -> None:
        if self.before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = self.before


def _serve(work: Work, place: str, barrier: Any) -> None:
    """Run in the child: do the work and leave the result beside the last words."""
    os.setsid()  # so that what it starts can be ended with it
    words = os.open(place + ".words", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(words, 1)
    os.dup2(words, 2)
    os.environ.update(work.environment)
    if threads := work.environment.get("OMP_NUM_THREADS"):
        import torch

        torch.set_num_threads(int(threads))
    try:
        result = _done(work, barrier)
    except BaseException as error:
        traceback.print_exc()
        result = {"error": f"{type(error).__name__}: {str(error).strip()}".splitlines()[0]}
    part = Path(place + ".part")
    part.write_text(json.dumps(result))
    part.rename(place + ".json")


def _done(work: Work, barrier: Any) -> dict[str, Any]:
    began = time.perf_counter()
    module, _, function = work.target.partition(":")
    one_pass = getattr(importlib.import_module(module), function)(**work.job)
    build_seconds = time.perf_counter() - began
    laps = []
    for _ in range(work.warm_up + work.runs):
        if barrier is not None:
            barrier.wait()
        used = time.process_time()
        lap = run(one_pass, work.seconds)
        used = time.process_time() - used
        laps.append(asdict(lap) | {"figures": lap.figures | {CPU: 1000 * used / max(lap.images, 1)}})
    facts = getattr(one_pass, "facts", {})
    return {
        "laps": laps[work.warm_up :],
        "before": laps[: work.warm_up],
        "build_seconds": build_seconds,
        "facts": facts,
    }
