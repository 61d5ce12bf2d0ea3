from __future__ import annotations

import fcntl
import hashlib
import itertools
import json
import pickle
import resource
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from mutations import mutations
from tiny_cohort import (
    change_table,
    describe,
    picture,
    records,
    reseal,
    shards,
    sources_of,
    table_of,
    write_one_shard,
    write_prepared,
)

from cxrkit.base.contracts import RECORD_SCHEMA
from cxrkit.base.errors import UserError
from cxrkit.base.files import digest_lines
from cxrkit.base.origin import labels_digest
from cxrkit.shards import codecs, tiles
from cxrkit.shards.file import (
    ALIGNMENT,
    Left,
    OtherVersionError,
    ShardSettings,
    Source,
    read_shard,
    write_shard,
)
from cxrkit.shards.index import Description, index_schema, read_description, read_table
from cxrkit.shards.store import ShardStore, read_records

LEVELS = (256, 64)
COUNT = 5


def settings(codec: str = "raw", quality: int = 0, levels: tuple[int, ...] = LEVELS, restart: int = 0) -> ShardSettings:
    return ShardSettings("tiny", codec, quality, levels, 1024, restart)


def images(count: int = COUNT) -> list[list[np.ndarray]]:
    originals = [picture(number) for number in range(count)]
    return [
        [cv2.resize(image, (level, level), interpolation=cv2.INTER_AREA) for level in LEVELS] for image in originals
    ]


def folder_of(folder: Path, codec: str = "raw", quality: int = 0, restart: int = 0) -> Path:
    """Write a prepared folder of two shards, without `prepare`."""
    encoded = [[codecs.encode(codec, level, quality, restart) for level in image] for image in images()]
    how = settings(codec, quality, restart=restart)
    return write_prepared(folder, records(folder, COUNT, absent=2), how, encoded)


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


@pytest.mark.parametrize("codec", codecs.CODECS)
def test_bytes_of_no_image_are_refused(codec: str) -> None:
    with pytest.raises(ValueError, match=rf"^the {codec} bytes"):
        codecs.decode(codec, np.arange(200, dtype=np.uint8), 1024)
    with pytest.raises(ValueError, match=rf"^the {codec} bytes"):
        codecs.decode(codec, np.zeros(0, dtype=np.uint8), 1024)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (1, 5), (65, 32), (200, 200), (1024, 1024)])
def test_bands_are_lossless(height: int, width: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (height, width), dtype=np.uint8)
    data = np.frombuffer(codecs.encode("zstd", image), np.uint8)
    assert np.array_equal(codecs.decode("zstd", data, width, height), image)


def test_a_window_has_the_bands_that_it_meets() -> None:
    image = np.add.outer(np.arange(320), np.arange(320)).astype(np.uint8)
    data = np.frombuffer(codecs.encode("zstd", image), np.uint8)
    for top, bottom, first, last in ((0, 1, 0, 64), (64, 128, 64, 128), (63, 129, 0, 192), (310, 320, 256, 320)):
        encoded, part = codecs.encoded_window("zstd", data, 320, 0, (7, top, 9, bottom))
        assert part == (0, first, 320, last)
        assert len(encoded) < len(data)
        assert np.array_equal(codecs.decode("zstd", encoded, 320, last - first), image[first:last])


def test_bands_that_are_not_as_written_are_refused() -> None:
    zstandard = pytest.importorskip("zstandard")
    image = np.zeros((128, 32), np.uint8)
    data = np.frombuffer(codecs.encode("zstd", image), np.uint8)
    damaged = data.copy()
    damaged[8:12] = 0
    with pytest.raises(ValueError, match=r"^a zstd band cannot be decoded"):
        codecs.decode("zstd", damaged, 32, 128)
    with pytest.raises(ValueError, match=r"^a zstd band has 2,048 bytes, not 64 rows of 31$|^a zstd band cannot be"):
        codecs.decode("zstd", data, 31, 128)
    with pytest.raises(ValueError, match=r"^the zstd bytes are .* of their bands for 128 rows$"):
        codecs.decode("zstd", data[:-1], 32, 128)
    huge = zstandard.ZstdCompressor().compress(bytes(10_000_000))  # which says so
    named = np.frombuffer(np.array([len(huge)], "<u4").tobytes() + huge, np.uint8)
    with pytest.raises(ValueError, match=r"^a zstd band says how long it is$"):
        codecs.decode("zstd", named, 32, 64)


