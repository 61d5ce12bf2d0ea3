"""The predictions of every epoch: what is kept, that it is whole and right after any kill, and what it is scored as."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from rich.console import Console

from cxrkit import pipeline
from cxrkit.base.errors import UserError
from cxrkit.base.labels import CHESTXRAY14
from cxrkit.loaders.inputs import Inputs
from cxrkit.runs import checkpoints, epochs, opening
from cxrkit.runs.epoch_scores import RunEpochs, read_epoch_scores
from cxrkit.runs.folder import RunFolder
from cxrkit.runs.metrics import read_metrics
from cxrkit.runs.predictions import read_predictions, write_predictions
from cxrkit.runs.scores import read_scores

SMALL = {
    "model": "resnet14-small-meta", "input_size": 32, "batch_size": 8, "precision": "fp32", "threads": 1, "limit": 8,
    "epochs": 3, "lr": 0.05, "keep_epochs": True,
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def train(prepared: Path, runs: Path, resume: bool = False, console: Console | None = None, **more: Any) -> RunFolder:
    config = pipeline.resolve(SMALL | {"data": prepared, "runs": runs} | more, resume=resume)
    return pipeline.train(config, resume, console or Console(quiet=True))


@pytest.fixture(scope="module")
def finished(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Return a run that kept its three epochs. Read-only: copy it before changing it."""
    return train(prepared, tmp_path_factory.mktemp("kept"))


def copy_of(run: RunFolder, tmp_path: Path) -> RunFolder:
    shutil.copytree(run.path.parents[1], tmp_path / "runs")
    return RunFolder.of(tmp_path / "runs", run.path.parent.name, run.path.name)


def files(run: RunFolder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(run.epochs.iterdir())}


def scores_of_epochs(run: RunFolder) -> RunEpochs:
    return read_epoch_scores(run.epoch_scores, CHESTXRAY14)


def test_every_epoch_is_kept_with_its_loss(finished: RunFolder) -> None:
    assert epochs.kept(finished) == (1, 2, 3)
    assert len(files(finished)) == 9
    lines = [line for line in read_metrics(finished.metrics) if line["kind"] == "epoch"]
    assert [epochs.read(finished, line["epoch"]).val_loss for line in lines] == [line["val_loss"] for line in lines]
    for epoch in (1, 2, 3):
        for subset in ("val", "test"):
            kept = read_predictions(epochs.predictions_of(finished, epoch, subset))  # type: ignore[arg-type]
            own = read_predictions(finished.predictions(subset))  # type: ignore[arg-type]
            assert kept.about == replace(own.about, epoch=epoch, checkpoint_sha256="")


def test_the_best_epoch_is_equal_to_the_last_bit_to_the_predictions_of_the_best_checkpoint(finished: RunFolder) -> None:
    best = checkpoints.read_info(finished.best).epoch
    for subset in ("val", "test"):
        own = read_predictions(finished.predictions(subset)).frame  # type: ignore[arg-type]
        kept = {e: read_predictions(epochs.predictions_of(finished, e, subset)).frame for e in (1, 2, 3)}  # type: ignore[arg-type]
        assert [epoch for epoch, frame in kept.items() if frame.equals(own)] == [best]


