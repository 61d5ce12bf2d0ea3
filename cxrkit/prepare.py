"""`cxrkit prepare`: the raw download -> shards at several resolutions, once.

One task is one shard and one process; a killed run goes on with the shards that are missing. What a reader needs to
open the folder (index.parquet, dataset.json) is written last.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from rich.console import Console

from cxrkit import codecs, registry
from cxrkit.contracts import IMAGE_SIZE, Records
from cxrkit.cores import available_cores
from cxrkit.errors import UserError
from cxrkit.files import PART_SUFFIX, output_error, publish, read_json
from cxrkit.prepare_summary import PrepareSummary, damage_list
from cxrkit.progress import progress_bar
from cxrkit.shard_file import ShardSettings, ShardTable
from cxrkit.shard_index import index_frame, write_description, write_index, write_records
from cxrkit.shard_plan import SHARD_FILE, Plan, finished_shards, other_settings
from cxrkit.shard_worker import ShardResult, ShardTask
from cxrkit.shards import DESCRIPTION, INDEX
from cxrkit.workers import Worker, Workers

MIN_LEVEL = 32  # pixels
_TARGET = "cxrkit.shard_worker:make_shard"
_GIVE_UP_AFTER = 100  # damaged images, when they are more than the good ones: the wrong files altogether


@dataclass(frozen=True)
class PrepareConfig:
    """What to prepare and how. Raises UserError when it makes no sense.

    raw: the downloaded folder. data: the folder to write. dataset: a registered name, or package.module:function.
    levels: side lengths in pixels, descending. codec: one of codecs.CODECS. quality: of JPEG, 1 to 100.
    workers: processes; None: one per core. allow_missing: prepare the images that are there. skip_damaged: leave
    damaged images out. limit: only the first images at hand.
    """

    raw: Path
    data: Path
    dataset: str = "nih-chestxray14"
    levels: tuple[int, ...] = (1024, 512, 256)
    codec: str = "jpeg"
    quality: int = 95
    workers: int | None = None
    allow_missing: bool = False
    skip_damaged: bool = False
    limit: int | None = None

    def __post_init__(self) -> None:
        """Check every field."""
        codecs.check(self.codec)
        _check_levels(self.levels)
        if not 1 <= self.quality <= 100:
            raise UserError(f"--quality {self.quality}: not a JPEG quality", remedy="choose 1 to 100")
        if self.workers is not None and self.workers < 1:
            raise UserError(f"--workers {self.workers}: there must be at least one", remedy="choose 1 or more")
        if self.limit is not None and self.limit < 1:
            raise UserError(f"--limit {self.limit}: leaves no image", remedy="choose 1 or more")
        if not self.raw.is_dir():
            found = "is not a folder" if self.raw.exists() else "does not exist"
            raise UserError(f"--raw {self.raw}: {found}", remedy="name the folder that holds the download")
        if self.data.resolve().is_relative_to(self.raw.resolve()):
            raise UserError(
                f"--data {self.data}: lies inside the raw folder {self.raw}, which is only ever read",
                remedy="choose a --data folder beside it",
            )
        if self.data.exists() and not self.data.is_dir():
            raise UserError(f"--data {self.data}: is a file, expected a folder", remedy="choose another --data folder")


def parse_levels(text: str) -> tuple[int, ...]:
    """Return the levels in "1024,512,256". Raises UserError for anything but whole numbers."""
    try:
        return tuple(int(level) for level in text.split(","))
    except ValueError:
        raise UserError(
            f"--levels {text!r}: not a list of side lengths", remedy="write them like 1024,512,256"
        ) from None


def _check_levels(levels: tuple[int, ...]) -> None:
    shown = ",".join(map(str, levels))
    remedy = "write them like 1024,512,256"
    if not levels:
        raise UserError("--levels: there must be at least one", remedy=remedy)
    for level in levels:
        if not MIN_LEVEL <= level <= IMAGE_SIZE or IMAGE_SIZE % level:
            raise UserError(
                f"--levels {shown}: {level} does not divide {IMAGE_SIZE} or is not within {MIN_LEVEL} to {IMAGE_SIZE}",
                remedy=remedy,
            )
    if list(levels) != sorted(set(levels), reverse=True):
        raise UserError(f"--levels {shown}: not in descending order", remedy=remedy)


def prepare_raw(config: PrepareConfig, *, console: Console | None = None) -> PrepareSummary:
    """Read the records of `config.raw` and prepare its images; see `prepare`. The workers start meanwhile."""
    with _start(config) as workers:
        records = registry.load("dataset", config.dataset)(config.raw, allow_missing=config.allow_missing)
        return prepare(config, records, console=console, workers=workers)


def prepare(
    config: PrepareConfig, records: Records, *, console: Console | None = None, workers: Workers | None = None
) -> PrepareSummary:
    """Prepare the images of `records` that are at hand into `config.data`; return what was done.

    workers: a running pool to use, which the caller closes (see `prepare_raw`). Shards that are there with the same
    settings and images are kept. Raises UserError for damaged images (all of them are looked at; without
    `skip_damaged` no shard with one is written, nor dataset.json), missing ones, a folder prepared with other
    settings, a disk that is full. Whatever is finished then is kept for the next run.
    """
    started = time.monotonic()
    frame = _at_hand(config, records)
    settings = _settings(config, records)
    with _folder(config.data), nullcontext(workers) if workers else _start(config) as pool:
        finished = finished_shards(config.data, settings)
        _check_description(config.data, settings, set(frame["image_id"]))
        plan = Plan(frame, config.data, settings, finished, skip_damaged=config.skip_damaged)
        summary = PrepareSummary(config.data, pool.count, missing=records.missing)
        with closing(plan), ThreadPoolExecutor(1) as beside:
            listed = beside.submit(write_records, config.data, records)
            tables = _make_shards(plan, pool, summary, console, config)
            listed.result()
        _finish(config, records, settings, tables, summary)
    summary.seconds = time.monotonic() - started
    return summary


def _start(config: PrepareConfig) -> Workers:
    return Workers(config.workers or available_cores(), _TARGET)


def _settings(config: PrepareConfig, records: Records) -> ShardSettings:
    return ShardSettings(
        dataset=records.dataset,
        label_release=records.label_release,
        codec=config.codec,
        quality=config.quality if config.codec == "jpeg" else 0,
        levels=config.levels,
    )


def _at_hand(config: PrepareConfig, records: Records) -> pl.DataFrame:
    if records.missing and not config.allow_missing:
        raise UserError(
            f"{config.raw}: {records.missing:,} of {len(records.frame):,} images are missing",
            remedy="download the rest, or prepare what is there with --allow-missing",
        )
    frame = records.frame.filter(pl.col("path").is_not_null()).sort("image_id")
    if frame.is_empty():
        raise UserError(f"{config.raw}: holds none of the listed images", remedy="name the folder that holds them")
    return frame.head(config.limit) if config.limit else frame


@contextmanager
def _folder(folder: Path) -> Iterator[None]:
    """Make the folder, keep other preparations out of it, and remove what a killed one left half-written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise output_error(folder, error) from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{folder}: another cxrkit prepare is writing here",
                remedy="wait for it, or choose another --data folder",
            ) from None
        except OSError:  # a file system without locks
            pass
        for part in folder.glob(f".*{PART_SUFFIX}"):
            part.unlink(missing_ok=True)
        yield
    finally:
        os.close(lock)


