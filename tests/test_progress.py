"""What a progress line says of slow work."""

from __future__ import annotations

import io
import re
import time

import pytest
from rich.console import Console

from cxrkit.base import progress, words, wrapping


@pytest.mark.parametrize(("seconds", "said"), [(20, "left"), (0.01, "100 networks/s, ")])
def test_less_than_one_a_second_is_not_called_none(seconds: float, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY_SECONDS", 0)
    now = iter([0.0, seconds])
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    console = Console(file=io.StringIO(), width=120)
    with progress.progress_bar("measuring", 8, console=console, unit="networks") as bar:
        bar.advance()
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert said in text
    assert " 0 networks/s" not in text


def test_no_bar_of_nothing() -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    with progress.progress_bar("checksums", 0, console=console, unit="shards"):
        pass
    assert console.file.getvalue() == ""  # type: ignore[attr-defined]


def terminal(width: int) -> Console:
    return Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None, legacy_windows=False)


def said(console: Console) -> str:
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "\n")


@pytest.mark.parametrize("width", [80, 120, 200])
@pytest.mark.parametrize(
    ("total", "unit", "done"),
    [(112_120, "images", "112,120/112,120"), (45_079_862_784, progress.BYTES, "45.1 GB of 45.1 GB")],
)
def test_a_bar_has_its_label_its_commas_and_the_time_that_passed(total: int, unit: str, done: str, width: int) -> None:
    console = terminal(width)
    with progress.progress_bar("download", total, console=console, unit=unit) as bar:
        bar.advance(total)
        bar.note("a word [in between]")
    lines = said(console).splitlines()
    assert "a word [in between]" in lines
    last = [line for line in lines if line.startswith("download")][-1].rstrip()
    assert done in last
    assert last.endswith("0:00:00")
    assert len(last) <= width


def test_bytes_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY_SECONDS", 0)
    now = iter([0.0, 10.0, 20.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    console = Console(file=io.StringIO(), width=120)
    with progress.progress_bar("download", 45_079_862_784, console=console, unit=progress.BYTES) as bar:
        bar.advance(230_000_000)
        bar.advance(-230_000_000)  # it begins anew
    assert console.file.getvalue().splitlines() == [  # type: ignore[attr-defined]
        "download: 230.0 MB of 45.1 GB, 23.0 MB/s, 32 min left",
        "download: 0 bytes of 45.1 GB, unknown left",
    ]


def test_what_is_waited_for_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    console = terminal(80)
    with progress.waiting("reading the tables", console):
        pass
    assert "reading the tables" in said(console)
    silent = Console(file=io.StringIO(), width=80)
    with progress.waiting("reading the tables", silent):
        pass
    assert silent.file.getvalue() == ""  # type: ignore[attr-defined]
    monkeypatch.setattr(progress, "SILENT_SECONDS", 0.0)
    monkeypatch.setattr(progress, "LINE_EVERY_SECONDS", 0.001)
    pipe = Console(file=io.StringIO(), width=80)
    with progress.waiting("reading the tables", pipe):
        time.sleep(0.05)
    lines = pipe.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert lines[:2] == ["reading the tables ...", "reading the tables: 0 s"]
    with progress.waiting("nothing", None):
        pass


@pytest.mark.parametrize(
    ("bytes_", "text"), [(1, "1 byte"), (999, "999 bytes"), (1500, "1.5 kB"), (1_500_000_000_000, "1,500.0 GB")]
)
def test_sizes(bytes_: int, text: str) -> None:
    assert progress.size_text(bytes_) == text


@pytest.mark.parametrize(
    ("number", "what", "text"),
    [(1, "image", "1 image"), (1500, "image", "1,500 images"), (2, "box", "2 boxes"), (2, "body", "2 bodies")],
)  # fmt: skip
def test_numbers_of_things(number: int, what: str, text: str) -> None:
    assert words.count(number, what) == text


def test_lines_are_broken_between_words() -> None:
    path = "/data/" + "x" * 90
    assert wrapping.wrapped(f"error: {path}: damaged\n  remedy: delete the file and download it again", 30) == [
        "error:",
        f"{path}:",
        "damaged",
        "  remedy: delete the file and",
        "  download it again",
    ]
