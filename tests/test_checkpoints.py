from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from cxrkit.base.errors import UserError
from cxrkit.base.origin import Origin
from cxrkit.runs import checkpoints
from cxrkit.runs.checkpoints import CheckpointInfo

ORIGIN = Origin(
    dataset="synthetic",
    label_set="chestxray14",
    label_release="synthetic",
    labels_digest="a" * 64,
    pixels_digest="b" * 64,
    preparation_digest="e" * 64,
    image_side=1024,
    split="official",
    split_digest="d" * 64,
    train_images=40,
    train_subset_images=40,
)


def info(**changes: object) -> CheckpointInfo:
    values = {
        "name": "mlp-meta",
        "model": "mlp-meta",
        "options": {"width": 8},
        "recipe": "mlp-meta",
        "recipe_digest": "f" * 64,
        "changes": ("schedule.epochs=2",),
        "seed": 0,
        "input_size": 32,
        "age_range": (1.0, 90.0),
        "origin": ORIGIN,
        "epoch": 2,
        "progress": {"lr": 0.1, "loss_sum": 0.1 + 0.2},
    }
    return CheckpointInfo(**(values | changes))  # type: ignore[arg-type]


def trained() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(3)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 3), torch.nn.BatchNorm2d(5)).to(
        memory_format=torch.channels_last  # type: ignore[call-overload]
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1, fused=True)
    model(torch.randn(4, 3, 8, 8)).square().sum().backward()
    optimizer.step()
    return model, optimizer


def test_round_trip_to_the_last_bit(tmp_path: Path) -> None:
    model, optimizer = trained()
    checkpoints.save(tmp_path / "last.safetensors", model, info(), optimizer)
    tensors, found = checkpoints.read(tmp_path / "last.safetensors")
    assert found == info()
    fresh, _ = trained()
    torch.nn.init.zeros_(fresh[0].weight)  # type: ignore[index, arg-type]
    checkpoints.load_model(tmp_path, tensors, fresh, "mlp-meta")
    for name, value in model.state_dict().items():
        assert torch.equal(value, fresh.state_dict()[name])
    other = torch.optim.Adam(fresh.parameters(), lr=0.1, fused=True)
    checkpoints.load_optimizer(tensors, other)
    for old, new in zip(optimizer.state_dict()["state"].values(), other.state_dict()["state"].values(), strict=True):
        assert all(torch.equal(old[key], new[key]) for key in ("step", "exp_avg", "exp_avg_sq"))
        assert old["exp_avg"].stride() == new["exp_avg"].stride()  # fused Adam pairs them in memory order


def test_a_checkpoint_is_as_readable_as_other_files(tmp_path: Path) -> None:
    model, _ = trained()
    checkpoints.save(tmp_path / "best.safetensors", model, info())
    (tmp_path / "other").touch()
    assert (tmp_path / "best.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_other_network(tmp_path: Path) -> None:
    model, _ = trained()
    path = tmp_path / "best.safetensors"
    checkpoints.save(path, model, info())
    tensors, _ = checkpoints.read(path)
    with pytest.raises(UserError) as caught:
        checkpoints.load_model(
            path, tensors, torch.nn.Sequential(torch.nn.Conv2d(3, 5, 1), torch.nn.BatchNorm2d(5)), "x"
        )
    assert "not a checkpoint of x: 1 of its tensors differ, the first 0.weight" in str(caught.value)
    assert "remedy: name the model that the checkpoint was trained as" in str(caught.value)


def test_broken_files(tmp_path: Path) -> None:
    path = tmp_path / "best.safetensors"
    with pytest.raises(UserError, match="there is no such checkpoint"):
        checkpoints.read(path)
    model, _ = trained()
    checkpoints.save(path, model, info())
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UserError, match="not a whole safetensors file"):
        checkpoints.read(path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(UserError, match="a safetensors file, but not a checkpoint of cxrkit"):
        checkpoints.read(path)
    torch.save({"a": torch.zeros(1)}, path)  # a pickle is refused, not run
    with pytest.raises(UserError, match="not a whole safetensors file"):
        checkpoints.read(path)


def test_a_path_that_safetensors_cannot_open(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xff\xfe") / "best.safetensors"
    for read in (checkpoints.read, checkpoints.read_info):
        with pytest.raises(UserError, match=r"this path is not valid UTF-8, .*\n  remedy: rename the folder, or go in"):
            read(path)


def test_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = trained()
    path = tmp_path / "last.safetensors"
    checkpoints.save(path, model, info())
    before = path.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(UserError, match="the disk is full; the file was not written"):
        checkpoints.save(path, model, info(epoch=3))
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["last.safetensors"]


def test_tensors_that_share_memory_and_states_of_generators(tmp_path: Path) -> None:
    """Tied weights come back tied, each under its own name; what shares no memory is not copied."""
    tied = torch.nn.ModuleDict({"a": torch.nn.Linear(3, 3), "b": torch.nn.Linear(3, 3)})
    tied["b"].weight = tied["a"].weight
    path = tmp_path / "last.safetensors"
    checkpoints.save(path, tied, info(), generators={"cpu": torch.get_rng_state()})
    tensors, _ = checkpoints.read(path)
    assert torch.equal(tensors["model/a.weight"], tensors["model/b.weight"])
    assert torch.equal(tensors["generator/cpu"], torch.get_rng_state())
    torch.nn.init.zeros_(tied["a"].weight)
    checkpoints.load_model(path, tensors, tied, "tied")
    assert tied["b"].weight is tied["a"].weight
    assert torch.equal(tied["a"].weight, tensors["model/a.weight"])


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_no_checkpoint_ends_in_an_internal_error(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Bytes changed, cut out or put in, above all in the header: the file is read, or refused in the user's terms."""
    path = tmp_path_factory.getbasetemp() / "fuzzed.safetensors"
    checkpoints.save(path, torch.nn.Linear(2, 2), info())
    whole = path.read_bytes()
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(len(whole), start + 30)))
    path.write_bytes(whole[:start] + data.draw(st.binary(max_size=12)) + whole[end:])
    try:
        tensors, found = checkpoints.read(path)
        checkpoints.load_model(path, tensors, torch.nn.Linear(2, 2), found.model)
    except UserError as error:
        if str(path) not in str(error):
            raise
    try:
        checkpoints.read_info(path)
    except UserError as error:
        if str(path) not in str(error):
            raise