def _check_description(folder: Path, settings: ShardSettings, image_ids: set[str]) -> None:
    """Refuse to replace a complete folder by one with fewer images: that would lose some."""
    if not (folder / DESCRIPTION).exists() or not (folder / INDEX).exists():
        return
    about = read_json(folder / DESCRIPTION, "the description of a prepared folder", f"delete {folder}")
    if about.get("settings_digest") != settings.digest:
        raise other_settings(folder / DESCRIPTION, about, settings)
    held = pl.read_parquet(folder / INDEX, columns=["image_id"])["image_id"]
    lost = sorted(set(held) - image_ids)
    if lost:
        raise UserError(
            f"{folder}: holds {len(held):,} prepared images, of which this run would drop {len(lost):,} "
            f"({lost[0]}{' and others' if len(lost) > 1 else ''})",
            remedy=f"choose another --data folder, or delete {folder}",
        )


def _make_shards(
    plan: Plan, pool: Workers, summary: PrepareSummary, console: Console | None, config: PrepareConfig
) -> dict[int, ShardTable]:
    """Make the shards that are missing; return the tables of all, by number."""
    made: dict[int, ShardTable] = {}
    tasks: dict[int, ShardTask] = {}
    total = sum(len(group.rows) for group in plan.groups)

    def take(worker: Worker) -> ShardTask | None:
        task = plan.take(worker)
        if task is not None:
            tasks[task.number] = task
        return task

    def finish(result: ShardResult) -> ShardResult:
        task = tasks.pop(result.number)
        if result.table is not None:
            _publish(task)
        return result

    with progress_bar("prepare", total, console=console) as bar, closing(pool.run(take, finish)) as results:
        shown = 0
        for result in results:
            _count(summary, result)
            if result.table is not None:
                made[result.number] = result.table
            done = sum(len(table.image_ids) + len(table.damaged) for table in plan.kept.values())
            done += _looked_at(made) + len(summary.damaged)
            bar.advance(done - shown)
            shown = done
            if not config.skip_damaged and len(summary.damaged) > max(_GIVE_UP_AFTER, _looked_at(made)):
                break
    if summary.damaged and not config.skip_damaged:
        raise _damaged_error(summary, config)
    for table in plan.kept.values():
        summary.damaged |= table.damaged
        summary.reused += len(table.size)
    summary.shards_reused = len(plan.kept)
    return plan.kept | made


