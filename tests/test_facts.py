"""The whole real data set, from the compact table in tests/facts: its counts, splits and digests are the manifests'.

What the table is and how it is written anew: tests/chestxray14_facts.py.
"""

from __future__ import annotations

from pathlib import Path

import chestxray14_facts as facts
import polars as pl
import pytest

from cxrkit.base import manifests
from cxrkit.base.contracts import RECORD_SCHEMA
from cxrkit.base.files import digest_lines
from cxrkit.base.labels import CHESTXRAY14
from cxrkit.base.origin import labels_digest, metadata_digest
from cxrkit.datasets import splits
from cxrkit.datasets.nih import chestxray14 as nih_chestxray14

MANIFEST = manifests.read("nih_chestxray14.toml")
SPLITS = {split["name"]: split for split in manifests.read("splits.toml")["split"]}


@pytest.fixture(scope="module")
def records() -> pl.DataFrame:
    return facts.records()


def test_the_table_is_small_and_packing_loses_nothing(records: pl.DataFrame) -> None:
    assert facts.FILE.stat().st_size < 1_000_000
    assert dict(records.schema) == RECORD_SCHEMA
    assert facts.unpack(facts.pack(records)).equals(records)


def test_the_table_is_that_of_the_real_files(records: pl.DataFrame, nih_raw: Path) -> None:
    assert facts.read_raw(nih_raw).equals(records)


@pytest.mark.parametrize("subset", ["train_val", "test"])
def test_counts_are_those_of_the_manifest(records: pl.DataFrame, subset: str) -> None:
    part = records.filter(pl.col("official") == subset)
    assert part.height == MANIFEST["split"][subset]["images"]
    assert part["patient_id"].n_unique() == MANIFEST["split"][subset]["patients"]
    expected = MANIFEST["labels"]["train_val"] if subset == "train_val" else MANIFEST["labels"]["test"]["v2020"]
    assert {label: part[label].sum() for label in CHESTXRAY14.labels} == expected
    for column in ("sex", "view"):
        counts = dict(part[column].value_counts().iter_rows())
        assert counts == MANIFEST[column]["v2020"][subset]


def test_labels_digest_is_that_of_the_manifest(records: pl.DataFrame) -> None:
    assert labels_digest(records) == MANIFEST["labels"]["digest"]["v2020"]
    assert metadata_digest(records) == MANIFEST["metadata"]["digest"]["v2020"]


def test_the_release_is_recognised(records: pl.DataFrame) -> None:
    assert nih_chestxray14.label_release(records) == "v2020"


@pytest.mark.parametrize("fold", splits.FOLDS)
def test_splits_are_those_of_the_manifest(records: pl.DataFrame, fold: str) -> None:
    split = splits.make(records, fold)
    assert split.frame.height == 112_120
    assert split.frame.group_by("patient_id").agg(pl.col("subset").n_unique())["subset"].max() == 1
    test = split.frame.filter(pl.col("subset") == "test")
    assert SPLITS[split.name] == {
        "name": split.name,
        **{subset: split.images(subset) for subset in ("train", "val", "test")},  # type: ignore[arg-type]
        "test_patients": test["patient_id"].n_unique(),
        "test_digest": digest_lines(test["image_id"].sort()),
        "digest": split.digest,
    }


def test_the_manifest_has_the_six_splits_of_the_papers_sizes() -> None:
    assert list(SPLITS) == [splits.name_of(fold) for fold in splits.FOLDS]
    assert SPLITS["official"]["test"] == 25_596
    for fold in splits.FOLDS[1:]:
        # Section 3 of the paper: 70 / 10 / 20 %, 22,420 test images.
        assert abs(SPLITS[splits.name_of(fold)]["test"] - 22_424) <= 200
        assert abs(SPLITS[splits.name_of(fold)]["val"] - 11_212) <= 200
