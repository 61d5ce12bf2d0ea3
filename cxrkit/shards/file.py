"""One shard on disk: its layout, written and read back. numpy and h5py only, so that a worker starts fast.

A shard is an HDF5 file with

    /payload      (bytes,) uint8, contiguous, no filters; each record starts at a multiple of 512 bytes
    /offset       (images, levels) int64, from the start of the payload
    /size         (images, levels) int64, bytes
    /crc32        (images, levels) uint32, of the encoded bytes
    /image_id     (images,) text as bytes
    /source       (images,) of SOURCE: what the pixels were made from
    attributes    format_version, dataset, codec, quality, levels, image_size, settings_digest, tool_version,
                  damaged (JSON: the images that were left out of this shard, and why); restart in version 3, and fit
                  where the sources were no squares

Version 3 is version 2 with JPEGs in tiles (tiles.py). What has none is still written as version 2, and read.

and, behind all that HDF5 knows of, a seal of 28 bytes: _SEAL, a checksum of every byte that is not payload, and where
the payload lies. A header that was changed is noticed before libhdf5 interprets it. Labels are not here: pixels do not
depend on them. A shard never changes once it has its name, so it is opened without a lock, which not every disk has.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from cxrkit import __version__
from cxrkit.base.errors import UserError
from cxrkit.base.files import digest_lines
from cxrkit.base.typed import FieldError, build
from cxrkit.shards import tiles

VERSIONS = (2, 3)
ALIGNMENT = 512  # bytes; a record never shares a disk sector with the next

# What an image was made from: `size` bytes with checksum `crc32`, read from a file (the image itself, or the archive
# that holds it) of `file_size` bytes, last changed at `file_mtime_ns`. While the last two stay the first two are
# believed; where they differ the bytes are read again.
SOURCE = np.dtype([("size", "<i8"), ("crc32", "<u4"), ("file_size", "<i8"), ("file_mtime_ns", "<i8")])

_SEAL = struct.Struct("<8sIqq")  # magic, crc32 of the header, start and length of the payload
_MAGIC = b"cxrkit\x00\x02"
_FIRST_VERSION = b"label_release"  # shards of the first version had no seal, and this attribute, near their end
_TAIL = 1 << 16
_WHERE_USED = ("restart", "fit")  # fields that are written only where they say something
_REMAKE = "delete this file and run `cxrkit prepare` again; it rewrites the shards that are missing"


class OtherVersionError(UserError):
    """A prepared folder, or a shard, of another format version."""


class UnreadableError(UserError):
    """A shard that the disk, or its rights, keep from being read: it may be as good as ever."""


@dataclass(frozen=True)
class ShardSettings:
    """What decides the bytes of a shard. Two folders of equal digests hold equal pixels, where their sources are."""

    dataset: str
    """Name of the data set."""

    codec: str
    """One of codecs.CODECS."""

    quality: int
    """JPEG quality, 1 to 100; 0 for other codecs."""

    levels: tuple[int, ...]
    """Side lengths in pixels, descending."""

    image_size: int
    """Side length of the source images in pixels."""

    restart: int = 0
    """Blocks of 8 x 8 pixels between two restart markers of a JPEG, as `tiles.interval` fits them to each level, so
    that a window decodes alone: tiles.RESTART. 0 for none, and for other codecs."""

    fit: str = ""
    """How sources of any size and proportions became squares of `image_size`: sources.films.LETTERBOX. "" where they
    are such squares themselves, as ChestX-ray14's are; not written then, and no part of the digest."""

    @property
    def version(self) -> int:
        """Of the format that they ask for: what has no tiles is as it was before there were any."""
        return 3 if self.restart else 2

    @property
    def digest(self) -> str:
        """SHA-256 over the settings that decide the pixels.

        `restart` does not: what was trained on a folder without tiles goes on with one that has them.
        """
        lines = (f"{key} {value}" for key, value in fields_of(self).items() if key != "restart")
        return digest_lines(["format 2", *lines])


@dataclass(frozen=True)
class Source:
    """The identity of one image's source, a row of SOURCE. -1 or 0 where nothing could be read."""

    size: int = -1
    """Bytes of the encoded image."""

    crc32: int = 0
    """Checksum of those bytes."""

    file_size: int = -1
    """Bytes of the file that holds them: the image itself, or an archive."""

    file_mtime_ns: int = 0
    """When that file was last changed, in nanoseconds."""

    @property
    def stamp(self) -> tuple[int, int]:
        """What tells cheaply that a file is still the same: its size and time."""
        return self.file_size, self.file_mtime_ns


