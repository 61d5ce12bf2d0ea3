"""Where the pixels of a batch come from: random crops, the level to sample, the affine map. numpy only.

Coordinates are continuous: an image of side S covers [0, S] x [0, S], and the centre of its first pixel is at
(0.5, 0.5). A matrix maps a point of the output to a point of the level it is sampled from:
`(x_level, y_level) = matrix @ (x_output, y_output, 1)`.

Paper: Baltruschat et al. 2019, section 3 ("Implementation").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxrkit.base.errors import UserError
from cxrkit.loaders.philox import philox4x32, uniform

ATTEMPTS = 10  # draws of (area, aspect) before the whole image is taken, as in torchvision's RandomResizedCrop
MIN_SCALE = 0.85  # source pixels per output pixel that a level must offer
MIN_TAP = 0.045  # weight of a neighbour, below which blurring first would gain less than it costs
NO_SIGMA = 0.05  # pixels; a Gaussian so narrow that its 3 taps are 0, 1, 0

# Third word of the counter: what a draw is for. Draws of different purposes never share a counter.
CROP, POSE, ORDER = 0, 1, 2


@dataclass(frozen=True)
class Augmentation:
    """How a training image is varied. The defaults are the paper's.

    Area and aspect are drawn uniformly ("distributed evenly"; torchvision draws the logarithm of the aspect uniformly).
    """

    area: tuple[float, float] = (0.08, 1.0)
    """Range of the crop's area, as a share of the image."""

    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    """Range of the crop's width / height."""

    angle_degrees: float = 7.0
    """The crop is turned by up to this angle about its centre, either way; 180 turns it to anywhere."""

    flip: float = 0.5
    """Probability of a left-right mirror image."""

    def __post_init__(self) -> None:
        if not 0 < self.area[0] <= self.area[1] <= 1:
            raise UserError(f"augmentation area {self.area}", remedy="give two shares, 0 < smallest <= largest <= 1")
        if not 0 < self.aspect[0] <= self.aspect[1]:
            raise UserError(f"augmentation aspect {self.aspect}", remedy="give two ratios, 0 < smallest <= largest")
        if not 0 <= self.angle_degrees <= 180:
            raise UserError(f"augmentation angle_degrees {self.angle_degrees}", remedy="give 0 to 180 degrees")
        if not 0 <= self.flip <= 1:
            raise UserError(f"augmentation flip {self.flip}", remedy="give a probability between 0 and 1")


@dataclass(frozen=True)
class Crops:
    """One crop per image, B of them."""

    box: NDArray[np.float64]
    """(B, 4): left, top, width and height in pixels of the full-size image, before turning."""

    angle: NDArray[np.float64]
    """(B,) radians, about the centre of the box."""

    flip: NDArray[np.bool_]
    """(B,) whether the crop is mirrored, left to right."""


def random_crops(
    augmentation: Augmentation, seed: int, epoch: int, numbers: NDArray[np.int64], image_size: int
) -> Crops:
    """Draw one crop per image, from its number.

    A pair (area, aspect) that does not fit into the square image is drawn again, up to ATTEMPTS times; then the
    largest crop is taken whose aspect is allowed (the whole image, if 1 is).
    """
    area, aspect = augmentation.area, augmentation.aspect
    attempt = np.arange(ATTEMPTS)[:, None]
    draws = uniform(philox4x32((numbers[None, :], epoch, CROP, attempt), seed))  # (4, ATTEMPTS, B)
    wanted = (area[0] + (area[1] - area[0]) * draws[0]) * image_size**2
    ratio = aspect[0] + (aspect[1] - aspect[0]) * draws[1]
    size = np.rint(np.sqrt([wanted * ratio, wanted / ratio]))  # (2, ATTEMPTS, B): width, height
    fits = ((size >= 1) & (size <= image_size)).all(axis=0)
    first = fits.argmax(axis=0), np.arange(len(numbers))  # attempt 0 where none fits
    size = np.where(fits.any(axis=0), size[:, *first], _largest(aspect, image_size)[:, None])
    turn, mirror, _, _ = uniform(philox4x32((numbers, epoch, POSE, 0), seed))
    angle = np.deg2rad(augmentation.angle_degrees) * (2 * turn - 1)
    box = np.concatenate([_place(size, angle, draws[2:, *first], image_size), size]).T
    return Crops(np.ascontiguousarray(box), angle, mirror < augmentation.flip)


def _place(
    size: NDArray[np.float64], angle: NDArray[np.float64], draw: NDArray[np.float64], image_size: int
) -> NDArray[np.float64]:
    """Return (2, B) left and top: uniform over the whole pixels at which the turned box stays inside the image.

    Along an axis on which the turned box is longer than the image, it is centred.
    """
    extent = size * np.abs(np.cos(angle)) + size[::-1] * np.abs(np.sin(angle))
    low = np.ceil((extent - size) / 2)
    places = np.floor(image_size - (extent + size) / 2) - low + 1
    left_top: NDArray[np.float64] = np.where(places > 0, low + np.floor(draw * places), (image_size - size) / 2)
    return left_top