def test_all_loaders_of_a_training_have_as_many_threads(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One for every four that compute: more would take turns with those."""
    asked, loader = [], Inputs.loader

    def heard(self: Inputs, plan: Any, name: str, device: str, threads: int | None, **more: Any) -> Any:
        asked.append(threads)
        return loader(self, plan, name, device, threads, **more)

    monkeypatch.setattr(Inputs, "loader", heard)
    train(prepared, tmp_path, epochs=1, threads=None, compute_threads=1)
    assert asked == [1] * 5  # train, val, test of every epoch; val and test of the best


def test_keeping_changes_nothing_else(finished: RunFolder, prepared: Path, tmp_path: Path) -> None:
    other = train(prepared, tmp_path, keep_epochs=False)
    assert not other.epochs.exists()
    assert not other.epoch_scores.exists()
    one, same = read_scores(other.scores), read_scores(finished.scores)
    assert one.recipe_digest == same.recipe_digest
    for subset in ("val", "test"):
        assert one.subsets[subset].metrics == same.subsets[subset].metrics


@pytest.mark.parametrize(
    ("where", "call"),
    [
        ("cxrkit.trainers.epochs.write_predictions", 3),  # in the second epoch, before anything is written
        ("cxrkit.trainers.epochs.write_predictions", 4),  # between val and test
        ("cxrkit.runs.epochs.commit", 2),  # between the predictions and what says that they are whole
        ("cxrkit.trainers.supervised.save_last", 2),  # between that and the checkpoint: the epoch is taken again
        ("cxrkit.trainers.supervised.save_best", 2),
    ],
)
def test_a_kill_at_any_moment_leaves_nothing_half(
    where: str, call: int, finished: RunFolder, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib

    module, _, name = where.rpartition(".")
    real, calls = getattr(importlib.import_module(module), name), []

    def kill(*arguments: Any, **named: Any) -> Any:
        calls.append(name)
        if len(calls) == call:
            raise KeyboardInterrupt
        return real(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(where, kill)
        with pytest.raises(KeyboardInterrupt):
            train(prepared, tmp_path)
    run = train(prepared, tmp_path, resume=True)
    assert files(run) == files(finished)
    assert scores_of_epochs(run) == scores_of_epochs(finished)


def test_switched_on_by_a_resumed_run_it_keeps_what_is_to_come_and_says_what_is_missing(
    finished: RunFolder, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(prepared, tmp_path, epochs=2, keep_epochs=False)
    run = train(prepared, tmp_path, resume=True, console=Console(width=300))
    assert "--keep-epochs: of the 2 epochs taken so far, 1, 2 are not kept" in capsys.readouterr().out
    assert epochs.kept(run) == (3,)
    assert {name: text for name, text in files(finished).items() if name.startswith("003")} == files(run)
    # On a finished run there is nothing to come; and a run that goes on keeps on.
    train(prepared, tmp_path, resume=True, console=Console(width=300))
    assert "of the 3 epochs taken so far, 1, 2 are not kept" in capsys.readouterr().out


def test_a_longer_training_restates_what_it_kept_before(finished: RunFolder, tmp_path: Path) -> None:
    """The terms of the whole training, as in its best checkpoint: all epochs are of one recipe."""
    run = copy_of(finished, tmp_path)
    run.epoch_scores.write_text("stale")
    train(Path("unused"), tmp_path / "runs", resume=True, epochs=4, data=opening.run_config(finished).run.data)
    assert epochs.kept(run) == (1, 2, 3, 4)
    assert not scores_of_epochs(run).unusable
    assert [item.epoch for item in scores_of_epochs(run).epochs] == [1, 2, 3, 4]
    about = read_predictions(epochs.predictions_of(run, 1, "test")).about
    assert "schedule.epochs=4" in about.changes
    assert about.recipe_digest == read_scores(run.scores).recipe_digest
    assert read_predictions(epochs.predictions_of(run, 2, "val")).frame.equals(
        read_predictions(epochs.predictions_of(finished, 2, "val")).frame
    )


def test_scores_of_the_best_epoch_are_those_of_the_run(finished: RunFolder) -> None:
    own, kept = read_scores(finished.scores), scores_of_epochs(finished).get(checkpoints.read_info(finished.best).epoch)
    assert kept is not None
    test, val = own.subsets["test"], own.subsets["val"].metric("auc")
    bare = [replace(metric, lower=None, upper=None, interval="") for metric in test.metrics]
    assert [replace(metric, interval="") for metric in kept.test.metrics] == bare
    assert {metric.interval for metric in kept.test.metrics if not metric.reason} == {
        "none is made for the epochs that are kept"
    }
    assert val is not None
    assert kept.val_auc == val.value
    assert kept.test.leakage_checked
    assert kept.test.images_digest == test.images_digest
    assert scores_of_epochs(finished).test_sha256 == test.predictions_sha256


def change(path: Path, **columns: pl.Expr) -> None:
    found = read_predictions(path)
    write_predictions(path, found.frame.with_columns(**columns), found.about)


def test_what_a_gate_refuses_is_left_out_with_the_reason(finished: RunFolder, tmp_path: Path) -> None:
    run = copy_of(finished, tmp_path)
    shutil.copy(epochs.predictions_of(run, 1, "test"), epochs.predictions_of(run, 2, "test"))
    split = pl.read_parquet(run.split)
    trained = split.filter(pl.col("subset") == "train")["image_id"][0]
    first = read_predictions(epochs.predictions_of(run, 3, "test")).frame["image_id"][0]
    seen = pl.when(pl.col("image_id") == first).then(pl.lit(trained)).otherwise(pl.col("image_id"))
    change(epochs.predictions_of(run, 3, "test"), image_id=seen)
    pipeline.evaluate(run, None, Console(quiet=True))
    found = scores_of_epochs(run)
    assert [item.epoch for item in found.epochs] == [1]
    assert "002-test.parquet: holds the predictions of epoch 1 of the test subset" in found.unusable["2"]
    assert "003-test.parquet: 1 of 8 test images belong to the train subset" in found.unusable["3"]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda run: epochs.predictions_of(run, 1, "val").unlink(), "there is no such prediction file"),
        (lambda run: epochs.predictions_of(run, 1, "val").write_bytes(b"PAR1"), "not a readable prediction file"),
        (lambda run: (run.epochs / "001.json").write_text("{"), "the record of an epoch is not valid JSON"),
        (lambda run: (run.epochs / "001.json").write_text('{"epoch": 2, "val_loss": 1.0}'), "of epoch 2 in format 1"),
        (
            lambda run: write_predictions(
                epochs.predictions_of(run, 1, "test"),
                read_predictions(epochs.predictions_of(run, 1, "test")).frame.head(5),
                read_predictions(epochs.predictions_of(run, 1, "test")).about,
            ),
            "holds other images than the run's predictions/test.parquet",
        ),
        (
            lambda run: write_predictions(
                epochs.predictions_of(run, 1, "test"),
                read_predictions(epochs.predictions_of(run, 1, "test")).frame,
                replace(read_predictions(epochs.predictions_of(run, 1, "test")).about, seed=5),
            ),
            "of another seed than the run's own predictions",
        ),
    ],
)
def test_damage_to_one_epoch_costs_that_epoch(damage: Any, reason: str, finished: RunFolder, tmp_path: Path) -> None:
    run = copy_of(finished, tmp_path)
    damage(run)
    pipeline.evaluate(run, None, Console(quiet=True))
    found = scores_of_epochs(run)
    assert [item.epoch for item in found.epochs] == [2, 3]
    assert reason in found.unusable["1"]
    assert run.state() == "scored"


def test_scores_of_epochs_do_not_outlive_those_of_the_run(finished: RunFolder, tmp_path: Path) -> None:
    run = copy_of(finished, tmp_path)
    run.forget("evaluate")
    assert not run.epoch_scores.exists()
    shutil.rmtree(run.epochs)
    run.epoch_scores.write_text("{}")
    pipeline.evaluate(run, None, Console(quiet=True))
    assert not run.epoch_scores.exists(), "no epoch is kept any more"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "schema version"),
        ('{"schema_version": 2}', "scores of epochs in schema version 2"),
        ('{"schema_version": 1, "evaluator": "auc", "test_sha256": "", "epochs": 7}', "epochs is 7"),
    ],
)
def test_a_broken_epochs_file_is_named(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "epochs.json"
    path.write_text(text)
    with pytest.raises(UserError, match=said) as caught:
        read_epoch_scores(path, CHESTXRAY14)
    assert "cxrkit evaluate" in str(caught.value)
    assert json.loads(text) is not None


def keeps_nothing(task: Any) -> None:
    """A trainer of one's own that knows nothing of epochs."""
    checkpoints.save(task.run.best, task.model, task.info)


def test_a_trainer_that_keeps_nothing_is_named(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(prepared, tmp_path, trainer="test_epochs:keeps_nothing", console=Console(width=300))
    said = "--keep-epochs: trainer 'test_epochs:keeps_nothing' has kept the predictions of no epoch"
    assert said in capsys.readouterr().out
    assert run.state() == "scored"


@pytest.mark.parametrize(
    ("numbers", "said"),
    [((), ""), ((1,), "1"), ((2, 1), "1, 2"), ((1, 2, 3), "1 to 3"), ((1, 3, 4, 5, 9), "1, 3 to 5, 9")],
)
def test_ranges(numbers: tuple[int, ...], said: str) -> None:
    assert epochs.ranges(numbers) == said
