"""The loaders as a library: `cxrkit.open`, and the examples that use it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from test_loaders import write_folder

import cxrkit
from cxrkit.base.errors import UserError
from cxrkit.loaders import targets
from cxrkit.loaders.inputs import Inputs


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("feed") / "shards", "raw")


OPTIONS = {"split": "1", "size": 56, "batch_size": 4, "device": "cpu", "threads": 1}


def pixels(batches: list[dict]) -> torch.Tensor:
    return torch.cat([batch["image"] for batch in batches])


def test_importing_the_package_loads_no_torch() -> None:
    code = "import sys, cxrkit; assert 'open' in dir(cxrkit); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
    with pytest.raises(AttributeError, match="module 'cxrkit' has no attribute 'opne'"):
        _ = cxrkit.opne


def test_a_batch_holds_the_images_of_its_ids(folder: Path) -> None:
    with cxrkit.open(folder, subset="val", **OPTIONS) as feed:
        batches = list(feed)
        records = feed.records
        assert feed.labels == feed.inputs.labels.labels
        assert (len(feed), feed.images) == (len(batches), records.height)
        ids = [name for batch in batches for name in batch["ids"]]
        assert ids == records["image_id"].to_list()
        label = torch.cat([batch["label"] for batch in batches]).numpy()
        np.testing.assert_array_equal(label, targets.targets(records, feed.inputs.labels))
        meta = torch.cat([batch["metadata"] for batch in batches]).numpy()
        np.testing.assert_array_equal(meta, targets.metadata(records, feed.inputs.age_range))
        assert pixels(batches).shape == (len(ids), 1, 56, 56)
        assert pixels(batches).dtype == torch.uint8
        # A batch is a copy of its own: the loader uses its buffers again.
        again = torch.cat([batch["image"].clone() for batch in feed.epoch(0)])
        assert torch.equal(pixels(batches), again)


def test_each_pass_is_the_next_epoch_and_any_can_be_had_again(folder: Path) -> None:
    with cxrkit.open(folder, **OPTIONS) as feed:
        first, second = list(feed), list(feed)
        assert [batch["ids"] for batch in first] != [batch["ids"] for batch in second]
        feed.set_epoch(1)
        again = list(feed)
        assert torch.equal(pixels(again), pixels(second))
        resumed = list(feed.epoch(1, start_step=2))
        assert torch.equal(pixels(resumed), pixels(second[2:]))
    with cxrkit.open(folder, seed=1, **OPTIONS) as other:
        assert [batch["ids"] for batch in other] != [batch["ids"] for batch in first]


def test_what_is_left_early_leaves_no_thread(folder: Path) -> None:
    import threading

    with cxrkit.open(folder, **OPTIONS) as feed:
        for _ in feed:
            break
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("cxrkit-opencv")]
        feed.close()  # and once more on the way out


def test_it_is_what_cxrkit_trains_on(folder: Path) -> None:
    from cxrkit import models, pipeline

    said = {"model": "resnet14-small-meta", "data": folder, "fold": "1", "input_size": 56, "batch_size": 4, "seed": 3}
    config = pipeline.resolve(said)
    inputs = Inputs.of(folder, "1", None)
    plan = inputs.train_plan(config, models.spec_of(config).at(56))
    loader = inputs.loader(plan, "opencv", "cpu", 1)
    trained_on = torch.cat([batch.image.clone() for batch in loader.epoch(2)])
    inputs.close()
    with cxrkit.open(folder, seed=3, **OPTIONS) as feed:
        assert torch.equal(pixels(list(feed.epoch(2))), trained_on)


def test_processes_share_an_epoch(folder: Path) -> None:
    whole, parts = {}, {}
    for subset in ("train", "test"):
        shared = OPTIONS | {"subset": subset, "batch_size": 2}
        parts[subset] = []
        for rank in range(2):
            with cxrkit.open(folder, rank=rank, world_size=2, **shared) as feed:
                assert feed.images == feed.records.height
                parts[subset].append([name for batch in feed.epoch(0) for name in batch["ids"]])
        with cxrkit.open(folder, **(shared | {"batch_size": 4 if subset == "train" else 2})) as feed:
            whole[subset] = [name for batch in feed.epoch(0) for name in batch["ids"]]
    for subset, (one, other) in parts.items():
        assert not set(one) & set(other)
        assert sorted(one + other) == sorted(whole[subset])
    assert len(parts["train"][0]) == len(parts["train"][1])


def test_an_evaluation_of_training_images_is_in_order(folder: Path) -> None:
    with cxrkit.open(folder, train=False, reuse_memory=True, **OPTIONS) as feed:
        names = [name for batch in feed for name in batch["ids"]]
        assert names == sorted(names)
        assert len(names) == feed.images


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"subset": "tset"}, r"unknown subset 'tset'[^\0]*did you mean test"),
        ({"size": 16}, r"size is 16\n  remedy: give a whole number of at least 32"),
        ({"size": 512}, r"the largest prepared level has 128 pixels a side, too few for a 512 x 512 input"),
        ({"batch_size": 0}, r"batch_size is 0\n  remedy: give a whole number of at least 1"),
        ({"subset": "val", "drop_last": True}, r"drop_last without train: an evaluation leaves no image out"),
        ({"rank": 2, "world_size": 2}, r"rank 2 of world_size 2\n  remedy: give both"),
        ({"rank": 0, "world_size": 2, "drop_last": False}, r"2 processes that train take equal shares"),
        ({"loader": "opencvv"}, r"unknown loader 'opencvv'[^\0]*did you mean opencv"),
        ({"loader_options": {"prefech": 3}}, r"unknown option 'prefech'"),
        ({"split": "nowhere"}, r"--fold nowhere"),
    ],
)
def test_what_cannot_be(folder: Path, changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        cxrkit.open(folder, **(OPTIONS | changes))


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not a prepared folder|dataset\.json"):
        cxrkit.open(tmp_path)


# The examples


@pytest.fixture
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(REPOSITORY)


@pytest.mark.usefixtures("_importable")
def test_a_loop_of_ones_own(folder: Path) -> None:
    from examples import own_loop

    torch.manual_seed(0)
    losses = own_loop.train(folder, epochs=4, **OPTIONS)
    assert losses[-1] < losses[0]
    known = own_loop.masked_loss(torch.zeros(1, 2), torch.tensor([[float("nan"), 1.0]]))
    assert known.item() == pytest.approx(np.log(2))


@pytest.mark.filterwarnings("default")  # what the framework says of torch is not ours to mend
@pytest.mark.usefixtures("_importable")
def test_under_lightning(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("lightning", reason="lightning is not installed")
    from examples import lightning_loop

    torch.manual_seed(0)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    quiet |= {"accelerator": "cpu", "default_root_dir": tmp_path}
    assert 0 < lightning_loop.train(folder, 2, quiet, **OPTIONS) < 1


@pytest.mark.filterwarnings("default")  # what the framework says of torch is not ours to mend
@pytest.mark.usefixtures("_importable")
def test_under_hugging_faces_trainer(folder: Path, tmp_path: Path) -> None:
    for package in ("accelerate", "transformers"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    from examples import hf_trainer

    torch.manual_seed(0)
    assert 0 < hf_trainer.train(folder, tmp_path, 2, **OPTIONS) < 1
