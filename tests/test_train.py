from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file

from cxrkit import pipeline
from cxrkit.base.contracts import LABELS
from cxrkit.base.errors import UserError
from cxrkit.base.files import file_digest
from cxrkit.base.pretraining import IMAGENET
from cxrkit.runs import checkpoints, opening, predictions
from cxrkit.runs import scores as results
from cxrkit.runs.config import read_config, recipe_digest
from cxrkit.runs.folder import RunFolder
from cxrkit.runs.metrics import read_metrics

SMALL = {"model": "resnet14-small-meta", "input_size": 32, "batch_size": 8, "precision": "fp32", "threads": 1}
QUIET = Console(quiet=True)


def train(
    said: dict[str, Any], resume: bool = False, recipe: Path | None = None, console: Console = QUIET
) -> RunFolder:
    """Train what flags of these names ask for."""
    config = pipeline.resolve(said, recipe=None if recipe is None else str(recipe), resume=resume)
    return pipeline.train(config, resume, console)


@pytest.fixture(scope="module", autouse=True)
def _few_threads() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # sums in another order would change the last digit
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def finished(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Return a run of two epochs on the official split. Read-only: copy it before changing it."""
    runs = tmp_path_factory.mktemp("finished")
    return train(SMALL | {"data": prepared, "runs": runs, "epochs": 2, "log_steps": 1})


def losses(run: RunFolder) -> list[tuple[Any, ...]]:
    """Everything in metrics.jsonl that a kill must not change: not the speeds."""
    return [
        tuple(line.get(key) for key in ("kind", "epoch", "step", "loss", "train_loss", "val_loss", "val_auc", "lr"))
        for line in read_metrics(run.metrics)
    ]


def scores_of(run: RunFolder) -> pl.DataFrame:
    return predictions.read_predictions(run.predictions("test")).frame


def test_a_run_leaves_everything(finished: RunFolder, prepared: Path) -> None:
    assert finished.path.parts[-2:] == ("resnet14-small-meta", "official")
    config = read_config(finished.config)
    assert (config.optimizer.batch_size, config.optimizer.lr, config.input.size) == (8, 0.003, 32)
    assert config.run.precision == "fp32"
    provenance = json.loads(finished.provenance.read_text())
    assert provenance["packages"]["torch"] == version("torch")
    scores = results.read_scores(finished.scores)
    assert provenance["origin"] == asdict(scores.origin)
    assert scores.changes == ("input.size=32", "optimizer.batch_size=8", "schedule.epochs=2")
    assert finished.state() == "scored"
    epochs = [line for line in read_metrics(finished.metrics) if line["kind"] == "epoch"]
    assert [line["epoch"] for line in epochs] == [1, 2]
    assert all(line["images_per_second"] > 0 and 0 <= line["waiting_share"] <= 1 for line in epochs)
    split = pl.read_parquet(finished.split)
    for subset in ("val", "test"):
        found = predictions.read_predictions(finished.predictions(subset))  # type: ignore[arg-type]
        frame, about = found.frame, found.about
        expected = split.filter(pl.col("subset") == subset)["image_id"].to_list()
        assert frame["image_id"].to_list() == expected
        assert about.subset_images == len(expected)
        assert frame.select(LABELS).to_numpy().std() > 0


def test_the_loss_falls(prepared: Path, tmp_path: Path) -> None:
    given = SMALL | {"data": prepared, "runs": tmp_path, "epochs": 6, "limit": 16, "area_min": 1.0, "angle": 0.0}
    run = train(given)
    epochs = [line["train_loss"] for line in read_metrics(run.metrics) if line["kind"] == "epoch"]
    assert epochs[-1] < 0.8 * epochs[0]


def test_the_best_checkpoint_has_the_lowest_validation_loss(finished: RunFolder) -> None:
    from cxrkit.runs.checkpoints import read

    epochs = [line for line in read_metrics(finished.metrics) if line["kind"] == "epoch"]
    best = min(epochs, key=lambda line: line["val_loss"])
    assert read(finished.best)[1].epoch == best["epoch"]
    assert read(finished.last)[1].epoch == 2


def test_resumed_longer_training_equals_one_in_one_go(finished: RunFolder, prepared: Path, tmp_path: Path) -> None:
    given = SMALL | {"data": prepared, "runs": tmp_path / "a", "epochs": 3, "log_steps": 1}
    whole = train(given)
    shutil.copytree(finished.path.parent.parent, tmp_path / "b")
    resumed = train(given | {"runs": tmp_path / "b"}, resume=True)
    assert losses(resumed) == losses(whole)
    assert load_file(resumed.last).keys() == load_file(whole.last).keys()
    assert all(torch.equal(value, load_file(whole.last)[name]) for name, value in load_file(resumed.last).items())


def run_until(command: list[str], run: RunFolder, lines: int) -> bool:
    """Start a training and SIGKILL it when its metrics have that many lines; return whether it was still running."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}  # as in this process: sums in another order differ
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if run.metrics.exists() and run.metrics.read_bytes().count(b"\n") >= lines:
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.002)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode in (0, -signal.SIGKILL), stderr.decode()
    return process.returncode == -signal.SIGKILL


