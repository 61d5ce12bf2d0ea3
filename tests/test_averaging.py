"""The average of the weights over the steps: against a loop in float64, recorded, in a checkpoint, and in its place."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_checkpoints import info
from test_stepping import again, batch, make, same, state
from torch import nn

from cxrkit.base.errors import UserError
from cxrkit.runs import checkpoints
from cxrkit.trainers.averaging import COUNT, Average, averaged
from cxrkit.trainers.stepping import Step

DECAY = 0.6


class Net(nn.Module):
    """What is averaged, and what is not."""

    number: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.dense = nn.Linear(3, 2)
        self.frozen = nn.Linear(3, 2).requires_grad_(False)
        self.tied = self.dense
        self.norm = nn.BatchNorm1d(2)
        self.register_buffer("number", torch.zeros((), dtype=torch.int64))
        self.register_buffer("scratch", torch.zeros(4), persistent=False)


def averaging(decay: float = DECAY) -> Step:
    step = make()
    step.average = Average(step.model, decay)
    return step


def test_the_average_is_that_of_a_loop_in_float64() -> None:
    """d = min(decay, (1 + n) / (10 + n)): 2/11, 3/12, 4/13 ..., and the decay from n = 13 on."""
    net = Net()
    average = Average(net, DECAY)
    expected = {name: value.double().clone() for name, value in average.tensors().items()}
    drawn = torch.Generator().manual_seed(0)
    for number in range(1, 21):
        with torch.no_grad():
            for value in (net.dense.weight, net.dense.bias, net.norm.weight, net.norm.running_mean):
                assert value is not None
                value.add_(torch.randn(value.shape, generator=drawn))
        average.update()
        decay = min(DECAY, (1 + number) / (10 + number))
        current = dict(net.named_parameters()) | dict(net.named_buffers())
        for name in expected.keys() - {COUNT}:
            expected[name] = decay * expected[name] + (1 - decay) * current[name].double()
    assert average.tensors()[COUNT] == 20
    for name in expected.keys() - {COUNT}:
        torch.testing.assert_close(average.tensors()[name].double(), expected[name].detach(), rtol=1e-5, atol=1e-6)


def test_what_is_averaged() -> None:
    """All that learns, tied weights once, and the state's buffers of floating-point numbers."""
    found = Average(Net(), DECAY).tensors().keys() - {COUNT}
    norm = {"norm.weight", "norm.bias", "norm.running_mean", "norm.running_var"}
    assert found == {"dense.weight", "dense.bias", *norm}


def test_averaging_changes_nothing_of_the_training() -> None:
    plain, step = make(), averaging()
    assert [plain(batch(number)).item() for number in range(3)] == [step(batch(number)).item() for number in range(3)]
    assert same(state(plain), state(step))


def test_a_recorded_step_averages_as_the_step_does() -> None:
    plain, recorded = averaging(), averaging()
    recorded.record(batch(9), again)
    assert recorded.graph is not None
    for step in (plain, recorded):
        for number in range(3):
            step(batch(number))
    assert plain.average is not None
    assert recorded.average is not None
    one, other = plain.average.tensors(), recorded.average.tensors()
    assert other[COUNT] == 3
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_the_network_is_looked_at_with_the_average_and_gets_its_own_weights_back() -> None:
    step = averaging()
    for number in range(3):
        step(batch(number))
    before = state(step)
    assert step.average is not None
    mean, own = step.average.tensors(), step.model.state_dict()
    addresses = [value.data_ptr() for value in own.values()]
    with averaged(step.average):
        assert all(torch.equal(own[name], value) for name, value in mean.items() if name != COUNT)
        assert not same(state(step), before)
    assert same(state(step), before)
    assert [value.data_ptr() for value in step.model.state_dict().values()] == addresses
    with averaged(None):
        assert same(state(step), before)
    validating = averaged(step.average)
    with pytest.raises(KeyError), validating:
        raise KeyError
    assert same(state(step), before)


def test_an_average_goes_through_a_checkpoint(tmp_path: Path) -> None:
    through, stopped, resumed = averaging(), averaging(), averaging()
    for number in range(2):
        through(batch(number))
        stopped(batch(number))
    path = tmp_path / "last.safetensors"
    assert stopped.average is not None
    assert resumed.average is not None
    checkpoints.save(path, stopped.model, info(), stopped.optimizer, average=stopped.average.tensors())
    saved, _ = checkpoints.read(path)
    checkpoints.load_model(path, saved, resumed.model, "m")
    checkpoints.load_optimizer(saved, resumed.optimizer)
    resumed.average.load(path, checkpoints.part(saved, "average"))
    for step in (through, resumed):
        step(batch(2))
    assert through.average is not None
    other = resumed.average.tensors()
    assert all(torch.equal(value, other[name]) for name, value in through.average.tensors().items())


def test_an_average_of_another_network_is_refused(tmp_path: Path) -> None:
    average = Average(Net(), DECAY)
    tensors = dict(average.tensors())
    del tensors["dense.bias"]
    message = r"last: not the average of this network's weights: 1 of its tensors differ, the first dense\.bias\n"
    with pytest.raises(UserError, match=message):
        average.load(tmp_path / "last", tensors)
    with pytest.raises(UserError, match=r"the first norm\.weight"):
        average.load(tmp_path / "last", average.tensors() | {"norm.weight": torch.zeros(7)})
