"""What a network has never seen: a verdict on what is probably no frontal film, warnings of what no training film was.

The bounds were measured: aspect and pixel spacing over the 112,120 rows of NIH's Data_Entry_2017_v2020.csv, gray levels
over 242 of its films, which none of these tests warns of; layout.py says how many it does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxrkit.films.film import Film
from cxrkit.films.layout import INVERTED, KEEPS, Layout, kept, layout_of
from cxrkit.films.said import Said
from cxrkit.loaders.inputs import Inputs

ASPECT = (0.74, 1.37)  # width by height: all but 0.1 % of ChestX-ray14's films (0.5 % quantile 0.81, 99.5 % 1.22)
SPACING_MM = (0.115, 0.199)  # all of ChestX-ray14's
FLAT = 8.0  # gray levels of standard deviation; ChestX-ray14's films have 28 to 81
BRIGHT_CORNERS = 20.0  # gray levels that the upper corners are above the middle value; films: at most 14
_CLEARLY = 0.05  # of a correlation, that a turned film agrees more
_SAMPLED = 256  # training films, evenly spread
_CORNER = 40 / 256  # of a side


@dataclass(frozen=True)
class Seen:
    """What a network was trained on."""

    age_range: tuple[float, float]
    """Youngest and oldest training age in years."""

    spacing_mm: tuple[float, float] | None
    """Smallest and largest distance of pixels; None where the data set does not say."""

    gray: tuple[tuple[float, float], tuple[float, float]] | None
    """Lowest and highest mean, and standard deviation, of a sample of training films; None where none is at hand."""

    side: int
    """At which side in pixels these were taken."""

    layout: Layout | None = None
    """What they have in common; None where too few are at hand."""


@dataclass(frozen=True)
class Looks:
    """What should be known of a film before its scores are read."""

    verdict: str
    """What it probably is, in plain words, with the reason; "" where nothing speaks against a frontal chest film."""

    warnings: tuple[str, ...]
    """What else no training film was."""


def sampled(inputs: Inputs) -> list[NDArray[np.uint8]]:
    """Return the smallest level of up to 256 training images, evenly spread; [] where none is prepared."""
    rows = inputs.rows["train"]
    count = min(_SAMPLED, len(rows))
    level = len(inputs.store.levels) - 1
    return [inputs.store.image(int(row), level) for row in rows[np.arange(count) * len(rows) // max(1, count)]]


def seen_of(
    films: list[NDArray[np.uint8]],
    side: int,
    age_range: tuple[float, float],
    spacing_mm: tuple[float, float] | None,
) -> Seen:
    """Return what a network was trained on, by a sample of its training films of `side` pixels."""
    gray = None
    if films:
        found = np.array([_moments(film) for film in films])
        (low_mean, low_sd), (high_mean, high_sd) = found.min(axis=0), found.max(axis=0)
        gray = (float(low_mean), float(high_mean)), (float(low_sd), float(high_sd))
    return Seen(age_range, spacing_mm, gray, side, layout_of(films))


def look(film: Film, known: Said, seen: Seen) -> Looks:
    """Return the verdict on a film, and the warnings: what the one says, the others do not say again."""
    verdict = _verdict(film, seen.layout)
    header = film.header
    said = [*header.notes, *film.notes, *known.notes, *_shape(film), *_gray(film, seen)]
    if not verdict and bright_corners(film.image) > BRIGHT_CORNERS:
        said.append("perhaps inverted: bright in its upper corners, where a film is dark")
    if seen.spacing_mm and header.spacing_mm and not seen.spacing_mm[0] <= header.spacing_mm <= seen.spacing_mm[1]:
        low, high = seen.spacing_mm
        said.append(f"pixels {header.spacing_mm:.3g} mm apart; training films had {low:g} to {high:g}")
    low, high = seen.age_range
    if known.age_years is not None and not low <= known.age_years <= high:
        nearest = low if known.age_years < low else high
        said.append(f"age {known.age_years}: trained on {low:g} to {high:g}; where age counts, {nearest:g} is used")
    return Looks(verdict, tuple(said))


def _verdict(film: Film, layout: Layout | None) -> str:
    """Return what a film probably is: by its header, by how fine its pattern is, and by its layout."""
    no_film = "probably not a frontal chest film"
    if film.header.lateral:
        return f"{no_film}: its header says {film.header.lateral}"
    deviation = _moments(film.image)[1]
    if deviation < FLAT:
        return f"{no_film}: nearly the same gray everywhere (standard deviation {deviation:.1f} of 255)"
    if (left := kept(film.image)) < KEEPS:
        return f"{no_film}: as fine as noise or print ({100 * left:.0f} % of its contrast is left at 64 x 64 pixels)"
    if layout is None or (agreement := layout.agreement(film.image)) >= layout.agrees:
        return ""
    how, then = layout.otherwise(film.image)
    if then >= layout.agrees + _CLEARLY:
        what = "probably inverted" if how == INVERTED else "probably not upright"
        return f"{what}: {how} it agrees with the mean training film by {then:.2f}, as it is by {agreement:.2f}"
    return f"{no_film}: agrees with the mean training film by {agreement:.2f}, expected {layout.agrees:.2f} or more"


def _shape(film: Film) -> list[str]:
    aspect, side = film.width / film.height, len(film.image)
    size = f"{film.width:,} x {film.height:,} pixels"
    said = []
    if not ASPECT[0] <= aspect <= ASPECT[1]:
        said.append(f"{size}: stretched to a square more than the films of ChestX-ray14 were")
    if min(film.width, film.height) < side:
        said.append(f"{size}: enlarged to {side:,} x {side:,}, so details are missing")
    return said


def _gray(film: Film, seen: Seen) -> list[str]:
    if seen.gray is None:
        return []
    moments = _moments(_shrunk(film.image, seen.side))
    said = []
    for word, value, (low, high) in zip(("mean", "standard deviation"), moments, seen.gray, strict=True):
        if not low <= value <= high:
            said.append(f"gray levels: {word} {value:.0f}; sampled training films had {low:.0f} to {high:.0f}")
    return said


def bright_corners(image_HW: NDArray[np.uint8]) -> float:
    """Return by how many gray levels the upper corners' median is above the whole film's."""
    corner = max(1, round(_CORNER * len(image_HW)))
    corners = np.concatenate([image_HW[:corner, :corner].ravel(), image_HW[:corner, -corner:].ravel()])
    return float(np.median(corners)) - float(np.median(image_HW))


def _moments(image_HW: NDArray[np.uint8]) -> tuple[float, float]:
    return float(image_HW.mean()), float(image_HW.std())


def _shrunk(image_HW: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    import cv2

    return np.asarray(cv2.resize(image_HW, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
