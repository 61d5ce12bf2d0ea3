"""The plan: which images a batch holds, and where each of their output pixels comes from. numpy only.

Every choice is a pure function of (seed, epoch, row of index.parquet), drawn from counter-based random numbers. So
batch size, number of threads, number of ranks, resume point and backend change nothing about an image; the state of
a training is (epoch, step).

Coordinates are continuous: an image of side S covers [0, S] x [0, S], and the centre of its first pixel is at
(0.5, 0.5). A matrix maps a point of the output to a point of the level it is sampled from:
`(x_level, y_level) = matrix @ (x_output, y_output, 1)`.

Paper: Baltruschat et al. 2019, section 3 ("Implementation").
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cxrkit.contracts import IMAGE_SIZE
from cxrkit.errors import UserError
from cxrkit.loaders.philox import join, philox4x32, uniform

MIN_SCALE = 0.85  # source pixels per output pixel that a level must offer; measured in tests/test_fidelity_real.py
PLANNED_AHEAD = 512  # images
ATTEMPTS = 10  # draws of (area, aspect) before the whole image is taken, as in torchvision's RandomResizedCrop

# Third word of the counter: what a draw is for. Draws of different purposes never share a counter.
_ORDER, _CROP, _POSE = 0, 1, 2


def default_resize(input_size: int) -> int:
    """Return the side that validation and test images are scaled to before the centre crop (the paper: 256, 480)."""
    return 480 if input_size == 448 else round(input_size * 256 / 224)


@dataclass(frozen=True)
class Augmentation:
    """How a training image is varied. The defaults are the paper's.

    area: range of the crop's area, as a share of the image; aspect: range of its width / height. Both are drawn
    uniformly ("distributed evenly"; torchvision draws the logarithm of the aspect uniformly).
    angle_degrees: the crop is turned by up to this angle about its centre, either way. flip: probability of a
    left-right mirror image.
    """

    area: tuple[float, float] = (0.08, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    angle_degrees: float = 7.0
    flip: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.area[0] <= self.area[1] <= 1:
            raise UserError(f"augmentation area {self.area}", remedy="give two shares, 0 < smallest <= largest <= 1")
        if not 0 < self.aspect[0] <= self.aspect[1]:
            raise UserError(f"augmentation aspect {self.aspect}", remedy="give two ratios, 0 < smallest <= largest")
        if not 0 <= self.flip <= 1:
            raise UserError(f"augmentation flip {self.flip}", remedy="give a probability between 0 and 1")


@dataclass(frozen=True)
class Crops:
    """One crop per image, B of them.

    box: (B, 4) float64 of left, top, width, height in pixels of the full-size image, before turning;
    angle: (B,) float64 radians, about the centre of the box; flip: (B,) bool.
    """

    box: NDArray[np.float64]
    angle: NDArray[np.float64]
    flip: NDArray[np.bool_]


@dataclass(frozen=True)
class PlannedBatch:
    """One batch, before any pixel is read.

    rows: (B,) int64, rows of index.parquet; level: (B,) int64, positions in `Plan.levels`;
    matrix: (B, 2, 3) float64, output to level coordinates.
    """

    rows: NDArray[np.int64]
    level: NDArray[np.int64]
    matrix: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class Plan:
    """Order and geometry of one subset, for one rank.

    rows: (N,) the subset's rows of index.parquet, each once. train: shuffle and augment; otherwise the rows' order
    and the centre crop. batch_size: images of a batch on this rank. input_size: side of the output, pixels.
    resize: without `train`, the side that an image is scaled to before the centre crop. levels: side lengths stored
    in the prepared folder, descending. image_size: side of the full-size image; random crops are whole pixels of it.
    drop_last: leave out the last batch of an epoch when it is short. rank, world_size: ranks take turns within the
    global batch of `batch_size * world_size` images, which is the same set of images for every world size.

    Raises UserError when the largest level is too small for this input, or training has less than one batch.
    """

    rows: NDArray[np.int64]
    train: bool
    seed: int
    batch_size: int
    input_size: int
    resize: int
    levels: tuple[int, ...]
    image_size: int = IMAGE_SIZE
    drop_last: bool = False
    rank: int = 0
    world_size: int = 1
    augmentation: Augmentation = Augmentation()
    min_scale: float = MIN_SCALE
    _orders: dict[int, NDArray[np.int64]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", np.ascontiguousarray(self.rows, dtype=np.int64))
        assert self.rows.ndim == 1 and len(np.unique(self.rows)) == len(self.rows), "each row once"
        assert self.batch_size > 0 and 0 <= self.rank < self.world_size
        assert self.train or not self.drop_last, "evaluation leaves no image out"
        assert self.drop_last or not self.train or self.world_size == 1, "ranks that train take equal shares"
        _check_levels(self.levels, self.resize, self.input_size, self.min_scale)
        if self.train and self.steps == 0:
            raise UserError(
                f"{len(self.rows)} training images do not fill one batch of {self.batch_size * self.world_size}",
                remedy="choose a smaller --batch-size, or train on more images",
            )

    @property
    def steps(self) -> int:
        """Number of batches of one epoch on this rank."""
        full, rest = divmod(len(self.rows), self.batch_size * self.world_size)
        return full + (not self.drop_last and rest > self.rank)

    @property
    def dropped(self) -> int:
        """Number of images that each epoch leaves out (others every time): the last, short batch with drop_last."""
        return len(self.rows) % (self.batch_size * self.world_size) if self.drop_last else 0

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Return all N rows in the order of `epoch`, over all ranks."""
        if not self.train:
            return self.rows
        order = self._orders.get(epoch)
        if order is None:
            high, low, _, _ = philox4x32((self.rows, epoch, _ORDER, 0), self.seed)
            order = self.rows[np.argsort(join(high, low), kind="stable")]
            self._orders.clear()
            self._orders[epoch] = order
        return order

    def batch(self, epoch: int, step: int) -> PlannedBatch:
        """Return batch `step` (0 <= step < steps) of `epoch` on this rank."""
        if not 0 <= step < self.steps:
            raise IndexError(f"step {step} of {self.steps}")
        return self._run(epoch, step, step + 1)

    def batches(self, epoch: int, start_step: int = 0) -> Iterator[PlannedBatch]:
        """Yield the batches of `epoch` on this rank from `start_step` on.

        The same as calling `batch` for each step, but small batches are planned many at a time: numpy then costs
        3 instead of 90 microseconds per image.
        """
        together = max(1, PLANNED_AHEAD // self.batch_size)
        for first in range(start_step, self.steps, together):
            run = self._run(epoch, first, min(first + together, self.steps))
            for start in range(0, len(run), self.batch_size):
                part = slice(start, start + self.batch_size)
                yield PlannedBatch(run.rows[part], run.level[part], run.matrix[part])

    def _run(self, epoch: int, first: int, last: int) -> PlannedBatch:
        """Return the batches `first` to `last - 1` in one."""
        together = self.batch_size * self.world_size
        rows = self.order(epoch)[first * together : last * together][self.rank :: self.world_size]
        crops = self.crops(epoch, rows)
        level = choose_levels(crops.box, self.image_size, self.input_size, self.levels, self.min_scale)
        sides = np.asarray(self.levels)[level]
        return PlannedBatch(rows, level, matrices(crops, sides / self.image_size, self.input_size))

    def crops(self, epoch: int, rows: NDArray[np.int64]) -> Crops:
        """Return what part of each image is seen in `epoch`: the centre crop, or with `train` a random one."""
        if self.train:
            return random_crops(self.augmentation, self.seed, epoch, rows, self.image_size)
        side = self.image_size * self.input_size / self.resize
        edge = (self.image_size - side) / 2
        box = np.tile([edge, edge, side, side], (len(rows), 1))
        return Crops(box, np.zeros(len(rows)), np.zeros(len(rows), dtype=bool))


def random_crops(
    augmentation: Augmentation, seed: int, epoch: int, rows: NDArray[np.int64], image_size: int
) -> Crops:
    """Draw one crop per row.

    A pair (area, aspect) that does not fit into the square image is drawn again, up to ATTEMPTS times; then the
    largest crop is taken whose aspect is allowed (the whole image, if 1 is).
    """
    area, aspect = augmentation.area, augmentation.aspect
    attempt = np.arange(ATTEMPTS)[:, None]
    draws = uniform(philox4x32((rows[None, :], epoch, _CROP, attempt), seed))  # (4, ATTEMPTS, B)
    wanted = (area[0] + (area[1] - area[0]) * draws[0]) * image_size**2
    ratio = aspect[0] + (aspect[1] - aspect[0]) * draws[1]
    size = np.rint(np.sqrt([wanted * ratio, wanted / ratio]))  # (2, ATTEMPTS, B): width, height
    fits = ((size >= 1) & (size <= image_size)).all(axis=0)
    first = fits.argmax(axis=0), np.arange(len(rows))  # attempt 0 where none fits
    size = np.where(fits.any(axis=0), size[:, *first], _largest(aspect, image_size)[:, None])
    turn, mirror, _, _ = uniform(philox4x32((rows, epoch, _POSE, 0), seed))
    angle = np.deg2rad(augmentation.angle_degrees) * (2 * turn - 1)
    box = np.concatenate([_place(size, angle, draws[2:, *first], image_size), size]).T
    return Crops(np.ascontiguousarray(box), angle, mirror < augmentation.flip)


def _place(
    size: NDArray[np.float64], angle: NDArray[np.float64], draw: NDArray[np.float64], image_size: int
) -> NDArray[np.float64]:
    """Return (2, B) left and top: uniform over the whole pixels at which the turned box stays inside the image.

    Along an axis on which the turned box is longer than the image, it is centred.
    """
    extent = size * np.cos(angle) + size[::-1] * np.abs(np.sin(angle))
    low = np.ceil((extent - size) / 2)
    places = np.floor(image_size - (extent + size) / 2) - low + 1
    return np.where(places > 0, low + np.floor(draw * places), (image_size - size) / 2)


def _largest(aspect: tuple[float, float], image_size: int) -> NDArray[np.float64]:
    """Return the width and height of the largest box in the image whose aspect is allowed."""
    ratio = min(max(1.0, aspect[0]), aspect[1])
    return np.rint(image_size * np.array([min(1, ratio), min(1, 1 / ratio)]))


def choose_levels(
    box: NDArray[np.float64], image_size: int, input_size: int, levels: tuple[int, ...], min_scale: float
) -> NDArray[np.int64]:
    """Return, per box, the position of the smallest level with at least `min_scale` source pixels per output pixel.

    The shorter side of the box counts. Where no level has as many, the largest is taken: a small crop of a
    1024-pixel image cannot be sharper than the image.
    """
    needed = min_scale * input_size * image_size / box[:, 2:].min(axis=1)  # level side at which the scale is enough
    enough = np.asarray(levels)[None, :] >= needed[:, None] * (1 - 1e-12)  # levels descend: enough is True...False
    return np.maximum(enough.sum(axis=1) - 1, 0)


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


def _check_levels(levels: tuple[int, ...], resize: int, input_size: int, min_scale: float) -> None:
    assert list(levels) == sorted(levels, reverse=True), "levels descend"
    if levels[0] < min_scale * resize:
        raise UserError(
            f"the largest prepared level has {levels[0]} pixels a side, too few for a {input_size} x {input_size} "
            f"input, which is cut from {resize} x {resize}",
            remedy="run `cxrkit prepare` with a larger --levels (1024,512,256), or train with a smaller --input-size",
        )
