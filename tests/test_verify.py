from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest
from rich.console import Console
from tiny_cohort import (
    change_table,
    describe,
    image_id,
    picture,
    png,
    records,
    shards,
    table_of,
    write_archive,
    write_images,
    write_prepared,
)

from cxrkit.base.contracts import Records
from cxrkit.base.errors import UserError
from cxrkit.prepare.plan import finished_shards
from cxrkit.prepare.stage import PrepareConfig, prepare
from cxrkit.prepare.verify import VerifyReport, verify, verify_sources
from cxrkit.shards import codecs, tiles
from cxrkit.shards.file import ShardSettings, read_shard
from cxrkit.shards.store import ShardStore

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
    return [damage.text() for damage in report.damage]


def flip(data: Path, row: int, level: int) -> None:
    """Flip one bit in the middle of a record of the first shard."""
    path = data / shards(data)[0]
    table = read_shard(path)
    number = table.settings.levels.index(level)
    with open(path, "r+b") as file:
        file.seek(int(table.offset[row, number] + table.size[row, number] // 2))
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
    assert "12 images in 2 shards, " in report.text()
    assert report.text().endswith("all as it was written")
    assert ("every image decoded" in report.text()) == deep


def test_every_flipped_byte_is_listed_with_the_remedy(data: Path) -> None:
    flip(data, 6, 32)
    flip(data, 1, 128)
    flip(data, 1, 32)
    report = verify(data, workers=1)
    why, name = "the checksum of its bytes does not match", shards(data)[0]
    assert lines(report) == [
        f"{name}: image 00000001_001.png at level 128: {why}",
        f"{name}: image 00000001_001.png at level 32: {why}",
        f"{name}: image 00000003_000.png at level 32: {why}",
    ]
    with pytest.raises(UserError) as caught:
        report.raise_if_damaged()
    assert f"3 things wrong\n  {name}: image" in str(caught.value)
    assert str(caught.value).endswith(
        f"\n  remedy: delete {name} in {data}, then run `cxrkit prepare` again with the same settings; "
        "it writes what is missing"
    )


def test_a_shard_that_cannot_be_read_is_not_to_be_deleted(
    data: Path,
) -> None:
    """Rights, a disk that is away, too many open files: the shard may be as good as ever."""
    first = data / shards(data)[0]
    first.unlink()
    first.symlink_to(first)  # the error of a loop stands for EACCES, which does not stop root
    with pytest.raises(UserError, match=rf"{first.name}: cannot be read \(Too many .*\n  remedy: see that its disk"):
        read_shard(first)
    report = verify(data, workers=1)
    with pytest.raises(UserError, match=rf"cannot be read \(Too many levels .*\n  remedy: see that the disk of {data}"):
        report.raise_if_damaged()
    with pytest.raises(UserError, match=rf"{first.name}: cannot be read"):
        finished_shards(data, read_shard(data / shards(data)[1]).settings)


def prepare_again(data: Path, prepared: Path) -> None:
    raw = prepared.parent / "raw"
    prepare(PrepareConfig(raw, data, workers=1, levels=(128, 32)), records(raw, COUNT))


def test_the_remedy_repairs(data: Path, prepared: Path) -> None:
    flip(data, 2, 128)
    assert not verify(data, workers=1).ok
    (data / shards(data)[0]).unlink()
    prepare_again(data, prepared)
    assert verify(data, workers=1).ok


def test_missing_and_truncated_shards_are_listed(data: Path) -> None:
    first, second = shards(data)
    (data / first).unlink()
    (data / second).write_bytes((data / second).read_bytes()[:-100])
    shutil.copy(data / second, data / "shard-000099-00000000.h5")
    report = verify(data, workers=2)
    assert lines(report) == [
        f"{first}: this shard is missing",
        f"{second}: not a whole cxrkit shard (it is cut off, or its last bytes were changed)",
    ]
    assert report.notes == [
        "shard-000099-00000000.h5 is not one of the shards that dataset.json names; "
        "`cxrkit prepare` uses it when it is wanted again"
    ]
    with pytest.raises(UserError, match=rf"remedy: delete {second} in .*, then run `cxrkit prepare`"):
        report.raise_if_damaged()


def test_a_garbled_shard_of_the_right_size_is_listed(data: Path) -> None:
    path = data / shards(data)[1]
    path.write_bytes(bytes(path.stat().st_size))
    found = lines(verify(data, workers=1))
    assert len(found) == 1
    assert found[0].startswith(f"{path.name}: not a whole cxrkit shard (")


def blames_no_shard(data: Path, report: VerifyReport, prepared: Path) -> None:
    """Check that nobody is told to delete a good shard, and that the remedy helps."""
    with pytest.raises(UserError) as caught:
        report.raise_if_damaged()
    assert caught.value.remedy == "run `cxrkit prepare` again with the same settings; it writes what is missing"
    names = shards(data)
    prepare_again(data, prepared)
    assert shards(data) == names
    assert verify(data, workers=1).ok


def test_shards_that_changed_places_are_told(data: Path, prepared: Path) -> None:
    about = json.loads((data / "dataset.json").read_text())
    about["shards"][0]["file"], about["shards"][1]["file"] = about["shards"][1]["file"], about["shards"][0]["file"]
    describe(data, shards=about["shards"])
    report, name = verify(data, workers=1), table_of(data, "index").name
    assert f"{name}: {shards(data)[0]} does not hold the images that it says" in lines(report)
    blames_no_shard(data, report, prepared)


def test_an_index_that_does_not_agree_is_told(data: Path, prepared: Path) -> None:
    change_table(data, "index", pl.read_parquet(table_of(data, "index")).with_columns(pl.col("crc32_32") ^ 1))
    report = verify(data, workers=1)
    assert lines(report)[0] == f"{table_of(data, 'index').name}: does not agree with the table of {shards(data)[0]}"
    blames_no_shard(data, report, prepared)


def test_a_description_that_does_not_agree_is_told(data: Path, prepared: Path) -> None:
    about = json.loads((data / "dataset.json").read_text())
    about["shards"][0]["bytes"] += 1
    describe(data, shards=about["shards"], labels_digest="0" * 64, pixels_digest="1" * 64)
    report = verify(data, workers=1)
    assert lines(report) == [
        f"dataset.json: pixels_digest is not that of {table_of(data, 'index').name}",
        f"dataset.json: labels_digest is not that of {table_of(data, 'records').name}",
        f"dataset.json: {shards(data)[0]} has {about['shards'][0]['bytes'] - 1:,} bytes, and not "
        f"{about['shards'][0]['bytes']:,}",
    ]
    blames_no_shard(data, report, prepared)


def test_records_that_do_not_agree_are_told(data: Path, prepared: Path) -> None:
    frame, name = pl.read_parquet(table_of(data, "records")), table_of(data, "records").name
    change_table(data, "records", frame.with_columns(image_id=pl.col("image_id") + "x"))
    assert lines(verify(data, workers=1))[1] == f"{name}: does not list all images that were prepared"
    (data / name).write_bytes(b"garbled")
    report = verify(data, workers=1)
    assert lines(report)[0].startswith(f"{name}: was changed or damaged after it was written (")
    blames_no_shard(data, report, prepared)


def test_boxes_are_checked(data: Path, prepared: Path) -> None:
    describe(data, boxes={"file": "boxes-00000000.parquet", "sha256": "0" * 64})
    report = verify(data, workers=1)
    assert lines(report) == ["boxes-00000000.parquet: missing from the prepared folder"]
    blames_no_shard(data, report, prepared)


def test_only_deep_sees_bytes_that_were_never_an_image(tmp_path: Path) -> None:
    """The checksums are those of what was written; whether that is an image shows only on decoding."""
    settings = ShardSettings("tiny", "jpeg", 95, (64,), 1024)
    whole = bytes(codecs.encode("jpeg", np.zeros((64, 64), np.uint8)))
    write_prepared(tmp_path, records(tmp_path, 3), settings, [[whole], [b"no image"], [b""]])
    assert verify(tmp_path, workers=1).ok
    name = shards(tmp_path)[0]
    found = lines(verify(tmp_path, deep=True, workers=1))
    assert found[0] == f"{name}: image 00000001_001.png at level 64: the jpeg bytes hold no image, not a 64x64 one"
    assert found[1].startswith(f"{name}: image 00000001_002.png at level 64: the jpeg bytes cannot be decoded (")


def test_only_deep_sees_tiles_that_are_not_where_the_index_of_a_record_says(tmp_path: Path) -> None:
    settings = ShardSettings("tiny", "jpeg", 95, (256, 64), 1024, tiles.RESTART)
    image = cv2.resize(picture(1), (256, 256))
    plain, small = (bytes(codecs.encode("jpeg", it)) for it in (image, image[:64, :64]))
    whole = bytes(codecs.encode("jpeg", image, 95, tiles.RESTART))
    moved = bytearray(whole)
    moved[20 + 13 + 4 * 9 + 3] ^= 1  # where the tenth row of tiles begins
    write_prepared(tmp_path, records(tmp_path, 3), settings, [[whole, small], [plain, small], [bytes(moved), small]])
    assert verify(tmp_path, workers=1).ok
    name = shards(tmp_path)[0]
    assert lines(verify(tmp_path, deep=True, workers=1)) == [
        f"{name}: image 00000001_001.png at level 256: the jpeg bytes hold no index of their tiles",
        f"{name}: image 00000001_002.png at level 256: the rows of jpeg tiles do not lie where the index says",
    ]


def test_a_description_that_tells_of_other_tiles_is_told(data: Path) -> None:
    describe(data, format_version=2, restart=0)
    report = verify(data, workers=1)
    assert lines(report) == [f"{name}: was prepared with other settings than the folder" for name in shards(data)]


def test_a_folder_that_is_not_prepared_is_named(tmp_path: Path, data: Path) -> None:
    with pytest.raises(UserError, match=r"dataset.json: the description of a prepared folder is missing"):
        verify(tmp_path / "nowhere")
    table_of(data, "index").unlink()
    with pytest.raises(UserError, match=r"index-\w+.parquet: missing from the prepared folder"):
        verify(data)
    describe(data, format_version=1)
    with pytest.raises(UserError, match="format version 1, this cxrkit reads 2 and 3\n  remedy: prepare again"):
        verify(data)


# Sources


def test_sources_that_are_the_same_are_the_same(data: Path, prepared: Path, tmp_path: Path) -> None:
    raw = prepared.parent / "raw"
    report = verify_sources(data, raw, records(raw, COUNT), workers=2)
    assert report.ok
    report.raise_if_damaged()
    said = r"raw: the sources of 12 images in .*d, [\d.]+ [kM]B read: all as they were prepared"
    assert re.search(said, report.text())
    archive = tmp_path / "images_001.tar.gz"
    write_archive(archive, raw / "images")
    assert verify_sources(data, raw, records(raw, COUNT, archive=archive), workers=2).ok


def test_sources_that_differ_are_named(data: Path, prepared: Path, tmp_path: Path) -> None:
    """The sure check sees what size and time do not show."""
    raw = Path(shutil.copytree(prepared.parent / "raw", tmp_path / "raw"))
    path = raw / "images" / image_id(2)
    about, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    (raw / "images" / image_id(4)).write_bytes(b"short")
    cohort = records(raw, COUNT)
    (raw / "images" / image_id(5)).unlink()
    hidden = pl.when(pl.col("image_id") == image_id(7)).then(None).otherwise("path").alias("path")
    report = verify_sources(data, raw, Records("tiny", cohort.frame.with_columns(hidden), "unknown"), workers=2)
    assert lines(report) == [
        "image 00000001_002.png: its bytes are not those that were prepared (other checksum)",
        f"image 00000002_001.png: 5 bytes, but {(prepared.parent / 'raw' / 'images' / image_id(4)).stat().st_size:,} "
        "were prepared",
        "image 00000002_002.png: cannot be read (No such file or directory)",
        "image 00000003_001.png: is not in the raw folder",
    ]
    with pytest.raises(UserError, match=r"4 things wrong(.|\n)*remedy: put the files back that were prepared$"):
        report.raise_if_damaged()


def test_changed_sources_are_made_anew_as_the_remedy_says(prepared: Path, tmp_path: Path) -> None:
    """A file of the same size and time passes for the one that was prepared, until it is read."""
    raw = Path(shutil.copytree(prepared.parent / "raw", tmp_path / "raw"))
    settings = PrepareConfig(raw, tmp_path / "d", dataset="tiny", levels=(64,), workers=1)
    prepare(settings, records(raw, COUNT))
    path = raw / "images" / image_id(2)
    about, content = path.stat(), path.read_bytes()
    other = png(255 - picture(2))
    size = max(len(content), len(other))
    path.write_bytes(content.ljust(size))
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    prepare(settings, records(raw, COUNT))
    path.write_bytes(other.ljust(size))
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    before = ShardStore(tmp_path / "d").image(2, 0).astype(int)
    assert prepare(settings, records(raw, COUNT)).reused == COUNT
    report = verify_sources(tmp_path / "d", raw, records(raw, COUNT), workers=1)
    with pytest.raises(UserError, match=r"remedy: put the files back .*; or add --reread to the `cxrkit prepare` com"):
        report.raise_if_damaged()
    assert 0 < prepare(replace(settings, reread=True), records(raw, COUNT)).reused < COUNT
    assert verify_sources(tmp_path / "d", raw, records(raw, COUNT), workers=1).ok
    assert np.abs(255 - before - ShardStore(tmp_path / "d").image(2, 0)).mean() < 4
    assert prepare(replace(settings, reread=True), records(raw, COUNT)).reused == COUNT


def test_sources_of_another_data_set_are_refused(data: Path, prepared: Path) -> None:
    raw = prepared.parent / "raw"
    cohort = records(raw, COUNT)
    message = r"d: prepared from tiny, but .*raw is read as other\n  remedy: add --dataset tiny"
    with pytest.raises(UserError, match=message):
        verify_sources(data, raw, Records("other", cohort.frame, "unknown"))


def test_the_command_line_reads_sources(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    raw, command = tmp_path / "raw [1]", [sys.executable, "-m", "cxrkit"]
    write_images(raw / "images", 20)
    options = ["--raw", str(raw), "--data", str(tmp_path / "d:smile:[2]"), "--dataset", "tiny_cohort:dataset"]
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])

    def call(*arguments: str) -> tuple[int, str]:
        environment = os.environ | {"PYTHONPATH": path}
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, env=environment, check=False)
        return done.returncode, done.stdout + done.stderr

    code, said = call("prepare", *options, "--levels", "256", "--no-tiles")
    assert ShardStore(tmp_path / "d:smile:[2]").about["restart"] == 0
    assert (code, f"20 images in 3 shards in {tmp_path / 'd:smile:[2]'}\n" in said) == (0, True)
    code, said = call("verify", "--source", *options)
    assert (code, f"{raw}: the sources of 20 images in {tmp_path / 'd:smile:[2]'}, " in said) == (0, True)
    (raw / "images" / image_id(1)).write_bytes(b"")
    code, said = call("verify", "--source", *options)
    assert (code, "image 00000001_001.png: 0 bytes, but" in said) == (2, True)
    code, said = call("verify", "--source", "--deep", *options)
    assert (code, "--deep and --source: one reads the shards, the other their sources" in said) == (2, True)


def test_progress_is_printed_where_nobody_watches(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cxrkit.base.progress.LINE_EVERY_SECONDS", 0.0)
    console = Console(file=io.StringIO(), width=200)
    verify(prepared, workers=1, console=console)
    assert [line.split(",")[0] for line in console.file.getvalue().splitlines()] == [
        "verify: 1 of 2 shards",
        "verify: 2 of 2 shards",
    ]
