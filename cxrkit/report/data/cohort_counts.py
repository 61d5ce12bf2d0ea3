"""What a data set's table counts to: images, patients, sexes, views, ages, labels, and which labels come together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cxrkit.base.labels import LabelSet

BIN_YEARS = 2  # of the histogram of ages: "each bin covers a width of two years" (Figure 3)
# Images of one patient, from one bound to below the next.
PATIENT_BOUNDS = (1, 2, 3, 5, 10, 20, 50, 100)


@dataclass(frozen=True)
class LabelCount:
    """How many images of a group have a label."""

    positive: int
    """Images that have it."""

    negative: int
    """Images that do not."""

    unknown: int
    """Images of which it is not known."""

    positive_patients: int
    """Patients of whom any image has it."""

    @property
    def prevalence(self) -> float | None:
        """Share of the images of which it is known; None where there is none."""
        known = self.positive + self.negative
        return self.positive / known if known else None


@dataclass(frozen=True)
class Counts:
    """A group of images: the data set, or a subset of a split."""

    images: int
    """How many."""

    patients: int
    """Whose they are."""

    most_images: int
    """Of one patient, in this group."""

    sex: dict[str, int]
    """Images by sex, M and F; an image whose patient's sex is not known is in neither."""

    view: dict[str, int]
    """Images by view position, PA and AP."""

    ages: int
    """Images with a known age."""

    age_mean: float | None
    """In years, over images; None without ages."""

    age_sd: float | None
    """Sample standard deviation (n - 1); None below two ages."""

    labels: dict[str, LabelCount]
    """By label, in the label set's order."""


def count(frame: pl.DataFrame, labels: LabelSet) -> Counts:
    """Return the counts of the images of `frame` (contracts.record_schema of the labels)."""
    a_patient = frame.group_by("patient_id").len("images")["images"]
    ages = frame["age_years"].drop_nulls().cast(pl.Float64).to_numpy()
    return Counts(
        images=len(frame),
        patients=len(a_patient),
        most_images=int(a_patient.to_numpy().max(initial=0)),
        sex={value: int((frame["sex"] == value).sum()) for value in ("M", "F")},
        view={value: int((frame["view"] == value).sum()) for value in ("PA", "AP")},
        ages=len(ages),
        age_mean=float(ages.mean()) if len(ages) else None,
        age_sd=float(ages.std(ddof=1)) if len(ages) > 1 else None,
        labels={label: _label(frame, label) for label in labels.labels},
    )


def _label(frame: pl.DataFrame, label: str) -> LabelCount:
    positive, unknown = int(frame[label].sum()), frame[label].null_count()
    patients = frame.filter(pl.col(label))["patient_id"].n_unique()
    return LabelCount(positive, len(frame) - positive - unknown, unknown, patients)


def together(frame: pl.DataFrame, labels: tuple[str, ...]) -> NDArray[np.int64]:
    """Return (L, L) how many images have both labels; on the diagonal, how many have the one."""
    has_NL = frame.select(pl.col(label).fill_null(False) for label in labels).to_numpy().astype(np.int64)
    return has_NL.T @ has_NL


def labels_an_image(frame: pl.DataFrame, labels: tuple[str, ...]) -> NDArray[np.int64]:
    """Return how many images have 0, 1, 2, ... of the labels; what is not known counts as not there."""
    has_NL = frame.select(pl.col(label).fill_null(False) for label in labels).to_numpy()
    return np.bincount(has_NL.sum(axis=1)).astype(np.int64)


def images_a_patient(frame: pl.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return how many patients, and how many images, there are from each of PATIENT_BOUNDS to below the next one."""
    a_patient = frame.group_by("patient_id").len("images")["images"].to_numpy().astype(np.int64)
    edges = (*PATIENT_BOUNDS, np.inf)
    return np.histogram(a_patient, edges)[0], np.histogram(a_patient, edges, weights=a_patient)[0].astype(np.int64)


def age_histogram(frame: pl.DataFrame, youngest: int, oldest: int) -> NDArray[np.int64]:
    """Return the images in each bin of BIN_YEARS years, from `youngest` to `oldest` or beyond."""
    edges = np.arange(youngest, oldest + BIN_YEARS + 1, BIN_YEARS)
    return np.histogram(frame["age_years"].drop_nulls().to_numpy(), edges)[0].astype(np.int64)
