"""Linear probe and layer decay, of backbones of many families: what is frozen stays, and layers are in depth order."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from cxrkit import models
from cxrkit.base.contracts import LABELS
from cxrkit.recipes import resolve
from cxrkit.runs.sections import OptimizerSettings
from cxrkit.trainers import layers, optimizers

# Of every way to normalise, and to name layers; the smallest of each, and the size of its input.
FAMILIES = {
    "timm:resnet10t": 64,
    "timm:efficientnet_lite0": 64,
    "timm:mobilenetv3_small_050": 64,
    "timm:regnety_002": 64,
    "timm:densenet121": 64,
    "timm:ghostnet_050": 64,
    "timm:convnextv2_atto": 64,
    "timm:mambaout_femto": 64,
    "timm:vit_tiny_patch16_224": 64,
    "timm:eva02_tiny_patch14_224": 56,
    "timm:pvt_v2_b0": 64,
    "timm:levit_128s": 64,
    "timm:xcit_nano_12_p16_224": 64,
    "timm:edgenext_xx_small": 64,
    "timm:fastvit_t8": 64,
    "timm:repvgg_a0": 64,
    "torchvision:resnet18": 64,
    "torchvision:densenet121": 64,
    "torchvision:efficientnet_b0": 64,
    "torchvision:mobilenet_v3_small": 64,
    "torchvision:regnet_y_400mf": 64,
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def build(name: str, **options: Any) -> nn.Module:
    if name.startswith("timm:"):
        pytest.importorskip("timm")
    return models.build(name, options={"input_size": FAMILIES[name], "resize": FAMILIES[name]} | options)


@pytest.mark.parametrize("name", FAMILIES)
def test_of_a_linear_probe_only_the_dense_layer_changes(name: str) -> None:
    """Neither parameters nor the statistics of batch normalisation, in a step of a training."""
    model = build(name, frozen_backbone=True).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    settings = OptimizerSettings(name="adamw", lr=0.1, weight_decay=0.1, layer_decay=0.5)
    optimizer = optimizers.build(settings, model, name, rate_on_device=False)
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(2, model.spec.channels, model.spec.input_size, model.spec.input_size, generator=generator)
    logits = model(image, torch.zeros(2, 3)).logits
    assert logits.shape == (2, len(LABELS))
    logits.square().mean().backward()
    optimizer.step()
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {"fc.weight", "fc.bias"}


@pytest.mark.parametrize("name", FAMILIES)
def test_layers_are_in_the_order_in_which_an_image_passes_them(name: str) -> None:
    """Each parameter is of one, their numbers have no gap, and none is passed after a later one."""
    model = build(name).eval()
    layer = layers.layers(model, name)
    assert layer.keys() == dict(model.named_parameters()).keys()
    assert sorted(set(layer.values())) == list(range(max(layer.values()) + 1))
    assert layer["fc.weight"] == max(layer.values())
    passed: list[set[int]] = []
    for path, module in model.named_modules():
        own = {layer[f"{path}.{key}"] for key, _ in module.named_parameters(recurse=False) if path}
        if own:
            module.register_forward_pre_hook(lambda _module, _inputs, own=own: passed.append(own))
    size = model.spec.input_size
    with torch.inference_mode():
        model(torch.zeros(1, model.spec.channels, size, size), torch.zeros(1, 3))
    for one, following in itertools.pairwise(passed):
        assert max(one) <= min(following)
    assert len(passed) > len(set(layer.values())) / 2


def test_a_linear_probe_is_one_line() -> None:
    config = resolve({"model": "torchvision:resnet18"}, sets=["model.options.frozen_backbone=true"])
    model = models.build(config.model.name, options=config.model.options)
    assert [path for path, parameter in model.named_parameters() if parameter.requires_grad] == ["fc.weight", "fc.bias"]
