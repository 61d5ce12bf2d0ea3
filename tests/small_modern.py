"""The recipes of today's systems in small versions: of the same build, at the smallest input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from cxrkit import models, recipes
from cxrkit.runs.config import TrainConfig

UNTESTED = "untested here"
MODERN = [name for name in recipes.names() if recipes.load(name).about.cost.startswith(UNTESTED)]
# Of the same build as the recipe's, small.
_VIT = {"embed_dim": 24, "depth": 2, "num_heads": 2}
SMALL: dict[str, tuple[int, dict[str, Any]]] = {
    "timm:vit_small_patch16_224": (32, _VIT),
    "timm:vit_base_patch16_224": (32, _VIT),
    "timm:vit_base_patch14_dinov2": (42, _VIT),
    "timm:eva02_tiny_patch14_224": (32, _VIT),
    "timm:eva02_small_patch14_224": (32, _VIT),
    "timm:eva02_base_patch14_224": (32, _VIT),
    "timm:swin_base_patch4_window7_224": (64, {"embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2]}),
    "torchvision:densenet121": (32, {}),
    "torchvision:convnext_tiny": (32, {}),
}


def small(config: TrainConfig) -> dict[str, Any]:
    size, of_backbone = SMALL[config.model.name]
    options = config.model.options | {"input_size": size, "resize": size}
    more = dict(options.get("backbone_options", {})) | of_backbone
    return options | ({"backbone_options": more} if more else {})


_SMALLEST = "torchvision:mobilenet_v3_small"  # in the place of torchvision's, which cannot be made small


def weights_of(name: str, path: Path) -> Path:
    """Write a file of random weights that the small network of a recipe takes, and return it."""
    config = recipes.load(name)
    if config.model.name.startswith("torchvision:"):
        model: Any = models.build(_SMALLEST, pretrained=False, seed=1)
    else:
        model = models.build(config.model.name, options=small(config), pretrained=False, seed=1)
    torch.save({key: value.clone() for key, value in model.backbone.net.state_dict().items()}, path)
    return path


def smaller(name: str) -> tuple[dict[str, Any], list[str]]:
    """What a user says who tries a recipe on little: flags, and --set."""
    config = recipes.load(name)
    options = small(config)
    said = {"input_size": options["input_size"], "warmup_epochs": 0.0}
    sets = [f"model.options.{key}={options[key]}" for key in ("input_size", "resize")]
    if config.model.name.startswith("torchvision:"):
        return said | {"model": _SMALLEST}, [*sets, "model.options.drop_path=0.0"]
    inline = ", ".join(f"{key} = {json.dumps(value)}" for key, value in options["backbone_options"].items())
    return said, [*sets, f"model.options.backbone_options={{{inline}}}"]
