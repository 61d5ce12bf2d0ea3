"""A network: `cxrkit train --model shapes-net --set model.options.width=32`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cxrkit.base.contracts import Outputs
from cxrkit.base.labels import LabelSet
from cxrkit.models import ModelSpec
from cxrkit.models.weights import SCRATCH


class ShapesNet(nn.Module):
    """Three strided convolutions, the mean over the image, and a dense layer that also sees age, sex and view."""

    def __init__(self, labels: LabelSet, width: int, input_size: int) -> None:
        super().__init__()
        # How cxrkit knows what to feed it: size, channels, normalisation; and with which settings to train it.
        self.spec = ModelSpec(
            "shapes-net", input_size=input_size, resize=input_size, meta=True, learning_rate=0.01, batch_size=8
        )
        self.initial_weights = SCRATCH  # nothing was seen before; reports mark a network that does not say
        self.features = nn.Sequential(
            nn.Conv2d(self.spec.channels, width, 5, stride=2, padding=2, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(2 * width), nn.ReLU(),
            nn.Conv2d(2 * width, 2 * width, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(2 * width), nn.ReLU(),
        )  # fmt: skip
        self.dense = nn.Linear(2 * width + 3, len(labels))

    def forward(self, image_BCHW: Tensor, meta_B3: Tensor) -> Outputs:
        """Return one logit for each label; the sigmoid is cxrkit's business."""
        pooled = self.features(image_BCHW).mean((2, 3))
        return Outputs(self.dense(torch.cat([pooled.float(), meta_B3], dim=1)))


def build(labels: LabelSet, *, width: int = 16, input_size: int = 64) -> ShapesNet:
    """Return the network for `labels`; what follows them are its options, recorded with every run."""
    return ShapesNet(labels, width, input_size)
