"""Yao et al. 2018, "Weakly supervised medical diagnosis and localization from multiple resolutions" (arXiv 1803.07703).

Residual stages halve the resolution, dense blocks keep it, and a decoder goes back up through all of them to score maps
of 64 x 64, which LSE-LBA (pooling.py) sums up. Read for this toolkit: the abstract, and two independent implementations
that agree on the pooling; the layout is that of one of them:

    512 x 512 -> 7 x 7 convolution and max-pooling (128) -> four residual stages of stride 2 with k, 2k, 4k and 8k
    channels (64, 32, 16, 8), a dense block of growth 32 in each of the first three (6, 12, 24 layers) -> three times:
    doubled by its nearest neighbours, joined with the stage of that resolution, two dense layers (4k, 2k, k channels)
    -> a 1 x 1 convolution, maps of 64 x 64 for each label -> sigmoid -> LSE-LBA

What a dense block adds is brought back to its stage's width by a 1 x 1 convolution: our choice, as is which stages have
one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from cxrkit.base.contracts import Outputs
from cxrkit.base.errors import UserError
from cxrkit.base.labels import LabelSet
from cxrkit.models.dense_blocks import DenseBlock, convolution, normalised_convolution, stem
from cxrkit.models.grammar import ModelSpec
from cxrkit.models.pooling import AdaptiveLogSumExp
from cxrkit.models.precision import in_float32
from cxrkit.models.specs import image_spec


class Residual(nn.Module):
    """A basic residual block (He et al. 2015) of stride 2, with a projection as its shortcut."""

    def __init__(self, channels: int, to: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            convolution(channels, to, 3, 2),
            nn.BatchNorm2d(to),
            nn.ReLU(inplace=True),
            convolution(to, to, 3),
            nn.BatchNorm2d(to),
        )
        self.shortcut = nn.Sequential(convolution(channels, to, 1), nn.BatchNorm2d(to))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return (B, to, H / 2, W / 2)."""
        # Every second place, then the 1 x 1 convolution: with a stride of 2, the backward pass of oneDNN (PyTorch on a
        # CPU) writes beside its memory where there are four channels, the last in memory.
        return torch.relu(self.branch(x_BCHW) + self.shortcut(x_BCHW[:, :, ::2, ::2]))


def _dense(channels: int, layers: int, growth: int, to: int) -> nn.Sequential:
    block = DenseBlock(channels, layers, growth)
    return nn.Sequential(block, normalised_convolution(block.channels, to, 1))


class Yao2018(nn.Module):
    """Residual stages and dense blocks down, dense blocks up, maps of the labels."""

    def __init__(
        self, spec: ModelSpec, labels: LabelSet, k: int, blocks: Sequence[int], decoder: int, growth: int, r0: float
    ) -> None:
        super().__init__()
        self.spec = spec
        widths = [k * 2**stage for stage in range(len(blocks) + 1)]
        self.stem = stem(spec.channels, k)
        self.stages = nn.ModuleList()
        for before, width, layers in zip([k, *widths], widths, [*blocks, 0], strict=False):
            stage = [Residual(before, width), *([_dense(width, layers, growth, width)] if layers else [])]
            self.stages.append(nn.Sequential(*stage))
        upwards = zip(widths[:0:-1], widths[-2::-1], strict=True)
        self.decoder = nn.ModuleList(_dense(wider + width, decoder, growth, width) for wider, width in upwards)
        self.norm = nn.BatchNorm2d(k)
        self.out = nn.Conv2d(k, len(labels), 1)
        self.pooling = AdaptiveLogSumExp(labels, r0)

    def feature_maps(self, image_BCHW: Tensor) -> Tensor:
        """Return what the last 1 x 1 convolution works on, (B, k, h, w), an eighth of the input's resolution."""
        x, scales = self.stem(image_BCHW), []
        for stage in self.stages:
            x = stage(x)
            scales.append(x)
        for block, skip in zip(self.decoder, scales[-2::-1], strict=True):
            # By the skip's size: halving an odd one rounds up.
            x = block(torch.cat([interpolate(x, size=skip.shape[2:], mode="nearest"), skip], dim=1))
        return torch.relu(self.norm(x))

    def features(self, image_BCHW: Tensor) -> Tensor:
        """Return the averaged feature maps, (B, k)."""
        return self.feature_maps(image_BCHW).mean(dim=(2, 3))

    def forward(self, image_BCHW: Tensor, meta_B3: Tensor) -> Outputs:
        """Return logits and the labels' maps, logits before their sigmoid."""
        maps_BLHW = in_float32(self.out, self.feature_maps(image_BCHW))
        return Outputs(in_float32(self.pooling, maps_BLHW), maps_BLHW)


def build(
    labels: LabelSet,
    *,
    k: int = 14,
    blocks: Sequence[int] = (6, 12, 24),
    decoder: int = 2,
    growth: int = 32,
    r0: float = 5.0,
    input_size: int = 512,
    resize: int | None = None,
    channels: int = 1,
) -> Yao2018:
    """Return the network with fresh parameters.

    k: channels of the first stage. blocks: layers of the dense block of each stage but the last, so one stage more than
    there are numbers. decoder: dense layers at each resolution on the way up. r0: lower bound of the pooling's
    sharpness; the authors compare 0, 5 and 10 (as we remember it). Raises UserError for blocks that cannot be.
    """
    if not blocks or min(blocks) < 0:
        raise UserError(f"model 'yao2018': blocks={list(blocks)}", remedy="give numbers of layers, as in [6, 12, 24]")
    if r0 < 0:
        raise UserError(f"model 'yao2018': r0={r0}", remedy="give 0 or more: the authors compare 0, 5 and 10")
    spec = image_spec("yao2018", input_size=input_size, resize=resize, channels=channels)
    return Yao2018(spec, labels, k, blocks, decoder, growth, r0)
