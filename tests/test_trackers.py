"""Trackers: what is sent, in which places; a resumed training repeats nothing; a tracker that fails ends nothing."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import tiny_marks
from typer.testing import CliRunner

from cxrkit.base.errors import UserError
from cxrkit.cli.app import app
from cxrkit.runs.config import TrainConfig, to_toml
from cxrkit.runs.folder import RunFolder
from cxrkit.runs.metrics import MetricsFile
from cxrkit.trackers import following, tracking
from cxrkit.trackers.points import Point, place, points, steps_per_epoch

OPENED: list[Memory] = []


class Memory:
    """A tracker that keeps what it is sent."""

    def __init__(self, run: tracking.TrackedRun, *, fails_at: int = 0, hangs: bool = False) -> None:
        self.run, self.run_id, self.where = run, run.run_id or "new", "memory"
        self.fails_at, self.hangs = fails_at, hangs
        self.points: list[Point] = []
        self.failed: bool | None = None
        OPENED.append(self)

    def write(self, points: Sequence[Point]) -> None:
        if self.hangs:
            threading.Event().wait(5)
        self.points += points
        if self.fails_at and len(self.points) >= self.fails_at:
            raise ConnectionError("no network\nhere")

    def close(self, *, failed: bool) -> None:
        self.failed = failed


@pytest.fixture(autouse=True)
def _memory(monkeypatch: pytest.MonkeyPatch) -> None:
    OPENED.clear()
    monkeypatch.setitem(tracking.TRACKERS, "memory", ("test_trackers:Memory", "json", "memory"))


def config(**run: Any) -> TrainConfig:
    values = {"model.name": "resnet14-small", "optimizer.batch_size": 10, "run.log": "memory"}
    return TrainConfig().with_values(values | {f"run.{name}": value for name, value in run.items()})


def step(epoch: int, number: int, loss: float | None = 0.5) -> dict[str, Any]:
    return {"kind": "step", "epoch": epoch, "step": number, "loss": loss, "lr": 0.01}


def epoch(number: int) -> dict[str, Any]:
    line = {"kind": "epoch", "epoch": number, "train_loss": 0.4, "val_auc": None}
    return line | {"val_unit": "years", "train_images": 43}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    found = RunFolder(tmp_path / "runs" / "mine" / "official")
    found.path.mkdir(parents=True)
    found.config.write_text(to_toml(config()))
    return found


def write(run: RunFolder, lines: Sequence[dict[str, Any]], keep_bytes: int = 0) -> int:
    file = MetricsFile(run.metrics, keep_bytes)
    for line in lines:
        file.write(line)
    size = file.sync()
    file.close()
    return size


def test_lines_have_places_in_the_order_of_a_training() -> None:
    lines = [step(1, 2), step(1, 4), epoch(1), step(2, 2), epoch(2)]
    places = [place(line) for line in lines]
    assert places == sorted(places)  # type: ignore[type-var]
    assert [place(line) for line in ({"kind": "note", "text": "x"}, {"kind": "step"}, {})] == [None] * 3


def test_steps_are_counted_over_epochs_and_only_numbers_are_sent() -> None:
    lines = [step(1, 4), epoch(1), step(2, 2, None), epoch(2)]
    assert steps_per_epoch(lines, 10) == 4
    assert steps_per_epoch(lines, 100) == 1
    assert steps_per_epoch([step(1, 4)], 10) is None
    found = list(points(lines, (0, 0), 4))
    assert [(one.axis, one.at) for one in found] == [("step", 4), ("epoch", 1), ("step", 6), ("epoch", 2)]
    assert found[0].numbers == {"loss": 0.5, "lr": 0.01}
    assert found[1].numbers == {"train_loss": 0.4, "train_images": 43}
    assert found[2].numbers == {"lr": 0.01}
    assert [one.place for one in points(lines, (2, 0), 4)] == [(2, 2), (3, 0)]
    assert [one.axis for one in points(lines, (0, 0), None)] == ["step", "epoch", "epoch"]


def test_what_was_sent_is_not_sent_again_when_a_training_resumes(run: RunFolder) -> None:
    first = [step(1, 2), step(1, 4), epoch(1)]
    size = write(run, first)
    with following.follow(run, config(), print):
        write(run, [step(2, 2), step(2, 4)], size)  # then it is killed: the checkpoint was after the first epoch
    with following.follow(run, config(), print):
        write(run, [step(2, 2), step(2, 4), epoch(2)], size)
    sent = [(one.axis, one.at) for tracker in OPENED for one in tracker.points]
    assert sent == [("step", 2), ("step", 4), ("epoch", 1), ("step", 6), ("step", 8), ("epoch", 2)]
    assert [tracker.run.run_id for tracker in OPENED] == ["", "new"]
    assert [tracker.failed for tracker in OPENED] == [False, False]
    assert following.send(run, "memory").lines == 0
    assert OPENED[0].run.parameters["model.name"] == "resnet14-small"
    assert OPENED[0].run.name == "resnet14-small official"


def test_a_new_training_in_the_place_of_one_that_was_taken_away_is_a_new_run(run: RunFolder) -> None:
    write(run, [step(1, 2), epoch(1)])
    for resumed in (True, False):
        with following.follow(run, config(), print, resumed=resumed):
            pass
    assert [(tracker.run.run_id, len(tracker.points)) for tracker in OPENED] == [("", 2), ("", 2)]


def test_a_tracker_that_fails_is_told_of_once_and_ends_nothing(run: RunFolder) -> None:
    notes: list[str] = []
    with following.follow(run, config(log_options={"fails_at": 1}), notes.append):
        write(run, [step(1, 2), epoch(1)])
    (note,) = notes
    assert "--log memory: failed (ConnectionError: no network); the training goes on" in note
    assert f"cxrkit log {run.path} --to memory" in note
    assert following.send(run, "memory").lines == 2  # nothing is thought to be there
    tracking.state_file(run, "memory").unlink()
    with pytest.raises(UserError, match=r"memory: failed \(ConnectionError: no network"):
        following.send(run, "memory", {"fails_at": 1})


def test_a_training_that_fails_is_closed_as_such(run: RunFolder) -> None:
    write(run, [step(1, 2)])
    with pytest.raises(ValueError, match="no number"), following.follow(run, config(), print):
        raise ValueError("the loss is no number")
    assert (OPENED[0].failed, len(OPENED[0].points)) == (True, 1)


def test_a_tracker_that_hangs_is_left_behind(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "PATIENCE_SECONDS", 0.05)
    notes: list[str] = []
    write(run, [epoch(1)])
    with following.follow(run, config(log_options={"hangs": True}), notes.append):
        pass
    assert "has not taken everything" in notes[0]


@pytest.mark.parametrize(
    ("said", "options", "words"),
    [
        ("tensorbord", {}, "unknown tracker 'tensorbord'"),
        ("absent", {}, "--log absent: no_such_module is not installed\n  remedy: pip install 'cxrkit[absent]'"),
        ("memory", {"projekt": "x"}, "unknown option 'projekt'"),
    ],
)
def test_a_tracker_that_there_is_not_is_refused_before_a_training(
    said: str, options: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(tracking.TRACKERS, "absent", ("test_trackers:Memory", "no_such_module", "absent"))
    with pytest.raises(UserError) as refused:
        tracking.check(said, options)
    assert words in str(refused.value)
    tracking.check(" memory, memory", {"fails_at": 3})


def test_tensorboard_has_what_the_file_has_after_a_resumed_training(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    data = tiny_marks.write_marks(tmp_path / "data", marked=False)
    said = {"log": "tensorboard", "log_steps": 3}
    run = tiny_marks.train(data, tmp_path / "runs", epochs=1, **said)
    run = tiny_marks.train(data, tmp_path / "runs", epochs=2, resume=True, **said)
    shown = CliRunner().invoke(app, ["log", str(run.path), "--to", "tensorboard"], catch_exceptions=False)
    assert shown.output.startswith("0 lines sent: ")
    events = EventAccumulator(str(run.path / "tensorboard")).Reload()
    lines = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    epochs = [line for line in lines if line["kind"] == "epoch"]
    steps = [line for line in lines if line["kind"] == "step"]
    per_epoch = epochs[0]["train_images"] // 16
    for name in ("val_loss", "val_auc", "lr", "images_per_second"):
        found = [(one.step, one.value) for one in events.Scalars(f"epoch/{name}")]
        assert found == [(line["epoch"], pytest.approx(line[name])) for line in epochs]
    found = [(one.step, one.value) for one in events.Scalars("step/loss")]
    assert found == [((line["epoch"] - 1) * per_epoch + line["step"], pytest.approx(line["loss"])) for line in steps]
    assert len(steps) >= 4
    assert "_hparams_/session_start_info" in events.Tags()["tensors"]


def test_wandb_offline_keeps_one_run(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="the extra cxrkit[wandb] is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    size = write(run, [step(1, 4), epoch(1)])
    assert following.send(run, "wandb").lines == 2
    write(run, [epoch(2)], size)
    assert following.send(run, "wandb").lines == 1
    folders = list((run.path / "wandb").glob("offline-run-*"))
    assert {path.name.rpartition("-")[2] for path in folders} == {tracking.read_sent(run, "wandb").run}


@pytest.mark.filterwarnings("default")  # what its libraries say of each other is not ours to mend
def test_mlflow_has_what_the_file_has(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow", reason="the extra cxrkit[mlflow] is not installed")
    from mlflow.tracking import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    size = write(run, [step(1, 4), epoch(1)])
    assert following.send(run, "mlflow").lines == 2
    write(run, [epoch(2)], size)
    assert following.send(run, "mlflow").lines == 1
    client = MlflowClient(tracking_uri=f"sqlite:///{run.path.parent.parent / 'mlflow.db'}")
    number = tracking.read_sent(run, "mlflow").run
    history = client.get_metric_history(number, "epoch/train_loss")
    assert [(one.step, one.value) for one in history] == [(1, 0.4), (2, 0.4)]
    assert client.get_run(number).data.params["optimizer.batch_size"] == "10"
