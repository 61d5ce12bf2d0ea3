"""The work of one process of a preparation: read, decode, scale, encode and write one shard.

Runs in a worker process, and so imports nothing that it does not need.
"""

from __future__ import annotations

import os
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from cxrkit.base.errors import UserError
from cxrkit.base.files import output_error
from cxrkit.shards import codecs
from cxrkit.shards.file import SOURCE, Left, ShardSettings, ShardTable, Source, shard_name, write_shard
from cxrkit.sources.films import read_film
from cxrkit.sources.pixels import DamagedImage, Pixels, read_image

STAGES = ("read", "decode", "scale", "encode", "write")


@dataclass(frozen=True)
class SourcePlace:
    """Where one image's bytes are: a file, or a piece of the shared buffer, or nowhere (`why`)."""

    path: str = ""
    """The image file; "" where the bytes come from an archive."""

    offset: int = 0
    """Where they begin in the shared buffer."""

    size: int = 0
    """How many there are in the shared buffer."""

    why: str = ""
    """Set instead where the archive has no bytes for this image."""

    stamp: tuple[int, int] = (-1, 0)
    """Size and modification time (ns) of the archive; a file is asked itself."""

    @property
    def nothing(self) -> Source:
        """What stands for a source of which no byte could be read; a file like that is looked at in every run."""
        return Source(-1, 0, *self.stamp)

    def read(self, buffer: int) -> tuple[bytes, Source]:
        """Return the bytes and their identity. Raises DamagedImage when there are none to be had."""
        if self.why:
            raise DamagedImage(self.why)
        if not self.path:
            data, stamp = os.pread(buffer, self.size, self.offset), self.stamp
        else:
            try:
                with open(self.path, "rb", buffering=0) as file:
                    about = os.fstat(file.fileno())
                    data, stamp = file.read(), (about.st_size, about.st_mtime_ns)
            except OSError as error:
                raise DamagedImage(f"cannot be read ({error.strerror})") from None
        return data, Source(len(data), zlib.crc32(data), *stamp)


@dataclass(frozen=True)
class ShardTask:
    """One shard to make, or first to compare with the one that is there."""

    number: int
    """Which task of the run it is."""

    part: Path
    """The temporary name to write to, in the prepared folder."""

    place: int
    """Of its first image among all of the data set; for its name."""

    settings: ShardSettings
    """How to make it."""

    image_ids: list[str]
    """Its images."""

    sources: list[SourcePlace]
    """Where each image's bytes are."""

    skip_damaged: bool
    """Whether damaged images are left out, instead of keeping the shard from being written."""

    known: list[Source] | None = None
    """What the shard that is there was made from: if the bytes are still the same, nothing is made."""