def test_zstd_without_its_package_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(UserError, match=r"needs the package zstandard.*\n  remedy: pip install 'cxrkit\[zstd\]'"):
        codecs.check("zstd")


def test_an_unknown_codec_is_refused() -> None:
    with pytest.raises(UserError, match="unknown codec 'webp'\n  remedy: choose one of jpeg, raw, png, htj2k, zstd"):
        codecs.check("webp")


def test_a_shard_says_what_was_written(tmp_path: Path) -> None:
    ids = [f"{number}é.png" for number in range(COUNT)]
    encoded = [[codecs.encode("raw", level) for level in image] for image in images()]
    left = Left("x.png", "gone", Source(1, 2, 3, 4))
    written = write_shard(tmp_path / "a.h5", settings(), ids, sources_of(ids), encoded, [left])
    table = read_shard(tmp_path / "a.h5")
    assert (table.settings, table.image_ids, table.damaged, table.file) == (settings(), ids, [left], "a.h5")
    assert np.array_equal(table.source, sources_of(ids))
    assert table.bytes == written.bytes == (tmp_path / "a.h5").stat().st_size
    data = (tmp_path / "a.h5").read_bytes()
    for row, image in enumerate(images()):
        for number, pixels in enumerate(image):
            start, size = table.offset[row, number], table.size[row, number]
            assert start % ALIGNMENT == 0
            assert data[start : start + size] == pixels.tobytes()
    for name in ("offset", "size", "crc32"):
        assert np.array_equal(getattr(written, name), getattr(table, name))


def test_the_same_images_make_the_same_file(tmp_path: Path) -> None:
    encoded = [[codecs.encode("raw", level) for level in image] for image in images(2)]
    write_shard(tmp_path / "a.h5", settings(), ["a", "b"], sources_of("ab"), encoded)
    time.sleep(1.1)  # HDF5 keeps times in whole seconds, where it keeps any
    write_shard(tmp_path / "b.h5", settings(), ["a", "b"], sources_of("ab"), encoded)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_a_shard_may_be_empty(tmp_path: Path) -> None:
    table = write_one_shard(tmp_path, settings(), [], [], [Left("x.png", "damaged")])
    assert table.image_ids == []
    assert table.size.shape == (0, 2)
    assert table.damaged == [Left("x.png", "damaged", Source(-1, 0, -1, 0))]


