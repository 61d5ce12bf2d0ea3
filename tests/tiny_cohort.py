"""A handful of 1024 x 1024 PNGs and their records, for tests that need pixels but no data set."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import polars as pl

from cxrkit.base.contracts import LABELS, PIXEL_SCHEMA, RECORD_SCHEMA, Records
from cxrkit.base.files import replacing
from cxrkit.shards.file import (
    SOURCE,
    Left,
    ShardSettings,
    ShardTable,
    read_shard,
    seal,
    shard_name,
    unseal,
    write_shard,
)
from cxrkit.shards.index import Listed, ShardEntry, index_frame, write_generation


def picture(seed: int) -> np.ndarray:
    """Return a smooth, slightly noisy (1024, 1024) uint8 image."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(20, 230, (8, 8), dtype=np.uint8)
    image = cv2.resize(coarse, (1024, 1024), interpolation=cv2.INTER_CUBIC)
    cv2.circle(image, (300 + 20 * seed, 500), 120, 255 - 5 * seed, 9)
    noise = rng.integers(0, 4, (1024, 1024), dtype=np.uint8)
    return cv2.add(image, noise)


def png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()


def image_id(number: int) -> str:
    return f"{number // 3 + 1:08d}_{number % 3:03d}.png"


def write_images(folder: Path, count: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (folder / image_id(number)).write_bytes(png(picture(number)))


def write_archive(path: Path, images: Path, order: list[str] | None = None, mode: str = "w:gz") -> None:
    """Pack the PNGs of `images`, by default in an order that is not sorted, with what else NIH's archives hold."""
    names = order or sorted((file.name for file in images.glob("*.png")), key=lambda name: name[::-1])
    with tarfile.open(path, mode) as tar:
        folder = tarfile.TarInfo("images")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name in names:
            data = (images / name).read_bytes()
            info = tarfile.TarInfo(f"images/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def records(raw: Path, count: int, *, archive: Path | None = None, absent: int = 0) -> Records:
    """Return the records of `count` images in raw/images (or in `archive`), and of `absent` more that are not there."""
    total = count + absent
    ids = [image_id(number) for number in range(total)]
    there = [number < count for number in range(total)]
    columns: dict[str, list[object]] = {
        "image_id": list(ids),
        "patient_id": [str(number // 3 + 1) for number in range(total)],
        "follow_up": [number % 3 for number in range(total)],
        "age_years": [30 + number for number in range(total)],
        "sex": ["MF"[number % 2] for number in range(total)],
        "view": ["PA" if number % 3 else "AP" for number in range(total)],
        **{label: [(number + place) % 5 == 0 for number in range(total)] for place, label in enumerate(LABELS)},
        "official": [None if number % 7 == 0 else "train_val" for number in range(total)],
        "path": [
            str(archive or raw / "images" / name) if here else None for name, here in zip(ids, there, strict=True)
        ],
        "member": [f"images/{name}" if archive and here else None for name, here in zip(ids, there, strict=True)],
    }
    frame = pl.DataFrame(columns, schema={**RECORD_SCHEMA, **PIXEL_SCHEMA})
    return Records("tiny", frame.sort("image_id"), "unknown")


def dataset(raw: Path, *, allow_missing: bool = False) -> Records:
    """A data set of 20 images for the command line: --dataset tiny_cohort:dataset."""
    return records(raw, 20)


def sources_of(image_ids: Sequence[str]) -> np.ndarray:
    """Return made-up sources, (images,) of SOURCE: every image's bytes are its name."""
    return np.array([(len(name), zlib.crc32(name.encode()), len(name), 1) for name in image_ids], dtype=SOURCE)


def write_one_shard(
    folder: Path,
    settings: ShardSettings,
    image_ids: Sequence[str],
    encoded: Sequence[Sequence[bytes | memoryview]],
    damaged: Sequence[Left] = (),
    place: int = 0,
) -> ShardTable:
    """Write one shard into `folder` under its own name; return its table."""
    source = sources_of(image_ids)
    lines = [(name, len(name), zlib.crc32(name.encode())) for name in image_ids]
    path = folder / shard_name(place, settings, lines)
    with replacing(path) as part:
        write_shard(part, settings, list(image_ids), source, encoded, damaged)
    return read_shard(path)


def write_prepared(
    folder: Path,
    cohort: Records,
    settings: ShardSettings,
    encoded: Sequence[Sequence[bytes | memoryview]],
    per_shard: int = 3,
) -> Path:
    """Write a prepared folder without `prepare`: the first images of the cohort, one for each of `encoded`."""
    ids = cohort.frame["image_id"].to_list()[: len(encoded)]
    tables = [
        write_one_shard(folder, settings, ids[start:][:per_shard], encoded[start:][:per_shard], place=start)
        for start in range(0, len(ids), per_shard)
    ]
    shards = [ShardEntry(table.file, len(table.image_ids), table.bytes) for table in tables]
    write_generation(folder, Listed.of(cohort), settings, index_frame(tables, settings.levels), shards)
    return folder


def shards(data: Path) -> list[str]:
    """Return the names of the shards in a prepared folder."""
    return sorted(path.name for path in data.glob("shard-*"))


def table_of(data: Path, kind: str) -> Path:
    """Return the file that dataset.json names: kind is "records", "index" or "boxes"."""
    return data / json.loads((data / "dataset.json").read_text())[kind]["file"]


def describe(data: Path, **changes: object) -> None:
    """Change what dataset.json says."""
    path = data / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_table(data: Path, kind: str, frame: pl.DataFrame) -> None:
    """Replace a table, and the checksum of it in dataset.json: only what is in it is wrong."""
    path = table_of(data, kind)
    frame.write_parquet(path)
    describe(data, **{kind: {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}})


def reseal(path: Path, start: int, length: int) -> None:
    """Give a shard a seal that is right for what it holds now; start, length: of its payload."""
    with open(path, "r+b") as file:
        unseal(file)
        seal(file, start, length)
