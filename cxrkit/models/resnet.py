"""The paper's residual networks: Table 1, Figure 2 and sections 2.1 to 2.3 of Baltruschat et al. 2019.

Written out rather than derived from torchvision's, because the stride's place, the extra pooling and the non-image
features differ; parameter names are torchvision's, so its weights load as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cxrkit.base.contracts import Outputs
from cxrkit.models.grammar import ModelSpec
from cxrkit.models.places import dense_at_every_place
from cxrkit.models.precision import in_float32

EXPANSION = 4  # a block puts out four times the channels of its 3 x 3 convolution (Table 1: 64 -> 256)
META_FEATURES = 3  # age, sex, view position


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3, 1 x 1 convolutions around a shortcut (Table 1), each followed by batch normalisation."""

    def __init__(self, channels_in: int, width: int, stride: int, *, stride_in_3x3: bool) -> None:
        super().__init__()
        channels_out = width * EXPANSION
        stride_1x1, stride_3x3 = (1, stride) if stride_in_3x3 else (stride, 1)
        self.conv1 = nn.Conv2d(channels_in, width, 1, stride=stride_1x1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride_3x3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, channels_out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels_out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels_out:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 1, stride=stride, bias=False),
                nn.BatchNorm2d(channels_out),
            )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the block's output, (B, 4 * width, H / stride, W / stride)."""
        out = self.relu(self.bn1(self.conv1(x_BCHW)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return self.relu(out + self.downsample(x_BCHW))  # type: ignore[no-any-return]


class ResNet(nn.Module):
    """A ResNet with a dense layer of as many `outputs` as labels; the sigmoid is in the loss (section 2, equation 1).

    layer1 to layer4 are the paper's conv2_x to conv5_x. With `spec.frozen_backbone` only `fc` has gradients, and
    batch normalisation keeps its ImageNet statistics even in training mode.
    """

    def __init__(self, spec: ModelSpec, outputs: int) -> None:
        super().__init__()
        self.spec = spec
        self.conv1 = nn.Conv2d(spec.channels, spec.width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(spec.width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        conv2, conv3, conv4, conv5 = spec.blocks
        self.layer1 = self._stage(spec.width, spec.width, conv2, stride=1)
        self.pool2 = nn.MaxPool2d(3, stride=2, padding=1) if spec.extra_pool else nn.Identity()
        self.layer2 = self._stage(4 * spec.width, 2 * spec.width, conv3, stride=2)
        self.layer3 = self._stage(8 * spec.width, 4 * spec.width, conv4, stride=2)
        self.layer4 = self._stage(16 * spec.width, 8 * spec.width, conv5, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        _initialise(self)
        # Drawn last: a network and its -meta counterpart start from the same convolutions.
        self.fc = nn.Linear(spec.features + META_FEATURES * spec.meta, outputs)
        if spec.frozen_backbone:
            self.requires_grad_(False)
            self.fc.requires_grad_(True)

    def _stage(self, channels_in: int, width: int, blocks: int, stride: int) -> nn.Sequential:
        first = Bottleneck(channels_in, width, stride, stride_in_3x3=self.spec.stride_in_3x3)
        rest = (Bottleneck(width * EXPANSION, width, 1, stride_in_3x3=False) for _ in range(blocks - 1))
        return nn.Sequential(first, *rest)

    def features(self, image_BCHW: Tensor) -> Tensor:
        """Return the pooled image features, (B, spec.features), of a normalised image."""
        return self.avgpool(self.feature_maps(image_BCHW)).flatten(1)  # type: ignore[no-any-return]

    def feature_maps(self, image_BCHW: Tensor) -> Tensor:
        """Return the last map of features, (B, spec.features, h, w), of a normalised image."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(image_BCHW))))
        x = self.pool2(self.layer1(x))
        return self.layer4(self.layer3(self.layer2(x)))  # type: ignore[no-any-return]

    def label_maps(self, x_BCHW: Tensor, meta_B3: Tensor | None = None) -> Tensor:
        """Return (B, L, h, w) float32: the dense layer at every place, which are class activation maps (CAM)."""
        return dense_at_every_place(self.fc, x_BCHW, meta_B3)

    has_label_maps = True  # its features are the average of a map

    def forward(self, image_BCHW: Tensor, meta_B3: Tensor) -> Outputs:
        """Return the logits; `meta_B3` is used only by -meta networks."""
        pooled = self.features(image_BCHW)
        if self.spec.meta:
            meta = (meta_B3 - self.spec.meta_centre) * self.spec.meta_gain
            pooled = torch.cat([pooled, meta.to(pooled.dtype)], dim=1)
        return Outputs(in_float32(self.fc, pooled))

    def train(self, mode: bool = True) -> ResNet:
        """Switch to training mode, except for the batch normalisation of a frozen backbone."""
        super().train(mode)
        if self.spec.frozen_backbone:
            for child in self.children():
                child.train(mode and child is self.fc)
        return self


def _initialise(net: ResNet) -> None:
    """Initialise as He et al. do: "Delving Deep into Rectifiers" (2015), section 2.2, for the convolutions.

    Normal with variance 2 / n, where n counts a kernel's outgoing connections (their equation 14), as in the ResNet
    authors' and torchvision's code. Batch normalisation starts as the identity; the dense layer keeps torch's default.
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
