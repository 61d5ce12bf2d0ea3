"""The work of one process of a preparation: read, decode, scale, encode and write one shard.

Runs in a worker process, and so imports nothing that it does not need.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from cxrkit import codecs, shard_file
from cxrkit.errors import UserError
from cxrkit.files import output_error
from cxrkit.pixels import DamagedImage, Pixels, read_png
from cxrkit.shard_file import ShardSettings, ShardTable

STAGES = ("read", "decode", "scale", "encode", "write")


@dataclass(frozen=True)
class Source:
    """Where one image's bytes are: a file, or `size` bytes of the shared buffer at `offset`, or nowhere (`why`)."""

    path: str = ""
    offset: int = 0
    size: int = 0
    why: str = ""

    def read(self, buffer: int) -> bytes:
        """Return the bytes. Raises DamagedImage when there are none to be had."""
        if self.why:
            raise DamagedImage(self.why)
        if not self.path:
            return os.pread(buffer, self.size, self.offset)
        try:
            with open(self.path, "rb", buffering=0) as file:
                return file.read()
        except OSError as error:
            raise DamagedImage(f"cannot be read ({error.strerror})") from None


@dataclass(frozen=True)
class ShardTask:
    """One shard to make: the images' records and sources, and where to write it.

    columns: as shard_file.write takes them, (images,) each. part: the temporary name of `path`.
    """

    number: int
    path: Path
    part: Path
    settings: ShardSettings
    columns: dict[str, np.ndarray]
    sources: list[Source]
    skip_damaged: bool


@dataclass
class ShardResult:
    """What came of a task.

    images: how many were looked at. table: None when a damaged image kept the shard from being written; of the
    records it has the image_id alone. damaged: image_id -> why. converted: what was converted -> how many. seconds:
    processor time per stage.
    """

    number: int
    images: int
    table: ShardTable | None = None
    damaged: dict[str, str] = field(default_factory=dict)
    converted: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))


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
    kept, encoded = [], []
    for row, source in enumerate(task.sources):
        image_id = task.columns["image_id"][row].decode()
        try:
            pixels = _decode(source, buffer, clock)
        except DamagedImage as damage:
            result.damaged[image_id] = str(damage)
            continue
        if pixels.converted:
            result.converted[pixels.converted] += 1
        if result.damaged and not task.skip_damaged:
            continue
        levels = pyramid(pixels.image, task.settings.levels)
        clock.lap("scale")
        encoded.append([codecs.encode(task.settings.codec, level_HW, task.settings.quality) for level_HW in levels])
        clock.lap("encode")
        kept.append(row)
    if task.skip_damaged or not result.damaged:
        result.table = _write(task, kept, encoded, result.damaged)
        clock.lap("write")
    return result


def _decode(source: Source, buffer: int, clock: _Clock) -> Pixels:
    data = source.read(buffer)
    clock.lap("read")
    try:
        return read_png(data)
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
        while image_HW.shape[0] > level:
            step = 2 if image_HW.shape[0] % (2 * level) == 0 else image_HW.shape[0] // level
            side = image_HW.shape[0] // step
            image_HW = cv2.resize(image_HW, (side, side), interpolation=cv2.INTER_AREA)
        made.append(image_HW)
    return made


def _write(
    task: ShardTask, kept: list[int], encoded: list[list[bytes | memoryview]], damaged: dict[str, str]
) -> ShardTable:
    columns = {name: values[kept] for name, values in task.columns.items()}
    try:
        table = shard_file.write(task.part, task.settings, columns, encoded, damaged)
        return replace(table, columns={"image_id": columns["image_id"]})
    except (OSError, RuntimeError) as error:  # h5py reports a full disk as either
        with suppress(OSError):
            task.part.unlink(missing_ok=True)
        raise _output_error(task.path, error) from None


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
