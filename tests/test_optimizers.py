"""Optimizers against their formulas in float64, and which rate and which weight decay each parameter has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cxrkit import models
from cxrkit.base.errors import UserError
from cxrkit.models import ModelSpec
from cxrkit.runs.sections import OptimizerSettings
from cxrkit.trainers import layers, optimizers
from cxrkit.trainers.optimizers import SCALE

LR, DECAY = 0.05, 0.1


class Dense(nn.Module):
    """Three by two weights and a bias, in float64."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.spec = ModelSpec("dense", input_size=32, resize=32)
        self.fc = nn.Linear(2, 3, dtype=torch.float64)


def gradients(count: int = 5) -> list[dict[str, np.ndarray]]:
    drawn = np.random.default_rng(0)
    return [{"weight": drawn.normal(size=(3, 2)), "bias": drawn.normal(size=3)} for _ in range(count)]


def trained(settings: OptimizerSettings) -> dict[str, np.ndarray]:
    """The parameters after a step on each of the gradients."""
    model = Dense()
    optimizer = optimizers.build(settings, model, "dense", rate_on_device=False)
    for gradient in gradients():
        for name, parameter in model.fc.named_parameters():
            parameter.grad = torch.from_numpy(gradient[name].copy())
        optimizer.step()
    return {name: parameter.detach().numpy() for name, parameter in model.fc.named_parameters()}


def adam(x: np.ndarray, of: list[np.ndarray], coupled: float, apart: float) -> np.ndarray:
    """Kingma and Ba 2015, algorithm 1; Loshchilov and Hutter 2019, algorithm 2: L2 in the gradient, or decay apart."""
    m, v = np.zeros_like(x), np.zeros_like(x)
    for step, gradient in enumerate(of, start=1):
        g = gradient + coupled * x
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        moved = LR * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
        x = x - LR * apart * x - moved
    return x


def sgd(x: np.ndarray, of: list[np.ndarray], decay: float) -> np.ndarray:
    """Sutskever et al. 2013 in torch's form: v = 0.9 v + g, x = x - lr v."""
    v = np.zeros_like(x)
    for gradient in of:
        v = 0.9 * v + gradient + decay * x
        x = x - LR * v
    return x


Reference = Callable[[np.ndarray, list[np.ndarray], float], np.ndarray]
REFERENCES: dict[str, Reference] = {
    "adam": lambda x, of, decay: adam(x, of, decay, 0),
    "adamw": lambda x, of, decay: adam(x, of, 0, decay),
    "sgd": sgd,
}


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("decay_norms", [True, False])
def test_steps_are_those_of_the_formulas(name: str, decay_norms: bool) -> None:
    settings = OptimizerSettings(name=name, lr=LR, weight_decay=DECAY, decay_norms=decay_norms)
    found, start = trained(settings), {key: value.detach().numpy() for key, value in Dense().fc.named_parameters()}
    for key in ("weight", "bias"):
        decay = DECAY if decay_norms or key == "weight" else 0.0
        expected = REFERENCES[name](start[key], [gradient[key] for gradient in gradients()], decay)
        np.testing.assert_allclose(found[key], expected, rtol=1e-10)


def test_the_default_is_one_group_of_all_that_learns() -> None:
    model = models.build("resnet14-small-meta")
    (group,) = optimizers.groups(OptimizerSettings(lr=LR), model, "m")
    assert [id(parameter) for parameter in group["params"]] == [id(parameter) for parameter in model.parameters()]
    assert group[SCALE] == 1.0
    assert "weight_decay" not in group


def rates(name: str, decay: float, **options: Any) -> dict[str, float]:
    """The learning rate of every parameter, by name, where the head's is 1."""
    model = models.build(name, options=options)
    optimizer = optimizers.build(
        OptimizerSettings(lr=1.0, layer_decay=decay, name="adamw"), model, name, rate_on_device=True
    )
    by_id = {id(item): group["lr"].item() for group in optimizer.param_groups for item in group["params"]}
    return {path: by_id[id(parameter)] for path, parameter in model.named_parameters()}


def of_prefix(found: dict[str, float], prefix: str) -> float:
    values = {value for path, value in found.items() if path.startswith(prefix)}
    assert len(values) == 1, (prefix, values)
    return values.pop()


