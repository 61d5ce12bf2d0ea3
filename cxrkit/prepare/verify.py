"""`cxrkit verify`: read a prepared folder, or the files that it was made from, again, against the checksums."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console

from cxrkit.base import labels
from cxrkit.base.contracts import BOX_SCHEMA, Records
from cxrkit.base.cores import available_cores
from cxrkit.base.errors import UserError
from cxrkit.base.origin import labels_digest
from cxrkit.base.progress import progress_bar, size_text
from cxrkit.base.words import count
from cxrkit.base.workers import Worker, Workers
from cxrkit.prepare.check import CheckTask, Damage, SourceTask
from cxrkit.prepare.source_queue import SourceQueue
from cxrkit.shards.file import Source
from cxrkit.shards.index import (
    DESCRIPTION,
    SOURCE_SCHEMA,
    Description,
    pixels_digest,
    read_description,
    read_index,
    read_listed,
    read_table,
)

_SHARDS = "cxrkit.prepare.check:check_shard"
_SOURCES = "cxrkit.prepare.check:check_sources"
_SHOWN = 20  # things named in a message
_PORTION = 64  # source images that a worker reads at a time


@dataclass
class VerifyReport:
    """What was read, and everything that is wrong with it."""

    data: Path
    """The prepared folder."""

    deep: bool = False
    """Whether every image was decoded too."""

    images: int = 0
    """How many were read."""

    shards: int = 0
    """How many were read; 0 where the sources were."""

    bytes: int = 0
    """How many were read."""

    raw: Path | None = None
    """The raw folder, where the sources were read instead of the shards."""

    absent: int = 0
    """How many prepared images are not in the raw folder any more."""

    damage: list[Damage] = field(default_factory=list)
    """Sorted by file and image; empty when all is well."""

    notes: list[str] = field(default_factory=list)
    """What is worth knowing, but not wrong."""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.damage

    def text(self) -> str:
        """Return the closing lines for the terminal: all is well, or the list of what is wrong."""
        size = f"{size_text(self.bytes)} read"
        if self.raw is None:
            read = f"{self.data}: {count(self.images, 'image')} in {count(self.shards, 'shard')}, {size}"
        else:
            read = f"{self.raw}: the sources of {count(self.images, 'image')} in {self.data}, {size}"
        read += ", every image decoded" if self.deep else ""
        notes = [f"  note: {note}" for note in self.notes]
        if self.ok:
            well = "all as it was written" if self.raw is None else "all as they were prepared"
            return "\n".join([f"{read}: {well}", *notes])
        lines = [f"  {damage.text()}" for damage in self.damage[:_SHOWN]]
        more = [f"  and {len(self.damage) - _SHOWN:,} more"] if len(self.damage) > _SHOWN else []
        wrong = count(len(self.damage), "thing")
        return "\n".join([f"{read}: {wrong} wrong", *lines, *more, *notes])

    def raise_if_damaged(self) -> None:
        """Raise a UserError that lists what is wrong and says how to repair it, if anything is."""
        if self.ok:
            return
        if self.raw is not None:
            # Without --reread a file of the same size and time would pass for the one that was prepared, and a folder
            # is never replaced by one of fewer images.
            remedy = "put the files back that were prepared"
            if not self.absent:
                remedy += (
                    "; or add --reread to the `cxrkit prepare` command that made this folder, and run it again: it "
                    "makes what has changed anew"
                )
            raise UserError(self.text(), remedy=remedy)
        files = sorted({damage.file for damage in self.damage if damage.file.startswith("shard-")})
        unknown = {damage.file for damage in self.damage if damage.unknown}
        there = [file for file in files if (self.data / file).exists() and file not in unknown]
        named = ", ".join(there[:_SHOWN]) + (f" and {len(there) - _SHOWN:,} more" if len(there) > _SHOWN else "")
        remedy = "run `cxrkit prepare` again with the same settings; it writes what is missing"
        remedy = f"delete {named} in {self.data}, then {remedy}" if there else remedy
        if unknown:
            first = f"see that the disk of {self.data} is there and whole, and that you may read its files"
            only_that = all(damage.unknown for damage in self.damage)
            remedy = first if only_that else f"{first}, and verify again; then {remedy}"
        raise UserError(self.text(), remedy=remedy)


def verify(
    data: Path, *, deep: bool = False, workers: int | None = None, console: Console | None = None
) -> VerifyReport:
    """Read every record of the prepared folder `data` and compare it with its checksum; return what is wrong.

    deep: decode every record too. workers: processes; None: one per core. Raises UserError when the folder has no
    readable description or index: there is nothing to compare with then.
    """
    about = read_description(data)
    index = read_index(data, about)
    report = VerifyReport(data, deep, len(index), len(about.shards), sum(shard.bytes for shard in about.shards))
    report.damage = _check_tables(data, about, index)
    report.notes = _notes(data, about)
    pending = deque(_tasks(data, about, index, deep))

    def take(_: Worker) -> CheckTask | None:
        try:
            return pending.popleft()
        except IndexError:
            return None

    processes = min(workers or available_cores(), max(1, len(pending)))
    with (
        progress_bar("verify", len(pending), console=console, unit="shards") as bar,
        Workers(processes, _SHARDS) as pool,
        closing(pool.run(take)) as results,
    ):
        for damage in results:
            report.damage += damage
            bar.advance()
    report.damage.sort(key=lambda damage: (damage.file, damage.image_id, -damage.level))
    return report


def verify_sources(
    data: Path, raw: Path, records: Records, *, workers: int | None = None, console: Console | None = None
) -> VerifyReport:
    """Read every source file of the prepared folder `data` again and compare its checksum; return what differs.

    records: of the raw folder. Images that are prepared and not at hand any more are listed too.
    """
    about = read_description(data)
    index = read_index(data, about)
    if records.dataset != about.dataset:
        raise UserError(
            f"{data}: prepared from {about.dataset}, but {raw} is read as {records.dataset}",
            remedy=f"add --dataset {about.dataset}, or name the raw folder that was prepared",
        )
    known = {name: Source(*source) for name, *source in index.select("image_id", *SOURCE_SCHEMA).iter_rows()}
    report = VerifyReport(data, images=len(index), bytes=int(index["source_size"].sum()), raw=raw)
    frame = records.frame.filter(pl.col("path").is_not_null() & pl.col("image_id").is_in(index["image_id"].implode()))
    frame = frame.sort("image_id")
    ids = frame["image_id"].to_list()
    absent = sorted(known.keys() - set(ids))
    report.absent = len(absent)
    report.damage = [Damage("", "is not in the raw folder", image_id) for image_id in absent]

    def task_of(rows: np.ndarray, places: Any) -> SourceTask:
        image_ids = [ids[row] for row in rows.tolist()]
        return SourceTask(image_ids, places, [known[image_id] for image_id in image_ids])

    processes = min(workers or available_cores(), max(1, len(ids)))
    with (
        closing(SourceQueue(frame, np.arange(len(frame)), _PORTION)) as sources,
        progress_bar("verify", -(-len(ids) // _PORTION), console=console, unit="portions") as bar,
        Workers(processes, _SOURCES) as pool,
        closing(pool.run(_tasks_from(sources, task_of))) as results,
    ):
        for damage in results:
            report.damage += damage
            bar.advance()
    report.damage.sort(key=lambda damage: damage.image_id)
    return report


def _tasks_from(
    sources: SourceQueue, task_of: Callable[[np.ndarray, Any], SourceTask]
) -> Callable[[Worker], SourceTask | None]:
    def take(worker: Worker) -> SourceTask | None:
        portion = sources.take(worker)
        return None if portion is None else task_of(portion.rows, portion.places)

    return take


def _check_tables(data: Path, about: Description, index: pl.DataFrame) -> list[Damage]:
    """Compare the tables with one another and with their digests."""
    damage = []
    if pixels_digest(index) != about.pixels_digest:
        damage.append(Damage(DESCRIPTION, f"pixels_digest is not that of {about.index.file}"))
    try:
        records = read_listed(data, about)
        if not index["image_id"].is_in(records["image_id"].implode()).all():
            damage.append(Damage(about.records.file, "does not list all images that were prepared"))
        if labels_digest(records, labels.get(about.label_set)) != about.labels_digest:
            damage.append(Damage(DESCRIPTION, f"labels_digest is not that of {about.records.file}"))
    except UserError as error:
        damage.append(Damage(about.records.file, _what(error, data / about.records.file)))
    if about.boxes is not None:
        try:
            read_table(data / about.boxes.file, BOX_SCHEMA, about.boxes.sha256)
        except UserError as error:
            damage.append(Damage(about.boxes.file, _what(error, data / about.boxes.file)))
    return damage


def _notes(data: Path, about: Description) -> list[str]:
    """Name the shards that are not of this generation: of an unfinished run, or with images that it leaves out."""
    known = {shard.file for shard in about.shards}
    others = [path.name for path in sorted(data.glob("shard-*.h5")) if path.name not in known]
    return [
        f"{name} is not one of the shards that {DESCRIPTION} names; `cxrkit prepare` uses it when it is wanted again"
        for name in others
    ]


def _what(error: UserError, path: Path) -> str:
    return str(error).splitlines()[0].removeprefix(f"{path}: ")


def _tasks(data: Path, about: Description, index: pl.DataFrame, deep: bool) -> list[CheckTask]:
    parts = {int(key[0]): part for key, part in index.partition_by("shard", as_dict=True, maintain_order=True).items()}
    tasks = []
    for number, shard in enumerate(about.shards):
        rows = parts.get(number, index.clear())
        offset, size, crc32 = (
            rows.select(f"{name}_{level}" for level in about.levels).to_numpy() for name in ("offset", "size", "crc32")
        )
        tasks.append(
            CheckTask(
                path=data / shard.file,
                settings=about.settings,
                bytes=shard.bytes,
                image_ids=rows["image_id"].to_list(),
                offset=offset,
                size=size,
                crc32=crc32,
                deep=deep,
                index=about.index.file,
                description=DESCRIPTION,
            )
        )
    return tasks
