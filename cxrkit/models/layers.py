"""What a residual network of the grammar consists of, layer by layer, as Table 1 of the paper names them.

By arithmetic from its spec, without torch; the tests compare it with the network that is really built.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cxrkit.models.grammar import ModelSpec

_EXPANSION = 4  # a block puts out four times the channels of its 3 x 3 convolution


@dataclass(frozen=True)
class Convolution:
    """One convolution, without a bias, and the batch normalisation behind it."""

    kernel: int
    """Side of its kernel."""

    channels_in: int
    """Of its input."""

    channels: int
    """Of its output."""

    stride: int
    """1 or 2."""

    size: int
    """Side of its output in pixels."""

    shortcut: bool = False
    """Whether it leads around a block."""

    @property
    def weights(self) -> int:
        """How many numbers its kernels have."""
        return self.channels_in * self.channels * self.kernel**2

    @property
    def parameters(self) -> int:
        """The weights, and scale and shift of the normalisation."""
        return self.weights + 2 * self.channels

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one image; the normalisation's are not counted, as is usual."""
        return self.weights * self.size**2


@dataclass(frozen=True)
class Layer:
    """One row of Table 1."""

    name: str
    """"conv1", "conv3_0", ... as the paper has it; "pooling after conv2_x" is that of -large."""

    size: int
    """Side of its output in pixels."""

    blocks: int = 0
    """How many bottleneck blocks it consists of."""

    convolutions: tuple[Convolution, ...] = ()
    """All of them, block after block, each block's shortcut last; () for a pooling."""

    @property
    def parameters(self) -> int:
        """Of all its convolutions and their normalisation."""
        return sum(convolution.parameters for convolution in self.convolutions)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one image."""
        return sum(convolution.macs for convolution in self.convolutions)


def layers(spec: ModelSpec) -> Iterator[Layer]:
    """Yield the layers up to the pooled features, whose number is `spec.features`; none without an image branch."""
    if not spec.blocks:
        return
    size = halved(spec.input_size)
    yield Layer("conv1", size, convolutions=(Convolution(7, spec.channels, spec.width, 2, size),))
    size, channels = halved(size), spec.width
    yield Layer("pooling1", size)
    for stage, blocks in enumerate(spec.blocks):
        width, stride = spec.width * 2**stage, 1 if stage == 0 else 2
        first = _block(spec, channels, width, stride, size)
        size, channels = (size if stage == 0 else halved(size)), _EXPANSION * width
        rest = _block(spec, channels, width, 1, size) * (blocks - 1)
        if stage == 0:
            yield Layer("conv2_x", size, blocks, (*first, *rest))
        else:
            yield Layer(f"conv{stage + 2}_0", size, 1, first)
            if rest:
                yield Layer(f"conv{stage + 2}_x", size, blocks - 1, rest)
        if stage == 0 and spec.extra_pool:
            size = halved(size)
            yield Layer("pooling after conv2_x", size)
    yield Layer("pooling2", 1)


def _block(spec: ModelSpec, channels: int, width: int, stride: int, size: int) -> tuple[Convolution, ...]:
    """Return the convolutions of a bottleneck block on an input of `channels` channels and `size` pixels a side."""
    out = halved(size) if stride == 2 else size
    strides = (1, stride) if spec.stride_in_3x3 else (stride, 1)
    block = [
        Convolution(1, channels, width, strides[0], size if spec.stride_in_3x3 else out),
        Convolution(3, width, width, strides[1], out),
        Convolution(1, width, _EXPANSION * width, 1, out),
    ]
    if stride == 2 or channels != _EXPANSION * width:
        block.append(Convolution(1, channels, _EXPANSION * width, stride, out, shortcut=True))
    return tuple(block)


def halved(size: int) -> int:
    """Return the side of what a stride of 2 makes of `size` pixels, with the padding of all layers here."""
    return (size + 1) // 2
