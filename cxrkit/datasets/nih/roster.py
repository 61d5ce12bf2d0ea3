"""Which images ChestX-ray14 has, whose they are, and which list NIH put them in: known without any download.

`data_manifests/nih_chestxray14_patients.txt` says how many images each patient has; their names follow. That is all
that splits need, so they can be made, exported and audited with no data at hand.
"""

from __future__ import annotations

from functools import cache

import polars as pl

from cxrkit.base import manifests

FILE = "nih_chestxray14_patients.txt"
_IN_TEST = "t"


@cache
def read() -> pl.DataFrame:
    """Return image_id, patient_id and official ("train_val", "test") of all 112,120 images, sorted by image_id."""
    text = (manifests.folder() / FILE).read_text(encoding="utf-8")
    words = " ".join(line for line in text.splitlines() if not line.startswith("#")).split()
    patients = pl.DataFrame({"word": words}).select(
        number=pl.int_range(1, pl.len() + 1),
        images=pl.col("word").str.strip_suffix(_IN_TEST).cast(pl.Int64),
        official=pl.when(pl.col("word").str.ends_with(_IN_TEST)).then(pl.lit("test")).otherwise(pl.lit("train_val")),
    )
    images = patients.with_columns(place=pl.int_ranges(0, pl.col("images"))).explode("place")
    patient, place = (pl.col(name).cast(pl.String).str.zfill(digits) for name, digits in (("number", 8), ("place", 3)))
    return images.select(
        image_id=pl.concat_str(patient, pl.lit("_"), place, pl.lit(".png")),
        patient_id=pl.col("number").cast(pl.String),
        official=pl.col("official"),
    )
