"""A run's network as a plain function of tensors: from a normalised image, and metadata where it counts, to scores."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

INPUTS = ("image", "metadata")
OUTPUTS = ("logits", "scores")


class Plain(nn.Module):
    """(image (B, C, H, W)[, metadata (B, 3)]) -> logits (B, L), and scores: probabilities, or amounts with a unit."""

    def __init__(self, model: nn.Module, *, takes_metadata: bool, unit: str) -> None:
        super().__init__()
        self.model, self.takes_metadata, self.unit = model, takes_metadata, unit

    def forward(self, image: Tensor, metadata: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return logits and scores, both float32."""
        if metadata is None:
            metadata = image.new_zeros((image.shape[0], 3))
        logits = self.model(image, metadata).logits.float()
        return logits, logits.clone() if self.unit else logits.sigmoid()


def takes_metadata(model: Any, image_BCHW: Tensor, meta_B3: Tensor) -> bool:
    """Return whether age, sex or view change what the network says of these images; a -meta network's always may."""
    if model.spec.meta:
        return True
    with torch.inference_mode():
        one, other = (model(image_BCHW, meta).logits for meta in (meta_B3, 1 - meta_B3 + 0.25))
    return not torch.equal(one, other)
