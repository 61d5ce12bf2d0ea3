"""`cxrkit plot`: curves of trainings as a picture, and as plain text."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from cxrkit.base.errors import UserError
from cxrkit.cli.app import app
from cxrkit.report.document.figures import Axis, Figure, Line, Panel
from cxrkit.report.each_run.trainings import training_figure, trainings_in
from cxrkit.report.rendering.plain_curves import PlainCurves
from cxrkit.runs.metrics import MetricsFile


def training(folder: Path, epochs: int = 4, loss: float = 1.0) -> Path:
    """Write a run that is being trained: a config and metrics alone."""
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text("")
    file = MetricsFile(folder / "metrics.jsonl", 0)
    for number in range(1, epochs + 1):
        line = {"kind": "epoch", "epoch": number, "train_loss": loss / number, "val_loss": loss}
        line["val_auc"] = 0.5 + number / 20
        file.write(line | {"lr": 0.01 / 2**number, "images_per_second": 1500.0})
    file.close()
    return folder


def shown(figure: Figure, width: int, encoding: str = "utf-8") -> list[str]:
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    Console(file=out, width=width).print(PlainCurves(figure))
    out.flush()
    return out.buffer.getvalue().decode(encoding).splitlines()  # type: ignore[attr-defined]


def test_a_falling_line_in_ascii() -> None:
    panel = Panel("Loss", (Line("one", (1, 7), (6, 0)), Line("one", (7,), (0,), markers=True)), Axis("Epoch"))
    assert [line.rstrip() for line in shown(Figure("x", "", "", (panel,)), 24, "ascii")] == [
        "Loss",
        "      6 |**",
        "        |  **",
        "        |    **",
        "        |      ***",
        "        |         **",
        "        |           **",
        "      0 |             *o",
        "         1 epoch       7",
        "",
    ]


def test_braille_joins_what_is_steep_and_letters_tell_runs_apart() -> None:
    steep = Line("one", (1, 2, 3), (0, 1, 0), steps=True)
    rows = shown(Figure("x", "", "", (Panel("Step", (steep,)),)), 24)[1:8]
    assert all(any(0x2801 <= ord(sign) <= 0x28FF for sign in row) for row in rows)
    several = Panel("Two", (steep, Line("other", (1, 3), (1, 1))))
    lines = shown(Figure("x", "", "", (several,)), 24)
    assert lines[-2:] == ["a  one", "b  other"]
    assert "b" in lines[1]
    assert "a" in lines[7]


@pytest.mark.parametrize("width", [30, 80, 200])
def test_no_line_is_wider_than_the_console(width: int, tmp_path: Path) -> None:
    figure = training_figure(trainings_in([training(tmp_path / "mine" / "official")]))
    lines = shown(figure, width)
    assert max(map(len, lines)) <= min(width, 100)
    assert "Training loss" in lines[0]
    assert ("Validation loss" in lines[0]) == (width >= 80)


def test_runs_are_called_by_what_tells_them_apart(tmp_path: Path) -> None:
    for name in ("one/official", "two/official", "two/resample-1"):
        training(tmp_path / name)
    both = [tmp_path / "one" / "official", tmp_path / "two" / "official"]
    assert [item.name for item in trainings_in(both)] == ["one", "two"]
    assert [item.name for item in trainings_in([tmp_path])] == ["one/official", "two/official", "two/resample-1"]
    assert all(item.epoch is None for item in trainings_in([tmp_path]))
    assert len(trainings_in([tmp_path, both[0]])) == 3


@pytest.mark.parametrize(
    ("ending", "begins"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF"), ("html", b"<!doctype html>")]
)
def test_a_picture_by_its_ending(ending: str, begins: bytes, tmp_path: Path) -> None:
    run, out = training(tmp_path / "mine" / "official"), tmp_path / f"curves.{ending}"
    found = CliRunner().invoke(app, ["plot", str(run), "--out", str(out)], catch_exceptions=False)
    assert out.read_bytes().lower().startswith(begins.lower())
    assert "written: " in found.output


def test_the_terminal_gets_plain_curves(tmp_path: Path) -> None:
    found = CliRunner().invoke(app, ["plot", str(training(tmp_path / "mine" / "official"))], catch_exceptions=False)
    assert "Validation mean AUC" in found.output
    assert "0.7 " in found.output


def test_what_cannot_be_plotted_is_refused(tmp_path: Path) -> None:
    run = training(tmp_path / "mine" / "official", epochs=0)
    (tmp_path / "empty").mkdir()
    for folder, words in ((tmp_path / "empty", "holds no training"), (tmp_path / "no", "there is no such folder")):
        with pytest.raises(UserError, match=words):
            trainings_in([folder])
    with pytest.raises(UserError, match="no epoch is finished yet"):
        training_figure(trainings_in([run]))
    run = training(tmp_path / "other" / "official")
    found = CliRunner().invoke(app, ["plot", str(run), "--out", str(tmp_path / "x.doc")])
    assert "the ending '.doc' names no picture" in str(found.exception)
