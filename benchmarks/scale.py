"""How it grows: prepare, from files and archives, and load at rising numbers of images; the index of all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks import memory
from benchmarks.contender import Contender
from benchmarks.material import gather
from benchmarks.prepare import pack
from benchmarks.record import Entry, Record
from benchmarks.session import Part, Row, Session
from cxrkit.base.contracts import IMAGE_SIZE, RECORD_SCHEMA, Records
from cxrkit.shards.file import SOURCE, ShardSettings, shard_name, write_shard
from cxrkit.shards.index import DESCRIPTION, Listed, ShardEntry, index_frame, write_generation

ALL_IMAGES = 112_120
COUNTS, QUICK_COUNTS = (250, 500, 1000, 2000, 4000), (50, 100)
SOURCE_COUNTS = (250, 1000, 4000)
EXTRACTED, TAR, ZIP = "extracted", "tar.gz", "zip"
PROJECTED_CORES = (2, 16, 64)
RAW_BYTES = 1024**2 + 512**2 + 256**2
SHARDS_GROW = (
    "A worker of prepare holds one shard in memory: 8 images of 250, 64 from 2,000 on, so its memory grows up to there "
    "and no further. Its start, a quarter of a second, is why few images are slower."
)
PREPARE, LOAD, REAL = "prepare", "load to 224, jpeg levels", "real images"
SOURCES = "prepare, by source"
KNOWN = (
    "By source: the records are read beforehand, uncounted. NIH's own archives are known by their names and sizes; "
    "others have to be listed first, which takes a tar.gz as long as unpacking it, and a zip no time. Unpacking takes "
    "0.6 to 1.3 ms of processor time an image, of 6 to 7.5 in all; hence the target of 0.85 against extracted files."
)


def measure(session: Session) -> Record:
    """Return the record of this part. Its images are drawn, whatever else the session has."""
    part = Part("scale", session)
    counts = QUICK_COUNTS if session.quick else COUNTS
    work = session.work / f"scale-{counts[-1]}"
    drawn = gather(work, None, counts[-1])
    folders = {count: work / f"prepared-{count}" for count in counts}
    once = replace(session, seconds=0.0)

    rows = [
        Row(_images(count), "benchmarks.ours:prepare", _job(drawn.raw, folder, session.cores, count))
        for count, folder in folders.items()
    ]
    if session.raw:
        rows.append(Row(REAL, "benchmarks.ours:prepare", partial(_real_job, session, work / "real")))
    part.entries += _with_peaks(once, PREPARE, rows)
    loading = [
        Row(
            _images(count),
            "benchmarks.ours:load",
            {"data": str(folder), "backend": "opencv", "size": 224, "batch": 64, "threads": session.cores},
        )
        for count, folder in folders.items()
    ]
    part.entries += _with_peaks(session, LOAD, loading)
    _growth(part, counts)
    _sources(part, drawn.raw, QUICK_COUNTS if session.quick else SOURCE_COUNTS)
    _index(part, ALL_IMAGES // (100 if session.quick else 1))
    part.remarks += [SHARDS_GROW, KNOWN]
    part.remarks += projection(part.entries, session.cores)
    return part.record(origin="synthetic", different_images=drawn.distinct, counts=list(counts))


def _images(count: int) -> str:
    return f"{count:,} images"


def _job(raw: Path, out: Path, workers: int, limit: int | None) -> dict[str, Any]:
    return {"raw": str(raw), "out": str(out), "workers": workers, "limit": limit}


def _real_job(session: Session, out: Path) -> Mapping[str, Any]:
    return _job(session.material.raw, out, session.cores, None)


def _with_peaks(session: Session, group: str, rows: list[Row]) -> list[Entry]:
    """Race the rows; each one's "peak MB" becomes that of its whole process tree, without mapped files."""
    peaks: dict[str, float] = {}
    entries = session.race(group, rows)
    for row in rows:
        job = row.job() if callable(row.job) else row.job
        contender = Contender(row.target, job)
        try:
            with memory.Watch(contender.process_id) as watch:
                contender.lap(0.0)
            peaks[row.name] = round(watch.peak_mb, 1)
        finally:
            contender.close()
    return [replace(entry, figures=entry.figures | {"tree peak MB": peaks[entry.name]}) for entry in entries]


def _growth(part: Part, counts: tuple[int, ...]) -> None:
    smallest, largest = _images(counts[0]), _images(counts[-1])
    for group in (PREPARE, LOAD):
        part.target(f"{group}: images/s at {largest} against {smallest}", 0.9, part.ratio(group, largest, smallest))
        peak = {entry.name: entry.figures["tree peak MB"] for entry in part.entries if entry.group == group}
        growth = peak[largest] / peak[smallest]
        part.target(f"{group}: peak memory at {largest} against {smallest}", 1.25, growth, at_least=False)


