from __future__ import annotations

import errno
import fcntl
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
import psutil
import pytest
from rich.console import Console
from tiny_cohort import describe, image_id, picture, png, records, shards, table_of, write_archive, write_images

from cxrkit.base.contracts import Note, Records
from cxrkit.base.errors import UserError
from cxrkit.base.files import claimed, read_json
from cxrkit.base.workers import Workers
from cxrkit.prepare.plan import shard_size
from cxrkit.prepare.stage import LOCK, PrepareConfig, default_levels, parse_levels, prepare
from cxrkit.prepare.start import start_last, start_workers
from cxrkit.prepare.summary import PrepareSummary
from cxrkit.prepare.verify import verify
from cxrkit.prepare.worker import pyramid
from cxrkit.shards.file import SOURCE, ShardSettings, read_shard, shard_name, write_shard
from cxrkit.shards.index import Listed, ShardEntry, index_frame, write_generation
from cxrkit.shards.store import ShardStore

COUNT = 20  # images: three shards of 8, 8 and 4


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    write_images(folder / "images", COUNT)
    return folder


@pytest.fixture(scope="module")
def prepared(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder prepared in one go."""
    data = tmp_path_factory.mktemp("prepared") / "shards"
    run(raw, data)
    return data


def run(raw: Path, data: Path, cohort: Records | None = None, **options: object) -> PrepareSummary:
    config = PrepareConfig(raw, data, **{"workers": 2, "levels": (256, 64), **options})
    return prepare(config, cohort or records(raw, COUNT))


def contents(data: Path) -> dict[str, Any]:
    """Return what a prepared folder says and holds, without dates: of its making and of the source files."""
    about = ShardStore(data).about
    named = [about.pop(kind) for kind in ("records", "index", "boxes")]
    tables = {item["file"].partition("-")[0]: pl.read_parquet(data / item["file"]) for item in named if item}
    tables["index"] = tables["index"].drop("file_size", "file_mtime_ns")
    read = {name: read_shard(data / name) for name in shards(data)}
    bytes_of = {
        name: [
            (data / name).read_bytes()[start:][:size] for start, size in zip(t.offset.flat, t.size.flat, strict=True)
        ]
        for name, t in read.items()
    }
    ids = {name: (table.image_ids, [left.reason for left in table.damaged]) for name, table in read.items()}
    about = {key: value for key, value in about.items() if key not in ("created", "damaged")}
    return {"about": about, "images": ids, "bytes": bytes_of} | {
        name: table.to_dicts() for name, table in tables.items()
    }


def copy_of(raw: Path, folder: Path) -> Path:
    shutil.copytree(raw / "images", folder / "images")
    return folder


@contextmanager
def small_disk(folder: Path, size: str, *, read_only: bool = False) -> Iterator[Path]:
    """Mount a tmpfs, or skip."""
    folder.mkdir()
    options = f"size={size}{',ro' if read_only else ''}"
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if os.geteuid() != 0 or shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


# What it writes


def test_everything_is_where_a_reader_looks(raw: Path, tmp_path: Path) -> None:
    cohort = records(raw, COUNT, absent=3)
    summary = run(raw, tmp_path / "d", cohort, codec="raw", allow_missing=True)
    names = sorted(path.name for path in (tmp_path / "d").iterdir())
    expected = ["dataset.json", r"index-\w{8}.parquet", r"records-\w{8}.parquet"]
    expected += [rf"shard-0000{place}-\w{{8}}.h5" for place in ("00", "08", "16")]
    assert len(names) == len(expected)
    assert all(re.fullmatch(pattern, name) for pattern, name in zip(expected, names, strict=True))
    store = ShardStore(tmp_path / "d")
    assert store.records().equals(cohort.frame.select(store.records().columns))
    assert store.index.equals(store.records()[:COUNT])
    assert (store.codec, store.levels) == ("raw", (256, 64))
    index = pl.read_parquet(table_of(tmp_path / "d", "index"))
    assert index["shard"].to_list() == [0] * 8 + [1] * 8 + [2] * 4
    assert index.schema["shard"] == pl.Int32
    assert not {*index.columns} & {"patient_id", "Mass"}, "labels have one home"
    about = store.about
    assert {key: about[key] for key in ("dataset", "label_release", "codec", "quality", "levels", "image_size")} == {
        **{"dataset": "tiny", "label_release": "unknown", "codec": "raw"},
        **{"quality": 0, "levels": [256, 64], "image_size": 1024},
    }
    assert (about["listed_images"], about["prepared_images"], about["missing_images"]) == (COUNT + 3, COUNT, 3)
    assert about["damaged"] == []
    assert [shard["images"] for shard in about["shards"]] == [8, 8, 4]
    assert (summary.images, summary.reused, summary.missing, summary.shards) == (COUNT, 0, 3, 3)
    assert summary.level_bytes == {256: COUNT * 256**2, 64: COUNT * 64**2}
    assert 0 < summary.decoding_share < 1
    text = summary.text()
    assert f"{COUNT} images in 3 shards" in text
    assert "missing: 3 listed images not in the raw folder" in text
    assert "1.4 MB: 256 px 1.3 MB, 64 px 81.9 kB" in text


def test_levels_are_area_averages_of_the_original(raw: Path, tmp_path: Path) -> None:
    run(raw, tmp_path / "d", codec="raw", levels=(1024, 512, 128), limit=9)
    store = ShardStore(tmp_path / "d")
    assert len(store) == 9
    for row in (0, 8):
        original = picture(row)
        assert np.array_equal(store.image(row, 0), original)
        for number, side in ((1, 512), (2, 128)):
            step = 1024 // side
            exact = original.reshape(side, step, side, step).mean((1, 3))
            # Each halving rounds once, by at most 1/2.
            assert np.abs(store.image(row, number) - exact).max() <= np.log2(step) / 2


@pytest.mark.parametrize("codec", ["jpeg", "png", "htj2k", "zstd"])
def test_every_codec_goes_in_and_out(raw: Path, tmp_path: Path, codec: str) -> None:
    run(raw, tmp_path / "d", codec=codec, quality=95, levels=(512,), limit=2)
    store = ShardStore(tmp_path / "d")
    expected = cv2.resize(picture(1), (512, 512), interpolation=cv2.INTER_AREA)
    difference = np.abs(store.image(1, 0).astype(int) - expected).mean()
    assert difference == 0 if codec != "jpeg" else 0 < difference < 1.5


def test_the_number_of_workers_changes_nothing(raw: Path, prepared: Path, tmp_path: Path) -> None:
    run(raw, tmp_path / "d", workers=3)
    assert contents(tmp_path / "d") == contents(prepared)


def test_shard_size_depends_on_the_number_of_images_alone() -> None:
    assert [shard_size(images) for images in (1, 242, 1000, 2000, 4000, 112_120)] == [8, 8, 32, 63, 64, 64]


def test_boxes_are_kept(raw: Path, tmp_path: Path) -> None:
    boxes = pl.DataFrame(
        {"image_id": [image_id(0)], "label": ["Mass"], "x": [1.0], "y": [2.0], "width": [3.0], "height": [4.0]}
    )
    cohort = records(raw, 2)
    run(raw, tmp_path / "d", Records(cohort.dataset, cohort.frame, cohort.label_release, boxes))
    assert pl.read_parquet(table_of(tmp_path / "d", "boxes")).equals(boxes)
    run(raw, tmp_path / "d", cohort)
    assert not list((tmp_path / "d").glob("boxes*")), "they are those of the raw folder, which has none now"
    assert ShardStore(tmp_path / "d").about["boxes"] is None


def test_conversions_are_counted(raw: Path, tmp_path: Path) -> None:
    folder = copy_of(raw, tmp_path / "raw")
    (folder / "images" / image_id(3)).write_bytes(png(cv2.cvtColor(picture(3), cv2.COLOR_GRAY2BGRA)))
    summary = run(folder, tmp_path / "d", records(folder, COUNT), codec="raw", levels=(1024,))
    assert summary.converted == {"RGBA": 1}
    assert "converted to gray: 1 from RGBA" in summary.text()
    assert np.array_equal(ShardStore(tmp_path / "d").image(3, 0), picture(3))


def test_progress_is_printed_where_nobody_watches(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cxrkit.base.progress.LINE_EVERY_SECONDS", 0.0)
    console = Console(file=io.StringIO(), width=200)
    config = PrepareConfig(raw, tmp_path / "d", workers=1, levels=(64,))
    prepare(config, records(raw, COUNT), console=console)
    lines = console.file.getvalue().splitlines()
    assert [line.split(" images")[0] for line in lines] == [
        "prepare: 8 of 20",
        "prepare: 16 of 20",
        "prepare: 20 of 20",
    ]
    assert "images/s" in lines[0]
    assert "left" in lines[0]


# Archives


def test_an_archive_gives_what_loose_files_give(raw: Path, prepared: Path, tmp_path: Path) -> None:
    for mode, name in (("w:gz", "images_001.tar.gz"), ("w", "images_001.tar")):
        archive = tmp_path / name
        write_archive(archive, raw / "images", mode=mode)
        data = tmp_path / f"d{mode[-1]}"
        assert run(raw, data, records(raw, COUNT, archive=archive)).images == COUNT
        one, other = ShardStore(data), ShardStore(prepared)
        assert one.index.equals(other.index)
        for row in range(COUNT):
            assert np.array_equal(one.encoded(row, 0), other.encoded(row, 0))
        assert sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".png") == []


def test_a_finished_archive_is_not_read_again(raw: Path, tmp_path: Path) -> None:
    archive = tmp_path / "images_001.tar.gz"
    write_archive(archive, raw / "images")
    run(raw, tmp_path / "d", records(raw, COUNT, archive=archive))
    before = contents(tmp_path / "d")
    about = archive.stat()
    archive.write_bytes(b"gone bad".ljust(about.st_size))
    os.utime(archive, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert run(raw, tmp_path / "d", records(raw, COUNT, archive=archive)).reused == COUNT
    assert contents(tmp_path / "d") == before


def test_a_half_finished_archive_goes_on_where_it_was(raw: Path, tmp_path: Path) -> None:
    archive = tmp_path / "images_001.tar.gz"
    write_archive(archive, raw / "images")
    cohort = records(raw, COUNT, archive=archive)
    run(raw, tmp_path / "d", cohort)
    before = contents(tmp_path / "d")
    names = shards(tmp_path / "d")
    size = len(read_shard(tmp_path / "d" / names[1]).image_ids)
    (tmp_path / "d" / names[1]).unlink()
    (tmp_path / "d" / "dataset.json").unlink()
    stamp = (tmp_path / "d" / names[2]).stat().st_mtime_ns
    summary = run(raw, tmp_path / "d", cohort)
    assert (summary.shards_reused, summary.reused) == (2, COUNT - size)
    assert (tmp_path / "d" / names[2]).stat().st_mtime_ns == stamp
    assert contents(tmp_path / "d") == before


def test_several_archives_and_loose_files_mix(raw: Path, prepared: Path, tmp_path: Path) -> None:
    names = [image_id(number) for number in range(COUNT)]
    frame = records(raw, COUNT).frame
    for number, cut in enumerate((names[:9], names[9:14])):
        archive = tmp_path / f"images_00{number + 1}.tar.gz"
        write_archive(archive, raw / "images", order=cut)
        inside = pl.col("image_id").is_in(cut)
        frame = frame.with_columns(
            path=pl.when(inside).then(pl.lit(str(archive))).otherwise("path"),
            member=pl.when(inside).then("images/" + pl.col("image_id")).otherwise("member"),
        )
    summary = run(raw, tmp_path / "d", Records("tiny", frame, "unknown"), workers=3)
    assert (summary.images, summary.shards) == (COUNT, 4)
    one, other = ShardStore(tmp_path / "d"), ShardStore(prepared)
    assert one.index.equals(other.index)
    assert all(np.array_equal(one.encoded(row, 1), other.encoded(row, 1)) for row in range(COUNT))


def test_a_truncated_archive_keeps_the_shards_before_it(raw: Path, tmp_path: Path) -> None:
    archive = tmp_path / "images_001.tar.gz"
    order = [image_id(number) for number in range(COUNT)]
    write_archive(archive, raw / "images", order=order)
    whole = archive.read_bytes()
    archive.write_bytes(whole[: len(whole) * 3 // 4])
    cohort = records(raw, COUNT, archive=archive)
    message = (
        r"images_001.tar.gz: this archive is damaged or cut off \(.*\); "
        r"the last good member is images/000000\d\d_00\d.png\n"
        r"  remedy: download it again, then run the same command again; shards already finished are kept"
    )
    with pytest.raises(UserError, match=message):
        run(raw, tmp_path / "d", cohort, workers=1)
    assert len(shards(tmp_path / "d")) == 1
    assert not (tmp_path / "d" / "dataset.json").exists()
    archive.write_bytes(whole)
    assert run(raw, tmp_path / "d", cohort).shards_reused == 1


def test_an_archive_without_its_images_is_named(raw: Path, tmp_path: Path) -> None:
    archive = tmp_path / "images_001.tar.gz"
    write_archive(archive, raw / "images", order=[image_id(number) for number in range(COUNT - 2)])
    with pytest.raises(
        UserError, match=r"this archive ends without 2 of its images \(images/00000007_000.png and others"
    ):
        run(raw, tmp_path / "d", records(raw, COUNT, archive=archive))


def test_garbage_instead_of_an_archive_is_named(raw: Path, tmp_path: Path) -> None:
    archive = tmp_path / "images_001.tar.gz"
    archive.write_bytes(b"\x1f\x8b garbage" * 100)
    with pytest.raises(
        UserError, match=r"images_001.tar.gz: this archive is damaged .* the last good member is nothing"
    ):
        run(raw, tmp_path / "d", records(raw, COUNT, archive=archive))


def test_links_in_an_archive_are_not_followed(raw: Path, tmp_path: Path) -> None:
    import tarfile

    secret = tmp_path / "secret.png"
    secret.write_bytes((raw / "images" / image_id(0)).read_bytes())
    archive = tmp_path / "images_001.tar"
    write_archive(archive, raw / "images", order=[image_id(1)], mode="w")
    with tarfile.open(archive, "a") as tar:
        for number, kind in ((0, tarfile.SYMTYPE), (2, tarfile.LNKTYPE)):
            info = tarfile.TarInfo(f"images/{image_id(number)}")
            info.type, info.linkname = kind, str(secret) if number == 0 else f"images/{image_id(1)}"
            tar.addfile(info)
    summary = run(raw, tmp_path / "d", records(raw, 3, archive=archive), skip_damaged=True)
    assert summary.damaged == {
        image_id(number): f"member 'images/{image_id(number)}' is a link or special, not a plain file"
        for number in (0, 2)
    }


# Damaged images


@pytest.fixture
def damaged(raw: Path, tmp_path: Path) -> Path:
    """Return a raw folder with three bad images, in the first and the last shard."""
    folder = copy_of(raw, tmp_path / "raw")
    (folder / "images" / image_id(2)).write_bytes(b"")
    (folder / "images" / image_id(5)).write_bytes((raw / "images" / image_id(5)).read_bytes()[:50_000])
    (folder / "images" / image_id(19)).unlink()
    (folder / "images" / image_id(19)).mkdir()
    return folder


REASONS = {
    "00000001_002.png": "the file is empty (0 bytes)",
    "00000002_002.png": "the PNG is cut off: pixels are missing",
    "00000007_001.png": "cannot be read (Is a directory)",
}


def test_damaged_images_are_all_listed_and_stop_the_run(damaged: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        run(damaged, tmp_path / "d", records(damaged, COUNT))
    lines = str(caught.value).splitlines()
    assert lines[0].endswith(
        f"raw: 3 damaged images, so {tmp_path / 'd'} is not complete (the shards without damage are kept)"
    )
    assert lines[1:4] == [f"    {image}: {why}" for image, why in REASONS.items()]
    assert lines[4] == "  remedy: download them again and run the same command, or add --skip-damaged to leave them out"
    assert [name[:12] for name in shards(tmp_path / "d")] == ["shard-000008"]
    assert not (tmp_path / "d" / "dataset.json").exists()


def test_damaged_images_can_be_left_out(damaged: Path, tmp_path: Path) -> None:
    cohort = records(damaged, COUNT)
    with pytest.raises(UserError, match="3 damaged images"):
        run(damaged, tmp_path / "d", cohort)
    summary = run(damaged, tmp_path / "d", cohort, skip_damaged=True)
    assert (summary.images, summary.reused, summary.damaged) == (COUNT - 3, 8, REASONS)
    store = ShardStore(tmp_path / "d")
    assert len(store) == COUNT - 3
    assert len(store.records()) == COUNT
    assert not set(store.index["image_id"]) & set(REASONS)
    assert {left["image_id"]: left["reason"] for left in store.about["damaged"]} == REASONS
    assert [left["source"]["size"] for left in store.about["damaged"]] == [0, 50_000, -1]
    assert "left out as damaged: 3 (see dataset.json)" in summary.text()
    again = run(damaged, tmp_path / "d", cohort, skip_damaged=True)
    assert (again.images, again.reused, again.damaged) == (COUNT - 3, COUNT - 3, REASONS)


def test_repaired_images_come_in_with_the_next_run(damaged: Path, raw: Path, prepared: Path, tmp_path: Path) -> None:
    cohort = records(damaged, COUNT)
    run(damaged, tmp_path / "d", cohort, skip_damaged=True)
    with pytest.raises(UserError, match="3 damaged images"):
        run(damaged, tmp_path / "d", cohort)
    assert len(ShardStore(tmp_path / "d")) == COUNT - 3, "a failed run leaves the folder as it was"
    assert verify(tmp_path / "d", workers=1).ok
    (damaged / "images" / image_id(19)).rmdir()
    for number in (2, 5, 19):
        shutil.copy(raw / "images" / image_id(number), damaged / "images")
    assert run(damaged, tmp_path / "d", cohort).reused == 8
    assert contents(tmp_path / "d") == contents(prepared)


def test_a_shard_of_nothing_but_damage_is_empty(raw: Path, tmp_path: Path) -> None:
    folder = copy_of(raw, tmp_path / "raw")
    for number in range(8):
        (folder / "images" / image_id(number)).write_text(f"not an image {number}")
    summary = run(folder, tmp_path / "d", records(folder, COUNT), skip_damaged=True)
    assert (summary.images, len(summary.damaged)) == (COUNT - 8, 8)
    assert ShardStore(tmp_path / "d").image(0, 1).shape == (64, 64)
    assert run(folder, tmp_path / "d", records(folder, COUNT), skip_damaged=True).shards_reused == 3


def test_the_wrong_files_altogether_are_given_up_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cxrkit.prepare.stage._GIVE_UP_AFTER", 25)
    small = png(picture(0)[:224, :224])
    (tmp_path / "raw" / "images").mkdir(parents=True)
    for number in range(300):
        (tmp_path / "raw" / "images" / image_id(number)).write_bytes(small)
    with pytest.raises(UserError, match="224 x 224 pixels, expected 1024 x 1024") as caught:
        run(tmp_path / "raw", tmp_path / "d", records(tmp_path / "raw", 300), workers=1)
    assert int(str(caught.value).split(" damaged")[0].split(": ")[-1]) < 100
    assert "    and " in str(caught.value)


# Interrupted runs

SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from tiny_cohort import records
from cxrkit.prepare.stage import PrepareConfig, prepare
raw = Path({raw!r})
prepare(PrepareConfig(raw, Path({data!r}), workers=2, levels=(256, 64)), records(raw, {count}))
"""


class Held:
    """A preparation in a process of its own that cannot end by itself: its last image is a pipe nobody writes to."""

    def __init__(self, raw: Path, folder: Path, *command: str, output: int = subprocess.PIPE) -> None:
        """Start it, and return once its first shard is there.

        command: of the command line, instead of Python's `prepare`; output: where it prints to.
        """
        self.raw, self.data = copy_of(raw, folder / "raw"), folder / "d"
        self.pipe = self.raw / "images" / image_id(COUNT - 1)
        self.image = self.pipe.read_bytes()
        self.pipe.unlink()
        os.mkfifo(self.pipe)
        tests = str(Path(__file__).parent)
        if command:
            arguments = ["-m", "cxrkit", *command, "--raw", str(self.raw), "--data", str(self.data)]
        else:
            arguments = ["-c", SCRIPT.format(tests=tests, raw=str(self.raw), data=str(self.data), count=COUNT)]
        path = os.pathsep.join([tests, *filter(None, [os.environ.get("PYTHONPATH")])])
        self.process = subprocess.Popen(
            [sys.executable, *arguments], stdout=output, stderr=output, env=os.environ | {"PYTHONPATH": path}
        )
        self.workers: list[psutil.Process] = []
        while self.process.poll() is None and not list(self.data.glob("shard-*.h5")):
            self.workers = psutil.Process(self.process.pid).children() or self.workers
            time.sleep(0.002)

    def stop(self, signal_number: int) -> bytes:
        """Send the signal, let a worker that waits for the last image have it, and return what was printed."""
        self.process.send_signal(signal_number)
        waiting = list(self.workers)
        while waiting:
            try:
                pipe = os.open(self.pipe, os.O_WRONLY | os.O_NONBLOCK)
            except OSError:  # nobody reads it
                waiting = psutil.wait_procs(waiting, timeout=0.01)[1]
                continue
            os.set_blocking(pipe, True)
            with open(pipe, "wb", buffering=0) as file, suppress(BrokenPipeError):  # the reader may go at any moment
                file.write(self.image)
        errors = self.process.communicate()[1] or b""
        self.pipe.unlink()
        self.pipe.write_bytes(self.image)
        return errors


def test_a_killed_run_goes_on_and_ends_in_the_same_files(raw: Path, prepared: Path, tmp_path: Path) -> None:
    held = Held(raw, tmp_path)
    assert len(held.workers) == 2
    held.stop(signal.SIGKILL)  # returns when the workers are gone too
    assert not (held.data / "dataset.json").exists()
    for name in shards(held.data):
        read_shard(held.data / name)
    (held.data / ".shard-2.h5.0123abcd.part").write_bytes(b"what a killed worker left")
    summary = run(held.raw, held.data)
    assert 1 <= summary.shards_reused < 3
    assert contents(held.data) == contents(prepared)


def test_ctrl_c_finishes_what_is_under_way_and_leaves_nothing_half(raw: Path, prepared: Path, tmp_path: Path) -> None:
    held = Held(raw, tmp_path)
    assert b"KeyboardInterrupt" in held.stop(signal.SIGINT)
    assert not list(held.data.glob(".*"))
    assert not (held.data / "dataset.json").exists()
    assert run(held.raw, held.data).shards_reused >= 2
    assert contents(held.data) == contents(prepared)


@pytest.mark.parametrize("terminal", [False, True])
def test_ctrl_c_says_what_is_kept_and_how_to_go_on(raw: Path, tmp_path: Path, terminal: bool) -> None:
    command = ("prepare", "--dataset", "tiny_cohort:dataset", "--levels", "256,64", "--workers", "2")
    ours, theirs = os.openpty()
    held = Held(raw, tmp_path, *command, output=theirs if terminal else subprocess.PIPE)
    os.close(theirs)
    said = held.stop(signal.SIGINT)
    if terminal:
        os.set_blocking(ours, False)
        with suppress(OSError):  # EIO: the other end is closed
            while piece := os.read(ours, 1 << 16):
                said += piece
    os.close(ours)
    line = "interrupted: shards that are finished are kept, and a folder that was prepared before is as it was; "
    assert line + "the same command goes on where this one was" in " ".join(said.decode().split())
    assert held.process.returncode == 130
    assert run(held.raw, held.data).shards_reused >= 1


def test_a_worker_that_is_killed_is_an_error_and_not_a_hang(raw: Path, tmp_path: Path) -> None:
    config = PrepareConfig(raw, tmp_path / "d", levels=(64,))
    with Workers(1, "cxrkit.prepare.worker:make_shard") as pool:
        victim = pool._workers[0].process_id
        assert victim is not None
        os.kill(victim, signal.SIGKILL)
        message = (
            r"a worker process \(pid \d+\) was killed; most likely the machine ran out of memory\n  remedy: .*fewer"
        )
        with pytest.raises(UserError, match=message):
            prepare(config, records(raw, COUNT), workers=pool)


def test_a_second_run_keeps_everything(raw: Path, prepared: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(prepared, tmp_path / "d"))
    stamps = [path.stat().st_mtime_ns for path in sorted(data.glob("shard-*"))]
    summary = run(raw, data)
    assert (summary.images, summary.reused, summary.shards_reused) == (COUNT, COUNT, 3)
    assert [path.stat().st_mtime_ns for path in sorted(data.glob("shard-*"))] == stamps
    assert "kept 20 from an earlier run (3 shards)" in summary.text()
    assert contents(data) == contents(prepared)


def test_nothing_left_to_do_starts_no_process(raw: Path, prepared: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(prepared, tmp_path / "d"))
    config = PrepareConfig(raw, data, levels=(256, 64))
    with start_workers(data, 2) as pool:
        assert prepare(config, records(raw, COUNT), workers=pool).reused == COUNT
        assert [worker.process_id for worker in pool._workers] == [None, None]
        (data / shards(data)[0]).unlink()
        assert prepare(config, records(raw, COUNT), workers=pool).shards_reused == 2


def test_all_workers_but_one_are_started_before_the_rest_is_loaded(tmp_path: Path) -> None:
    with start_workers(tmp_path / "new", 2) as pool:
        assert [worker.process_id is not None for worker in pool._workers] == [True, False]
        start_last(pool, tmp_path / "new")
        assert all(worker.process_id is not None for worker in pool._workers)
    with start_workers(tmp_path / "new", 1) as pool:
        assert pool._workers[0].process_id is not None
    with start_workers(tmp_path / "new", 2, needed=False) as pool:
        assert [worker.process_id for worker in pool._workers] == [None, None]


@pytest.mark.parametrize("damage", ["truncated", "garbage", "gone"])
def test_a_broken_shard_is_made_again(raw: Path, prepared: Path, tmp_path: Path, damage: str) -> None:
    data = Path(shutil.copytree(prepared, tmp_path / "d"))
    path = data / shards(data)[1]
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-700] if damage == "truncated" else b"garbage")
    assert run(raw, data).shards_reused == 2
    assert contents(data) == contents(prepared)


