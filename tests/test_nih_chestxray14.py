"""The ChestX-ray14 reader on small raw folders made by hand. It never decodes, so every PNG here is empty."""

from __future__ import annotations

import gzip
import io
import itertools
import os
import random
import re
import tarfile
import threading
from pathlib import Path
from typing import Literal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_download import (
    ALL,
    BOXES,
    HEADER,
    NEW_CSV,
    OLD_CSV,
    ROWS,
    TEST,
    TRAIN_VAL,
    make_images,
    make_tables,
    make_tar,
    message,
)

from cxrkit.base import manifests, registry
from cxrkit.base.contracts import BOX_SCHEMA, LABELS, PIXEL_SCHEMA, RECORD_SCHEMA, Records
from cxrkit.base.errors import UserError
from cxrkit.base.words import few
from cxrkit.datasets.nih import tables as nih_tables
from cxrkit.datasets.nih.archives import MANIFEST, ArchiveFact, archives_holding, scan_archive
from cxrkit.datasets.nih.chestxray14 import archive_facts, check_counts, label_release, read
from cxrkit.datasets.nih.files import find_images


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Return a complete small raw folder with loose images."""
    make_images(make_tables(tmp_path / "raw") / "images", ALL)
    return tmp_path / "raw"


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """Return a small raw folder without any image."""
    return make_tables(tmp_path / "raw")


# ------------------------------------------------------------------------------------------------------------ records


def test_records_follow_the_contract(raw: Path) -> None:
    records = read(raw)
    assert records.frame.schema == pl.Schema({**RECORD_SCHEMA, **PIXEL_SCHEMA})
    assert records.frame["image_id"].to_list() == sorted(ALL)
    assert (records.dataset, records.missing, records.label_release, records.boxes) == (
        "nih-chestxray14",
        0,
        "unknown",
        None,
    )
    assert registry.load("dataset", records.dataset) is read


def test_every_column_comes_from_its_own_column(raw: Path) -> None:
    first = read(raw).frame.row(0, named=True)
    assert first.pop("path") == f"{raw}/images/00000001_000.png"
    labels = {label: first.pop(label) for label in LABELS}
    assert [label for label, positive in labels.items() if positive] == ["Cardiomegaly", "Emphysema"]
    assert first == {
        "image_id": "00000001_000.png",
        "patient_id": "1",
        "follow_up": 7,  # the file name says 0
        "age_years": 57,
        "sex": "M",
        "view": "PA",
        "official": "train_val",
        "member": None,
    }


def test_infiltrate_is_infiltration_and_no_finding_a_label(raw: Path) -> None:
    frame = read(raw).frame
    assert frame.filter(pl.col("Infiltration"))["image_id"].to_list() == ["00000003_000.png"]
    assert frame.filter(pl.col("No Finding"))["image_id"].to_list() == ["00000001_001.png"]
    assert frame["official"].to_list() == ["train_val", "train_val", "test", "test"]


def test_the_old_table_with_its_empty_column_and_old_ages(raw: Path) -> None:
    rows = [f"{row}," for row in ROWS]
    rows[0] = rows[0].replace(",57,", ",414,")
    rows[1] = rows[1].replace(",58,", ",058Y,")
    rows[2] = rows[2].replace(",74,", ",025M,")
    rows[3] = rows[3].replace(",80,", ",004D,")
    (raw / NEW_CSV).unlink()
    (raw / OLD_CSV).write_text("\n".join([HEADER + ",", *rows]))
    assert read(raw).frame["age_years"].to_list() == [414, 58, 0, 2]


def test_v2020_is_preferred(raw: Path) -> None:
    (raw / OLD_CSV).write_text(HEADER + "\n")
    assert read(raw).frame.height == 4


def test_a_table_saved_again_by_a_spreadsheet(raw: Path) -> None:
    text = "\ufeff" + (raw / NEW_CSV).read_text().replace("Patient Gender", " Patient Sex ").replace("\n", "\r\n\r\n")
    (raw / NEW_CSV).write_bytes(text.replace("No Finding", '"No Finding"').encode())
    for name in ("train_val_list.txt", "test_list.txt"):
        (raw / name).write_bytes(b"\xef\xbb\xbf" + (raw / name).read_bytes().replace(b"\n", b"\r\n") + b"\r\n\r\n")
    assert read(raw).frame["sex"].to_list() == ["M", "M", "F", "F"]


@settings(max_examples=30, deadline=None)
@given(st.permutations(ROWS), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_order_and_line_ends_of_the_table_do_not_matter(
    tmp_path_factory: pytest.TempPathFactory, rows: list[str], newline: str, ended: bool
) -> None:
    path = tmp_path_factory.mktemp("csv") / NEW_CSV
    path.write_bytes((newline.join([HEADER, *rows]) + newline * ended).encode())
    expected = path.with_name("plain.csv")
    expected.write_text("\n".join([HEADER, *ROWS]))
    assert nih_tables.read_entries(path).equals(nih_tables.read_entries(expected))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.sampled_from(LABELS[:-1]), min_size=1, max_size=14, unique=True), min_size=1, max_size=8))
def test_labels_survive_writing_and_reading(
    tmp_path_factory: pytest.TempPathFactory, findings: list[list[str]]
) -> None:
    path = tmp_path_factory.mktemp("csv") / NEW_CSV
    rows = [f"{i:08d}_000.png,{'|'.join(labels)},0,{i},50,F,AP,,,," for i, labels in enumerate(findings)]
    path.write_text("\n".join([HEADER, *rows]))
    read_back = nih_tables.read_entries(path).select(LABELS).rows(named=True)
    assert [{label for label, positive in row.items() if positive} for row in read_back] == [set(f) for f in findings]


# -------------------------------------------------------------------------------------------------------- the tables


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("Patient Age", "Age", "column 'Patient Age' is missing; found Image Index, Finding Labels,"),
        ("Patient Gender", "X", "column 'Patient Gender' is missing"),
        ("Hernia", "Hernai", "line 5, column 'Finding Labels': found 'Hernai', expected 'Hernia'?"),
        ("Hernia", "Scoliosis", "line 5, column 'Finding Labels': found 'Scoliosis', expected one of Cardiomegaly,"),
        ("Hernia", "Hernia|", "line 5, column 'Finding Labels': found '', expected one of"),
        ("Hernia", "", "line 5, column 'Finding Labels': found nothing, expected at least one label"),
        ("Hernia", "Hernia|No Finding", "found 'Hernia|No Finding', expected 'No Finding' alone or not at all"),
        (",58,", ",x,", "line 3, column 'Patient Age': found 'x', expected a whole number of years"),
        (",58,", ",-1,", "line 3, column 'Patient Age': found '-1'"),
        (",58,M", ",58,U", "line 3, column 'Patient Gender': found 'U', expected M or F"),
        (",M,", ",m,", "line 2, column 'Patient Gender': found 'm', expected M or F (1 more such lines)"),
        ("M,AP", "M,LL", "line 3, column 'View Position': found 'LL', expected PA or AP"),
        (",7,1,", ",,1,", "line 2, column 'Follow-up #': found nothing, expected a whole number"),
        (",7,1,", ",7,one,", "line 2, column 'Patient ID': found 'one', expected a whole number"),
        ("00000002_000.png", "../2.png", "line 5, column 'Image Index': found '../2.png', expected a file name like"),
        (ROWS[3], "00000002_000.png,Hernia", "line 5, column 'Follow-up #': found nothing"),
    ],
)
def test_a_wrong_table_is_named_with_line_and_column(raw: Path, old: str, new: str, text: str) -> None:
    (raw / NEW_CSV).write_text((raw / NEW_CSV).read_text().replace(old, new))
    found = message(lambda: read(raw))
    assert found.startswith(f"{raw / NEW_CSV}: ")
    assert text in found
    assert "download the file again from NIH" in found


def test_line_numbers_count_blank_lines(raw: Path) -> None:
    make_tables(raw, [ROWS[0], "", "", ROWS[1].replace("AP", "XX"), *ROWS[2:]])
    assert "line 5, column 'View Position'" in message(lambda: read(raw))


def test_rows_given_twice(raw: Path) -> None:
    make_tables(raw, [*ROWS, ROWS[1]])
    assert "rows given twice: 00000001_001.png (lines 3, 6)" in message(lambda: read(raw))


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "cannot be read as a CSV file (empty CSV)"),
        (HEADER.encode(), "has no rows"),
        (
            f"{HEADER}\n{ROWS[0]}\n".encode().replace(b"Cardio", b"\xff\xfe"),
            "is not a text file in UTF-8 (inval",
        ),
        (b"<!DOCTYPE html>\n<html>\n</html>\n", "column 'Image Index' is missing; found <!DOCTYPE html>"),
    ],
)
def test_a_table_that_is_none(raw: Path, content: bytes, text: str) -> None:
    (raw / NEW_CSV).write_bytes(content)
    assert text in message(lambda: read(raw))


def test_no_table(raw: Path) -> None:
    (raw / NEW_CSV).unlink()
    assert f"{raw}: no {NEW_CSV} or {OLD_CSV} here" in message(lambda: read(raw))


def test_no_folder(tmp_path: Path) -> None:
    assert "nowhere: there is no such folder" in message(lambda: read(tmp_path / "nowhere"))


def test_a_folder_that_may_not_be_read(raw: Path) -> None:
    nobody, me = 65534, os.geteuid()
    (raw / "images").chmod(0)
    if me == 0:
        os.seteuid(nobody)
    try:
        found = message(lambda: read(raw))
    finally:
        os.seteuid(me)
        (raw / "images").chmod(0o755)
    assert re.search(r"raw\S*: cannot be read \(Permission denied\)\n  remedy: get read access", found)


# --------------------------------------------------------------------------------------------------------- the lists


@pytest.mark.parametrize(
    ("list_name", "lines", "text"),
    [
        ("test_list.txt", TEST[:1], "1 image of Data_Entry_2017_v2020.csv in neither train_val_list.txt nor"),
        ("test_list.txt", [*TEST, TRAIN_VAL[0]], "1 image in both train_val_list.txt and test_list.txt: 00000001_0"),
        ("test_list.txt", [*TEST, "00000009_000.png"], "1 image of the official lists in no row of Data_Entry"),
        ("test_list.txt", [*TEST, TEST[0]], "names given twice: 00000002_000.png (lines 1, 3)"),
        ("test_list.txt", [TEST[0], "", "<html>"], "test_list.txt: line 3: found '<html>', expected a file name like"),
        ("test_list.txt", [TEST[0], f"images/{TEST[1]}"], "line 2: found 'images/00000003_000.png', expected a file"),
        ("test_list.txt", [], "2 images of Data_Entry_2017_v2020.csv in neither"),
    ],
)
def test_lists_that_contradict(raw: Path, list_name: str, lines: list[str], text: str) -> None:
    (raw / list_name).write_text("\n".join(lines))
    assert text in message(lambda: read(raw))


def test_a_patient_in_both_lists(raw: Path) -> None:
    (raw / "train_val_list.txt").write_text(TRAIN_VAL[0])
    (raw / "test_list.txt").write_text("\n".join([*TEST, TRAIN_VAL[1]]))
    assert "1 patient with images in both train_val_list.txt and test_list.txt: 1\n" in message(lambda: read(raw))


@pytest.mark.parametrize("absent", [["test_list.txt"], ["train_val_list.txt", "test_list.txt"]])
def test_missing_lists(raw: Path, absent: list[str]) -> None:
    for name in absent:
        (raw / name).unlink()
    found = message(lambda: read(raw))
    assert f"no {' and no '.join(absent)} here, so the official split is not known" in found
    assert "put train_val_list.txt and test_list.txt from NIH's download page" in found


def test_a_list_that_is_no_text(raw: Path) -> None:
    (raw / "test_list.txt").write_bytes(b"\x89PNG\xff\xff")
    assert "test_list.txt: is not a text file in UTF-8 (invalid start byte)" in message(lambda: read(raw))


# --------------------------------------------------------------------------------------------------------- the boxes


def test_boxes(raw: Path) -> None:
    (raw / "BBox_List_2017.csv").write_text(BOXES)
    boxes = read(raw).boxes
    assert boxes is not None
    assert boxes.schema == pl.Schema(BOX_SCHEMA)
    assert boxes.rows() == [("00000003_000.png", "Infiltration", 10.5, 20.0, 30.25, 40.0)]


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("Finding Label", "Label", "column 'Finding Label' is missing; found Image Index, Label, Bbox [x"),
        ("Infiltrate", "Infiltrat", "line 2, column 'Finding Label': found 'Infiltrat', expected 'Infiltration'?"),
        ("10.5", "ten", "line 2, column 'Bbox [x': found 'ten', expected a number of pixels within the 1024 x 1024"),
        (",40", ",", "line 2, column 'h]': found nothing, expected a number of pixels"),
        ("30.25", "0", "line 2, column 'w': found '0', expected a number of pixels within"),
        (",40", ",1005", "line 2, column 'h]': found '1005', expected a number of pixels within"),
        ("00000003_000", "00000009_000", "1 box of images in no row of Data_Entry_2017_v2020.csv: 00000009_000"),
    ],
)
def test_wrong_boxes(raw: Path, old: str, new: str, text: str) -> None:
    (raw / "BBox_List_2017.csv").write_text(BOXES.replace(old, new))
    found = message(lambda: read(raw))
    assert found.startswith(f"{raw / 'BBox_List_2017.csv'}: ")
    assert text in found


def test_boxes_with_too_few_columns(raw: Path) -> None:
    (raw / "BBox_List_2017.csv").write_text("Image Index,Finding Label,Bbox [x,y\n00000003_000.png,Mass,1,2\n")
    assert "a box needs four columns, x, y, w and h; found Bbox [x, y" in message(lambda: read(raw))


# ---------------------------------------------------------------------------------------------------- loose images


@pytest.mark.parametrize(
    "folders",
    [("images",), ("images_001/images", "images_002/images"), ("images_001", "images"), (".",), ("images/images",)],
)
def test_layouts_of_loose_images(bare: Path, folders: tuple[str, ...]) -> None:
    for index, name in enumerate(ALL):
        make_images(bare / folders[index % len(folders)], [name])
    frame = read(bare).frame
    assert all(
        Path(path).is_file() and Path(path).name == name for name, path in frame.select("image_id", "path").rows()
    )
    assert frame["member"].null_count() == 4


def test_an_images_folder_that_is_a_link(bare: Path, tmp_path: Path) -> None:
    make_images(tmp_path / "big disk", ALL)
    (bare / "images").symlink_to(tmp_path / "big disk")
    assert read(bare).missing == 0


def test_a_folder_linked_into_itself_ends(raw: Path) -> None:
    (raw / "images" / "images").symlink_to(raw / "images")
    assert read(raw).frame["path"].to_list() == [f"{raw}/images/{name}" for name in sorted(ALL)]


def test_missing_images(raw: Path) -> None:
    (raw / "images" / ALL[2]).unlink()
    found = message(lambda: read(raw))
    assert f"{raw}: 1 of 4 images are missing: {ALL[2]}\n" in found
    assert "put images_001.tar.gz to images_012.tar.gz or the extracted images/ into this folder" in found
    assert "--allow-missing" in found
    records = read(raw, allow_missing=True)
    assert records.missing == 1
    assert records.frame.filter(pl.col("path").is_null())["image_id"].to_list() == [ALL[2]]


def test_no_image_at_all(bare: Path) -> None:
    assert "4 of 4 images are missing: 00000001_000.png, 00000001_001.png, 00000002_000.png and 1 more" in message(
        lambda: read(bare)
    )
    assert read(bare, allow_missing=True).missing == 4


def test_a_link_to_nowhere_is_a_missing_image(raw: Path) -> None:
    (raw / "images" / ALL[0]).unlink()
    (raw / "images" / ALL[0]).symlink_to(raw / "gone.png")
    assert read(raw, allow_missing=True).missing == 1


def test_an_image_that_the_table_does_not_list(raw: Path) -> None:
    make_images(raw / "images", ["00000007_000.png", os.fsdecode(b"caf\xe9.png")])
    found = message(lambda: read(raw))
    assert rf"{raw}/images: 2 images in no row of the CSV: 00000007_000.png, caf\udce9.png" in found
    assert found.encode()


def test_what_else_lies_about_is_left_alone(raw: Path) -> None:
    make_images(raw, ["figure.png", "notes.txt", "other.tar.gz"])
    make_images(raw / "images", ["._00000001_000.png", ".hidden.png", "Thumbs.db"])
    make_images(raw / "figures", ["00000007_000.png"])
    (raw / "images" / "folder.png").mkdir()
    assert read(raw).missing == 0


# ---------------------------------------------------------------------------------------------------------- archives


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("images_001.tar.gz", "w:gz"),
        ("images_01.tar.gz", "w:gz"),
        ("images_001.tgz", "w:gz"),
        ("images_001.tar", "w"),
        ("images_001.tar.gz", "w"),  # a browser has unpacked it and kept its name
        ("images/images_001.tar.gz", "w:gz"),
    ],
)
def test_archives_are_listed(bare: Path, name: str, mode: Literal["w", "w:gz"]) -> None:
    (bare / "images").mkdir()
    path = make_tar(bare / name, [f"images/{image}" for image in ALL], mode)
    frame = read(bare).frame
    assert frame["path"].to_list() == [str(path)] * 4
    assert frame["member"].to_list() == [f"images/{image}" for image in sorted(ALL)]


def test_members_can_be_read_by_their_name(bare: Path) -> None:
    with tarfile.open(bare / "images_001.tar.gz", "w:gz", format=tarfile.PAX_FORMAT) as archive:
        folder = tarfile.TarInfo("./images")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name in [*ALL, "._" + ALL[0], "README.txt"]:
            member = tarfile.TarInfo(f"./images/{name}")
            member.size, member.pax_headers = len(name), {"comment": "é" * 300}
            archive.addfile(member, io.BytesIO(name.encode()))
    for image, path, member in read(bare).frame.select("image_id", "path", "member").rows():
        with tarfile.open(path) as archive:
            file = archive.extractfile(member)
            assert file is not None
            assert file.read().decode() == image


def test_a_loose_image_wins_over_an_archive_and_the_first_archive_over_the_second(bare: Path) -> None:
    make_tar(bare / "images_002.tar.gz", [f"images/{name}" for name in ALL])
    make_tar(bare / "images_001.tar.gz", [f"images/{name}" for name in ALL[:2]])
    make_images(bare / "images_009" / "images", ALL[:1])
    (bare / "images_009" / "images" / ALL[0]).write_bytes(b"\x89PNG")  # as large as in the archive
    frame = read(bare).frame
    assert [Path(path).name for path in frame["path"]] == [
        ALL[0],
        "images_001.tar.gz",
        "images_002.tar.gz",
        "images_002.tar.gz",
    ]
    assert frame["member"].null_count() == 1


def test_an_archived_image_that_the_table_does_not_list(bare: Path) -> None:
    path = make_tar(bare / "images_001.tar", ["images/00000007_000.png"], "w")
    assert f"{path}: 1 image in no row of the CSV: 00000007_000.png" in message(lambda: read(bare))


def unsafe(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


@pytest.mark.parametrize(
    ("member", "text"),
    [
        (unsafe("images/../../00000001_000.png"), "leads out of the archive ('..')"),
        (unsafe("../images", tarfile.DIRTYPE), "leads out of the archive ('..')"),
        (unsafe("/images/00000001_000.png"), "has an absolute path"),
        (unsafe("images/00000001_000.png", tarfile.SYMTYPE, "/etc/passwd"), "is a link to '/etc/passwd'"),
        (unsafe("images/00000001_000.png", tarfile.LNKTYPE, "images/x"), "is a link to 'images/x'"),
        (unsafe("images/zero", tarfile.CHRTYPE), "is a device or another special file"),
        (unsafe("images/pipe", tarfile.FIFOTYPE), "is a device or another special file"),
    ],
)
def test_unsafe_members_are_refused(bare: Path, member: tarfile.TarInfo, text: str) -> None:
    path = bare / "images_001.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(unsafe("images/00000001_001.png"))
        archive.addfile(member)
    before = sorted(bare.rglob("*"))
    found = message(lambda: read(bare, allow_missing=True))
    assert f"{path}: member {member.name!r} {text}" in found
    assert "do not unpack this archive" in found
    assert sorted(bare.rglob("*")) == before


def test_a_pipe_named_like_an_archive_is_not_opened(raw: Path) -> None:
    os.mkfifo(raw / "images_001.tar.gz")
    reading = threading.Thread(target=read, args=(raw,), daemon=True)
    reading.start()
    reading.join(timeout=20)
    assert not reading.is_alive()


NOISE = bytes(range(256)) * 8


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@settings(max_examples=40, deadline=None)
@given(kept=st.floats(0, 1, exclude_max=True))
def test_a_truncated_archive_is_never_taken_for_a_whole_one(
    tmp_path_factory: pytest.TempPathFactory, mode: Literal["w", "w:gz"], kept: float
) -> None:
    raw = make_tables(tmp_path_factory.mktemp("truncated") / "raw")
    path = make_tar(raw / "images_001.tar.gz", [f"images/{name}" for name in ALL], mode, NOISE)
    # A plain tar is whole once its members and one block of zeros are there; the rest is padding.
    whole = path.stat().st_size if mode == "w:gz" else 4 * (512 + len(NOISE)) + 512
    path.write_bytes(path.read_bytes()[: int(kept * whole)])
    found = message(lambda: read(raw, allow_missing=True))
    assert f"{path}: a damaged or incomplete archive (" in found
    assert "download it again, and compare its MD5" in found


@pytest.mark.parametrize("content", [b"<html>Sign in to Box</html>" * 99, b"", b"\x1f\x8b not gzip", NOISE])
def test_an_archive_that_is_none(bare: Path, content: bytes) -> None:
    (bare / "images_004.tar.gz").write_bytes(content)
    found = message(lambda: read(bare, allow_missing=True))
    assert "images_004.tar.gz: a damaged or incomplete archive (" in found
    assert f"{len(content):,} bytes)" in found


def test_a_flipped_byte_fails_the_checksum(bare: Path) -> None:
    path = make_tar(bare / "images_001.tar.gz", ["images/" + name for name in ALL], data=os.urandom(5000))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1  # inside incompressible pixels: only the checksum can tell
    path.write_bytes(content)
    assert "a damaged or incomplete archive (" in message(lambda: read(bare, allow_missing=True))


def test_a_broken_header_in_the_middle_is_not_the_end(bare: Path) -> None:
    path = make_tar(bare / "images_001.tar", [f"images/{name}" for name in ALL], "w")
    content = bytearray(path.read_bytes())
    content[2 * 1024 : 2 * 1024 + 40] = b"#" * 40
    path.write_bytes(content)
    assert "it breaks off after 2 images" in message(lambda: read(bare, allow_missing=True))


# ---------------------------------------------------------------------------- archives taken at the manifest's word


def official_archive(
    path: Path, *, begin: str = "images/00000001_000.png", trailer: bytes = b"12345678"
) -> ArchiveFact:
    """Write something that begins and ends like an official archive and is noise in between; return its fact."""
    header = tarfile.TarInfo(begin).tobuf()
    pixels = random.Random(1).randbytes(200_000)  # more than is decompressed for the first header
    path.write_bytes(gzip.compress(header + pixels, mtime=0)[:-8] + NOISE + trailer)
    size = path.stat().st_size
    return ArchiveFact("images_001.tar.gz", 3, "00000001_000.png", "00000002_000.png", size, "", "")


@pytest.mark.parametrize("name", ["images_001.tar.gz", "images_01.tar.gz", "images_001.tgz"])
def test_an_official_archive_is_not_decompressed(tmp_path: Path, name: str) -> None:
    fact = official_archive(tmp_path / name)
    found = find_images(tmp_path, pl.Series(ALL), [fact]).frame
    assert found["image_id"].to_list() == ["00000001_000.png", "00000001_001.png", "00000002_000.png"]
    assert found["member"].to_list() == [f"images/{image}" for image in found["image_id"]]
    with pytest.raises(UserError, match="a damaged or incomplete archive"):
        scan_archive(tmp_path / name)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "images_002.tar.gz"},
        {"size": 1},
        {"begin": "other/00000001_000.png"},
        {"trailer": bytes(8)},  # space reserved by a download tool, not filled yet
    ],
)
def test_what_only_resembles_an_official_archive_is_decompressed(tmp_path: Path, change: dict[str, object]) -> None:
    content = {key: value for key, value in change.items() if key in ("begin", "trailer")}
    path = tmp_path / str(change.get("name", "images_001.tar.gz"))
    fact = official_archive(path, **content)  # type: ignore[arg-type]
    if "size" in change:
        path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(UserError, match="a damaged or incomplete archive"):
        find_images(tmp_path, pl.Series(ALL), [fact])


# ------------------------------------------------------------------------------------------------- what it counts to


def test_archive_facts_cover_the_data_set_without_a_gap() -> None:
    facts = archive_facts()
    assert [fact.number for fact in facts] == list(range(1, 13))
    assert sum(fact.images for fact in facts) == 112_120
    assert sum(fact.bytes for fact in facts) == 45_079_862_784
    assert all(fact.first < fact.last for fact in facts)
    assert all(one.last < two.first for one, two in itertools.pairwise(facts))
    assert all(re.fullmatch(r"[0-9a-f]{32}", fact.md5) and re.fullmatch(r"[0-9a-f]{64}", fact.sha256) for fact in facts)


def test_archives_holding() -> None:
    assert archives_holding(["00000001_000.png", "00003923_013.png", "00030805_000.png"]) == [
        "images_001.tar.gz",
        "images_002.tar.gz",
        "images_012.tar.gz",
    ]


def cohort_of(release: str, **changed: int) -> pl.DataFrame:
    """Return a table whose images and positives count to those of a release, but for `changed` in the test set."""
    facts = manifests.read(MANIFEST)
    parts = []
    for subset in ("train_val", "test"):
        labels = dict(facts["labels"]["train_val"] if subset == "train_val" else facts["labels"]["test"][release])
        images = facts["split"][subset]["images"]
        if subset == "test":
            images += changed.pop("images", 0)
            labels |= {label: labels[label] + more for label, more in changed.items()}
        row = pl.int_range(images, eager=True)
        parts.append(pl.DataFrame({"official": [subset] * images, **{name: row < n for name, n in labels.items()}}))
    return pl.concat(parts)


@pytest.mark.parametrize("release", ["v2020", "2017"])
def test_label_release(release: str) -> None:
    assert label_release(cohort_of(release)) == release


@pytest.mark.parametrize("release", ["v2020", "2017"])
@pytest.mark.parametrize("change", [{"Hernia": 1}, {"No Finding": -1}, {"images": 1}, {"images": -1}])
def test_one_count_that_differs_is_no_release(release: str, change: dict[str, int]) -> None:
    assert label_release(cohort_of(release, **change)) == "unknown"


def test_one_count_that_agrees_is_no_release() -> None:
    frame = pl.DataFrame({"official": ["test"] * 600, **{label: [row < 555 for row in range(600)] for label in LABELS}})
    assert label_release(frame) == "unknown"


def test_counts_of_a_small_folder_differ(raw: Path) -> None:
    (raw / "BBox_List_2017.csv").write_text(BOXES)
    findings = check_counts(read(raw))
    assert findings[0] == "label release 'unknown' is none of v2020, 2017"
    assert "all, images: 4 found, 112,120 expected" in findings
    assert "all, patients: 3 found, 30,805 expected" in findings
    assert "test, Hernia: 1 found, 86 expected" in findings
    assert "train_val, M: 2 found, 48,458 expected" in findings
    assert "boxes of Infiltration: 1 found, 123 expected" in findings


def test_counts_know_both_releases(raw: Path) -> None:
    records = read(raw)
    old = Records(records.dataset, records.frame, "2017")
    assert "test, Mass: 0 found, 1,712 expected" in check_counts(old)
    assert not any(", AP:" in finding for finding in check_counts(old))  # not counted for that release


@given(st.lists(st.text(st.characters(blacklist_categories=["Cs", "Zs", "Cc"], blacklist_characters=","), min_size=1)))
def test_few_names_every_one_or_says_how_many_more(names: list[str]) -> None:
    shown, _, more = few(names).partition(" and ")
    assert len([name for name in shown.split(", ") if name]) + int(more.split(" ")[0] if more else 0) == len(names)
