"""Poolings: values by hand in float64, limits, gradients, and maps whose sums would overflow or vanish."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from cxrkit.base import registry
from cxrkit.base.labels import LabelSet
from cxrkit.models import pooling

LABELS = 2
TWO = LabelSet("two", ("a", "b"), ("a", "b"))
MAP = np.random.default_rng(0).normal(size=(3, LABELS, 4, 5))


def build(name: str, **options: float) -> torch.nn.Module:
    found = registry.construct("pooling", name, registry.load("pooling", name), TWO, options)
    assert isinstance(found, torch.nn.Module)
    return found


def pooled(name: str, map_: np.ndarray, **options: float) -> np.ndarray:
    return build(name, **options)(torch.tensor(map_)).detach().double().numpy()


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def logit(p: np.ndarray) -> np.ndarray:
    return np.log(p / (1 - p))


def test_average_and_maximum() -> None:
    np.testing.assert_allclose(pooled("average", MAP), MAP.mean(axis=(2, 3)))
    np.testing.assert_allclose(pooled("max", MAP), MAP.max(axis=(2, 3)))


@pytest.mark.parametrize("r", [0.1, 5.0, 10.0])
def test_log_sum_exp_is_wangs_formula(r: float) -> None:
    """With his x*, the largest absolute value, in float64."""
    cells = MAP.reshape(3, LABELS, -1)
    largest = np.abs(cells).max(axis=2, keepdims=True)
    expected = largest[..., 0] + np.log(np.exp(r * (cells - largest)).mean(axis=2)) / r
    np.testing.assert_allclose(pooled("lse", MAP, r=r), expected, rtol=1e-5, atol=1e-6)


def test_log_sum_exp_lies_between_mean_and_maximum() -> None:
    np.testing.assert_allclose(pooled("lse", MAP, r=1e-3), MAP.mean(axis=(2, 3)), atol=2e-3)
    np.testing.assert_allclose(pooled("lse", MAP, r=1e3), MAP.max(axis=(2, 3)), atol=5e-3)
    assert pooled("lse", np.full((1, 2, 8, 8), 3e4)).tolist() == [[3e4, 3e4]]  # neither overflows
    np.testing.assert_allclose(pooled("lse", np.full((1, 2, 8, 8), -3e4)), -3e4)  # nor vanishes


@pytest.mark.parametrize("r0", [0.0, 5.0, 10.0])
def test_adaptive_log_sum_exp_by_hand(r0: float) -> None:
    layer = pooling.AdaptiveLogSumExp(TWO, r0=r0)
    with torch.no_grad():
        layer.beta.copy_(torch.tensor([0.0, 1.5]))
    sharpness = r0 + np.exp([0.0, 1.5])
    cells = sigmoid(MAP.reshape(3, LABELS, -1))
    expected = np.log(np.exp(sharpness[:, None] * cells).mean(axis=2)) / sharpness
    found = layer(torch.tensor(MAP)).detach().double().numpy()
    np.testing.assert_allclose(sigmoid(found), expected, rtol=1e-5)


def test_noisy_or_by_hand() -> None:
    cells = sigmoid(MAP.reshape(3, LABELS, -1))
    np.testing.assert_allclose(sigmoid(pooled("noisy-or", MAP, floor=0.0)), 1 - (1 - cells).prod(axis=2), rtol=1e-5)
    none = (0.98 + 0.02 * (1 - cells)).prod(axis=2)
    np.testing.assert_allclose(pooled("noisy-or", MAP), logit(1 - none), rtol=1e-4)


def test_the_scaling_caps_what_a_map_can_say() -> None:
    sure = np.full((1, LABELS, 16, 16), 50.0)
    np.testing.assert_allclose(sigmoid(pooled("noisy-or", sure)), 1 - 0.98**256, rtol=1e-5)
    assert math.isclose(1 - 0.98**256, 0.994, abs_tol=5e-4)


@pytest.mark.parametrize("name", sorted(registry.BUILT_IN["pooling"]))
@pytest.mark.parametrize("value", [0.0, 300.0, -300.0])
def test_extreme_maps_have_finite_values_and_gradients(name: str, value: float) -> None:
    map_ = torch.full((2, LABELS, 8, 8), value, requires_grad=True)
    found = build(name)(map_)
    found.sum().backward()
    assert found.shape == (2, LABELS)
    assert torch.isfinite(found).all()
    assert map_.grad is not None
    assert torch.isfinite(map_.grad).all()


@pytest.mark.parametrize("name", sorted(registry.BUILT_IN["pooling"]))
def test_gradients(name: str) -> None:
    """By differences, in float32: the poolings compute in it."""
    layer = build(name)
    map_ = torch.tensor(MAP[:1], dtype=torch.float32, requires_grad=True)
    layer(map_).sum().backward()
    assert map_.grad is not None
    step = 1e-2
    for place in ((0, 0, 1, 2), (0, 1, 3, 4), (0, 0, 0, 0)):
        above, below = map_.detach().clone(), map_.detach().clone()
        above[place] += step
        below[place] -= step
        slope = (layer(above).sum() - layer(below).sum()) / (2 * step)
        assert map_.grad[place].item() == pytest.approx(slope.item(), rel=2e-2, abs=2e-3)


def test_the_sharpness_is_learned() -> None:
    layer = pooling.AdaptiveLogSumExp(TWO)
    layer(torch.tensor(MAP)).sum().backward()
    assert layer.beta.grad is not None
    assert (layer.beta.grad != 0).all()
