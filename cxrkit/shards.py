"""The shard files and their index: mipmapped images, addressed by byte.

A prepared folder holds

    shard-00000.h5 ...   the pixels, and everything needed to understand them without the other files
    records.parquet      every image of the data set (contracts.RECORD_SCHEMA), prepared or not: splits need them all
    index.parquet        the prepared images: their records, and where each level lies
    boxes.parquet        the data set's boxes, where it has any
    dataset.json         what was prepared and how; written last, so a folder that has it is complete

One shard is an HDF5 file with

    /payload             (bytes,) uint8, contiguous, no filters; each record starts at a multiple of 512 bytes
    /offset              (images, levels) int64, from the start of the payload
    /size                (images, levels) int64, bytes
    /crc32               (images, levels) uint32, of the encoded bytes
    /records/<column>    (images,) the columns of contracts.RECORD_SCHEMA
    attributes           format_version, codec, quality, levels, settings_digest, tool_version, dataset, label_release

h5py reads the small tables; the payload is read through one mmap per shard at `payload.id.get_offset()`, so threads
meet no lock, forks share no handle, and a raw level is used in place.
"""

from __future__ import annotations

import mmap
import threading
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from cxrkit import __version__, codecs
from cxrkit.contracts import RECORD_SCHEMA
from cxrkit.errors import UserError
from cxrkit.files import digest_lines, read_json, replacing

FORMAT_VERSION = 1
ALIGNMENT = 512  # bytes; a record never shares a disk sector with the next
DESCRIPTION = "dataset.json"
INDEX = "index.parquet"
RECORDS = "records.parquet"
BOXES = "boxes.parquet"


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


def shard_name(number: int) -> str:
    """Return the file name of shard `number`."""
    return f"shard-{number:05d}.h5"


