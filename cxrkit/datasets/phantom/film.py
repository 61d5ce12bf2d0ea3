"""Draw one phantom chest film: a frontal radiograph of nobody, with the findings it is asked for.

The film is composed as a map of X-ray attenuation (bone and fluid high, lung low) on a 512 x 512 canvas in
patient coordinates, sent through a film curve, and warped to 1024 x 1024 with the patient's tilt, then grained.
Attenuation is in units of the display range; lengths are fractions of the film's side (one side is about 38 cm).
Image left is the patient's right.

A film is a pure function of its `Film`: all randomness is Philox keyed by seed, purpose and number, so neither the
order of drawing nor the number of workers matters, and leaving one finding out changes nothing but its sign.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from cxrkit.base.contracts import IMAGE_SIZE, PATHOLOGIES
from cxrkit.datasets.phantom import signs
from cxrkit.datasets.phantom.anatomy import (
    PATIENT,
    Anatomy,
    Film,
    anatomy,
    arms,
    cage_outline,
    heart_outline,
    lung_outline,
    rib_cage,
    sign_stream,
    stream,
    torso,
)
from cxrkit.datasets.phantom.canvas import (
    CANVAS,
    Array,
    Canvas,
    blur,
    fill,
    grid,
    noise,
    softstep,
    stroke,
    tile,
    vessel_tree,
)

PHANTOM_VERSION = 3  # part of a cohort's identity: raise it whenever any pixel or label changes


@dataclass(frozen=True)
class Drawing:
    """A drawn film."""

    image: np.ndarray[Any, np.dtype[np.uint8]]
    """(1024, 1024)."""

    boxes: dict[str, tuple[float, float, float, float]]
    """label -> (x, y, width, height) in its pixels, one for each finding."""


def draw(film: Film) -> Drawing:
    """Draw a film and the box of each of its findings."""
    import cv2

    body, day = anatomy(film)
    canvas, attenuation = _chest(film, body, day)
    masks: dict[str, Array] = {}
    for label in film.findings:
        rng, severity = sign_stream(film, label)
        if label == "Cardiomegaly":
            masks[label] = canvas.heart * (grid()[1] > body.dome - 0.23)  # without the great vessels
        elif label == "Emphysema":
            masks[label] = canvas.lung
        else:
            change = signs.SIGNS[label](canvas, rng, severity)
            attenuation += change
            masks[label] = np.abs(change)
    image, matrix = _expose(film, day, canvas, attenuation)
    boxes = {label: _box(mask, matrix) for label, mask in masks.items()}
    grain = tile("grain", day.integers(IMAGE_SIZE), day.integers(IMAGE_SIZE), IMAGE_SIZE)
    strength = day.uniform(1.6, 2.6) if film.view == "PA" else day.uniform(2.2, 3.4)
    cv2.scaleAdd(grain, strength, image, image)
    return Drawing(np.clip(image, 0, 255).astype(np.uint8), boxes)


def _chest(film: Film, a: Anatomy, day: np.random.Generator) -> tuple[Canvas, Array]:
    """Return the healthy chest's masks and its attenuation."""
    x, y = grid()
    outlines = [lung_outline(a, side) for side in (-1, 1)]
    right, left = (fill(outline, 1.1) for outline in outlines)
    heart = fill(heart_outline(a), 2.2)
    lung = right + left
    vessels = _vessels(film, a) * lung * np.float32(np.clip(1 - 2 * (a.lucency - 1), 0.5, 1))
    aerated = lung * (1 - 0.88 * heart)
    body = _thickness(torso(film, a), 0.15)
    attenuation = (0.58 + 0.06 * (a.bulk - 1)) * body
    attenuation -= aerated * (0.40 * a.lucency * (0.5 + 0.5 * _thickness(lung, 0.10)))
    spine_x = np.asarray(x - a.centre - a.curve * np.sin(9 * y), np.float32)
    attenuation += 0.075 * np.exp(-np.square(np.square(spine_x / 0.068))) * softstep(y, 0.0, 0.25)
    attenuation += 0.07 * heart * body + 0.08 * blur(heart, 0.028) * body
    below = softstep(y, a.dome - 0.02, a.dome + 0.24)
    attenuation += (0.19 * body) * below * (1 - 0.9 * aerated)
    attenuation += 0.17 * vessels * (1 - 0.6 * heart)
    attenuation += _bones(film, a, spine_x) * np.minimum(1, 1.6 * body) * (1 - 0.45 * below)
    if a.breast:
        attenuation += _breasts(a, patient=stream(film.seed, PATIENT, film.patient_id, 1))
    attenuation -= 0.10 * _stomach_bubble(a, day)
    attenuation += 0.035 * noise("cloud", day) * body
    attenuation += 0.020 * noise("fine", day) * lung
    return Canvas(lung, right, left, heart, vessels, outlines, a.centre, a.dome, a.recess, a.half_width), attenuation