def test_two_preparations_do_not_share_a_folder(raw: Path, tmp_path: Path) -> None:
    message = r"d: another cxrkit prepare is writing here \(process \d+ on .*\)\n  remedy: wait for it"
    with claimed(tmp_path / "d" / LOCK, "test", "none"), pytest.raises(UserError, match=message):
        run(raw, tmp_path / "d")


# Sources


def negative(path: Path) -> None:
    """Replace the PNG by its negative."""
    path.write_bytes(png(255 - cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)))


@pytest.mark.parametrize("same", ["nothing", "time", "size"])
def test_replaced_images_are_prepared_again(raw: Path, tmp_path: Path, same: str) -> None:
    folder = copy_of(raw, tmp_path / "raw")
    paths = [folder / "images" / image_id(number) for number in range(COUNT)]
    for path in paths:
        path.write_bytes(path.read_bytes().ljust(2_000_000))  # what follows a PNG's end is no part of the image
    run(folder, tmp_path / "d", codec="raw")
    old, names = ShardStore(tmp_path / "d"), shards(tmp_path / "d")
    for path in paths:
        before = path.stat()
        negative(path)
        if same == "size":
            path.write_bytes(path.read_bytes().ljust(2_000_000))
        elif same == "time":
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        now = path.stat()
        assert (now.st_size == before.st_size, now.st_mtime_ns == before.st_mtime_ns) == (
            same == "size",
            same == "time",
        )
    summary = run(folder, tmp_path / "d", codec="raw")
    assert (summary.images, summary.reused, summary.shards_reused) == (COUNT, 0, 0)
    new = ShardStore(tmp_path / "d")
    for row in range(COUNT):
        # Each of four halvings rounds.
        assert np.abs(255 - old.image(row, 1).astype(int) - new.image(row, 1)).max() <= 4
    assert new.pixels_digest != old.pixels_digest
    assert not set(names) & set(shards(tmp_path / "d")), "what is replaced is removed"