def write_shard(
    path: Path, settings: ShardSettings, records: pl.DataFrame, encoded: Sequence[Sequence[bytes | memoryview]]
) -> None:
    """Write one shard atomically.

    records: the rows of RECORD_SCHEMA; encoded: per image, one byte string per level, in the order of
    `settings.levels`. Raises UserError when the disk is full or the folder cannot be written.
    """
    import h5py

    size = np.array([[len(level) for level in image] for image in encoded], dtype=np.int64)
    assert size.shape == (len(records), len(settings.levels)), "one byte string per image and level"
    padded = -(-size // ALIGNMENT) * ALIGNMENT
    offset = (np.cumsum(padded) - padded.ravel()).reshape(size.shape)
    crc32 = np.array([[zlib.crc32(level) for level in image] for image in encoded], dtype=np.uint32)
    with (
        replacing(path) as part,
        h5py.File(part, "w", libver="v110", alignment_threshold=ALIGNMENT, alignment_interval=4096) as file,
    ):
        file.attrs.update(
            format_version=FORMAT_VERSION,
            settings_digest=settings.digest,
            tool_version=__version__,
            **asdict(settings) | {"levels": np.array(settings.levels, dtype=np.int64)},
        )
        file.create_dataset("offset", data=offset)
        file.create_dataset("size", data=size)
        file.create_dataset("crc32", data=crc32)
        _write_records(file.create_group("records"), records)
        payload = file.create_dataset("payload", shape=(int(padded.sum()),), dtype=np.uint8)
        for start, data in zip(offset.ravel(), (level for image in encoded for level in image), strict=True):
            payload[start : start + len(data)] = np.frombuffer(data, dtype=np.uint8)


def _write_records(group: Any, records: pl.DataFrame) -> None:
    for column in RECORD_SCHEMA:
        values = records[column]
        if values.dtype == pl.String:
            group.create_dataset(column, data=np.array([(value or "").encode() for value in values], dtype="S"))
        else:
            group.create_dataset(column, data=values.to_numpy())


def read_shard_table(path: Path) -> tuple[dict[str, Any], pl.DataFrame]:
    """Return a shard's attributes and its table: records, and `offset_L`, `size_L`, `crc32_L` per level of side L.

    Offsets are absolute positions in the file. Raises UserError when the file is not a whole shard.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            about = {key: _plain(value) for key, value in file.attrs.items()}
            start = file["payload"].id.get_offset() or 0
            columns = [_read_column(file["records"], name, kind) for name, kind in RECORD_SCHEMA.items()]
            for level_number, level in enumerate(about["levels"]):
                columns += [
                    pl.Series(f"offset_{level}", file["offset"][:, level_number] + start),
                    pl.Series(f"size_{level}", file["size"][:, level_number]),
                    pl.Series(f"crc32_{level}", file["crc32"][:, level_number]),
                ]
            return about, pl.DataFrame(columns)
    except (OSError, KeyError, RuntimeError) as error:
        raise UserError(
            f"{path}: not a whole cxrkit shard ({error})",
            remedy="delete this file and run `cxrkit prepare` again; it rewrites the shards that are missing",
        ) from error


def _read_column(group: Any, name: str, kind: pl.DataType) -> pl.Series:
    values = group[name][:]
    if kind == pl.String:
        return pl.Series(name, [value.decode() or None for value in values], dtype=kind)
    return pl.Series(name, values).cast(kind)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    return value.item() if isinstance(value, np.generic) else value


class ShardStore:
    """A prepared folder, opened for reading. Safe to use from many threads, and cheap to pickle or fork.

    index: the prepared images' records, one row each; rows are numbered as in index.parquet.
    levels: side lengths in pixels, descending; `codec`: how the levels are encoded.
    """

    def __init__(self, folder: Path, *, check_crc: bool = True) -> None:
        """Open `folder`; with `check_crc`, each record's checksum is tested the first time it is read.

        Raises UserError when the folder is not prepared, or a shard is missing or has another size than recorded.
        """
        self.folder = Path(folder)
        self.about: dict[str, Any] = read_json(
            self.folder / DESCRIPTION,
            "the description of a prepared folder",
            f"run `cxrkit prepare --data {self.folder}` first, or name the prepared folder with --data",
        )
        if self.about.get("format_version") != FORMAT_VERSION:
            raise UserError(
                f"{self.folder / DESCRIPTION}: format version {self.about.get('format_version')}, "
                f"this cxrkit reads {FORMAT_VERSION}",
                remedy="prepare the folder again with this version",
            )
        self.codec: str = self.about["codec"]
        self.levels: tuple[int, ...] = tuple(self.about["levels"])
        codecs.check(self.codec)
        self._shards = [self.folder / shard["file"] for shard in self.about["shards"]]
        self._check_sizes()
        frame = _read_parquet(self.folder / INDEX)
        self.index = frame.select(*RECORD_SCHEMA)
        self._shard = frame["shard"].to_numpy()
        self._offset = frame.select(f"offset_{level}" for level in self.levels).to_numpy()
        self._size = frame.select(f"size_{level}" for level in self.levels).to_numpy()
        self._crc32 = frame.select(f"crc32_{level}" for level in self.levels).to_numpy()
        # True: read before, or never to be checked. Two threads that check the same record twice do no harm.
        self._checked = np.full(self._size.shape, not check_crc)
        self._maps: list[np.ndarray | None] = [None] * len(self._shards)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._shard)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_maps": [None] * len(self._shards), "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state | {"_lock": threading.Lock()})

    def records(self) -> pl.DataFrame:
        """Return every record of the data set, prepared or not (RECORD_SCHEMA, sorted by image_id)."""
        return read_records(self.folder)

    def encoded(self, row: int, level_number: int) -> np.ndarray:
        """Return the encoded bytes of image `row` at `levels[level_number]`: (bytes,) uint8, a view of the file.

        Raises UserError when the checksum does not match.
        """
        shard = self._shard[row]
        payload = self._maps[shard]
        if payload is None:
            payload = self._map(shard)
        start = self._offset[row, level_number]
        data = payload[start : start + self._size[row, level_number]]
        if not self._checked[row, level_number]:
            self._check(row, level_number, data)
        return data

    def image(self, row: int, level_number: int) -> np.ndarray:
        """Return image `row` at `levels[level_number]`: (side, side) uint8; read-only and a view where raw."""
        try:
            return codecs.decode(self.codec, self.encoded(row, level_number), self.levels[level_number])
        except ValueError as error:
            raise self._damaged(row, level_number, str(error)) from None

    def size(self, row: int, level_number: int) -> int:
        """Return the encoded size in bytes of image `row` at `levels[level_number]`."""
        return int(self._size[row, level_number])

    def close(self) -> None:
        """Drop the maps; they open again when needed."""
        self._maps = [None] * len(self._shards)

    def _check_sizes(self) -> None:
        for path, shard in zip(self._shards, self.about["shards"], strict=True):
            try:
                found = path.stat().st_size
            except FileNotFoundError:
                raise UserError(f"{path}: this shard is missing", remedy=_REPAIR) from None
            if found != shard["bytes"]:
                raise UserError(f"{path}: {found:,} bytes, but {shard['bytes']:,} were written", remedy=_REPAIR)

    def _map(self, shard: int) -> np.ndarray:
        with self._lock:
            payload = self._maps[shard]
            if payload is None:
                with open(self._shards[shard], "rb") as file:
                    payload = np.frombuffer(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ), dtype=np.uint8)
                self._maps[shard] = payload
            return payload

    def _check(self, row: int, level_number: int, data: np.ndarray) -> None:
        if zlib.crc32(data) != self._crc32[row, level_number]:
            raise self._damaged(row, level_number, "the checksum of its bytes does not match")
        self._checked[row, level_number] = True

    def _damaged(self, row: int, level_number: int, why: str) -> UserError:
        return UserError(
            f"{self._shards[self._shard[row]]}: image {self.index['image_id'][row]} at level "
            f"{self.levels[level_number]} is damaged: {why}",
            remedy=_REPAIR,
        )


_REPAIR = "run `cxrkit verify` to list what is damaged, delete those shards and run `cxrkit prepare` again"


def read_records(folder: Path) -> pl.DataFrame:
    """Return every record of a prepared folder's data set (RECORD_SCHEMA, sorted by image_id), prepared or not."""
    return _read_parquet(folder / RECORDS)


def _read_parquet(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path)
    except FileNotFoundError:
        raise UserError(f"{path}: missing from the prepared folder", remedy="run `cxrkit prepare` again") from None
    except pl.exceptions.PolarsError as error:
        raise UserError(f"{path}: not a readable table ({error})", remedy="run `cxrkit prepare` again") from None