def _publish(task: ShardTask) -> None:
    """Rename a finished shard. From here on the folder is not the one that dataset.json may describe."""
    try:
        (task.path.parent / DESCRIPTION).unlink(missing_ok=True)
        publish(task.part, task.path)
    except OSError as error:
        with suppress(OSError):
            task.part.unlink(missing_ok=True)
        raise output_error(task.path, error) from error


def _looked_at(tables: dict[int, ShardTable]) -> int:
    return sum(len(table.size) for table in tables.values())


def _count(summary: PrepareSummary, result: ShardResult) -> None:
    summary.damaged |= result.damaged
    summary.converted += result.converted
    for stage, seconds in result.seconds.items():
        summary.stage_seconds[stage] += seconds


def _damaged_error(summary: PrepareSummary, config: PrepareConfig) -> UserError:
    count = len(summary.damaged)
    return UserError(
        "\n".join(
            [
                f"{config.raw}: {count:,} damaged image{'s' if count > 1 else ''}, so {config.data} is not complete "
                "(the shards without damage are kept)",
                *damage_list(summary.damaged),
            ]
        ),
        remedy="download them again and run the same command, or add --skip-damaged to leave them out",
    )


def _finish(
    config: PrepareConfig,
    records: Records,
    settings: ShardSettings,
    tables: dict[int, ShardTable],
    summary: PrepareSummary,
) -> None:
    """Write the index and, last of all, the description; remove shards of a run that cut the images differently."""
    index = index_frame(records, tables, settings.levels)
    summary.images, summary.shards = len(index), len(tables)
    summary.level_bytes = {level: int(index[f"size_{level}"].sum()) for level in settings.levels}
    write_index(config.data, index)
    for path in config.data.glob("shard-*.h5"):
        if (match := SHARD_FILE.fullmatch(path.name)) and int(match[1]) not in tables:
            path.unlink()
    write_description(config.data, records, settings, tables, summary.damaged)


__all__ = ["PrepareConfig", "PrepareSummary", "parse_levels", "prepare", "prepare_raw"]
