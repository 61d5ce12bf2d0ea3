from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from cxrkit import pipeline, predictions
from cxrkit.config import TrainConfig, resolve
from cxrkit.contracts import LABELS
from cxrkit.errors import UserError
from cxrkit.evaluators import results
from cxrkit.runs import RunFolder, read_metrics

SMALL = {"model": "resnet14-small-meta", "input_size": 32, "batch_size": 8, "precision": "fp32", "threads": 1}
QUIET = Console(quiet=True)


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
    return pipeline.train(SMALL | {"data": prepared, "runs": runs, "epochs": 2, "log_steps": 1}, None, False, QUIET)


def losses(run: RunFolder) -> list[tuple[Any, ...]]:
    """Everything in metrics.jsonl that a kill must not change: not the speeds."""
    return [
        tuple(line.get(key) for key in ("kind", "epoch", "step", "loss", "train_loss", "val_loss", "val_auc", "lr"))
        for line in read_metrics(run.metrics)
    ]


def test_a_run_leaves_everything(finished: RunFolder, prepared: Path) -> None:
    assert finished.path.parts[-2:] == ("resnet14-small-meta", "official")
    config = resolve(TrainConfig, {}, finished.config)
    assert (config.batch_size, config.lr, config.input_size, config.precision) == (8, 0.003, 32, "fp32")
    provenance = json.loads(finished.provenance.read_text())
    assert provenance["packages"]["torch"] == version("torch")
    assert provenance["split_digest"] == results.read(finished.scores).split_digest
    epochs = [line for line in read_metrics(finished.metrics) if line["kind"] == "epoch"]
    assert [line["epoch"] for line in epochs] == [1, 2]
    assert all(line["images_per_second"] > 0 and 0 <= line["waiting_share"] <= 1 for line in epochs)
    split = pl.read_parquet(finished.split)
    for subset in ("val", "test"):
        frame, about = predictions.read(finished.predictions(subset))  # type: ignore[arg-type]
        expected = split.filter(pl.col("subset") == subset)["image_id"].to_list()
        assert frame["image_id"].to_list() == expected
        assert about.subset_images == len(expected)
        assert frame.select(LABELS).to_numpy().std() > 0


def test_the_loss_falls(prepared: Path, tmp_path: Path) -> None:
    given = SMALL | {"data": prepared, "runs": tmp_path, "epochs": 6, "limit": 16, "area_min": 1.0, "angle": 0.0}
    run = pipeline.train(given, None, False, QUIET)
    epochs = [line["train_loss"] for line in read_metrics(run.metrics) if line["kind"] == "epoch"]
    assert epochs[-1] < 0.8 * epochs[0]


def test_the_best_checkpoint_has_the_lowest_validation_loss(finished: RunFolder) -> None:
    from cxrkit.checkpoints import read

    epochs = [line for line in read_metrics(finished.metrics) if line["kind"] == "epoch"]
    best = min(epochs, key=lambda line: line["val_loss"])
    assert read(finished.best)[1].epoch == best["epoch"]
    assert read(finished.last)[1].epoch == 2


def test_resumed_longer_training_equals_one_in_one_go(finished: RunFolder, prepared: Path, tmp_path: Path) -> None:
    given = SMALL | {"data": prepared, "runs": tmp_path / "a", "epochs": 3, "log_steps": 1}
    whole = pipeline.train(given, None, False, QUIET)
    shutil.copytree(finished.path.parent.parent, tmp_path / "b")
    resumed = pipeline.train(given | {"runs": tmp_path / "b"}, None, True, QUIET)
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
    pipeline.train({"model": SMALL["model"], "data": prepared, "runs": tmp_path}, None, True, QUIET)
    assert losses(run) == losses(finished)
    for name in ("last", "best"):
        ours, theirs = load_file(getattr(run, name)), load_file(getattr(finished, name))
        assert all(torch.equal(value, theirs[key]) for key, value in ours.items())
    assert predictions.read(run.predictions("test"))[0].equals(predictions.read(finished.predictions("test"))[0])


def test_batches_in_flight_do_not_change_numbers(finished: RunFolder, prepared: Path, tmp_path: Path) -> None:
    given = SMALL | {"data": prepared, "runs": tmp_path, "epochs": 1, "log_steps": 1, "threads": 3}
    other = pipeline.train(given, None, False, QUIET)
    assert losses(other) == losses(finished)[: len(losses(other))]


