"""A run is named by its folder, by one that holds it alone, or by either below the runs folder; of several, which."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from cxrkit.base.errors import UserError
from cxrkit.cli.app import app
from cxrkit.runs.search import run_named, runs_named

COMMANDS = ("predict", "evaluate", "explain", "localise", "audit", "export --out a.onnx", "log --to tensorboard")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with runs, in which this process works."""
    for run in ("one/official", "two/official", "two/official-seed-1"):
        (tmp_path / "runs" / run).mkdir(parents=True)
        (tmp_path / "runs" / run / "config.toml").write_text("")
    (tmp_path / "runs" / "one" / ".reproduce").mkdir()
    (tmp_path / "runs" / "one" / ".reproduce" / "config.toml").write_text("")
    (tmp_path / "runs" / "imported" / "official" / "predictions").mkdir(parents=True)
    (tmp_path / "runs" / "imported" / "official" / "predictions" / "test.parquet").write_bytes(b"")
    (tmp_path / "runs" / "one" / "official" / "predictions").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("text", ["one", "one/official", "runs/one", "runs/one/official"])
def test_one_run_has_several_names(here: Path, text: str) -> None:
    assert run_named(Path(text)) == Path("runs/one/official")
    assert run_named(here / "runs" / "one") == here / "runs" / "one" / "official"


def test_what_names_none_is_left_to_who_opens_it(here: Path) -> None:
    for text in ("three", "runs", "one/official/predictions"):
        assert runs_named(Path(text)) == ()
        assert run_named(Path(text)) == Path(text)
    assert run_named(Path("imported")) == Path("runs/imported/official")
    assert run_named(Path("one"), Path("elsewhere")) == Path("one")


def test_a_folder_here_goes_before_one_below_runs(here: Path) -> None:
    (here / "one" / "mine").mkdir(parents=True)
    assert run_named(Path("one")) == Path("runs/one/official"), "it holds no run"
    (here / "one" / "mine" / "config.toml").write_text("")
    assert run_named(Path("one")) == Path("one/mine")


@pytest.mark.parametrize("command", COMMANDS)
def test_of_several_every_command_names_them(here: Path, command: str) -> None:
    name, *rest = command.split()
    message = r"^two: holds 2 runs, expected one\n  remedy: name one of runs/two/official, runs/two/official-seed-1$"
    with pytest.raises(UserError, match=message):
        CliRunner().invoke(app, [name, "two", *rest], catch_exceptions=False)


def test_plot_takes_all_of_a_name(here: Path) -> None:
    with pytest.raises(UserError, match=r"^runs/two: holds no training"):
        CliRunner().invoke(app, ["plot", "two"], catch_exceptions=False)
