"""The work of one process of `cxrkit verify`: read one shard again, every byte, against what was written down."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cxrkit import codecs, shard_file
from cxrkit.errors import UserError


@dataclass(frozen=True)
class CheckTask:
    """One shard, and what the index and the description say of it.

    bytes: of the file. image_ids and the (images, levels) arrays: as in index.parquet, offsets from the start of the
    file. deep: decode every record too.
    """

    path: Path
    settings_digest: str
    bytes: int
    codec: str
    levels: tuple[int, ...]
    image_ids: list[str]
    offset: np.ndarray
    size: np.ndarray
    crc32: np.ndarray
    deep: bool


@dataclass(frozen=True)
class Finding:
    """Something that is wrong. image_id and level are empty and 0 where it is the whole file."""

    file: str
    what: str
    image_id: str = ""
    level: int = 0

    def text(self) -> str:
        """Return one line."""
        where = f": image {self.image_id} at level {self.level}" if self.image_id else ""
        return f"{self.file}{where}: {self.what}"


def warm_up() -> None:
    """Load what the first task needs."""
    import cv2
    import h5py  # noqa: F401

    cv2.setNumThreads(1)


def check_shard(task: CheckTask, buffer: int) -> list[Finding]:
    """Return everything that is wrong with a shard."""
    del buffer
    name = task.path.name
    try:
        found = task.path.stat().st_size
        if found != task.bytes:
            return [Finding(name, f"{found:,} bytes, but {task.bytes:,} were written")]
        findings = _check_table(task)
        with open(task.path, "rb") as file:
            for row, image_id in enumerate(task.image_ids):
                for number, level in enumerate(task.levels):
                    file.seek(int(task.offset[row, number]))
                    data = file.read(int(task.size[row, number]))
                    if what := _check_record(task, data, int(task.crc32[row, number]), level):
                        findings.append(Finding(name, what, image_id, level))
        return findings
    except FileNotFoundError:
        return [Finding(name, "this shard is missing")]
    except OSError as error:
        return [Finding(name, f"cannot be read ({error})")]


def _check_table(task: CheckTask) -> list[Finding]:
    """Compare the shard's own table with the index."""
    name = task.path.name
    try:
        table = shard_file.read(task.path, ["image_id"])
    except UserError as error:
        return [Finding(name, str(error).splitlines()[0].removeprefix(f"{task.path}: "))]
    if table.about.get("settings_digest") != task.settings_digest:
        return [Finding(name, "was prepared with other settings than the folder")]
    if table.image_ids != task.image_ids:
        return [Finding(name, "does not hold the images that index.parquet says")]
    same = all(
        np.array_equal(mine, theirs)
        for mine, theirs in (
            (table.offset, task.offset),
            (table.size, task.size),
            (table.crc32, task.crc32),
        )
    )
    return [] if same else [Finding(name, "its table does not agree with index.parquet")]


def _check_record(task: CheckTask, data: bytes, crc32: int, level: int) -> str:
    """Return what is wrong with one record, or nothing."""
    if zlib.crc32(data) != crc32:
        return "the checksum of its bytes does not match"
    if task.deep:
        try:
            codecs.decode(task.codec, np.frombuffer(data, np.uint8), level)
        except ValueError as error:
            return str(error)
    return ""
