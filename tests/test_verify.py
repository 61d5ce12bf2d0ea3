from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from rich.console import Console
from tiny_cohort import records, write_images

from cxrkit import codecs, shard_file
from cxrkit.contracts import RECORD_SCHEMA
from cxrkit.errors import UserError
from cxrkit.prepare import PrepareConfig, prepare
from cxrkit.shard_index import index_frame, write_description, write_index, write_records
from cxrkit.shards import ShardSettings, read_shard_table, write_shard
from cxrkit.verify import VerifyReport, verify

COUNT = 12  # two shards, of 8 and 4


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verify")
    write_images(folder / "raw" / "images", COUNT)
    config = PrepareConfig(folder / "raw", folder / "d", workers=2, levels=(128, 32))
    prepare(config, records(folder / "raw", COUNT))
    return folder / "d"


@pytest.fixture
def data(prepared: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(prepared, tmp_path / "d"))


def lines(report: VerifyReport) -> list[str]:
    return [finding.text() for finding in report.findings]


def describe(data: Path, **changes: object) -> None:
    path = data / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def flip(data: Path, row: int, level: int) -> None:
    """Flip one bit in the middle of a record of the first shard."""
    _, table = read_shard_table(data / "shard-00000.h5")
    with open(data / "shard-00000.h5", "r+b") as file:
        file.seek(table[f"offset_{level}"][row] + table[f"size_{level}"][row] // 2)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 4]))


@pytest.mark.parametrize("deep", [False, True])
def test_a_good_folder_is_good(prepared: Path, deep: bool) -> None:
    report = verify(prepared, deep=deep, workers=2)
    assert report.ok
    report.raise_if_damaged()
    assert (report.images, report.shards) == (COUNT, 2)
    assert report.bytes == sum(path.stat().st_size for path in prepared.glob("shard-*"))
    assert "12 images in 2 shards, 0.00 GB read" in report.text()
    assert report.text().endswith("all as it was written")
    assert ("every image decoded" in report.text()) == deep


def test_every_flipped_byte_is_listed_with_the_remedy(data: Path) -> None:
    flip(data, 6, 32)
    flip(data, 1, 128)
    flip(data, 1, 32)
    report = verify(data, workers=1)
    why = "the checksum of its bytes does not match"
    assert lines(report) == [
        f"shard-00000.h5: image 00000001_001.png at level 128: {why}",
        f"shard-00000.h5: image 00000001_001.png at level 32: {why}",
        f"shard-00000.h5: image 00000003_000.png at level 32: {why}",
    ]
    with pytest.raises(UserError) as caught:
        report.raise_if_damaged()
    assert "3 things wrong\n  shard-00000.h5: image" in str(caught.value)
    assert str(caught.value).endswith(
        f"\n  remedy: delete shard-00000.h5 in {data}, then run `cxrkit prepare` again with the same settings; "
        "it writes what is missing"
    )


def test_the_remedy_repairs(data: Path, prepared: Path) -> None:
    flip(data, 2, 128)
    assert not verify(data, workers=1).ok
    (data / "shard-00000.h5").unlink()
    raw = prepared.parent / "raw"
    prepare(PrepareConfig(raw, data, workers=1, levels=(128, 32)), records(raw, COUNT))
    assert verify(data, workers=1).ok


def test_missing_truncated_and_foreign_shards_are_listed(data: Path) -> None:
    (data / "shard-00000.h5").unlink()
    path = data / "shard-00001.h5"
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-100])
    shutil.copy(path, data / "shard-00007.h5")
    assert lines(verify(data, workers=2)) == [
        "shard-00000.h5: this shard is missing",
        f"shard-00001.h5: {size - 100:,} bytes, but {size:,} were written",
        "shard-00007.h5: is not a shard that dataset.json lists",
    ]


