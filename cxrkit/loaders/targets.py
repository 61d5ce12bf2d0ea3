"""What a model is told and asked besides the image: labels, and age, sex and view. numpy and polars only."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cxrkit.base.derived import OLDEST_YEARS, with_labels
from cxrkit.base.labels import CHESTXRAY14, LabelSet

NEUTRAL = 0.5  # stands for an age, a sex or a view that is not known: half way between the values that are


def targets(records: pl.DataFrame, labels: LabelSet = CHESTXRAY14) -> NDArray[np.float32]:
    """Return (N, L) float32, in the order of `labels`: 1 has the label, 0 has not, NaN (null) not known.

    Of labels with a unit it is the amount: years of age.
    """
    known = with_labels(records, labels).select(pl.col(labels.labels).cast(pl.Float32).fill_null(float("nan")))
    return np.array(known.to_numpy(), dtype=np.float32, order="C")  # a copy: polars lends a single column read-only


def prevalence(target_NL: NDArray[np.float32]) -> list[float]:
    """Return for each label the share of images that have it, of those of which it is known; 0 where it never is."""
    known_L = (~np.isnan(target_NL)).sum(axis=0)
    return [float(share) for share in np.nansum(target_NL, axis=0) / np.maximum(known_L, 1)]


def age_range(age_years: pl.Series) -> tuple[float, float]:
    """Return the lowest and highest age of the training rows, in years, to scale ages with.

    Ages of 100 and more count as 99: one mistyped age would otherwise squash everybody else's.
    """
    ages = age_years.drop_nulls().clip(0, OLDEST_YEARS)
    if ages.is_empty():
        return 0.0, float(OLDEST_YEARS)
    return float(ages.min()), float(ages.max())  # type: ignore[arg-type]


def metadata(records: pl.DataFrame, ages: tuple[float, float]) -> NDArray[np.float32]:
    """Return (N, 3) float32: age scaled from `ages` to [0, 1], sex (M = 1, F = 0), view (AP = 1, PA = 0).

    ages: the training rows' `age_range`. Ages outside it are clipped to 0 or 1. What is null, and a sex or view of
    another name, is NEUTRAL.
    """
    low, high = ages
    age = (records["age_years"].cast(pl.Float64) - low) / max(high - low, 1.0)
    columns = [
        age.clip(0, 1),
        records["sex"].replace_strict({"M": 1.0, "F": 0.0}, default=None, return_dtype=pl.Float64),
        records["view"].replace_strict({"AP": 1.0, "PA": 0.0}, default=None, return_dtype=pl.Float64),
    ]
    return np.stack([column.fill_null(NEUTRAL).to_numpy() for column in columns], axis=1).astype(np.float32)
