"""Test-time views: how often, and how, a validation or test image is looked at. numpy only.

    none      the centre crop
    flip      the centre crop, and its mirror image
    ten-crop  the centre and the four corners, each with its mirror image (torchvision's TenCrop)

What a network says of an image is the mean of its probabilities over the views, as in jlianglab/BenchmarkTransformers
(trainer.py: the sigmoid first, then the mean over ten crops) and in reimplementations of CheXNet (zoogzog/chexnet).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cxrkit.base.errors import UserError
from cxrkit.loaders.geometry import Crops

if TYPE_CHECKING:
    from cxrkit.models import ModelSpec


@dataclass(frozen=True)
class View:
    """One crop of the resized image, of the size of the network's input."""

    x: float = 0.5
    """Where it lies in what the crop leaves over, from left to right: 0 at the left edge, 1 at the right one."""

    y: float = 0.5
    """The same from top to bottom."""

    flip: bool = False
    """Whether it is mirrored, left to right."""


CENTRE = (View(),)
_PLACES = ((0.5, 0.5), (0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0))
VIEWS: dict[str, tuple[View, ...]] = {
    "none": CENTRE,
    "flip": (View(), View(flip=True)),
    "ten-crop": tuple(View(x, y, flip) for flip in (False, True) for x, y in _PLACES),
}
"""By the name that `test.views` takes; the first is always the centre crop."""


def check(name: str, spec: ModelSpec) -> None:
    """Raise a UserError for an unknown name, and for views of a network that looks at no image."""
    if name not in VIEWS:
        raise UserError(f"--views {name}: unknown", remedy=f"choose one of {', '.join(VIEWS)}")
    if name != "none" and not spec.image:
        raise UserError(
            f"--views {name}: {spec.name} looks at no image, of which there could be views", remedy="leave out --views"
        )


def resize_for(name: str, input_size: int, resize: int) -> int:
    """Return the side that images are scaled to before the views are cut.

    That is the network's own `resize`. One that looks at the whole image leaves nothing over to cut corners from: ten
    crops are then cut from an image larger by 256 / 224, as CheXNet's reimplementations do.
    """
    moves = any((view.x, view.y) != (0.5, 0.5) for view in VIEWS[name])
    return round(input_size * 256 / 224) if moves and resize == input_size else resize


def crops(views: tuple[View, ...], images: int, image_size: int, input_size: int, resize: int) -> Crops:
    """Return the crops of `images` images, all views of one image after the other: images x views of them."""
    side = image_size * input_size / resize
    left_over = image_size - side
    box_V4 = np.array([[left_over * view.x, left_over * view.y, side, side] for view in views])
    flip_V = np.array([view.flip for view in views])
    return Crops(np.tile(box_V4, (images, 1)), np.zeros(images * len(views)), np.tile(flip_V, images))


def shared_windows(window_N4: NDArray[np.int64], views: int) -> NDArray[np.int64]:
    """Return (N, 4) windows, of each `views` that follow each other the one around all: an image is decoded once."""
    if views == 1:
        return window_N4
    of_image = window_N4.reshape(-1, views, 4)
    around = np.concatenate([of_image[:, :, :2].min(axis=1), of_image[:, :, 2:].max(axis=1)], axis=1)
    return np.repeat(around, views, axis=0)
