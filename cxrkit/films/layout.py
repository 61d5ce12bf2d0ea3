"""Whether a picture is laid out as a frontal chest film: how far it agrees with the mean of the training films.

A frontal film has its dark lungs, its bright middle and its dark upper corners where the others have them, so it
agrees with their mean; noise, photographs, and films that are turned or inverted do not. Measured on 242 films of
ChestX-ray14, each half by the mean of the other: 240 agree by AGREES or more (two that fill a part of their canvas:
0.15 and 0.03); turned by 90 degrees to either side 2 do, by 180 degrees and inverted none. Mirrored ones are not found.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

AGREES = 0.40  # correlation with the mean training film, at 64 x 64 pixels
KEEPS = 0.80  # of the standard deviation, when shrunk to 64 x 64: noise 0.06, a page of text 0.86; films 0.94 or more
_SIDE = 64
_FEWEST = 16  # training films of which a mean is made
_UNUSUAL = 0.01  # of the training films agree less than the bound, where that is below AGREES
INVERTED = "with black and white exchanged"
_OTHERWISE: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "turned by 90 degrees to the left": np.rot90,
    "turned by 180 degrees": lambda image: np.rot90(image, 2),
    "turned by 90 degrees to the right": lambda image: np.rot90(image, 3),
    INVERTED: np.negative,
}


@dataclass(frozen=True)
class Layout:
    """What the training films have in common."""

    mean: NDArray[np.float64]
    """(64, 64) the mean of the films, each with mean 0 and deviation 1; then itself so."""

    agrees: float
    """A correlation with it below this is unusual: AGREES, or less where the training films themselves differ more."""

    def agreement(self, image_HW: NDArray[np.uint8]) -> float:
        """Return the correlation of an image with the mean training film, -1 to 1; 0 for one gray everywhere."""
        return float((_standard(_small(image_HW)) * self.mean).mean())

    def otherwise(self, image_HW: NDArray[np.uint8]) -> tuple[str, float]:
        """Return what makes a picture agree most ("turned by 180 degrees", INVERTED, ...), and how far it then does."""
        small = _standard(_small(image_HW))
        found = {how: float((turn(small) * self.mean).mean()) for how, turn in _OTHERWISE.items()}
        return max(found.items(), key=lambda item: item[1])


def layout_of(films: Sequence[NDArray[np.uint8]]) -> Layout | None:
    """Return what films have in common; None of fewer than 16. Each is asked against the mean of all others."""
    if len(films) < _FEWEST:
        return None
    each = np.stack([_standard(_small(film)) for film in films])
    total = each.sum(axis=0)
    agreements = [float((one * _standard(total - one)).mean()) for one in each]
    return Layout(_standard(total), min(AGREES, float(np.quantile(agreements, _UNUSUAL))))


def kept(image_HW: NDArray[np.uint8]) -> float:
    """Return the share of the standard deviation that is left at 64 x 64 pixels: next to nothing of noise.

    1 for an image that is the same gray everywhere.
    """
    deviation = float(image_HW.std())
    return float(_small(image_HW).std()) / deviation if deviation else 1.0


def _small(image_HW: NDArray[np.uint8]) -> NDArray[np.float64]:
    import cv2

    way = cv2.INTER_AREA if len(image_HW) > _SIDE else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image_HW.astype(np.float32), (_SIDE, _SIDE), interpolation=way), np.float64)


def _standard(image_HW: NDArray[np.float64]) -> NDArray[np.float64]:
    around = image_HW - image_HW.mean()
    deviation = around.std()
    return around / deviation if deviation > 1e-6 else np.zeros_like(around)
