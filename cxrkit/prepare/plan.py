"""Which image goes into which shard, which shards are there already, and what each worker does next.

A shard that is there is kept when all its images are wanted and their sources are the same. What is left is cut anew:
loose files in the order of their names, the images of an archive in the archive's own order. So the shards come out the
same whatever the number of workers and however often the preparation was interrupted.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from cxrkit.base.errors import UserError
from cxrkit.base.files import part_of
from cxrkit.base.workers import Worker
from cxrkit.prepare.source_queue import SourceQueue, file_stamps
from cxrkit.prepare.worker import ShardResult, ShardTask
from cxrkit.shards.file import SOURCE, OtherVersionError, ShardSettings, ShardTable, Source, UnreadableError, read_shard


def shard_size(images: int) -> int:
    """Return how many images go into one shard, from their number alone: 1/32 of them, at least 8, at most 64.

    At most 64: a worker holds one shard in memory (18 MB as JPEG, 88 MB raw, and 27 MB of PNGs read from an archive),
    a killed run loses half a second of work per worker, and all of ChestX-ray14 makes 1,752 files. At least 8: opening
    and syncing a file is then under 5 % of the work. 32 shards or more: the last ones keep few workers waiting.
    """
    return min(64, max(8, -(-images // 32)))


def finished_shards(folder: Path, settings: ShardSettings) -> list[ShardTable]:
    """Return the tables of all whole shards in `folder`, whichever run made them.

    A file that is no whole shard is left out, to be made anew. Raises UserError when one has other settings, is of
    another format version, or cannot be read: it may well be whole.
    """
    found = []
    for path in sorted(folder.glob("shard-*.h5")):
        try:
            table = read_shard(path)
        except (OtherVersionError, UnreadableError):
            raise
        except UserError:
            continue
        if table.settings != settings:
            raise other_settings(path, table.settings, settings)
        found.append(table)
    return found


def other_settings(path: Path, found: ShardSettings, wanted: ShardSettings) -> UserError:
    """Return the error for a folder that holds shards of other settings than those asked for."""
    differences = [
        f"{_CALLED.get(name, f'{name} ')}{_shown(name, getattr(found, name))} "
        f"(asked for: {_shown(name, getattr(wanted, name))})"
        for name in ShardSettings.__dataclass_fields__
        if getattr(found, name) != getattr(wanted, name)
    ]
    return UserError(
        f"{path}: was prepared with {', '.join(differences)}",
        remedy=f"choose another --data folder, delete {path.parent}, or use the same settings again",
    )


_CALLED = {"restart": ""}  # what it is called is in its values


def _shown(name: str, value: object) -> str:
    if name == "restart":
        return "JPEG tiles" if value else "no JPEG tiles, as by --no-tiles"
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def with_stamps(table: ShardTable, sources: Mapping[str, Source]) -> ShardTable:
    """Return the table with the newest stamps of its sources, where the bytes are those that it was made from."""

    def newest(image_id: str, own: Source) -> Source:
        other = sources.get(image_id, own)
        return other if (other.size, other.crc32) == (own.size, own.crc32) else own

    before = _sources_of(table)
    rows = [newest(image_id, before[image_id]) for image_id in table.image_ids]
    return replace(
        table,
        source=np.array([(row.size, row.crc32, *row.stamp) for row in rows], dtype=SOURCE),
        damaged=[replace(left, source=newest(left.image_id, left.source)) for left in table.damaged],
    )


def _sources_of(table: ShardTable) -> dict[str, Source]:
    """Return what each image of the shard was made from, those that were left out included."""
    made = dict(zip(table.image_ids, itertools.starmap(Source, table.source.tolist()), strict=True))
    return made | {left.image_id: left.source for left in table.damaged}


@dataclass
class Sorted:
    """What is to become of the shards that are there."""

    kept: list[ShardTable]
    """Right as they are."""

    loose: list[tuple[np.ndarray, ShardTable | None]]
    """Rows, all of loose files, that make one shard again, and the shard to compare their bytes with first."""

    packed: dict[frozenset[int], ShardTable]
    """Rows, all of one archive -> the shard to compare their bytes with when they are read."""

    rest: np.ndarray
    """The rows that are in none of `kept` and `loose`."""


def sort_out(
    frame: pl.DataFrame, finished: Sequence[ShardTable], *, skip_damaged: bool, reread: bool = False
) -> Sorted:
    """Decide which of the `finished` shards are right, which must be compared with their sources' bytes.

    By names, sizes and times alone, but for files that were left out as damaged: they are few, and a repaired one may
    have the size and time of the damaged one. With `reread` sizes and times count for nothing.
    """
    row_of = {image_id: row for row, image_id in enumerate(frame["image_id"])}
    paths, members = frame["path"].to_list(), frame["member"].to_list()
    found = Sorted([], [], {}, np.zeros(0, np.int64))
    taken = np.zeros(len(frame), dtype=bool)
    wanted = [
        (table, sources, [row_of[image_id] for image_id in sources])
        for table in finished
        if (sources := _sources_of(table)) and sources.keys() <= row_of.keys()
    ]
    stamps = file_stamps({paths[row] for _, _, rows in wanted for row in rows})
    suspects = []
    for table, sources, rows in wanted:
        same = not reread and all(
            stamps.get(paths[row]) == source.stamp for row, source in zip(rows, sources.values(), strict=True)
        )
        if same and skip_damaged:
            left_out = [(row_of[left.image_id], left.source) for left in table.damaged]
            same = all(_has_bytes(paths[row], source) for row, source in left_out if members[row] is None)
        if not same or (table.damaged and not skip_damaged):
            suspects.append((table, rows))
        elif not taken[rows].any():
            taken[rows] = True
            found.kept.append(table)
    for table, rows in sorted(suspects, key=lambda suspect: len(suspect[0].damaged)):  # the most complete first
        if taken[rows].any():
            continue
        # Damage that may not be skipped is looked at again in any case: there is nothing to compare.
        before = None if table.damaged and not skip_damaged else table
        if all(members[row] is None for row in rows):
            taken[rows] = True
            found.loose.append((np.array(sorted(rows)), before))
        elif before is not None:
            found.packed[frozenset(rows)] = before
    found.rest = np.flatnonzero(~taken)
    return found


def _has_bytes(path: str, source: Source) -> bool:
    try:
        return zlib.crc32(Path(path).read_bytes()) == source.crc32
    except OSError:
        return False


class PreparationPlan:
    """All shards of one preparation, and the tasks that are still to do. Safe to use from many threads."""

    def __init__(
        self,
        frame: pl.DataFrame,
        folder: Path,
        settings: ShardSettings,
        finished: Sequence[ShardTable],
        *,
        skip_damaged: bool,
        reread: bool = False,
    ) -> None:
        """Plan the images at hand in `frame`; finished: what `finished_shards` found, the best first.

        frame: image_id, PIXEL_SCHEMA and `place`, each image's number among all of the data set; sorted by image_id.
        reread: compare the bytes of every source, whatever its size and time.
        """
        self.images = len(frame)
        sorted_out = sort_out(frame, finished, skip_damaged=skip_damaged, reread=reread)
        self.kept = sorted_out.kept
        self._ids, self._places = frame["image_id"].to_list(), frame["place"].to_list()
        self._folder, self._settings, self._skip_damaged = folder, settings, skip_damaged
        self._before = {frozenset(rows.tolist()): table for rows, table in sorted_out.loose if table is not None}
        self._before |= sorted_out.packed
        again = [rows for rows, _ in sorted_out.loose]
        self._queue = SourceQueue(frame, sorted_out.rest, shard_size(len(frame)), first=again)
        self._numbers = itertools.count()
        self._under_way: dict[int, tuple[ShardTask, ShardTable | None]] = {}

    def take(self, worker: Worker) -> ShardTask | None:
        """Return the next task, None when there are no more. Raises UserError when an archive is damaged."""
        portion = self._queue.take(worker)
        if portion is None:
            return None
        number, rows = next(self._numbers), portion.rows.tolist()
        image_ids = [self._ids[row] for row in rows]
        before = self._before.get(frozenset(rows))
        known = _sources_of(before) if before is not None else {}
        task = ShardTask(
            number=number,
            part=part_of(self._folder / f"shard-{number}.h5"),
            place=min(self._places[row] for row in rows),
            settings=self._settings,
            image_ids=image_ids,
            sources=portion.places,
            skip_damaged=self._skip_damaged,
            known=[known[image_id] for image_id in image_ids] if known else None,
        )
        self._under_way[number] = task, before
        return task

    def finish(self, result: ShardResult) -> tuple[ShardTask, ShardTable | None]:
        """Return the task of a result, and the shard that turned out to be right as it is, if one did."""
        task, before = self._under_way.pop(result.number)
        if result.unchanged is None:
            return task, None
        assert before is not None, "only what is known can be unchanged"
        return task, with_stamps(before, dict(zip(task.image_ids, result.unchanged, strict=True)))

    def close(self) -> None:
        """Close the archives."""
        self._queue.close()