def _thickness(mask: Array, depth: float) -> Array:
    """Return 0 outside, rising like a rounded body's chord to 1 at `depth` inside the mask's edge."""
    import cv2

    size = CANVAS // 4
    small = cv2.resize(mask, (size, size), interpolation=cv2.INTER_AREA)
    padded = cv2.copyMakeBorder((small > 0.5).astype(np.uint8), 0, 24, 24, 24, cv2.BORDER_REPLICATE)
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, 3)[:size, 24:-24]
    chord = np.minimum(distance / (depth * size), 1)
    profile = cv2.GaussianBlur(np.sqrt(chord * (2 - chord)), (0, 0), 1.2)
    return np.asarray(cv2.resize(profile, (CANVAS, CANVAS), interpolation=cv2.INTER_LINEAR) * mask, np.float32)


def _vessels(film: Film, a: Anatomy) -> Array:
    """Return the pulmonary vessels of both lungs, 0 to 1, from the bank of trees fitted to this chest."""
    import cv2

    patient = stream(film.seed, PATIENT, film.patient_id, 2)
    total = np.zeros((CANVAS, CANVAS), np.float32)
    for side in (-1, 1):
        sx, sy = side * a.half_width / 0.335, (a.recess - a.apex) / 0.67
        hilum_y = a.apex + 0.46 * (a.recess - a.apex) + (0.0 if side < 0 else -0.012)
        # The bank's trees grow to the right from a hilum at (0.15, 0.5) of the canvas.
        shift = CANVAS * (a.centre + side * 0.070 - 0.15 * sx), CANVAS * (hilum_y - 0.5 * sy)
        matrix = np.array([[sx, 0, shift[0]], [0, sy, shift[1]]], np.float32)
        total += cv2.warpAffine(vessel_tree(int(patient.integers(6))), matrix, (CANVAS, CANVAS))
    return np.minimum(total, 1, out=total)


def _bones(film: Film, a: Anatomy, spine_x: Array) -> Array:
    """Return the attenuation of ribs, clavicles, scapulae and vertebrae."""
    _, y = grid()
    patient = stream(film.seed, PATIENT, film.patient_id, 3)
    slope, lift, clavicle = patient.normal(size=3).tolist()
    portable = film.view == "AP"
    t = np.linspace(0, 1, 24, dtype=np.float32)
    posterior, anterior, girdle = [], [], [*arms(film, a)]
    for side in (-1, 1):
        back, front = rib_cage(a, side, slope, lift, portable)
        posterior += back
        anterior += front
        tip = a.apex + (0.045 if portable else 0.065) + 0.008 * clavicle
        x_c = a.centre + side * (0.032 + 0.33 * t)
        girdle.append(np.stack([x_c, tip - (0.045 if portable else 0.065) * t + 0.014 * np.sin(2 * np.pi * t)], 1))
        blade = a.centre + side * (a.half_width + (-0.050 if portable else 0.012))
        girdle.append(np.stack([blade + side * (0.075 * (1 - t) ** 1.5), a.apex + 0.085 + 0.27 * t], 1))
    heads = [np.array([(a.centre + side * 0.432, a.apex + 0.068)] * 2, np.float32) for side in (-1, 1)]
    ribs = stroke(posterior, 0.019, 0.62) + np.float32(0.50) * stroke(anterior, 0.022, 0.50)
    girdle_shade = np.maximum(stroke(girdle, 0.024, 0.70), 0.55 * stroke(heads, 0.085, 0.85))
    body_of = 0.66 + 0.34 * np.tanh(3 * np.sin(2 * np.pi * (y - a.apex) / 0.058) + 1)
    square = np.square(spine_x / 0.037)
    vertebrae = np.exp(-square * square * square) * (body_of * softstep(y, -0.05, 0.1))
    windpipe = (1 - softstep(y, 0.34, 0.41)) * softstep(y, 0.0, 0.06)
    trachea = np.exp(-np.square(np.square(spine_x / 0.018))) * windpipe
    inside = fill(cage_outline(a), 1.0)
    bones = 0.105 * ribs * (0.2 + 0.8 * inside) + 0.13 * girdle_shade + 0.105 * vertebrae
    return np.asarray(a.bone * bones - 0.085 * trachea, np.float32)


def _breasts(a: Anatomy, patient: np.random.Generator) -> Array:
    """Return the soft shadows of both breasts, sharpest at their lower edge."""
    size = 0.095 + 0.035 * a.breast + 0.008 * patient.normal()
    drop = 0.62 + 0.03 * a.breast + 0.01 * patient.normal()
    total = np.zeros((CANVAS, CANVAS), np.float32)
    x, y = grid()
    for side in (-1, 1):
        dx = (x - a.centre - side * (a.half_width * 0.60)) / (1.25 * size)
        dy = (y - drop) / size
        inside = np.clip(1 - dx**2 - np.where(dy > 0, dy, 0.75 * dy) ** 2, 0, 1)
        total += np.sqrt(inside) * (0.55 + 0.45 * softstep(dy, -1.0, 0.8))
    return np.asarray(0.15 * a.breast * blur(total, 0.004), np.float32)