def test_a_shard_needs_no_lock(tmp_path: Path) -> None:
    """A disk without locks is one where HDF5's own lock fails, as it does while another process holds the file."""
    table = write_one_shard(tmp_path, settings(), ["a"], [[b"x", b"y"]])
    path = tmp_path / table.file
    with open(path, "rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        code = f"from pathlib import Path\nfrom cxrkit.shards.file import read_shard\nread_shard(Path({str(path)!r}))"
        subprocess.run([sys.executable, "-c", code], check=True)


def broken(path: Path, damage: str) -> None:
    """Do something to a shard that keeps it from being one."""
    data = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(data[:-5000])
    elif damage == "cut seal":
        path.write_bytes(data[:-1])
    elif damage == "text":
        path.write_text("no shard")
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "zeros":
        path.write_bytes(bytes(len(data)))
    elif damage == "header":
        path.write_bytes(data[:900] + bytes([data[900] ^ 16]) + data[901:])
    else:
        with h5py.File(path, "r+", locking=False) as file:
            payload = file["payload"].id.get_offset(), file["payload"].shape[0]
            tamper(file, damage)
        reseal(path, *payload)


def replace(file: h5py.File, name: str, values: Any) -> None:
    del file[name]
    file[name] = values


def tamper(file: h5py.File, damage: str) -> None:
    match damage:
        case "no table":
            del file["offset"]
        case "no payload":
            del file["payload"]
        case "no settings":
            del file.attrs["codec"]
        case "other settings":
            file.attrs["quality"] = 7
        case "tiles of raw pixels":
            file.attrs.update({"format_version": 3, "restart": 16})
        case "no tiles":
            file.attrs.update({"format_version": 3, "restart": 0})
        case "a version of another kind":
            file.attrs["format_version"] = np.bytes_("2")
        case "settings of another kind":
            file.attrs["levels"] = np.bytes_("256,64")
        case "outside":
            file["offset"][0, 0] = 2**62
        case "before":
            file["offset"][0, 0] = -(2**63)
        case "negative size":
            file["size"][0, 0] = -1
        case "long":
            file["size"][0, 0] = 2**62
        case "shape":
            replace(file, "size", np.zeros((1, 2), np.int64))
        case "dimensions":
            replace(file, "crc32", np.zeros(3, np.uint32))
        case "kind":
            replace(file, "offset", np.zeros((3, 2)))
        case "names":
            replace(file, "image_id", np.array([b"a", b"a", b"b"]))
        case "no text":
            replace(file, "image_id", np.array([b"a", b"\xff", b"b"]))
        case "numbers for names":
            replace(file, "image_id", np.arange(3))
        case "a group":
            del file["source"]
            file.create_group("source")
        case "damage":
            file.attrs["damaged"] = np.bytes_('[{"image_id": 1}]')
        case "text in a heap":
            file.attrs["codec"] = "raw"
        case "nested":
            file.attrs["damaged"] = np.bytes_("[" * 9000)
        case "huge":
            del file["source"]
            file.create_dataset("source", (2**40,), sources_of("a").dtype)
        case _:
            raise AssertionError(damage)


DAMAGE = ["truncated", "cut seal", "text", "empty", "zeros", "header", "no table", "no payload", "no settings"]
DAMAGE += ["other settings", "settings of another kind", "outside", "before", "negative size", "long", "shape"]
DAMAGE += [
    "dimensions",
    "kind",
    "names",
    "no text",
    "numbers for names",
    "a group",
    "damage",
    "nested",
    "huge",
    "text in a heap",
    "tiles of raw pixels",
    "no tiles",
    "a version of another kind",
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_half_a_shard_is_no_shard(tmp_path: Path, damage: str) -> None:
    path = tmp_path / write_one_shard(tmp_path, settings(), list("abc"), [[b"large", b"small"]] * 3).file
    read_shard(path)
    broken(path, damage)
    with pytest.raises(UserError, match=r"shard-.*h5: not a whole cxrkit shard \(.*\)\n  remedy: delete this file"):
        read_shard(path)


def test_no_changed_byte_of_a_header_goes_unnoticed(tmp_path: Path) -> None:
    table = write_one_shard(tmp_path, settings(), ["a"], [[b"large" * 99, b"small"]])
    path = tmp_path / table.file
    whole = path.read_bytes()
    payload = range(int(table.offset[0, 0]), int(table.offset[0, 0]) + 2 * ALIGNMENT)
    for position in [*range(0, payload.start, 37), *range(payload.stop, len(whole))]:
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1 << position % 8]) + whole[position + 1 :])
        with pytest.raises(UserError, match="not a whole cxrkit shard"):
            read_shard(path)


def test_a_shard_of_the_first_version_is_told(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "shard-00000.h5", "w") as file:
        file.attrs.update({"format_version": 1, "label_release": "v2020"})
    message = r"shard-00000.h5: format version 1, this cxrkit reads 2 and 3\n  remedy: prepare again with this version"
    with pytest.raises(UserError, match=message):
        read_shard(tmp_path / "shard-00000.h5")


def test_a_shard_of_a_later_version_is_told(tmp_path: Path) -> None:
    path = tmp_path / write_one_shard(tmp_path, settings(), ["a"], [[b"large", b"small"]]).file
    with h5py.File(path, "r+", locking=False) as file:
        payload = file["payload"].id.get_offset(), file["payload"].shape[0]
        file.attrs["format_version"] = 4
    reseal(path, *payload)
    with pytest.raises(OtherVersionError, match="format version 4, this cxrkit reads 2 and 3\n  remedy: prepare again"):
        read_shard(path)


