"""The split that predictions are for, one of ours or the test images that somebody names; what a model has seen."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from cxrkit.base.contracts import SUBSETS, Subset
from cxrkit.base.errors import UserError
from cxrkit.base.words import count, of_them
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
_CALLED = {"test": "test", "val": "validation"}
_NAMED = (*splits.FOLDS, *map(splits.resample, splits.FOLDS[1:]))


@dataclass(frozen=True)
class Asked:
    """What --split says."""

    split: Split
    """The split that the run stands under."""

    table: pl.DataFrame
    """image_id, patient_id and subset, as they were asked for: the split's, or those of a table of one's own."""

    has_validation_of_table: bool = False
    """Whether a table of one's own says which images validate."""

    own_validation: bool = False
    """Whether these are others than the split's."""

    notes: tuple[str, ...] = ()
    """What its reader should know."""

    def listed(self, subset: Subset) -> pl.DataFrame:
        """Return image_id and patient_id of all images of a subset."""
        return self.table.filter(pl.col("subset") == subset).select("image_id", "patient_id")


@dataclass(frozen=True)
class Training:
    """The images that a model is declared to be trained on."""

    file: Path
    """Where they were listed."""

    frame: pl.DataFrame
    """image_id and patient_id."""

    digest: str
    """`known_splits.list_digest` of them."""


def split_of(named: str, cohort: Cohort) -> Asked:
    """Return the split that --split names.

    named: official, resample-K, or a file: a plain list of test images, or a table with subsets. Raises UserError.
    """
    if named in _NAMED:
        try:
            split = splits.make(cohort.frame, named)
        except UserError as error:
            raise UserError(error.what.replace("--fold", "--split"), remedy=error.remedy) from None
        return Asked(split, split.frame)
    path = Path(named)
    if not path.exists():
        raise UserError(
            f"--split {named}: there is no such split, and no such file",
            remedy="give official, resample-1 to resample-5, or a file that lists the test images",
        )
    frame = _frame_of(path, read_lists(path), cohort).sort("image_id")
    validates = "val" in frame["subset"]
    known = _known(frame, cohort)
    if known is None:
        return Asked(Split(splits.name_of(f"{path.stem}.csv"), frame), frame, validates)
    note = f"its test images are those of split {known.name}, and the run stands under that name"
    if not validates:
        return Asked(known, known.frame, notes=(note,))
    asked = Asked(known, frame, has_validation_of_table=True, notes=(note,))
    theirs, ours = (table.filter(pl.col("subset") == "val")["image_id"].sort() for table in (frame, known.frame))
    return replace(asked, own_validation=not theirs.equals(ours))


def _frame_of(path: Path, lists: list[NamedList], cohort: Cohort) -> pl.DataFrame:
    """Return image_id, patient_id and subset of the lists; one list alone is of test images."""
    parts = []
    for item in lists:
        subset = "test" if len(lists) == 1 else _subset_of(path, item)
        parts.append(_records_of(item, "--split", cohort).with_columns(subset=pl.lit(subset)))
    frame = pl.concat(parts)
    if (twice := frame.filter(pl.col("image_id").is_duplicated())).height:
        images = count(twice["image_id"].n_unique(), "image")
        raise UserError(
            f"--split {path}: {images} in two subsets, first {twice['image_id'][0]}",
            remedy="an image is for training, validation or testing; `cxrkit splits audit` says what is shared",
        )
    shared = frame.group_by("patient_id").agg(pl.col("subset").n_unique()).filter(pl.col("subset") > 1)
    if shared.height:
        raise UserError(
            f"--split {path}: {count(shared.height, 'patient')} in more than one subset, first patient "
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
            f"{flag} {item.path}: {of_them(len(unknown), len(found), 'image')} not in {cohort.source}, first "
            f"{unknown[0]!r:.80}",
            remedy="name the data set that these images are of with --raw or --data",
        )
    images = found.unique().sort().to_frame("image_id")
    return images.join(cohort.frame.select("image_id", "patient_id"), on="image_id", maintain_order="left")


def _known(frame: pl.DataFrame, cohort: Cohort) -> Split | None:
    """Return the known split whose test images these are, where there is one: it is the same test by another name."""
    if cohort.dataset != NIH:
        return None
    test = known_splits.list_digest(frame.filter(pl.col("subset") == "test")["image_id"])
    for name, known in known_splits.known_splits().items():
        if known.test_digest == test:
            return splits.make(cohort.frame, name)
    return None


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


def training_of(path: Path, cohort: Cohort) -> Training:
    """Return the training images that a file lists. Raises UserError.

    path: one list, or several of which one is called train (and one perhaps val: that was looked at, too).
    """
    lists = read_lists(path)
    if len(lists) > 1:
        lists = [item for item in lists if _subset_of(path, item) == "train"]
    if len(lists) != 1:
        raise UserError(
            f"--trained-on {path}: {count(len(lists), 'list')} called train, expected one",
            remedy="give the training images alone, one name a line",
        )
    frame = _records_of(lists[0], "--trained-on", cohort)
    return Training(path, frame, known_splits.list_digest(frame["image_id"]))


def refuse_trained_on(flag: str, subset: Subset, images: pl.DataFrame, training: pl.DataFrame) -> None:
    """Raise a UserError where images that a model is to be tested or chosen on, or their patients, trained it.

    flag: what said which images trained, for messages. images, training: image_id and patient_id.
    """
    shared = images.join(training, on="patient_id", how="semi")
    if shared.is_empty():
        return
    seen = images.join(training, on="image_id", how="semi")
    patients = shared["patient_id"].n_unique()
    verb = "is" if len(seen) == 1 else "are"
    wrong = {"test": "what a model was trained on cannot test it", "val": "what trained a model cannot validate it"}
    raise UserError(
        f"{flag}: {len(seen):,} of the {count(len(images), _CALLED[subset] + ' image')} {verb} among its training "
        f"images, and {patients:,} of their patients, first {(seen if len(seen) else shared)['image_id'].sort()[0]}",
        remedy=f"{wrong[subset]}: give the split that it was trained with; `cxrkit splits audit` says more",
    )


def refuse_tested(path: Path, validation: pl.DataFrame, asked: Asked) -> None:
    """Raise a UserError where validation images, or other images of their patients, are in the split's test subset.

    validation: image_id and patient_id.
    """
    test = asked.listed("test")
    shared = validation.join(test, on="patient_id", how="semi")
    if shared.is_empty():
        return
    seen = validation.join(test, on="image_id", how="semi")
    patients = shared["patient_id"].n_unique()
    verb = "is a test image" if len(seen) == 1 else "are test images"
    raise UserError(
        f"{path}: {len(seen):,} of its {count(len(validation), 'validation image')} {verb} of split "
        f"{asked.split.name}, and {patients:,} of their patients {'is' if patients == 1 else 'are'} tested, "
        f"first {(seen if len(seen) else shared)['image_id'].sort()[0]}",
        remedy="thresholds and temperatures that were found on test images flatter them: give the predictions of the "
        "validation images alone, or say with --split FILE which image is in which subset",
    )
