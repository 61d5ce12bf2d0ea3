"""`cxrkit train --seeds`: several trainings one after the other, and which of them --resume touches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cxrkit.base.errors import UserError
from cxrkit.cli import seeds
from cxrkit.runs.folder import RunFolder
from cxrkit.runs.metrics import read_metrics

WIDE = 300


def train(
    prepared: Path, runs: Path, which: str, resume: bool = False, sets: list[str] | None = None, **more: Any
) -> list[RunFolder]:
    said = {"model": "mlp-meta", "data": prepared, "runs": runs, "epochs": 2, "limit": 16} | more
    return seeds.train(said, seeds.parse(which), None, sets or [], resume, Console(width=WIDE))


def contents(run: RunFolder) -> dict[Path, tuple[int, bytes]]:
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in run.path.rglob("*") if path.is_file()}


def test_seeds_lie_side_by_side_and_differ(prepared: Path, tmp_path: Path) -> None:
    runs = train(prepared, tmp_path, "0,1,5")
    assert [run.path.name for run in runs] == ["official", "official-seed-1", "official-seed-5"]
    assert [run.state() for run in runs] == ["scored"] * 3
    losses = [[line["val_loss"] for line in read_metrics(run.metrics) if line["kind"] == "epoch"] for run in runs]
    assert len({tuple(found) for found in losses}) == 3


def test_what_is_finished_is_left_alone_and_the_rest_goes_on_or_begins(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = train(prepared, tmp_path, "0,1")
    before = contents(first)
    second.forget("evaluate")
    capsys.readouterr()
    runs = train(prepared, tmp_path, "0,1,2", resume=True)
    said = capsys.readouterr().out
    assert f"seed 0: finished before, left alone: {first.path}" in said
    assert "seed 1, of 0, 1, 2" in said
    assert contents(first) == before
    assert [run.state() for run in runs] == ["scored"] * 3
    # More epochs are a reason to go on with all of them.
    runs = train(prepared, tmp_path, "0,1,2", resume=True, epochs=3)
    assert "left alone" not in capsys.readouterr().out
    assert [sum(line["kind"] == "epoch" for line in read_metrics(run.metrics)) for run in runs] == [3, 3, 3]


def test_all_is_looked_at_before_the_first_training(prepared: Path, tmp_path: Path) -> None:
    (run,) = train(prepared, tmp_path, "3")
    before = contents(run)
    with pytest.raises(UserError, match=r"official-seed-3 already holds a training\n  remedy: add --resume: what is"):
        train(prepared, tmp_path, "2,3")
    with pytest.raises(UserError, match=r"was trained with --lr 0\.001; resuming cannot change that"):
        train(prepared, tmp_path, "2,3", resume=True, lr=0.5)
    assert contents(run) == before
    assert [path.name for path in tmp_path.glob("*/*")] == ["official-seed-3"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "'' is no seed"),
        ("0,,1", "'' is no seed"),
        ("0;1", "'0;1' is no seed"),
        ("-1", "'-1' is no seed"),
        ("1.5", "'1.5' is no seed"),
        ("²", "'²' is no seed"),
        ("99999999999", "'99999999999' is no seed"),
        ("0,1,01", "a seed is named twice"),
    ],
)
def test_what_is_no_list_of_seeds(text: str, said: str) -> None:
    with pytest.raises(UserError, match=f"--seeds {text}: {said}\n  remedy: write whole numbers") as caught:
        seeds.parse(text)
    assert "--seeds 0,1,2" in str(caught.value)


def test_spaces_are_no_matter() -> None:
    assert seeds.parse("0, 1 ,2") == [0, 1, 2]


@pytest.mark.parametrize("more", [{"seed": 0}, {"sets": ["run.seed=3"]}])
def test_one_way_of_saying_seeds(more: dict[str, Any], prepared: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the seed is said twice(.|\n)*give --seed for one run, --seeds for several"):
        train(prepared, tmp_path, "0,1", **more)
    assert not list(tmp_path.iterdir())
