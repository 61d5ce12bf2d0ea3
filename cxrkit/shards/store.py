"""A prepared folder, opened for reading: mipmapped images, addressed by byte.

A prepared folder holds

    dataset.json             what was prepared and how, and which of the other files belong together (index.py)
    records-<sha>.parquet    every image of the data set, prepared or not: splits need them all
    index-<sha>.parquet      where each prepared image lies, and what it was made from
    boxes-<sha>.parquet      the data set's boxes, where it has any
    shard-<place>-<content>.h5 ...   the pixels (file.py)

h5py reads the small tables of a shard; the payload is read through one map per shard, so threads meet no lock, forks
share no handle, and a raw level is used in place. Files that a later preparation removes stay readable for a store that
is open.
"""

from __future__ import annotations

import json
import threading
import zlib
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from cxrkit.base import labels
from cxrkit.base.contracts import BOX_SCHEMA
from cxrkit.base.errors import UserError
from cxrkit.base.labels import LabelSet
from cxrkit.shards import codecs
from cxrkit.shards.index import (
    DESCRIPTION,
    WRITE_AGAIN,
    Description,
    pixels_digest,
    read_boxes,
    read_description,
    read_index,
    read_listed,
)
from cxrkit.shards.mapped import map_file

__all__ = ["DESCRIPTION", "ShardStore", "read_records"]

_REPAIR = "run `cxrkit verify` to list what is damaged, delete those shards and run `cxrkit prepare` again"
_MAKE_AGAIN = "run `cxrkit prepare` again with the same settings: it makes the shards that are missing"
_GENERATIONS = 3  # as many preparations may end while one folder is opened