def test_settings_have_a_digest_of_their_own() -> None:
    different = [
        settings(),
        settings("png"),
        settings("jpeg", 95),
        settings("jpeg", 90),
        settings(levels=(256,)),
        ShardSettings("other", "raw", 0, LEVELS, 1024),
        ShardSettings("tiny", "raw", 0, LEVELS, 256),
    ]
    assert settings("jpeg", 95, restart=16).digest == settings("jpeg", 95).digest, "they are the same pixels"
    assert len({one.digest for one in different}) == len(different)
    assert settings().digest == settings().digest


@pytest.mark.parametrize("codec", codecs.CODECS)
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


@pytest.mark.parametrize(("codec", "restart"), [*((codec, 0) for codec in codecs.CODECS), ("jpeg", tiles.RESTART)])
@given(data=st.data())
@hypothesis_settings(max_examples=20, deadline=None)
def test_a_window_is_a_part_of_the_level(
    tmp_path_factory: pytest.TempPathFactory, codec: str, restart: int, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp() / f"windows-{codec}-{restart}"
    store = ShardStore(folder if folder.exists() else folder_of(folder, codec, 95 if codec == "jpeg" else 0, restart))
    row, level = data.draw(st.integers(0, COUNT - 1)), data.draw(st.integers(0, len(LEVELS) - 1))
    side = LEVELS[level]
    left, top = data.draw(st.integers(0, side - 1)), data.draw(st.integers(0, side - 1))
    window = (left, top, data.draw(st.integers(left + 1, side)), data.draw(st.integers(top + 1, side)))
    whole = store.image(row, level)
    assert np.array_equal(store.window(row, level, window), whole[top : window[3], left : window[2]])
    encoded, (x, y, right, bottom) = store.encoded_window(row, level, window)
    assert x <= left < window[2] <= right <= side
    assert y <= top < window[3] <= bottom <= side
    part = codecs.decode(codec, encoded, right - x, bottom - y)
    assert np.array_equal(part, whole[y:bottom, x:right])


def test_a_folder_without_tiles_is_one_of_the_second_version(tmp_path: Path) -> None:
    """What was prepared before there were tiles: opened as it is, and its digest is what runs have written down."""
    store = ShardStore(folder_of(tmp_path, "jpeg", 95))
    about = json.loads((tmp_path / "dataset.json").read_text())
    assert (about["format_version"], "restart" in about, store.codec) == (2, False, "jpeg")
    with h5py.File(tmp_path / shards(tmp_path)[0], locking=False) as file:
        names = ["codec", "damaged", "dataset", "format_version", "image_size", "levels", "quality", "settings_digest"]
        assert sorted(file.attrs) == [*names, "tool_version"]
        assert file.attrs["format_version"] == 2
    lines = ["format 2", "dataset tiny", "codec jpeg", "quality 95", "levels (256, 64)", "image_size 1024"]
    assert store.settings_digest == about["settings_digest"] == digest_lines(lines)
    assert store.settings_digest.startswith("c19d60f2e9b6d0de")
    assert [name.split("-")[2] for name in shards(tmp_path)] == ["faf70888.h5", "4dc2bb0b.h5"]


def test_tiles_change_no_pixel_and_so_no_digest(tmp_path: Path) -> None:
    plain = ShardStore(folder_of(tmp_path / "plain", "jpeg", 95))
    tiled = ShardStore(folder_of(tmp_path / "tiled", "jpeg", 95, tiles.RESTART))
    assert (plain.about["format_version"], tiled.about["format_version"]) == (2, 3)
    assert tiled.about["restart"] == tiles.RESTART
    assert read_shard(tmp_path / "tiled" / shards(tmp_path / "tiled")[0]).settings.restart == tiles.RESTART
    assert (tiled.settings_digest, tiled.pixels_digest) == (plain.settings_digest, plain.pixels_digest)
    assert not {*shards(tmp_path / "plain")} & {*shards(tmp_path / "tiled")}, "no two contents share a name"
    for row, level in itertools.product(range(COUNT), range(len(LEVELS))):
        assert np.array_equal(plain.image(row, level), tiled.image(row, level))
        if LEVELS[level] == 256:
            assert tiled.size(row, level) > plain.size(row, level)


@pytest.mark.parametrize("check_crc", [True, False])
def test_damaged_tiles_are_noticed_when_a_window_is_read(tmp_path: Path, check_crc: bool) -> None:
    folder = folder_of(tmp_path, "jpeg", 95, tiles.RESTART)
    path = folder / shards(folder)[1]
    flip(path, int(read_shard(path).offset[0, 0]) + 50)
    store = ShardStore(folder, check_crc=check_crc)
    why = "the checksum of its bytes does not match" if check_crc else "the rows of jpeg tiles do not lie where"
    message = rf"{path.name}: image 00000002_000.png at level 256 is damaged: {why}"
    for _ in range(2):
        with pytest.raises(UserError, match=message) as caught:
            store.window(3, 0, (0, 32, 99, 40))
        assert str(caught.value).splitlines()[0].count("is damaged") == 1
        with pytest.raises(UserError, match=message):
            store.encoded_window(3, 0, (0, 32, 99, 40))
    assert store.window(4, 0, (0, 32, 99, 40)).shape == (8, 99)


def test_a_byte_outside_the_window_is_noticed_the_first_time(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "jpeg", 95, tiles.RESTART)
    path = folder / shards(folder)[0]
    table = read_shard(path)
    flip(path, int(table.offset[0, 0] + table.size[0, 0]) - 20)
    with pytest.raises(UserError, match="the checksum of its bytes does not match"):
        ShardStore(folder).window(0, 0, (0, 0, 9, 9))
    assert ShardStore(folder, check_crc=False).window(0, 0, (0, 0, 9, 9)).shape == (9, 9)


def test_records_without_the_tiles_that_the_folder_has_are_damaged(tmp_path: Path) -> None:
    encoded = [[codecs.encode("jpeg", level) for level in image] for image in images()]
    how = settings("jpeg", 95, restart=tiles.RESTART)
    store = ShardStore(write_prepared(tmp_path, records(tmp_path, COUNT), how, encoded))
    assert store.image(0, 0).shape == store.window(0, 0, (0, 0, 256, 256)).shape == (256, 256)
    message = "00000001_000.png at level 256 is damaged: the jpeg bytes hold no index of their tiles"
    with pytest.raises(UserError, match=message):
        store.window(0, 0, (0, 0, 9, 9))
    assert store.window(0, 1, (0, 0, 9, 9)).shape == (9, 9), "so small a level has no tiles"


def test_the_store_knows_all_records(tmp_path: Path) -> None:
    store = ShardStore(folder_of(tmp_path))
    assert len(store.records()) == COUNT + 2
    assert store.records().schema == pl.Schema(RECORD_SCHEMA)
    assert store.index.equals(read_records(tmp_path)[:COUNT])
    assert store.index.schema == pl.Schema(RECORD_SCHEMA)


def test_the_store_says_what_it_was_made_of(tmp_path: Path) -> None:
    store = ShardStore(folder_of(tmp_path))
    sources = sources_of(store.index["image_id"])
    assert store.source_crc32.tolist() == sources["crc32"].tolist()
    lines = [f"{name} {it['size']} {it['crc32']}" for name, it in zip(store.index["image_id"], sources, strict=True)]
    assert store.pixels_digest == store.about["pixels_digest"] == digest_lines(lines)
    assert store.labels_digest == store.about["labels_digest"] == labels_digest(store.records())
    assert (store.settings_digest, store.image_size) == (settings().digest, 1024)
    assert {key: store.about[key] for key in ("dataset", "label_release")} == {
        **{"dataset": "tiny", "label_release": "unknown"}
    }


def test_changed_labels_are_refused(tmp_path: Path) -> None:
    path = table_of(folder_of(tmp_path), "records")
    frame = pl.read_parquet(path)
    frame.with_columns(~pl.col("Mass")).write_parquet(path)
    message = r"records-.*parquet: was changed or damaged after it was written \(.*\)\n  remedy: run `cxrkit prepare`"
    with pytest.raises(UserError, match=message):
        ShardStore(tmp_path)
    with pytest.raises(UserError, match=message):
        read_records(tmp_path)


def test_an_open_store_keeps_what_is_removed(tmp_path: Path) -> None:
    store = ShardStore(folder_of(tmp_path))
    expected = [store.image(row, 1).copy() for row in range(COUNT)]
    store = ShardStore(tmp_path)
    for path in tmp_path.iterdir():
        path.unlink()
    for row in range(COUNT):
        assert np.array_equal(store.image(row, 1), expected[row])
    assert len(store.records()) == COUNT + 2
    store.close()
    with pytest.raises(UserError, match="this shard is missing"):
        store.image(0, 0)


def test_a_store_of_many_shards_holds_no_file_open(tmp_path: Path) -> None:
    count = 80
    write_prepared(tmp_path, records(tmp_path, count), settings(), [[b"x" * 256**2, b"y" * 64**2]] * count, 1)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, before[1]))
    try:
        store = ShardStore(tmp_path)
        assert [int(store.image(row, 1)[0, 0]) for row in range(count)] == [ord("y")] * count
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_generation_that_ends_while_it_is_opened_does_no_harm(tmp_path: Path, monkeypatch: Any) -> None:
    from cxrkit.shards import store as module

    folder_of(tmp_path)
    reading = module.read_index

    def late(folder: Path, about: Any) -> pl.DataFrame:
        monkeypatch.setattr(module, "read_index", reading)
        for name in ("records", "index"):
            table_of(tmp_path, name).unlink()
        folder_of(tmp_path, "png")
        return reading(folder, about)

    monkeypatch.setattr(module, "read_index", late)
    assert ShardStore(tmp_path).codec == "png"


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
    path = folder / shards(folder)[1]
    flip(path, int(read_shard(path).offset[0, 1]) + 10)
    store = ShardStore(folder)
    assert store.image(3, 0).shape == (256, 256)
    message = (
        rf"{path.name}: image 00000002_000.png at level 64 is damaged: the checksum of its bytes does not match\n"
        r"  remedy: run `cxrkit verify` to list what is damaged, delete those shards and run `cxrkit prepare` again"
    )
    for _ in range(2):
        with pytest.raises(UserError, match=message) as caught:
            store.image(3, 1)
        assert str(caught.value).splitlines()[0].count("is damaged") == 1
    assert ShardStore(folder, check_crc=False).image(3, 1).shape == (64, 64)