@pytest.mark.parametrize(
    ("name", "depths"),
    [
        (
            "resnet14-small-meta",
            {"conv1": 5, "bn1": 5, "layer1": 4, "layer2": 3, "layer3": 2, "layer4": 1, "fc": 0},
        ),
        (
            "torchvision:densenet121",
            {
                "backbone.net.features.conv0": 5,
                "backbone.net.features.norm0": 5,
                "backbone.net.features.denseblock1.": 4,
                "backbone.net.features.transition1.": 4,
                "backbone.net.features.denseblock3.denselayer24": 2,
                "backbone.net.features.denseblock4.denselayer1.": 1,
                "backbone.net.features.norm5": 1,
                "fc": 0,
            },
        ),
        (
            "timm:vit_tiny_patch16_224",  # as BEiT: embeddings, 12 blocks, the head
            {
                "backbone.net.cls_token": 13,
                "backbone.net.pos_embed": 13,
                "backbone.net.patch_embed": 13,
                "backbone.net.blocks.0.": 12,
                "backbone.net.blocks.11.": 1,
                "backbone.net.norm.": 1,  # timm counts it to the last block
                "fc": 0,
            },
        ),
    ],
)
def test_rates_fall_from_the_head_to_the_stem(name: str, depths: dict[str, int]) -> None:
    if name.startswith("timm:"):
        pytest.importorskip("timm")
    found = rates(name, 0.75)
    for prefix, depth in depths.items():
        assert of_prefix(found, prefix) == pytest.approx(0.75**depth, rel=1e-6), prefix
    every_layer = [0.75**depth for depth in range(max(depths.values()) + 1)]
    assert sorted(set(found.values()), reverse=True) == pytest.approx(every_layer, rel=1e-6)


def test_what_stands_behind_the_backbone_learns_at_the_full_rate() -> None:
    found = rates("torchvision:resnet18", 0.5, transition=8, pooling="lse-lba", head="maps")
    assert of_prefix(found, "transition") == of_prefix(found, "fc") == of_prefix(found, "pooling") == 1.0
    assert of_prefix(found, "backbone.net.conv1") == 0.5**5


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["stem.0", "trunk_output.block1.a", "trunk_output.block2.b", "tail"], [0, 1, 2, 2]),
        (["features.0.0", "features.1.0", "features.1.1", "features.7.2"], [0, 1, 1, 2]),
        (["layers.0.weight", "layers.2.weight"], []),
    ],
)
def test_stages_by_name(names: list[str], expected: list[int]) -> None:
    assert list(layers.stages(names).values()) == expected


def test_a_network_whose_layers_are_not_known_is_refused() -> None:
    message = r"--set optimizer.layer_decay: the layers of model 'mlp-meta' are not known\n  remedy: leave it at 1"
    with pytest.raises(UserError, match=message):
        optimizers.check(OptimizerSettings(layer_decay=0.5), models.build("mlp-meta"), "mlp-meta")
    optimizers.check(OptimizerSettings(), models.build("mlp-meta"), "mlp-meta")


def test_decay_leaves_out_what_timm_says() -> None:
    """Position embeddings have three dimensions, and BEiT and MAE exempt them."""
    pytest.importorskip("timm")
    name = "timm:vit_tiny_patch16_224"
    model = models.build(name)
    found = optimizers.groups(OptimizerSettings(lr=LR, decay_norms=False, weight_decay=0.1), model, name)
    exempt = {id(item) for group in found if group.get("weight_decay") == 0.0 for item in group["params"]}
    names = {path for path, parameter in model.named_parameters() if id(parameter) in exempt}
    assert {"backbone.net.pos_embed", "backbone.net.cls_token", "fc.bias", "backbone.net.norm.weight"} <= names
    assert not any(path.endswith("qkv.weight") or path == "fc.weight" for path in names)


@pytest.mark.parametrize("on_device", [True, False])
def test_a_rate_is_shared_out_by_layer(on_device: bool) -> None:
    model = models.build("resnet14-small")
    settings = OptimizerSettings(lr=1.0, layer_decay=0.5)
    optimizer = optimizers.build(settings, model, "m", rate_on_device=on_device)
    before = [group["lr"] for group in optimizer.param_groups]
    optimizers.set_rate(optimizer, 0.25)
    after = [group["lr"] for group in optimizer.param_groups]
    assert [float(value) for value in after] == [0.25 * 0.5**depth for depth in (5, 4, 3, 2, 1, 0)]
    assert all(isinstance(one, Tensor) == on_device for one in after)
    if on_device:
        assert all(one is other for one, other in zip(before, after, strict=True))


def test_a_network_without_anything_to_learn() -> None:
    model = models.build("mlp-meta").requires_grad_(False)
    with pytest.raises(UserError, match="model 'mlp-meta': none of its parameters requires a gradient"):
        optimizers.build(OptimizerSettings(lr=LR), model, "mlp-meta", rate_on_device=False)