def test_a_garbled_shard_of_the_right_size_is_listed(data: Path) -> None:
    path = data / "shard-00001.h5"
    path.write_bytes(bytes(path.stat().st_size))
    found = lines(verify(data, workers=1))
    assert found[0].startswith("shard-00001.h5: not a whole cxrkit shard (")
    assert len(found) == 1 + 4 * 2


def test_shards_that_changed_places_are_listed(data: Path) -> None:
    paths = [data / "shard-00000.h5", data / "shard-00001.h5"]
    swapped = [path.read_bytes() for path in reversed(paths)]
    about = json.loads((data / "dataset.json").read_text())
    for path, content, shard in zip(paths, swapped, about["shards"], strict=True):
        path.write_bytes(content)
        shard["bytes"] = len(content)
    describe(data, shards=about["shards"])
    found = lines(verify(data, workers=1))
    assert "shard-00000.h5: does not hold the images that index.parquet says" in found
    assert "shard-00001.h5: does not hold the images that index.parquet says" in found


def test_an_index_that_does_not_agree_is_listed(data: Path) -> None:
    index = pl.read_parquet(data / "index.parquet")
    index.with_columns(crc32_32=pl.col("crc32_32") ^ 1).write_parquet(data / "index.parquet")
    found = lines(verify(data, workers=1))
    assert "shard-00000.h5: its table does not agree with index.parquet" in found
    index[:-1].write_parquet(data / "index.parquet")
    found = lines(verify(data, workers=1))
    assert "index.parquet: 11 images, but 12 were prepared" in found


def test_other_settings_and_records_are_listed(data: Path) -> None:
    describe(data, settings_digest="0" * 64)
    pl.read_parquet(data / "records.parquet")[3:].write_parquet(data / "records.parquet")
    found = lines(verify(data, workers=1))
    assert "shard-00001.h5: was prepared with other settings than the folder" in found
    assert "records.parquet: does not list the images that were prepared" in found


def test_garbled_records_are_listed(data: Path) -> None:
    (data / "records.parquet").write_bytes(b"garbled")
    assert lines(verify(data, workers=1))[0].startswith("records.parquet: not a readable table (")


def test_only_deep_sees_bytes_that_were_never_an_image(tmp_path: Path) -> None:
    """The checksums are those of what was written; whether that is an image shows only on decoding."""
    settings = ShardSettings("tiny", "unknown", "jpeg", 95, (64,))
    cohort = records(tmp_path, 2)
    whole = bytes(codecs.encode("jpeg", np.zeros((64, 64), np.uint8)))
    write_shard(tmp_path / "shard-00000.h5", settings, cohort.frame.select(*RECORD_SCHEMA), [[whole], [b"no image"]])
    tables = {0: shard_file.read(tmp_path / "shard-00000.h5")}
    write_records(tmp_path, cohort)
    write_index(tmp_path, index_frame(cohort, tables, (64,)))
    write_description(tmp_path, cohort, settings, tables, {})
    assert verify(tmp_path, workers=1).ok
    assert lines(verify(tmp_path, deep=True, workers=1)) == [
        "shard-00000.h5: image 00000001_001.png at level 64: the jpeg bytes hold no image, not a 64x64 one"
    ]


def test_a_folder_that_is_not_prepared_is_named(tmp_path: Path, data: Path) -> None:
    with pytest.raises(UserError, match=r"dataset.json: the description of a prepared folder is missing"):
        verify(tmp_path / "nowhere")
    (data / "index.parquet").unlink()
    with pytest.raises(UserError, match=r"index.parquet: missing from the prepared folder"):
        verify(data)
    describe(data, format_version=2)
    with pytest.raises(UserError, match="format version 2, this cxrkit reads 1"):
        verify(data)


def test_progress_is_printed_where_nobody_watches(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cxrkit.progress.LINE_EVERY_SECONDS", 0.0)
    console = Console(file=io.StringIO(), width=200)
    verify(prepared, workers=1, console=console)
    assert [line.split(",")[0] for line in console.file.getvalue().splitlines()] == [
        "verify: 1 of 2 shards",
        "verify: 2 of 2 shards",
    ]
