"""`cxrkit prepare`: the raw download -> shards at several resolutions, once.

One task is one shard and one process; a killed run goes on with the shards that are missing. New shards lie beside
those that are there, under names of their own; what a reader opens (dataset.json) is switched last, in one step, and
only then is removed what it has replaced. So whatever happens, the folder stays as usable as it was.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl
from rich.console import Console

from cxrkit.base.contracts import IMAGE_SIZE, Note, Records
from cxrkit.base.errors import UserError
from cxrkit.base.files import claimed, output_error, publish, remove_parts
from cxrkit.base.progress import progress_bar, waiting
from cxrkit.base.workers import Workers
from cxrkit.prepare.config import MIN_LEVEL, PrepareConfig, check_levels, default_levels, parse_levels
from cxrkit.prepare.plan import PreparationPlan, finished_shards, other_settings, with_stamps
from cxrkit.prepare.records import read_records
from cxrkit.prepare.start import start_last, start_workers
from cxrkit.prepare.summary import PrepareSummary, damage_list
from cxrkit.prepare.worker import ShardResult, ShardTask
from cxrkit.shards import tiles
from cxrkit.shards.file import OtherVersionError, ShardSettings, ShardTable, Source, read_shard
from cxrkit.shards.index import (
    DESCRIPTION,
    SOURCE_SCHEMA,
    TABLE_FILE,
    Description,
    Listed,
    ShardEntry,
    index_frame,
    read_description,
    read_index,
    write_generation,
)

LOCK = ".lock"
_NO_CODEC = "raw"  # of a folder without pixels
_WITHOUT_TILES = Note(
    "the folder was prepared without JPEG tiles, and goes on without: loading takes more processor time than it need",
    "to have them, prepare into another --data folder",
)
_GIVE_UP_AFTER = 100  # damaged images, when they are more than the good ones: the wrong files altogether


def prepare_raw(
    config: PrepareConfig, *, console: Console | None = None, workers: Workers | None = None
) -> PrepareSummary:
    """Read the records of `config.raw` and prepare its images; see `prepare`. The workers start meanwhile."""
    reading = f"reading the tables and names in {config.raw}"
    if config.tables_only:
        with waiting(reading, console):
            records = read_records(config.dataset, config.raw, allow_missing=True, policy=config.policy)
        return prepare_tables(config, records)
    with nullcontext(workers) if workers else start_workers(config.data, config.workers) as workers:
        start_last(workers, config.data)
        with waiting(reading, console):
            records = read_records(config.dataset, config.raw, allow_missing=config.allow_missing, policy=config.policy)
        return prepare(config, records, console=console, workers=workers)


def prepare(
    config: PrepareConfig, records: Records, *, console: Console | None = None, workers: Workers | None = None
) -> PrepareSummary:
    """Prepare the images of `records` that are at hand into `config.data`; return what was done.

    workers: a running pool to use, which the caller closes (see `prepare_raw`). Shards that are there with the same
    settings, images and sources are kept, whatever the labels. Raises UserError for damaged images (all of them are
    looked at; without `skip_damaged` no shard with one is written), missing ones, a resized copy without `resized`, a
    folder prepared with other settings, a disk that is full. Whatever is finished then is kept for the next run, and
    whatever could be read before still can.
    """
    started = time.monotonic()
    asked = _settings(config, records)
    frame = _at_hand(config, records)
    with (
        _folder(config.data),
        nullcontext(workers) if workers else start_workers(config.data, config.workers) as pool,
        ThreadPoolExecutor(1) as beside,
    ):
        settings = _as_begun(config.data, asked)
        listed = beside.submit(Listed.of, records)
        before = _previous(config.data, settings)
        finished = finished_shards(config.data, settings)
        if before is not None:
            _refuse_to_drop(config.data, before, frame["image_id"])
            finished = _best_first(finished, before)
        plan = PreparationPlan(
            frame, config.data, settings, finished, skip_damaged=config.skip_damaged, reread=config.reread
        )
        notes = records.notes if settings == asked else (*records.notes, _WITHOUT_TILES)
        summary = PrepareSummary(config.data, pool.count, missing=records.missing, notes=notes)
        with closing(plan):
            tables = _make_shards(plan, pool, summary, console, config)
        if not any(table.image_ids for table in tables):
            raise _nothing_good(summary, config)
        _switch(config, listed.result(), settings, tables, summary)
        _remove_replaced(config.data, tables, finished, before)
    summary.seconds = time.monotonic() - started
    return summary


def prepare_tables(config: PrepareConfig, records: Records) -> PrepareSummary:
    """Write the records and boxes alone into `config.data`: a folder without pixels; return what was done.

    `prepare` adds the pixels later. Raises UserError for a folder that holds pixels, or another data set.
    """
    started = time.monotonic()
    settings = ShardSettings(records.dataset, _NO_CODEC, 0, (), records.side, fit=records.fit)
    summary = PrepareSummary(config.data, 0, missing=records.missing, notes=records.notes, listed=len(records.frame))
    with _folder(config.data):
        before = _previous(config.data, settings)
        if before is not None and before.about.levels:
            raise UserError(
                f"{config.data}: holds {len(before.index):,} prepared images, and --tables-only would drop them",
                remedy="leave out --tables-only to renew the tables and keep the images, or choose another --data "
                "folder",
            )
        if before is None and any(config.data.glob("shard-*.h5")):
            raise UserError(
                f"{config.data}: holds shards that no readable table lists, and --tables-only would leave them so",
                remedy="leave out --tables-only, and what is whole is listed again; or choose another --data folder",
            )
        write_generation(config.data, Listed.of(records), settings, index_frame([], ()), [])
        _remove_replaced(config.data, [], [], before)
    summary.seconds = time.monotonic() - started
    return summary


def _settings(config: PrepareConfig, records: Records) -> ShardSettings:
    side = records.side
    if side < MIN_LEVEL:
        raise UserError(
            f"{config.raw}: its images are {side} x {side} pixels, expected at least {MIN_LEVEL} x {MIN_LEVEL}",
            remedy="download the original, or a larger copy",
        )
    if side != IMAGE_SIZE and not config.resized and not records.fit:
        raise UserError(
            f"{config.raw}: its images are {side} x {side} pixels, the original ones {IMAGE_SIZE} x {IMAGE_SIZE}: "
            "a resized copy",
            remedy="download the original, or add --resized: results are then kept apart from those of the original",
        )
    levels = default_levels(side) if config.levels is None else config.levels
    check_levels(levels, side)
    quality = config.quality if config.codec == "jpeg" else 0
    restart = tiles.RESTART if config.codec == "jpeg" and config.tiles else 0
    return ShardSettings(records.dataset, config.codec, quality, levels, side, restart, records.fit)


def _as_begun(folder: Path, settings: ShardSettings) -> ShardSettings:
    """Return the settings without tiles where that is what is in the folder already: it goes on as it was begun."""
    plain = replace(settings, restart=0)
    if plain == settings:
        return settings
    with suppress(UserError):
        if (begun := read_description(folder).settings).levels:
            return plain if begun == plain else settings
    for path in folder.glob("shard-*.h5"):  # a run that has not come to its end
        with suppress(UserError):
            return plain if read_shard(path).settings == plain else settings
    return settings


def _at_hand(config: PrepareConfig, records: Records) -> pl.DataFrame:
    """Return image_id, PIXEL_SCHEMA and `place` (number among the listed images) of the images to prepare, sorted."""
    if records.missing and not config.allow_missing:
        raise UserError(
            f"{config.raw}: {records.missing:,} of {len(records.frame):,} images are missing",
            remedy="download the rest, or prepare what is there with --allow-missing",
        )
    listed = records.frame.select("image_id", "path", "member").sort("image_id").with_row_index("place")
    frame = listed.filter(pl.col("path").is_not_null())
    if frame.is_empty():
        raise UserError(f"{config.raw}: holds none of the listed images", remedy="name the folder that holds them")
    return frame.head(config.limit) if config.limit else frame


@contextmanager
def _folder(folder: Path) -> Iterator[None]:
    """Make the folder, keep other preparations out of it, and remove what a killed one left half-written."""
    busy = f"{folder}: another cxrkit prepare is writing here"
    with claimed(folder / LOCK, busy, "wait for it, or choose another --data folder"):
        try:
            remove_parts(folder)
        except OSError as error:
            raise output_error(folder, error) from error
        yield


@dataclass(frozen=True)
class _Generation:
    """The folder as it is before the run."""

    about: Description
    """What dataset.json says."""

    index: pl.DataFrame
    """Where its images lie."""

    def images_of_shards(self) -> dict[str, list[str]]:
        """Return shard file -> its images."""
        parts = self.index.select("shard", "image_id").group_by("shard").all().iter_rows()
        return {self.about.shards[number].file: image_ids for number, image_ids in parts}

    def sources(self) -> dict[str, Source]:
        """Return what was known last of the source of every image, those that were left out included."""
        rows = self.index.select("image_id", *SOURCE_SCHEMA).iter_rows()
        known = {image_id: Source(*source) for image_id, *source in rows}
        return known | {left.image_id: left.source for left in self.about.damaged}


def _previous(folder: Path, settings: ShardSettings) -> _Generation | None:
    """Return the generation that the folder holds, None where there is none or it cannot be read: it is made anew.

    Raises UserError when it is of other settings or of another version.
    """
    try:
        about = read_description(folder)
        # Tables alone have no settings that others could contradict, and no pixels that others could drop.
        alone = not (about.levels and settings.levels) and about.dataset == settings.dataset
        if about.settings == settings or alone:
            return _Generation(about, read_index(folder, about))
    except OtherVersionError:
        raise
    except UserError:
        return None
    raise other_settings(folder / DESCRIPTION, about.settings, settings)


def _refuse_to_drop(folder: Path, before: _Generation, image_ids: pl.Series) -> None:
    """Refuse to replace a folder by one with fewer images."""
    held = before.index["image_id"]
    lost = held.filter(~held.is_in(image_ids.implode()))
    if len(lost):
        raise UserError(
            f"{folder}: holds {len(held):,} prepared images, of which this run would drop {len(lost):,} "
            f"({lost[0]}{' and others' if len(lost) > 1 else ''})",
            remedy=f"choose another --data folder, or delete {folder}",
        )


def _best_first(finished: list[ShardTable], before: _Generation) -> list[ShardTable]:
    """Return the shards of the generation before first, with the stamps that their sources had then."""
    places = {shard.file: place for place, shard in enumerate(before.about.shards)}
    known = before.sources()
    listed = sorted((table for table in finished if table.file in places), key=lambda table: places[table.file])
    return [with_stamps(table, known) for table in listed] + [it for it in finished if it.file not in places]


def _make_shards(
    plan: PreparationPlan,
    pool: Workers,
    summary: PrepareSummary,
    console: Console | None,
    config: PrepareConfig,
) -> list[ShardTable]:
    """Make the shards that are missing; return the tables of all, in the order of their first images."""
    made: list[ShardTable] = []
    kept = list(plan.kept)
    looked_at = 0

    def finish(result: ShardResult) -> tuple[ShardResult, ShardTable | None]:
        task, right = plan.finish(result)
        if result.table is not None:
            _publish(task, config.data / result.table.file)
        return result, right

    with (
        progress_bar("prepare", plan.images, console=console) as bar,
        closing(pool.run(plan.take, finish)) as results,
    ):
        if there := sum(len(table.image_ids) + len(table.damaged) for table in kept):
            bar.advance(there)
        if there < plan.images:
            pool.start()
        for result, right in results:
            _count(summary, result)
            made += [result.table] if result.table is not None else []
            kept += [right] if right is not None else []
            looked_at += result.images
            bar.advance(result.images)
            good = sum(len(table.image_ids) for table in made)
            if not config.skip_damaged and len(summary.damaged) > max(_GIVE_UP_AFTER, good):
                break
    if summary.damaged and not config.skip_damaged:
        anything_good = bool(kept) or looked_at > len(summary.damaged)
        raise _damaged_error(summary, config, anything_good=anything_good)
    for table in kept:
        summary.damaged |= {left.image_id: left.reason for left in table.damaged}
        summary.reused += len(table.image_ids)
    summary.shards_reused = len(kept)
    return sorted([*kept, *made], key=_first_image)


def _first_image(table: ShardTable) -> str:
    return min([*table.image_ids, *(left.image_id for left in table.damaged)])


def _publish(task: ShardTask, path: Path) -> None:
    try:
        publish(task.part, path)
    except OSError as error:
        with suppress(OSError):
            task.part.unlink(missing_ok=True)
        raise output_error(path, error) from error


def _count(summary: PrepareSummary, result: ShardResult) -> None:
    summary.damaged |= {left.image_id: left.reason for left in result.damaged}
    summary.converted += result.converted
    for stage, seconds in result.seconds.items():
        summary.stage_seconds[stage] += seconds


def _damaged_error(summary: PrepareSummary, config: PrepareConfig, *, anything_good: bool) -> UserError:
    count = len(summary.damaged)
    state = "is as it was before" if (config.data / DESCRIPTION).exists() else "is not complete"
    return UserError(
        "\n".join(
            [
                f"{config.raw}: {count:,} damaged image{'s' if count > 1 else ''}, so {config.data} {state} "
                "(the shards without damage are kept)",
                *damage_list(summary.damaged),
            ]
        ),
        remedy="download them again and run the same command"
        + (", or add --skip-damaged to leave them out" if anything_good else ""),
    )


def _nothing_good(summary: PrepareSummary, config: PrepareConfig) -> UserError:
    return UserError(
        "\n".join(
            [
                f"{config.raw}: all {len(summary.damaged):,} images at hand are damaged: nothing to prepare",
                *damage_list(summary.damaged),
            ]
        ),
        remedy="download them again and run the same command",
    )


def _switch(
    config: PrepareConfig,
    listed: Listed,
    settings: ShardSettings,
    tables: list[ShardTable],
    summary: PrepareSummary,
) -> None:
    """Write the tables of the new generation and make it the one that counts."""
    index = index_frame(tables, settings.levels)
    summary.images, summary.shards = len(index), len(tables)
    summary.level_bytes = {level: int(index[f"size_{level}"].sum()) for level in settings.levels}
    shards = [ShardEntry(table.file, len(table.image_ids), table.bytes) for table in tables]
    damaged = [left for table in tables for left in table.damaged]
    write_generation(config.data, listed, settings, index, shards, damaged)


def _remove_replaced(
    folder: Path, tables: list[ShardTable], finished: list[ShardTable], before: _Generation | None
) -> None:
    """Remove tables of earlier generations, and shards of which every image is in the new one.

    A shard that holds more is kept: what was prepared once is not lost by a run that leaves it out.
    """
    about = read_description(folder)
    named = {table.file for table in (about.records, about.index, about.boxes) if table is not None}
    tables_there = (path for path in folder.glob("*.parquet") if TABLE_FILE.fullmatch(path.name))
    replaced = [path for path in tables_there if path.name not in named]
    images = before.images_of_shards() if before is not None else {}
    images |= {table.file: table.image_ids for table in finished}
    used = {table.file for table in tables}
    held = {image_id for table in tables for image_id in table.image_ids}
    replaced += [folder / file for file, ids in images.items() if file not in used and held.issuperset(ids)]
    for path in replaced:
        with suppress(OSError):  # it takes up room, and that is all
            path.unlink()


__all__ = [
    "PrepareConfig",
    "PrepareSummary",
    "default_levels",
    "parse_levels",
    "prepare",
    "prepare_raw",
    "prepare_tables",
]