class ShardStore:
    """A prepared folder, opened for reading. Safe to use from many threads, and cheap to pickle or fork."""

    folder: Path
    """The prepared folder."""

    index: pl.DataFrame
    """The prepared images' records (contracts.record_schema), one row each; rows are numbered as in the index."""

    levels: tuple[int, ...]
    """Side lengths in pixels, descending."""

    image_size: int
    """Side length in pixels of the source images: 1024, or less for a resized copy of the data set."""

    codec: str
    """How the levels are encoded."""

    labels: LabelSet
    """What the records say of each image."""

    labels_digest: str
    """`origin.labels_digest` of all records."""

    pixels_digest: str
    """SHA-256 over the source file of every prepared image: see index.pixels_digest."""

    settings_digest: str
    """`ShardSettings.digest`: data set, codec, quality, levels and size of the sources."""

    source_crc32: np.ndarray
    """(N,) uint32, per row the checksum of the source file's bytes."""

    def __init__(self, folder: Path, *, check_crc: bool = True) -> None:
        """Open `folder`; with `check_crc`, each record's checksum is tested the first time it is read.

        Raises UserError when the folder is not prepared, a table is not as it was written, or a shard is missing or
        has another size than recorded.
        """
        self.folder = Path(folder)
        for attempt in range(_GENERATIONS):
            about = read_description(self.folder)
            try:
                self._open(about, check_crc)
                return
            except UserError:
                # A preparation that ended meanwhile has removed what the description before it named.
                if attempt == _GENERATIONS - 1 or read_description(self.folder) == about:
                    raise

    def _open(self, about: Description, check_crc: bool) -> None:
        self._description = about
        self.codec, self.levels, self.image_size = about.codec, about.levels, about.image_size
        self._restart = about.restart
        self.settings_digest, self.labels_digest = about.settings_digest, about.labels_digest
        self.labels = labels.get(about.label_set)
        self._shards = [self.folder / shard.file for shard in about.shards]
        self._bytes = [shard.bytes for shard in about.shards]
        self._lock = threading.Lock()
        self._maps: list[np.ndarray | None] = [None] * len(self._shards)
        for shard in range(len(self._shards)):
            self._map(shard)
        frame, self._records = read_index(self.folder, about), read_listed(self.folder, about)
        self.index = self._records
        if not frame["image_id"].equals(self._records["image_id"]):  # unless all that are listed are prepared
            self.index = frame.select("image_id").join(self._records, on="image_id", how="inner", maintain_order="left")
        if len(self.index) != len(frame):
            raise UserError(
                f"{self.folder / about.records.file}: does not list all images that were prepared", remedy=WRITE_AGAIN
            )
        self.pixels_digest = pixels_digest(frame)
        if self.pixels_digest != about.pixels_digest:
            raise UserError(
                f"{self.folder / DESCRIPTION}: pixels_digest is not that of {about.index.file}", remedy=WRITE_AGAIN
            )
        self.source_crc32 = frame["source_crc32"].to_numpy()
        self._shard = frame["shard"].to_numpy()
        self._offset = frame.select(f"offset_{level}" for level in self.levels).to_numpy()
        self._size = frame.select(f"size_{level}" for level in self.levels).to_numpy()
        self._crc32 = frame.select(f"crc32_{level}" for level in self.levels).to_numpy()
        # True: read before, or never to be checked. Two threads that check the same record twice do no harm.
        self._checked = np.full(self._size.shape, not check_crc)

    @cached_property
    def about(self) -> dict[str, Any]:
        """What dataset.json says: see index.Description."""
        about: dict[str, Any] = json.loads(json.dumps(asdict(self._description)))
        return about

    def __len__(self) -> int:
        return len(self._shard)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_maps": [None] * len(self._shards), "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state | {"_lock": threading.Lock()})

    def records(self) -> pl.DataFrame:
        """Return every record of the data set, prepared or not (contracts.record_schema, sorted by image_id)."""
        return self._records

    def boxes(self) -> pl.DataFrame:
        """Return the data set's boxes (contracts.BOX_SCHEMA, pixels of the 1024 x 1024 image); no row without any.

        Raises UserError where the table is not as it was written.
        """
        found = read_boxes(self.folder, self._description)
        return pl.DataFrame(schema=BOX_SCHEMA) if found is None else found

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
        data = self.encoded(row, level_number)
        try:
            return codecs.decode(self.codec, data, self.levels[level_number])
        except ValueError as error:
            raise self._damaged(row, level_number, str(error)) from None

    def window(self, row: int, level_number: int, window: Sequence[int]) -> np.ndarray:
        """Return what lies in `window` (left, top, right, bottom) of image `row` at `levels[level_number]`.

        (bottom - top, right - left) uint8, read-only; at least the window is decoded.
        """
        left, top, right, bottom = window
        data, (first, above, end, below) = self.encoded_window(row, level_number, window)
        try:
            part_HW = codecs.decode(self.codec, data, end - first, below - above)
        except ValueError as error:
            raise self._damaged(row, level_number, str(error)) from None
        return part_HW[top - above : bottom - above, left - first : right - first]

    def encoded_window(
        self, row: int, level_number: int, window: Sequence[int]
    ) -> tuple[np.ndarray, tuple[int, int, int, int]]:
        """Return encoded bytes that hold `window`, (bytes,) uint8, and the part of the level that they are.

        Any decoder of the codec makes an image of the size of that part out of them. Of a JPEG in tiles, and of bands,
        they are those that the window meets, a copy; of the rest of the record only an index is read, once its checksum
        was tested.
        """
        data, side = self.encoded(row, level_number), self.levels[level_number]
        try:
            return codecs.encoded_window(self.codec, data, side, self._restart, window)
        except ValueError as error:
            raise self._damaged(row, level_number, str(error)) from None

    def size(self, row: int, level_number: int) -> int:
        """Return the encoded size in bytes of image `row` at `levels[level_number]`."""
        return int(self._size[row, level_number])

    def close(self) -> None:
        """Drop the maps; they open again when needed."""
        self._maps = [None] * len(self._shards)

    def _map(self, shard: int) -> np.ndarray:
        with self._lock:
            payload = self._maps[shard]
            if payload is None:
                payload = self._maps[shard] = _map_shard(self._shards[shard], self._bytes[shard])
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


def _map_shard(path: Path, size: int) -> np.ndarray:
    try:
        found = path.stat().st_size
        if found == size:
            return map_file(path, size)
    except FileNotFoundError:
        raise UserError(f"{path}: this shard is missing", remedy=_MAKE_AGAIN) from None
    except OSError as error:
        raise UserError(f"{path}: this shard cannot be read ({error.strerror})", remedy=_REPAIR) from None
    raise UserError(f"{path}: {found:,} bytes, but {size:,} were written", remedy=_REPAIR)


def read_records(folder: Path) -> pl.DataFrame:
    """Return every record of a prepared folder's data set (contracts.record_schema), prepared or not, by image_id."""
    return read_listed(folder, read_description(folder))
