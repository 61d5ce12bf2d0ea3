"""Which image trains, validates and tests. A property of the data set, never of what was downloaded or prepared.

official     NIH's two lists; validation is one eighth of train_val, so that train : val is 70 : 10 as in the paper.
resample-K   K = 1..5: patients in a random order are dealt out to 20 % test, 10 % validation and 70 % training images
             (Baltruschat et al. 2019, section 3). The five draws are independent, as in the paper: their test sets
             may share patients.
FILE         your own CSV or parquet table with the columns image_id and subset (train, val, test).

All images of a patient are in one subset. The random order is the order of SHA-256(split name, patient id): the same
on every machine and with every library version.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars as pl

from cxrkit.base.contracts import SUBSETS, Subset
from cxrkit.base.errors import UserError, shown
from cxrkit.base.files import decoded
from cxrkit.base.origin import digest_column
from cxrkit.base.words import count

RESAMPLES = 5
TEST_SHARE, VAL_SHARE = 0.2, 0.1
OFFICIAL_VAL_SHARE = VAL_SHARE / (1 - TEST_SHARE)  # of train_val
FOLDS = ("official", *(str(number) for number in range(1, RESAMPLES + 1)))
_RESAMPLE = "resample-"


@dataclass(frozen=True)
class Split:
    """A complete assignment."""

    name: str
    """"official", "resample-3", or "file-NAME"."""

    frame: pl.DataFrame
    """image_id, patient_id, subset, sorted by image_id: every image of the data set."""

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the subsets' sorted image ids. Results with different digests are not comparable."""
        rows = self.frame.sort("subset", "image_id")
        return digest_column(rows.select(pl.concat_str("subset", "image_id", separator=" ")).to_series())

    def images(self, subset: Subset) -> int:
        """Return the number of images of `subset` in the whole data set."""
        return self.frame.filter(pl.col("subset") == subset).height


def resample(number: int | str) -> str:
    """Return the name of the resampling fold of this number."""
    return f"{_RESAMPLE}{number}"


def resample_number(split: str) -> int | None:
    """Return the number of the resampling fold that a split is called after; None: it is no such fold."""
    number = split.removeprefix(_RESAMPLE)
    return int(number) if split != number and number.isdecimal() else None


def name_of(fold: str) -> str:
    """Return the split's name for what `--fold` names. Raises UserError for an unknown fold."""
    number = fold.removeprefix(_RESAMPLE)
    if fold == "official":
        return fold
    if number in FOLDS[1:]:
        return resample(number)
    if is_file(fold):
        return f"file-{Path(fold).stem}"
    raise UserError(
        f"--fold {fold}: there is no such fold",
        remedy=f"choose 1 to {RESAMPLES} (the paper's resampling), official, or a .csv or .parquet table of your own",
    )


def is_file(fold: str) -> bool:
    """Whether `--fold` names a table of one's own."""
    return fold.lower().endswith((".csv", ".parquet"))


def make(records: pl.DataFrame, fold: str) -> Split:
    """Return the split that `--fold` names: 1 to 5, official, or the path of a table of one's own.

    records: RECORD_SCHEMA, all images of the data set. Raises UserError for an unknown fold or an impossible table.
    """
    name = name_of(fold)
    if name == "official":
        return _official(records)
    if resample_number(name) is not None:
        return Split(name, _deal(records, name, {"test": TEST_SHARE, "val": VAL_SHARE}).sort("image_id"))
    return _from_file(records, Path(fold), name)


