"""One training by several processes. Two of them are started by torchrun itself, on the CPU (ranks_at_work.py)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ranks_at_work import OPTIONS
from rich.console import Console
from torch import nn

from cxrkit import models, pipeline
from cxrkit.base.errors import UserError
from cxrkit.base.ranks import ALONE, Ranks, joined
from cxrkit.models import compute
from cxrkit.runs import predictions
from cxrkit.runs.folder import RunFolder
from cxrkit.runs.metrics import read_metrics
from cxrkit.trainers import sharing, stepping

HERE = Path(__file__).parent
NET = "ranks_at_work:norm_free"
SAID: dict[str, Any] = {"batch_size": 8, "log_steps": 1, "device": "cpu", "precision": "fp32", "compute_threads": 1}
TORCHRUN = {"RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}


# ------------------------------------------------------------------------------------------------------ one process


@pytest.mark.parametrize("environment", [{}, {"RANK": "0", "WORLD_SIZE": "2"}, TORCHRUN | {"RANK": ""}])
def test_without_torchrun_a_process_is_alone(environment: dict[str, str]) -> None:
    with joined(environment) as ranks:
        assert ranks == ALONE
        assert ranks.first
        assert not ranks.several
        assert ranks.once(lambda: 7) == 7
        assert ranks.gather("a") == ["a"]
        assert ranks.in_turn(["a", "b"]) == ["a", "b"]
        assert ranks.device("cuda:3") == "cuda:3"


def test_what_torchrun_says_is_read() -> None:
    assert Ranks.of(TORCHRUN | {"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}) == Ranks(1, 4, 1, 2)
    assert Ranks.of(TORCHRUN) == Ranks(1, 4, 0, 1)


@pytest.mark.parametrize("change", [{"RANK": "4"}, {"RANK": "-1"}, {"WORLD_SIZE": "two"}, {"LOCAL_RANK": "1"}])
def test_numbers_that_cannot_be_are_refused(change: dict[str, str]) -> None:
    ((name, value),) = change.items()
    with pytest.raises(UserError, match=rf"{name}={value}(.|\n)*remedy: start them by torchrun, or unset RANK"):
        Ranks.of(TORCHRUN | change)


@pytest.mark.parametrize(("batch", "world", "fewer", "more"), [(16, 3, 2, 18), (8, 16, 8, 16), (9, 4, 3, 12)])
def test_a_batch_that_cannot_be_shared_has_a_remedy(batch: int, world: int, fewer: int, more: int) -> None:
    text = f"a batch of {batch} images cannot be shared equally by {world} processes\n  remedy: start {fewer} processes"
    with pytest.raises(UserError, match=f"{text}, or give --batch-size {more}"):
        Ranks(0, world).share(batch)
    assert Ranks(0, fewer).share(batch) * fewer == batch
    assert Ranks(0, world).share(more) * world == more
    with pytest.raises(UserError, match=r"remedy: start one without torchrun, or give --batch-size 8"):
        Ranks(0, 2).share(7)


@pytest.mark.parametrize(("images", "batch", "world"), [(23, 4, 3), (24, 4, 2), (3, 4, 2), (0, 4, 2), (9, 1, 4)])
def test_every_image_is_evaluated_by_one_rank_in_a_single_processs_batches(images: int, batch: int, world: int) -> None:
    rows = np.arange(images) * 2
    single = [rows[start : start + batch].tolist() for start in range(0, images, batch)]
    for rank in range(world):
        own = Ranks(rank, world).own_batches(rows, batch)
        assert [own[start : start + batch].tolist() for start in range(0, len(own), batch)] == single[rank::world]


def test_others_count_as_many_images_up_to_all() -> None:
    heard: list[int] = []
    count = Ranks(0, 2).counting(heard.append, 10)
    for images in (4, 2):
        count(images)
    assert heard == [8, 2]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "cuda:1",
            r"--device cuda:1: one device for 2 processes\n  remedy: give --device cuda, and CUDA_VIS",
        ),
        ("cuda", r"2 processes on a machine where torch sees 0 CUDA devices\n  remedy: give --device cpu"),
    ],
)
def test_a_device_that_a_rank_cannot_have(name: str, text: str) -> None:
    with pytest.raises(UserError, match=text):
        Ranks(1, 2, 1, 2).device(name)


def test_each_rank_has_the_gpu_of_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert Ranks(5, 8, 1, 4)._device("auto") == "cuda:1"
    with pytest.raises(UserError, match="torch sees 2 CUDA devices\n  remedy: give torchrun --nproc-per-node 2"):
        Ranks(2, 8, 2, 4)._device("auto")


class OwnNorm(nn.BatchNorm2d):
    """Computes what it likes."""


def test_batch_normalisation_is_synchronised_on_gpus_and_keeps_its_names() -> None:
    """Converting needs no GPU, only using it does."""
    model = models.build("resnet14-small-meta")
    model.extra = OwnNorm(4)
    before, notes = dict(model.named_parameters()), []
    keys = list(model.state_dict())
    found = sharing.synchronised(model, Ranks(0, 2), "cuda:0", notes.append)
    assert found is model
    kinds = {type(module) for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)}
    assert kinds == {nn.SyncBatchNorm, OwnNorm}
    assert list(model.state_dict()) == keys
    assert all(parameter is before[name] for name, parameter in model.named_parameters())
    assert not notes


def test_what_is_not_to_be_synchronised_stays() -> None:
    notes: list[str] = []
    frozen = models.build("resnet50-ots", pretrained=False).train()
    for ranks, device in ((Ranks(0, 2), "cuda:0"), (Ranks(0, 2), "cpu"), (ALONE, "cuda:0")):
        sharing.synchronised(frozen, ranks, device, notes.append)
    learning = models.build("resnet14-small").train()
    sharing.synchronised(learning, ALONE, "cuda:0", notes.append)
    assert not notes
    sharing.synchronised(learning, Ranks(0, 2), "cpu", notes.append)
    assert len(notes) == 1
    assert "2 processes on a CPU: batch normalisation is over each one's share" in notes[0]
    for model in (frozen, learning):
        assert not any(isinstance(module, nn.SyncBatchNorm) for module in model.modules())


def test_steps_that_are_shared_are_not_recorded() -> None:
    assert stepping.records(None, "cuda:0")
    assert not stepping.records(None, "cuda:0", Ranks(0, 2))
    assert not stepping.records(True, "cuda:0", Ranks(0, 2))


def test_alone_a_step_is_what_it_was() -> None:
    model = models.build("mlp-meta")
    forward, loss = compute.Forward(model, model.spec, "cpu", "fp32"), lambda outputs, batch: outputs.logits.mean()
    assert sharing.shared(ALONE, forward, loss, images=False) == (forward, loss)
    state = torch.get_rng_state()
    sharing.sow(ALONE, 1, 2, 3)
    assert torch.equal(torch.get_rng_state(), state)


# ----------------------------------------------------------------------------------------------------- two processes


def torchrun(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *arguments]
    path = os.pathsep.join([str(HERE), str(HERE.parent)])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)


def train(runs: Path, resume: bool = False, **said: Any) -> RunFolder:
    before = torch.get_num_threads()
    try:
        return pipeline.train(pipeline.resolve(said | {"runs": runs}, resume=resume), resume, Console(quiet=True))
    finally:
        torch.set_num_threads(before)


def assert_alike(one: RunFolder, other: RunFolder) -> None:
    """Losses and predictions are equal to 1e-5, images and their order exactly."""
    lines, others = list(read_metrics(one.metrics)), list(read_metrics(other.metrics))
    names = ("kind", "epoch", "step", "lr", "train_images")
    assert [[line.get(name) for name in names] for line in lines] == [
        [line.get(name) for name in names] for line in others
    ]
    for name in ("loss", "train_loss", "val_loss"):
        found = [[line[name] for line in some if name in line] for some in (lines, others)]
        assert found[0]
        assert found[0] == pytest.approx(found[1], abs=1e-5)
    for subset in ("val", "test"):
        frame, expected = (predictions.read_predictions(run.predictions(subset)).frame for run in (one, other))  # type: ignore[arg-type]
        assert frame["image_id"].to_list() == expected["image_id"].to_list()
        scored = [column for column, kind in frame.schema.items() if kind.is_float()]
        np.testing.assert_allclose(frame.select(scored), expected.select(scored), atol=1e-5)


@pytest.fixture(scope="module")
def runs(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with what one process has trained, and where two shall go on. Read-only but for "resumed"."""
    folder = tmp_path_factory.mktemp("runs")
    train(folder / "resumed", model=NET, data=prepared, epochs=1, **SAID)
    for name, epochs in (("one", 2), ("longer", 3)):
        train(folder / name, model=NET, data=prepared, epochs=epochs, **SAID)
    train(folder / "one", model="mlp-meta", data=prepared, epochs=2, **SAID)
    train(folder / "one-options", data=prepared, epochs=2, **(SAID | OPTIONS))
    return folder


