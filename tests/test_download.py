"""`cxrkit download` against a server on this machine that does all that servers do."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from broken_server import Page, serving
from rich.console import Console
from tiny_cohort import picture, png
from tiny_download import ALL, BOXES, make_tables, make_tar
from typer.testing import CliRunner

from cxrkit.base.errors import DiskFull, UserError
from cxrkit.base.files import claimed
from cxrkit.cli.app import app
from cxrkit.datasets.nih import archives as nih_archives
from cxrkit.datasets.nih.text import PAGE
from cxrkit.download import downloading, partial, published, there, web
from cxrkit.download.downloading import DownloadRequest, download
from cxrkit.download.fetching import Patience, Told, fetch
from cxrkit.download.published import RemoteFile
from cxrkit.download.web import Refused

AT_ONCE = Patience(tries=4, pause_seconds=0.0)
DATA = b"\x1f\x8b" + bytes(range(256)) * 200
HALF = len(DATA) // 2


@pytest.fixture
def pages() -> dict[str, Page]:
    return {}


@pytest.fixture
def address(pages: dict[str, Page]) -> Iterator[str]:
    with serving(pages) as address:
        yield address


@pytest.fixture
def file(address: str) -> RemoteFile:
    md5 = hashlib.md5(DATA, usedforsecurity=False).hexdigest()
    sha256 = hashlib.sha256(DATA).hexdigest()
    return RemoteFile("images_001.tar.gz", f"{address}/file.gz", len(DATA), md5, sha256, b"\x1f\x8b")


class Heard(Told):
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.bytes = 0
        super().__init__(self.count, self.notes.append, threading.Event())

    def count(self, number: int) -> None:
        self.bytes += number


def fetched(file: RemoteFile, folder: Path, heard: Heard | None = None) -> Heard:
    """Fetch the file, and see that all is as it must be then."""
    heard = heard or Heard()
    assert fetch(file, folder, heard, AT_ONCE) == ""
    assert (folder / file.name).read_bytes() == DATA
    assert [path.name for path in folder.iterdir()] == [file.name]  # no part, no note of one
    assert heard.bytes == len(DATA)
    return heard


def refused(file: RemoteFile, folder: Path) -> str:
    with pytest.raises(Refused) as caught:
        fetch(file, folder, Heard(), AT_ONCE)
    assert not (folder / file.name).exists()
    return str(caught.value)


# ------------------------------------------------------------------------------------------------------- one file


def test_whole(file: RemoteFile, pages: dict[str, Page], tmp_path: Path) -> None:
    pages["file.gz"] = Page(DATA)
    assert fetched(file, tmp_path).notes == []
    assert "range" not in pages["file.gz"].asked[0]
    assert pages["file.gz"].asked[0]["user-agent"].startswith("cxrkit/")


def test_broken_off_is_continued(file: RemoteFile, pages: dict[str, Page], tmp_path: Path) -> None:
    page = pages["file.gz"] = Page(DATA, cut_after=[HALF, 100])
    heard = fetched(file, tmp_path)
    assert heard.notes[0] == "images_001.tar.gz: broke off after 25.6 kB of 51.2 kB; tried again in 0 s"
    assert [asked.get("range") for asked in page.asked] == [None, f"bytes={HALF}-", f"bytes={HALF + 100}-"]
    assert [asked.get("if-range") for asked in page.asked[1:]] == ['"v1"', '"v1"']


def test_no_more_bytes_for_long_gives_up_and_keeps_the_part(
    file: RemoteFile, pages: dict[str, Page], tmp_path: Path
) -> None:
    page = pages["file.gz"] = Page(DATA, cut_after=[HALF, 0, 0, 0])
    text = refused(file, tmp_path)
    assert text == "broke off after 25.6 kB of 51.2 kB, 4 times in a row"
    assert (tmp_path / "images_001.tar.gz.part").stat().st_size == HALF
    fetched(file, tmp_path)
    assert page.asked[-1]["range"] == f"bytes={HALF}-"


def test_a_part_is_continued_by_the_next_run(file: RemoteFile, pages: dict[str, Page], tmp_path: Path) -> None:
    pages["file.gz"] = Page(DATA)
    (tmp_path / "images_001.tar.gz.part").write_bytes(DATA[:1000])  # of another tool: nothing says which file it is of
    fetched(file, tmp_path)
    assert pages["file.gz"].asked[0]["range"] == "bytes=1000-"


def test_a_part_that_was_whole_is_only_checked(file: RemoteFile, pages: dict[str, Page], tmp_path: Path) -> None:
    pages["file.gz"] = Page(DATA)
    (tmp_path / "images_001.tar.gz.part").write_bytes(DATA)
    fetched(file, tmp_path)
    assert pages["file.gz"].asked == []


def test_a_part_of_something_else_begins_anew(file: RemoteFile, pages: dict[str, Page], tmp_path: Path) -> None:
    pages["file.gz"] = Page(DATA)
    (tmp_path / "images_001.tar.gz.part").write_bytes(b"\x1f\x8b" + bytes(998))
    heard = fetched(file, tmp_path)
    assert heard.notes == [f"images_001.tar.gz: its MD5 is not NIH's {file.md5}; it is downloaded again"]


@pytest.mark.parametrize("tag", ['"v1"', "", 'W/"weak"'])
def test_a_server_that_refuses_ranges(file: RemoteFile, pages: dict[str, Page], tmp_path: Path, tag: str) -> None:
    pages["file.gz"] = Page(DATA, ranges=False, cut_after=[HALF], tag=tag)
    heard = fetched(file, tmp_path)
    assert heard.notes[1] == "images_001.tar.gz: the server sends no rest alone; it begins anew"


def test_a_wrong_range_is_not_taken(file: RemoteFile, pages: dict[str, Page], tmp_path: Path) -> None:
    page = pages["file.gz"] = Page(DATA, shift=7, cut_after=[HALF])
    heard = fetched(file, tmp_path)
    assert f"the server sends what begins at byte {HALF + 7}, asked for was 25,601; it begins anew" in heard.notes[1]
    assert "range" not in page.asked[-1]


def test_a_tag_that_changes_with_every_answer_costs_nothing(
    file: RemoteFile, pages: dict[str, Page], tmp_path: Path
) -> None:
    """The checksum decides: the same bytes under another tag are not fetched twice."""
    page = pages["file.gz"] = Page(DATA, cut_after=[HALF], then=lambda page: setattr(page, "tag", '"v2"'))
    page.cut_after.append(0)  # what would begin from the start is not read
    fetched(file, tmp_path)
    assert [asked.get("if-range") for asked in page.asked] == [None, '"v1"', None]
    assert page.asked[-1]["range"] == f"bytes={HALF}-"


def test_a_file_that_changes_in_between(file: RemoteFile, pages: dict[str, Page], tmp_path: Path) -> None:
    """Of the same size: the end of one behind the beginning of the other is found by the checksum."""
    old = b"\x1f\x8b" + bytes(len(DATA) - 2)

    def change(page: Page) -> None:
        page.data, page.tag = DATA, '"v2"'

    pages["file.gz"] = Page(old, cut_after=[HALF, 0], then=change)
    heard = fetched(file, tmp_path)
    assert heard.notes[-1] == f"images_001.tar.gz: its MD5 is not NIH's {file.md5}; it is downloaded again"


def test_a_file_without_checksum_that_changes_in_between(
    file: RemoteFile, pages: dict[str, Page], tmp_path: Path
) -> None:
    """The tag alone tells, and the whole file is taken anew."""

    def change(page: Page) -> None:
        page.data, page.tag = DATA, '"v2"'

    pages["file.gz"] = Page(b"\x1f\x8b" + bytes(999), cut_after=[500], then=change)
    heard = fetched(replace(file, size=None, md5="", sha256=""), tmp_path)
    assert heard.notes[-1] == "images_001.tar.gz: the server's file is another one by now; it begins anew"


def test_a_wrong_file_is_refused_after_a_second_try(file: RemoteFile, pages: dict[str, Page], tmp_path: Path) -> None:
    page = pages["file.gz"] = Page(b"\x1f\x8b" + bytes(len(DATA) - 2))
    assert refused(file, tmp_path) == f"what has arrived is not NIH's file: its MD5 is not NIH's {file.md5}"
    assert len(page.asked) == 2


def test_a_table_is_told_by_its_sha256(file: RemoteFile, pages: dict[str, Page], tmp_path: Path) -> None:
    pages["file.gz"] = Page(b"\x1f\x8b" + bytes(len(DATA) - 2))
    assert f"its SHA-256 is not the known one, {file.sha256}" in refused(replace(file, md5=""), tmp_path)


def test_nih_decides_where_two_checksums_disagree(file: RemoteFile, pages: dict[str, Page], tmp_path: Path) -> None:
    pages["file.gz"] = Page(DATA)
    said = fetch(replace(file, sha256="0" * 64), tmp_path, Heard(), AT_ONCE)
    assert said == f"its MD5 is NIH's, but its SHA-256 not the one known from a third party, {'0' * 64}"


@pytest.mark.parametrize(("told", "says"), [(10, "10"), (10**6, "1,000,000")])
def test_a_length_that_is_not_nihs(
    file: RemoteFile, pages: dict[str, Page], tmp_path: Path, told: int, says: str
) -> None:
    pages["file.gz"] = Page(DATA, told_length=told)
    assert refused(file, tmp_path) == f"the server's file has {says} bytes, NIH's had 51,202: another file"


def test_a_length_that_is_a_lie(file: RemoteFile, pages: dict[str, Page], tmp_path: Path) -> None:
    """Where no size is known, the server is asked on and says itself that there is no more."""
    pages["file.gz"] = Page(DATA, told_length=len(DATA) + 10)
    heard = fetched(replace(file, size=None), tmp_path)
    assert "broke off after 51.2 kB of 51.2 kB" in heard.notes[0]


def test_a_damaged_archive_without_checksum(file: RemoteFile, pages: dict[str, Page], tmp_path: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo("images/00000001_000.png"))
    bare = replace(file, size=None, md5="", sha256="", archive=nih_archives.archive_facts()[0])
    pages["file.gz"] = Page(packed.getvalue()[:-6], tag="")
    assert "a damaged or incomplete archive" in refused(bare, tmp_path)
    pages["file.gz"] = Page(packed.getvalue(), tag="")
    assert fetch(bare, tmp_path, Heard(), AT_ONCE) == ""


@pytest.mark.parametrize(
    ("page", "text"),
    [
        (Page(b"<html>Sign in</html>", kind="text/html; charset=utf-8"), "127.0.0.1 answers with a web page instead"),
        (
            Page(b"<!DOCTYPE html>".ljust(len(DATA))),
            "what the server sends is no images_001.tar.gz: it begins with b'<!",
        ),
        (Page(DATA, statuses=[403]), "127.0.0.1 answers 403 Forbidden"),
        (Page(DATA, statuses=[503] * 9), "127.0.0.1 answers 503 Service Unavailable, 4 times in a row"),
    ],
)
def test_answers_that_are_no_file(
    page: Page, text: str, file: RemoteFile, pages: dict[str, Page], tmp_path: Path
) -> None:
    pages["file.gz"] = page
    assert refused(file, tmp_path).startswith(text)


def test_not_found_is_not_tried_again(file: RemoteFile, tmp_path: Path) -> None:
    assert refused(file, tmp_path) == "127.0.0.1 answers 404 Not Found"


def test_nobody_there(tmp_path: Path) -> None:
    with serving({}) as address:
        pass
    text = refused(RemoteFile("a.gz", f"{address}/a.gz"), tmp_path)
    assert text == "127.0.0.1 cannot be reached (Connection refused), 4 times in a row"


def test_a_host_that_nobody_reaches_is_named_once_for_all_files(
    pages: dict[str, Page], address: str, tmp_path: Path
) -> None:
    with serving({}) as nowhere:
        pass
    heard, other = Heard(), Heard()
    other.unreachable = heard.unreachable
    for number, told in enumerate((heard, other)):
        with pytest.raises(Refused):
            fetch(RemoteFile(f"{number}.gz", f"{nowhere}/{number}.gz"), tmp_path, told, AT_ONCE)
    assert heard.notes == ["127.0.0.1 cannot be reached (Connection refused); each file is tried 4 times"]
    assert other.notes == []


def test_busy_and_then_fine(file: RemoteFile, pages: dict[str, Page], tmp_path: Path) -> None:
    pages["file.gz"] = Page(DATA, statuses=[503, 429, 500], retry_after="3")
    assert len(fetched(file, tmp_path).notes) == 3


def test_a_server_is_waited_for_as_it_asks_and_no_longer_than_two_minutes(pages: dict[str, Page], address: str) -> None:
    pages["a"] = Page(b"", statuses=[503, 503, 503], retry_after="7")
    with pytest.raises(web.Broken) as caught:
        web.ask(f"{address}/a")
    assert Patience().pause(1, caught.value.wait_seconds) == 7
    pages["a"].retry_after = "86400"
    with pytest.raises(web.Broken) as caught:
        web.ask(f"{address}/a")
    assert Patience().pause(1, caught.value.wait_seconds) == 120
    assert 3.2 <= Patience().pause(3, None) <= 4.8


def test_redirects_are_followed_with_the_range(file: RemoteFile, pages: dict[str, Page], tmp_path: Path) -> None:
    pages["file.gz"] = Page(b"", moved_to="/elsewhere/x")
    page = pages["elsewhere/x"] = Page(DATA, cut_after=[HALF])
    fetched(file, tmp_path)
    assert page.asked[1]["range"] == f"bytes={HALF}-"


def test_a_proxy_is_honoured(
    pages: dict[str, Page], address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy gets the whole address as the path; the host itself does not exist."""
    pages["http://nih.invalid/file"] = Page(DATA)
    for name in ("no_proxy", "NO_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", address)
    answer = web.ask("http://nih.invalid/file")
    with answer.stream:
        assert answer.stream.read() == DATA


