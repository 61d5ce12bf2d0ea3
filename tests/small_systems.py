"""The systems that the paper compares with in small versions, and what they are given in tests."""

from __future__ import annotations

from typing import Any

import torch

from cxrkit import models, recipes
from cxrkit.base.contracts import Batch, Outputs

# Small versions: 64 pixels, few channels. They keep every part.
SMALL: dict[str, dict[str, Any]] = {
    "yao2017": {"first": 8, "growth": 4, "blocks": [1, 1, 1], "code": 12, "hidden": 8, "embedding": 4},
    "yao2018": {"k": 4, "blocks": [1, 1], "growth": 4},
    "li2018": {"backbone": "torchvision:mobilenet_v3_small", "places": 4, "width": 16},
    "guendel2018": {"backbone": "torchvision:mobilenet_v3_small"},
}


def small(name: str, **options: Any) -> torch.nn.Module:
    return models.build(name, options=SMALL[name] | {"input_size": 64} | options)


def smaller(name: str) -> tuple[dict[str, Any], list[str]]:
    """What a user says who tries a system's recipe on little: flags, and --set."""
    config = recipes.load(name)
    of_model = SMALL.get(config.model.name, {"transition": 16} if "transition" in config.model.options else {})
    sets = [f"model.options.{key}={value!r}" for key, value in of_model.items()]
    if config.model.options.get("pretrained"):
        sets.append("model.options.pretrained=false")
    if "places" in config.loss.options:
        sets.append("loss.options.places=4")
    said = {"epochs": 1, "input_size": 64, "precision": "fp32", "threads": 1}
    if config.model.name.startswith("torchvision:"):
        said["model"] = SMALL["li2018"]["backbone"]
    return said, sets


def images(model: torch.nn.Module, count: int = 3, size: int = 64) -> torch.Tensor:
    return torch.randn(count, model.spec.channels, size, size, generator=torch.Generator().manual_seed(0))


def outputs_of(model: torch.nn.Module, count: int = 3, size: int = 64) -> Outputs:
    return model(images(model, count, size), torch.zeros(count, 3))


def batch_of(target: torch.Tensor, region: torch.Tensor | None = None) -> Batch:
    count = len(target)
    image = torch.zeros(count, 1, 2, 2, dtype=torch.uint8)
    return Batch(image, target, torch.zeros(count, 3), torch.arange(count), region)


def truth(count: int = 3, labels: int = 15) -> torch.Tensor:
    return (torch.rand(count, labels, generator=torch.Generator().manual_seed(1)) > 0.6).float()
