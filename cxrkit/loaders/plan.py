"""The plan: which images a batch holds, and where each of their output pixels comes from. numpy only.

Every choice is a pure function of (seed, epoch, row of the index), drawn from counter-based random numbers. So
batch size, number of threads, number of ranks, resume point and backend change nothing about an image; the state of
a training is (epoch, step).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cxrkit.base.errors import UserError
from cxrkit.loaders.geometry import (
    MIN_SCALE,
    ORDER,
    Augmentation,
    Crops,
    choose_levels,
    matrices,
    random_crops,
    sigmas,
    windows,
)
from cxrkit.loaders.philox import join, philox4x32
from cxrkit.loaders.views import CENTRE, View, crops, shared_windows

__all__ = ["Augmentation", "Plan", "PlannedBatch", "default_resize"]

PLANNED_AHEAD = 512  # images
MADE_TOGETHER = 128  # images that a loader makes at a time, whatever the batch


def default_resize(input_size: int) -> int:
    """Return the side that validation and test images are scaled to before the centre crop (the paper: 256, 480)."""
    return 480 if input_size == 448 else round(input_size * 256 / 224)


@dataclass(frozen=True)
class PlannedBatch:
    """One batch, before any pixel is read."""

    rows: NDArray[np.int64]
    """(B,) rows of the store's index."""

    level: NDArray[np.int64]
    """(B,) positions in `Plan.levels`: what each image is sampled from."""

    matrix: NDArray[np.float64]
    """(B, 2, 3) output to level coordinates (continuous, see geometry.py)."""

    sigma: NDArray[np.float64]
    """(B, 2) the Gaussian (3 taps) to blur the level with before sampling, along its x and y, in pixels of the level;
    geometry.NO_SIGMA for none."""

    window: NDArray[np.int64]
    """(B, 4) left, top, right, bottom of the part of the level that this reads."""

    @property
    def window_matrix(self) -> NDArray[np.float64]:
        """(B, 2, 3) float64: `matrix`, to coordinates within the window."""
        matrix = self.matrix.copy()
        matrix[:, :, 2] -= self.window[:, :2]
        return matrix

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, part: slice) -> PlannedBatch:
        return PlannedBatch(self.rows[part], self.level[part], self.matrix[part], self.sigma[part], self.window[part])


