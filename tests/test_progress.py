"""What a progress line says of slow work."""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from cxrkit.base import progress


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


def test_work_without_a_measure_is_told_on_a_terminal_and_now_and_then_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    with progress.working("comparing", terminal):
        pass
    assert "comparing" in terminal.file.getvalue()  # type: ignore[attr-defined]
    monkeypatch.setattr(progress, "LINE_EVERY_SECONDS", 0.001)
    pipe = Console(file=io.StringIO(), width=80)
    with progress.working("comparing", pipe):
        time.sleep(0.05)
    assert "comparing: 0 s\n" in pipe.file.getvalue()  # type: ignore[attr-defined]
    monkeypatch.setattr(progress, "LINE_EVERY_SECONDS", 30)
    silent = Console(file=io.StringIO(), width=80)
    with progress.working("comparing", silent):
        pass
    assert silent.file.getvalue() == ""  # type: ignore[attr-defined]


def test_no_bar_of_nothing() -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    with progress.progress_bar("checksums", 0, console=console, unit="shards"):
        pass
    assert console.file.getvalue() == ""  # type: ignore[attr-defined]