@dataclass
class ShardResult:
    """What came of a task."""

    number: int
    """Of the task."""

    images: int
    """How many images were looked at."""

    unchanged: list[Source] | None = None
    """Set where the shard that is there is still right: what its sources are now."""

    table: ShardTable | None = None
    """Of the shard that was made; None where there was no need, or a damaged image kept it from being written."""

    damaged: list[Left] = field(default_factory=list)
    """The images that cannot be used."""

    converted: Counter[str] = field(default_factory=Counter)
    """What was converted to gray -> how many images."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    """Processor time per stage."""


def warm_up() -> None:
    """Load what the first task needs."""
    import cv2
    import h5py  # noqa: F401
    import kornia_rs.io  # noqa: F401

    cv2.setNumThreads(1)


def make_shard(task: ShardTask, buffer: int) -> ShardResult:
    """Make one shard; a damaged image is noted, and unless `skip_damaged` keeps the shard from being written."""
    result = ShardResult(task.number, len(task.sources))
    clock = _Clock(result.seconds)
    if task.known is not None and (now := _unchanged(task.known, task.sources, buffer)):
        result.unchanged = now
        clock.lap("read")
        return result
    names: list[str] = []
    sources: list[Source] = []
    encoded: list[list[bytes | memoryview]] = []
    for image_id, place in zip(task.image_ids, task.sources, strict=True):
        source = place.nothing
        try:
            data, source = place.read(buffer)
            clock.lap("read")
            pixels = _decode(data, task.settings, clock)
        except DamagedImage as damage:
            result.damaged.append(Left(image_id, str(damage), source))
            continue
        if pixels.converted:
            result.converted[pixels.converted] += 1
        if result.damaged and not task.skip_damaged:
            continue
        levels = pyramid(pixels.image, task.settings.levels)
        clock.lap("scale")
        how = task.settings
        encoded.append([codecs.encode(how.codec, level_HW, how.quality, how.restart) for level_HW in levels])
        clock.lap("encode")
        names.append(image_id)
        sources.append(source)
    if task.skip_damaged or not result.damaged:
        result.table = _write(task, names, sources, encoded, result.damaged)
        clock.lap("write")
    return result


def _unchanged(known: list[Source], places: list[SourcePlace], buffer: int) -> list[Source] | None:
    """Return what the sources are now if each has the bytes that are known of it, else None."""
    found = []
    for before, place in zip(known, places, strict=True):
        source = place.nothing
        with suppress(DamagedImage):
            source = place.read(buffer)[1]
        if (source.size, source.crc32) != (before.size, before.crc32):
            return None
        found.append(source)
    return found


def _decode(data: bytes, settings: ShardSettings, clock: _Clock) -> Pixels:
    try:
        return (read_film if settings.fit else read_image)(data, settings.image_size)
    finally:
        clock.lap("decode")


def pyramid(image_HW: np.ndarray, levels: tuple[int, ...]) -> list[np.ndarray]:
    """Return `image_HW` area-averaged to each side length of `levels` (descending, each dividing the one before).

    Each level is averaged from the one before, 20 times as fast as from the original for a factor of 4. Measured on
    real images, the 256 level is then 56.2 dB from the exact average instead of 59.0 (rounded once), and 47.1 instead
    of 47.3 dB after JPEG at quality 95.
    """
    import cv2

    made = []
    for level in levels:
        for side in sides_down_to(level, image_HW.shape[0]):
            image_HW = cv2.resize(image_HW, (side, side), interpolation=cv2.INTER_AREA)
        made.append(image_HW)
    return made


def sides_down_to(level: int, side: int) -> list[int]:
    """Return the sides that an image of `side` is averaged to, one after the other, until it has `level`: by halves."""
    sides = []
    while side > level:
        side //= 2 if side % (2 * level) == 0 else side // level
        sides.append(side)
    return sides


def _write(
    task: ShardTask,
    names: list[str],
    sources: list[Source],
    encoded: list[list[bytes | memoryview]],
    damaged: list[Left],
) -> ShardTable:
    rows = np.array([(it.size, it.crc32, *it.stamp) for it in sources], dtype=SOURCE)
    name = shard_name(task.place, task.settings, _contents(names, sources, damaged))
    try:
        table = write_shard(task.part, task.settings, names, rows, encoded, damaged)
    except (OSError, RuntimeError) as error:  # h5py reports a full disk as either
        with suppress(OSError):
            task.part.unlink(missing_ok=True)
        raise _output_error(task.part.with_name(name), error) from None
    return replace(table, file=name)


def _contents(names: list[str], sources: list[Source], damaged: list[Left]) -> Iterator[tuple[str, int, int]]:
    for image_id, source in zip(names, sources, strict=True):
        yield image_id, source.size, source.crc32
    for left in damaged:
        yield f"without {left.image_id}", left.source.size, left.source.crc32


def _output_error(path: Path, error: OSError | RuntimeError) -> UserError:
    if isinstance(error, OSError):
        # h5py's own words name the temporary file and its flags.
        return output_error(path, OSError(error.errno, os.strerror(error.errno)) if error.errno else error)
    if "errno = 28" in str(error) or "No space left" in str(error):
        return output_error(path, OSError("No space left on device"))
    raise error


class _Clock:
    """Adds the processor time since the last lap to a stage."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self._seconds = seconds
        self._last = time.thread_time()

    def lap(self, stage: str) -> None:
        now = time.thread_time()
        self._seconds[stage] += now - self._last
        self._last = now
