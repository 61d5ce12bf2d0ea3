"""Labels that are read from age, sex and view (LabelSet.metadata), as columns of the records."""

from __future__ import annotations

import polars as pl

from cxrkit.base.labels import LabelSet

# The 2017 release lists 16 impossible ages, up to 414 years; v2020 lists none of 100 or more. As an answer to be
# learned and measured by, such an age is not known.
OLDEST_YEARS = 99


def with_labels(records: pl.DataFrame, labels: LabelSet) -> pl.DataFrame:
    """Return the records with columns for those of `labels` that are read from metadata.

    A label of yes and no becomes Boolean, one with a unit Float32; null where the metadata does not say. Where the
    metadata itself is not there, the label's own column must be.
    """
    return records.with_columns(
        _amount(column[0]).alias(label) if labels.unit else _yes_no(*column).alias(label)
        for label, column in labels.metadata.items()
        if column[0] in records.columns
    )


def _amount(column: str) -> pl.Expr:
    value = pl.col(column).cast(pl.Float32)
    return pl.when(value.is_between(0, OLDEST_YEARS)).then(value)


def _yes_no(column: str, yes: str, no: str) -> pl.Expr:
    return pl.when(pl.col(column) == yes).then(True).when(pl.col(column) == no).then(False)
