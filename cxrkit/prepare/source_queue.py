"""Hands out the images of a data set in portions: loose files by name, an archive's in its own order.

An archive is read forward, once, into the buffer of the worker that is to look at the images, by one thread at a time,
while the other workers compute. Its order is known only while reading it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from cxrkit.base.errors import UserError
from cxrkit.base.workers import Worker
from cxrkit.prepare.worker import SourcePlace
from cxrkit.sources.archives import ArchiveReader

_STATS_AT_ONCE = 8  # a network disk answers one question in a millisecond, and several at once


@dataclass(frozen=True)
class Portion:
    """Images that are handed out together."""

    rows: np.ndarray
    """Of the frame, ascending."""

    places: list[SourcePlace]
    """Where each one's bytes are."""


def cut_loose(rows: np.ndarray, size: int) -> list[np.ndarray]:
    """Cut rows into portions of `size`, the last one smaller."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]


class SourceQueue:
    """All portions of some images at hand. Safe to use from many threads."""

    def __init__(self, frame: pl.DataFrame, rows: np.ndarray, size: int, *, first: Iterable[np.ndarray] = ()) -> None:
        """Cut the `rows` of `frame` (PIXEL_SCHEMA) into portions of `size` images, a file of an archive's apart.

        first: more rows, of loose files, that make a portion each as they are.
        """
        self._paths, self._members = frame["path"].to_list(), frame["member"].to_list()
        inside = frame["member"].is_not_null().to_numpy()[rows]
        self._loose = deque([*first, *cut_loose(rows[~inside], size)])
        by_archive: dict[str, dict[str, int]] = {}
        for row in rows[inside].tolist():
            by_archive.setdefault(self._paths[row], {})[self._members[row]] = row
        self._stamps = file_stamps(by_archive)
        self._archives = [ArchiveReader(Path(path), wanted, size) for path, wanted in by_archive.items()]

    def take(self, worker: Worker) -> Portion | None:
        """Return the next portion, None when there are no more. Raises UserError when an archive is damaged."""
        while True:
            archive = self._next_archive()
            if archive is None:
                try:
                    rows = self._loose.popleft()
                except IndexError:
                    return None
                return Portion(rows, [SourcePlace(self._paths[row]) for row in rows.tolist()])
            try:
                return self._read_portion(archive, worker.buffer)
            finally:
                archive.lock.release()

    def close(self) -> None:
        """Close the archives."""
        for archive in self._archives:
            archive.close()

    def _next_archive(self) -> ArchiveReader | None:
        """Return an archive with more to read, locked; one that nobody reads where there is one."""
        while open_ones := [archive for archive in self._archives if not archive.exhausted]:
            for archive in open_ones:
                if archive.lock.acquire(blocking=False):
                    if not archive.exhausted:
                        return archive
                    archive.lock.release()
            if self._loose:
                return None
            open_ones[0].lock.acquire()
            if not open_ones[0].exhausted:
                return open_ones[0]
            open_ones[0].lock.release()
        return None

    def _read_portion(self, archive: ArchiveReader, buffer: int) -> Portion:
        try:
            run = archive.next_run(buffer)
        except OSError as error:
            raise UserError(
                f"{archive.path}: this archive cannot be read ({error.strerror})",
                remedy="put it back where it was and run the same command again; what is finished is kept",
            ) from None
        stamp = self._stamps.get(str(archive.path), (-1, 0))
        run.sort(key=lambda member: member.row)
        places = [SourcePlace("", member.offset, member.size, member.why, stamp) for member in run]
        return Portion(np.array([member.row for member in run], dtype=np.int64), places)


def file_stamps(paths: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Return size in bytes and modification time in ns of each file that is there."""
    found: dict[str, tuple[int, int]] = {}
    todo = deque(paths)

    def ask() -> None:
        while True:
            try:
                path = todo.popleft()
            except IndexError:
                return
            try:
                about = Path(path).stat()
            except OSError:
                continue
            found[path] = about.st_size, about.st_mtime_ns

    if len(todo) < 2 * _STATS_AT_ONCE:
        ask()
        return found
    with ThreadPoolExecutor(_STATS_AT_ONCE) as pool:
        for done in [pool.submit(ask) for _ in range(_STATS_AT_ONCE)]:
            done.result()
    return found
