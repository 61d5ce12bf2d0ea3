"""A job as a process: how it is started, where it prints to, and how it is ended."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from cxrkit.base.contracts import Job
from cxrkit.base.cores import free_cores, omp_threads
from cxrkit.base.errors import shown

PATIENCE_SECONDS = 20.0  # what a training has to end after Ctrl-C: it writes nothing, but may be in a long kernel
_TAIL_BYTES = 20_000


def computing_threads(places: int) -> int:
    """Return how many threads each of `places` jobs computes with on a CPU: its share of the cores that are free now.

    OMP_NUM_THREADS, where it is set, is the most, as in `cxrkit train`.
    """
    share = max(1, free_cores() // places)
    return min(share, omp_threads() or share)


def start(
    job: Job, threads: int, environment: dict[str, str] | None = None, *, on_gpu: bool = False
) -> subprocess.Popen[bytes]:
    """Start the job with its threads, printing to its log. Raises OSError.

    environment: what is added to this process's. on_gpu: whether it has a GPU to compute with; its threads are the
    loader's then. The job is in a session of its own: Ctrl-C in the terminal reaches whoever started it, who ends it in
    order.
    """
    loading = ["--threads", str(threads)] if on_gpu and "--threads" not in job.command else []
    command = [*job.command, *loading]
    environment = {"OMP_NUM_THREADS": str(job.threads or threads), "PYTHONUNBUFFERED": "1"} | (environment or {})
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with open(job.log, "ab") as log:
        # On one line, whatever a path holds: what the job itself says begins below it.
        began = f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} on {socket.gethostname()}: {shown(shlex.join(command))}\n"
        log.write(began.encode())
        log.flush()
        return subprocess.Popen(
            command,
            cwd=job.folder,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def stop(*processes: subprocess.Popen[bytes]) -> None:
    """End processes: as Ctrl-C does, then SIGTERM, then by force."""
    for how, seconds in ((signal.SIGINT, PATIENCE_SECONDS), (signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
        alive = [process for process in processes if process.poll() is None]
        for process in alive:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, how)
        until = time.monotonic() + seconds
        for process in alive:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, until - time.monotonic()))


def run(job: Job, threads: int, *, on_gpu: bool = False) -> int:
    """Run a job to its end and return its exit status: what engines on other machines call there."""
    process = start(job, threads, on_gpu=on_gpu)
    try:
        return process.wait()
    finally:
        stop(process)


def last_lines(log: Path, count: int = 12) -> list[str]:
    """Return the last lines of a log since its job was last started; none where it cannot be read."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    starts = [number for number, line in enumerate(lines) if line.startswith("--- ")]
    return lines[starts[-1] + 1 if starts else 0 :][-count:]
