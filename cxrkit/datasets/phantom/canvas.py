"""The drawing board of the phantom: a 512 x 512 canvas, soft shapes on it, and textures that are made once.

Lengths and coordinates are fractions of the canvas; arrays are (512, 512) float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np

CANVAS = 512  # pixels; half the film: nothing drawn is finer than two film pixels
_SHIFT = 4  # OpenCV's sub-pixel bits

Array: TypeAlias = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True)
class Canvas:
    """A healthy chest's masks (0 to 1) and landmarks, for the signs to be drawn against."""

    lung: Array  # both lungs
    right: Array  # the patient's right lung, on the image's left
    left: Array  # the patient's left lung
    heart: Array  # with the great vessels' shadow
    vessels: Array  # of the lungs
    outlines: list[Array]  # of the right and the left lung, (points, 2)
    centre: float  # x of the spine
    dome: float  # y of the diaphragm
    recess: float  # y of the costophrenic angles
    half_width: float  # of the rib cage

    def side(self, side: int) -> Array:
        """Return the lung of side -1 (image left) or +1."""
        return self.right if side < 0 else self.left


@lru_cache(maxsize=1)
def grid() -> tuple[Array, Array]:
    """Return the pixel centres: x (1, 512) and y (512, 1), so that terms in one of them stay cheap."""
    line = (np.arange(CANVAS, dtype=np.float32) + np.float32(0.5)) / np.float32(CANVAS)
    return line[None, :], line[:, None]


def fill(outline: Array, soft_px: float) -> Array:
    """Return the mask of a closed outline (points, 2), its edge softened by `soft_px` canvas pixels."""
    import cv2

    mask = np.zeros((CANVAS, CANVAS), np.uint8)
    cv2.fillPoly(mask, [_fixed(outline)], 255, cv2.LINE_AA, _SHIFT)
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), soft_px) * np.float32(1 / 255), np.float32)


def stroke(lines: Sequence[Array], width: float, core: float) -> Array:
    """Return tubes along open lines: `core` bright inside and 1 at their walls (core 1: solid wires)."""
    import cv2

    mask = np.zeros((CANVAS, CANVAS), np.uint8)
    pixels = max(1, round(width * CANVAS))
    fixed = [_fixed(line) for line in lines]
    cv2.polylines(mask, fixed, False, 255, pixels, cv2.LINE_AA, _SHIFT)
    if core < 1 and pixels > 3:
        cv2.polylines(mask, fixed, False, int(255 * core), pixels - 3, cv2.LINE_AA, _SHIFT)
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), 0.9) * np.float32(1 / 255), np.float32)


def spline(points: Array, steps: int = 10) -> Array:
    """Return a closed Catmull-Rom curve through `points`, `steps` points a segment."""
    before, after, beyond = np.roll(points, 1, 0), np.roll(points, -1, 0), np.roll(points, -2, 0)
    t = np.linspace(0, 1, steps, endpoint=False, dtype=np.float32)[None, :, None]
    p0, p1, p2, p3 = (p[:, None, :] for p in (before, points, after, beyond))
    curve = 0.5 * (2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * p1 - p0 - 3 * p2 + p3) * t**3)
    return np.asarray(curve.reshape(-1, 2), np.float32)


def blur(image: Array, sigma: float) -> Array:
    """Return `image` blurred by a Gaussian of `sigma` (a fraction of the canvas); wide ones are blurred small."""
    import cv2

    pixels = sigma * CANVAS
    shrink = 4 if pixels > 10 else 1
    if shrink == 1:
        return np.asarray(cv2.GaussianBlur(image, (0, 0), pixels), np.float32)
    size = CANVAS // shrink
    small = cv2.GaussianBlur(cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA), (0, 0), pixels / shrink)
    return np.asarray(cv2.resize(small, (CANVAS, CANVAS), interpolation=cv2.INTER_LINEAR), np.float32)


