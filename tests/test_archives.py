from __future__ import annotations

import gzip
import io
import os
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cxrkit.archives import ArchiveReader
from cxrkit.errors import UserError

FILES = {f"images/{number}.png": bytes([number]) * (700 * number + 1) for number in (5, 3, 9, 1, 7)}


@pytest.fixture
def buffer() -> Iterator[int]:
    with tempfile.TemporaryFile() as file:
        yield file.fileno()


def packed(style: int = tarfile.GNU_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=style) as tar:
        for name, data in FILES.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def runs(reader: ArchiveReader, buffer: int) -> list[list[tuple[int, bytes]]]:
    found = []
    while not reader.exhausted:
        run = reader.next_run(buffer)
        found.append([(member.row, os.pread(buffer, member.size, member.offset)) for member in run])
    reader.close()
    return found


def expected(names: list[str]) -> list[tuple[int, bytes]]:
    return [(int(Path(name).stem), FILES[name]) for name in names]


@pytest.mark.parametrize("style", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
@pytest.mark.parametrize("kind", ["plain", "gzip", "two gzip members", "gzip and zeros"])
def test_members_come_in_runs_in_the_archives_order(tmp_path: Path, buffer: int, kind: str, style: int) -> None:
    data = packed(style)
    path = tmp_path / "archive"
    path.write_bytes(
        {
            "plain": data,
            "gzip": gzip.compress(data),
            "two gzip members": gzip.compress(data[:5000]) + gzip.compress(data[5000:]),
            "gzip and zeros": gzip.compress(data) + bytes(100_000),
        }[kind]
    )
    names = list(FILES)
    reader = ArchiveReader(path, {name: int(Path(name).stem) for name in names}, 2)
    assert reader.runs == 3
    assert runs(reader, buffer) == [expected(names[:2]), expected(names[2:4]), expected(names[4:])]


def test_only_wanted_members_are_read(tmp_path: Path, buffer: int) -> None:
    path = tmp_path / "archive.tar.gz"
    path.write_bytes(gzip.compress(packed()))
    reader = ArchiveReader(path, {"images/7.png": 7, "images/3.png": 3}, 64)
    assert runs(reader, buffer) == [expected(["images/3.png", "images/7.png"])]


def test_nothing_is_opened_when_nothing_is_wanted(tmp_path: Path) -> None:
    assert ArchiveReader(tmp_path / "not there", {}, 8).exhausted


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("share", [0.1, 0.4, 0.6])
def test_a_cut_archive_names_its_last_good_member(tmp_path: Path, buffer: int, zipped: bool, share: float) -> None:
    data = gzip.compress(packed(), 0) if zipped else packed()
    path = tmp_path / "archive"
    path.write_bytes(data[: int(len(data) * share)])
    reader = ArchiveReader(path, dict.fromkeys(FILES, 0), 1)
    with pytest.raises(UserError, match=r"archive: this archive (is damaged or cut off|ends without)") as caught:
        runs(reader, buffer)
    assert "the last good member is " in str(caught.value)
    assert "remedy: download it again" in str(caught.value)


def test_a_flipped_byte_in_the_compressed_stream_is_noticed(tmp_path: Path, buffer: int) -> None:
    data = bytearray(gzip.compress(packed()))
    data[len(data) // 2] ^= 0xFF
    path = tmp_path / "archive.tar.gz"
    path.write_bytes(data)
    reader = ArchiveReader(path, dict.fromkeys([*FILES, "images/none.png"], 0), 8)
    with pytest.raises(UserError, match=r"damaged or cut off|ends without"):
        runs(reader, buffer)
