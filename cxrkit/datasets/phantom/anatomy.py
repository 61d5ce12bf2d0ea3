"""The phantom's anatomy: what a patient looks like on the day of a film, as numbers and outlines.

Lengths and coordinates are fractions of the film's side (about 38 cm); image left is the patient's right.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cxrkit.base.contracts import PATHOLOGIES
from cxrkit.datasets.phantom.canvas import Array, fill, spline, stroke

PATIENT, FILM, SIGN, COHORT, RENUMBERED = range(5)  # purposes of a random stream


@dataclass(frozen=True)
class Film:
    """Everything one image is drawn from."""

    seed: int  # of the cohort
    index: int  # number of the film in its cohort
    patient_id: int  # anatomy follows the patient
    age_years: int  # on the day of the film
    sex: str  # M or F
    view: str  # PA or AP
    findings: tuple[str, ...]  # labels, in the order of the label set


@dataclass(frozen=True)
class Anatomy:
    """A patient on the day of the film. Lengths are fractions of the film's side."""

    centre: float  # x of the spine
    half_width: float  # of the rib cage at its widest
    apex: float  # y of the lung tops
    dome: float  # y of the right diaphragm's top
    recess: float  # y of the costophrenic angles
    flat: float  # 1 for a normal dome, 0 for a flat one
    heart_ratio: float  # heart width / chest width (cardiothoracic ratio)
    lucency: float  # how dark the lungs are
    bulk: float  # soft tissue around the cage
    bone: float  # bone density, 1 in the young
    aorta: float  # 0 to 1, unfolding with age
    curve: float  # scoliosis
    breast: float  # 0 for none

    def cage(self, y: Array) -> Array:
        """Return the half width of the rib cage at height `y`."""
        widest = 0.62
        up = np.clip((widest - y) / (widest - self.apex), 0, 1) ** 2.3
        down = np.clip((y - widest) / 0.3, 0, 1) ** 2
        return np.asarray(self.half_width * np.sqrt(1 - up) * (1 - 0.06 * down), np.float32)

    def floor(self, v: Array, side: int) -> Array:
        """Return the height of the diaphragm at the fraction `v` from the spine (0) to the lateral wall (1)."""
        dome = self.dome + (0.022 if side > 0 else 0.0)
        drop = (self.recess - dome) * (0.35 + 0.65 * self.flat)
        rise = np.where(v > 0.42, ((v - 0.42) / 0.58) ** 2, 0.30 * ((0.42 - v) / 0.42) ** 2)
        return np.asarray(self.recess - drop + drop * rise, np.float32)


def stream(seed: int, purpose: int, number: int, part: int = 0) -> np.random.Generator:
    """Return the random stream of one purpose, independent of every other."""
    return np.random.Generator(np.random.Philox(key=[seed, purpose << 56 | number << 8 | part]))


def anatomy(film: Film) -> tuple[Anatomy, np.random.Generator]:
    """Return the patient's anatomy on the film's day, and the day's random stream."""
    patient, day = stream(film.seed, PATIENT, film.patient_id), stream(film.seed, FILM, film.index)
    build, size, heart, recess, bone, curve, bulk, aorta, breast = patient.normal(size=9).tolist()
    male, portable, age = film.sex == "M", film.view == "AP", film.age_years
    # Age and sex move bones, aorta, heart and breasts less than people differ anyway: a film tells little of either.
    growth = min(1.0, 0.72 + 0.28 * age / 17)
    breath = day.normal() * 0.012 + (0.030 if portable else 0.0)  # a supine patient breathes in less
    ratio = 0.435 + 0.020 * heart + 0.0002 * (age - 45)
    lucency, flat, wide = 1.0, 1.0, 1.0
    if "Cardiomegaly" in film.findings:
        ratio += 0.04 + 0.18 * sign_stream(film, "Cardiomegaly")[1]
    if "Emphysema" in film.findings:
        severity = sign_stream(film, "Emphysema")[1]
        lucency, flat, wide = 1.02 + 0.20 * severity, 1.0 - 0.85 * severity, 1.0 + 0.05 * severity
        breath -= 0.035 * severity
        ratio -= 0.03 * severity
    ratio *= 1.15 if portable else 1.0  # the heart lies further from the film: magnified
    half = growth * (0.325 + 0.014 * build + (0.008 if male else 0.0)) * wide
    return Anatomy(
        centre=0.5 + 0.008 * day.normal(),
        half_width=float(np.clip(half, 0.2, 0.40)),
        apex=0.135 + 0.012 * size + (1 - growth) * 0.25 + (0.02 if portable else 0.0),
        dome=0.690 + 0.012 * size - breath,
        recess=0.805 + 0.010 * recess - 0.8 * breath,
        flat=flat,
        heart_ratio=float(np.clip(ratio, 0.32, 0.78)),
        lucency=lucency * (0.90 if portable else 1.0),
        bulk=float(np.clip(1 + 0.25 * bulk, 0.5, 1.7)),
        bone=float(np.clip(0.95 - 0.002 * (age - 45) + 0.12 * bone, 0.4, 1.2)),
        aorta=float(np.clip(0.4 + 0.005 * (age - 45) + 0.3 * aorta, 0, 1)),
        curve=0.006 * curve,
        breast=float(np.clip((0.0 if male or age < 14 else 0.55) + 0.25 * bulk + 0.2 * breast, 0, 1.4)),
    ), day


