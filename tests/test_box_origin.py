"""A training that learned from boxes knows its box list: with another one it is not gone on with, nor scored."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from rich.console import Console
from small_systems import smaller

from cxrkit import pipeline
from cxrkit.base.errors import UserError
from cxrkit.base.origin import boxes_digest
from cxrkit.datasets.phantom.cohort import read
from cxrkit.explain.looking import open_network
from cxrkit.prepare.stage import PrepareConfig, prepare
from cxrkit.report.evidence import comparability
from cxrkit.report.evidence.opened import Opened
from cxrkit.report.evidence.runs import find_runs
from cxrkit.runs.config import TrainConfig
from cxrkit.runs.folder import RunFolder

QUIET = Console(quiet=True)


def wanted(runs: Path, data: Path, epochs: int = 1) -> TrainConfig:
    said, sets = smaller("li2018-box")
    said |= {"data": data, "runs": runs, "fold": "1", "epochs": epochs, "batch_size": 16, "limit": 32}
    return pipeline.resolve(said, recipe="li2018-box", sets=sets, resume=True)


@pytest.fixture(scope="module")
def run(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return pipeline.train(wanted(tmp_path_factory.mktemp("boxed"), prepared), False, QUIET)


@pytest.fixture(scope="module")
def moved(cohort: Path, prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the same folder after somebody has corrected one box, by a pixel."""
    folder = tmp_path_factory.mktemp("moved") / "shards"
    shutil.copytree(prepared, folder)
    records = read(cohort)
    assert records.boxes is not None
    boxes = records.boxes.with_columns(pl.when(pl.int_range(pl.len()) == 0).then(pl.col("x") + 1).otherwise("x"))
    prepare(PrepareConfig(cohort, folder, "synthetic", levels=(256, 128), workers=1), replace(records, boxes=boxes))
    return folder


def test_the_origin_has_the_boxes_that_were_learned_from(run: RunFolder, cohort: Path) -> None:
    boxes = read(cohort).boxes
    assert boxes is not None
    (found,) = find_runs(run.path.parent.parent).runs
    assert found.origin.boxes_digest == boxes_digest(boxes)


ASKED: dict[str, Callable[[RunFolder, Path], object]] = {
    "resume": lambda run, data: pipeline.train(wanted(run.path.parent.parent, data, epochs=2), True, QUIET),
    "predict": lambda run, data: pipeline.predict(run, QUIET, data=data),
    "evaluate": lambda run, data: pipeline.evaluate(run, data, QUIET),
    "localise": lambda run, data: open_network(run, data),
    "report": lambda run, data: Opened(data).check(find_runs(run.path.parent.parent).runs[0]),
}


@pytest.mark.parametrize("asked", ASKED)
def test_another_box_list_is_noticed(asked: str, run: RunFolder, moved: Path) -> None:
    with pytest.raises(UserError, match="boxes with digest") as raised:
        ASKED[asked](run, moved)
    assert str(moved) in raised.value.what
    assert run.state() == "scored"


def test_runs_that_learned_from_different_boxes_are_marked_in_reports(run: RunFolder) -> None:
    (found,) = find_runs(run.path.parent.parent).runs
    other = replace(found, scores=replace(found.scores, origin=replace(found.origin, boxes_digest="ab" * 32)))
    without = replace(found, scores=replace(found.scores, origin=replace(found.origin, boxes_digest="")))
    said = "box lists differ between the runs that learned from boxes"
    judged = comparability.judge([found, other, without], ["resample-1"], "v2020")
    assert [said in verdict.doubts for verdict in judged] == [True, True, False]
    alike = comparability.judge([found, found, without], ["resample-1"], "v2020")
    assert not any(said in verdict.doubts for verdict in alike)
