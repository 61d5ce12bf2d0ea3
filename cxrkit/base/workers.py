"""A small pool of worker processes that start fast and cannot outlive, or silently die under, their parent.

Why not concurrent.futures: its forkserver and spawn workers import the parent's main module (a command line, a
benchmark, torch) before the first task, and hang on as orphans when the parent is killed. Here a worker imports the one
module that it runs, ends when its pipe to the parent closes, and a death is noticed at once and said in plain words.
"""

from __future__ import annotations

import importlib
import os
import queue
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Generator
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

import cxrkit
from cxrkit.base.errors import UserError

# One worker per core: its libraries need no threads of their own. The allocator keeps the memory of one image for the
# next instead of returning it page by page (5 % of the time of a preparation).
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_MMAP_THRESHOLD_": str(64 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(256 << 20),
}
_START = "import sys; sys.path.insert(0, sys.argv[1]); from cxrkit.base.workers import serve; del sys.path[0]; serve()"


class Worker:
    """One process, and a buffer in memory that it shares with the parent.

    buffer: a file descriptor, the same memory on both sides, written here and read there with os.pwrite and os.pread.
    """

    def __init__(self, target: str) -> None:
        """Prepare a process that calls `target` ("module:function") with each task and `buffer`."""
        self.buffer = _memory()
        self._target = target
        self._connection: Connection | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._has_tasks = False

    def start(self) -> None:
        """Start the process and return at once; it loads what `target` needs. Once started, do nothing."""
        if self._connection is not None:
            return
        self._connection, theirs = Pipe()
        try:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-c", _START, str(Path(cxrkit.__file__).parent.parent)),
                    *(self._target, str(theirs.fileno()), str(self.buffer)),
                ],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), self.buffer),
                env=os.environ | _ENVIRONMENT,
                start_new_session=True,  # Ctrl-C is the parent's business: a worker finishes its task
            )
        finally:
            theirs.close()

    @property
    def process_id(self) -> int | None:
        """Of the process; None before it was started."""
        return None if self._process is None else self._process.pid

    def send(self, task: Any) -> None:
        """Hand over a task, to a process started for it if need be. Raises as `receive` does when it is dead."""
        self.start()
        assert self._connection is not None
        self._has_tasks = True
        try:
            self._connection.send(task)
        except (BrokenPipeError, ConnectionResetError):
            raise self._death() from None

    def receive(self) -> Any:
        """Wait for the result. Raises what the task raised, or says how the process died."""
        assert self._connection is not None, "nothing was sent"
        try:
            kind, value = self._connection.recv()
        except (EOFError, ConnectionResetError):
            raise self._death() from None
        if kind == "result":
            return value
        raise value if isinstance(value, UserError) else RuntimeError(f"in a worker process:\n{value}")

    def hang_up(self) -> None:
        """Close the pipe, which tells the process to end; by force one that never had a task. Safe to call twice."""
        if self._connection is not None:
            self._connection.close()
        if self._process is not None and not self._has_tasks:
            self._process.kill()  # it may be loading still, and holds nothing that could be left half done

    def close(self, patience_seconds: float = 10.0) -> None:
        """End the process, by force when it does not end in time. Safe to call twice."""
        self.hang_up()
        if self.buffer < 0:
            return
        if self._process is not None:
            try:
                self._process.wait(patience_seconds)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        os.close(self.buffer)
        self.buffer = -1

    def _death(self) -> Exception:
        assert self._process is not None
        status = self._process.wait()
        if status == -signal.SIGKILL:
            return UserError(
                f"a worker process (pid {self._process.pid}) was killed; most likely the machine ran out of memory",
                remedy="run the same command again with fewer --workers; what is finished is kept",
            )
        how = f"by signal {signal.Signals(-status).name}" if status < 0 else f"with status {status}"
        return RuntimeError(f"a worker process (pid {self._process.pid}) ended {how} before it answered")


class Workers:
    """A pool. Starts its processes when made, so that they load while the caller does other things."""

    def __init__(self, count: int, target: str, *, at_once: bool = True) -> None:
        """Start `count` processes that run `target` ("module:function"); unless `at_once`, when they are needed."""
        self.count = count
        self._workers: list[Worker] = []
        try:
            for _ in range(count):
                self._workers.append(Worker(target))
            if at_once:
                self.start()
        except BaseException:
            self.close()
            raise

    def start(self, most: int | None = None) -> None:
        """Start those of the first `most` processes (all) that are not started yet, and return at once."""
        for worker in self._workers[:most]:
            worker.start()

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all processes. Safe to call twice."""
        for worker in self._workers:
            worker.hang_up()
        for worker in self._workers:
            worker.close()

    def run(
        self, take: Callable[[Worker], Any], finish: Callable[[Any], Any] = lambda result: result
    ) -> Generator[Any, None, None]:
        """Yield `finish(result)` of every task, in the order in which they end.

        take: returns the next task for a worker, or None when there are no more; finish: is called with what the
        worker returned. Both run on one thread per worker, beside the others; `finish` of one task while the worker
        already computes the next. The first error stops the handing out; tasks under way are finished, then it is
        raised. The same when the caller stops iterating, or presses Ctrl-C.
        """
        done: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        stop = threading.Event()
        threads = [
            threading.Thread(target=_drive, args=(worker, take, finish, done, stop), daemon=True)
            for worker in self._workers
        ]
        for thread in threads:
            thread.start()
        try:
            running = len(threads)
            while running:
                kind, value = done.get()
                if kind == "error":
                    raise value
                if kind == "result":
                    yield value
                else:
                    running -= 1
        finally:
            stop.set()
            for thread in threads:
                thread.join()


def _drive(
    worker: Worker,
    take: Callable[[Worker], Any],
    finish: Callable[[Any], Any],
    done: queue.SimpleQueue[tuple[str, Any]],
    stop: threading.Event,
) -> None:
    """Keep one worker busy. The worker computes task n + 1 while `finish` makes result n durable."""
    results: list[Any] = []
    try:
        while True:
            task = None if stop.is_set() else take(worker)
            if task is not None:
                worker.send(task)
            while results:
                done.put(("result", finish(results.pop())))
            if task is None:
                break
            results.append(worker.receive())
    except BaseException as error:
        stop.set()
        done.put(("error", error))
    finally:
        with suppress(Exception):  # the first error is the one to tell
            while results:
                finish(results.pop())
        done.put(("end", None))


def _memory() -> int:
    """Return a descriptor of anonymous memory; where the system has none, of a nameless temporary file."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("cxrkit-worker")
    import tempfile  # takes 3 ms, which every worker would pay

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def serve() -> None:
    """Run a worker process: answer tasks until the parent closes the pipe or is gone."""
    target, descriptor, buffer = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    connection = Connection(descriptor)
    module_name, _, name = target.partition(":")
    module = importlib.import_module(module_name)
    if hasattr(module, "warm_up"):
        module.warm_up()
    function = getattr(module, name)
    while True:
        try:
            task = connection.recv()
        except (EOFError, ConnectionResetError):
            os._exit(0)  # nothing is open; taking the interpreter apart costs 50 ms
        try:
            answer = ("result", function(task, buffer))
        except UserError as error:
            answer = ("error", error)
        except Exception:
            answer = ("error", traceback.format_exc())
        try:
            connection.send(answer)
        except (BrokenPipeError, ConnectionResetError):
            os._exit(0)
