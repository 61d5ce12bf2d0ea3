"""The tables and lists in every way in which they are saved again, and damaged in every way."""

from __future__ import annotations

import codecs
import gzip
import io
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import mutations
from tiny_download import ALL, BOXES, HEADER, NEW_CSV, OLD_CSV, ROWS, TEST, TRAIN_VAL, make_images, make_tables, message

from cxrkit.base.contracts import Records
from cxrkit.base.errors import UserError, shown
from cxrkit.datasets.nih import tables as nih_tables
from cxrkit.datasets.nih.chestxray14 import read

TABLE = "\n".join([HEADER, *ROWS]) + "\n"
LISTS = {"train_val_list.txt": "\n".join(TRAIN_VAL), "test_list.txt": "\n".join(TEST)}


def zipped(data: bytes, *others: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("table.csv", *others):
            archive.writestr(name, data)
    return out.getvalue()


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    raw = make_tables(tmp_path / "raw")
    make_images(raw / "images", ALL)
    (raw / "BBox_List_2017.csv").write_text(BOXES)
    return raw


def same(one: Records, other: Records) -> bool:
    assert one.boxes is not None
    assert other.boxes is not None
    return one.frame.equals(other.frame) and one.boxes.equals(other.boxes)


SAVED: dict[str, Callable[[str], bytes]] = {
    "UTF-8 with a mark": lambda text: text.encode("utf-8-sig"),
    "UTF-16": lambda text: text.encode("utf-16"),
    "UTF-16, big-endian": lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
    "UTF-32": lambda text: text.encode("utf-32"),
    "CRLF": lambda text: text.replace("\n", "\r\n").encode(),
    "CR": lambda text: text.replace("\n", "\r").encode(),
    "gzip": lambda text: gzip.compress(text.encode()),
    "gzip of UTF-16": lambda text: gzip.compress(text.encode("utf-16")),
    "zip": lambda text: zipped(text.encode(), "__MACOSX/._table.csv"),
}


@pytest.mark.parametrize("way", SAVED)
@pytest.mark.parametrize("ending", ["", ".gz", ".zip"])
def test_every_table_and_list_may_be_saved_in_any_way(raw: Path, way: str, ending: str) -> None:
    expected = read(raw)
    for name, text in {NEW_CSV: TABLE, "BBox_List_2017.csv": BOXES, **LISTS}.items():
        (raw / name).unlink()
        (raw / f"{name}{ending}").write_bytes(SAVED[way](text))
    assert same(read(raw), expected)


@pytest.mark.parametrize("separator", [";", "\t"])
def test_a_table_with_other_separators(raw: Path, separator: str) -> None:
    expected = read(raw)
    for name in (NEW_CSV, "BBox_List_2017.csv"):
        (raw / name).write_text((raw / name).read_text().replace(",", separator))
    assert same(read(raw), expected)


def test_a_table_with_every_cell_quoted(raw: Path) -> None:
    expected = read(raw)
    lines = [",".join(f'"{cell}"' for cell in line.split(",")) for line in TABLE.splitlines()]
    lines[0] = lines[0].replace('"OriginalImage[Width","Height]"', '"OriginalImage[Width,Height]"')
    (raw / NEW_CSV).write_text("\n".join(lines))
    assert same(read(raw), expected)


def test_the_newer_table_is_preferred_however_it_is_packed(raw: Path) -> None:
    (raw / NEW_CSV).unlink()
    (raw / OLD_CSV).write_text("nothing")
    (raw / f"{NEW_CSV}.gz").write_bytes(gzip.compress(TABLE.encode()))
    assert read(raw).frame.height == 4


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (TABLE.encode("utf-16-le"), "it has NUL bytes (UTF-16 without a byte order mark, or a damaged download)"),
        (TABLE.encode("utf-16")[:-1], "is not a text file in UTF-16 (truncated data)"),
        (TABLE.encode() + bytes(4096), "it has NUL bytes"),
        (TABLE.encode().replace(b"Hernia", b"H\xe9rnia"), "is not a text file in UTF-8 (invalid continuation byte)"),
        (b"", "cannot be read as a CSV file (empty CSV)"),
        (b"\n\n\n", "cannot be read as a CSV file (empty CSV)"),
        (gzip.compress(TABLE.encode())[:-20], "cannot be unpacked (the gzip stream ends too early)"),
        (zipped(TABLE.encode(), "more.csv"), "cannot be unpacked (2 files in it, expected one)"),
        (b"PK\x03\x04 and no more", "cannot be unpacked (File is not a zip file)"),
        (gzip.compress(bytes(70 << 20)), "has more than 67,108,864 bytes, no table of NIH's has"),
        (b"," * 2000, "has 2,001 columns, no table of NIH's has"),
        (b"Image \x1b[2J\x07Index\n1\n", "column 'Image Index' is missing; found Image \\x1b[2J\\x07Index"),
        (TABLE.replace("Hernia", "\x1b[2J").encode(), r"found '\x1b[2J', expected one of Cardiomegaly"),
        (TABLE.replace(",7,1,", f",{'9' * 400},1,").encode(), f"found '{'9' * 60}', expected a whole number"),
        (TABLE.replace(",7,1,", ",٣,1,").encode(), "found '٣', expected a whole number"),
    ],
)
@pytest.mark.parametrize("name", [NEW_CSV, "BBox_List_2017.csv"])
def test_a_table_that_cannot_be_read_is_named_and_printable(raw: Path, content: bytes, problem: str, name: str) -> None:
    if name != NEW_CSV and "expected" in problem and "files" not in problem:
        return  # a cell that the box list does not have
    (raw / name).write_bytes(content)
    found = message(lambda: read(raw))
    assert found.startswith(f"{raw / name}: ")
    assert problem in found
    assert all(line.isprintable() for line in found.splitlines())