def the_run(runs: Path, name: str = NET) -> RunFolder:
    return RunFolder.of(runs, name, "official")


def test_two_processes_train_what_one_does_and_one_goes_on(runs: Path, prepared: Path) -> None:
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in SAID.items()]
    done = torchrun(
        "-m", "cxrkit", "train", "--model", NET, "--data", prepared, "--runs", runs / "two", "--epochs=2", *flags
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("2 processes, 4 images each of a batch") == 1
    assert done.stdout.count("done: ") == 1
    two = the_run(runs / "two")
    assert two.state() == "scored"
    assert_alike(two, the_run(runs / "one"))
    assert not list(two.path.rglob("*.part"))
    train(runs / "two", resume=True, model=NET, epochs=3)
    assert_alike(two, the_run(runs / "longer"))


def test_two_processes_at_work(runs: Path, prepared: Path) -> None:
    """See ranks_at_work.py: gradients, scores, from one process to two, and an end that they share."""
    done = torchrun(HERE / "ranks_at_work.py", prepared, runs)
    assert "error: rank 1 fails\n  remedy: look at rank 1\n" in done.stderr, done.stderr
    assert done.stderr.count("error: ") == 1
    assert "lost the other processes" not in done.stderr
    assert done.returncode != 0
    assert_alike(the_run(runs / "two", "mlp-meta"), the_run(runs / "one", "mlp-meta"))
    assert_alike(the_run(runs / "two-options", "mlp-meta"), the_run(runs / "one-options", "mlp-meta"))
    assert the_run(runs / "norms", "resnet14-small").state() == "scored"
    assert_alike(the_run(runs / "resumed"), the_run(runs / "longer"))


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted by /proc")
def test_the_threads_that_carry_objects_end_before_python_does() -> None:
    done = torchrun(HERE / "ranks_part.py")
    assert done.returncode == 0, done.stderr