def test_killed_and_resumed_equals_uninterrupted(finished: RunFolder, prepared: Path, tmp_path: Path) -> None:
    """SIGKILL in the first epoch and in the second; every loss and every tensor is equal to the last digit."""
    command = [sys.executable, "-m", "cxrkit", "train", "--data", str(prepared), "--runs", str(tmp_path)]
    for name, value in (SMALL | {"epochs": 2, "log_steps": 1, "checkpoint_minutes": 0}).items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    run = RunFolder.of(tmp_path, "resnet14-small-meta", "official")
    steps = len([line for line in read_metrics(finished.metrics) if line["kind"] == "step"]) // 2
    assert run_until(command, run, 3)
    assert len(list(read_metrics(run.metrics))) < 2 * steps
    assert run_until([*command, "--resume"], run, steps + 3)
    assert not run.scores.exists()
    train({"model": SMALL["model"], "data": prepared, "runs": tmp_path}, resume=True)
    assert losses(run) == losses(finished)
    for name in ("last", "best"):
        ours, theirs = load_file(getattr(run, name)), load_file(getattr(finished, name))
        assert all(torch.equal(value, theirs[key]) for key, value in ours.items())
    assert scores_of(run).equals(scores_of(finished))


def test_batches_in_flight_do_not_change_numbers(finished: RunFolder, prepared: Path, tmp_path: Path) -> None:
    given = SMALL | {"data": prepared, "runs": tmp_path, "epochs": 1, "log_steps": 1, "threads": 3}
    other = train(given)
    assert losses(other) == losses(finished)[: len(losses(other))]


@pytest.mark.parametrize(
    ("changes", "resume", "text"),
    [
        ({}, False, "already holds a training of this name on this split\n  remedy: add --resume"),
        ({"lr": 0.5}, True, "was trained with --lr 0.003; resuming cannot change that"),
        ({"flip": 0.0, "angle": 1.0}, True, "was trained with --angle 7.0, --flip 0.5; resuming cannot change that"),
    ],
)
def test_an_existing_run_is_not_overwritten(
    finished: RunFolder, prepared: Path, changes: dict[str, Any], resume: bool, text: str
) -> None:
    before = finished.last.read_bytes()
    with pytest.raises(UserError) as caught:
        train(SMALL | {"data": prepared, "runs": finished.path.parents[1]} | changes, resume)
    assert text in str(caught.value)
    assert finished.last.read_bytes() == before


def test_level_too_small(prepared: Path, tmp_path: Path) -> None:
    given = {"model": "resnet50-large-meta", "data": prepared, "runs": tmp_path, "limit": 8}
    with pytest.raises(UserError, match=r"the largest prepared level has 256 pixels(.|\n)*remedy: .*--levels"):
        train(given)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_not_prepared(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"dataset.json: the description of a prepared folder is missing\n  remedy: run"
    ):
        train({"data": tmp_path / "no", "runs": tmp_path})


def test_predict_refuses_a_checkpoint_of_another_split(finished: RunFolder, prepared: Path, tmp_path: Path) -> None:
    """The other fold's test images may have been trained on."""
    other = train(SMALL | {"data": prepared, "runs": tmp_path, "epochs": 1, "fold": "2"})
    before = other.predictions("test").read_bytes()
    with pytest.raises(
        UserError,
        match=r"best.safetensors: trained with split official with digest [0-9a-f]{12}, but .* has split resample-2",
    ):
        pipeline.predict(other, QUIET, checkpoint=finished.best, subsets=("test",))
    assert other.predictions("test").read_bytes() == before


def test_checkpoint_of_another_model(finished: RunFolder, tmp_path: Path) -> None:
    shutil.copytree(finished.path, tmp_path / "run")
    from safetensors import safe_open

    with safe_open(finished.best, framework="pt") as file:
        about = json.loads(file.metadata()["cxrkit"]) | {"model": "mlp-meta"}
    from safetensors.torch import save_file

    save_file(load_file(finished.best), tmp_path / "other.safetensors", metadata={"cxrkit": json.dumps(about)})
    with pytest.raises(UserError, match=r"other.safetensors: not a checkpoint of mlp-meta: \d+ of its tensors differ"):
        pipeline.predict(RunFolder(tmp_path / "run"), QUIET, checkpoint=tmp_path / "other.safetensors")


def test_a_loss_that_is_no_number(prepared: Path, tmp_path: Path) -> None:
    given = SMALL | {"data": prepared, "runs": tmp_path, "lr": 10.0, "epochs": 3, "log_steps": 1, "beta2": 0.0}
    with pytest.raises(UserError, match=r"the training loss is (nan|inf) at epoch \d, step \d+(.|\n)*smaller --lr"):
        train(given)


def test_the_rate_is_halved_and_the_best_epoch_kept(prepared: Path, tmp_path: Path) -> None:
    """A rate so high that the validation loss goes up: what metrics.jsonl says of rates and epochs is by the rule."""
    from cxrkit.runs import checkpoints
    from cxrkit.trainers.plateau import Best, Plateau, after_epoch, better

    given = SMALL | {"data": prepared, "runs": tmp_path, "epochs": 6, "limit": 8, "lr": 0.05, "log_steps": 1}
    run = train(given)
    lines = list(read_metrics(run.metrics))
    epochs = [line for line in lines if line["kind"] == "epoch"]
    plateau, best, rates = Plateau(0.05), Best(), []
    for line in epochs:
        rates.append(plateau.lr)
        plateau = after_epoch(plateau, line["val_loss"], patience=0, factor=0.5)
        best = better(best, line["epoch"], line["val_loss"], highest=False)
    assert len(set(rates)) > 1, "this training must meet a plateau"
    assert [line["lr"] for line in epochs] == rates
    assert [line["lr"] for line in lines if line["kind"] == "step"] == rates  # one step an epoch
    assert checkpoints.read(run.best)[1].epoch == best.epoch
    progress = checkpoints.read_info(run.last).progress
    assert progress["plateau"]["lr"] == plateau.lr
    assert progress["best"] == {"epoch": best.epoch, "value": best.value}