def _largest(aspect: tuple[float, float], image_size: int) -> NDArray[np.float64]:
    """Return the width and height of the largest box in the image whose aspect is allowed."""
    ratio = min(max(1.0, aspect[0]), aspect[1])
    size: NDArray[np.float64] = np.rint(image_size * np.array([min(1, ratio), min(1, 1 / ratio)]))
    return size


def choose_levels(
    box: NDArray[np.float64], image_size: int, input_size: int, levels: tuple[int, ...], min_scale: float
) -> NDArray[np.int64]:
    """Return, per box, the position of the smallest level with at least `min_scale` source pixels per output pixel.

    The geometric mean of both axes counts. Where no level has as many, the largest is taken: a small crop of a
    1024-pixel image cannot be sharper than the image.
    """
    mean_side = np.sqrt(box[:, 2] * box[:, 3])
    needed = min_scale * input_size * image_size / mean_side  # level side at which the scale is enough
    enough = np.asarray(levels)[None, :] >= needed[:, None] * (1 - 1e-12)  # levels descend: enough is True...False
    level: NDArray[np.int64] = np.maximum(enough.sum(axis=1) - 1, 0)
    return level


def matrices(crops: Crops, shrink: NDArray[np.float64], input_size: int) -> NDArray[np.float64]:
    """Return (B, 2, 3): output coordinates -> level coordinates, for levels `shrink` times the full-size image.

    A point of the output is mirrored, scaled to the size of the box, turned by the angle (clockwise on the screen,
    where y points down) and moved so that the centre of the output lands on the centre of the box.
    """
    centre = (crops.box[:, :2] + crops.box[:, 2:] / 2) * shrink[:, None]
    scale_x, scale_y = (crops.box[:, 2:] * shrink[:, None] / input_size).T
    scale_x = np.where(crops.flip, -scale_x, scale_x)
    cos, sin = np.cos(crops.angle), np.sin(crops.angle)
    matrix = np.empty((len(crops.box), 2, 3))
    matrix[:, 0, 0], matrix[:, 0, 1] = cos * scale_x, -sin * scale_y
    matrix[:, 1, 0], matrix[:, 1, 1] = sin * scale_x, cos * scale_y
    matrix[:, :, 2] = centre - matrix[:, :, :2].sum(axis=2) * (input_size / 2)
    return matrix


def sigmas(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (B, 2): the Gaussian, along the level's x and y, that it is blurred with (3 taps) before it is sampled.

    At s source pixels per output pixel, torchvision's antialiased resize weighs pixels by a triangle of variance
    s^2 / 6, and bilinear sampling by one of variance f (1 - f), f being how far from a pixel's centre a sample falls:
    1 / 6 on average, but one f for all where s = 1. Taps (a, 1 - 2a, a) add the variance 2a that is missing; at s = 2
    bilinear sampling then becomes that triangle exactly. NO_SIGMA: the missing part is negligible.

    In a turned crop the triangles lie along the output's axes. Of their common covariance, A A^T / 6 for the map A, the
    level's own axes see the diagonal: s along a level's axis is the length of that row of A.
    """
    scale = np.minimum(np.linalg.norm(matrix[:, :, :2], axis=2), 2)  # (B, 2), along the level's x and y
    fraction = (matrix.sum(axis=2) - matrix[:, :, :2].sum(axis=2) / 2 - 0.5) % 1
    # One step of the output is then one whole pixel along this axis or none, so that all samples share a fraction.
    steps = np.sort(np.abs(matrix[:, :, :2]), axis=2)
    same_everywhere = np.isclose(steps, [0, 1], rtol=0, atol=1e-9).all(axis=2)
    tap = (scale**2 / 6 - np.where(same_everywhere, fraction * (1 - fraction), 1 / 6)) / 2
    side = np.clip(tap / (1 - 2 * tap), 1e-9, None)  # relative to the middle tap: exp(-1 / (2 sigma^2))
    sigma: NDArray[np.float64] = np.where(tap < MIN_TAP, NO_SIGMA, np.sqrt(-0.5 / np.log(side)))
    return sigma


def windows(matrix: NDArray[np.float64], sides: NDArray[np.int64], input_size: int) -> NDArray[np.int64]:
    """Return (B, 4) left, top, right, bottom: the part of each level that sampling reads, with room for the blur."""
    reach = np.abs(matrix[:, :, :2]).sum(axis=2) * (input_size / 2)
    centre = matrix[:, :, 2] + matrix[:, :, :2].sum(axis=2) * (input_size / 2)
    low, high = np.floor(centre - reach) - 3, np.ceil(centre + reach) + 3
    return np.concatenate([np.maximum(low, 0), np.minimum(high, sides[:, None])], axis=1).astype(np.int64)