@dataclass(frozen=True)
class Left:
    """An image that was left out because it is damaged."""

    image_id: str
    """Which one."""

    reason: str
    """Why, for people."""

    source: Source = Source()
    """What was read of it."""


@dataclass(frozen=True)
class ShardTable:
    """What a shard says about itself."""

    settings: ShardSettings
    """What it was prepared with."""

    image_ids: list[str]
    """The images in it, in its order."""

    source: np.ndarray
    """(images,) of SOURCE."""

    offset: np.ndarray
    """(images, levels) int64, from the start of the file."""

    size: np.ndarray
    """(images, levels) int64, bytes."""

    crc32: np.ndarray
    """(images, levels) uint32, of the encoded bytes."""

    bytes: int
    """Size of the file."""

    damaged: list[Left] = field(default_factory=list)
    """The images that belong here but were left out."""

    file: str = ""
    """Its name in the prepared folder."""


def shard_name(place: int, settings: ShardSettings, sources: Iterable[tuple[str, int, int]]) -> str:
    """Return a shard's file name, which follows from what is in it: no two contents share one.

    place: of its first image among those of the data set. sources: image_id, size and crc32 of each image.
    """
    how = [settings.digest, *([f"restart {settings.restart}"] if settings.restart else [])]
    content = digest_lines([*how, *(source_line(*source) for source in sources)])
    return f"shard-{place:06d}-{content[:8]}.h5"


def source_line(image_id: str, size: int, crc32: int) -> str:
    """Return the line that stands for an image's source in every digest."""
    return f"{image_id} {size} {crc32}"