@dataclass(frozen=True)
class Plan:
    """Order and geometry of one subset, for one rank.

    Raises UserError when the largest level is too small for this input, or training has less than one batch.
    """

    rows: NDArray[np.int64]
    """(N,) the subset's rows of the store's index, each once."""

    train: bool
    """Whether to shuffle and augment; otherwise the rows' order and the centre crop."""

    seed: int
    """Of order and augmentation."""

    batch_size: int
    """Images of a batch on this rank, each view of an image counted as one: a multiple of the views."""

    input_size: int
    """Pixels along each side of the output."""

    resize: int
    """Without `train`, pixels along each side that an image is scaled to before the centre crop."""

    levels: tuple[int, ...]
    """Side lengths stored in the prepared folder, descending; empty for a plan of the order alone (`rows_of`)."""

    image_size: int
    """Pixels along each side of the full-size image, as the prepared folder says; random crops are whole pixels of
    it."""

    drop_last: bool = False
    """Whether to leave out the last batch of an epoch when it is short."""

    rank: int = 0
    """This rank's turn: ranks take turns within the global batch of `batch_size * world_size` images, which is the same
    set of images for every world size."""

    world_size: int = 1
    """Number of ranks."""

    augmentation: Augmentation = field(default_factory=Augmentation)
    """How a training image is varied."""

    min_scale: float = MIN_SCALE
    """Source pixels per output pixel that a level must offer to be sampled."""

    numbers: NDArray[np.int64] | None = None
    """(N,) what order and crops are drawn from, one per row: the image's place in the whole data set, so that they do
    not depend on which images happen to be prepared. Default: the rows."""

    views: tuple[View, ...] = CENTRE
    """Without `train`, how each image is looked at: a batch holds all views of an image, one after the other."""

    _number_of_row: NDArray[np.int64] = field(init=False, repr=False, compare=False)
    _orders: dict[int, NDArray[np.int64]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", np.ascontiguousarray(self.rows, dtype=np.int64))
        assert self.rows.shape == np.unique(self.rows).shape, "each row once"
        numbers = self.rows if self.numbers is None else self.numbers
        number_of_row = np.zeros(self.rows.max(initial=-1) + 1, dtype=np.int64)
        number_of_row[self.rows] = numbers
        object.__setattr__(self, "_number_of_row", number_of_row)
        assert self.batch_size > 0
        assert 0 <= self.rank < self.world_size
        assert self.train or not self.drop_last, "evaluation leaves no image out"
        assert self.batch_size % len(self.views) == 0, "a batch has whole images"
        assert not self.train or self.views == CENTRE, "a training image is seen once"
        assert self.drop_last or not self.train or self.world_size == 1, "ranks that train take equal shares"
        if self.levels:
            _check_levels(self.levels, self.resize, self.input_size, self.min_scale)
        if self.train and self.steps == 0:
            raise UserError(
                f"{len(self.rows)} training images do not fill one batch of {self.batch_size * self.world_size}",
                remedy="choose a smaller --batch-size, or train on more images",
            )

    @property
    def steps(self) -> int:
        """Number of batches of one epoch on this rank."""
        full, rest = divmod(len(self.rows), self._images_together)
        return full + (not self.drop_last and rest > self.rank)

    @property
    def dropped(self) -> int:
        """Number of images that each epoch leaves out (others every time): the last, short batch with drop_last."""
        return len(self.rows) % self._images_together if self.drop_last else 0

    @property
    def _images_together(self) -> int:
        """Number of different images in a batch of all ranks."""
        return self.batch_size // len(self.views) * self.world_size

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Return all N rows in the order of `epoch`, over all ranks."""
        if not self.train:
            return self.rows
        order = self._orders.get(epoch)
        if order is None:
            high, low, _, _ = philox4x32((self._number_of_row[self.rows], epoch, ORDER, 0), self.seed)
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

        The same as calling `batch` for each step, but small batches are planned many at a time: in batches of 16,
        numpy then costs 2 instead of 90 microseconds per image.
        """
        for bundle in self.bundles(epoch, start_step, PLANNED_AHEAD):
            yield from self.cut(bundle)

    def rows_of(self, epoch: int, start_step: int = 0) -> Iterator[NDArray[np.int64]]:
        """Yield the rows of each batch of `epoch` on this rank from `start_step` on: the order, without any pixel."""
        for step in range(start_step, self.steps):
            yield np.repeat(self._rows(epoch, step, step + 1), len(self.views))

    def bundles(self, epoch: int, start_step: int = 0, images: int = MADE_TOGETHER) -> Iterator[PlannedBatch]:
        """Yield the batches of `epoch` from `start_step` on, as many in one as make about `images`; at least one.

        A loader works on bundles and gives out what `cut` makes of them: what it costs to begin and to end a piece of
        work is then the same for batches of 8 and of 128.
        """
        together = self.bundled(images)
        for first in range(start_step, self.steps, together):
            yield self._run(epoch, first, min(first + together, self.steps))

    def bundled(self, images: int = MADE_TOGETHER) -> int:
        """Return how many batches are in a bundle of about `images`."""
        return max(1, images // self.batch_size)

    def cut(self, bundle: PlannedBatch) -> Iterator[PlannedBatch]:
        """Yield the batches of a bundle."""
        for start in range(0, len(bundle), self.batch_size):
            yield bundle[start : start + self.batch_size]

    def _run(self, epoch: int, first: int, last: int) -> PlannedBatch:
        """Return the batches `first` to `last - 1` in one."""
        rows = self._rows(epoch, first, last)
        seen = self.crops(epoch, rows)
        level = choose_levels(seen.box, self.image_size, self.input_size, self.levels, self.min_scale)
        sides = np.asarray(self.levels)[level]
        matrix = matrices(seen, sides / self.image_size, self.input_size)
        return PlannedBatch(
            np.repeat(rows, len(self.views)),
            level,
            matrix,
            sigmas(matrix),
            shared_windows(windows(matrix, sides, self.input_size), len(self.views)),
        )

    def _rows(self, epoch: int, first: int, last: int) -> NDArray[np.int64]:
        """Return the rows of the batches `first` to `last - 1`, each once however often it is looked at."""
        together = self._images_together
        return self.order(epoch)[first * together : last * together][self.rank :: self.world_size]

    def crops(self, epoch: int, rows: NDArray[np.int64]) -> Crops:
        """Return what part of each image is seen in `epoch`: with `train` a random crop, else one for each view."""
        if self.train:
            numbers = self._number_of_row[rows]
            return random_crops(self.augmentation, self.seed, epoch, numbers, self.image_size)
        return crops(self.views, len(rows), self.image_size, self.input_size, self.resize)


def _check_levels(levels: tuple[int, ...], resize: int, input_size: int, min_scale: float) -> None:
    assert list(levels) == sorted(levels, reverse=True), "levels descend"
    if levels[0] < min_scale * resize:
        raise UserError(
            f"the largest prepared level has {levels[0]} pixels a side, too few for a {input_size} x {input_size} "
            f"input, which is cut from {resize} x {resize}",
            remedy="train with a smaller --input-size, or run `cxrkit prepare` with larger --levels, up to the size of "
            "the source images",
        )
