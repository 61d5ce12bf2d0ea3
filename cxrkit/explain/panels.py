"""One panel: the film, and beside it the map laid over it, both with the boxes (as Figure 4 of the paper).

Baltruschat et al. 2019, Figure 4, shows Grad-CAM on two films with a pneumothorax: one map is highest at the
pneumothorax, the other at a drain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cxrkit.base.contracts import IMAGE_SIZE
from cxrkit.explain import regions
from cxrkit.explain.placing import Placement

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = 480  # pixels of a film in a panel
_GAP, _HEAD, _FOOT = 10, 58, 30
_PAPER, _INK, _MUTED = (255, 255, 255), (27, 31, 39), (93, 101, 114)
_BOX = (255, 221, 51)  # the paper's is yellow, too
_CROSS = (120, 255, 255)


@dataclass(frozen=True)
class Panel:
    """What one panel shows."""

    image_id: str
    """The film's name."""

    label: str
    """The finding, in words."""

    film: NDArray[np.uint8]
    """(side, side), of any size."""

    map: NDArray[np.float32]
    """(h, w), as the network made it."""

    placement: Placement
    """Where the map lies on the film."""

    boxes: NDArray[np.float64]
    """(Q, 4) on the 1024 x 1024 film; (0, 4) for none."""

    score: float
    """The network's, for the finding."""

    truth: str
    """What the labels say: "labelled with it", "not labelled with it" or "not known"."""

    alone: bool = False
    """Whether no page explains it: it then says below the film what its darker margin is."""

    @property
    def point(self) -> tuple[float, float] | None:
        """The map's highest place on the film; None where the map is the same everywhere."""
        return self.placement.point(self.map) if float(np.ptp(self.map)) > 0 else None

    @property
    def points_inside(self) -> bool | None:
        """Whether that lies in a box; None where there is no box, or no such place."""
        point = self.point
        return regions.inside(self.boxes, point) if len(self.boxes) and point is not None else None

    @property
    def words(self) -> str:
        """What the panel shows, for who cannot see it."""
        pointed = {True: "the map is highest inside", False: "the map is highest outside", None: ""}[self.points_inside]
        said = f"Film {self.image_id} and the map of {self.label} over it. Score {self.score:.2f}, {self.truth}."
        count = len(self.boxes)
        if pointed:
            said += f" {count} box{'es' * (count != 1)} of the finding; {pointed} {'it' if count == 1 else 'them'}."
        return said


def draw(panel: Panel) -> Image:
    """Return the panel as a picture: the film at the left, the film under the map at the right."""
    from PIL import Image, ImageDraw, ImageFont

    film = _grey(panel.film)
    picture = Image.new("RGB", (2 * SIDE + _GAP, _HEAD + SIDE + _FOOT), _PAPER)
    picture.paste(Image.fromarray(film), (0, _HEAD))
    picture.paste(Image.fromarray(_overlaid(film, panel)), (SIDE + _GAP, _HEAD))
    pen = ImageDraw.Draw(picture)
    pen.text((2, 6), panel.label, fill=_INK, font=ImageFont.load_default(22))
    small = ImageFont.load_default(15)
    pen.text((2, 35), _printable(panel.image_id), fill=_MUTED, font=small)
    score = f"score {panel.score:.2f}"
    width = pen.textlength(score, font=ImageFont.load_default(22))
    pen.text((2 * SIDE + _GAP - 2 - width, 6), score, fill=_INK, font=ImageFont.load_default(22))
    width = pen.textlength(panel.truth, font=small)
    pen.text((2 * SIDE + _GAP - 2 - width, 35), panel.truth, fill=_MUTED, font=small)
    for left in (0, SIDE + _GAP):
        _draw_boxes(pen, panel.boxes, left)
    if panel.point is not None:
        _draw_cross(pen, panel.point, SIDE + _GAP)
    _draw_scale(picture, pen, small)
    if panel.alone and panel.placement.cuts:
        pen.text((2, _HEAD + SIDE + 6), "Right, darker margin: not seen by the network", fill=_MUTED, font=small)
    return picture


def _grey(film: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the film at the panel's size, (SIDE, SIDE, 3)."""
    import cv2

    way = cv2.INTER_AREA if len(film) > SIDE else cv2.INTER_CUBIC
    return np.repeat(cv2.resize(film, (SIDE, SIDE), interpolation=way)[:, :, None], 3, axis=2)


def _overlaid(film: NDArray[np.uint8], panel: Panel) -> NDArray[np.uint8]:
    """Return the film with the map over it: the higher, the less is seen of the film; darker where nothing was seen."""
    import cv2

    on_film = panel.placement.to_film(panel.map)
    outside = cv2.resize(np.isnan(on_film).astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_AREA)[..., None]
    scaled = cv2.resize(regions.scaled(on_film), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    share = np.asarray(scaled, np.float64) / regions.TOP
    weight = (0.75 * share)[..., None]
    mixed: NDArray[np.float64] = (1 - weight) * film * (1 - 0.45 * outside) + weight * _coloured(share)
    clipped: NDArray[np.uint8] = np.clip(mixed, 0, 255).astype(np.uint8)
    return clipped


def _coloured(share: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Return colours from dark violet (0) by orange to light yellow (1), evenly rising in lightness."""
    import cv2

    levels = np.clip(share * 255, 0, 255).astype(np.uint8)
    blue_first: NDArray[np.uint8] = np.asarray(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), np.uint8)
    return blue_first[..., ::-1]


def _draw_boxes(pen: Any, boxes: NDArray[np.float64], left: int) -> None:
    for x, y, width, height in boxes * (SIDE / IMAGE_SIZE):
        corners = [left + x, _HEAD + y, left + x + width, _HEAD + y + height]
        corners = [min(max(side, low), high) for side, low, high in zip(
            corners, (left, _HEAD) * 2, (left + SIDE - 1, _HEAD + SIDE - 1) * 2, strict=True
        )]  # fmt: skip
        pen.rectangle(corners, outline=_BOX, width=2)


def _draw_cross(pen: Any, point: tuple[float, float], left: int) -> None:
    x, y = left + point[0] * SIDE / IMAGE_SIZE, _HEAD + point[1] * SIDE / IMAGE_SIZE
    for width, colour in ((4, (0, 0, 0)), (2, _CROSS)):
        pen.line([x - 7, y, x + 7, y], fill=colour, width=width)
        pen.line([x, y - 7, x, y + 7], fill=colour, width=width)


def _draw_scale(picture: Image, pen: Any, font: Any) -> None:
    """Draw what the colours mean below the map."""
    from PIL import Image

    left, top = SIDE + _GAP, _HEAD + SIDE + 9
    bar = _coloured(np.tile(np.linspace(0, 1, 150), (10, 1)))
    picture.paste(Image.fromarray(np.ascontiguousarray(bar)), (left, top + 2))
    pen.text((left + 158, top - 3), "lowest to highest of this map; cross: highest place", fill=_MUTED, font=font)


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)[:60]
