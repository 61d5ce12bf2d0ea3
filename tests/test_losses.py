"""Losses: values by hand, gradients, and labels that are not known."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cxrkit import losses
from cxrkit.base.contracts import Batch, Outputs
from cxrkit.base.errors import UserError
from cxrkit.base.labels import CHESTXRAY8

NAN = float("nan")
NAMES = ["bce-mean", "bce-sum"]


def loss_of(name: str, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    rows = torch.arange(len(target))
    batch = Batch(torch.zeros(len(target), 1, 4, 4, dtype=torch.uint8), target, torch.zeros(len(target), 3), rows)
    return losses.build(name)(Outputs(logits), batch)


def entropy(logit: float, target: float) -> float:
    """Equation 1's H[y, f], as the paper writes it."""
    f = 1 / (1 + math.exp(-logit))
    return -target * math.log(f) - (1 - target) * math.log(1 - f)


def test_values_by_hand() -> None:
    logits = torch.tensor([[0.3, -1.2, 2.0], [-0.7, 0.1, 4.0]], dtype=torch.float64)
    target = torch.tensor([[1.0, 0.0, NAN], [NAN, 1.0, 0.0]], dtype=torch.float64)
    parts = [entropy(0.3, 1), entropy(-1.2, 0), entropy(0.1, 1), entropy(4.0, 0)]
    assert loss_of("bce-mean", logits, target).item() == pytest.approx(sum(parts) / 4, rel=1e-12)
    assert loss_of("bce-sum", logits, target).item() == pytest.approx(sum(parts) / 2, rel=1e-12)


def test_bce_mean_is_torchs_where_everything_is_known() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, target = torch.randn(16, 15, generator=generator), (torch.rand(16, 15, generator=generator) > 0.7).float()
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, target)
    torch.testing.assert_close(loss_of("bce-mean", logits, target), expected)
    torch.testing.assert_close(loss_of("bce-sum", logits, target), expected * 15)


@pytest.mark.parametrize("name", NAMES)
def test_gradients(name: str) -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(4, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    target = torch.tensor([[1, 0, NAN], [0, NAN, NAN], [NAN] * 3, [1, 1, 0]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: loss_of(name, x, target), logits)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("logit", [0.0, 500.0, -500.0])
def test_a_batch_of_which_nothing_is_known_teaches_nothing(name: str, logit: float) -> None:
    logits = torch.full((3, 8), logit, requires_grad=True)
    loss = loss_of(name, logits, torch.full((3, 8), NAN))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert (logits.grad == 0).all()


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_what_is_said_of_an_unknown_label_changes_nothing(name: str, data: st.DataObject) -> None:
    size = data.draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    entries = st.lists(st.sampled_from([0.0, 1.0, NAN]), min_size=size[0] * size[1], max_size=size[0] * size[1])
    target = torch.tensor(data.draw(entries)).reshape(size)
    one = torch.randn(size, generator=torch.Generator().manual_seed(data.draw(st.integers(0, 99))))
    other = torch.where(target.isnan(), torch.full(size, data.draw(st.floats(-(2.0**99), 2.0**99, width=32))), one)
    assert torch.equal(loss_of(name, one, target), loss_of(name, other, target))


def test_large_logits_neither_overflow_nor_vanish() -> None:
    loss = loss_of("bce-mean", torch.tensor([[300.0, -300.0]]), torch.tensor([[0.0, 1.0]]))
    assert loss.item() == 300


def test_what_is_no_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_losses_of_test.py").write_text(
        "def none(): return None\n"
        "def per_image(): return lambda outputs, batch: outputs.logits.mean(1)\n"
        "def number(): return lambda outputs, batch: 0.5\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="unknown loss 'bce-men'\n  remedy: did you mean bce-mean"):
        losses.build("bce-men")
    with pytest.raises(UserError, match="loss 'bce-mean': unknown option 'gamma'"):
        losses.build("bce-mean", labels=CHESTXRAY8, options={"gamma": 2})
    with pytest.raises(UserError, match=r"expected a function \(outputs, batch\) -> scalar, found None"):
        losses.build("own_losses_of_test:none")
    for function, found in [("per_image", r"a tensor of shape \(2,\)"), ("number", "a float")]:
        with pytest.raises(UserError, match=f"loss 'own_losses_of_test:{function}': expected a scalar, found {found}"):
            loss_of(f"own_losses_of_test:{function}", torch.zeros(2, 3), torch.zeros(2, 3))
    sys.modules.pop("own_losses_of_test")