def test_a_truncated_shard_is_noticed_when_the_folder_is_opened(tmp_path: Path) -> None:
    path = tmp_path / shards(folder_of(tmp_path))[1]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=rf"{path.name}: [\d,]+ bytes, but [\d,]+ were written\n  remedy: run `cxrkit"):
        ShardStore(tmp_path)


def test_a_missing_shard_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / shards(folder_of(tmp_path))[1]
    path.unlink()
    with pytest.raises(UserError, match=rf"{path.name}: this shard is missing\n  remedy: run `cxrkit prepare`"):
        ShardStore(tmp_path)


def test_a_folder_that_is_not_prepared_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"dataset.json: the description of a prepared folder is missing\n  remedy: run"
    ):
        ShardStore(tmp_path)


@pytest.mark.parametrize("version", [1, 99])
def test_another_format_version_is_refused(tmp_path: Path, version: int) -> None:
    describe(folder_of(tmp_path), format_version=version)
    message = rf"format version {version}, this cxrkit reads 2 and 3\n  remedy: prepare again with this version"
    with pytest.raises(UserError, match=message):
        ShardStore(tmp_path)


@pytest.mark.parametrize("kind", ["index", "records"])
def test_tables_that_are_gone_or_garbled_are_named(tmp_path: Path, kind: str) -> None:
    path = table_of(folder_of(tmp_path), kind)
    path.write_bytes(b"PAR1 garbled")
    with pytest.raises(UserError, match=rf"{path.name}: was changed or damaged after it was written"):
        ShardStore(tmp_path)
    path.unlink()
    with pytest.raises(UserError, match=rf"{path.name}: missing from the prepared folder"):
        ShardStore(tmp_path)
    path.mkdir()
    with pytest.raises(UserError, match=rf"{path.name}: cannot be read \(Is a directory\)"):
        ShardStore(tmp_path)


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("index", lambda f: f[:-1], "4 images, but 5 were prepared"),
        ("index", lambda f: f.with_columns(offset_64=pl.lit(2**62)), "a record lies outside its shard"),
        ("index", lambda f: f.with_columns(size_64=pl.lit(-1).cast(pl.Int64)), "a record lies outside its shard"),
        ("index", lambda f: f.with_columns(shard=pl.lit(2).cast(pl.Int32)), "it counts more shards than there are"),
        ("index", lambda f: f.with_columns(shard=pl.lit(-1).cast(pl.Int32)), "it counts more shards than there are"),
        ("index", lambda f: f.with_columns(image_id=pl.lit("x")), "its images are not sorted, or not all different"),
        ("index", lambda f: f.with_columns(size_64=None), "column 'size_64' is Null, expected Int64"),
        ("index", lambda f: f.with_columns(source_size=pl.lit(None, pl.Int64())), "it has empty cells"),
        ("index", lambda f: f.drop("crc32_256"), "column 'crc32_256' is missing, expected UInt32"),
        ("index", lambda f: f.with_columns(pl.col("source_size") + 1), "pixels_digest is not that of index-"),
        ("records", lambda f: f[1:], "6 images, but 7 were listed"),
        ("records", lambda f: f.reverse(), "its images are not sorted, or not all different"),
        ("records", lambda f: f.drop("Mass"), "column 'Mass' is missing, expected Boolean"),
        ("records", lambda f: f.with_columns(image_id=pl.col("image_id") + "x"), "does not list all images that were"),
    ],
)
def test_tables_that_contradict_the_rest_are_named(tmp_path: Path, kind: str, change: Any, message: str) -> None:
    change_table(folder_of(tmp_path), kind, change(pl.read_parquet(table_of(tmp_path, kind))))
    with pytest.raises(UserError, match=rf"{message}(.|\n)*\n  remedy: run `cxrkit prepare` again"):
        ShardStore(tmp_path)


