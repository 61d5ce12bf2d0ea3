"""What a model is told and asked besides the image: labels, and age, sex and view. numpy and polars only."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cxrkit.contracts import LABELS

# The 2017 release lists 16 impossible ages, up to 414 years; v2020 lists none of 100 or more.
OLDEST_YEARS = 99


def targets(index: pl.DataFrame) -> NDArray[np.float32]:
    """Return the labels of every row: (N, 15) float32 of 0 and 1, in the order of contracts.LABELS."""
    return np.ascontiguousarray(index.select(LABELS).to_numpy(), dtype=np.float32)


def age_range(age_years: pl.Series) -> tuple[float, float]:
    """Return the lowest and highest age of the training rows, in years, to scale ages with.

    Ages of 100 and more count as 99: one mistyped age would otherwise squash everybody else's.
    """
    ages = age_years.drop_nulls().clip(0, OLDEST_YEARS)
    if ages.is_empty():
        return 0.0, float(OLDEST_YEARS)
    return float(ages.min()), float(ages.max())  # type: ignore[arg-type]


def metadata(index: pl.DataFrame, ages: tuple[float, float]) -> NDArray[np.float32]:
    """Return (N, 3) float32: age scaled from `ages` to [0, 1], sex (M = 1), view (AP = 1).

    ages: the training rows' `age_range`. Ages outside it are clipped to 0 or 1.
    """
    low, high = ages
    age = (index["age_years"].to_numpy().astype(np.float64) - low) / max(high - low, 1.0)
    sex, view = (index["sex"] == "M").to_numpy(), (index["view"] == "AP").to_numpy()
    return np.stack([np.clip(age, 0, 1), sex, view], axis=1).astype(np.float32)