@pytest.mark.parametrize(
    ("changes", "resume", "text"),
    [
        ({}, False, "already holds a training of this model on this split\n  remedy: add --resume"),
        ({"lr": 0.5}, True, "was trained with --lr 0.003; resuming cannot change that"),
        ({"seed": 4, "angle": 1.0}, True, "was trained with --angle 7.0, --seed 0; resuming cannot change that"),
    ],
)
def test_an_existing_run_is_not_overwritten(
    finished: RunFolder, prepared: Path, changes: dict[str, Any], resume: bool, text: str
) -> None:
    before = finished.last.read_bytes()
    with pytest.raises(UserError) as caught:
        pipeline.train(SMALL | {"data": prepared, "runs": finished.path.parents[1]} | changes, None, resume, QUIET)
    assert text in str(caught.value)
    assert finished.last.read_bytes() == before


def test_level_too_small(prepared: Path, tmp_path: Path) -> None:
    given = {"model": "resnet50-large-meta", "data": prepared, "runs": tmp_path, "limit": 8}
    with pytest.raises(UserError, match=r"the largest prepared level has 256 pixels(.|\n)*remedy: .*--levels"):
        pipeline.train(given, None, False, QUIET)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_not_prepared(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"dataset.json: the description of a prepared folder is missing\n  remedy: run"
    ):
        pipeline.train({"data": tmp_path / "no", "runs": tmp_path}, None, False, QUIET)


def test_predict_refuses_a_checkpoint_of_another_split(finished: RunFolder, prepared: Path, tmp_path: Path) -> None:
    """The other fold's test images may have been trained on."""
    other = pipeline.train(SMALL | {"data": prepared, "runs": tmp_path, "epochs": 1, "fold": "2"}, None, False, QUIET)
    before = other.predictions("test").read_bytes()
    with pytest.raises(UserError, match=r"best.safetensors: trained with split [0-9a-f]{12}, but .* has [0-9a-f]{12}"):
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
        pipeline.train(given, None, False, QUIET)


