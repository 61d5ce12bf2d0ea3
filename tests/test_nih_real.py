"""The ChestX-ray14 reader on the real tables and whatever real images are at hand."""

from __future__ import annotations

import hashlib
from pathlib import Path

import polars as pl
import pytest

from cxrkit.base import manifests
from cxrkit.base.contracts import LABELS, Records
from cxrkit.base.errors import UserError
from cxrkit.datasets.nih.archives import MANIFEST
from cxrkit.datasets.nih.chestxray14 import archive_facts, check_counts, label_release, read

IMAGES = 112_120


@pytest.fixture(scope="module")
def records(nih_raw: Path) -> Records:
    return read(nih_raw, allow_missing=True)


def test_the_real_tables_count_to_the_manifest(records: Records) -> None:
    assert records.label_release == "v2020"
    assert check_counts(records) == []


@pytest.mark.parametrize(("subset", "images", "patients"), [("train_val", 86_524, 28_008), ("test", 25_596, 2_797)])
def test_official_sizes(records: Records, subset: str, images: int, patients: int) -> None:
    part = records.frame.filter(pl.col("official") == subset)
    assert (part.height, part["patient_id"].n_unique()) == (images, patients)


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("subset", ["train_val", "test"])
def test_every_label_is_compared(records: Records, label: str, subset: str) -> None:
    """One label turned over in one image is found, so the empty list above means something."""
    changed = records.frame.with_row_index("row").with_columns(
        pl.when(pl.col("row") == pl.col("row").filter(pl.col("official") == subset).first())
        .then(~pl.col(label))
        .otherwise(pl.col(label))
        .alias(label)
    )
    findings = check_counts(Records(records.dataset, changed, "v2020"))
    assert len(findings) == 1
    assert findings[0].startswith(f"{subset}, {label}: ")


def test_boxes(records: Records) -> None:
    assert records.boxes is not None
    assert (records.boxes.height, records.boxes["image_id"].n_unique()) == (984, 880)
    positive = records.frame.unpivot(LABELS, index=["image_id", "official"], variable_name="label").filter("value")
    boxed = records.boxes.join(positive, on=["image_id", "label"], how="left")
    assert boxed["official"].unique().to_list() == ["test"]  # v2020 holds every box's label, and all are test images


def test_follow_up_is_the_column_and_not_the_file_name(records: Records) -> None:
    suffix = pl.col("image_id").str.extract(r"_(\d+)\.png$").cast(pl.Int32)
    differ = records.frame.filter(suffix != pl.col("follow_up")).height
    assert differ == manifests.read(MANIFEST)["quirks"]["follow_up_differs_from_file_name"]


def test_archives_partition_the_sorted_names(records: Records) -> None:
    names = records.frame["image_id"]
    start = 0
    for fact in archive_facts():
        assert (names[start], names[start + fact.images - 1]) == (fact.first, fact.last)
        start += fact.images
    assert start == len(names)


def test_lists_are_the_official_files(nih_raw: Path) -> None:
    for split in ("train_val", "test"):
        expected = manifests.read(MANIFEST)["split"][split]
        content = (nih_raw / expected["list"]).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (expected["list_bytes"], expected["list_sha256"])


def test_fewer_positives_of_one_label_are_no_release(records: Records) -> None:
    tested = pl.col("Pneumonia") & (pl.col("official") == "test")
    older = records.frame.with_columns(Pneumonia=pl.col("Pneumonia") & ~(tested & (tested.cum_sum() <= 78)))
    assert older.filter("Pneumonia", official="test").height == 477  # as in the release of 2017
    assert label_release(older) == "unknown"


def test_images_at_hand(nih_raw: Path, records: Records) -> None:
    at_hand = len(list((nih_raw / "images").glob("*.png")))
    if any(nih_raw.glob("images?*")):
        pytest.skip("this raw folder has images elsewhere, too")
    assert records.missing == IMAGES - at_hand
    found = records.frame.filter(pl.col("path").is_not_null())
    assert found.height == at_hand
    assert all(Path(path).name == name for name, path in found.select("image_id", "path").rows())
    if records.missing:
        with pytest.raises(UserError, match=f"{records.missing:,} of 112,120 images are missing: ") as caught:
            read(nih_raw)
        assert str(caught.value).endswith("or go on with those that are there by --allow-missing")
