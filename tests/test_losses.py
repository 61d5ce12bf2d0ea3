"""Losses: values by hand, gradients, and labels that are not known."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_systems import batch_of
from torch.utils._python_dispatch import TorchDispatchMode

from cxrkit import losses
from cxrkit.base import registry
from cxrkit.base.contracts import Batch, Outputs
from cxrkit.base.errors import UserError
from cxrkit.base.labels import CHESTXRAY8, CHESTXRAY14, LabelSet
from cxrkit.loaders import targets

NAN = float("nan")
OF_PROBABILITIES = {"squared-error", "absolute-error"}  # the two losses of amounts have tests of their own
OF_MORE = {"yao2017-sequence"}  # of a decoder, too: tests/test_systems.py
NAMES = sorted(registry.BUILT_IN["loss"].keys() - OF_PROBABILITIES - OF_MORE)


def loss_of(name: str, logits: torch.Tensor, target: torch.Tensor, **options: Any) -> torch.Tensor:
    rows = torch.arange(len(target))
    batch = Batch(torch.zeros(len(target), 1, 4, 4, dtype=torch.uint8), target, torch.zeros(len(target), 3), rows)
    names = tuple(f"label {number}" for number in range(target.shape[1]))
    labels = LabelSet("some", names, names)
    share = [0.1 + 0.01 * number for number in range(len(labels))]
    if ":" in name:
        return losses.build(name, options=options)(Outputs(logits), batch)
    return losses.build(name, labels=labels, options=options, prevalence=share)(Outputs(logits), batch)


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


LOGITS = torch.tensor([[0.3, -1.2, 2.0], [-0.7, 0.1, 4.0], [1.1, -2.0, -0.4]], dtype=torch.float64)
TARGET = torch.tensor([[1.0, 0.0, NAN], [NAN, 1.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
PAIRS = [(x, y, label) for xs, ys in zip(LOGITS.tolist(), TARGET.tolist(), strict=True)
         for label, (x, y) in enumerate(zip(xs, ys, strict=True)) if y == y]  # fmt: skip


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_weights_of_a_batch_by_hand() -> None:
    """Three positives and four negatives are known: every positive weighs 7/3, every negative 7/4."""
    expected = sum((7 / 3 if y else 7 / 4) * entropy(x, y) for x, y, _ in PAIRS) / 7
    assert loss_of("bce-batch-weighted", LOGITS, TARGET).item() == pytest.approx(expected, rel=1e-12)
    # By label: (1 of 2, 1 of 3, 1 of 2) are positive.
    weights = [(2, 2), (3, 3 / 2), (2, 2)]
    expected = sum(weights[label][y == 0] * entropy(x, y) for x, y, label in PAIRS) / 7
    found = loss_of("bce-batch-weighted", LOGITS, TARGET, per_label=True).item()
    assert found == pytest.approx(expected, rel=1e-12)


def test_a_batch_of_one_kind_has_one_weight() -> None:
    """All are negative: their weight is 1, and that of positives multiplies nothing."""
    zeros = torch.zeros_like(TARGET)
    plain = loss_of("bce-mean", LOGITS, zeros).item()
    assert loss_of("bce-batch-weighted", LOGITS, zeros).item() == pytest.approx(plain, rel=1e-12)
    assert loss_of("bce-batch-weighted", LOGITS, zeros, per_label=True).item() == pytest.approx(plain, rel=1e-12)


def test_weights_of_the_training_set_by_hand() -> None:
    share = [0.1, 0.25, 0.5]
    expected = sum(((1 - share[k]) if y else share[k]) * entropy(x, y) for x, y, k in PAIRS) / 7
    found = loss_of("bce-training-weighted", LOGITS, TARGET, prevalence=share).item()
    assert found == pytest.approx(expected, rel=1e-12)
    expected = sum((1 / share[k] if y else 1 / (1 - share[k])) * entropy(x, y) for x, y, k in PAIRS) / 7
    found = loss_of("bce-training-weighted", LOGITS, TARGET, prevalence=share, weights="inverse").item()
    assert found == pytest.approx(expected, rel=1e-12)


def test_weights_of_the_training_set_are_brought_to_the_device_once() -> None:
    """A copy from the host in every step would wait for a GPU, and could not be recorded as a part of its graph."""

    class Copies(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.count += func is torch.ops.aten._to_copy.default
            return func(*args, **(kwargs or {}))

    loss = losses.build("bce-training-weighted", prevalence=[0.1] * len(CHESTXRAY14))
    outputs, batch = Outputs(torch.zeros(2, len(CHESTXRAY14))), batch_of(torch.ones(2, len(CHESTXRAY14)))
    found = []
    for _ in range(2):
        with Copies() as copies:
            loss(outputs, batch)
        found.append(copies.count)
    assert found == [2, 0]


def test_weights_that_cannot_be() -> None:
    with pytest.raises(UserError, match=r"2 shares, \[0.1, 0.2\]; expected one from 0 to 1 for each of 8 labels"):
        losses.build("bce-training-weighted", labels=CHESTXRAY8, options={"prevalence": [0.1, 0.2]})
    with pytest.raises(UserError, match="weights='none'\n  remedy: choose inverse or other-share"):
        losses.build("bce-training-weighted", labels=CHESTXRAY8, options={"weights": "none"})


def test_the_share_of_training_images_leaves_out_what_is_not_known() -> None:
    target_NL = np.array([[1, NAN, 0], [0, NAN, 0], [NAN, NAN, 0], [1, NAN, 0]], np.float32)
    assert targets.prevalence(target_NL) == pytest.approx([2 / 3, 0, 0])


def test_focal_by_hand() -> None:
    def value(x: float, y: float, gamma: float, alpha: float | None) -> float:
        right = sigmoid(x) if y else 1 - sigmoid(x)
        weight = 1 if alpha is None else alpha if y else 1 - alpha
        return -weight * (1 - right) ** gamma * math.log(right)

    for gamma, alpha in ((2.0, None), (1.5, 0.25)):
        expected = sum(value(x, y, gamma, alpha) for x, y, _ in PAIRS) / 7
        found = loss_of("focal", LOGITS, TARGET, gamma=gamma, alpha=alpha).item()
        assert found == pytest.approx(expected, rel=1e-12)
    assert loss_of("focal", LOGITS, TARGET, gamma=0.0).item() == pytest.approx(
        loss_of("bce-mean", LOGITS, TARGET).item(), rel=1e-12
    )


def test_asymmetric_by_hand() -> None:
    def value(x: float, y: float, plus: float, minus: float, margin: float) -> float:
        p = sigmoid(x)
        shifted = max(p - margin, 0)
        return -((1 - p) ** plus) * math.log(p) if y else -(shifted**minus) * math.log(1 - shifted)

    for plus, minus, margin in ((0.0, 4.0, 0.05), (1.0, 2.0, 0.2)):
        expected = sum(value(x, y, plus, minus, margin) for x, y, _ in PAIRS) / 7
        settings_ = {"gamma_positive": plus, "gamma_negative": minus, "margin": margin}
        assert loss_of("asymmetric", LOGITS, TARGET, **settings_).item() == pytest.approx(expected, rel=1e-12)
    plain = {"gamma_positive": 0.0, "gamma_negative": 0.0, "margin": 0.0}
    assert loss_of("asymmetric", LOGITS, TARGET, **plain).item() == pytest.approx(
        loss_of("bce-mean", LOGITS, TARGET).item(), rel=1e-12
    )


def test_a_negative_below_the_margin_counts_nothing() -> None:
    logits = torch.tensor([[-4.0]], requires_grad=True)  # a probability of 0.018
    loss_of("asymmetric", logits, torch.zeros(1, 1)).backward()
    assert logits.grad is not None
    assert logits.grad.item() == 0


def test_auc_margin_is_the_saddle_point_of_its_authors_formula() -> None:
    """a and b by minimisation, alpha by maximisation, on a grid of float64."""
    scores = [sigmoid(x) for x in (0.3, -0.7, 1.1, 0.2)]
    positive, negative = np.array(scores[:2]), np.array(scores[2:])

    def value(a: float, b: float, alpha: float) -> float:
        spread = ((positive - a) ** 2).mean() + ((negative - b) ** 2).mean()
        return float(spread + 2 * alpha * (1 + negative.mean() - positive.mean()) - alpha**2)

    grid = np.linspace(0, 2, 2001)
    a = min(grid, key=lambda one: value(one, 0, 0))
    b = min(grid, key=lambda one: value(0, one, 0))
    # At the saddle a and b are the means, so that 2 alpha (m + b - a) has the same derivative for alpha.
    expected = max(value(a, b, alpha) for alpha in grid)
    logits = torch.tensor([[0.3], [-0.7], [1.1], [0.2]], dtype=torch.float64)
    target = torch.tensor([[1.0], [1.0], [0.0], [0.0]], dtype=torch.float64)
    assert loss_of("auc-margin", logits, target).item() == pytest.approx(expected, abs=1e-5)


def test_auc_margin_is_nothing_where_all_are_apart_by_it() -> None:
    logits, target = torch.tensor([[200.0], [200.0], [-200.0]]), torch.tensor([[1.0], [1.0], [0.0]])
    assert loss_of("auc-margin", logits, target).item() == pytest.approx(0, abs=1e-12)
    assert loss_of("auc-margin", logits, torch.ones(3, 1)).item() == 0  # of one kind only


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