def test_a_table_that_is_no_parquet_is_named(tmp_path: Path) -> None:
    path = table_of(folder_of(tmp_path), "records")
    for data in (b"PAR1 garbled PAR1", b"", path.read_bytes()[:-9]):
        path.write_bytes(data)
        describe(tmp_path, records={"file": path.name, "sha256": hashlib.sha256(data).hexdigest()})
        with pytest.raises(UserError, match=rf"{path.name}: not a readable table \("):
            ShardStore(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"codec": "gif"}, r"codec is 'gif', expected one of jpeg, raw"),
        ({"codec": 7}, r"codec is 7 \(int\), expected text"),
        ({"levels": []}, "levels are"),
        ({"levels": [2048]}, r"levels are \(2048,\) of images of 1024 pixels"),
        ({"levels": None}, "levels is null, expected a list"),
        ({"quality": 3}, "settings_digest is not that of the settings"),
        ({"records": {"file": "../records.parquet", "sha256": ""}}, "'../records.parquet' is not the name of a table"),
        ({"index": "index.parquet"}, r"index is 'index.parquet' \(str\), expected an object"),
        ({"shards": []}, "prepared_images is 5, but the shards hold 0"),
        ({"shards": [{"file": "/etc/passwd", "images": 5, "bytes": 1}]}, "'/etc/passwd' is not the name of a shard"),
        ({"shards": [{"file": "shard-000000-00000000.h5", "images": 5}]}, r"shards\[0\].bytes is missing"),
        ({"shards": [{"file": "shard-000000-00000000.h5", "images": 5, "bytes": 0}]}, "shards has one of no bytes"),
        ({"format_version": "2"}, r"format_version is '2' \(str\), expected a whole number"),
        ({"format_version": True}, r"format_version is True \(bool\), expected a whole number"),
        ({"pixels_digest": "0" * 64}, "pixels_digest is not that of"),
        ({"restart": 16}, "restart is 16"),
        ({"format_version": 3}, "format_version is 3, but restart is 0"),
    ],
)
def test_a_description_that_contradicts_itself_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    describe(folder_of(tmp_path), **changes)
    with pytest.raises(UserError, match=rf"dataset.json: {message}(.|\n)*\n  remedy: run `cxrkit prepare` again"):
        ShardStore(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "null", "7", '"x"', "{}", "{", "[" * 100_000, '{"format_version": 2}'])
