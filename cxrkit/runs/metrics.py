"""metrics.jsonl: one JSON object a line, of kind "step", "epoch" or "note"; written while a training runs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from cxrkit.base.files import output_error


class MetricsFile:
    """metrics.jsonl, appended to and cut back to the last checkpoint when a training resumes."""

    def __init__(self, path: Path, keep_bytes: int) -> None:
        """Open `path`, keeping its first `keep_bytes` bytes: later lines belong to steps that will be taken again.

        Where the file is shorter than the checkpoint says, or gone, what is there is kept up to its last whole line,
        and a line of kind "note" says that lines are missing.
        """
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(path, "a+b")  # noqa: SIM115 (closed by close)
            there = self._file.seek(0, os.SEEK_END)
            self._file.truncate(min(keep_bytes, there) if keep_bytes <= there else self._whole_lines(there))
            self._file.seek(0, os.SEEK_END)
        except OSError as error:
            raise output_error(path, error) from error
        if there < keep_bytes:
            self.write({"kind": "note", "text": "earlier lines are missing: the file was cut or removed"})

    def _whole_lines(self, length: int) -> int:
        self._file.seek(0)
        return self._file.read(length).rfind(b"\n") + 1

    def write(self, line: dict[str, Any]) -> None:
        """Append one line; numbers that JSON cannot hold become null."""
        try:
            self._file.write((json.dumps(_finite(line)) + "\n").encode())
            self._file.flush()  # whoever watches the training reads it at once
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


class NoMetrics:
    """Takes the lines of the processes that do not write."""

    def write(self, line: dict[str, Any]) -> None:
        """Pass over one line."""

    def sync(self) -> int:
        """Return how much was written."""
        return 0

    def close(self) -> None:
        """Do nothing."""


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, float) and not float("-inf") < value < float("inf"):
        return None
    return value


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a metrics.jsonl; a half line that a kill has left at the end is passed over."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            return