def softstep(value: Array, low: float, high: float) -> Array:
    """Return 0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((value - np.float32(low)) / np.float32(high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def noise(kind: str, rng: np.random.Generator) -> Array:
    """Return a random window of a texture, zero mean and unit spread (reticle: 0 to 1)."""
    return tile(kind, rng.integers(CANVAS), rng.integers(CANVAS), CANVAS)


def tile(kind: str, x: Any, y: Any, size: int) -> Array:
    """Return the `size` window at (x, y) of a texture that repeats every `size` pixels."""
    return _texture(kind)[int(y) : int(y) + size, int(x) : int(x) + size]


@lru_cache(maxsize=8)
def _texture(kind: str) -> Array:
    """Return a periodic texture, tiled 2 x 2 so that every window is a view."""
    size, falloff, number = {
        "cloud": (CANVAS, 1.9, 1),  # broad unevenness
        "fine": (CANVAS, 0.9, 2),  # lung markings too small to draw
        "patch": (CANVAS, 1.4, 3),  # mottling of opacities
        "reticle": (CANVAS, 0.0, 4),  # a net of thin lines
        "grain": (2 * CANVAS, 0.35, 5),  # film grain, on the film's own pixels
    }[kind]
    rng = np.random.Generator(np.random.Philox(key=[0, number]))
    if kind == "reticle":
        # The zero lines of two band-passed noises form a net.
        net = [np.exp(-((_spectrum(rng, size, 0.0, (14, 46)) / 0.22) ** 2)) for _ in range(2)]
        image = np.maximum(*net)
    else:
        image = _spectrum(rng, size, falloff, (2, size))
    return np.asarray(np.tile(image, (2, 2)), np.float32)


def _spectrum(rng: np.random.Generator, size: int, falloff: float, band: tuple[int, int]) -> Array:
    """Return periodic noise whose amplitude falls as frequency^-falloff inside `band` (cycles per side)."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]) * size
    gain = np.where((frequency >= band[0]) & (frequency <= band[1]), np.maximum(frequency, 1) ** -falloff, 0)
    image = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(size, size))) * gain, s=(size, size))
    return np.asarray(image / image.std(), np.float32)


@lru_cache(maxsize=6)
def vessel_tree(number: int) -> Array:
    """Return one lung's vessels, growing to the right from a hilum at (0.15, 0.5) and thinning outwards."""
    import cv2

    rng = np.random.Generator(np.random.Philox(key=[1, number]))
    image = np.zeros((CANVAS, CANVAS), np.uint8)

    def grow(point: Array, angle: float, width: float, length: float) -> None:
        for _ in range(max(2, int(length / 0.022))):
            angle += rng.normal(0, 0.13)
            tip = point + 0.022 * np.array([np.cos(angle), np.sin(angle)], np.float32)
            shade = int(min(255, 60 + 30 * width))
            ends = _fixed(np.stack([point, tip]))
            cv2.line(image, ends[0], ends[1], shade, max(1, round(width)), cv2.LINE_AA, _SHIFT)
            point, width = tip, width * 0.90
            if width > 0.9 and rng.random() < 0.30:
                grow(point, angle + rng.choice([-1, 1]) * rng.uniform(0.35, 0.8), width * 0.75, length * 0.5)

    hilum = np.array([0.15, 0.5], np.float32)
    for angle in np.linspace(-1.5, 1.55, 12):
        start = hilum + rng.normal(0, 0.022, 2).astype(np.float32)
        grow(start, angle + rng.normal(0, 0.22), rng.uniform(2.6, 5.2), rng.uniform(0.18, 0.30))
    root = np.zeros_like(image)
    for _ in range(9):
        spot = hilum + np.array([rng.normal(-0.01, 0.014), rng.normal(0.01, 0.040)], np.float32)
        cv2.circle(root, tuple(int(v * CANVAS) for v in spot), int(rng.integers(6, 12)), 200, -1, cv2.LINE_AA)
    soft = 0.75 * cv2.GaussianBlur(image, (0, 0), 1.1).astype(np.float32) + 1.1 * cv2.GaussianBlur(image, (0, 0), 6)
    return np.asarray(np.minimum((soft + 0.9 * cv2.GaussianBlur(root, (0, 0), 5)) / 255, 1), np.float32)


def _fixed(points: Array) -> np.ndarray[Any, np.dtype[np.int32]]:
    return np.round(points * (CANVAS << _SHIFT)).astype(np.int32)