def test_a_kill_between_the_two_checkpoints(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """last.safetensors says that its epoch was the best one, best.safetensors is still an older one."""
    from cxrkit.runs import checkpoints
    from cxrkit.trainers import supervised

    given = SMALL | {"data": prepared, "runs": tmp_path, "epochs": 1, "limit": 8}
    with monkeypatch.context() as patch:
        patch.setattr(supervised, "save_best", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train(given)
    run = RunFolder.of(tmp_path, "resnet14-small-meta", "official")
    assert run.last.exists()
    assert not run.best.exists()
    train(given, resume=True)
    assert checkpoints.read(run.best)[1].epoch == 1
    whole = train(given | {"runs": tmp_path / "whole"})
    ours, theirs = load_file(run.best), load_file(whole.best)
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_scores_are_the_evaluating_models_by_label(finished: RunFolder, prepared: Path) -> None:
    """Predictions equal a forward pass made by hand: evaluation mode, the centre crop, every label in its column."""
    from cxrkit.base.contracts import LABELS
    from cxrkit.loaders.inputs import Inputs
    from cxrkit.models import prepare_input
    from cxrkit.predict import load

    model, spec, info = load(finished.best)
    inputs = Inputs.of(prepared, "official", None)
    loader = inputs.loader(inputs.eval_plan("test", spec, 5), "opencv", "cpu", 1)
    frame = scores_of(finished)
    assert inputs.age_range == info.age_range
    for batch in loader.epoch(0):
        with torch.no_grad():
            expected = model.eval()(prepare_input(batch.image, spec), batch.meta).logits.sigmoid()
        ids = inputs.store.index["image_id"].gather(batch.index.tolist())
        found = pl.DataFrame({"image_id": ids}).join(frame, on="image_id", how="left", maintain_order="left")
        for number, label in enumerate(LABELS):
            assert found[label].to_list() == pytest.approx(expected[:, number].tolist(), abs=1e-5)
            truth = inputs.store.index[label].gather(batch.index.tolist()).to_list()
            assert (batch.target[:, number] > 0.5).tolist() == truth
    inputs.close()


def prepare_part(cohort: Path, folder: Path, without: set[str], levels: tuple[int, ...] = (256, 128)) -> None:
    """Prepare the cohort as if the images `without` had not been downloaded yet."""
    from cxrkit.base.contracts import Records
    from cxrkit.datasets.phantom.cohort import read
    from cxrkit.prepare.stage import PrepareConfig, prepare

    records = read(cohort)
    hidden = pl.when(pl.col("image_id").is_in(sorted(without))).then(None).otherwise(pl.col("path"))
    part = Records(records.dataset, records.frame.with_columns(path=hidden), records.label_release, records.boxes)
    config = PrepareConfig(raw=cohort, data=folder, dataset="synthetic", levels=levels, workers=1, allow_missing=True)
    prepare(config, part)


def test_more_images_at_hand_change_nothing_of_the_training(
    finished: RunFolder, cohort: Path, prepared: Path, tmp_path: Path
) -> None:
    """Order and crops belong to the image, not to its row among what happens to be prepared."""
    split = pl.read_parquet(finished.split)
    absent = set(split.filter(pl.col("subset") == "test")["image_id"].head(4))
    prepare_part(cohort, tmp_path / "part", absent)
    given = SMALL | {"data": tmp_path / "part", "runs": tmp_path / "runs", "epochs": 1, "log_steps": 1}
    run = train(given)
    assert losses(run) == losses(finished)[: len(losses(run))]
    resumed = train(given | {"data": prepared, "epochs": 2}, resume=True)
    assert losses(resumed) == losses(finished)


def test_resuming_on_other_images_or_pixels(finished: RunFolder, cohort: Path, tmp_path: Path) -> None:
    shutil.copytree(finished.path.parents[1], tmp_path / "runs")
    split = pl.read_parquet(finished.split)
    absent = set(split.filter(pl.col("subset") == "train")["image_id"].head(3))
    prepare_part(cohort, tmp_path / "part", absent)
    prepare_part(cohort, tmp_path / "coarse", set(), levels=(128,))
    given = {"model": SMALL["model"], "runs": tmp_path / "runs", "epochs": 3}
    with pytest.raises(UserError, match=r"was trained on other train images than .*part holds now"):
        train(given | {"data": tmp_path / "part"}, resume=True)
    with pytest.raises(
        UserError, match=r"was trained on preparation settings with digest \w{12}, but .*coarse has preparation"
    ):
        train(given | {"data": tmp_path / "coarse"}, resume=True)
    with pytest.raises(
        UserError, match=r"best.safetensors: trained with preparation settings with digest \w{12}, but .*coarse has"
    ):
        pipeline.predict(finished, QUIET, data=tmp_path / "coarse")


def test_the_same_config_file_resumes(prepared: Path, tmp_path: Path) -> None:
    path = tmp_path / "exp.toml"
    where = f'[run]\nfold = "3"\ndata = "{prepared}"\nruns = "{tmp_path / "runs"}"\n'
    path.write_text(f'[model]\nname = "mlp-meta"\n[schedule]\nepochs = 1\n{where}')
    said = Console(file=io.StringIO(), width=200)
    train({}, True, path, said)  # there is nothing yet to go on with, and it says so
    assert "has no training to go on with; this begins it" in said.file.getvalue()  # type: ignore[attr-defined]
    run = train({"epochs": 2, "precision": "auto", "fold": "resample-3"}, True, path)
    assert [line["epoch"] for line in read_metrics(run.metrics) if line["kind"] == "epoch"] == [1, 2]


def test_predict_refuses_a_checkpoint_of_another_model(finished: RunFolder, prepared: Path, tmp_path: Path) -> None:
    given = {"model": "mlp-meta", "data": prepared, "runs": tmp_path, "epochs": 1}
    other = train(given)
    before = finished.predictions("test").read_bytes()
    with pytest.raises(UserError, match="a checkpoint of mlp-meta, but this run is one of resnet14-small-meta"):
        pipeline.predict(finished, QUIET, checkpoint=other.best)
    assert finished.predictions("test").read_bytes() == before


def test_one_process_at_a_time(prepared: Path, tmp_path: Path) -> None:
    from cxrkit.runs.folder import claimed

    given = {"model": "mlp-meta", "data": prepared, "runs": tmp_path, "epochs": 1}
    with (
        claimed(RunFolder.of(tmp_path, "mlp-meta", "official")),
        pytest.raises(UserError, match=r"another process is working in this run(.|\n)*remedy: wait for it"),
    ):
        train(given)
    train(given)


def test_leftovers_of_a_kill_are_removed(finished: RunFolder, tmp_path: Path) -> None:
    shutil.copytree(finished.path.parents[1], tmp_path / "runs")
    run = RunFolder.of(tmp_path / "runs", "resnet14-small-meta", "official")
    left = run.last.with_name(".last.safetensors.0123abcd.part")
    left.write_bytes(b"half")
    train({"model": SMALL["model"], "runs": tmp_path / "runs"}, resume=True)
    assert not left.exists()


def test_a_limited_training_is_marked(prepared: Path, tmp_path: Path) -> None:
    from cxrkit import report

    given = SMALL | {"data": prepared, "runs": tmp_path, "epochs": 1, "limit": 16}
    train(given)
    text = report.render(report.official(tmp_path), "md")
    assert "trained on 16 of" in text


def test_not_a_run_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not a run folder \(no config.toml\)"):
        opening.run_config(RunFolder(tmp_path))


def test_a_finished_run_that_is_trained_on_loses_its_scores_first(finished: RunFolder, tmp_path: Path) -> None:
    """Interrupted after the first new step, it must not keep old scores as if they were current."""
    shutil.copytree(finished.path.parents[1], tmp_path / "runs")
    run = RunFolder.of(tmp_path / "runs", "resnet14-small-meta", "official")
    command = [
        sys.executable,
        "-m",
        "cxrkit",
        "train",
        "--model",
        "resnet14-small-meta",
        "--runs",
        str(tmp_path / "runs"),
    ]
    command += ["--resume", "--epochs", "60", "--checkpoint-minutes", "0"]
    lines = run.metrics.read_bytes().count(b"\n")
    assert run_until(command, run, lines + 2)
    assert run.state() == "training"
    assert not run.scores.exists()


def test_a_finished_run_that_is_resumed_unchanged_keeps_everything(finished: RunFolder, tmp_path: Path) -> None:
    shutil.copytree(finished.path.parents[1], tmp_path / "runs")
    run = RunFolder.of(tmp_path / "runs", "resnet14-small-meta", "official")
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in (run.scores, run.last, run.best)}
    train({"model": SMALL["model"], "runs": tmp_path / "runs"}, resume=True)
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in before} == before


