"""Whether a picture is laid out as the training films are: drawn films, real ones, and what is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cxrkit.films import looks
from cxrkit.films.film import Film
from cxrkit.films.layout import AGREES, kept, layout_of
from cxrkit.films.said import Said
from cxrkit.sources.dicom import Header

SIDE = 128
RNG = np.random.default_rng(0)


def drawn(seed: int, side: int = SIDE) -> NDArray[np.uint8]:
    """Return a bright middle and dark lungs, a little elsewhere for each seed."""
    x0, y0, wide = np.random.default_rng(seed).normal((0, 0, 0.3), 0.02)
    y, x = np.mgrid[:side, :side] / side - 0.5
    body = 190 * np.exp(-(((x - x0) / 0.45) ** 4)) * (y > -0.4 + y0)
    lungs = sum(120 * np.exp(-(((x - x0 - at) / 0.12) ** 2) - ((y - y0) / wide) ** 2) for at in (-0.22, 0.2))
    return np.clip(body - lungs + 10, 0, 255).astype(np.uint8)


def verdict(image: NDArray[np.uint8], seen: looks.Seen, **header: object) -> str:
    film = Film("film", Path("film"), np.ascontiguousarray(image), 2048, 2048, Header(**header))  # type: ignore[arg-type]
    return looks.look(film, Said(), seen).verdict


@pytest.fixture(scope="module")
def seen() -> looks.Seen:
    return looks.seen_of([drawn(seed) for seed in range(20)], SIDE, (0, 95), None)


NOISE = RNG.integers(0, 256, (SIDE, SIDE), np.uint8)
DISC = np.where(np.hypot(*(np.mgrid[:SIDE, :SIDE] / SIDE - 0.2)) < 0.3, 230, 20).astype(np.uint8)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (drawn(99), ""),
        (np.rot90(drawn(99)), "probably not upright: turned by 90 degrees to the right it agrees with the mean"),
        (np.rot90(drawn(99), 3), "probably not upright: turned by 90 degrees to the left it agrees"),
        (np.rot90(drawn(99), 2), "probably not upright: turned by 180 degrees it agrees with"),
        (255 - drawn(99), "probably inverted: with black and white exchanged it agrees with the mean training film by"),
        (NOISE, "probably not a frontal chest film: as fine as noise or print ("),
        (DISC, "probably not a frontal chest film: agrees with the mean training film by "),
        (np.full((SIDE, SIDE), 90, np.uint8), "probably not a frontal chest film: nearly the same gray everywhere"),
    ],
)
def test_the_verdict(seen: looks.Seen, image: NDArray[np.uint8], expected: str) -> None:
    found = verdict(image, seen)
    assert found.startswith(expected)
    assert bool(found) == bool(expected)


def test_the_header_counts_first(seen: looks.Seen) -> None:
    assert verdict(drawn(99), seen, lateral="ViewPosition LL") == (
        "probably not a frontal chest film: its header says ViewPosition LL"
    )


def test_agreement_is_the_correlation_with_the_mean(seen: looks.Seen) -> None:
    layout = layout_of([drawn(seed, 64) for seed in range(20)])
    assert layout is not None
    mean = np.mean([(film - film.mean()) / film.std() for film in (drawn(seed, 64) for seed in range(20))], axis=0)
    expected = np.corrcoef(mean.ravel(), drawn(50, 64).ravel())[0, 1]
    assert layout.agreement(drawn(50, 64)) == pytest.approx(expected)
    assert layout.agreement(np.zeros((64, 64), np.uint8)) == 0
    assert layout.agrees == AGREES


def test_training_films_that_differ_among_each_other_lower_the_bound() -> None:
    noise = [RNG.integers(0, 256, (64, 64), np.uint8) for _ in range(40)]
    layout = layout_of(noise)
    assert layout is not None
    assert layout.agrees < 0.05, "these agree with their mean no more than with nothing"
    assert layout_of(noise[:15]) is None
    assert verdict(DISC, looks.seen_of(noise[:15], 64, (0, 95), None)) == ""


def test_noise_keeps_the_share_that_averaging_leaves() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (512, 512), np.uint8)
    assert kept(noise) == pytest.approx(1 / 8, rel=0.05)  # means of 64 independent pixels
    assert kept(np.zeros((64, 64), np.uint8)) == 1


def test_real_films_are_films_and_turned_they_are_not(nih_raw: Path) -> None:
    """Those of one half are looked at by what the other half has in common; 00019534_000 is a child in a corner."""
    import cv2

    files = sorted((nih_raw / "images").glob("*.png"))[::4]
    films = {
        file.stem: cv2.resize(cv2.imread(str(file), cv2.IMREAD_GRAYSCALE), (256, 256), interpolation=cv2.INTER_AREA)
        for file in files
    }
    names = list(films)
    known = looks.seen_of([films[name] for name in names[::2]], 256, (0, 95), None)
    asked = [films[name] for name in names[1::2]]
    assert sum(bool(verdict(film, known)) for film in asked) <= 1
    for turn in (lambda film: np.rot90(film), lambda film: np.rot90(film, 2), lambda film: 255 - film):
        assert sum(bool(verdict(turn(film), known)) for film in asked) >= len(asked) - 1