def sign_stream(film: Film, label: str) -> tuple[np.random.Generator, float]:
    """Return the random stream of one finding on one film, and its severity in (0, 1)."""
    rng = stream(film.seed, SIGN, film.index, PATHOLOGIES.index(label))
    return rng, float(rng.beta(1.2, 1.4))  # as often faint as marked


def lung_outline(a: Anatomy, side: int) -> Array:
    """Return the closed outline of one lung, (points, 2): apex, lateral wall, diaphragm, mediastinum."""
    y = np.linspace(a.apex, a.recess, 40, dtype=np.float32)
    lateral = np.stack([np.maximum(a.cage(y) - 0.008, 0.052), y], axis=1)
    v = np.linspace(1, 0.13, 30, dtype=np.float32)
    base = np.stack([v * lateral[-1, 0], a.floor(v, side)], axis=1)
    inner_y = np.linspace(base[-1, 1] - 0.02, a.apex + 0.02, 20, dtype=np.float32)
    inner = np.stack([np.full(20, 0.048, np.float32), inner_y], axis=1)
    outline = np.concatenate([lateral, base, inner])
    outline[:, 0] = a.centre + side * outline[:, 0]
    return outline


def heart_outline(a: Anatomy) -> Array:
    """Return the closed outline of heart, aortic arch and great vessels, (points, 2)."""
    width = a.heart_ratio * 2 * a.half_width
    right, left, bottom, knob = 0.34 * width, 0.66 * width, a.dome + 0.055, 0.062 + 0.028 * a.aorta
    points = [
        (-0.040, 0.16), (-0.046, 0.30), (-0.052, 0.40), (-0.86 * right, bottom - 0.25), (-right, bottom - 0.14),
        (-0.80 * right, bottom - 0.01), (0.30 * left, bottom + 0.035), (0.90 * left, bottom + 0.005),
        (left, bottom - 0.055), (0.88 * left, bottom - 0.13), (0.55 * left, bottom - 0.24), (0.060, 0.405),
        (0.052, 0.365), (knob, 0.325), (knob - 0.004, 0.290), (0.046, 0.255), (0.038, 0.16),
    ]  # fmt: skip
    return spline(np.array(points, np.float32)) + np.array([a.centre, 0], np.float32)


def torso(film: Film, a: Anatomy) -> Array:
    """Return the mask of trunk, neck and arms: raised from the sides on a PA film, hanging on an AP film."""
    wall = a.half_width + 0.028 + 0.030 * a.bulk
    top = a.apex - 0.03
    half = [
        (0.085, -0.10), (0.088, top - 0.055), (0.17, top - 0.020), (0.31, top + 0.015), (0.43, top + 0.055),
        (0.485, top + 0.13), (0.47, top + 0.27), (wall + 0.015, 0.50), (wall - 0.005, 0.64), (wall, 0.78),
        (wall + 0.012, 1.15),
    ]  # fmt: skip
    outline = [(a.centre + x, y) for x, y in half] + [(a.centre - x, y) for x, y in reversed(half)]
    return np.maximum(fill(spline(np.array(outline, np.float32)), 1.5), stroke(arms(film, a), 0.115, 1.0))


def arms(film: Film, a: Anatomy) -> list[Array]:
    """Return the axes of both upper arms."""
    end = (0.64, 0.80) if film.view == "PA" else (0.54, 1.15)
    start = (0.435, a.apex + 0.075)
    return [np.array([(a.centre + side * x, y) for x, y in (start, end)], np.float32) for side in (-1, 1)]


def cage_outline(a: Anatomy) -> Array:
    """Return the closed outline of the rib cage, (points, 2)."""
    y = np.linspace(a.apex, 0.95, 40, dtype=np.float32)
    half = np.maximum(a.cage(y), 0.08) + 0.004
    right = np.stack([a.centre - half, y], axis=1)
    left = np.stack([a.centre + half, y], axis=1)
    return np.concatenate([right, left[::-1]])


def rib_cage(a: Anatomy, side: int, slope: float, lift: float, portable: bool) -> tuple[list[Array], list[Array]]:
    """Return the centre lines of one side's posterior and anterior ribs."""
    t = np.linspace(0, 1, 24, dtype=np.float32)
    posterior, anterior = [], []
    steep = (1 + 0.12 * slope) * (0.80 if portable else 1.0)
    for rib in range(10):
        start = a.apex + 0.018 + rib * (a.recess - a.apex) * 0.096
        fall = (0.060 + 0.014 * rib) * steep
        y_rib = start - (0.020 + 0.003 * lift) * np.sin(np.pi * np.minimum(1, 1.5 * t)) + fall * t**1.7
        reach = np.maximum(a.cage(y_rib[-1:] + 0.01), 0.09)
        posterior.append(np.stack([a.centre + side * (0.03 + (reach - 0.03) * np.sin(t * np.pi / 2)), y_rib], 1))
        if rib < 7:
            dip, end = (0.08 + 0.010 * rib) * steep, reach * (0.36 + 0.02 * rib)
            x_front = reach - (reach - end) * t**1.35
            anterior.append(np.stack([a.centre + side * x_front, y_rib[-1] + dip * np.sin(t * np.pi / 2)], 1))
    return posterior, anterior
