"""Which image goes into which shard, which shards are there already, and what each worker does next.

Loose files are cut into shards in the order of their names; the images of an archive in the archive's own order, which
is known only while reading it. Either way the shards are the same whatever the number of workers and however often the
preparation was interrupted.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from cxrkit import shard_file
from cxrkit.archives import ArchiveReader
from cxrkit.errors import UserError
from cxrkit.files import part_of
from cxrkit.shard_file import ShardSettings, ShardTable, shard_name
from cxrkit.shard_worker import ShardTask, Source
from cxrkit.shards import record_columns
from cxrkit.workers import Worker

SHARD_FILE = re.compile(r"shard-(\d{5})\.h5")


def shard_size(images: int) -> int:
    """Return how many images go into one shard, from their number alone: 1/32 of them, at least 8, at most 64.

    At most 64: a worker holds one shard in memory (18 MB as JPEG, 88 MB raw, and 27 MB of PNGs read from an archive),
    a killed run loses half a second of work per worker, and all of ChestX-ray14 makes 1,752 files. At least 8: opening
    and syncing a file is then under 5 % of the work. 32 shards or more: the last ones keep few workers waiting.
    """
    return min(64, max(8, -(-images // 32)))


def finished_shards(folder: Path, settings: ShardSettings) -> dict[int, ShardTable]:
    """Return the whole shards in `folder` by number, with their image_id column.

    A file that is no whole shard is left out, to be written anew. Raises UserError when one has other settings.
    """
    found = {}
    for path in sorted(folder.glob("shard-*.h5")):
        if match := SHARD_FILE.fullmatch(path.name):
            try:
                table = shard_file.read(path, ["image_id"])
            except UserError:
                continue
            if table.about.get("settings_digest") != settings.digest:
                raise other_settings(path, table.about, settings)
            found[int(match[1])] = table
    return found


def other_settings(path: Path, about: dict[str, object], settings: ShardSettings) -> UserError:
    """Return the error for a folder that holds shards of other settings than those asked for."""
    wanted = {
        "format_version": shard_file.FORMAT_VERSION,
        "dataset": settings.dataset,
        "label_release": settings.label_release,
        "codec": settings.codec,
        "quality": settings.quality,
        "levels": list(settings.levels),
    }
    differences = [
        f"{name} {_shown(about.get(name))} (asked for: {_shown(value)})"
        for name, value in wanted.items()
        if about.get(name) != value
    ]
    return UserError(
        f"{path}: was prepared with {', '.join(differences) or 'other settings'}",
        remedy=f"choose another --data folder, delete {path.parent}, or use the same settings again",
    )


def _shown(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


@dataclass(frozen=True)
class Group:
    """Images that are cut into shards together: an archive's, or all loose files (archive "").

    rows: of the frame. first: the number of its first shard.
    """

    archive: str
    rows: np.ndarray
    first: int
    size: int

    @property
    def shards(self) -> int:
        """Number of shards."""
        return -(-len(self.rows) // self.size)

    def cuts(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (shard number, rows) in the frame's order."""
        for number in range(self.shards):
            yield self.first + number, self.rows[number * self.size : (number + 1) * self.size]


def make_groups(frame: pl.DataFrame) -> list[Group]:
    """Cut the images at hand (RECORD_SCHEMA + PIXEL_SCHEMA, sorted by image_id) into groups, numbering their shards."""
    size = shard_size(len(frame))
    keys = frame.select(pl.when(pl.col("member").is_null()).then(pl.lit("")).otherwise("path")).to_series()
    groups: list[Group] = []
    for key in keys.unique(maintain_order=True):
        first = groups[-1].first + groups[-1].shards if groups else 0
        groups.append(Group(key, np.flatnonzero((keys == key).to_numpy()), first, size))
    return groups