def _sources(part: Part, raw: Path, counts: tuple[int, ...]) -> None:
    """Race extracted files, tar.gz and zip, at rising numbers of images."""
    work, cores = part.session.work, part.session.cores
    out = work / "by-source"

    def job(kind: str, count: int) -> Mapping[str, Any]:
        source = raw if kind == EXTRACTED else pack(raw, work / f"packed-{kind}-{count}", kind, count)
        return _job(source, out / f"{kind}-{count}", cores, count) | {"listed": True}

    kinds = (EXTRACTED, TAR, ZIP)
    rows = [
        Row(_from(count, kind), "benchmarks.ours:prepare", partial(job, kind, count))
        for count in counts
        for kind in kinds
    ]
    part.entries += replace(part.session, seconds=0.0).race(SOURCES, rows)
    most, *fewer = sorted(counts, reverse=True)
    for kind in kinds:
        for count in fewer:
            what = f"{SOURCES}: images/s of {_from(most, kind)} against {_images(count)}"
            part.target(what, 0.9, part.ratio(SOURCES, _from(most, kind), _from(count, kind)))
    for kind in (TAR, ZIP):
        what = f"{SOURCES}: images/s of {_from(most, kind)} against {EXTRACTED}"
        part.target(what, 0.85, part.ratio(SOURCES, _from(most, kind), _from(most, EXTRACTED)))


def _from(count: int, kind: str) -> str:
    return f"{_images(count)}, {kind}"


def _index(part: Part, rows: int) -> None:
    """Open a prepared folder of `rows` images, each in a fresh process for its memory."""
    folder = part.session.work / f"index-{rows}"
    if not (folder / DESCRIPTION).exists():
        tiny_folder(folder, rows)
    group = f"opening a prepared folder of {rows:,} images"
    row = Row("cxrkit", "benchmarks.ours:open_store", {"data": str(folder)})
    entries = part.session.race(group, [row], unit="s", value=lambda lap: lap.seconds / lap.passes)
    fresh = Contender(row.target, {"data": str(folder)})
    try:
        before = memory.of_process(fresh.process_id)["peak"]
        fresh.lap(0.0)
        peak = fresh.memory_mb["peak"]
    finally:
        fresh.close()
    figures = {"peak MB of the process": round(peak, 1), "MB before opening": round(before, 1)}
    part.entries += [replace(entry, figures=entry.figures | figures) for entry in entries]
    value = entries[0].spread.median if entries[0].values else None
    part.target(group, 1.0, value, at_least=False, unit="s")
    part.target(f"{group}: memory of the whole process", 300.0, peak, at_least=False, unit="MB")


def tiny_folder(folder: Path, rows: int, per_shard: int = 64) -> None:
    """Write a prepared folder of `rows` images whose records are four bytes long: real but for its pixels."""
    settings = ShardSettings("synthetic", "jpeg", 95, (1024, 512, 256), IMAGE_SIZE)
    records = Records("synthetic", _records(rows).with_columns(path=pl.lit("here"), member=None), "synthetic")
    image_ids = records.frame["image_id"].to_list()
    folder.mkdir(parents=True, exist_ok=True)
    tables = []
    for start in range(0, rows, per_shard):
        names = image_ids[start : start + per_shard]
        file = shard_name(start, settings, ((name, 4, 0) for name in names))
        source = np.full(len(names), np.array((4, 0, 4, 0), SOURCE))
        table = write_shard(folder / file, settings, names, source, [[b"tiny"] * 3] * len(names))
        tables.append(replace(table, file=file))
    shards = [ShardEntry(table.file, len(table.image_ids), table.bytes) for table in tables]
    write_generation(folder, Listed.of(records), settings, index_frame(tables, settings.levels), shards)


def _records(rows: int) -> pl.DataFrame:
    generator = np.random.default_rng(0)
    patient = np.arange(rows) // 4 + 1
    columns: dict[str, Any] = {
        "image_id": [f"{patient[i]:08d}_{i % 4:03d}.png" for i in range(rows)],
        "patient_id": patient,
        "follow_up": np.arange(rows) % 4,
        "age_years": generator.integers(1, 95, rows),
        "sex": np.where(generator.random(rows) < 0.5, "M", "F"),
        "view": np.where(generator.random(rows) < 0.6, "PA", "AP"),
        "official": np.where(generator.random(rows) < 0.77, "train_val", "test"),
    }
    for name, kind in RECORD_SCHEMA.items():
        columns.setdefault(name, generator.random(rows) < 0.1 if kind == pl.Boolean() else [None] * rows)
    return pl.DataFrame(columns, schema_overrides=RECORD_SCHEMA).select(*RECORD_SCHEMA)


def projection(entries: list[Entry], cores: int) -> list[str]:
    """Return sentences with the projected time and disk of all 112,120 images, and what they assume."""
    measured = [entry for entry in entries if entry.group == PREPARE and entry.values]
    if not measured:
        return []
    basis = next((entry for entry in measured if entry.name == REAL), measured[-1])
    per_core = basis.spread.median / cores
    times = ", ".join(f"{ALL_IMAGES / per_core / count / 60:,.1f} min on {count} cores" for count in PROJECTED_CORES)
    size = basis.figures["bytes"][0]
    return [
        f"Projected for all {ALL_IMAGES:,} images: prepare takes {times}. Assumed: {per_core:.0f} images/s a core, as "
        f"measured here on {cores} ({basis.name}), growing with the cores; and a disk that keeps up: reads 0.42 MB and "
        f"writes {size / 1e6:.2f} MB an image.",
        f"Projected disk: {ALL_IMAGES * size / 1e9:.0f} GB as jpeg levels ({size / 1000:.0f} kB an image, "
        f"{basis.name}), {ALL_IMAGES * RAW_BYTES / 1e9:.0f} GB as raw levels.",
    ]