def _official(records: pl.DataFrame) -> Split:
    if records["official"].null_count():
        raise UserError(
            "--fold official: this data set has no official split",
            remedy=f"choose a resampling fold, 1 to {RESAMPLES}, or a table of your own",
        )
    shared = records.group_by("patient_id").agg(pl.col("official").n_unique(), pl.col("image_id").first())
    if (both := shared.filter(pl.col("official") > 1).sort("patient_id")).height:
        raise UserError(
            f"--fold official: the official split of this data set has {both.height:,} patients in both of its lists, "
            f"the first {both['patient_id'][0]}",
            remedy="choose a resampling fold, 1 to 5, which keeps patients together, or a table of your own",
        )
    train_val = records.filter(pl.col("official") == "train_val")
    dealt = _deal(train_val, "official", {"val": OFFICIAL_VAL_SHARE})
    test = records.filter(pl.col("official") == "test").select("image_id", "patient_id", subset=pl.lit("test"))
    return Split("official", pl.concat([dealt, test]).sort("image_id"))


def _deal(records: pl.DataFrame, name: str, shares: dict[str, float]) -> pl.DataFrame:
    """Deal patients, in the order of their hash, to `shares` of the images; the rest trains."""
    patients = records.group_by("patient_id").len("images")
    keys = [hashlib.sha256(f"cxrkit {name} {patient}".encode()).hexdigest() for patient in patients["patient_id"]]
    patients = patients.with_columns(key=pl.Series(keys)).sort("key")
    # A patient belongs where the middle of its images falls: no cut is further off than half a patient.
    middle = (pl.col("images").cum_sum() - pl.col("images") / 2) / records.height
    subset = pl.lit("train")
    bound = sum(shares.values())
    for label, share in reversed(shares.items()):
        subset = pl.when(middle < bound).then(pl.lit(label)).otherwise(subset)
        bound -= share
    patients = patients.with_columns(subset=subset)
    return records.select("image_id", "patient_id").join(patients.select("patient_id", "subset"), on="patient_id")


def _from_file(records: pl.DataFrame, path: Path, name: str) -> Split:
    remedy = "give one row per image, with the columns image_id and subset (train, val or test)"
    try:
        # By way of memory: polars would take brackets in a path for a pattern. Ids are text, also those of digits only.
        content = path.read_bytes()
        if path.suffix.lower() == ".parquet":
            table = pl.read_parquet(io.BytesIO(content))
        else:
            table = pl.read_csv(decoded(content).encode(), infer_schema=False)
    except FileNotFoundError:
        raise UserError(f"--fold {path}: there is no such file", remedy=remedy) from None
    except OSError as error:
        raise UserError(f"--fold {path}: cannot be read ({error.strerror})", remedy=remedy) from None
    except (pl.exceptions.PolarsError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"--fold {path}: not a readable table ({reason})", remedy=remedy) from None
    if absent := {"image_id", "subset"} - set(table.columns):
        found = shown(", ".join(table.columns)[:200])
        raise UserError(f"--fold {path}: no column {' and '.join(sorted(absent))}; found {found}", remedy=remedy)
    try:
        table = table.select(pl.col("image_id", "subset").cast(pl.String))
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"--fold {path}: its columns are not text ({reason})", remedy=remedy) from None
    _refuse(path, table.filter(~pl.col("subset").is_in(SUBSETS) | pl.col("subset").is_null()), "another subset", remedy)
    _refuse(path, table.filter(pl.col("image_id").is_duplicated()), "an image listed twice", remedy)
    known = records.select("image_id", "patient_id")
    _refuse(path, table.join(known, on="image_id", how="anti"), "an image that the data set does not have", remedy)
    frame = table.join(known, on="image_id").select("image_id", "patient_id", "subset").sort("image_id")
    shared = frame.group_by("patient_id").agg(pl.col("subset").n_unique(), pl.col("image_id").first())
    _refuse(path, shared.filter(pl.col("subset") > 1), "a patient in more than one subset", "keep a patient together")
    for subset in SUBSETS:
        if subset not in frame["subset"]:
            raise UserError(f"--fold {path}: no image in subset {subset}", remedy=remedy)
    return Split(name, frame)


def _refuse(path: Path, rows: pl.DataFrame, what: str, remedy: str) -> None:
    if rows.height:
        raise UserError(f"--fold {path}: {what} in {count(rows.height, 'row')}, the first {rows.row(0)}", remedy=remedy)
