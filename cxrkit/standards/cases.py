"""Who is in a partition of a split: women and men, ages, views and findings, counted on the labels of the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from cxrkit.base.labels import LabelSet


@dataclass(frozen=True)
class Cases:
    """Who is in a partition: counted on the labels that the run was scored with."""

    female: int
    """Images of women."""

    male: int
    """Images of men."""

    age_years: tuple[float, float, float] | None
    """Median and quartiles of the age over images (lower quartile, median, upper quartile); None: no age is known."""

    views: Mapping[str, int]
    """Images by view position."""

    positives: Mapping[str, int]
    """Images that have a label, by label."""

    unknown: Mapping[str, int]
    """Images of which it is not known, by age_years, sex, view and label; what is always known is left out."""


def metadata_of(table: pl.DataFrame) -> pl.DataFrame:
    """Return image_id with age, sex and view; null where the table does not have them."""
    kinds = {"age_years": pl.Float64(), "sex": pl.String(), "view": pl.String()}
    columns = [
        pl.col(name).cast(kind).alias(f"its_{name}")
        if name in table.columns
        else pl.lit(None, kind).alias(f"its_{name}")
        for name, kind in kinds.items()
    ]
    return table.select(pl.col("image_id").cast(pl.String), *columns)


def count_cases(table: pl.DataFrame, labels: LabelSet) -> Cases:
    """Return who is among these images. table: image_id, the labels, and what `with_metadata` adds."""
    age = table["its_age_years"]
    quartiles = tuple(age.quantile(share, "linear") for share in (0.25, 0.5, 0.75))
    views = table["its_view"].drop_nulls().value_counts().sort("its_view")
    by_name = {"age_years": "its_age_years", "sex": "its_sex", "view": "its_view"}
    by_name |= {label: label for label in labels.labels}
    return Cases(
        female=int((table["its_sex"] == "F").sum()),
        male=int((table["its_sex"] == "M").sum()),
        age_years=None if age.null_count() == len(age) else quartiles,  # type: ignore[arg-type]
        views=dict(views.iter_rows()),
        positives={} if labels.unit else {label: int(table[label].sum()) for label in labels.labels},
        unknown={name: count for name, column in by_name.items() if (count := table[column].null_count())},
    )
