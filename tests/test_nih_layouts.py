"""The copies of ChestX-ray14 that people have: every layout, packing and size, and what only looks like one."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import struct
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest
from tiny_download import ALL, NEW_CSV, ROWS, make_images, make_tables, make_tar, message

from cxrkit.base.contracts import Records
from cxrkit.datasets.nih.archives import ArchiveFact
from cxrkit.datasets.nih.chestxray14 import read
from cxrkit.datasets.nih.files import find_images

STEMS = [name.removesuffix(".png") for name in ALL]


def image(side: int = 1024, ending: str = ".png") -> bytes:
    return cv2.imencode(ending, np.full((side, side), 7, np.uint8))[1].tobytes()


WHOLE, SMALL = image(), image(224)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Return a raw folder without any image, with what a shell would take for a pattern in its name."""
    return make_tables(tmp_path / "data[1] *?")


def write(folder: Path, names: Iterable[str], data: bytes = WHOLE) -> None:
    make_images(folder, [])
    for name in names:
        (folder / name).write_bytes(data)


def make_zip(path: Path, names: Iterable[str], data: bytes = WHOLE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, data)
    return path


def repacked(path: Path, pack: Callable[[bytes], bytes], folder: str = "images/", data: bytes = WHOLE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    make_tar(path, [folder + name for name in ALL], "w", data)
    path.write_bytes(pack(path.read_bytes()))
    return path


def places(records: Records, raw: Path) -> list[str]:
    """Return where the images are, as path or path/member relative to `raw`, in the order of the image ids."""
    frame = records.frame.filter(pl.col("path").is_not_null())
    found = frame.select(pl.concat_str("path", "member", separator="/", ignore_nulls=True)).to_series()
    return [os.path.relpath(path, raw) for path in found]


# ------------------------------------------------------------------------------------------------------------- paths


@pytest.mark.parametrize("name", ["data[1]", "data?", "data*", "data[a-z]", "{data,1}"])
def test_a_path_is_never_a_pattern(tmp_path: Path, name: str) -> None:
    others = [row.replace("Hernia", "Mass") for row in ROWS]
    decoys = [make_tables(tmp_path / decoy, others) for decoy in ("data1", "dataa")]
    write(make_tables(tmp_path / name) / "images", ALL)
    assert read(tmp_path / name).frame.filter("Hernia").height == 1
    (tmp_path / name / NEW_CSV).unlink()
    assert f"{tmp_path / name}: no {NEW_CSV}" in message(lambda: read(tmp_path / name))
    assert all((decoy / NEW_CSV).is_file() for decoy in decoys)


@pytest.mark.parametrize("name", ["caf\udce9", "two\nlines", "\x1b[2J", "[bold]"])
def test_odd_names_do_not_break_messages(tmp_path: Path, name: str) -> None:
    raw = make_tables(tmp_path / "raw")
    write(raw / "images", ALL)
    write(raw / name, ["00000009_000.png", f"{name}.png"], b"")
    (raw / f"{name}.7z").touch()
    records = read(raw)
    text = " ".join(note.found + note.remedy for note in records.notes)
    assert records.missing == 0
    assert text.isprintable()
    assert ".7z" in text
    assert name.encode("unicode_escape", "backslashreplace").decode() in text
    write(raw / "images", [f"{name}.png"])
    found = message(lambda: read(raw))
    assert all(line.isprintable() for line in found.splitlines())


def test_a_raw_folder_whose_name_is_no_utf8(tmp_path: Path) -> None:
    raw = make_tables(tmp_path / "caf\udce9")
    write(raw / "images", ALL)
    found = message(lambda: read(raw))
    assert r"caf\udce9/images/00000001_000.png: this name is not valid UTF-8" in found
    assert "rename the folder" in found


def test_a_member_whose_name_is_no_utf8(raw: Path) -> None:
    make_tar(raw / "images_001.tar", [f"caf\udce9/{name}" for name in ALL], "w", WHOLE)
    found = message(lambda: read(raw))
    assert rf"{raw}/images_001.tar: member caf\udce9/{ALL[0]}: this name is not valid UTF-8" in found


# ----------------------------------------------------------------------------------------------------- common copies

LOOSE = {
    "NIH's, extracted": lambda raw: write(raw / "images", ALL),
    "Kaggle's": lambda raw: [write(raw / f"images_00{n + 1}" / "images", [name]) for n, name in enumerate(ALL)],
    "one level down": lambda raw: write(raw / "CXR8" / "images" / "images", ALL),
    "resized": lambda raw: write(raw / "images-224" / "images-224", ALL, SMALL),
    "resized_images": lambda raw: write(raw / "resized_images", ALL, SMALL),
    "png": lambda raw: write(raw / "png", ALL),
    "PNG in capitals": lambda raw: write(raw / "images", [f"{stem}.PNG" for stem in STEMS]),
    "jpg": lambda raw: write(raw / "jpg", [f"{stem}.jpg" for stem in STEMS], image(ending=".jpg")),
    "jpeg": lambda raw: write(raw / "images", [f"{stem}.JPEG" for stem in STEMS], image(ending=".jpg")),
    "one folder per finding": lambda raw: [
        write(raw / "train" / finding, names)
        for finding, names in {"Cardiomegaly": ALL[:1], "Emphysema": ALL[:1], "No Finding": ALL[1:]}.items()
    ],
    "one folder per patient": lambda raw: [write(raw / "files" / name[:8] / name[9:12], [name]) for name in ALL],
    "deep": lambda raw: write(raw.joinpath(*"abcdefgh"), ALL),
}


@pytest.mark.parametrize("layout", LOOSE)
def test_loose_copies(raw: Path, layout: str) -> None:
    LOOSE[layout](raw)
    records = read(raw)
    assert records.frame["image_id"].to_list() == sorted(ALL)
    assert [Path(place).stem for place in places(records, raw)] == sorted(STEMS)
    assert all((raw / place).is_file() for place in places(records, raw))
    assert records.side == (224 if "resized" in layout else 1024)


PACKED = {
    "images_001.zip": lambda path: make_zip(path, ALL),
    "archive.zip": lambda path: make_zip(path, [f"images_00{n + 1}/images/{name}" for n, name in enumerate(ALL)]),
    "zips/data.ZIP": lambda path: make_zip(path, [f"images-224/images-224/{name}" for name in ALL], SMALL),
    "windows.zip": lambda path: make_zip(path, [f"images\\{name}" for name in ALL]),
    "jpg.zip": lambda path: make_zip(path, [f"jpg/{stem}.jpg" for stem in STEMS], image(ending=".jpg")),
    "Images_01.tar.gz": lambda path: repacked(path, gzip.compress),
    "images.TGZ": lambda path: repacked(path, gzip.compress),
    "images_001.tar.bz2": lambda path: repacked(path, bz2.compress),
    "nih.tbz2": lambda path: repacked(path, bz2.compress),
    "images_001.tar.xz": lambda path: repacked(path, lzma.compress),
    "archives/a/b/part.txz": lambda path: repacked(path, lzma.compress, "./"),
    "chestxray.tar": lambda path: repacked(path, bytes),
    "vfk49d74nhbxq3nqjg0900w5nvkorp5c.gz": lambda path: repacked(path, gzip.compress),  # by the bare link
    "images_001.tar.gz": lambda path: repacked(path, bz2.compress),  # called what it is not
    "images_002.tar.gz": lambda path: make_zip(path, ALL),
}


@pytest.mark.parametrize("name", PACKED)
def test_packed_copies(raw: Path, name: str) -> None:
    path = PACKED[name](raw / name)
    records = read(raw)
    assert records.frame["path"].to_list() == [str(path)] * 4
    assert [Path(member.replace("\\", "/")).stem for member in records.frame["member"]] == sorted(STEMS)
    assert records.side == (224 if name == "zips/data.ZIP" else 1024)
    assert not records.notes


def test_what_a_mac_leaves_behind_is_passed_over(raw: Path) -> None:
    make_zip(raw / "archive.zip", [*ALL, *(f"__MACOSX/._{name}" for name in ALL), f"__MACOSX/{ALL[0]}"])
    write(raw / "__MACOSX" / "images", ALL, b"not an image")
    write(raw / ".Trash", ALL, b"not an image")
    records = read(raw)
    assert places(records, raw) == [f"archive.zip/{name}" for name in sorted(ALL)]
    assert not records.notes


def test_a_png_comes_before_a_jpeg_and_an_original_before_a_resized_copy(raw: Path) -> None:
    write(raw / "a resized copy", ALL, SMALL)
    write(raw / "images", ALL)
    write(raw / "images", [f"{stem}.jpg" for stem in STEMS], image(ending=".jpg"))
    records = read(raw)
    assert places(records, raw) == [f"images/{name}" for name in sorted(ALL)]
    assert [note.found for note in records.notes] == [f"{raw}: only images that are there already in a resized copy"]


def test_links_are_followed_and_loops_end(raw: Path, tmp_path: Path) -> None:
    write(tmp_path / "disk", ALL[:2])
    write(raw / "images", ALL[2:])
    for name in ALL[:2]:
        (raw / "images" / name).symlink_to(tmp_path / "disk" / name)
    for number in range(6):  # each folder leads to six more: without a memory, more ways than could be walked
        (raw / "images" / f"loop{number}").symlink_to(raw)
        (raw / f"self{number}").symlink_to(raw / "images")
    started = time.monotonic()
    assert places(read(raw), raw) == [f"images/{name}" for name in sorted(ALL)]
    assert time.monotonic() - started < 5


def test_a_folder_too_deep_is_named(raw: Path) -> None:
    write(raw / "images", ALL)
    write(raw.joinpath(*"abcdefghi"), ["00000009_000.png"])
    assert [note.found for note in read(raw).notes] == [f"{raw}: a/b/c/d/e/f/g/h: passed over, is not read"]


# ------------------------------------------------------------------------------------------------- cut-off loose files


def cut(path: Path, kept: int | None = None) -> None:
    path.write_bytes(WHOLE[: len(WHOLE) // 2 if kept is None else kept])


@pytest.mark.parametrize("kept", [0, 40, len(WHOLE) - 1])
@pytest.mark.parametrize("name", ["images_001.zip", "images_001.tar.bz2"])
def test_a_cut_off_file_does_not_hide_the_whole_one_in_the_archive(raw: Path, name: str, kept: int) -> None:
    PACKED[name](raw / name)
    write(raw / "images", ALL)
    cut(raw / "images" / ALL[1], kept)
    records = read(raw)
    member = ALL[1] if name.endswith(".zip") else f"images/{ALL[1]}"
    expected = [f"images/{image_id}" if image_id != ALL[1] else f"{name}/{member}" for image_id in sorted(ALL)]
    assert places(records, raw) == expected
    assert f"{raw}: 1 file cut off, taken from elsewhere instead: {raw}/images/{ALL[1]}" in records.notes[0].found


@pytest.mark.parametrize("kept", [0, 5, 100, len(WHOLE) - 1])
def test_an_official_archive_is_asked_for_what_is_cut_off_too(raw: Path, kept: int) -> None:
    header = tarfile.TarInfo("images/00000001_000.png").tobuf()
    archive = raw / "images_001.tar.gz"
    archive.write_bytes(gzip.compress(header + os.urandom(200_000)))
    fact = ArchiveFact("images_001.tar.gz", 4, min(ALL), max(ALL), archive.stat().st_size, "", "")
    write(raw / "images", ALL)
    cut(raw / "images" / ALL[2], kept)
    frame = find_images(raw, pl.Series(ALL), [fact]).frame
    assert frame.filter(pl.col("member").is_not_null()).rows() == [(ALL[2], str(archive), f"images/{ALL[2]}")]


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_of_two_loose_files_the_whole_one_is_taken(raw: Path, ending: str) -> None:
    data = image(ending=f".{ending}")
    names = [f"{stem}.{ending}" for stem in STEMS]
    write(raw / "Atelectasis", names, data)
    write(raw / "Effusion", names, data)
    (raw / "Atelectasis" / names[0]).write_bytes(data[:-3])
    assert places(read(raw), raw)[0] == f"Effusion/{names[0]}"


def test_a_smaller_file_that_is_whole_still_wins(raw: Path) -> None:
    make_zip(raw / "images_001.zip", ALL)
    tight = cv2.imencode(".png", np.full((1024, 1024), 7, np.uint8), [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes()
    assert len(tight) < len(WHOLE)
    write(raw / "images", ALL, tight)
    assert places(read(raw), raw) == [f"images/{name}" for name in sorted(ALL)]


def test_a_cut_off_file_that_is_nowhere_else_stays_to_be_named_when_it_is_prepared(raw: Path) -> None:
    write(raw / "images", ALL)
    cut(raw / "images" / ALL[0])
    assert read(raw).missing == 0


# --------------------------------------------------------------------------------------------------------------- sizes


@pytest.mark.parametrize("side", [224, 256, 320, 512, 1024])
@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_the_side_is_that_of_the_images(raw: Path, side: int, ending: str) -> None:
    data = image(side, f".{ending}")
    write(raw / "images", [f"{stem}.{ending}" for stem in STEMS[:2]], data)
    make_zip(raw / "a.zip", [f"{STEMS[2]}.{ending}"], data)
    repacked(raw / "b.tar.gz", gzip.compress, data=data)
    assert read(raw).side == side


@pytest.mark.parametrize("where", ["loose", "zip", "tar"])
def test_images_of_different_sizes_are_refused(raw: Path, where: str) -> None:
    write(raw / "images", ALL[:2])
    if where == "loose":
        write(raw / "small", ALL[2:], SMALL)
    elif where == "zip":
        make_zip(raw / "small.zip", ALL[2:], SMALL)
    else:
        make_tar(raw / "small.tar", ALL[2:], "w", SMALL)
    found = message(lambda: read(raw))
    assert f"{raw}: images of different sizes in pixels: {raw}/images/{ALL[0]} has 1024 x 1024, {raw}/small" in found
    assert " has 224 x 224" in found
    assert "keep images of one size" in found


def test_images_that_are_not_square_are_refused(raw: Path) -> None:
    write(raw / "images", ALL, cv2.imencode(".png", np.zeros((200, 100), np.uint8))[1].tobytes())
    assert "images of 100 x 200 pixels" in message(lambda: read(raw))


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "a Git LFS pointer, not the file itself"),
        (b"", "an empty file"),
        (WHOLE[:20], "a PNG that is cut off inside its header"),
        (b"<html>", "a text file (it begins with '<html>')"),
    ],
)
def test_what_is_no_image_under_an_images_name_is_noted(raw: Path, data: bytes, kind: str) -> None:
    write(raw / "images", ALL, data)
    records = read(raw)
    assert records.side == 1024
    assert "3 of 3 images looked at are none: " in records.notes[0].found
    assert f"the first is {kind}" in records.notes[0].found


# -------------------------------------------------------------------------------------------- what is not understood


def locked(path: Path) -> Path:
    content = bytearray(make_zip(path, ALL).read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = -1
        while (start := content.find(mark, start + 1)) >= 0:
            content[start + offset] |= 1
    path.write_bytes(content)
    return path


def deflate64(path: Path) -> Path:
    content = bytearray(make_zip(path, ALL).read_bytes())
    for mark, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        start = -1
        while (start := content.find(mark, start + 1)) >= 0:
            struct.pack_into("<H", content, start + offset, 9)
    path.write_bytes(content)
    return path


UNREADABLE = {
    "locked.zip": (locked, "is protected by a password", "unpack it yourself into the raw folder"),
    "explorer.zip": (deflate64, "is packed by a method that is not read here (number 9)", "unpack it yourself"),
    "cut.zip": (lambda path: path.write_bytes(b"PK\x03\x04"), "a damaged or incomplete archive", "download it again"),
    "cut.tar.gz": (
        lambda path: path.write_bytes(repacked(path, gzip.compress).read_bytes()[:-20]),
        "a damaged or incomplete archive (the gz stream ends too early",
        "download it again",
    ),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_an_archive_that_cannot_be_read_stops_only_whom_it_may_help(raw: Path, name: str) -> None:
    make, problem, remedy = UNREADABLE[name]
    make(raw / name)
    write(raw / "images", ALL[:3])
    found = message(lambda: read(raw, allow_missing=True))
    assert f"{raw / name}: {problem}" in found
    assert remedy in found
    write(raw / "images", ALL)
    notes = read(raw).notes
    assert [note.found.startswith(f"{raw / name}: {problem}") for note in notes] == [True]
    assert remedy in notes[0].remedy


def test_every_broken_archive_is_named_at_once(raw: Path) -> None:
    for name in ("images_001.zip", "images_002.zip", "images_003.tar.gz"):
        (raw / name).write_bytes(b"PK\x03\x04")
    found = message(lambda: read(raw, allow_missing=True))
    assert all(f"{raw}/images_00{number}" in found for number in (1, 2, 3))
    assert "remedy: do so for each of these 3 archives" in found


NAMED = {
    "images.7z": "unpack them yourself",
    "images.rar": "unpack them yourself",
    "images_001.tar.zst": "unpack them yourself",
    "archive.zip.001": "join the parts",
    "images_003.tar.gz.part": "finish the download",
    "Unconfirmed 1234.crdownload": "finish the download",
    "data/train-00000-of-00068.parquet": "write their images as PNGs",
    "chest_xray.h5": "write their images as PNGs",
    "tif/00000001_000.tif": "convert them to PNG",
    "dicom/00000001_000.dcm": "convert them to PNG",
    "masks/00000001_000.png": "rename masks/ if it holds films",
    "deep/Grad-CAM/00000001_000.png": "rename Grad-CAM/ if it holds films",
}


@pytest.mark.parametrize("name", NAMED)
def test_what_is_not_read_is_named_with_a_remedy(raw: Path, name: str) -> None:
    write((raw / name).parent, [Path(name).name])
    found = message(lambda: read(raw))
    assert f"4 of 4 images are missing: {sorted(ALL)[0]}" in found
    assert f"{raw}: {name}: passed over, is not read -> {NAMED[name]}" in found
    assert "--allow-missing" not in found  # it cannot help: there is nothing to go on with
    assert [note.remedy.startswith(NAMED[name]) for note in read(raw, allow_missing=True).notes] == [True]


def test_archives_inside_of_archives_are_named_while_images_are_missing(raw: Path) -> None:
    write(raw / "images", ALL[:3])
    with zipfile.ZipFile(raw / "all.zip", "w") as archive:
        archive.writestr("images_001.tar.gz", b"")
    with tarfile.open(raw / "images_002.tar.gz", "w:gz"):
        pass
    found = f"{raw}: no image in all.zip, images_002.tar.gz"
    assert f"{found} -> unpack what holds archives of its own" in message(lambda: read(raw))
    assert [note.found for note in read(raw, allow_missing=True).notes] == [found]
    write(raw / "images", ALL)
    assert read(raw).notes == ()


def test_pictures_and_archives_of_other_things_stop_nobody_and_are_named(raw: Path) -> None:
    write(raw / "images", ALL)
    write(raw, ["figure.png", "scan.jpg"])
    write(raw / "plots", ["00000009_000.png", "roc.png"])
    make_zip(raw / "holiday.zip", ["beach.jpg", "sea.jpg"])
    make_zip(raw / "paper.zip", ["paper.tex"])
    with tarfile.open(raw / "code.tar", "w") as archive:
        link = tarfile.TarInfo("code/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        archive.addfile(link)
    (raw / "Data_Entry_2017.csv.gz").write_bytes(gzip.compress(b"a,b"))
    (raw / "lost+found").mkdir()
    found = [note.found for note in read(raw).notes]
    assert found == [
        f"{raw}: 6 images in no row of the CSV, passed over: figure.png, holiday.zip/beach.jpg, "
        "holiday.zip/sea.jpg and 3 more"
    ]


@pytest.mark.parametrize("folder", ["images-224", "png", "Atelectasis", "images_001/images"])
def test_an_unlisted_image_among_listed_ones_is_an_error_in_any_folder(raw: Path, folder: str) -> None:
    write(raw / folder, [*ALL, "00000007_000.png"])
    assert f"{raw / folder}: 1 image in no row of the CSV: 00000007_000.png" in message(lambda: read(raw))


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """Return a folder that every user can reach, unlike pytest's, and be nobody while the test runs."""
    me = os.geteuid()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        try:
            if me == 0:
                os.seteuid(65534)
            yield Path(folder)
        finally:
            os.seteuid(me)


def test_a_folder_that_may_not_be_read_is_noted_unless_it_must_hold_images(open_to_all: Path) -> None:
    raw = make_tables(open_to_all / "raw")
    write(raw / "png", ALL)
    for name in ("lost+found", "images_002"):
        (raw / name).mkdir(mode=0)
    assert f"{raw}/images_002: cannot be read (Permission denied)" in message(lambda: read(raw))
    (raw / "images_002").rmdir()
    notes = read(raw).notes
    assert [note.found for note in notes] == [f"{raw}: lost+found: passed over, is not read"]
    assert notes[0].remedy == "see why it cannot be read (Permission denied)"


def test_a_zip_with_a_link_or_a_way_out_is_refused(raw: Path) -> None:
    info = zipfile.ZipInfo("images/link.png")
    info.external_attr = 0o120777 << 16
    for member, problem in ((info, "is a link"), ("../x.png", "leads out of"), ("/x.png", "has an absolute path")):
        with zipfile.ZipFile(raw / "images.zip", "w") as archive:
            archive.writestr(ALL[0], WHOLE)
            archive.writestr(member, "/etc/passwd")
        assert problem in message(lambda: read(raw, allow_missing=True))


# ------------------------------------------------------------------------------------------------------ from end to end


def test_a_zip_is_prepared_like_loose_files(tmp_path: Path) -> None:
    from tiny_cohort import picture, png, table_of

    from cxrkit.prepare.stage import PrepareConfig, prepare

    images = {name: png(picture(number)) for number, name in enumerate(ALL)}
    loose, packed = make_tables(tmp_path / "loose"), make_tables(tmp_path / "packed")
    for name, data in images.items():
        write(loose / "images", [name], data)
    with zipfile.ZipFile(packed / "archive.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number, name in enumerate(reversed(ALL)):
            archive.writestr(f"images_00{number + 1}/images/{name}", images[name])
    checksums = []
    for raw in (loose, packed):
        data = tmp_path / f"{raw.name} shards"
        assert prepare(PrepareConfig(raw=raw, data=data, levels=(256,), workers=1), read(raw)).images == 4
        checksums.append(pl.read_parquet(table_of(data, "index")).select("image_id", "crc32_256"))
    assert checksums[0].equals(checksums[1])


def test_a_file_in_place_of_the_images_folder(raw: Path) -> None:
    (raw / "images").touch()
    assert "4 of 4 images are missing" in message(lambda: read(raw))
