"""Grad-CAM of vision transformers: on the patches that the last block attends to, laid out as they lie on the film."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cxrkit import models
from cxrkit.base.labels import CHESTXRAY8
from cxrkit.explain import attribution

pytest.importorskip("timm")
_VIT = {"embed_dim": 24, "depth": 3, "num_heads": 2}
NETWORKS: dict[str, tuple[int, tuple[int, int], dict[str, Any]]] = {
    "timm:vit_tiny_patch16_224": (64, (4, 4), _VIT),
    "timm:vit_small_patch16_224": (48, (3, 3), _VIT | {"global_pool": "avg"}),
    "timm:vit_small_patch14_reg4_dinov2": (42, (3, 3), _VIT),  # a class token and four registers
    "timm:deit_tiny_distilled_patch16_224": (64, (4, 4), _VIT),  # two tokens before the patches
    "timm:eva02_tiny_patch14_224": (56, (4, 4), _VIT),
    "timm:swin_tiny_patch4_window7_224": (64, (2, 2), {"embed_dim": 8, "depths": [1, 1, 1, 1]}),
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def network(name: str) -> tuple[nn.Module, Tensor, Tensor]:
    size, _, of_backbone = NETWORKS[name]
    options = {"input_size": size, "meta": True, "backbone_options": of_backbone}
    model = models.build(name, labels=CHESTXRAY8, options=options, seed=4).eval()
    generator = torch.Generator().manual_seed(7)
    return model, torch.randn(2, 1, size, size, generator=generator), torch.rand(2, 3, generator=generator)


@pytest.mark.parametrize("method", ["auto", "layer-cam"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_transformer_is_explained(name: str, method: str) -> None:
    model, image, meta = network(name)
    found = attribution.choose(model, method, image, meta)
    maps = found.compute(image, meta, [0, 5])
    height, width = NETWORKS[name][1] if method == "auto" else image.shape[2:]
    assert maps.shape == (2, 2, height, width)
    assert maps.isfinite().all()
    assert maps.amax() > 0
    assert ("patches" in found.words) == (method == "auto" and "swin" not in name)


@pytest.mark.parametrize("name", ["timm:vit_tiny_patch16_224", "timm:vit_small_patch14_reg4_dinov2"])
def test_grad_cam_is_what_autograd_says_by_hand(name: str) -> None:
    """The rest of the network is computed from the last block's normalised tokens, and these are differentiated."""
    model, image, meta = network(name)
    net = model.backbone.net
    kept: dict[str, Tensor] = {}
    handle = net.blocks[-1].norm1.register_forward_hook(
        lambda _module, inputs, output: kept.update(before=inputs[0].detach(), tokens=output.detach())
    )
    with torch.no_grad():
        expected_logits = model(image, meta).logits
    handle.remove()
    tokens, block = kept["tokens"].requires_grad_(), net.blocks[-1]
    x = kept["before"] + block.ls1(block.attn(tokens))
    x = x + block.ls2(block.mlp(block.norm2(x)))
    pooled = net.forward_head(net.norm(x), pre_logits=True)
    seen = (meta - model.spec.meta_centre) * model.spec.meta_gain
    logits = model.fc(torch.cat([pooled, seen], dim=1))
    torch.testing.assert_close(logits, expected_logits)
    (slope,) = torch.autograd.grad(logits[:, 3].sum(), tokens)
    rows, columns = NETWORKS[name][1]
    first = tokens.shape[1] - rows * columns
    assert first == net.num_prefix_tokens
    by_hand = torch.zeros(2, rows, columns)
    for place in range(rows * columns):
        for k in range(tokens.shape[2]):
            weight = slope[:, first:, k].mean(dim=1)
            by_hand[:, place // columns, place % columns] += weight * tokens[:, first + place, k].detach()
    maps = attribution.choose(model, "auto", image, meta).compute(image, meta, [3])
    torch.testing.assert_close(maps[:, 0], by_hand.clamp(min=0), rtol=1e-4, atol=1e-7)
    assert (by_hand > 0).any()


def test_a_patch_lies_where_its_pixels_are() -> None:
    """A network whose last block sees each patch alone: only the changed patch's place changes."""
    model, image, _ = network("timm:vit_tiny_patch16_224")
    other = image.clone()
    other[:, :, 16:32, 48:64] += 5.0  # second row, fourth column
    layer = attribution.last_layer(model, image, torch.zeros(2, 3))
    patches = [model.backbone.net.patch_embed(one) for one in (image, other)]
    with_class = [torch.cat([torch.zeros_like(one[:, :1]), one], dim=1) for one in patches]
    changed = (layer.as_map(with_class[1]) - layer.as_map(with_class[0])).abs().sum(dim=1)
    assert (changed[0] > 0).nonzero().tolist() == [[1, 3]]
