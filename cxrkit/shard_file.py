"""One shard on disk: its layout, written and read back. numpy and h5py only, so that a worker starts fast.

A shard is an HDF5 file with

    /payload             (bytes,) uint8, contiguous, no filters; each record starts at a multiple of 512 bytes
    /offset              (images, levels) int64, from the start of the payload
    /size                (images, levels) int64, bytes
    /crc32               (images, levels) uint32, of the encoded bytes
    /records/<column>    (images,) the columns of contracts.RECORD_SCHEMA
    attributes           format_version, codec, quality, levels, settings_digest, tool_version, dataset, label_release,
                         damaged (JSON: image_id -> why it was left out of this shard)
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cxrkit import __version__
from cxrkit.errors import UserError
from cxrkit.files import digest_lines

FORMAT_VERSION = 1
ALIGNMENT = 512  # bytes; a record never shares a disk sector with the next


@dataclass(frozen=True)
class ShardSettings:
    """What decides the bytes of a shard. Two folders with equal digests hold equal pixels.

    dataset, label_release: of the records. codec: one of codecs.CODECS. quality: JPEG quality, 0 for other codecs.
    levels: side lengths in pixels, descending.
    """

    dataset: str
    label_release: str
    codec: str
    quality: int
    levels: tuple[int, ...]

    @property
    def digest(self) -> str:
        """SHA-256 over the settings and the format version."""
        return digest_lines([f"format {FORMAT_VERSION}", *(f"{key} {value}" for key, value in asdict(self).items())])


@dataclass(frozen=True)
class ShardTable:
    """What a shard says about itself.

    about: its attributes. columns: the records' columns, (images,) each; text as bytes, empty where null.
    offset, size: (images, levels) int64; offset counts from the start of the file. crc32: (images, levels) uint32.
    damaged: image_id -> why it was left out. bytes: size of the file.
    """

    about: dict[str, Any]
    columns: dict[str, np.ndarray]
    offset: np.ndarray
    size: np.ndarray
    crc32: np.ndarray
    bytes: int
    damaged: dict[str, str] = field(default_factory=dict)

    @property
    def image_ids(self) -> list[str]:
        """The images in the shard, in its order."""
        return [image_id.decode() for image_id in self.columns["image_id"]]


def shard_name(number: int) -> str:
    """Return the file name of shard `number`."""
    return f"shard-{number:05d}.h5"


def write(
    path: Path,
    settings: ShardSettings,
    columns: Mapping[str, np.ndarray],
    encoded: Sequence[Sequence[bytes | memoryview]],
    damaged: Mapping[str, str] | None = None,
) -> ShardTable:
    """Write one shard at `path`, not atomically (see files.replacing), and return its table.

    columns: the records, (images,) each, text as bytes; encoded: per image, one byte string per level, in the order
    of `settings.levels`. Raises OSError when the disk is full or the folder cannot be written.
    """
    import h5py

    shape = (len(encoded), len(settings.levels))
    size = np.array([[len(level) for level in image] for image in encoded], dtype=np.int64).reshape(shape)
    padded = -(-size // ALIGNMENT) * ALIGNMENT
    offset = (np.cumsum(padded) - padded.ravel()).reshape(shape)
    crc32 = np.array([[zlib.crc32(level) for level in image] for image in encoded], dtype=np.uint32).reshape(shape)
    about = {
        "format_version": FORMAT_VERSION,
        "settings_digest": settings.digest,
        "tool_version": __version__,
        **asdict(settings),
    }
    with h5py.File(path, "w", libver="v110", alignment_threshold=ALIGNMENT, alignment_interval=4096) as file:
        file.attrs.update(about | {"levels": np.array(settings.levels, dtype=np.int64)})
        file.attrs["damaged"] = json.dumps(dict(damaged or {}))
        _put(file.id, {"offset": offset, "size": size, "crc32": crc32})
        assert all(len(values) == len(encoded) for values in columns.values()), "one value per column and image"
        _put(file.create_group("records").id, columns)
        start = _allocate(file, int(padded.sum()))
    # Plain writes at known positions: three times as fast as h5py's slices, and a full disk is a plain OSError.
    with open(path, "r+b") as file:
        flat = (level for image in encoded for level in image)
        for position, data in zip(offset.ravel().tolist(), flat, strict=True):
            file.seek(start + position)
            file.write(data)
        file.truncate(max(start + int(padded.sum()), file.seek(0, 2)))
        total = file.tell()
    about["levels"] = list(settings.levels)
    return ShardTable(about, dict(columns), offset + start, size, crc32, total, dict(damaged or {}))


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


def read(path: Path, columns: Sequence[str] | None = None) -> ShardTable:
    """Return the table of the shard at `path`, with the records' `columns` (default: all).

    Raises UserError when the file is not a whole shard.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            about = {key: _plain(value) for key, value in file.attrs.items()}
            damaged = json.loads(about.pop("damaged", "{}"))
            payload = file["payload"]
            start, end = payload.id.get_offset() or 0, path.stat().st_size
            table = ShardTable(
                about=about,
                columns={name: file[f"records/{name}"][:] for name in columns or file["records"]},
                offset=file["offset"][:] + start,
                size=file["size"][:],
                crc32=file["crc32"][:],
                bytes=end,
                damaged=damaged,
            )
            if start + payload.shape[0] > end:
                raise OSError(f"{end:,} bytes, but its payload ends at {start + payload.shape[0]:,}")
            return table
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        raise UserError(
            f"{path}: not a whole cxrkit shard ({error})",
            remedy="delete this file and run `cxrkit prepare` again; it rewrites the shards that are missing",
        ) from error


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    return value.item() if isinstance(value, np.generic) else value
