"""How a command was called: mistakes are said as all errors are, and a pipe is as wide as who reads it."""

from __future__ import annotations

import os
import pty
import sys
import termios

import pytest
from typer.testing import CliRunner

from cxrkit import cli
from cxrkit.cli import app as frame
from cxrkit.cli.width import NOBODY_WATCHES, piped_width


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("audit", "error: audit: RUN is missing\n  remedy: see `cxrkit audit -h`\n"),
        ("literature show", "error: literature show: KEY is missing\n  remedy: see `cxrkit literature show -h`\n"),
        ("--nosuch", "error: no such option: --nosuch\n  remedy: see `cxrkit -h`\n"),
        ("trian", "error: no such command 'trian'"),
        ("synth raw --images x", "error: synth: invalid value for '--images': "),
        ("report --format odt", "error: report: invalid value for '--format': "),
    ],
)
def test_a_wrong_call_is_an_error_like_any_other(
    arguments: str, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["cxrkit", *arguments.split()])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    said = capsys.readouterr().err
    assert caught.value.code == 2
    assert said.startswith(text)
    assert "remedy: see `cxrkit" in said
    assert "─" not in said, "no box"


def test_exit_codes_stay_as_they_are() -> None:
    assert CliRunner().invoke(frame.app, ["--version"]).exit_code == 0
    assert CliRunner().invoke(frame.app, ["audit", "--help"]).exit_code == 0
    none = CliRunner().invoke(frame.app, [])
    assert none.exit_code == 2
    assert "Usage:" in none.output


def test_a_pipe_is_as_wide_as_it_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert piped_width() == 80
    for nothing in ("", "0", "wide", "²"):
        monkeypatch.setenv("COLUMNS", nothing)
        assert piped_width(()) == NOBODY_WATCHES


def test_a_pipe_is_as_wide_as_the_terminal_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    read, write = os.pipe()
    master, terminal = pty.openpty()
    try:
        assert piped_width((read, terminal)) == NOBODY_WATCHES, "a terminal that does not say"
        termios.tcsetwinsize(terminal, (24, 72))
        assert piped_width((read, terminal)) == 72
        assert piped_width((read, write)) == NOBODY_WATCHES
    finally:
        for descriptor in (read, write, master, terminal):
            os.close(descriptor)
    assert piped_width((read,)) == NOBODY_WATCHES, "closed"