def test_the_rate_is_halved_and_the_best_epoch_kept(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Validation losses by script: halving after one epoch without improvement (patience 0), best = the lowest."""
    from cxrkit import checkpoints, compute
    from cxrkit.trainers import supervised

    script = iter([0.5, 0.4, 0.45, 0.41, 0.3, 0.35])
    real = compute.score

    def scripted(model: Any, loader: Any, *arguments: Any) -> Any:
        return replace(real(model, loader, *arguments), loss=next(script))

    used_rates = []
    real_step = supervised.take_step

    def watched(task: Any, forward: Any, optimizer: Any, *arguments: Any) -> Any:
        used_rates.append(optimizer.param_groups[0]["lr"])
        return real_step(task, forward, optimizer, *arguments)

    monkeypatch.setattr(supervised.compute, "score", scripted)
    monkeypatch.setattr(supervised, "take_step", watched)
    monkeypatch.setattr(pipeline, "predict", lambda *_, **__: None)
    monkeypatch.setattr(pipeline, "evaluate", lambda *_, **__: None)
    given = SMALL | {"data": prepared, "runs": tmp_path, "epochs": 6, "limit": 8, "lr": 0.008}
    run = pipeline.train(given, None, False, QUIET)
    rates = [line["lr"] for line in read_metrics(run.metrics) if line["kind"] == "epoch"]
    assert rates == [0.008, 0.008, 0.008, 0.004, 0.002, 0.002]
    assert used_rates == rates  # one step an epoch
    assert checkpoints.read(run.best)[1].epoch == 5
    last = checkpoints.read(run.last)[1].progress
    assert (last["lr"], last["best_loss"], last["best_epoch"]) == (0.001, 0.3, 5)


def test_a_kill_between_the_two_checkpoints(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """last.safetensors says that its epoch was the best one, best.safetensors is still an older one."""
    from cxrkit import checkpoints
    from cxrkit.trainers import supervised

    given = SMALL | {"data": prepared, "runs": tmp_path, "epochs": 1, "limit": 8}
    with monkeypatch.context() as patch:
        patch.setattr(supervised, "save_best", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            pipeline.train(given, None, False, QUIET)
    run = RunFolder.of(tmp_path, "resnet14-small-meta", "official")
    assert run.last.exists()
    assert not run.best.exists()
    pipeline.train(given, None, True, QUIET)
    assert checkpoints.read(run.best)[1].epoch == 1
    ours, theirs = load_file(run.best), load_file(run.last)
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_scores_are_the_evaluating_models_by_label(finished: RunFolder, prepared: Path) -> None:
    """Predictions equal a forward pass made by hand: evaluation mode, the centre crop, every label in its column."""
    from cxrkit.contracts import LABELS
    from cxrkit.inputs import Inputs
    from cxrkit.models import prepare_input
    from cxrkit.predict import load

    model, spec, info = load(finished.best)
    inputs = Inputs.of(prepared, "official", None)
    loader = inputs.loader(inputs.eval_plan("test", spec, 5), "opencv", "cpu", 1)
    frame = predictions.read(finished.predictions("test"))[0]
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
    from cxrkit.contracts import Records
    from cxrkit.datasets.synthetic import read
    from cxrkit.prepare import PrepareConfig, prepare

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
    run = pipeline.train(given, None, False, QUIET)
    assert losses(run) == losses(finished)[: len(losses(run))]
    resumed = pipeline.train(given | {"data": prepared, "epochs": 2}, None, True, QUIET)
    assert losses(resumed) == losses(finished)


def test_resuming_on_other_images_or_pixels(finished: RunFolder, cohort: Path, tmp_path: Path) -> None:
    shutil.copytree(finished.path.parents[1], tmp_path / "runs")
    split = pl.read_parquet(finished.split)
    absent = set(split.filter(pl.col("subset") == "train")["image_id"].head(3))
    prepare_part(cohort, tmp_path / "part", absent)
    prepare_part(cohort, tmp_path / "coarse", set(), levels=(128,))
    given = {"model": SMALL["model"], "runs": tmp_path / "runs", "epochs": 3}
    with pytest.raises(UserError, match=r"was trained on other train images than .*part holds now"):
        pipeline.train(given | {"data": tmp_path / "part"}, None, True, QUIET)
    with pytest.raises(UserError, match=r"was trained on images prepared with other settings than .*coarse holds now"):
        pipeline.train(given | {"data": tmp_path / "coarse"}, None, True, QUIET)
    with pytest.raises(UserError, match=r"best.safetensors: trained with pixels [0-9a-f]{12}, but .*coarse has"):
        pipeline.predict(finished, QUIET, data=tmp_path / "coarse")


def test_the_same_config_file_resumes(prepared: Path, tmp_path: Path) -> None:
    path = tmp_path / "exp.toml"
    path.write_text(f'model = "mlp-meta"\nfold = "3"\ndata = "{prepared}"\nruns = "{tmp_path / "runs"}"\nepochs = 1\n')
    pipeline.train({}, path, False, QUIET)
    run = pipeline.train({"epochs": 2, "precision": "auto", "fold": "resample-3"}, path, True, QUIET)
    assert [line["epoch"] for line in read_metrics(run.metrics) if line["kind"] == "epoch"] == [1, 2]


def test_predict_refuses_a_checkpoint_of_another_model(finished: RunFolder, prepared: Path, tmp_path: Path) -> None:
    given = {"model": "mlp-meta", "data": prepared, "runs": tmp_path, "epochs": 1}
    other = pipeline.train(given, None, False, QUIET)
    before = finished.predictions("test").read_bytes()
    with pytest.raises(UserError, match="a checkpoint of mlp-meta, but this run is one of resnet14-small-meta"):
        pipeline.predict(finished, QUIET, checkpoint=other.best)
    assert finished.predictions("test").read_bytes() == before


def test_one_process_at_a_time(prepared: Path, tmp_path: Path) -> None:
    from cxrkit.runs import claimed

    given = {"model": "mlp-meta", "data": prepared, "runs": tmp_path, "epochs": 1}
    with (
        claimed(RunFolder.of(tmp_path, "mlp-meta", "official")),
        pytest.raises(UserError, match="another process is training this run\n  remedy: wait for it"),
    ):
        pipeline.train(given, None, False, QUIET)
    pipeline.train(given, None, False, QUIET)


def test_leftovers_of_a_kill_are_removed(finished: RunFolder, tmp_path: Path) -> None:
    shutil.copytree(finished.path.parents[1], tmp_path / "runs")
    run = RunFolder.of(tmp_path / "runs", "resnet14-small-meta", "official")
    left = run.last.with_name(".last.safetensors.0123abcd.part")
    left.write_bytes(b"half")
    pipeline.train({"model": SMALL["model"], "runs": tmp_path / "runs"}, None, True, QUIET)
    assert not left.exists()


def test_a_limited_training_is_marked(prepared: Path, tmp_path: Path) -> None:
    from cxrkit import report

    given = SMALL | {"data": prepared, "runs": tmp_path, "epochs": 1, "limit": 16}
    pipeline.train(given, None, False, QUIET)
    text = report.render(report.official(tmp_path), "md")
    assert "trained on 16 of" in text


def test_not_a_run_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not a run folder \(no config.toml\)"):
        pipeline.run_config(RunFolder(tmp_path))
