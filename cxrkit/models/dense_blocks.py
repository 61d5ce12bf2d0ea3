"""Dense blocks and what stands between them (Huang et al. 2017, "Densely Connected Convolutional Networks").

Each layer of a block is given what came into the block and what all layers before it put out. Normalisation and ReLU
stand before the convolution, as there.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DenseBlock(nn.Module):
    """`layers` layers of `growth` channels each; puts out channels + layers * growth at the same resolution.

    bottleneck: channels, in units of growth, of a 1 x 1 convolution before each 3 x 3 one (DenseNet-B: 4); 0: none.
    """

    def __init__(self, channels: int, layers: int, growth: int, bottleneck: int = 0) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            _layer(channels + number * growth, growth, bottleneck * growth) for number in range(layers)
        )
        self.channels = channels + layers * growth

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return (B, channels, H, W): what came in, then what each layer adds."""
        for layer in self.layers:
            x_BCHW = torch.cat([x_BCHW, layer(x_BCHW)], dim=1)
        return x_BCHW


def _layer(channels: int, growth: int, between: int) -> nn.Sequential:
    if not between:
        return normalised_convolution(channels, growth, 3)
    return nn.Sequential(normalised_convolution(channels, between, 1), normalised_convolution(between, growth, 3))


def normalised_convolution(channels: int, to: int, kernel: int) -> nn.Sequential:
    """Return batch normalisation, ReLU and a convolution without bias that keeps the resolution."""
    return nn.Sequential(
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=False),  # its input is concatenated further on, so it has to stay
        convolution(channels, to, kernel),
    )


def convolution(channels: int, to: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """Return a convolution without bias, initialised as He et al. 2015 do (normal, fan-out)."""
    made = nn.Conv2d(channels, to, kernel, stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(made.weight, mode="fan_out", nonlinearity="relu")
    return made


def stem(channels: int, to: int) -> nn.Sequential:
    """Return the 7 x 7 convolution and the 3 x 3 max-pooling of ResNets and DenseNets: a quarter of the resolution."""
    return nn.Sequential(
        convolution(channels, to, 7, 2), nn.BatchNorm2d(to), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, padding=1)
    )
