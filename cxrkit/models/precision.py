"""The last layers run in float32, whatever the autocast around them."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def in_float32(layer: nn.Module, x: Tensor) -> Tensor:
    """Return `layer(x)` in float32.

    Never in half precision: bfloat16 logits have so few values that scores tie, and ties move an AUC.
    """
    if x.device.type == "meta":  # only shapes are asked for, and autocast does not know that device
        return layer(x)  # type: ignore[no-any-return]
    with torch.autocast(x.device.type, enabled=False):
        return layer(x.float())  # type: ignore[no-any-return]