class Plan:
    """All shards of one preparation, and the tasks that are still to do. Safe to use from many threads."""

    def __init__(
        self,
        frame: pl.DataFrame,
        folder: Path,
        settings: ShardSettings,
        finished: dict[int, ShardTable],
        *,
        skip_damaged: bool,
    ) -> None:
        """Plan the images at hand in `frame`; finished: what `finished_shards` found."""
        self.groups = make_groups(frame)
        self.shards = sum(group.shards for group in self.groups)
        self.kept: dict[int, ShardTable] = {}
        self._columns = record_columns(frame)
        self._ids = frame["image_id"].to_list()
        self._paths = frame["path"].to_list()
        self._folder, self._settings, self._skip_damaged = folder, settings, skip_damaged
        self._finished = finished
        self._lock = threading.Lock()
        self._loose: deque[tuple[int, np.ndarray]] = deque()
        self._archives: list[tuple[Group, ArchiveReader]] = []
        members = frame["member"].to_list()
        for group in self.groups:
            if not group.archive:
                self._loose.extend(cut for cut in group.cuts() if not self._keep(*cut))
            elif not self._keep_all(group):
                wanted = {members[row]: int(row) for row in group.rows}
                self._archives.append((group, ArchiveReader(Path(group.archive), wanted, group.size)))

    def take(self, worker: Worker) -> ShardTask | None:
        """Return the next task, None when there are no more.

        The images of an archive are read here, into the worker's buffer: by one thread at a time per archive, while
        the other workers compute. Raises UserError when an archive is damaged.
        """
        while True:
            reader = self._next_archive()
            if reader is None:
                with self._lock:
                    if not self._loose:
                        return None
                    number, rows = self._loose.popleft()
                return self._task(number, rows, [Source(path=self._paths[row]) for row in rows])
            group, archive = reader
            try:
                if task := self._take_run(group, archive, worker.buffer):
                    return task
            finally:
                archive.lock.release()

    def close(self) -> None:
        """Close the archives."""
        for _, archive in self._archives:
            archive.close()

    def _next_archive(self) -> tuple[Group, ArchiveReader] | None:
        """Return an archive with more to read, locked; one that nobody reads where there is one."""
        while open_ones := [pair for pair in self._archives if not pair[1].exhausted]:
            for pair in open_ones:
                if pair[1].lock.acquire(blocking=False):
                    if not pair[1].exhausted:
                        return pair
                    pair[1].lock.release()
            if self._loose:
                return None
            open_ones[0][1].lock.acquire()
            if not open_ones[0][1].exhausted:
                return open_ones[0]
            open_ones[0][1].lock.release()
        return None

    def _take_run(self, group: Group, archive: ArchiveReader, buffer: int) -> ShardTask | None:
        number = group.first + archive.runs_read
        # Not yet known whether the finished shard of this number holds these very images: read them to be sure.
        run = archive.next_run(buffer)
        rows = np.array([member.row for member in run])
        if self._keep(number, rows):
            return None
        return self._task(number, rows, [Source("", member.offset, member.size, member.why) for member in run])

    def _task(self, number: int, rows: np.ndarray, sources: list[Source]) -> ShardTask:
        path = self._folder / shard_name(number)
        order = np.argsort(rows, kind="stable")
        columns = {name: values[rows[order]] for name, values in self._columns.items()}
        sources = [sources[position] for position in order]
        return ShardTask(number, path, part_of(path), self._settings, columns, sources, self._skip_damaged)

    def _keep(self, number: int, rows: Iterable[int]) -> bool:
        """Keep the finished shard `number` if it holds just these images (less the damaged, if they may be skipped)."""
        table = self._finished.get(number)
        if table is None or (table.damaged and not self._skip_damaged):
            return False
        if {*table.image_ids, *table.damaged} != {self._ids[row] for row in rows}:
            return False
        self.kept[number] = table
        return True

    def _keep_all(self, group: Group) -> bool:
        """Keep all of an archive's shards, unread, if together they hold just its images."""
        tables = [self._finished.get(number) for number in range(group.first, group.first + group.shards)]
        if any(table is None or (table.damaged and not self._skip_damaged) for table in tables):
            return False
        whole = [table for table in tables if table is not None]
        held = [image_id for table in whole for image_id in (*table.image_ids, *table.damaged)]
        if len(held) != len(group.rows) or set(held) != {self._ids[row] for row in group.rows}:
            return False
        self.kept.update(zip(range(group.first, group.first + group.shards), whole, strict=True))
        return True
