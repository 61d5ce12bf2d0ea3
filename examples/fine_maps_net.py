"""A model: a small convolutional network with a fine map for each label, pooled by log-sum-exp.

cxrkit train --model examples.fine_maps_net:build && cxrkit localise runs/examples.fine_maps_net.build/official

Its maps have a cell for every 8 x 8 pixels of the input instead of every 32 x 32, and the pooling lets a few cells
decide, so that a small finding need not be seen at every place: `cxrkit localise` says what that is worth.
"""

from __future__ import annotations

from torch import Tensor, nn

from cxrkit.base.contracts import Outputs
from cxrkit.base.labels import LabelSet
from cxrkit.models import ModelSpec
from cxrkit.models.pooling import LogSumExp
from cxrkit.models.weights import SCRATCH


class Residual(nn.Module):
    """Two 3 x 3 convolutions around a shortcut."""

    def __init__(self, channels_in: int, channels: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels_in, channels, 3, stride, padding=dilation, dilation=dilation, bias=False)
        self.second = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)])
        self.shortcut = nn.Sequential(nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the block's output, (B, channels, H / stride, W / stride)."""
        out = self.norms[0](self.first(x_BCHW)).relu()
        return (self.norms[1](self.second(out)) + self.shortcut(x_BCHW)).relu()  # type: ignore[no-any-return]


class FineMapsNet(nn.Module):
    """A stem of stride 4, residual blocks to stride 8, wider ones without strides, and a 1 x 1 convolution to maps."""

    def __init__(self, spec: ModelSpec, outputs: int, r: float) -> None:
        super().__init__()
        self.spec = spec
        self.initial_weights = SCRATCH
        self.stem = nn.Sequential(
            nn.Conv2d(spec.channels, 16, 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        self.blocks = nn.Sequential(
            Residual(16, 32, 2, 1), Residual(32, 48, 1, 1), Residual(48, 64, 1, 2), Residual(64, 64, 1, 4)
        )
        self.head = nn.Conv2d(64, outputs, 1)
        self.pooling = LogSumExp(r)

    def forward(self, image_BCHW: Tensor, meta_B3: Tensor) -> Outputs:
        """Return logits, and the maps that they are pooled from."""
        maps_BLHW = self.head(self.blocks(self.stem(image_BCHW))).float()
        return Outputs(self.pooling(maps_BLHW), maps_BLHW)


def build(labels: LabelSet, *, r: float = 2.0, input_size: int = 224) -> FineMapsNet:
    """Return the network for `labels`. r: sharpness of the pooling, from mean (0) to maximum."""
    resize = round(input_size * 8 / 7)
    return FineMapsNet(
        ModelSpec("fine-maps-net", input_size=input_size, resize=resize, learning_rate=0.003), len(labels), r
    )