def test_stages_that_are_missing_are_done_again(finished: RunFolder, tmp_path: Path) -> None:
    """Predictions that were replaced, or a stage that a kill cut short: state() sees it from small files alone."""
    shutil.copytree(finished.path.parents[1], tmp_path / "runs")
    run = RunFolder.of(tmp_path / "runs", "resnet14-small-meta", "official")
    run.done("evaluate").unlink()
    assert run.state() == "predicted"
    run.done("predict").write_text("[]")
    assert run.state() == "trained"
    train({"model": SMALL["model"], "runs": tmp_path / "runs"}, resume=True)
    assert run.state() == "scored"
    assert scores_of(run).equals(scores_of(finished))
    run.done("train").write_text('{"epochs": 2}')
    assert run.state() == "training"
    shutil.rmtree(run.path)
    assert run.state() == "new"


def test_a_second_training_is_refused_before_it_looks(finished: RunFolder, prepared: Path, tmp_path: Path) -> None:
    """While another process holds the run nothing of it is read, so nothing can be judged by its unfinished state."""
    from cxrkit.runs.folder import claimed

    given = SMALL | {"data": prepared, "runs": tmp_path, "epochs": 1}
    run = RunFolder.of(tmp_path, "resnet14-small-meta", "official")
    with claimed(run):
        for resume in (False, True):
            with pytest.raises(UserError, match="another process is working in this run"):
                train(given, resume)
        assert sorted(path.name for path in run.path.iterdir()) == [".lock"]
        with pytest.raises(UserError, match="not a run folder"):
            pipeline.predict(run, QUIET)
    assert not run.path.exists()  # made for the claim alone