def _stomach_bubble(a: Anatomy, day: np.random.Generator) -> Array:
    if day.random() > 0.6:
        return np.zeros((CANVAS, CANVAS), np.float32)
    x, y = grid()
    width, height = day.uniform(0.04, 0.09), day.uniform(0.02, 0.04)
    dx = (x - a.centre - day.uniform(0.12, 0.2)) / width
    dy = (y - a.dome - 0.045 - height) / height
    return np.asarray(1 - softstep(dx**2 + dy**2, 0.7, 1.1), np.float32)


def _expose(film: Film, day: np.random.Generator, canvas: Canvas, attenuation: Array) -> tuple[Array, Array]:
    """Return the film as (1024, 1024) float32 of 0 to 255, and the 2x3 matrix from canvas to film pixels."""
    import cv2

    portable = film.view == "AP"
    if portable and day.random() < 0.7:
        attenuation += _leads(canvas, day)
    if portable:
        attenuation = blur(attenuation, 0.0016)
    level, contrast = 0.47 + day.normal(0, 0.035), (4.6 if portable else 5.2) * float(np.exp(day.normal(0, 0.08)))
    density = 1 / (1 + np.exp(np.float32(-contrast) * (attenuation - np.float32(level))))
    shown = np.asarray(np.clip(density * 285 - 30, 0, 252), np.float32)
    _marker(shown, day)
    scale = IMAGE_SIZE / CANVAS * (1 + day.normal(0, 0.018))
    tilt, centre = np.deg2rad(day.normal(0, 2.2 if portable else 1.2)), CANVAS * np.array([0.5, 0.5])
    shift = day.normal(0, 0.012 if portable else 0.006, 2)
    turn = scale * np.array([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]])
    offset = IMAGE_SIZE * (0.5 + shift) - turn @ centre
    matrix = np.concatenate([turn, offset[:, None]], axis=1).astype(np.float32)
    size = (IMAGE_SIZE, IMAGE_SIZE)
    warped = cv2.warpAffine(shown, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    image = np.asarray(warped, np.float32)
    _collimate(image, day)
    return image, matrix


def _marker(shown: Array, day: np.random.Generator) -> None:
    """Put the lead letter L in the upper corner, on every film alike: it says nothing about view or findings."""
    corner = np.array([day.uniform(0.87, 0.94), day.uniform(0.06, 0.11)])
    letter = corner + day.uniform(0.7, 1.0) * np.array([[0, -0.035], [0, 0], [0.022, 0]])
    np.maximum(shown, 235 * stroke([letter.astype(np.float32)], 0.006, 1.0), out=shown)


def _leads(canvas: Canvas, day: np.random.Generator) -> Array:
    """Return one to three monitor leads lying on the chest: thin wires that end in a disc."""
    lines, discs = [], []
    for _ in range(int(day.integers(1, 4))):
        end = np.array([canvas.centre + day.uniform(-0.28, 0.28), day.uniform(0.25, 0.6)])
        start = np.array([day.uniform(0.2, 0.8), 1.05])
        bend = (start + end) / 2 + day.normal(0, 0.12, 2)
        t = np.linspace(0, 1, 30)[:, None]
        lines.append(((1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * end).astype(np.float32))
        discs.append(np.stack([end, end + 0.001]).astype(np.float32))
    return np.asarray(0.16 * np.maximum(stroke(lines, 0.003, 1.0), stroke(discs, 0.022, 0.6)), np.float32)


def _collimate(image: Array, day: np.random.Generator) -> None:
    """Blacken what the shutters cover: often a few pixels, sometimes a wide strip."""
    widths = (IMAGE_SIZE * np.abs(day.normal(0, 0.012, 4))).astype(int)
    for axis_slice in (np.s_[: widths[0]], np.s_[IMAGE_SIZE - widths[1] :]):
        image[axis_slice] = 3
    image[:, : widths[2]] = 3
    image[:, IMAGE_SIZE - widths[3] :] = 3


def _box(mask: Array, matrix: Array) -> tuple[float, float, float, float]:
    """Return the rectangle on the film around what the mask shows at a fifth of its peak, cut at the film's edge."""
    shown = mask > 0.2 * mask.max()
    rows = np.flatnonzero(shown.any(axis=1))
    ends = shown[rows].argmax(axis=1), CANVAS - 1 - shown[rows, ::-1].argmax(axis=1)
    points = np.concatenate([np.stack([columns, rows], axis=1) for columns in ends])  # hold every extreme point
    moved = points @ matrix[:, :2].T + matrix[:, 2]
    low = np.clip(moved.min(axis=0), 0, IMAGE_SIZE - 2)
    high = np.clip(moved.max(axis=0) + 2, low + 1, IMAGE_SIZE)  # a canvas pixel is two film pixels wide
    return float(low[0]), float(low[1]), float(high[0] - low[0]), float(high[1] - low[1])


@lru_cache(maxsize=1)
def warm_up() -> None:
    """Build the textures every film shares (about a second), before threads ask for them all at once."""
    draw(Film(0, 0, 1, 50, "F", "PA", tuple(PATHOLOGIES)))