def test_a_description_of_another_kind_is_named(tmp_path: Path, text: str) -> None:
    (folder_of(tmp_path) / "dataset.json").write_text(text)
    with pytest.raises(UserError, match=r"dataset.json: .*\n  remedy: run `cxrkit prepare"):
        ShardStore(tmp_path)


# Fuzzing: whatever happens to a file, it is an error of the user's, or nothing.


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of(tmp_path_factory.mktemp("fuzz"), "png")


@hypothesis_settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=st.data())
def test_any_description_is_read_or_refused(folder: Path, tmp_path: Path, value: st.DataObject) -> None:
    for path in folder.iterdir():
        if not (tmp_path / path.name).exists():
            (tmp_path / path.name).symlink_to(path)
    (tmp_path / "dataset.json").unlink()
    (tmp_path / "dataset.json").write_bytes(value.draw(mutations((folder / "dataset.json").read_bytes())))
    try:
        store = ShardStore(tmp_path)
        for row in range(len(store)):
            store.image(row, 0)
    except UserError:
        pass


@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=st.data())
def test_any_json_for_a_description_is_read_or_refused(folder: Path, value: st.DataObject) -> None:
    original = json.loads((folder / "dataset.json").read_text())
    leaf = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(original["index"])
    anything = st.recursive(leaf, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner))
    keys = st.sampled_from(list(Description.__dataclass_fields__))
    changes = value.draw(st.dictionaries(keys, anything, min_size=1, max_size=2))
    (folder.parent / "fuzzed").mkdir(exist_ok=True)
    (folder.parent / "fuzzed" / "dataset.json").write_text(json.dumps(original | changes))
    try:
        read_description(folder.parent / "fuzzed")
    except UserError:
        pass