def write_shard(
    path: Path,
    settings: ShardSettings,
    image_ids: Sequence[str],
    source: np.ndarray,
    encoded: Sequence[Sequence[bytes | memoryview]],
    damaged: Sequence[Left] = (),
) -> ShardTable:
    """Write one shard at `path`, not atomically (see files.replacing), and return its table.

    source: (images,) of SOURCE; encoded: per image, one byte string per level, in the order of `settings.levels`.
    Raises OSError when the disk is full or the folder cannot be written.
    """
    import h5py

    shape = (len(encoded), len(settings.levels))
    size = np.array([[len(level) for level in image] for image in encoded], dtype=np.int64).reshape(shape)
    padded = -(-size // ALIGNMENT) * ALIGNMENT
    offset = (np.cumsum(padded) - padded.ravel()).reshape(shape)
    crc32 = np.array([[zlib.crc32(level) for level in image] for image in encoded], dtype=np.uint32).reshape(shape)
    assert len(image_ids) == len(source) == len(encoded), "one name and one source per image"
    names = np.array([image_id.encode() for image_id in image_ids], dtype="S")
    with h5py.File(
        path, "w", libver="v110", alignment_threshold=ALIGNMENT, alignment_interval=4096, locking=False
    ) as file:
        file.attrs.update(_attributes(settings, damaged))
        _put(file.id, {"offset": offset, "size": size, "crc32": crc32, "image_id": names, "source": source})
        start, length = _allocate(file, int(padded.sum())), int(padded.sum())
    # Plain writes at known positions: three times as fast as h5py's slices, and a full disk is a plain OSError.
    with open(path, "r+b") as file:
        flat = (level for image in encoded for level in image)
        for position, data in zip(offset.ravel().tolist(), flat, strict=True):
            file.seek(start + position)
            file.write(data)
        file.truncate(max(start + length, file.seek(0, 2)))
        total = seal(file, start, length)
    return ShardTable(settings, list(image_ids), source, offset + start, size, crc32, total, list(damaged))


def _attributes(settings: ShardSettings, damaged: Sequence[Left]) -> dict[str, Any]:
    values = {
        "format_version": settings.version,
        "settings_digest": settings.digest,
        "tool_version": __version__,
        **fields_of(settings),
        "levels": np.array(settings.levels, dtype=np.int64),
        "damaged": json.dumps([asdict(left) for left in damaged]),
    }
    # Text of a fixed length lies in the header itself. HDF5's other kind lies in a heap, where libhdf5 runs in circles
    # when it was zeroed.
    return {name: np.bytes_(value.encode()) if isinstance(value, str) else value for name, value in values.items()}


def fields_of(record: Any) -> dict[str, Any]:
    """Return the fields of settings, or of a description, as they are written.

    `restart` only where there are tiles, `fit` only where the sources were no squares.
    """
    return {name: value for name, value in asdict(record).items() if name not in _WHERE_USED or value}


def seal(file: IO[bytes], start: int, length: int) -> int:
    """Write the seal behind all that the open file holds; start, length: of its payload. Return the file's size."""
    end = file.seek(0, 2)
    header = _header_crc32(file, start, length, end)
    file.seek(end)
    file.write(_SEAL.pack(_MAGIC, header, start, length))
    return file.tell()


def unseal(file: IO[bytes]) -> tuple[int, int] | None:
    """Cut off the seal and return start and length of the payload as it had them; None where there is none."""
    end = max(0, file.seek(0, 2) - _SEAL.size)
    file.seek(end)
    last = file.read()
    if len(last) < _SEAL.size or not last.startswith(_MAGIC):
        return None
    file.truncate(end)
    _, _, start, length = _SEAL.unpack(last)
    return start, length


def _header_crc32(file: IO[bytes], start: int, length: int, end: int) -> int:
    """Return the checksum of everything before and behind the payload, up to `end`."""
    file.seek(0)
    before = zlib.crc32(file.read(start))
    file.seek(start + length)
    return zlib.crc32(file.read(end - start - length), before)


def _put(group: Any, tables: Mapping[str, np.ndarray]) -> None:
    """Write small tables as datasets; h5py's own create_dataset takes twice the time, 0.4 ms per image of 8."""
    from h5py import h5d, h5p, h5s, h5t

    layout = h5p.create(h5p.DATASET_CREATE)
    layout.set_obj_track_times(False)  # the same images make the same file
    for name, values in tables.items():
        space = h5s.create_simple(values.shape)
        table = h5d.create(group, name.encode(), h5t.py_create(values.dtype, logical=True), space, layout)
        if values.size:
            table.write(space, space, np.ascontiguousarray(values))


def _allocate(file: Any, length: int) -> int:
    """Create /payload of `length` bytes without writing it; return where in the file it starts."""
    from h5py import h5d, h5p, h5s, h5t

    layout = h5p.create(h5p.DATASET_CREATE)
    layout.set_obj_track_times(False)
    layout.set_layout(h5d.CONTIGUOUS)
    layout.set_alloc_time(h5d.ALLOC_TIME_EARLY)
    layout.set_fill_time(h5d.FILL_TIME_NEVER)
    payload = h5d.create(file.id, b"payload", h5t.NATIVE_UINT8, h5s.create_simple((length,)), layout)
    return int(payload.get_offset() or 0)  # None where there is no image


def read_shard(path: Path) -> ShardTable:
    """Return the table of the shard at `path`. Raises UserError when the file is not a whole shard.

    OtherVersionError, a UserError too, says that another version of cxrkit wrote it, UnreadableError that nothing can
    be said of it now.
    """
    try:
        start, length, end = _check_seal(path)
    except UserError:
        raise
    except IsADirectoryError as error:
        raise _not_whole(path, error) from error
    except OSError as error:
        raise UnreadableError(
            f"{path}: cannot be read ({error.strerror or error})",
            remedy="see that its disk is there and whole, and that you may read the file",
        ) from None
    except ValueError as error:
        raise _not_whole(path, error) from error
    try:
        return _read_tables(path, start, length, end)
    except UserError:
        raise
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise _not_whole(path, error) from error


def _not_whole(path: Path, error: Exception) -> UserError:
    return UserError(f"{path}: not a whole cxrkit shard ({error})", remedy=_REMAKE)


def _check_seal(path: Path) -> tuple[int, int, int]:
    """Return the start and the length of the payload and the size of the file, if the header is as it was written."""
    with open(path, "rb") as file:
        total = file.seek(0, 2)
        end = total - _SEAL.size
        if end < 0:
            raise ValueError(f"{total:,} bytes")
        file.seek(end)
        magic, crc32, start, length = _SEAL.unpack(file.read(_SEAL.size))
        if magic != _MAGIC:
            file.seek(max(0, total - _TAIL))
            if _FIRST_VERSION in file.read():
                raise other_version(path, 1)
            raise ValueError("it is cut off, or its last bytes were changed")
        if not (0 <= start <= end and 0 <= length <= end - start):
            raise ValueError("its last bytes were changed")
        if _header_crc32(file, start, length, end) != crc32:
            raise ValueError("its header was changed")
        return start, length, total


def other_version(path: Path, version: int) -> OtherVersionError:
    """Return the error for a file of a prepared folder that another version of cxrkit wrote."""
    return OtherVersionError(
        f"{path}: format version {version}, this cxrkit reads {' and '.join(map(str, VERSIONS))}",
        remedy=f"prepare again with this version: delete {path.parent}, or choose another --data folder",
    )


def _read_tables(path: Path, start: int, length: int, end: int) -> ShardTable:
    import h5py

    with h5py.File(path, "r", locking=False) as file:
        version = _read_attribute(file, "format_version")
        if type(version) is int and version not in VERSIONS:
            raise other_version(path, version)
        settings = _read_settings(file, version)
        damaged: list[Left] = build(list[Left], json.loads(_read_attribute(file, "damaged")), "damaged")
        payload = _dataset(file, "payload")
        if (payload.id.get_offset() or 0, payload.shape) != (start, (length,)):
            raise ValueError("its payload does not lie where it says")
        names = _read_table(file, "image_id", "S", end)
        shape = (len(names), len(settings.levels))
        table = ShardTable(
            settings=settings,
            image_ids=[name.decode() for name in names.tolist()],
            source=_read_table(file, "source", SOURCE, end, shape[:1]),
            offset=_read_table(file, "offset", np.dtype(np.int64), end, shape) + start,
            size=_read_table(file, "size", np.dtype(np.int64), end, shape),
            crc32=_read_table(file, "crc32", np.dtype(np.uint32), end, shape),
            bytes=end,
            damaged=damaged,
            file=path.name,
        )
    everything = [*table.image_ids, *(left.image_id for left in damaged)]
    if len(set(everything)) != len(everything) or "" in everything:
        raise ValueError("its images are not all different")
    # In this order nothing overflows.
    inside = (table.size >= 0) & (table.size <= length) & (table.offset >= start)
    if not (inside & (table.offset - start <= length - table.size)).all():
        raise ValueError("a record lies outside its payload")
    return table


def _read_settings(file: Any, version: int) -> ShardSettings:
    names = [name for name in ShardSettings.__dataclass_fields__ if name not in _WHERE_USED]
    names += ["restart"] if version > 2 else []
    names += ["fit"] if "fit" in file.attrs else []
    found = {name: _read_attribute(file, name) for name in (*names, "settings_digest")}
    try:
        settings: ShardSettings = build(ShardSettings, found)
    except FieldError as error:
        raise ValueError(f"its attribute {error}") from None
    if settings.digest != found["settings_digest"]:
        raise ValueError("its settings do not have the digest that it says")
    check_restart(settings, version)
    return settings


def check_restart(settings: ShardSettings, version: int) -> None:
    """Raise ValueError unless `restart` is one that this format version can have: the digest does not cover it."""
    if settings.restart not in (0, tiles.RESTART) or (settings.restart and settings.codec != "jpeg"):
        raise ValueError(f"restart is {settings.restart}")
    if settings.version != version:
        raise ValueError(f"format_version is {version}, but restart is {settings.restart}")


def _read_table(file: Any, name: str, kind: Any, most: int, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """Return a small dataset; kind: its dtype, or the letter of its kind. `most`: no more bytes than the file has."""
    table = _dataset(file, name)
    if (table.dtype.kind if isinstance(kind, str) else table.dtype) != kind:
        raise ValueError(f"its table {name!r} is of type {table.dtype}")
    if len(table.shape) != (1 if shape is None else len(shape)) or (shape is not None and table.shape != shape):
        raise ValueError(f"its table {name!r} is of shape {table.shape}")
    if table.nbytes > most:
        raise ValueError(f"its table {name!r} has {table.nbytes:,} bytes")
    values: np.ndarray = table[:]
    return values


def _dataset(file: Any, name: str) -> Any:
    import h5py

    if not isinstance(table := file[name], h5py.Dataset):
        raise ValueError(f"its {name!r} is no table")
    return table


def _read_attribute(file: Any, name: str) -> Any:
    """Return an attribute as text, a number or a list of numbers."""
    if file.attrs.get_id(name).dtype.kind not in "Siu":
        raise ValueError(f"its attribute {name!r} is neither text nor a number")
    value = file.attrs[name]
    return value.decode() if isinstance(value, bytes) else value.tolist()
