from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import resource
import struct
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import mutations

from cxrkit.base.errors import UserError
from cxrkit.datasets.nih.archives import scan_archive
from cxrkit.sources.archives import ArchiveReader, Member
from cxrkit.sources.streams import MOST_BYTES

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


KINDS = ("plain", "gzip", "two gzip members", "gzip and zeros", "bz2", "xz", "two xz and zeros")


@pytest.mark.parametrize("style", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
@pytest.mark.parametrize(
    "kind", ["plain", "gzip", "two gzip members", "gzip and zeros", "bz2", "xz", "two xz and zeros"]
)
def test_members_come_in_runs_in_the_archives_order(tmp_path: Path, buffer: int, kind: str, style: int) -> None:
    data = packed(style)
    path = tmp_path / "archive"
    path.write_bytes(
        {
            "plain": data,
            "gzip": gzip.compress(data),
            "two gzip members": gzip.compress(data[:5000]) + gzip.compress(data[5000:]),
            "gzip and zeros": gzip.compress(data) + bytes(100_000),
            "bz2": bz2.compress(data),
            "xz": lzma.compress(data),
            "two xz and zeros": lzma.compress(data[:5000]) + bytes(8) + lzma.compress(data[5000:]) + bytes(4),
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


@pytest.mark.parametrize("pack", [bytes, lambda data: gzip.compress(data, 0), bz2.compress, lzma.compress])
@pytest.mark.parametrize("share", [0.1, 0.4, 0.6])
def test_a_cut_archive_names_its_last_good_member(
    tmp_path: Path, buffer: int, pack: Callable[[bytes], bytes], share: float
) -> None:
    data = pack(packed())
    path = tmp_path / "archive"
    path.write_bytes(data[: int(len(data) * share)])
    reader = ArchiveReader(path, dict.fromkeys(FILES, 0), 1)
    with pytest.raises(UserError, match=r"archive: this archive (is damaged or cut off|ends without)") as caught:
        runs(reader, buffer)
    assert "the last good member is " in str(caught.value)
    assert str(caught.value).count("damaged") + str(caught.value).count("ends without") == 1
    assert "remedy: download it again" in str(caught.value)


def test_a_flipped_byte_in_the_compressed_stream_is_noticed(tmp_path: Path, buffer: int) -> None:
    data = bytearray(gzip.compress(packed()))
    data[len(data) // 2] ^= 0xFF
    path = tmp_path / "archive.tar.gz"
    path.write_bytes(data)
    reader = ArchiveReader(path, dict.fromkeys([*FILES, "images/none.png"], 0), 8)
    with pytest.raises(UserError, match=r"damaged or cut off|ends without"):
        runs(reader, buffer)


# --------------------------------------------------------------------------------------------------------------- zip


def zipped(path: Path, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in FILES.items():
            archive.writestr(name, data)
    return path


def members(path: Path, buffer: int, wanted: dict[str, int]) -> list[Member]:
    reader = ArchiveReader(path, wanted, 2)
    found = []
    while not reader.exhausted:
        found += reader.next_run(buffer)
    return found


ROWS = {name: int(Path(name).stem) for name in FILES}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_is_read_as_a_tar_is(tmp_path: Path, buffer: int, method: int) -> None:
    names = list(FILES)
    reader = ArchiveReader(zipped(tmp_path / "images_001.zip", method), ROWS, 2)
    assert reader.runs == 3
    assert runs(reader, buffer) == [expected(names[:2]), expected(names[2:4]), expected(names[4:])]
    reader = ArchiveReader(tmp_path / "images_001.zip", {"images/7.png": 7, "images/3.png": 3}, 64)
    assert runs(reader, buffer) == [expected(["images/3.png", "images/7.png"])]


def test_the_order_is_that_of_the_file_and_not_of_the_list_at_its_end(tmp_path: Path, buffer: int) -> None:
    path = tmp_path / "images.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in FILES.items():
            archive.writestr(name, data)
        archive.filelist.reverse()
    assert [member.row for member in members(path, buffer, ROWS)] == [5, 3, 9, 1, 7]


def test_a_run_that_is_passed_over_reads_nothing(tmp_path: Path, buffer: int) -> None:
    reader = ArchiveReader(zipped(tmp_path / "images.zip"), ROWS, 2)
    assert [member.row for member in reader.next_run(None)] == [5, 3]
    assert runs(reader, buffer) == [expected(list(FILES)[2:4]), expected(list(FILES)[4:])]


def test_one_damaged_member_of_a_zip_leaves_the_others(tmp_path: Path, buffer: int) -> None:
    path = zipped(tmp_path / "images.zip", zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    content[content.index(FILES["images/9.png"]) + 9] ^= 1
    path.write_bytes(content)
    found = {member.row: member.why for member in members(path, buffer, ROWS)}
    assert found.pop(9) == "cannot be read from the zip (Bad CRC-32 for file 'images/9.png')"
    assert found == {5: "", 3: "", 1: "", 7: ""}


def locked(path: Path) -> Path:
    """Set the flag of encryption on every member, as a zip with a password has it."""
    content = bytearray(zipped(path).read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = -1
        while (start := content.find(mark, start + 1)) >= 0:
            content[start + offset] |= 1
    path.write_bytes(content)
    return path


def test_an_offset_that_leads_nowhere_is_named(tmp_path: Path, buffer: int) -> None:
    path = zipped(tmp_path / "images.zip")
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"PK\x01\x02") - 20] + content[content.index(b"PK\x01\x02") :])
    assert "cannot be read from the zip" in members(path, buffer, ROWS)[0].why
    assert len(scan_archive(path).images) == 5


def test_a_password_is_named(tmp_path: Path, buffer: int) -> None:
    path = locked(tmp_path / "images.zip")
    assert scan_archive(path).locked == "is protected by a password"
    assert "password required for extraction" in members(path, buffer, ROWS)[0].why


def test_a_cut_zip_is_named(tmp_path: Path, buffer: int) -> None:
    path = zipped(tmp_path / "images.zip")
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UserError, match=r"images.zip: this archive is damaged or cut off \(File is not a zip file\)"):
        members(path, buffer, ROWS)
    with pytest.raises(UserError, match=r"images.zip: a damaged or incomplete archive \(File is not a zip file; "):
        scan_archive(path)


# -------------------------------------------------------------------------------------------------------- bad intent


def grown(action: Callable[[], object]) -> int:
    """Return by how many kB the process's peak of memory grew."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with suppress(UserError):
        action()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before


def bombs(folder: Path) -> Iterator[Path]:
    """Write archives of a few hundred kB at most that unpack, or claim to unpack, to gigabytes."""
    gigabyte = 1 << 30
    for kind, name in ((tarfile.XHDTYPE, "pax"), (tarfile.REGTYPE, "big")):
        info = tarfile.TarInfo("images/5.png")
        info.type, info.size = kind, gigabyte
        squeezer = bz2.BZ2Compressor()
        data = squeezer.compress(info.tobuf(tarfile.GNU_FORMAT))
        for _ in range(200):
            data += squeezer.compress(bytes(1 << 20))
        path = folder / f"{name}.tar.bz2"
        path.write_bytes(data + squeezer.flush())
        yield path
    path = folder / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("images/5.png", bytes(200 << 20))
    yield path
    content = bytearray(path.read_bytes())  # the same, said to be small
    for mark, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", content, content.index(mark) + offset, 1000)
    path = folder / "liar.zip"
    path.write_bytes(content)
    yield path


def test_bombs_do_not_go_off(tmp_path: Path, buffer: int) -> None:
    warm = zipped(tmp_path / "warm.zip")
    members(warm, buffer, ROWS)
    grown(lambda: bytes(250 << 20))  # what making them takes
    for path in list(bombs(tmp_path)):
        assert grown(lambda path=path: members(path, buffer, {"images/5.png": 5})) < 1.5 * MOST_BYTES / 1024, path.name
        assert grown(lambda path=path: scan_archive(path)) < 1.5 * MOST_BYTES / 1024, path.name


def test_an_image_too_large_to_be_one_is_not_read(tmp_path: Path, buffer: int) -> None:
    path = tmp_path / "images.tar"
    with open(path, "wb") as file:
        info = tarfile.TarInfo("images/5.png")
        info.size = MOST_BYTES + 512
        file.write(info.tobuf())
        file.seek(info.size + 512)
        file.write(packed())
    found = {member.row: member.why for member in members(path, buffer, ROWS)}
    assert found[5] == "has 67,109,376 bytes, more than any image"
    assert found[7] == ""


def test_a_header_that_leads_backwards_ends(tmp_path: Path, buffer: int) -> None:
    info = tarfile.TarInfo("images/none.txt")
    content = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    content[124:136] = b"\xff" * 10 + b"\xfe\x00"  # -512, in base 256: the header itself
    content[148:156] = b"%06o\0 " % tarfile.calc_chksums(content)[0]
    path = tmp_path / "images.tar"
    path.write_bytes(tarfile.TarInfo("images/empty.txt").tobuf() + bytes(content) + packed())
    with pytest.raises(UserError, match="a header leads backwards"):
        scan_archive(path)
    with pytest.raises(UserError, match=r"is damaged or cut off \(a header leads backwards\)"):
        members(path, buffer, ROWS)


def small_archives() -> dict[str, bytes]:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in FILES.items():
            archive.writestr(name, data)
    tar = packed(tarfile.PAX_FORMAT)
    return {
        "tar": tar,
        "gz": gzip.compress(tar, mtime=0),
        "bz2": bz2.compress(tar),
        "xz": lzma.compress(tar),
        "zip": out.getvalue(),
    }


SMALL = small_archives()


@pytest.mark.parametrize("kind", SMALL)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_mutated_archive_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, kind: str, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("mutated") / "archive"
    path.write_bytes(data.draw(mutations(SMALL[kind])))
    with suppress(UserError):
        scan_archive(path)
    with tempfile.TemporaryFile() as buffer, suppress(UserError):
        for member in members(path, buffer.fileno(), ROWS):
            assert member.why or os.pread(buffer.fileno(), member.size, member.offset) is not None
