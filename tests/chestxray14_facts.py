"""Ids, patients, lists, labels, age, sex and view of all 112,120 images of ChestX-ray14, for tests without a download.

tests/facts/chestxray14.parquet holds facts of NIH's Data_Entry_2017_v2020.csv and its two official lists, 0.45 MB.
Write it anew from a folder with those three files: python tests/chestxray14_facts.py RAW
"""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl

from cxrkit.base.contracts import RECORD_SCHEMA
from cxrkit.base.labels import CHESTXRAY14
from cxrkit.datasets.nih import tables as nih_tables

FILE = Path(__file__).parent / "facts" / "chestxray14.parquet"


def records() -> pl.DataFrame:
    """Return the data set's table (RECORD_SCHEMA), sorted by image_id."""
    return unpack(pl.read_parquet(FILE))


def read_raw(raw: Path) -> pl.DataFrame:
    """Return the same table from NIH's own files."""
    csv = nih_tables.entries_path(raw)
    return nih_tables.add_official_split(raw, csv, nih_tables.read_entries(csv))


def pack(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the table with small numbers for names: 00000001_002.png is (1, 2), the labels are bits of a number."""
    number = pl.col("image_id").str.extract_groups(r"^(\d{8})_(\d{3})\.png$")
    bits = [pl.col(label).cast(pl.UInt16) * (1 << place) for place, label in enumerate(CHESTXRAY14.labels)]
    return frame.select(
        image_patient=number.struct[0].cast(pl.UInt16),
        image_number=number.struct[1].cast(pl.UInt16),
        patient_id=pl.col("patient_id").cast(pl.UInt16),
        labels=pl.sum_horizontal(bits).cast(pl.UInt16),
        official_test=pl.col("official") == "test",
        age_years=pl.col("age_years").cast(pl.UInt8),
        male=pl.col("sex") == "M",
        ap=pl.col("view") == "AP",
        follow_up=pl.col("follow_up").cast(pl.UInt16),
    )


def unpack(packed: pl.DataFrame) -> pl.DataFrame:
    """Undo `pack`."""
    patient, number = (pl.col(name).cast(pl.String) for name in ("image_patient", "image_number"))
    name = pl.concat_str(patient.str.zfill(8), pl.lit("_"), number.str.zfill(3), pl.lit(".png"))
    columns = {
        "image_id": name,
        "sex": pl.when("male").then(pl.lit("M")).otherwise(pl.lit("F")),
        "view": pl.when("ap").then(pl.lit("AP")).otherwise(pl.lit("PA")),
        "official": pl.when("official_test").then(pl.lit("test")).otherwise(pl.lit("train_val")),
        **{label: pl.col("labels") & (1 << place) != 0 for place, label in enumerate(CHESTXRAY14.labels)},
    }
    return packed.select(columns.get(name, pl.col(name)).cast(kind).alias(name) for name, kind in RECORD_SCHEMA.items())


if __name__ == "__main__":
    pack(read_raw(Path(sys.argv[1]))).write_parquet(FILE, compression="zstd", compression_level=22, statistics=False)