def test_one_replaced_image_remakes_its_shard_alone(raw: Path, tmp_path: Path) -> None:
    folder = copy_of(raw, tmp_path / "raw")
    run(folder, tmp_path / "d")
    names = shards(tmp_path / "d")
    negative(folder / "images" / image_id(9))
    assert run(folder, tmp_path / "d").shards_reused == 2
    assert len(set(names) & set(shards(tmp_path / "d"))) == 2
    assert contents(tmp_path / "d") == contents_of_a_fresh_run(folder, tmp_path / "fresh")


def contents_of_a_fresh_run(raw: Path, data: Path, **options: object) -> dict[str, Any]:
    run(raw, data, **options)
    return contents(data)


def test_touched_and_copied_images_keep_their_shards(raw: Path, tmp_path: Path) -> None:
    folder = copy_of(raw, tmp_path / "raw")
    run(folder, tmp_path / "d")
    before, stamp = contents(tmp_path / "d"), (10**9, 10**9)
    for path in (folder / "images").iterdir():
        os.utime(path, ns=stamp)
    assert run(folder, tmp_path / "d").reused == COUNT
    assert contents(tmp_path / "d") == before
    # The new times are known from now on, and nothing is read again: it would be found changed.
    for path in (folder / "images").iterdir():
        path.write_bytes(bytes(path.stat().st_size))
        os.utime(path, ns=stamp)
    assert run(folder, tmp_path / "d").reused == COUNT