def test_what_cannot_be_trained_leaves_no_folder(prepared: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown trainer"):
        train(SMALL | {"data": prepared, "runs": tmp_path / "r", "trainer": "superwised"})
    assert not list(tmp_path.rglob("*official*"))


def own_split(finished: RunFolder, path: Path, shift: int = 0) -> None:
    """Write a table of one's own: by patient, the test subset as it is."""
    split = pl.read_parquet(finished.split).select("image_id", "patient_id", "subset")
    rest = split.filter(pl.col("subset") != "test")
    patients = rest.select("patient_id").unique(maintain_order=True)
    number = (pl.int_range(pl.len()) + shift) % 5
    patients = patients.with_columns(subset=pl.when(number == 0).then(pl.lit("val")).otherwise(pl.lit("train")))
    rest = rest.drop("subset").join(patients, on="patient_id")
    path.parent.mkdir(parents=True, exist_ok=True)
    pl.concat([rest, split.filter(pl.col("subset") == "test")]).select("image_id", "subset").write_csv(path)


def test_a_run_keeps_the_split_that_it_was_trained_on(finished: RunFolder, prepared: Path, tmp_path: Path) -> None:
    """The file of a split of one's own may move or change: the run holds the split."""
    table, moved = tmp_path / "mine.csv", tmp_path / "elsewhere" / "mine.csv"
    own_split(finished, table)
    given = SMALL | {"data": prepared, "runs": tmp_path / "runs", "epochs": 1, "fold": str(table)}
    run = train(given)
    assert run.path.name == "file-mine"
    moved.parent.mkdir()
    table.rename(moved)
    before = scores_of(run)
    pipeline.predict(run, QUIET)
    assert scores_of(run).equals(before)
    train({**given, "fold": str(moved), "epochs": 2}, resume=True)
    other = tmp_path / "third" / "mine.csv"
    own_split(finished, other, shift=1)
    with pytest.raises(UserError, match=r"--fold .*third/mine.csv: another assignment of images than .*file-mine was"):
        train({**given, "fold": str(other), "epochs": 3}, resume=True)


def test_a_split_that_is_not_of_these_patients_is_refused(finished: RunFolder, tmp_path: Path) -> None:
    shutil.copytree(finished.path.parents[1], tmp_path / "runs")
    run = RunFolder.of(tmp_path / "runs", "resnet14-small-meta", "official")
    table = pl.read_parquet(run.split)
    table.with_columns(patient_id=pl.lit("x") + pl.col("patient_id")).write_parquet(run.split)
    with pytest.raises(UserError, match="images of the run's split official are not in its data set, or of another"):
        pipeline.predict(run, QUIET)
    for damage in (b"", b"PAR1", run.split.read_bytes()[:-9]):
        run.split.write_bytes(damage)
        with pytest.raises(UserError, match=r"split.parquet: not a readable split"):
            pipeline.predict(run, QUIET)


def test_brackets_in_paths_are_taken_literally(prepared: Path, tmp_path: Path) -> None:
    """As a pattern, 'r [exp1]' would mean one of the letters e, x, p, 1."""
    data = tmp_path / "data[1]"
    shutil.copytree(prepared, data)
    run = train(SMALL | {"data": data, "runs": tmp_path / "r [exp1]", "epochs": 1, "name": "[b] (2)"})
    assert run.path == tmp_path / "r [exp1]" / "[b] (2)" / "official"
    assert run.state() == "scored"


def test_two_seeds_stand_side_by_side(prepared: Path, tmp_path: Path) -> None:
    given = {"model": "mlp-meta", "data": prepared, "runs": tmp_path, "epochs": 1}
    assert [train(given | {"seed": seed}).path.name for seed in (0, 3)] == ["official", "official-seed-3"]


def test_a_network_with_dropout_is_the_same_after_a_kill(prepared: Path, tmp_path: Path) -> None:
    """Torch's generators are seeded, and their state is part of the checkpoint."""
    given = SMALL | {"model": "examples.dropout_net:build", "data": prepared, "epochs": 2, "log_steps": 1}
    first, second = (train(given | {"runs": tmp_path / name}) for name in "ab")
    assert losses(first) == losses(second)
    torch.rand(7)
    command = [sys.executable, "-m", "cxrkit", "train", "--runs", str(tmp_path / "c"), "--checkpoint-minutes", "0"]
    for name, value in given.items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    run = RunFolder.of(tmp_path / "c", first.path.parent.name, "official")
    assert run_until(command, run, 3)
    train({"model": given["model"], "data": prepared, "runs": tmp_path / "c"}, resume=True)
    assert losses(run) == losses(first)
    assert all(torch.equal(value, load_file(first.best)[name]) for name, value in load_file(run.best).items())


def test_tied_weights(prepared: Path, tmp_path: Path) -> None:
    given = SMALL | {"model": "examples.tied_net:build", "data": prepared, "runs": tmp_path, "epochs": 1}
    run = train(given)
    train(given | {"epochs": 2}, resume=True)
    assert run.state() == "scored"


def test_metrics_that_were_removed_or_cut(finished: RunFolder, tmp_path: Path) -> None:
    """No bytes are made up: what is there is kept up to its last whole line, and the gap is said."""
    shutil.copytree(finished.path.parents[1], tmp_path / "runs")
    run = RunFolder.of(tmp_path / "runs", "resnet14-small-meta", "official")
    whole = run.metrics.read_bytes()
    for left in (b"", whole[: len(whole) // 2]):
        run.metrics.write_bytes(left)
        train({"model": SMALL["model"], "runs": tmp_path / "runs", "epochs": 3}, resume=True)
        assert b"\0" not in run.metrics.read_bytes()
        lines = [json.loads(line) for line in run.metrics.read_text().splitlines()]
        assert [line["kind"] for line in lines].count("note") == 1
        assert lines[-1]["epoch"] == 3
        shutil.rmtree(run.path)
        shutil.copytree(finished.path, run.path)


def test_the_weights_that_a_training_starts_from_are_known_by_their_digest(prepared: Path, tmp_path: Path) -> None:
    """-ft from a file made here: its SHA-256 is in the origin of checkpoint, predictions and scores."""
    from cxrkit import models
    from cxrkit.runs import checkpoints

    weights = tmp_path / "weights.pth"
    state = models.build("resnet50-ft", pretrained=False, seed=5).state_dict()
    torch.save({name: value for name, value in state.items() if not name.startswith("fc.")}, weights)
    for model in ("resnet50-ft", "resnet50-ots"):
        given = {"model": model, "input_size": 32, "limit": 4, "epochs": 1, "batch_size": 4, "weights": weights}
        run = train(given | {"data": prepared, "runs": tmp_path / "runs", "precision": "fp32"})
        for origin in (checkpoints.read_info(run.best).origin, results.read_scores(run.scores).origin):
            assert (origin.initial_weights, origin.pretraining) == (file_digest(weights), "ImageNet")
            assert origin.basis.pretraining == "declared"  # a file made here is not torchvision's
            assert origin.pretrained == IMAGENET


def test_one_training_image(prepared: Path, tmp_path: Path) -> None:
    given = SMALL | {"data": prepared, "runs": tmp_path, "epochs": 1, "limit": 1}
    with pytest.raises(
        UserError, match=r"a batch of 1 image at 32 px leaves batch normalisation one value(.|\n)*--batch"
    ):
        train(given)
    run = train({"model": "mlp-meta", "data": prepared, "runs": tmp_path, "epochs": 1, "limit": 1})
    assert run.state() == "scored"


@pytest.mark.parametrize("precision", ["fp61", "bf61", "FP32"])
def test_predict_knows_its_precisions(finished: RunFolder, precision: str) -> None:
    before = finished.predictions("test").read_bytes()
    with pytest.raises(UserError, match=f"--precision {precision}: unknown"):
        pipeline.predict(finished, QUIET, precision=precision)
    assert finished.predictions("test").read_bytes() == before
    assert finished.state() == "scored"


@pytest.mark.parametrize(
    "more",
    [{"compile": True}, {"cache": "gpu"}, {"loader": "dali"}, {"loader": "opencv", "precision": "bf16"}],
    ids=["compile", "cache", "dali", "bf16"],
)
def test_every_way_of_training_goes_through(more: dict[str, Any], prepared: Path, tmp_path: Path) -> None:
    if more.get("loader") == "dali":
        pytest.importorskip("nvidia.dali")
    run = train(SMALL | {"data": prepared, "runs": tmp_path, "epochs": 1, "limit": 16} | more)
    assert run.state() == "scored"
    assert results.read_scores(run.scores).subsets["test"].images == 16


def test_tampered_records_are_refused_by_evaluate(finished: RunFolder, prepared: Path, tmp_path: Path) -> None:
    """Two labels inverted in a copy of the prepared folder."""
    data = tmp_path / "data"
    shutil.copytree(prepared, data)
    (records,) = data.glob("records*.parquet")
    before = finished.scores.read_bytes()
    frame = pl.read_parquet(records)
    frame.with_columns(~pl.col("Effusion"), ~pl.col("Mass")).write_parquet(records)
    with pytest.raises(UserError, match="was changed or damaged after it was written"):
        pipeline.evaluate(finished, data, QUIET)
    # And where somebody made the description agree with them.
    about = json.loads((data / "dataset.json").read_text())
    about["records"]["sha256"] = file_digest(records)
    (data / "dataset.json").write_text(json.dumps(about))
    with pytest.raises(UserError, match=r"test.parquet: predicted for synthetic labels with digest|labels with digest"):
        pipeline.evaluate(finished, data, QUIET)
    assert finished.scores.read_bytes() == before


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a tmpfs of 40 MiB, or skip."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_and_how_to_go_on(finished: RunFolder, prepared: Path, small_disk: Path) -> None:
    """The remedy can help: with some space freed, --resume leads to the same numbers."""
    ballast = small_disk / "ballast"
    given = SMALL | {"data": prepared, "runs": small_disk / "runs", "epochs": 2, "log_steps": 1}
    size = finished.last.stat().st_size
    ballast.write_bytes(bytes((40 << 20) - int(1.5 * size)))  # the first checkpoint fits, the second beside it does not
    with pytest.raises(UserError, match=r"the disk is full(.|\n)*remedy: free some space(.|\n)*with --resume"):
        train(given)
    ballast.unlink()
    assert RunFolder.of(small_disk / "runs", "resnet14-small-meta", "official").last.exists()
    run = train(given, resume=True)
    assert losses(run) == losses(finished)
    assert run.state() == "scored"


def test_fp16_with_its_scaler(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused on a CPU for being slow, but it computes there: scaler, its state in the checkpoint, and the resume."""
    from cxrkit.models import compute
    from cxrkit.runs import checkpoints

    monkeypatch.setattr(compute, "choose_precision", lambda name, device: name)
    given = SMALL | {"data": prepared, "precision": "fp16", "log_steps": 1, "limit": 24}
    whole = train(given | {"runs": tmp_path / "a", "epochs": 2})
    scaler = checkpoints.read_info(whole.last).progress["scaler"]
    assert scaler["scale"] > 1
    assert scaler["_growth_tracker"] > 0
    train(given | {"runs": tmp_path / "b", "epochs": 1})
    assert losses(train(given | {"runs": tmp_path / "b", "epochs": 2}, resume=True)) == losses(whole)


def test_ctrl_c_says_what_is_kept_and_how_to_go_on(prepared: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cxrkit", "train", "--data", str(prepared), "--runs", str(tmp_path)]
    for name, value in (SMALL | {"epochs": 500, "log_steps": 1, "checkpoint_minutes": 0}).items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    run = RunFolder.of(tmp_path, "resnet14-small-meta", "official")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "300"}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)
    deadline = time.monotonic() + 120
    while not run.last.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr.decode()
    assert stderr.decode() == f"{run.path}: the training was interrupted; go on with --resume\n"
    assert run.state() == "training"


def test_a_longer_training_is_one_recipe_wherever_its_best_epoch_lies(prepared: Path, tmp_path: Path) -> None:
    """Folds are pooled by the recipe's digest: a run that was extended is what one of that length would have been."""
    given = SMALL | {"data": prepared, "epochs": 2, "lr": 0.01, "limit": 8}  # the first epoch is the best
    whole = train(given | {"runs": tmp_path / "a"})
    train(given | {"runs": tmp_path / "b", "epochs": 1})
    extended = train(given | {"runs": tmp_path / "b"}, resume=True)
    one, other = (checkpoints.read_info(run.best) for run in (whole, extended))
    assert one.epoch == 1, "this test is about a best epoch that lies before the resume"
    assert one == other
    assert results.read_scores(extended.scores).changes == results.read_scores(whole.scores).changes


def test_a_kill_before_the_config_leaves_nothing_in_the_way(finished: RunFolder, tmp_path: Path) -> None:
    """The config is written last: without one, what a killed process has left is written over."""
    shutil.copytree(finished.path.parents[1], tmp_path / "runs")
    run = RunFolder.of(tmp_path / "runs", "resnet14-small-meta", "official")
    data = read_config(run.config).run.data
    shutil.rmtree(run.last.parent)
    run.config.unlink()
    run.split.write_bytes(b"half")
    run.provenance.write_text("{")
    given = SMALL | {"data": data, "runs": tmp_path / "runs", "epochs": 2, "log_steps": 1}
    assert losses(train(given)) == losses(finished)


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"used_digests": 3}', '{"used_digests": {}, "resumed": 1}'])
def test_broken_provenance(finished: RunFolder, tmp_path: Path, text: str) -> None:
    shutil.copytree(finished.path.parents[1], tmp_path / "runs")
    run = RunFolder.of(tmp_path / "runs", "resnet14-small-meta", "official")
    run.provenance.write_text(text)
    with pytest.raises(UserError, match=r"provenance.json: (.|\n)*remedy: choose another --name"):
        train({"model": SMALL["model"], "runs": tmp_path / "runs", "epochs": 3}, resume=True)
    assert run.state() == "scored", "nothing was touched"


def test_a_run_that_was_renamed_or_copied_is_not_mistaken_for_another(finished: RunFolder, tmp_path: Path) -> None:
    """Its config names another folder: resuming would have gone on there."""
    runs = tmp_path / "runs"
    shutil.copytree(finished.path.parents[1], runs)
    here = SMALL | {"data": read_config(finished.config).run.data, "runs": runs, "epochs": 3}
    shutil.copytree(runs / "resnet14-small-meta", runs / "copy")
    with pytest.raises(
        UserError, match=r"copy/official: holds the run resnet14-small-meta on split official, seed 0, "
    ):
        train(here | {"name": "copy"}, resume=True)
    (runs / "resnet14-small-meta" / "official").rename(runs / "resnet14-small-meta" / "official-seed-4")
    with pytest.raises(UserError, match="was trained with --seed 0; resuming cannot change that"):
        train(here | {"seed": 4}, resume=True)
    assert sorted(path.name for path in runs.glob("*/*")) == ["official", "official-seed-4"]


def test_a_folder_of_runs_may_move(finished: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(finished.path.parents[1], tmp_path / "runs")
    monkeypatch.chdir(tmp_path)  # "runs" is the default, which nobody says
    run = train(SMALL | {"epochs": 3}, resume=True)
    assert run.path == Path("runs/resnet14-small-meta/official")
    assert (finished.path / "done" / "train.json").read_bytes() != run.done("train").read_bytes()


def test_epochs_cannot_be_taken_back(finished: RunFolder, tmp_path: Path) -> None:
    shutil.copytree(finished.path.parents[1], tmp_path / "runs")
    run = RunFolder.of(tmp_path / "runs", "resnet14-small-meta", "official")
    with pytest.raises(UserError, match="has taken 2 epochs already, more than --epochs 1"):
        train(SMALL | {"runs": tmp_path / "runs", "epochs": 1}, resume=True)
    assert read_config(run.config).schedule.epochs == 2
    assert run.state() == "scored"


def test_a_split_that_was_changed_in_its_place_is_refused(finished: RunFolder, prepared: Path, tmp_path: Path) -> None:
    table = tmp_path / "mine.csv"
    own_split(finished, table)
    given = SMALL | {"data": prepared, "runs": tmp_path / "runs", "epochs": 1, "fold": str(table)}
    run = train(given)
    own_split(finished, table, shift=1)
    with pytest.raises(
        UserError, match=r"mine.csv: another assignment of images than .*file-mine was trained on"
    ) as told:
        train(given | {"epochs": 2}, resume=True)
    copied = tmp_path / "mine.parquet"  # the remedy
    assert f"{run.split} is one, copy it as mine.parquet" in str(told.value)
    shutil.copy(run.split, copied)
    train(given | {"epochs": 2, "fold": str(copied)}, resume=True)
    table.unlink()
    copied.unlink()
    train(given | {"epochs": 3, "fold": str(copied)}, resume=True)


def test_the_best_network_says_the_terms_of_the_whole_training(finished: RunFolder, tmp_path: Path) -> None:
    """A resumed training that finds no better network: its scores are of a training of three epochs all the same."""
    shutil.copytree(finished.path.parents[1], tmp_path / "runs")
    run = RunFolder.of(tmp_path / "runs", "resnet14-small-meta", "official")
    tensors, info = checkpoints.read(run.last)
    progress = info.progress | {"best": info.progress["best"] | {"epoch": 1, "value": 0.0}}  # nothing will be better
    metadata = {checkpoints.METADATA_KEY: json.dumps(asdict(replace(info, progress=progress)))}
    save_file(tensors, run.last, metadata=metadata)
    epoch = checkpoints.read_info(run.best).epoch
    train(SMALL | {"runs": tmp_path / "runs", "epochs": 3}, resume=True)
    best = checkpoints.read_info(run.best)
    assert best.epoch == epoch
    assert best.recipe_digest == checkpoints.read_info(run.last).recipe_digest == recipe_digest(read_config(run.config))
    assert results.read_scores(run.scores).changes == best.changes != info.changes


@pytest.mark.parametrize("name", ["..", ".", " ", "a\nb", "x" * 300, "/"])
def test_names_that_no_folder_can_have(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--name .*not the name of a folder inside"):
        train(SMALL | {"runs": tmp_path / "runs", "name": name})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("gone", "state"),
    [
        ("checkpoints/best.safetensors", "training"),
        ("predictions/test.parquet", "trained"),
        ("predictions/val.parquet", "trained"),
        ("scores.json", "predicted"),
        ("done/train.json", "training"),
        ("done/predict.json", "trained"),
        ("done/evaluate.json", "predicted"),
    ],
)
def test_a_stage_whose_file_is_gone_is_done_again(gone: str, state: str, finished: RunFolder, tmp_path: Path) -> None:
    """What `cxrkit report` advises for a run without scores must bring them."""
    shutil.copytree(finished.path.parents[1], tmp_path / "runs")
    run = RunFolder.of(tmp_path / "runs", "resnet14-small-meta", "official")
    if gone == "checkpoints/best.safetensors":  # only the network of the last epoch can be had again
        tensors, info = checkpoints.read(run.last)
        progress = info.progress | {"best": {"epoch": info.epoch, "value": info.progress["best"]["value"]}}
        metadata = {checkpoints.METADATA_KEY: json.dumps(asdict(replace(info, progress=progress)))}
        save_file(tensors, run.last, metadata=metadata)
    (run.path / gone).unlink()
    assert run.state() == state
    train(SMALL | {"runs": tmp_path / "runs", "epochs": 2}, resume=True)
    assert run.state() == "scored"
    assert (run.path / gone).exists()
    assert run.scores.exists()


def test_a_damaged_state_is_refused_with_what_helps(finished: RunFolder, tmp_path: Path) -> None:
    shutil.copytree(finished.path.parents[1], tmp_path / "runs")
    run = RunFolder.of(tmp_path / "runs", "resnet14-small-meta", "official")
    run.last.write_bytes(run.last.read_bytes()[:999])
    with pytest.raises(UserError, match=r"last.safetensors: not a whole safetensors file(.|\n)*under another --name"):
        train(SMALL | {"runs": tmp_path / "runs", "epochs": 3}, resume=True)


@pytest.mark.parametrize(("column", "other"), [("age_years", pl.col("age_years") + 1), ("view", pl.lit("AP"))])
def test_other_ages_or_views_are_other_inputs(
    column: str, other: pl.Expr, finished: RunFolder, prepared: Path, tmp_path: Path
) -> None:
    """A -meta network is given them; the labels of such a folder are as they were."""
    shutil.copytree(finished.path.parents[1], tmp_path / "runs")
    data = tmp_path / "data"
    shutil.copytree(prepared, data)
    about = json.loads((data / "dataset.json").read_text())
    table = pl.read_parquet(data / about["records"]["file"]).with_columns(
        other.cast(pl.Int32 if column[0] == "a" else pl.String).alias(column)
    )
    table.write_parquet(data / "records-00000000.parquet")
    about["records"] = {"file": "records-00000000.parquet", "sha256": file_digest(data / "records-00000000.parquet")}
    (data / "dataset.json").write_text(json.dumps(about))
    run = RunFolder.of(tmp_path / "runs", "resnet14-small-meta", "official")
    with pytest.raises(UserError, match=r"trained on ages, sexes and views with digest \w+, but .*data has ages"):
        train(SMALL | {"runs": tmp_path / "runs", "data": data, "epochs": 3}, resume=True)
    with pytest.raises(UserError, match="trained with ages, sexes and views with digest"):
        pipeline.predict(run, QUIET, data=data)


@pytest.mark.parametrize(
    ("more", "mode", "notes"),
    [
        ({}, "eager", 0),
        ({"graph": False}, "eager", 0),
        ({"graph": True}, "eager", 1),
    ],
)
def test_how_steps_are_taken_is_said(
    more: dict[str, Any], mode: str, notes: int, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A CPU has no CUDA graphs: asked for, they are done without, also by a run that began on a GPU."""
    given = {"model": "mlp-meta", "data": prepared, "runs": tmp_path, "epochs": 1, "limit": 16, "device": "cpu"} | more
    pipeline.train(pipeline.resolve(given), False, Console(width=300))
    said = capsys.readouterr().out
    precision = read_config(next(tmp_path.rglob("config.toml"))).run.precision
    assert f"; cpu, {precision}, {mode}, loader pixelless\n" in said
    assert said.count("--graph: a CPU has no CUDA graphs, so the steps are taken without\n  remedy: leave out") == notes


def test_how_steps_are_taken_is_no_part_of_the_recipe(finished: RunFolder, tmp_path: Path) -> None:
    shutil.copytree(finished.path.parents[1], tmp_path / "runs")
    run = train({"model": SMALL["model"], "runs": tmp_path / "runs", "epochs": 3, "graph": False}, resume=True)
    assert read_config(run.config).run.graph is False
    assert checkpoints.read_info(run.last).changes == (
        "input.size=32", "optimizer.batch_size=8", "schedule.epochs=3",
    )  # fmt: skip


def test_the_first_line_says_what_is_trained(prepared: Path, tmp_path: Path) -> None:
    said = SMALL | {"data": prepared, "runs": tmp_path, "epochs": 1, "limit": 8, "name": "mine", "loss": "focal"}
    console = Console(file=io.StringIO(), width=200)
    train(said, console=console)
    first = console.file.getvalue().splitlines()[0]  # type: ignore[attr-defined]
    assert first.startswith("mine: resnet14-small-meta, loss focal, at 32 px, split official, labels ")
