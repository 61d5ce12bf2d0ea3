"""The visible signs of the findings: each returns what it adds to the attenuation of a healthy chest.

`severity` in (0, 1) runs from barely visible to plain. Cardiomegaly and Emphysema are not here: they change the
anatomy itself (see `phantom.anatomy`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cxrkit.datasets.phantom.canvas import CANVAS, Array, Canvas, blur, fill, grid, noise, softstep, spline, stroke

Sign = Callable[[Canvas, np.random.Generator, float], Array]


def edema(c: Canvas, rng: np.random.Generator, severity: float) -> Array:
    """Draw bat wings: haze on both sides of the hila, sparing apex and periphery."""
    x, y = grid()
    reach = 0.085 + 0.035 * severity
    total = np.zeros((CANVAS, CANVAS), np.float32)
    for side in (-1, 1):
        middle = c.centre + side * (0.135 + 0.015 * rng.normal())
        height = c.dome - 0.20 + 0.02 * rng.normal()
        total += np.exp(-(((x - middle) / reach) ** 2) - ((y - height) / (1.6 * reach)) ** 2)
    mottle = np.clip(1 + 0.30 * noise("patch", rng), 0, 2)
    return np.asarray((0.10 + 0.18 * severity) * total * c.lung * mottle, np.float32)


def hernia(c: Canvas, rng: np.random.Generator, severity: float) -> Array:
    """Draw a round pouch behind the heart: a wall, gas in its upper part, fluid below a level line."""
    x, y = grid()
    radius = 0.055 + 0.035 * severity
    cx, cy = c.centre + rng.uniform(-0.01, 0.06), c.dome - radius + rng.uniform(-0.01, 0.03)
    r = np.hypot((x - cx) / 1.15, y - cy) / radius
    wall = np.exp(-(((r - 0.94) / 0.085) ** 2))
    inside = 1 - softstep(r, 0.86, 0.98)
    gas = inside * (1 - softstep(y, cy + 0.15 * radius, cy + 0.15 * radius + 0.006))
    strength = 0.50 + 0.45 * severity
    return np.asarray(strength * (0.14 * wall - 0.22 * gas + 0.07 * (inside - gas)), np.float32)


def pneumothorax(c: Canvas, rng: np.random.Generator, severity: float) -> Array:
    """Draw air around the lung: a black crescent without vessels, widest at the apex, and the pleural line."""
    side = int(rng.choice([-1, 1]))
    outline = c.outlines[0 if side < 0 else 1]
    gap = 0.014 + 0.080 * severity
    hilum = np.array([c.centre + side * 0.05, c.dome], np.float32)
    # The collapsed lung: the outline pulled towards the hilum, most at the top.
    high = 1 - softstep(outline[:, 1], c.dome - 0.25, c.recess)
    pull = (gap * (0.25 + 0.75 * high) / 0.32)[:, None]
    lung = outline + (hilum - outline) * pull
    crescent = c.side(side) * (1 - fill(lung, 0.8)) * (1 - 0.85 * c.heart)
    x, _ = grid()
    crescent *= softstep(side * (x - c.centre), 0.055, 0.085)
    line = stroke([lung[4:44]], 0.005, 1.0) * c.side(side) * softstep(side * (x - c.centre), 0.055, 0.085)
    return np.asarray(-crescent * (0.04 + 0.08 * severity + 0.17 * c.vessels) + 0.09 * line, np.float32)


def effusion(c: Canvas, rng: np.random.Generator, severity: float) -> Array:
    """Draw fluid in the base: white up to a meniscus that climbs the lateral wall; one side or both."""
    x, y = grid()
    sides = (-1, 1) if rng.random() < 0.3 else (int(rng.choice([-1, 1])),)
    total = np.zeros((CANVAS, CANVAS), np.float32)
    for side in sides:
        v = np.clip(side * (x - c.centre) / c.half_width, 0, 1)
        height = 0.075 + 0.15 * severity * rng.uniform(0.7, 1.2)
        level = c.recess - height - (0.05 + 0.04 * severity) * v**4 + 0.03 * (1 - v)
        total += c.side(side) * softstep(y - level, -0.012, 0.03)
    return np.asarray(total * (0.30 + 0.06 * severity) * (1 - 0.6 * c.heart), np.float32)


def mass(c: Canvas, rng: np.random.Generator, severity: float) -> Array:
    """Draw a lobulated disc of more than 3 cm."""
    return _round(c, rng, radius=0.033 + 0.040 * severity, lobes=0.10, strength=0.15 + 0.12 * severity)


def nodule(c: Canvas, rng: np.random.Generator, severity: float) -> Array:
    """Draw a smooth disc of less than 3 cm."""
    return _round(c, rng, radius=0.020 + 0.018 * severity, lobes=0.05, strength=0.15 + 0.12 * severity)


def fibrosis(c: Canvas, rng: np.random.Generator, severity: float) -> Array:
    """Draw a net of fine lines at both bases and along the periphery."""
    x, y = grid()
    low = softstep(y, c.dome - 0.30 - 0.10 * severity, c.dome - 0.02)
    outer = softstep(np.abs(x - c.centre), 0.10, 0.24)
    where = c.lung * np.minimum(1, low * (0.45 + 0.75 * outer)) * (1 - 0.7 * c.heart)
    return np.asarray((0.09 + 0.16 * severity) * where * (noise("reticle", rng) + 0.15), np.float32)


def atelectasis(c: Canvas, rng: np.random.Generator, severity: float) -> Array:
    """Draw plate-like bands above the diaphragm, with the haze of a lung that lost volume."""
    side = int(rng.choice([-1, 1]))
    t = np.linspace(0, 1, 16, dtype=np.float32)
    base = c.dome - rng.uniform(0.03, 0.07)
    bands = []
    for plate in range(2 + int(severity > 0.4) + int(severity > 0.75)):
        start, length = rng.uniform(0.07, 0.13), rng.uniform(0.11, 0.18)
        y0 = base - 0.038 * plate + rng.normal(0, 0.004)
        bow, tilt = rng.normal(0, 0.010), rng.normal(0.012, 0.012)
        shape = y0 + bow * np.sin(np.pi * t) + tilt * (t - 0.5)
        bands.append(np.stack([c.centre + side * (start + length * t), shape], axis=1).astype(np.float32))
    plates = blur(stroke(bands, 0.011 + 0.006 * severity, 1.0), 0.0035)
    haze = blur(stroke(bands, 0.05, 1.0), 0.018)
    where = c.side(side) * (1 - 0.7 * c.heart)
    return np.asarray((0.17 + 0.11 * severity) * (plates + 0.35 * haze) * where, np.float32)


def consolidation(c: Canvas, rng: np.random.Generator, severity: float) -> Array:
    """Draw a dense lobar patch with one sharp border at the fissure."""
    side, patch = _patch(c, rng, size=0.095 + 0.045 * severity, low=rng.random() < 0.6)
    _, y = grid()
    weight = patch.sum()
    fissure = float((patch * y).sum() / max(weight, 1e-6)) - 0.35 * (0.095 + 0.045 * severity)
    blurred = 0.045 - 0.04 * severity  # half the width of the border at the fissure
    patch *= softstep(y, fissure - blurred, fissure + blurred)
    patch = np.minimum(1, 1.6 * patch) * (1 + 0.08 * noise("patch", rng))
    return np.asarray((0.17 + 0.15 * severity) * patch * c.side(side), np.float32)


def pleural_thickening(c: Canvas, rng: np.random.Generator, severity: float) -> Array:
    """Draw a bright, uneven band along the lateral wall or over the apex."""
    side = int(rng.choice([-1, 1]))
    outline = c.outlines[0 if side < 0 else 1][2:40]
    start = int(rng.integers(0, 10))
    wall = outline[start : start + 20 + int(8 * severity)].copy()
    knots = rng.normal(0, 1, 7)
    uneven = np.interp(np.linspace(0, 6, len(wall)), np.arange(7), knots)
    depth = (0.016 + 0.016 * severity) * np.clip(1 + 0.3 * uneven, 0.5, 1.7) * np.sin(np.linspace(0.15, 3.0, len(wall)))
    inner = wall.copy()
    inner[:, 0] -= side * depth
    inner[:, 1] += 0.35 * depth * np.linspace(1, 0, len(wall))
    outer = wall + np.array([side * 0.004, 0])
    band = fill(np.concatenate([outer, inner[::-1]]).astype(np.float32), 1.2)
    return np.asarray((0.22 + 0.12 * severity) * band * np.minimum(1, 1.3 * c.side(side)), np.float32)


def pneumonia(c: Canvas, rng: np.random.Generator, severity: float) -> Array:
    """Draw a soft patch with the dark branches of air-filled bronchi in it."""
    side, patch = _patch(c, rng, size=0.085 + 0.035 * severity, low=rng.random() < 0.7)
    bronchi = np.clip(1 - 1.1 * c.vessels, 0.1, 1)
    mottle = np.clip(1 + 0.40 * noise("patch", rng), 0.2, 2)
    return np.asarray((0.13 + 0.15 * severity) * patch * bronchi * mottle * c.side(side), np.float32)


def infiltration(c: Canvas, rng: np.random.Generator, severity: float) -> Array:
    """Draw a faint, wide, streaky opacity with no border."""
    side, patch = _patch(c, rng, size=0.105 + 0.045 * severity, low=rng.random() < 0.5)
    streaks = np.clip(0.7 + 0.25 * noise("fine", rng) + 0.5 * noise("patch", rng), 0, 2)
    return np.asarray((0.09 + 0.11 * severity) * patch * streaks * c.side(side), np.float32)


def _round(c: Canvas, rng: np.random.Generator, radius: float, lobes: float, strength: float) -> Array:
    """Return a disc with uneven outline somewhere in a lung, whole and clear of the heart where possible."""
    cx, cy, _ = _place(c, rng, margin=0.8 * radius)
    angle = np.linspace(0, 2 * np.pi, 12, endpoint=False, dtype=np.float32)
    r = radius * (1 + lobes * rng.normal(size=12).astype(np.float32))
    outline = np.stack([cx + r * np.cos(angle), cy + r * np.sin(angle)], axis=1)
    return np.asarray(strength * fill(spline(outline), 1.6) * np.minimum(1, c.lung + 0.3), np.float32)


def _patch(c: Canvas, rng: np.random.Generator, size: float, low: bool) -> tuple[int, Array]:
    """Return the side and a soft irregular patch (0 to 1) of about 2 x `size` in the lower or any lung zone."""
    cx, cy, side = _place(c, rng, margin=0.35 * size, low=low)
    x, y = grid()
    wobble = 0.22 * noise("cloud", rng)
    r = np.hypot((x - cx) / size, (y - cy) / (size * rng.uniform(0.9, 1.25))) + wobble
    return side, np.asarray(1 - softstep(r, 0.35, 1.25), np.float32)


def _place(c: Canvas, rng: np.random.Generator, margin: float, low: bool = False) -> tuple[float, float, int]:
    """Return a spot in the lungs at least `margin` from wall, heart and diaphragm, and its side."""
    import cv2

    size = CANVAS // 4
    free = cv2.resize(c.lung * (1 - c.heart), (size, size), interpolation=cv2.INTER_AREA) > 0.6
    distance = cv2.distanceTransform(free.astype(np.uint8), cv2.DIST_L2, 3)
    if low:
        distance[: int(size * (c.dome - 0.22))] = 0
    rows, columns = np.nonzero(distance >= min(margin * size, 0.9 * distance.max()))
    pick = int(rng.integers(len(rows)))
    cx, cy = (columns[pick] + 0.5) / size, (rows[pick] + 0.5) / size
    return float(cx), float(cy), 1 if cx > c.centre else -1


SIGNS: dict[str, Sign] = {
    "Edema": edema,
    "Hernia": hernia,
    "Pneumothorax": pneumothorax,
    "Effusion": effusion,
    "Mass": mass,
    "Nodule": nodule,
    "Fibrosis": fibrosis,
    "Atelectasis": atelectasis,
    "Consolidation": consolidation,
    "Pleural_Thickening": pleural_thickening,
    "Pneumonia": pneumonia,
    "Infiltration": infiltration,
}