@pytest.mark.parametrize("kind", ["index", "records"])
@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=st.data())
def test_any_table_is_read_or_refused(folder: Path, tmp_path: Path, kind: str, value: st.DataObject) -> None:
    """The checksum is made right: what is in the table must do no harm either."""
    data = value.draw(mutations(table_of(folder, kind).read_bytes()))
    path = tmp_path / f"{kind}.parquet"
    path.write_bytes(data)
    schema = index_schema(LEVELS) if kind == "index" else RECORD_SCHEMA
    with suppress(UserError):
        read_table(path, schema, hashlib.sha256(data).hexdigest())
    with pytest.raises(UserError, match="was changed or damaged after it was written"):
        read_table(path, schema, "0" * 64)


READ_MANY = """
import sys
from pathlib import Path
from cxrkit.base.errors import UserError
from cxrkit.shards.file import read_shard
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        read_shard(path)
    except UserError:
        pass
    print(path.name, flush=True)
"""


@pytest.mark.parametrize("seed", range(2))
def test_any_header_is_read_or_refused(folder: Path, tmp_path: Path, seed: int) -> None:
    """In a process of its own: libhdf5 is C. Half of the headers are sealed again, as no accident would."""
    rng = np.random.default_rng(seed)
    whole = (folder / shards(folder)[0]).read_bytes()
    table = read_shard(folder / shards(folder)[0])
    start, length = int(table.offset.min()), int((-(-table.size // ALIGNMENT) * ALIGNMENT).sum())
    for number in range(60):
        data = bytearray(whole)
        for _ in range(rng.integers(1, 4)):
            data[rng.integers(0, start)] ^= 1 << rng.integers(0, 8)
        (tmp_path / f"{number:03d}.h5").write_bytes(data)
        if number % 2:
            reseal(tmp_path / f"{number:03d}.h5", start, length)
    done = subprocess.run(
        [sys.executable, "-c", READ_MANY, str(tmp_path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == 60