@pytest.mark.parametrize("change", ["touched", "packed anew", "replaced"])
def test_an_archive_that_was_changed_is_read_again(raw: Path, tmp_path: Path, change: str) -> None:
    folder = copy_of(raw, tmp_path / "raw")
    archive = tmp_path / "images_001.tar.gz"
    write_archive(archive, folder / "images")
    run(raw, tmp_path / "d", records(raw, COUNT, archive=archive))
    before = contents(tmp_path / "d")
    if change == "touched":
        os.utime(archive, (1, 1))
    else:
        if change == "replaced":
            negative(folder / "images" / image_id(3))
        write_archive(archive.with_suffix(""), folder / "images", mode="w")
        archive.with_suffix("").replace(archive)
    summary = run(raw, tmp_path / "d", records(raw, COUNT, archive=archive))
    assert summary.shards_reused == (2 if change == "replaced" else 3)
    assert (contents(tmp_path / "d") == before) == (change != "replaced")
    again = run(raw, tmp_path / "d", records(raw, COUNT, archive=archive))
    assert again.shards_reused == 3


def test_other_labels_keep_every_shard(raw: Path, tmp_path: Path) -> None:
    run(raw, tmp_path / "d")
    old = ShardStore(tmp_path / "d")
    stamps = {name: (tmp_path / "d" / name).stat().st_mtime_ns for name in shards(tmp_path / "d")}
    cohort = records(raw, COUNT)
    other = Records(cohort.dataset, cohort.frame.with_columns(~pl.col("Mass")), "2017")
    assert run(raw, tmp_path / "d", other).reused == COUNT
    assert {name: (tmp_path / "d" / name).stat().st_mtime_ns for name in shards(tmp_path / "d")} == stamps
    new = ShardStore(tmp_path / "d")
    assert new.index["Mass"].to_list() == (~old.index["Mass"]).to_list()
    assert new.about["label_release"] == "2017"
    assert (new.pixels_digest, new.labels_digest == old.labels_digest) == (old.pixels_digest, False)
    assert len(list((tmp_path / "d").glob("records-*"))) == 1


