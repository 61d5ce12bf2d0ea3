"""Blur and sample windows of one flat tensor of pixels: the kernel of the resident loader, on any device."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray


def taps(sigma: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the outer weight a of the taps (a, 1 - 2a, a) of a Gaussian `sigma`, in pixels."""
    side = np.exp(-0.5 / sigma**2)
    outer: NDArray[np.float64] = side / (1 + 2 * side)
    return outer


def gather(pixels: torch.Tensor, place: torch.Tensor, warp: torch.Tensor, size: int) -> torch.Tensor:
    """Return (B, 1, size, size) uint8: windows of `pixels`, blurred and sampled bilinearly, rounded to nearest.

    pixels: (bytes,) uint8. place: (B, 4) int64, a window's first byte, bytes from row to row, width and height.
    warp: (B, 8) float32, the matrix from output to window coordinates (see geometry.py), and the outer taps x and y.
    As with OpenCV's GaussianBlur and warpAffine, the blur reflects at the edge, and outside of it the edge is repeated.
    """
    base, pitch, width, height = (column.view(-1, 1, 1) for column in place.unbind(1))
    xx, xy, x0, yx, yy, y0, tap_x, tap_y = (column.view(-1, 1, 1) for column in warp.unbind(1))
    centre = torch.arange(size, device=pixels.device, dtype=torch.float32) + 0.5
    u, v = centre.view(1, 1, -1), centre.view(1, -1, 1)
    columns, weights_x = _axis(xx * u + xy * v + x0 - 0.5, width, tap_x)
    rows, weights_y = _axis(yx * u + yy * v + y0 - 0.5, height, tap_y)
    total = torch.zeros_like(weights_x[0])
    for row, weight_y in zip(rows, weights_y, strict=True):
        start = base + row * pitch
        line = torch.zeros_like(total)
        for column, weight_x in zip(columns, weights_x, strict=True):
            line = line + weight_x * pixels[start + column].float()
        total = total + weight_y * line
    return total.round().to(torch.uint8).unsqueeze(1)


def _axis(
    position: torch.Tensor, length: torch.Tensor, tap: torch.Tensor
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Return the 4 pixels along one axis that a sample at `position` reads, and their weights.

    Interpolating with (1 - f, f) after blurring with (a, 1 - 2a, a) is one filter of 4 taps.
    """
    last = length - 1
    position = torch.minimum(position.clamp(min=0), last.to(position.dtype))
    first = position.floor()
    f = position - first
    near, middle = first.long(), 1 - 2 * tap
    pixels = [last - (last - (near + step).abs()).abs() for step in (-1, 0, 1, 2)]
    weights = [tap * (1 - f), middle * (1 - f) + tap * f, tap * (1 - f) + middle * f, tap * f]
    return pixels, weights
