"""The split that predictions are for, one of ours or the test images that somebody names; what a model has seen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from cxrkit.base.contracts import SUBSETS
from cxrkit.base.errors import UserError
from cxrkit.datasets import image_names, known_splits, splits
from cxrkit.datasets.lists import NamedList, read_lists
from cxrkit.datasets.splits import Split
from cxrkit.imports.cohort import NIH, Cohort

# What subsets are called elsewhere, without case and signs.
_SUBSET_WORDS = {
    "train": ("train", "training", "trn"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "tst"),
}
_NAMED = (*splits.FOLDS, *map(splits.resample, splits.FOLDS[1:]))


@dataclass(frozen=True)
class Training:
    """The images that a model is declared to be trained on."""

    file: Path
    """Where they were listed."""

    frame: pl.DataFrame
    """image_id and patient_id."""

    digest: str
    """`known_splits.list_digest` of them."""


def split_of(named: str, cohort: Cohort) -> tuple[Split, tuple[str, ...]]:
    """Return the split that --split names, and notes on it.

    named: official, resample-K, or a file: a plain list of test images, or a table with subsets. Raises UserError.
    """
    if named in _NAMED:
        try:
            return splits.make(cohort.frame, named), ()
        except UserError as error:
            raise UserError(error.what.replace("--fold", "--split"), remedy=error.remedy) from None
    path = Path(named)
    if not path.exists():
        raise UserError(
            f"--split {named}: there is no such split, and no such file",
            remedy="give official, resample-1 to resample-5, or a file that lists the test images",
        )
    frame = _frame_of(path, read_lists(path), cohort)
    found = Split(splits.name_of(f"{path.stem}.csv"), frame.sort("image_id"))
    return _known(found, cohort)


def _frame_of(path: Path, lists: list[NamedList], cohort: Cohort) -> pl.DataFrame:
    """Return image_id, patient_id and subset of the lists; one list alone is of test images."""
    parts = []
    for item in lists:
        subset = "test" if len(lists) == 1 else _subset_of(path, item)
        parts.append(_records_of(item, "--split", cohort).with_columns(subset=pl.lit(subset)))
    frame = pl.concat(parts)
    if (twice := frame.filter(pl.col("image_id").is_duplicated())).height:
        raise UserError(
            f"--split {path}: {twice['image_id'].n_unique():,} images in two subsets, first {twice['image_id'][0]}",
            remedy="an image is for training, validation or testing; `cxrkit splits audit` says what is shared",
        )
    shared = frame.group_by("patient_id").agg(pl.col("subset").n_unique()).filter(pl.col("subset") > 1)
    if shared.height:
        raise UserError(
            f"--split {path}: {shared.height:,} patients in more than one subset, first patient "
            f"{shared.sort(pl.col('patient_id').str.len_chars(), 'patient_id')['patient_id'][0]}",
            remedy="give the test images alone, and the training images with --trained-on: "
            "`cxrkit splits audit` says what is shared",
        )
    if "test" not in frame["subset"]:
        raise UserError(f"--split {path}: no test images", remedy="give one image name a line, or a subset called test")
    return frame


def _subset_of(path: Path, item: NamedList) -> str:
    word = image_names.plain(item.name)
    for subset, words in _SUBSET_WORDS.items():
        if word in words:
            return subset
    raise UserError(
        f"--split {path}: a subset called {item.name!r}, expected {', '.join(SUBSETS)}",
        remedy="rename it, or give a list of the test images alone",
    )


def _records_of(item: NamedList, flag: str, cohort: Cohort) -> pl.DataFrame:
    """Return image_id and patient_id of a list's images, each once. Raises UserError for one that is unknown."""
    found = image_names.match(item.names, cohort.frame["image_id"])
    unknown = item.names.filter(found.is_null())
    if len(unknown):
        raise UserError(
            f"{flag} {item.path}: {len(unknown):,} of {len(found):,} images are not in {cohort.source}, first "
            f"{unknown[0]!r:.80}",
            remedy="name the data set that these images are of with --raw or --data",
        )
    images = found.unique().sort().to_frame("image_id")
    return images.join(cohort.frame.select("image_id", "patient_id"), on="image_id", maintain_order="left")


def _known(found: Split, cohort: Cohort) -> tuple[Split, tuple[str, ...]]:
    """Return the known split whose test images these are, where there is one: it is the same test by another name."""
    if cohort.dataset != NIH:
        return found, ()
    test = known_splits.list_digest(found.frame.filter(pl.col("subset") == "test")["image_id"])
    for name, known in known_splits.known_splits().items():
        if known.test_digest == test:
            split = splits.make(cohort.frame, name)
            return split, (f"its test images are those of split {name}, and the run stands under that name",)
    return found, ()


def refuse_other_test(file: Path, split: Split, images: pl.Series, cohort: Cohort) -> None:
    """Raise a UserError where predictions are of just the test images of another known split than the one that is said.

    Such a model was trained on the rest, and so on images that the split that is said tests with.
    """
    if cohort.dataset != NIH:
        return
    predicted = known_splits.list_digest(images)
    for name, known in known_splits.known_splits().items():
        if known.test_digest == predicted and name != split.name:
            raise UserError(
                f"{file}: its images are the {known.test:,} test images of split {name}, not those of {split.name}",
                remedy=f"give --split {name}",
            )


def training_of(path: Path, cohort: Cohort, tested: pl.DataFrame) -> Training:
    """Return the training images that a file lists. Raises UserError where the model has seen what it is tested on.

    path: one list, or several of which one is called train (and one perhaps val: that was looked at, too).
    tested: image_id and patient_id of the predicted images.
    """
    lists = read_lists(path)
    if len(lists) > 1:
        lists = [item for item in lists if _subset_of(path, item) == "train"]
    if len(lists) != 1:
        raise UserError(
            f"--trained-on {path}: {len(lists)} lists called train, expected one",
            remedy="give the training images alone, one name a line",
        )
    frame = _records_of(lists[0], "--trained-on", cohort)
    seen = tested.join(frame, on="image_id", how="semi")
    patients = tested.select("patient_id").unique().join(frame, on="patient_id", how="semi").height
    if patients:
        first = tested.join(frame, on="patient_id", how="semi")
        raise UserError(
            f"--trained-on {path}: {len(seen):,} of the {len(tested):,} test images are among its training images, and "
            f"{patients:,} of their patients, first {(seen if len(seen) else first)['image_id'][0]}",
            remedy="what a model was trained on cannot test it: give the split that it was trained with; "
            f"`cxrkit splits audit {path}` says more",
        )
    return Training(path, frame, known_splits.list_digest(frame["image_id"]))