@pytest.mark.parametrize("name", [NEW_CSV, "train_val_list.txt", "test_list.txt", "BBox_List_2017.csv"])
def test_a_folder_in_place_of_a_file(raw: Path, name: str) -> None:
    (raw / name).unlink()
    (raw / name).mkdir()
    found = message(lambda: read(raw))
    assert f"{raw / name}: is a folder, expected a file" in found
    assert "move the file out of it" in found


def test_the_lists_of_a_resized_copy(raw: Path) -> None:
    expected = read(raw)
    for name in LISTS:
        (raw / name).rename(raw / name.replace(".txt", "_NIH.txt"))
    assert same(read(raw), expected)
    (raw / "test_list_NIH.txt").unlink()
    assert f"{raw}: no test_list.txt here" in message(lambda: read(raw))


def test_a_table_one_level_down_or_in_the_zip_is_pointed_at(raw: Path) -> None:
    above = raw.parent
    assert f"remedy: name the folder that has it: --raw {raw}" in message(lambda: read(above))
    (raw / "below").mkdir()
    assert message(lambda: read(raw / "below")).endswith(f"remedy: they are in {raw}: --raw {raw}")
    (raw / NEW_CSV).unlink()
    with zipfile.ZipFile(raw / "archive.zip", "w") as archive:
        archive.writestr(f"data/{OLD_CSV}", TABLE)
    (raw / "aaa.zip").write_bytes(b"PK\x03\x04")
    found = message(lambda: read(raw))
    assert f"remedy: unpack the tables, the images need not be: unzip -j {raw}/archive.zip" in found
    (raw / "archive.zip").unlink()
    assert f"remedy: put NIH's {NEW_CSV} into this folder" in message(lambda: read(raw))


@pytest.mark.parametrize("number", ["1e999", "9" * 500, "0x10", "nan", "-1", "1e-999999999999999999999", "٣"])
def test_a_box_of_an_impossible_number(raw: Path, number: str) -> None:
    (raw / "BBox_List_2017.csv").write_text(BOXES.replace("10.5", number).replace(",20,", f",{number},"))
    if number.startswith("1e-"):
        assert read(raw).boxes is not None  # as good as 0
    else:
        assert "expected a number of pixels within the 1024 x 1024 image" in message(lambda: read(raw))


@pytest.mark.parametrize("name", ["^.*$", "^x$", "*", "", "x", "(line)", "(column 3)"])
def test_the_name_of_a_column_is_never_a_pattern(raw: Path, name: str) -> None:
    expected = read(raw)
    (raw / "BBox_List_2017.csv").write_text(BOXES.replace("Bbox [x,y,w,h]", f"Bbox [x,{name},{name}2,{name}3"))
    if name == "(line)":
        assert "cannot be read as a CSV file" in message(lambda: read(raw))
    else:
        assert same(read(raw), expected)


def test_a_box_without_an_image(raw: Path) -> None:
    (raw / "BBox_List_2017.csv").write_text(BOXES + ",Mass,1,2,3,4\n" + BOXES.splitlines()[1])
    assert "line 3, column 'Image Index': found nothing, expected a file name" in message(lambda: read(raw))


GOOD = pl.DataFrame({"image_id": ALL})


@settings(max_examples=100, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("saved", ["plain", "UTF-16", "gzip", "zip"])
def test_a_mutated_table_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, saved: str, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("mutated")
    save = SAVED.get(saved, str.encode)
    for name, text in {NEW_CSV: TABLE, "BBox_List_2017.csv": BOXES, "test_list.txt": LISTS["test_list.txt"]}.items():
        (folder / name).write_bytes(data.draw(mutations(save(text))))
    for action in (
        lambda: nih_tables.read_entries(folder / NEW_CSV),
        lambda: nih_tables.read_boxes(folder, folder / NEW_CSV, GOOD),
        lambda: nih_tables._read_list(folder, "test"),
    ):
        with suppress(UserError):
            action()


@given(st.text())
def test_what_is_shown_is_printable_and_keeps_what_was(text: str) -> None:
    assert shown(text).isprintable()
    assert shown(text).encode() or not text
    if text.isprintable():
        assert shown(text) == text
    assert str(UserError(text, remedy=text)).replace("\n", "").isprintable()
