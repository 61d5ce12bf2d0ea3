"""A model: a small convolutional network with dropout, which draws random numbers in every training step.

cxrkit train --model examples.dropout_net:build
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cxrkit.base.contracts import Outputs
from cxrkit.base.labels import LabelSet
from cxrkit.models import ModelSpec
from cxrkit.models.weights import SCRATCH


class DropoutNet(nn.Module):
    """Three strided convolutions, the mean over the image, dropout, and a dense layer that also sees the metadata."""

    def __init__(self, spec: ModelSpec, outputs: int, dropout: float) -> None:
        super().__init__()
        self.spec = spec  # how cxrkit knows input size, channels and normalisation
        self.initial_weights = SCRATCH  # or InitialWeights(sha256, source): without it, reports mark the run
        layers: list[nn.Module] = []
        channels = spec.channels
        for width in (16, 32, 64):
            layers += [nn.Conv2d(channels, width, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        self.features = nn.Sequential(*layers)
        self.dropout = nn.Dropout(dropout)
        self.dense = nn.Linear(channels + 3, outputs)

    def forward(self, image_BCHW: Tensor, meta_B3: Tensor) -> Outputs:
        """Return one logit for each label."""
        pooled = self.features(image_BCHW).mean((2, 3))
        logits_BL = self.dense(self.dropout(torch.cat([pooled.float(), meta_B3], dim=1)))
        return Outputs(logits_BL)


def build(labels: LabelSet, *, dropout: float = 0.5, input_size: int = 64) -> DropoutNet:
    """Return the network for `labels`; what follows them are its options."""
    spec = ModelSpec(
        "dropout-net", input_size=input_size, resize=round(input_size * 8 / 7), meta=True, learning_rate=0.002
    )
    return DropoutNet(spec, len(labels), dropout)
