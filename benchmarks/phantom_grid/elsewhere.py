"""The task that the grid's weights are made on: another phantom cohort, with labels that are not the 14 pathologies.

    cxrkit prepare --dataset benchmarks.phantom_grid.elsewhere:read --raw DIR --data SHARDS

ImageNet gives a network edges, textures and shapes, and none of the words of a radiograph's report. Here the network
learns whose film it is (sex, view, age) and in which of nine zones something lies, never what it is.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from cxrkit.base.contracts import IMAGE_SIZE, PIXEL_SCHEMA, Records, record_schema
from cxrkit.base.labels import LabelSet
from cxrkit.datasets.phantom import cohort

ZONES = 3  # along each side of the film
_ZONE_NAMES = tuple(f"Zone {row}{column}" for row in range(ZONES) for column in range(ZONES))
_PERSON = ("Man", "Portable", "Above 50")
WHOSE_AND_WHERE = LabelSet(
    name="benchmarks.phantom_grid.elsewhere:WHOSE_AND_WHERE",
    labels=(*_PERSON, *_ZONE_NAMES),
    averaged=(*_PERSON, *_ZONE_NAMES),
)


def read(raw: Path, *, allow_missing: bool = False) -> Records:
    """Return a synthetic cohort's records with WHOSE_AND_WHERE in place of its findings. Raises UserError."""
    records = cohort.read(raw, allow_missing=allow_missing)
    assert records.boxes is not None, "`cxrkit synth` writes a box for each finding"
    side = IMAGE_SIZE / ZONES
    row = ((pl.col("y") + pl.col("height") / 2) / side).cast(pl.Int32)
    column = ((pl.col("x") + pl.col("width") / 2) / side).cast(pl.Int32)
    zones = records.boxes.select("image_id", zone=pl.format("Zone {}{}", row, column))
    occupied = zones.group_by("image_id").agg(pl.col("zone"))
    frame = records.frame.join(occupied, on="image_id", how="left").with_columns(
        (pl.col("sex") == "M").alias("Man"),
        (pl.col("view") == "AP").alias("Portable"),
        (pl.col("age_years") > 50).alias("Above 50"),
        *(pl.col("zone").list.contains(name).fill_null(value=False).alias(name) for name in _ZONE_NAMES),
    )
    columns = {**record_schema(WHOSE_AND_WHERE), **PIXEL_SCHEMA}
    frame = frame.select(pl.col(name).cast(kind) for name, kind in columns.items()).sort("image_id")
    return Records("benchmarks.phantom_grid.elsewhere:read", frame, "synthetic", labels=WHOSE_AND_WHERE)
