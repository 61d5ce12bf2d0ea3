"""One contender, one process: `Contender` is the parent's side, `main` the child's.

So no contender can slow another down by its threads, its memory or its library settings, each may have an interpreter
of its own, and one that crashes is reported instead of ending the benchmark. The child is told what to build as
"module:function" and keyword arguments; it calls the function once, then makes a lap whenever it is asked to. Between
laps it waits on a pipe. Standard library only.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks import memory
from benchmarks.stopwatch import ContenderFailed, Lap, run

ROOT = Path(__file__).resolve().parent.parent
PATIENCE_SECONDS = 180.0


class Contender:
    """A child process that has built `target` and is ready to be timed.

    target: "module:function" returning a stopwatch.Pass. job: its keyword arguments, as JSON has them. python: the
    interpreter. packages: whose versions go into `versions`. memory_mb: of the last lap, see memory.py.
    Raises ContenderFailed, here and in `lap`, with the child's own last words.
    """

    def __init__(
        self, target: str, job: Mapping[str, Any], *, python: str = sys.executable, packages: tuple[str, ...] = ()
    ) -> None:
        self._words = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        receive, send = os.pipe()
        self._replies = os.fdopen(receive, "rb", buffering=0)
        self._process = subprocess.Popen(
            [python, "-W", "ignore", "-m", "benchmarks.contender", str(send)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=self._words,
            stderr=self._words,
            pass_fds=(send,),
            env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            start_new_session=True,  # so that its own workers can be ended with it
        )
        os.close(send)
        self.memory_mb: dict[str, float] = {}
        self.process_id = self._process.pid
        answer = self._ask({"target": target, "job": dict(job), "packages": packages})
        self.versions: dict[str, str] = answer["versions"]
        self.build_seconds: float = answer["seconds"]

    def lap(self, at_least_seconds: float) -> Lap:
        """Repeat whole passes for at least this long and return what was done."""
        answer = self._ask({"at_least_seconds": at_least_seconds})
        self.memory_mb = answer["memory_mb"]
        return Lap(**answer["lap"])

    def close(self) -> None:
        """End the process and those that it started. Safe to call twice."""
        if self._process.stdin and not self._process.stdin.closed:
            try:
                self._process.stdin.close()
                self._process.wait(5)
            except (subprocess.TimeoutExpired, BrokenPipeError):
                pass
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()
        self._replies.close()
        self._words.close()

    def _ask(self, question: Mapping[str, Any]) -> Any:
        assert self._process.stdin
        try:
            self._process.stdin.write(json.dumps(question).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._failure("ended early") from None
        line = bytearray()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not line.endswith(b"\n"):
            if not select.select([self._replies], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise self._failure(f"gave no answer within {PATIENCE_SECONDS:.0f} s")
            if not (piece := self._replies.read(65536)):
                raise self._failure("ended early")
            line += piece
        answer = json.loads(line)
        if "error" in answer:
            self.close()
            raise ContenderFailed(answer["error"][:300])
        return answer

    def _failure(self, why: str) -> ContenderFailed:
        self._words.seek(0)
        words = [text for text in self._words.read().decode(errors="replace").splitlines() if text.strip()]
        self.close()
        return ContenderFailed(f"{why}; last words: {words[-1]}"[:300] if words else why)


def main() -> None:
    """Serve the parent on standard input and on the descriptor that the command line names."""
    with os.fdopen(int(sys.argv[1]), "wb", buffering=0) as replies:

        def reply(**values: Any) -> None:
            replies.write(json.dumps(values).encode() + b"\n")

        try:
            question = json.loads(sys.stdin.readline())
            began = time.perf_counter()
            module, _, function = question["target"].partition(":")
            one_pass = getattr(importlib.import_module(module), function)(**question["job"])
            reply(versions=_versions(question["packages"]), seconds=time.perf_counter() - began)
            for line in sys.stdin:
                lap = run(one_pass, json.loads(line)["at_least_seconds"])
                reply(lap=asdict(lap), memory_mb=memory.of_process(os.getpid()))
        except Exception as error:
            reply(error=f"{type(error).__name__}: {error}".splitlines()[0])
            raise


def _versions(packages: list[str]) -> dict[str, str]:
    found = {"python": sys.version.split()[0]}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    main()