def test_an_image_is_looked_at_again_once_it_changed(raw: Path, tmp_path: Path) -> None:
    folder = copy_of(raw, tmp_path / "raw")
    path = folder / "images" / image_id(2)
    path.write_bytes(b"")
    run(folder, tmp_path / "d", skip_damaged=True)
    assert run(folder, tmp_path / "d", skip_damaged=True).reused == COUNT - 1
    shutil.copy(raw / "images" / image_id(2), path)
    summary = run(folder, tmp_path / "d", skip_damaged=True)
    assert (summary.images, summary.reused, summary.damaged) == (COUNT, COUNT - 8, {})


def test_a_repaired_image_of_the_same_size_and_time_is_seen(raw: Path, tmp_path: Path) -> None:
    """As `rsync --checksum --times` repairs a file in which a bit was wrong."""
    folder = copy_of(raw, tmp_path / "raw")
    path = folder / "images" / image_id(2)
    whole, about = path.read_bytes(), path.stat()
    broken = bytearray(whole)
    broken[len(whole) // 2] ^= 1
    path.write_bytes(broken)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert run(folder, tmp_path / "d", skip_damaged=True).images == COUNT - 1
    assert run(folder, tmp_path / "d", skip_damaged=True).reused == COUNT - 1
    path.write_bytes(whole)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert run(folder, tmp_path / "d", skip_damaged=True).images == COUNT


@pytest.mark.parametrize(("good", "remedy"), [(1, "command, or add --skip-damaged to leave them out"), (0, "command")])
def test_leaving_out_is_advised_where_something_is_left(raw: Path, tmp_path: Path, good: int, remedy: str) -> None:
    folder = copy_of(raw, tmp_path / "raw")
    for number in range(good, COUNT):
        (folder / "images" / image_id(number)).write_bytes(b"")
    with pytest.raises(UserError, match=rf"\n  remedy: download them again and run the same {remedy}$"):
        run(folder, tmp_path / "d")


def test_nothing_but_damage_is_an_error(raw: Path, tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    (folder / "images").mkdir(parents=True)
    for number in range(3):
        (folder / "images" / image_id(number)).write_bytes(b"")
    message = r"raw: all 3 images at hand are damaged: nothing to prepare\n    00000001_000.png: the file is empty"
    with pytest.raises(UserError, match=message):
        run(folder, tmp_path / "d", records(folder, 3), skip_damaged=True)
    assert not (tmp_path / "d" / "dataset.json").exists()


# Generations


def test_a_failed_extension_leaves_the_folder_usable(raw: Path, tmp_path: Path) -> None:
    folder = copy_of(raw, tmp_path / "raw")
    run(folder, tmp_path / "d", limit=COUNT - 1)
    before = contents(tmp_path / "d")
    store = ShardStore(tmp_path / "d")
    (folder / "images" / image_id(COUNT - 1)).write_bytes(b"")
    with pytest.raises(UserError, match=r"1 damaged image, so .* is as it was before \(the shards without"):
        run(folder, tmp_path / "d")
    assert contents(tmp_path / "d") == before
    assert verify(tmp_path / "d", workers=1).ok
    assert store.index.equals(ShardStore(tmp_path / "d").index)
    # A smaller run afterwards is refused, and takes nothing away.
    with pytest.raises(UserError, match="of which this run would drop 10"):
        run(folder, tmp_path / "d", limit=9)
    assert contents(tmp_path / "d") == before


def test_what_a_run_leaves_out_stays(raw: Path, tmp_path: Path) -> None:
    run(raw, tmp_path / "d")
    all_shards = shards(tmp_path / "d")
    (tmp_path / "d" / "dataset.json").unlink()
    summary = run(raw, tmp_path / "d", limit=8)
    assert (summary.images, summary.reused) == (8, 8)
    assert shards(tmp_path / "d") == all_shards
    report = verify(tmp_path / "d", workers=1)
    assert report.ok
    assert [note.split()[0] for note in report.notes] == all_shards[1:]
    assert f"  note: {all_shards[1]} is not one of the shards that dataset.json names" in report.text()
    assert run(raw, tmp_path / "d").reused == COUNT


def test_a_good_image_that_was_damaged_later_is_not_lost(raw: Path, tmp_path: Path) -> None:
    folder = copy_of(raw, tmp_path / "raw")
    run(folder, tmp_path / "d")
    names = shards(tmp_path / "d")
    whole = (folder / "images" / image_id(2)).read_bytes()
    (folder / "images" / image_id(2)).write_bytes(whole[:5000])
    assert run(folder, tmp_path / "d", skip_damaged=True).images == COUNT - 1
    assert set(names) < set(shards(tmp_path / "d"))
    (folder / "images" / image_id(2)).write_bytes(whole)
    assert run(folder, tmp_path / "d", skip_damaged=True).reused == COUNT
    assert shards(tmp_path / "d") == names


def test_a_reader_keeps_the_generation_that_it_opened(raw: Path, tmp_path: Path) -> None:
    folder = copy_of(raw, tmp_path / "raw")
    run(folder, tmp_path / "d", codec="raw")
    store = ShardStore(tmp_path / "d")
    expected = cv2.resize(picture(4), (512, 512), interpolation=cv2.INTER_AREA)
    expected = cv2.resize(expected, (256, 256), interpolation=cv2.INTER_AREA)
    for path in (folder / "images").iterdir():
        negative(path)
    run(folder, tmp_path / "d", codec="raw")
    assert np.array_equal(store.image(4, 0), expected)


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"format_version": 2}', "{"])
def test_a_broken_description_is_written_anew(raw: Path, prepared: Path, tmp_path: Path, text: str) -> None:
    data = Path(shutil.copytree(prepared, tmp_path / "d"))
    (data / "dataset.json").write_text(text)
    assert run(raw, data).reused == COUNT
    assert contents(data) == contents(prepared)


@pytest.mark.parametrize("kind", ["records", "index"])
def test_broken_tables_are_written_anew(raw: Path, prepared: Path, tmp_path: Path, kind: str) -> None:
    data = Path(shutil.copytree(prepared, tmp_path / "d"))
    table_of(data, kind).write_bytes(b"PAR1 garbled PAR1")
    assert run(raw, data).reused == COUNT
    assert contents(data) == contents(prepared)


def test_a_folder_of_the_first_version_is_refused(raw: Path, prepared: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(prepared, tmp_path / "d"))
    describe(data, format_version=1)
    message = r"d/dataset.json: format version 1, this cxrkit reads 2 and 3\n  remedy: prepare again with this version"
    with pytest.raises(UserError, match=message):
        run(raw, data)


# Tiles


def test_jpegs_are_written_in_tiles_unless_told_not_to(raw: Path, prepared: Path, tmp_path: Path) -> None:
    summary = run(raw, tmp_path / "plain", tiles=False)
    assert summary.notes == ()
    tiled, plain = ShardStore(prepared), ShardStore(tmp_path / "plain")
    assert (tiled.about["format_version"], tiled.about["restart"]) == (3, 16)
    assert (plain.about["format_version"], plain.about["restart"]) == (2, 0)
    assert tiled.settings_digest == plain.settings_digest
    window = 130, 40, 250, 90
    for row in range(COUNT):
        assert np.array_equal(tiled.image(row, 0), plain.image(row, 0))
        assert np.array_equal(tiled.window(row, 0, window), plain.image(row, 0)[40:90, 130:250])
        assert len(tiled.encoded_window(row, 0, window)[0]) < len(tiled.encoded(row, 0)) / 2
    assert contents(tmp_path / "plain")["bytes"] == before_tiles(raw, tmp_path / "before")


def before_tiles(raw: Path, data: Path) -> dict[str, list[bytes]]:
    """Return the shards of a folder as they were before there were tiles: written without a word of them."""
    data.mkdir()
    settings = ShardSettings("tiny", "jpeg", 95, (256, 64), 1024)
    originals = [cv2.imread(str(raw / "images" / image_id(number)), cv2.IMREAD_GRAYSCALE) for number in range(COUNT)]
    encoded = [
        [cv2.imencode(".jpg", level, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes() for level in pyramid(it, (256, 64))]
        for it in originals
    ]
    cohort = records(raw, COUNT).frame["image_id"].to_list()
    tables = []
    for start in range(0, COUNT, 8):
        names = cohort[start : start + 8]
        paths = [raw / "images" / name for name in names]
        source = [(len(path.read_bytes()), zlib.crc32(path.read_bytes())) for path in paths]
        lines = [(name, *it) for name, it in zip(names, source, strict=True)]
        stamps = [(it.st_size, it.st_mtime_ns) for it in map(Path.stat, paths)]
        rows = np.array([(*one, *other) for one, other in zip(source, stamps, strict=True)], SOURCE)
        name = shard_name(start, settings, lines)
        tables.append(replace(write_shard(data / name, settings, names, rows, encoded[start : start + 8]), file=name))
    entries = [ShardEntry(table.file, len(table.image_ids), table.bytes) for table in tables]
    index = index_frame(tables, settings.levels)
    write_generation(data, Listed.of(records(raw, COUNT)), settings, index, entries)
    return {
        table.file: [bytes(level) for image in encoded[start:][:8] for level in image]
        for table, start in zip(tables, range(0, COUNT, 8), strict=True)
    }


@pytest.mark.parametrize("described", [True, False])
def test_a_folder_that_was_begun_without_tiles_goes_on_without(raw: Path, tmp_path: Path, described: bool) -> None:
    before = before_tiles(raw, tmp_path / "d")
    digest = ShardStore(tmp_path / "d").settings_digest
    names = list(before)
    (tmp_path / "d" / names[1]).unlink()
    if not described:
        (tmp_path / "d" / "dataset.json").unlink()
    summary = run(raw, tmp_path / "d")
    assert (summary.shards_reused, summary.images) == (2, COUNT)
    assert "note: the folder was prepared without JPEG tiles, and goes on without" in summary.text()
    assert "remedy: to have them, prepare into another --data folder" in summary.text()
    assert contents(tmp_path / "d")["bytes"] == before
    store = ShardStore(tmp_path / "d")
    assert (store.about["format_version"], store.settings_digest) == (2, digest)
    assert verify(tmp_path / "d", deep=True, workers=1).ok
    assert run(raw, tmp_path / "d", tiles=False).notes == ()


def test_a_folder_with_tiles_is_not_continued_without(raw: Path, prepared: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(prepared, tmp_path / "d"))
    message = (
        r"d/dataset\.json: was prepared with JPEG tiles \(asked for: no JPEG tiles, as by --no-tiles\)\n"
        "  remedy: choose another --data folder"
    )
    with pytest.raises(UserError, match=message):
        run(raw, data, tiles=False)
    (data / "dataset.json").unlink()
    with pytest.raises(UserError, match=r"shard-.*h5: was prepared with JPEG tiles \(asked for: no JPEG tiles"):
        run(raw, data, tiles=False)
    assert run(raw, data).reused == COUNT


@pytest.mark.parametrize("codec", ["raw", "png"])
def test_only_jpegs_have_tiles(raw: Path, tmp_path: Path, codec: str) -> None:
    one, other = (run(raw, tmp_path / str(tiles), codec=codec, limit=8, tiles=tiles).data for tiles in (True, False))
    assert contents(one) == contents(other)
    assert ShardStore(one).about["format_version"] == 2


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, 524])
def test_a_disk_without_locks_is_no_obstacle(raw: Path, tmp_path: Path, monkeypatch: Any, number: int) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, "no locks here")

    monkeypatch.setattr("fcntl.flock", refuse)
    monkeypatch.setenv("HDF5_USE_FILE_LOCKING", "TRUE")
    assert run(raw, tmp_path / "d", limit=8).images == 8
    assert run(raw, tmp_path / "d").shards_reused == 1
    assert verify(tmp_path / "d", workers=1).ok


