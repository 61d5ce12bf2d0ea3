"""The shard files and their index: mipmapped images, addressed by byte.

A prepared folder holds

    shard-00000.h5 ...   the pixels, and everything needed to understand them without the other files
    records.parquet      every image of the data set (contracts.RECORD_SCHEMA), prepared or not: splits need them all
    index.parquet        the prepared images: their records, and where each level lies
    boxes.parquet        the data set's boxes, where it has any
    dataset.json         what was prepared and how; written last, so a folder that has it is complete

The layout of one shard is in shard_file.py. h5py reads the small tables; the payload is read through one mmap per
shard at `payload.id.get_offset()`, so threads meet no lock, forks share no handle, and a raw level is used in place.
"""

from __future__ import annotations

import mmap
import threading
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from cxrkit import codecs, shard_file
from cxrkit.contracts import RECORD_SCHEMA
from cxrkit.errors import UserError
from cxrkit.files import read_json, replacing
from cxrkit.shard_file import ALIGNMENT, FORMAT_VERSION, ShardSettings, shard_name

__all__ = [
    "ALIGNMENT",
    "BOXES",
    "DESCRIPTION",
    "FORMAT_VERSION",
    "INDEX",
    "RECORDS",
    "ShardSettings",
    "ShardStore",
    "read_records",
    "read_shard_table",
    "read_table",
    "record_columns",
    "shard_name",
    "write_shard",
]

DESCRIPTION = "dataset.json"
INDEX = "index.parquet"
RECORDS = "records.parquet"
BOXES = "boxes.parquet"


def write_shard(
    path: Path,
    settings: ShardSettings,
    records: pl.DataFrame,
    encoded: Sequence[Sequence[bytes | memoryview]],
    damaged: Mapping[str, str] | None = None,
) -> None:
    """Write one shard atomically.

    records: the rows of RECORD_SCHEMA; encoded: per image, one byte string per level, in the order of
    `settings.levels`; damaged: image_id -> why that image was left out. Raises UserError when the disk is full or the
    folder cannot be written.
    """
    with replacing(path) as part:
        shard_file.write(part, settings, record_columns(records), encoded, damaged)


def record_columns(records: pl.DataFrame) -> dict[str, np.ndarray]:
    """Return the columns of RECORD_SCHEMA as a shard holds them: text as bytes, empty where null."""
    columns = {}
    for name in RECORD_SCHEMA:
        values = records[name]
        is_text = values.dtype in (pl.String, pl.Null)
        columns[name] = (
            np.array([(value or "").encode() for value in values], dtype="S") if is_text else values.to_numpy()
        )
    return columns


def read_shard_table(path: Path) -> tuple[dict[str, Any], pl.DataFrame]:
    """Return a shard's attributes and its table: records, and `offset_L`, `size_L`, `crc32_L` per level of side L.

    Offsets are absolute positions in the file. Raises UserError when the file is not a whole shard.
    """
    table = shard_file.read(path)
    columns = []
    for name, kind in RECORD_SCHEMA.items():
        values = table.columns[name]
        if kind == pl.String:
            columns.append(pl.Series(name, [value.decode() or None for value in values], dtype=kind))
        else:
            columns.append(pl.Series(name, values).cast(kind))
    for number, level in enumerate(table.about["levels"]):
        columns += [
            pl.Series(f"offset_{level}", table.offset[:, number]),
            pl.Series(f"size_{level}", table.size[:, number]),
            pl.Series(f"crc32_{level}", table.crc32[:, number]),
        ]
    return table.about, pl.DataFrame(columns)


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
        frame = read_table(self.folder / INDEX)
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
        data: np.ndarray = payload[start : start + self._size[row, level_number]]
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
        if zlib.crc32(data.data) != self._crc32[row, level_number]:
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
    return read_table(folder / RECORDS)


def read_table(path: Path) -> pl.DataFrame:
    """Return a table of a prepared folder. Raises UserError when it is missing or cannot be read."""
    try:
        return pl.read_parquet(path)
    except FileNotFoundError:
        raise UserError(f"{path}: missing from the prepared folder", remedy="run `cxrkit prepare` again") from None
    except pl.exceptions.PolarsError as error:
        raise UserError(f"{path}: not a readable table ({error})", remedy="run `cxrkit prepare` again") from None
