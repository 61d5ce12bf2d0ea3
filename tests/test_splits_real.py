"""Splits of the whole real data set, guarded by a golden file.

Regenerate it on purpose, and review the diff: CXRKIT_UPDATE_GOLDEN=1 pytest tests/test_splits_real.py
"""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl
import pytest

from cxrkit import splits
from cxrkit.datasets import nih_chestxray14

GOLDEN = Path(__file__).parent / "golden" / "splits.tsv"


@pytest.fixture(scope="module")
def records(nih_raw: Path) -> pl.DataFrame:
    return nih_chestxray14.read(nih_raw, allow_missing=True).frame


@pytest.mark.parametrize("fold", splits.FOLDS)
def test_patient_disjoint_and_of_the_papers_size(records: pl.DataFrame, fold: str) -> None:
    split = splits.make(records, fold)
    assert split.frame.height == 112_120
    assert split.frame.group_by("patient_id").agg(pl.col("subset").n_unique())["subset"].max() == 1
    if fold == "official":
        assert split.images("test") == 25_596
    else:
        # Section 3 of the paper: 70 / 10 / 20 %, 22,420 test images.
        assert abs(split.images("test") - 22_424) <= 200
        assert abs(split.images("val") - 11_212) <= 200


def test_golden(records: pl.DataFrame) -> None:
    lines = ["split\ttrain\tval\ttest\ttest_patients\tdigest"]
    for fold in splits.FOLDS:
        split = splits.make(records, fold)
        patients = split.frame.filter(pl.col("subset") == "test")["patient_id"].n_unique()
        sizes = [split.images(subset) for subset in ("train", "val", "test")]  # type: ignore[arg-type]
        lines.append("\t".join(map(str, [split.name, *sizes, patients, split.digest])))
    text = "\n".join(lines) + "\n"
    if os.environ.get("CXRKIT_UPDATE_GOLDEN"):
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()