def test_shards_that_somebody_locks_are_read(raw: Path, prepared: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(prepared, tmp_path / "d"))
    with open(data / shards(data)[0], "rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert verify(data, workers=1).ok
        assert run(raw, data).reused == COUNT


def test_brackets_in_a_path_are_no_pattern(raw: Path, tmp_path: Path) -> None:
    folder = copy_of(raw, tmp_path / "raw[1]")
    (tmp_path / "d1").mkdir()
    summary = run(folder, tmp_path / "d[1]", records(folder, COUNT))
    assert summary.images == COUNT
    assert run(folder, tmp_path / "d[1]", records(folder, COUNT)).reused == COUNT
    assert len(ShardStore(tmp_path / "d[1]")) == COUNT
    assert verify(tmp_path / "d[1]", workers=1).ok
    assert list((tmp_path / "d1").iterdir()) == []


# Other settings, other images


def test_other_settings_are_refused_and_named(raw: Path, prepared: Path, tmp_path: Path) -> None:
    before = contents(prepared)
    message = r"dataset.json: was prepared with quality 95 \(asked for: 80\), levels 256,64 \(asked for: 512\)\n"
    with pytest.raises(UserError, match=message + "  remedy: choose another --data folder, delete"):
        run(raw, prepared, quality=80, levels=(512,))
    assert contents(prepared) == before
    unfinished = Path(shutil.copytree(prepared, tmp_path / "d"))
    (unfinished / "dataset.json").unlink()
    with pytest.raises(UserError, match=r"shard-000000-\w+.h5: was prepared with codec jpeg \(asked for: png\)"):
        run(raw, unfinished, codec="png")


def test_more_images_extend_a_folder(raw: Path, prepared: Path, tmp_path: Path) -> None:
    run(raw, tmp_path / "d", limit=8)
    assert len(ShardStore(tmp_path / "d")) == 8
    assert run(raw, tmp_path / "d").shards_reused == 1
    assert contents(tmp_path / "d") == contents(prepared)


def test_fewer_images_would_lose_some_and_are_refused(raw: Path, prepared: Path) -> None:
    before = contents(prepared)
    message = (
        r"holds 20 prepared images, of which this run would drop 11 \(00000004_000.png and others\)\n  remedy: choose"
    )
    with pytest.raises(UserError, match=message):
        run(raw, prepared, limit=9)
    assert contents(prepared) == before


def test_missing_images_need_leave(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"4 of 24 images are missing\n  remedy: download the rest, or .*--allow-missing"
    ):
        run(raw, tmp_path / "d", records(raw, COUNT, absent=4))
    with pytest.raises(UserError, match="holds none of the listed images"):
        run(raw, tmp_path / "d", records(raw, 0, absent=4), allow_missing=True)


# Resized copies


def resized(raw: Path, folder: Path, side: int, count: int = 3) -> Records:
    """Write `count` images of `side` pixels; return their records."""
    (folder / "images").mkdir(parents=True)
    for number in range(count):
        small = cv2.resize(picture(number), (side, side), interpolation=cv2.INTER_AREA)
        (folder / "images" / image_id(number)).write_bytes(png(small))
    cohort = records(folder, count)
    return Records(cohort.dataset, cohort.frame, cohort.label_release, side=side)


def test_a_resized_copy_needs_leave(raw: Path, tmp_path: Path) -> None:
    cohort = resized(raw, tmp_path / "raw", 224)
    message = (
        r"raw: its images are 224 x 224 pixels, the original ones 1024 x 1024: a resized copy\n"
        r"  remedy: download the original, or add --resized"
    )
    with pytest.raises(UserError, match=message):
        run(tmp_path / "raw", tmp_path / "d", cohort, levels=None)


def test_a_copy_too_small_is_not_advised_to_be_prepared(raw: Path, tmp_path: Path) -> None:
    message = r"raw: its images are 20 x 20 pixels, expected at least 32 x 32\n  remedy: download the original"
    cohort = resized(raw, tmp_path / "raw", 20)
    for leave in (False, True):
        with pytest.raises(UserError, match=message):
            run(tmp_path / "raw", tmp_path / "d", cohort, levels=None, resized=leave)


def test_an_enlarged_copy_needs_leave_too(raw: Path, tmp_path: Path) -> None:
    cohort = resized(raw, tmp_path / "raw", 2048, 1)
    with pytest.raises(UserError, match=r"2048 x 2048 pixels, the original ones 1024 x 1024: a resized copy"):
        run(tmp_path / "raw", tmp_path / "d", cohort, levels=None)
    assert run(tmp_path / "raw", tmp_path / "d", cohort, levels=(64,), resized=True).images == 1


@pytest.mark.parametrize(("side", "levels"), [(224, (224,)), (320, (320, 160)), (512, (512, 256))])
def test_a_resized_copy_says_so(raw: Path, tmp_path: Path, side: int, levels: tuple[int, ...]) -> None:
    cohort = resized(raw, tmp_path / "raw", side)
    run(tmp_path / "raw", tmp_path / "d", cohort, levels=None, resized=True, codec="raw")
    store = ShardStore(tmp_path / "d")
    assert (store.levels, store.image_size, store.about["image_size"]) == (levels, side, side)
    expected = cv2.resize(picture(2), (side, side), interpolation=cv2.INTER_AREA)
    assert np.array_equal(store.image(2, 0), expected)
    assert store.image(2, len(levels) - 1).shape == (levels[-1], levels[-1])
    full = resized(raw, tmp_path / "full", 1024)
    run(tmp_path / "full", tmp_path / "f", full, levels=(256,), resized=True, codec="raw")
    assert ShardStore(tmp_path / "f").settings_digest != store.settings_digest


def test_an_image_of_another_size_is_damaged(raw: Path, tmp_path: Path) -> None:
    cohort = resized(raw, tmp_path / "raw", 256)
    (tmp_path / "raw" / "images" / image_id(1)).write_bytes(png(picture(1)))
    with pytest.raises(UserError, match=r"00000001_001.png: 1024 x 1024 pixels, expected 256 x 256"):
        run(tmp_path / "raw", tmp_path / "d", cohort, levels=None, resized=True)


@pytest.mark.parametrize(
    ("side", "levels"),
    [(1024, (1024, 512, 256)), (512, (512, 256)), (320, (320, 160)), (256, (256,)), (224, (224,)), (299, (299,))],
)
def test_default_levels_are_halves(side: int, levels: tuple[int, ...]) -> None:
    assert default_levels(side) == levels


@pytest.mark.parametrize(
    ("side", "levels", "message"),
    [
        (224, (1024, 512), "--levels 1024,512: 1024 does not divide 224 or is not within 32 to 224\n  remedy: .*224"),
        (300, (150, 100), "--levels 150,100: 100 does not divide 150\n  remedy: write them like 300"),
    ],
)
def test_levels_of_a_resized_copy(raw: Path, tmp_path: Path, side: int, levels: tuple[int, ...], message: str) -> None:
    cohort = resized(raw, tmp_path / "raw", side, 1)
    with pytest.raises(UserError, match=message):
        run(tmp_path / "raw", tmp_path / "d", cohort, levels=levels, resized=True)


# The disk


def test_a_full_disk_keeps_what_is_finished(raw: Path, tmp_path: Path) -> None:
    message = r"shard-0000\d+-\w+.h5: the disk is full; the file was not written.*\n  remedy: free some space or choose"
    with small_disk(tmp_path / "disk", "1500k") as disk:
        # Raw levels of 256 pixels: 0.5 MB per shard of eight, so the second or the third shard is one too many.
        filler = disk / "filler"
        filler.write_bytes(bytes(700_000))
        with pytest.raises(UserError, match=message):
            run(raw, disk / "d", codec="raw", levels=(256,), workers=1)
        assert [path.name[:12] for path in (disk / "d").iterdir()] == ["shard-000000"]
        filler.unlink()
        assert run(raw, disk / "d", codec="raw", levels=(256,), limit=16).shards_reused == 1
        # Extending it fails in the same way, and what was complete stays complete.
        before = contents(disk / "d")
        filler.write_bytes(bytes(os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize - 100_000))
        with pytest.raises(UserError, match=message):
            run(raw, disk / "d", codec="raw", levels=(256,))
        assert contents(disk / "d") == before
        assert verify(disk / "d", workers=1).ok


def test_a_read_only_output_is_named(raw: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "1m", read_only=True) as disk:
        message = (
            r"disk/d/.lock: cannot be written \(Read-only file system\)\n  remedy: choose an output folder that you may"
        )
        with pytest.raises(UserError, match=message):
            run(raw, disk / "d")
        with pytest.raises(UserError, match=r"disk/.lock: cannot be written \(Read-only file system\)"):
            run(raw, disk)


# The config


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"codec": "webp"}, "unknown codec 'webp'"),
        ({"levels": (512, 1024)}, "--levels 512,1024: not in descending order\n  remedy: write them like 1024,512,256"),
        ({"levels": (512, 512)}, "--levels 512,512: not in descending order"),
        ({"levels": (1000,)}, "--levels 1000: 1000 does not divide 1024 or is not within 32 to 1024"),
        ({"levels": (512, 16)}, "16 does not divide 1024 or is not within 32 to 1024"),
        ({"levels": (2048,)}, "2048 does not divide 1024"),
        ({"levels": (0,)}, "0 does not divide 1024"),
        ({"levels": ()}, "--levels: there must be at least one"),
        ({"quality": 0}, "--quality 0: not a JPEG quality\n  remedy: choose 1 to 100"),
        ({"quality": 101}, "--quality 101"),
        ({"workers": 0}, "--workers 0: there must be at least one"),
        ({"limit": 0}, "--limit 0: leaves no image"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        PrepareConfig(tmp_path, tmp_path.parent / "data", **options)


def test_folders_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "raw").mkdir()
    data = tmp_path / "data"
    with pytest.raises(UserError, match=r"--raw .*nowhere: does not exist\n  remedy: name the folder that holds"):
        PrepareConfig(tmp_path / "nowhere", data)
    with pytest.raises(UserError, match=r"--raw .*file: is not a folder"):
        PrepareConfig(tmp_path / "file", data)
    with pytest.raises(UserError, match=r"--data .*file: is a file, expected a folder"):
        PrepareConfig(tmp_path / "raw", tmp_path / "file")
    for inside in (tmp_path, data):
        with pytest.raises(UserError, match=r"lies inside the raw folder .*, which is only ever read"):
            PrepareConfig(tmp_path, inside)


