from __future__ import annotations

import json
import pickle
import time
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest
from tiny_cohort import picture, records

from cxrkit import codecs, shard_file
from cxrkit.contracts import RECORD_SCHEMA
from cxrkit.errors import UserError
from cxrkit.shard_index import index_frame, write_description, write_index, write_records
from cxrkit.shards import ShardSettings, ShardStore, read_records, read_shard_table, write_shard

LEVELS = (256, 64)
COUNT = 5


def settings(codec: str = "raw", quality: int = 0) -> ShardSettings:
    return ShardSettings("tiny", "unknown", codec, quality, LEVELS)


def images(count: int = COUNT) -> list[list[np.ndarray]]:
    originals = [picture(number) for number in range(count)]
    return [
        [cv2.resize(image, (level, level), interpolation=cv2.INTER_AREA) for level in LEVELS] for image in originals
    ]


def folder_of(folder: Path, codec: str = "raw", quality: int = 0) -> Path:
    """Write a prepared folder of two shards, without `prepare`."""
    about, cohort = settings(codec, quality), records(folder, COUNT, absent=2)
    encoded = [[codecs.encode(codec, level, quality) for level in image] for image in images()]
    rows = cohort.frame.select(*RECORD_SCHEMA)
    cuts = {0: slice(0, 3), 1: slice(3, COUNT)}
    for number, cut in cuts.items():
        write_shard(folder / f"shard-{number:05d}.h5", about, rows[cut], encoded[cut])
    tables = {number: shard_file.read(folder / f"shard-{number:05d}.h5") for number in cuts}
    write_records(folder, cohort)
    write_index(folder, index_frame(cohort, tables, LEVELS))
    write_description(folder, cohort, about, tables, {})
    return folder


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("codec", codecs.LOSSLESS)
def test_lossless_codecs_keep_every_bit(codec: str) -> None:
    image = picture(3)
    data = np.frombuffer(codecs.encode(codec, image), np.uint8)
    assert np.array_equal(codecs.decode(codec, data, 1024), image)


def test_jpeg_keeps_what_its_quality_promises() -> None:
    image = cv2.GaussianBlur(picture(3), (0, 0), 2)
    sizes, psnr = [], []
    for quality in (95, 60):
        data = np.frombuffer(codecs.encode("jpeg", image, quality), np.uint8)
        error = np.mean((codecs.decode("jpeg", data, 1024).astype(float) - image) ** 2)
        sizes.append(len(data))
        psnr.append(10 * np.log10(255**2 / error))
    assert psnr[0] > 46
    assert psnr[0] > psnr[1] + 3
    assert sizes[0] > 1.5 * sizes[1]


@pytest.mark.parametrize("codec", ["jpeg", "png", "htj2k", "raw"])
def test_bytes_of_no_image_are_refused(codec: str) -> None:
    with pytest.raises(ValueError, match=r"the (jpeg|png|htj2k) bytes|cannot reshape"):
        codecs.decode(codec, np.arange(200, dtype=np.uint8), 1024)


def test_an_unknown_codec_is_refused() -> None:
    with pytest.raises(UserError, match="unknown codec 'webp'\n  remedy: choose one of jpeg, raw, png, htj2k"):
        codecs.check("webp")


def test_a_shard_says_what_was_written(tmp_path: Path) -> None:
    cohort = records(tmp_path, COUNT)
    rows = cohort.frame.select(*RECORD_SCHEMA)
    encoded = [[codecs.encode("raw", level) for level in image] for image in images()]
    write_shard(tmp_path / "shard-00000.h5", settings(), rows, encoded, {"00000009_000.png": "gone"})
    about, table = read_shard_table(tmp_path / "shard-00000.h5")
    assert about["levels"] == list(LEVELS)
    assert about["settings_digest"] == settings().digest
    assert about["codec"] == "raw"
    assert table.select(*RECORD_SCHEMA).equals(rows)
    data = (tmp_path / "shard-00000.h5").read_bytes()
    for row, image in enumerate(images()):
        for level, pixels in zip(LEVELS, image, strict=True):
            start, size = table[f"offset_{level}"][row], table[f"size_{level}"][row]
            assert start % shard_file.ALIGNMENT == 0
            assert data[start : start + size] == pixels.tobytes()
    assert shard_file.read(tmp_path / "shard-00000.h5").damaged == {"00000009_000.png": "gone"}


def test_the_same_images_make_the_same_file(tmp_path: Path) -> None:
    rows = records(tmp_path, 2).frame.select(*RECORD_SCHEMA)
    encoded = [[codecs.encode("raw", level) for level in image] for image in images(2)]
    write_shard(tmp_path / "a.h5", settings(), rows, encoded)
    time.sleep(1.1)  # HDF5 keeps times in whole seconds, where it keeps any
    write_shard(tmp_path / "b.h5", settings(), rows, encoded)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_a_shard_may_be_empty(tmp_path: Path) -> None:
    rows = records(tmp_path, 1).frame.select(*RECORD_SCHEMA).clear()
    write_shard(tmp_path / "shard-00000.h5", settings(), rows, [], {"x.png": "damaged"})
    about, table = read_shard_table(tmp_path / "shard-00000.h5")
    assert len(table) == 0
    assert table.schema["patient_id"] == pl.String
    assert about["quality"] == 0