def test_told_to_stop_it_leaves_a_part_that_goes_on(file: RemoteFile, pages: dict[str, Page], tmp_path: Path) -> None:
    page = pages["file.gz"] = Page(DATA, gate=threading.Event())
    heard = Heard()

    def count(number: int) -> None:
        if heard.bytes + number >= HALF:  # the first half has come
            heard.stop.set()
            assert page.gate is not None
            page.gate.set()
        heard.count(number)

    heard.advance = count
    assert fetch(file, tmp_path, heard, AT_ONCE) == ""
    assert not (tmp_path / file.name).exists()
    assert 0 < (tmp_path / "images_001.tar.gz.part").stat().st_size < len(DATA)
    page.gate = None
    fetched(file, tmp_path)


def test_a_full_disk(file: RemoteFile, pages: dict[str, Page], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pages["file.gz"] = Page(DATA, cut_after=[HALF])
    part = partial.Partial(tmp_path, file)
    part.begin("")
    part._out = open("/dev/full", "ab", buffering=0)  # noqa: SIM115
    with pytest.raises(DiskFull, match="the disk is full"):
        part.append(DATA)
    assert part.size == 0


# ------------------------------------------------------------------------------------------------- the whole download


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return a data set of four images as it is served: tables, and two archives."""
    tables = make_tables(tmp_path_factory.mktemp("nih") / "tables")
    (tables / "BBox_List_2017.csv").write_text(BOXES)
    served = {path.name: path.read_bytes() for path in tables.iterdir()}
    film = png(picture(0))
    for number, names in enumerate((ALL[:2], ALL[2:]), start=1):
        name = f"images_{number:03d}.tar.gz"
        served[name] = make_tar(tables / name, [f"images/{image}" for image in names], data=film).read_bytes()
    return served


@pytest.fixture
def nih(
    served: dict[str, bytes], pages: dict[str, Page], address: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """Serve the data set, which the manifest then takes for NIH's; yield the address."""
    pages |= {name: Page(data) for name, data in served.items()}

    def known(name: str) -> dict[str, object]:
        data = served[name]
        md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
        return {"name": name, "bytes": len(data), "md5": md5, "sha256": hashlib.sha256(data).hexdigest()}

    manifest = dict(nih_archives.manifest())
    manifest["table"] = [known(entry["name"]) | {"box_file": "0"} for entry in manifest["table"]]
    manifest["archive"] = [
        known(f"images_{number:03d}.tar.gz") | {"images": 2, "first": names[0], "last": names[1], "box": "key"}
        for number, names in enumerate((ALL[:2], ALL[2:]), start=1)
    ]
    nih_archives.archive_facts.cache_clear()
    monkeypatch.setattr(nih_archives, "manifest", lambda: manifest)
    monkeypatch.setattr(published, "manifest", lambda: manifest)
    yield address
    nih_archives.archive_facts.cache_clear()


def run(address: str, folder: Path, **values: object) -> downloading.DownloadSummary:
    return download(DownloadRequest(folder, mirror=address, **values), patience=AT_ONCE)  # type: ignore[arg-type]


def cxrkit(*arguments: object) -> tuple[int, str]:
    """Return exit code and output, with the lines joined, of a command run in this process."""
    done = CliRunner().invoke(app, list(map(str, arguments)))
    error = str(done.exception) if isinstance(done.exception, UserError) else ""
    return done.exit_code, done.output + error


def test_download_then_prepare(nih: str, pages: dict[str, Page], tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    code, output = cxrkit("download", "--to", raw, "--from", nih)
    assert code == 0, output
    assert re.search(r"6 files in .*raw: 0 there already, 6 downloaded in \d+ s\n", output)
    assert "images_001.tar.gz: " in output
    assert not [path.name for path in raw.iterdir() if ".part" in path.name or path.name.endswith(".lock")]
    code, output = cxrkit("prepare", "--raw", raw, "--data", tmp_path / "shards", "--levels", "32", "--workers", "1")
    assert code == 0, output
    assert "4 images in" in output
    asked = sum(len(page.asked) for page in pages.values())
    code, output = cxrkit("download", "--to", raw, "--from", nih)
    assert (code, sum(len(page.asked) for page in pages.values())) == (0, asked)  # all is there: nobody is asked
    assert "6 there already, nothing to download" in output


def test_only_and_tables(nih: str, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    code, output = cxrkit("download", "--to", raw, "--from", nih, "--tables")
    assert (code, sorted(path.suffix for path in raw.iterdir() if not path.name.startswith("."))) == (
        0, [".csv", ".csv", ".txt", ".txt"],
    )  # fmt: skip
    assert f"Next: cxrkit prepare --raw {raw} --tables-only" in output
    summary = run(nih, raw, only="images_002")
    assert (summary.kept, summary.fetched) == (4, 1)
    assert not (raw / "images_001.tar.gz").exists()
    assert summary.text().endswith("--allow-missing")


def test_nothing_that_is_there_is_overwritten(nih: str, pages: dict[str, Page], tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "archives").mkdir()  # where prepare looks, too
    (raw / "archives" / "images_01.tar.gz").write_bytes(pages["images_001.tar.gz"].data)  # as NIH's script calls it
    (raw / "images_002.tar.gz").write_bytes(b"my own")
    csv = raw / "Data_Entry_2017_v2020.csv"
    csv.write_text("saved again by a spreadsheet")
    notes = io.StringIO()
    summary = download(DownloadRequest(raw, mirror=nih), console=Console(file=notes, width=200), patience=AT_ONCE)
    assert (raw / "images_002.tar.gz").read_bytes() == b"my own"
    assert csv.read_text() == "saved again by a spreadsheet"
    assert not (raw / "images_001.tar.gz").exists()
    assert "Data_Entry_2017_v2020.csv: kept as it is there, but has 28 bytes, NIH's has " in notes.getvalue()
    with pytest.raises(
        UserError, match=r"5 of 6 files are there\n  images_002.tar.gz: images_002.tar.gz is there, but has 6"
    ) as e:
        summary.raise_if_failed()
    assert "delete images_002.tar.gz or move it away" in e.value.remedy
    assert "continued when it is renamed to images_002.tar.gz.part" in e.value.remedy


def test_unpacked_archives_are_not_fetched(nih: str, tmp_path: Path) -> None:
    (tmp_path / "raw" / "images").mkdir(parents=True)
    for name in ALL[:2]:
        (tmp_path / "raw" / "images" / name).write_bytes(b"")
    summary = run(nih, tmp_path / "raw")
    assert (summary.kept, summary.fetched) == (1, 5)


def test_one_failure_keeps_no_other_from_coming(nih: str, pages: dict[str, Page], tmp_path: Path) -> None:
    pages["test_list.txt"] = Page(b"<html>", kind="text/html")
    del pages["images_001.tar.gz"]
    code, output = cxrkit("download", "--to", tmp_path / "raw", "--from", nih, "--at-once", "1")
    assert code == 1  # UserError, which main turns into 2
    assert "4 of 6 files are there" in output
    assert "images_001.tar.gz: 127.0.0.1 answers 404 Not Found" in output
    assert "test_list.txt: 127.0.0.1 answers with a web page instead of the file" in output
    assert f"remedy: get it from {PAGE} with a browser and put it into this folder" in output


def test_a_disk_that_is_too_small(nih: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 1000})())
    with pytest.raises(
        UserError, match=r"raw: .* [kM]B are missing, and the disk has 1.0 kB left\n  remedy: free some"
    ):
        run(nih, tmp_path / "raw")


def test_two_downloads_into_one_folder(nih: str, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    with (
        claimed(raw / downloading.LOCK, "", ""),
        pytest.raises(
            UserError, match=r"another cxrkit download is writing here \(process \d+ on .*\)\n  remedy: wait"
        ),
    ):
        run(nih, raw)


def test_ctrl_c_leaves_parts_and_no_claim(
    nih: str, pages: dict[str, Page], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw, page = tmp_path / "raw", pages["images_002.tar.gz"]
    page.gate = threading.Event()
    took, interrupt, interrupted = partial.Partial.append, threading.Event(), threading.Event()

    def append(part: partial.Partial, data: bytes) -> None:
        took(part, data)
        if part.path.name.startswith("images_002"):
            interrupt.set()

    monkeypatch.setattr(partial.Partial, "append", append)
    joined = threading.Thread.join

    def join(thread: threading.Thread, timeout: float | None = None) -> None:
        if interrupt.is_set() and not interrupted.is_set():
            interrupted.set()
            raise KeyboardInterrupt
        if interrupted.is_set() and page.gate is not None:  # it has been told to stop by now
            page.gate.set()
        joined(thread, timeout)

    monkeypatch.setattr(threading.Thread, "join", join)
    with pytest.raises(KeyboardInterrupt):
        run(nih, raw)
    monkeypatch.undo()
    assert not (raw / downloading.LOCK).exists()
    assert not (raw / "images_002.tar.gz").exists()
    assert 0 < (raw / "images_002.tar.gz.part").stat().st_size <= len(page.data) // 2


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"only": "images_013"}, "--only images_013: 'images_013' is none of NIH's archives, images_001 to images_012"),
        ({"only": ","}, "--only: names no archive"),
        ({"only": "1", "tables": True}, "--tables and --only: one wants no archive"),
        ({"mirror": "/home/me"}, "--from /home/me: not an address of the web\n  remedy: write it like https://host"),
        ({"at_once": 0}, "--at-once 0: there must be at least one"),
    ],
)
def test_mistakes(values: dict[str, object], text: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        download(DownloadRequest(tmp_path / "raw", **values))  # type: ignore[arg-type]
    assert str(caught.value).startswith(text)
    assert not (tmp_path / "raw").exists()


def test_what_the_manifest_says_of_nihs_files() -> None:
    """Sixteen files, each with an address of NIH's, a size and a checksum."""
    files = published.chosen(None, tables_alone=False)
    assert len(files) == len({file.url for file in files}) == 16
    assert all(file.size and len(file.sha256) == 64 for file in files)
    assert all(len(file.md5) == 32 for file in files if file.archive)
    assert sum(file.size or 0 for file in files if file.archive) == 45_079_862_784
    assert files[4].url == "https://nihcc.box.com/shared/static/vfk49d74nhbxq3nqjg0900w5nvkorp5c.gz"
    assert all(file.url.startswith("https://nihcc.") for file in files)
    assert nih_archives.manifest()["homepage"] == PAGE
    for name in ("train_val", "test"):
        entry = nih_archives.manifest()["split"][name]
        (file,) = (file for file in files if file.name == entry["list"])
        assert (file.size, file.sha256) == (entry["list_bytes"], entry["list_sha256"])


def test_real_tables_are_those_of_the_manifest(nih_raw: Path) -> None:
    for file in published.tables()[1:]:  # the CSV at hand was saved again
        assert partial.digests_of(nih_raw / file.name, lambda count: None).differing(file) == ""


def test_a_checked_file_that_has_changed_is_checked_again(tmp_path: Path, file: RemoteFile) -> None:
    path = tmp_path / file.name
    path.write_bytes(DATA)
    there.Checked.of(tmp_path).add(path, file)
    assert there.Checked.of(tmp_path).knows(path, file)
    path.write_bytes(DATA[:-1])
    assert not there.Checked.of(tmp_path).knows(path, file)
    (tmp_path / there.CHECKED).write_text("[]")
    assert not there.Checked.of(tmp_path).knows(path, file)