def test_levels_are_parsed() -> None:
    assert parse_levels("1024,512, 256") == (1024, 512, 256)
    with pytest.raises(UserError, match="--levels 'big,small': not a list of side lengths\n  remedy: write them like"):
        parse_levels("big,small")


def test_real_images(nih_raw: Path, tmp_path: Path) -> None:
    """Prepare 40 real images, RGBA ones among them; JPEG at quality 95 keeps each within 40 dB."""
    from cxrkit.base import registry

    cohort = registry.load("dataset", "nih-chestxray14")(nih_raw, allow_missing=True)
    files = {path.name: path for path in sorted((nih_raw / "images").glob("*.png"))}
    rgba = [name for name, path in files.items() if path.read_bytes()[25] == 6]
    chosen = sorted({*rgba, *list(files)[:36]})[:40]
    frame = cohort.frame.with_columns(path=pl.when(pl.col("image_id").is_in(chosen)).then("path"))
    config = PrepareConfig(nih_raw, tmp_path / "d", workers=2, allow_missing=True)
    summary = prepare(config, Records(cohort.dataset, frame, cohort.label_release, cohort.boxes))
    store = ShardStore(tmp_path / "d")
    assert summary.images == len(store) == len(chosen)
    assert summary.converted["RGBA"] == len(set(rgba) & set(chosen)) > 0
    for row in range(0, len(store), 5):
        original = cv2.imread(str(files[store.index["image_id"][row]]), cv2.IMREAD_GRAYSCALE)
        error = np.mean((store.image(row, 0).astype(float) - original) ** 2)
        assert 10 * np.log10(255**2 / error) > 40
    assert read_json(tmp_path / "d" / "dataset.json", "", "")["listed_images"] == len(cohort.frame)


def test_what_was_passed_over_is_printed(raw: Path, tmp_path: Path) -> None:
    """A raw folder's reader may have met things that it did not take: nothing is passed over in silence."""
    cohort = replace(records(raw, COUNT), notes=(Note("raw/x.rar: not read", "unpack it yourself"),))
    text = run(raw, tmp_path / "d", cohort).text()
    assert "  note: raw/x.rar: not read\n    remedy: unpack it yourself" in text
