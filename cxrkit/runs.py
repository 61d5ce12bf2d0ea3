"""A run folder: RUNS/MODEL/SPLIT, and what lies where in it."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cxrkit.contracts import Subset
from cxrkit.errors import UserError
from cxrkit.files import output_error


@dataclass(frozen=True)
class RunFolder:
    """Names of the files of one run; nothing is read or made by asking."""

    path: Path

    @classmethod
    def of(cls, runs: Path, model: str, split: str) -> RunFolder:
        """Return the folder of a model on a split; a user's own `package.module:function` becomes a plain name."""
        return cls(runs / model.replace(":", ".") / split)

    @property
    def config(self) -> Path:
        """The complete configuration; `cxrkit train --config` runs it again."""
        return self.path / "config.toml"

    @property
    def provenance(self) -> Path:
        """Versions, code state, machine and digests."""
        return self.path / "provenance.json"

    @property
    def metrics(self) -> Path:
        """One JSON object a line: kind "step" and kind "epoch"."""
        return self.path / "metrics.jsonl"

    @property
    def split(self) -> Path:
        """The complete split: image_id, patient_id, subset."""
        return self.path / "split.parquet"

    @property
    def last(self) -> Path:
        """The newest state, to resume from."""
        return self.path / "checkpoints" / "last.safetensors"

    @property
    def best(self) -> Path:
        """The model of the epoch with the lowest validation loss."""
        return self.path / "checkpoints" / "best.safetensors"

    def predictions(self, subset: Subset) -> Path:
        """Scores of the best model on val or test."""
        return self.path / "predictions" / f"{subset}.parquet"

    @property
    def scores(self) -> Path:
        """AUCs and their intervals."""
        return self.path / "scores.json"


@contextmanager
def claimed(run: RunFolder) -> Iterator[None]:
    """Hold the run folder for this process; a kill lets go of it. Raises UserError when another one trains in it."""
    path = run.path / ".lock"
    try:
        run.path.mkdir(parents=True, exist_ok=True)
        lock = open(path, "w")  # noqa: SIM115 (the lock lives as long as the file is open)
    except OSError as error:
        raise output_error(path, error) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{run.path}: another process is training this run",
                remedy="wait for it, or choose another --runs folder",
            ) from None
        except OSError:
            pass  # a network disk without locks: nothing can be known there
        yield


class MetricsFile:
    """metrics.jsonl, appended to and cut back to the last checkpoint when a training resumes."""

    def __init__(self, path: Path, keep_bytes: int) -> None:
        """Open `path`, keeping its first `keep_bytes` bytes: later lines belong to steps that will be taken again."""
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(path, "ab")  # noqa: SIM115 (closed by close)
            self._file.truncate(keep_bytes)
            self._file.seek(0, os.SEEK_END)
        except OSError as error:
            raise output_error(path, error) from error

    def write(self, line: dict[str, Any]) -> None:
        """Append one line; numbers that JSON cannot hold become null."""
        try:
            self._file.write((json.dumps(_finite(line)) + "\n").encode())
        except OSError as error:
            raise output_error(self.path, error) from error

    def sync(self) -> int:
        """Force the lines to the disk and return the file's size in bytes."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise output_error(self.path, error) from error
        return self._file.tell()

    def close(self) -> None:
        """Close the file. What could not be written was told when it was synced."""
        with suppress(OSError):
            self._file.close()


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, float) and not float("-inf") < value < float("inf"):
        return None
    return value


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a metrics.jsonl; a half line that a kill has left at the end is passed over."""
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            return
