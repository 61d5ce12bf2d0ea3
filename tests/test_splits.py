from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxrkit.base.errors import UserError
from cxrkit.datasets import splits


def records(counts: list[int], official: bool = True) -> pl.DataFrame:
    """Patients with the given numbers of images; every fourth patient is in the official test set."""
    rows = [
        (
            f"{patient:08d}_{number:03d}.png",
            str(patient),
            ("test" if patient % 4 == 0 else "train_val") if official else None,
        )
        for patient, count in enumerate(counts, start=1)
        for number in range(count)
    ]
    return pl.DataFrame(
        rows, schema={"image_id": pl.String, "patient_id": pl.String, "official": pl.String}, orient="row"
    )


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=60, max_size=200), st.sampled_from(splits.FOLDS))
def test_every_image_once_and_no_patient_shared(counts: list[int], fold: str) -> None:
    frame = records(counts)
    split = splits.make(frame, fold)
    assert split.frame["image_id"].to_list() == sorted(frame["image_id"])
    assert split.frame.group_by("patient_id").agg(pl.col("subset").n_unique())["subset"].max() == 1
    if fold != "official":
        for subset, share in (("test", 0.2), ("val", 0.1)):
            assert abs(split.images(subset) - share * frame.height) <= max(counts)  # type: ignore[arg-type]


def test_independent_of_row_order_and_of_other_columns() -> None:
    frame = records([3, 1, 7] * 40)
    shuffled = frame.sample(fraction=1, shuffle=True, seed=5).with_columns(age_years=pl.lit(3))
    for fold in splits.FOLDS:
        assert splits.make(frame, fold).digest == splits.make(shuffled, fold).digest


def test_folds_differ() -> None:
    frame = records([3, 1, 7] * 40)
    assert len({splits.make(frame, fold).digest for fold in splits.FOLDS}) == len(splits.FOLDS)
    assert splits.make(frame, "3").name == splits.make(frame, "resample-3").name == "resample-3"


def test_official_keeps_the_lists() -> None:
    frame = records([3, 1, 7] * 40)
    test = splits.make(frame, "official").frame.filter(pl.col("subset") == "test")["image_id"]
    assert test.to_list() == frame.filter(pl.col("official") == "test")["image_id"].to_list()


@pytest.mark.parametrize("fold", ["7", "0", "resample-6", "offical"])
def test_unknown_fold(fold: str) -> None:
    with pytest.raises(UserError, match=rf"--fold {fold}: there is no such fold\n  remedy: choose 1 to 5"):
        splits.make(records([1] * 10), fold)


def test_no_official_split() -> None:
    with pytest.raises(UserError, match="this data set has no official split"):
        splits.make(records([1] * 10, official=False), "official")


def own_table(path: Path, frame: pl.DataFrame, subset: pl.Expr) -> str:
    frame.select("image_id", subset=subset).write_csv(path)
    return str(path)


THIRDS = (
    pl.when(pl.col("patient_id").cast(pl.Int32) % 3 == 0).then(pl.lit("train"))
    .when(pl.col("patient_id").cast(pl.Int32) % 3 == 1).then(pl.lit("val")).otherwise(pl.lit("test"))
)  # fmt: skip


def test_own_table(tmp_path: Path) -> None:
    frame = records([2] * 9)
    split = splits.make(frame, own_table(tmp_path / "mine.csv", frame, THIRDS))
    assert split.name == "file-mine"
    assert [split.images(subset) for subset in ("train", "val", "test")] == [6, 6, 6]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_own_table_as_a_spreadsheet_saves_it(tmp_path: Path, encoding: str) -> None:
    frame = records([2] * 9)
    path = own_table(tmp_path / "mine.csv", frame, THIRDS)
    (tmp_path / "AGAIN.CSV").write_bytes(Path(path).read_bytes().decode().encode(encoding))
    assert splits.make(frame, str(tmp_path / "AGAIN.CSV")).digest == splits.make(frame, path).digest


def test_own_table_that_leaks_or_is_broken(tmp_path: Path) -> None:
    frame = records([2] * 9)
    path = tmp_path / "mine.csv"
    leak = pl.when(pl.int_range(pl.len()) % 3 == 0).then(pl.lit("train")).otherwise(THIRDS)
    with pytest.raises(UserError, match="a patient in more than one subset"):
        splits.make(frame, own_table(path, frame, leak))
    with pytest.raises(UserError, match="another subset in 18 rows"):
        splits.make(frame, own_table(path, frame, pl.lit("holdout")))
    with pytest.raises(UserError, match="no image in subset val"):
        splits.make(frame, own_table(path, frame, THIRDS.replace({"val": "test"})))
    with pytest.raises(UserError, match="an image that the data set does not have in 2 rows"):
        splits.make(frame.filter(pl.col("patient_id") != "3"), own_table(path, frame, THIRDS))
    pl.concat([frame, frame]).select("image_id", subset=THIRDS).write_csv(path)
    with pytest.raises(UserError, match="an image listed twice"):
        splits.make(frame, str(path))
    path.write_text("image,subset\na,train\n")
    with pytest.raises(UserError, match="no column image_id; found image, subset"):
        splits.make(frame, str(path))
    path.write_bytes("image_id,subset".encode("utf-16-le"))
    with pytest.raises(UserError, match=r"not a readable table \(not a text file, it has NUL bytes"):
        splits.make(frame, str(path))
    with pytest.raises(UserError, match="there is no such file"):
        splits.make(frame, str(tmp_path / "absent.csv"))