@pytest.mark.parametrize("damage", ["truncated", "text", "no table", "cut payload"])
def test_half_a_shard_is_no_shard(tmp_path: Path, damage: str) -> None:
    path = folder_of(tmp_path) / "shard-00000.h5"
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-5000])
    elif damage == "text":
        path.write_text("no shard")
    else:
        import h5py

        with h5py.File(path, "r+") as file:
            del file["offset" if damage == "no table" else "payload"]
    with pytest.raises(UserError, match=r"shard-00000.h5: not a whole cxrkit shard \(.*\)\n  remedy: delete this file"):
        read_shard_table(path)


def test_settings_have_a_digest_of_their_own() -> None:
    digests = {
        settings().digest,
        settings("png").digest,
        settings("jpeg", 95).digest,
        settings("jpeg", 90).digest,
        ShardSettings("tiny", "v2020", "raw", 0, LEVELS).digest,
        ShardSettings("tiny", "unknown", "raw", 0, (256,)).digest,
    }
    assert len(digests) == 6
    assert settings().digest == settings().digest


@pytest.mark.parametrize("codec", ["raw", "png", "htj2k", "jpeg"])
def test_the_store_returns_every_level(tmp_path: Path, codec: str) -> None:
    store = ShardStore(folder_of(tmp_path, codec, 95 if codec == "jpeg" else 0))
    assert len(store) == COUNT
    assert store.levels == LEVELS
    for row, image in enumerate(images()):
        for number, pixels in enumerate(image):
            found = store.image(row, number)
            assert found.shape == pixels.shape
            difference = np.abs(found.astype(int) - pixels).mean()
            assert difference == 0 if codec != "jpeg" else difference < 2
            assert store.size(row, number) == len(store.encoded(row, number))
    store.close()
    assert store.image(0, 1).shape == (64, 64)


def test_the_store_knows_all_records(tmp_path: Path) -> None:
    store = ShardStore(folder_of(tmp_path))
    assert len(store.records()) == COUNT + 2
    assert store.records().schema == pl.Schema(RECORD_SCHEMA)
    assert store.index.equals(read_records(tmp_path)[:COUNT])


def test_raw_levels_are_views_that_cannot_be_written(tmp_path: Path) -> None:
    image = ShardStore(folder_of(tmp_path)).image(0, 0)
    assert not image.flags.writeable
    assert not image.flags.owndata


def test_the_store_can_be_pickled(tmp_path: Path) -> None:
    store = ShardStore(folder_of(tmp_path))
    first = store.image(1, 0).copy()
    assert np.array_equal(pickle.loads(pickle.dumps(store)).image(1, 0), first)


def test_a_flipped_byte_is_noticed_when_it_is_read(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    _, table = read_shard_table(folder / "shard-00001.h5")
    flip(folder / "shard-00001.h5", table["offset_64"][0] + 10)
    store = ShardStore(folder)
    assert store.image(3, 0).shape == (256, 256)
    message = (
        r"shard-00001.h5: image 00000002_000.png at level 64 is damaged: the checksum of its bytes does not match\n"
        r"  remedy: run `cxrkit verify` to list what is damaged, delete those shards and run `cxrkit prepare` again"
    )
    for _ in range(2):
        with pytest.raises(UserError, match=message):
            store.image(3, 1)
    assert ShardStore(folder, check_crc=False).image(3, 1).shape == (64, 64)


def test_a_truncated_shard_is_noticed_when_the_folder_is_opened(tmp_path: Path) -> None:
    path = folder_of(tmp_path) / "shard-00001.h5"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(
        UserError, match=r"shard-00001.h5: [\d,]+ bytes, but [\d,]+ were written\n  remedy: run `cxrkit"
    ):
        ShardStore(tmp_path)


def test_a_missing_shard_is_noticed(tmp_path: Path) -> None:
    (folder_of(tmp_path) / "shard-00001.h5").unlink()
    with pytest.raises(UserError, match=r"shard-00001.h5: this shard is missing"):
        ShardStore(tmp_path)


def test_a_folder_that_is_not_prepared_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"dataset.json: the description of a prepared folder is missing\n  remedy: run"
    ):
        ShardStore(tmp_path)


def test_another_format_version_is_refused(tmp_path: Path) -> None:
    description = folder_of(tmp_path) / "dataset.json"
    description.write_text(json.dumps(json.loads(description.read_text()) | {"format_version": 99}))
    with pytest.raises(UserError, match="format version 99, this cxrkit reads 1"):
        ShardStore(tmp_path)


@pytest.mark.parametrize("name", ["index.parquet", "records.parquet"])
def test_tables_that_are_gone_or_garbled_are_named(tmp_path: Path, name: str) -> None:
    folder_of(tmp_path)
    (tmp_path / name).write_bytes(b"PAR1 garbled")
    with pytest.raises(UserError, match=rf"{name}: not a readable table"):
        ShardStore(tmp_path).records()
    (tmp_path / name).unlink()
    with pytest.raises(UserError, match=rf"{name}: missing from the prepared folder"):
        ShardStore(tmp_path).records()
