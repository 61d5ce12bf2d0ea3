"""The work of one process of `cxrkit verify`: read one shard, or some sources, again, against what was written down."""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cxrkit.base.errors import UserError
from cxrkit.prepare.worker import SourcePlace
from cxrkit.shards import codecs
from cxrkit.shards.file import ShardSettings, ShardTable, Source, UnreadableError, read_shard
from cxrkit.sources.pixels import DamagedImage


@dataclass(frozen=True)
class CheckTask:
    """One shard, and what the index and the description say of it."""

    path: Path
    """The shard."""

    settings: ShardSettings
    """Of the folder."""

    bytes: int
    """Of the file, as the description has it."""

    image_ids: list[str]
    """Its images, as the index has them."""

    offset: np.ndarray
    """(images, levels), as the index has it: from the start of the file."""

    size: np.ndarray
    """(images, levels), as the index has it."""

    crc32: np.ndarray
    """(images, levels), as the index has it."""

    deep: bool
    """Whether to decode every record too."""

    index: str
    """The index file's name, for messages."""

    description: str
    """The description's name, for messages."""


@dataclass(frozen=True)
class SourceTask:
    """Some images of the raw folder, and what the index says they were."""

    image_ids: list[str]
    """The images."""

    places: list[SourcePlace]
    """Where each one's bytes are now."""

    sources: list[Source]
    """What each one was when it was prepared."""


@dataclass(frozen=True)
class Damage:
    """Something that is wrong."""

    file: str
    """The file that is to blame, in the prepared folder; "" where it is a source."""

    what: str
    """What is wrong."""

    image_id: str = ""
    """The image; "" where it is the whole file."""

    level: int = 0
    """The level in pixels; 0 where it is the whole file or image."""

    unknown: bool = False
    """Whether the file cannot be read, so that it may be as good as ever."""

    def text(self) -> str:
        """Return one line."""
        image = f"image {self.image_id}" if self.image_id else ""
        level = f" at level {self.level}" if self.level else ""
        return ": ".join(part for part in (self.file, f"{image}{level}", self.what) if part)


def warm_up() -> None:
    """Load what the first task needs."""
    import cv2
    import h5py  # noqa: F401

    cv2.setNumThreads(1)


def check_shard(task: CheckTask, buffer: int) -> list[Damage]:
    """Return everything that is wrong with a shard, or with what the tables say of it.

    A shard carries its own checksums. Where it agrees with itself and not with the tables, they are to blame: nobody
    should be told to delete a good shard.
    """
    del buffer
    name = task.path.name
    try:
        table = read_shard(task.path)
        damage = _compare_tables(task, table)
        with open(task.path, "rb") as file:
            for row, image_id in enumerate(table.image_ids):
                for number, level in enumerate(table.settings.levels):
                    file.seek(int(table.offset[row, number]))
                    data = file.read(int(table.size[row, number]))
                    if what := _wrong_with(table, data, int(table.crc32[row, number]), level, task.deep):
                        damage.append(Damage(name, what, image_id, level))
        return damage
    except UnreadableError as error:
        if not os.path.lexists(task.path):  # a link that leads nowhere may lead to a disk that is away
            return [Damage(name, "this shard is missing")]
        return [Damage(name, _without_path(error, task.path), unknown=True)]
    except UserError as error:
        return [Damage(name, _without_path(error, task.path))]
    except OSError as error:
        return [Damage(name, f"cannot be read ({error.strerror})", unknown=True)]


def _without_path(error: UserError, path: Path) -> str:
    return str(error).splitlines()[0].removeprefix(f"{path}: ")


def _compare_tables(task: CheckTask, table: ShardTable) -> list[Damage]:
    """Compare the shard's own table with the index and the description."""
    name = task.path.name
    if table.settings != task.settings:
        return [Damage(name, "was prepared with other settings than the folder")]
    damage = []
    if table.bytes != task.bytes:
        damage.append(Damage(task.description, f"{name} has {table.bytes:,} bytes, and not {task.bytes:,}"))
    if table.image_ids != task.image_ids:
        damage.append(Damage(task.index, f"{name} does not hold the images that it says"))
    elif not all(
        np.array_equal(mine, theirs)
        for mine, theirs in ((table.offset, task.offset), (table.size, task.size), (table.crc32, task.crc32))
    ):
        damage.append(Damage(task.index, f"does not agree with the table of {name}"))
    return damage


def _wrong_with(table: ShardTable, data: bytes, crc32: int, level: int, deep: bool) -> str:
    """Return what is wrong with one record, or nothing."""
    if zlib.crc32(data) != crc32:
        return "the checksum of its bytes does not match"
    if deep:
        try:
            encoded = np.frombuffer(data, np.uint8)
            codecs.decode(table.settings.codec, encoded, level)
            codecs.check_tiles(encoded, level, table.settings.restart)
        except ValueError as error:
            return str(error)
    return ""


def check_sources(task: SourceTask, buffer: int) -> list[Damage]:
    """Return the images whose bytes are not those that were prepared."""
    damage = []
    for image_id, place, before in zip(task.image_ids, task.places, task.sources, strict=True):
        try:
            now = place.read(buffer)[1]
        except DamagedImage as error:
            damage.append(Damage("", str(error), image_id))
            continue
        if now.size != before.size:
            damage.append(Damage("", f"{now.size:,} bytes, but {before.size:,} were prepared", image_id))
        elif now.crc32 != before.crc32:
            damage.append(Damage("", "its bytes are not those that were prepared (other checksum)", image_id))
    return damage
