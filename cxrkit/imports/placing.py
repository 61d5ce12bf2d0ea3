"""Which subset each predicted image is in: what is imported, what is left out, what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from cxrkit.base.contracts import SUBSETS, Subset
from cxrkit.base.errors import UserError
from cxrkit.base.words import count, of_them
from cxrkit.datasets import known_splits
from cxrkit.imports.cohort import NIH, Cohort
from cxrkit.imports.scored_file import ScoredFile
from cxrkit.imports.splitting import Asked

# A file of which most images are in none of the subsets that are asked for is a mistake, unless it has nearly all of
# these: then it is of the whole data set.
_NEARLY_ALL = 0.95
_CLEARLY = 0.9  # so much of a file in one subset says what the file is of


@dataclass(frozen=True)
class Part:
    """The predictions of one subset."""

    file: ScoredFile
    """Where they come from."""

    frame: pl.DataFrame
    """image_id, patient_id and a probability for each label."""

    listed: pl.DataFrame
    """image_id and patient_id of the whole subset."""

    left_out: dict[str, int]
    """Images of the file that are of no part of the run, by the subset that they are in."""

    own: bool = False
    """Whether these are validation images of the model's own, not those of the split."""

    @property
    def missing(self) -> pl.Series:
        """The images of the subset that were not predicted, sorted."""
        return self.listed.join(self.frame, on="image_id", how="anti")["image_id"].sort()


def place(file: ScoredFile, asked: Asked, wanted: tuple[Subset, ...], cohort: Cohort) -> dict[Subset, Part]:
    """Return the predictions of each subset that is wanted. Raises UserError where there are none, or hardly any."""
    placed = file.frame.join(asked.table.select("image_id", "subset"), on="image_id", how="left", maintain_order="left")
    counts = dict(placed.group_by(pl.col("subset").fill_null("none")).len().sort("subset").iter_rows())
    listed = {subset: asked.listed(subset) for subset in wanted}
    for subset in wanted:
        if not counts.get(subset):
            raise _elsewhere(file, asked, subset, counts, cohort)
    inside = sum(counts[subset] for subset in wanted)
    if 2 * inside < len(placed) and inside < _NEARLY_ALL * sum(map(len, listed.values())):
        raise _elsewhere(file, asked, wanted[0], counts, cohort)
    left_out = {name: number for name, number in counts.items() if name not in wanted}
    return {
        subset: Part(
            file,
            placed.filter(pl.col("subset") == subset).drop("subset"),
            listed[subset],
            left_out,
            own=subset == "val" and asked.own_validation,
        )
        for subset in wanted
    }


def validation_part(file: ScoredFile, asked: Asked, cohort: Cohort) -> Part:
    """Return the predictions of a file that holds validation images alone: the split's, or whichever they are.

    A table of subsets says which they are; else all images of the file are.
    """
    if asked.has_validation_of_table:
        return place(file, asked, ("val",), cohort)["val"]
    images = file.frame.select("image_id", "patient_id")
    of_split = set(images["image_id"]) == set(asked.listed("val")["image_id"])
    return Part(file, file.frame, images, {}, own=not of_split)


def _elsewhere(file: ScoredFile, asked: Asked, subset: Subset, counts: dict[str, int], cohort: Cohort) -> UserError:
    """Return the error for a file whose images are mostly of another subset, or of another split."""
    total, name = len(file.frame), asked.split.name
    where = ", ".join(f"{number:,} in {'no subset' if other == 'none' else other}" for other, number in counts.items())
    inside = counts.get(subset, 0)
    many = f"only {of_them(inside, total, 'image')}" if inside else f"none of its {count(total, 'image')} is"
    what = f"{file.path}: {many} in the {subset} subset of split {name} ({where})"
    looks, best_split, best_subset = _likeness(file.frame["image_id"], cohort)
    if looks >= _CLEARLY * total and best_split != name:
        what += f"; {looks:,} of them are in the {best_subset} subset of split {best_split}"
    elif looks < _CLEARLY * total and cohort.dataset == NIH:
        what += "; nor are they a subset of another known split"
    return UserError(what, remedy=_remedy(subset, name, best_split if looks >= _CLEARLY * total else "", best_subset))


def _remedy(subset: Subset, name: str, best_split: str, best_subset: str) -> str:
    """Return what may help; best_split and best_subset: where the images clearly are, "" where nowhere."""
    other = "" if best_subset == "test" else f" --subset {best_subset}"
    if best_split and best_subset != "train":
        return f"give --split {best_split}{other}" if best_split != name else f"give --subset {best_subset}"
    if subset == "val":
        return (
            "a model's own validation images stand beside its test images: give the file of these, and this with --val"
        )
    remedy = "say with --split FILE which images test: a list of them, or a table of images and subsets"
    return f"give the predictions of the test images; or {remedy}" if best_split else remedy


def _likeness(images: pl.Series, cohort: Cohort) -> tuple[int, str, str]:
    """Return how many of the images are in the subset of a known split that most of them are in, and which it is."""
    best = (0, "", "")
    for name in known_splits.known_splits() if cohort.dataset == NIH else ():
        frame = known_splits.our_split(name).frame
        found = frame.filter(pl.col("image_id").is_in(images.implode()))["subset"]
        for subset in ("test", "val", "train"):
            best = max(best, (len(found.filter(found == subset)), name, subset), key=lambda item: item[0])
    return best


def coverage_notes(parts: dict[Subset, Part], split: str) -> Iterator[str]:
    """Yield what of each subset was predicted, what is missing of it, and what was left out."""
    for subset in reversed(SUBSETS):
        if (part := parts.get(subset)) is None:
            continue
        done, whole, missing = len(part.frame), len(part.listed), part.missing
        if part.own:
            patients = count(part.frame["patient_id"].n_unique(), "patient")
            images = count(done, "validation image") if done == whole else f"{done:,} of {whole:,} validation images"
            yield f"{images} of {patients}, as declared: none shares a patient with the test images of split {split}"
        else:
            yield f"{done:,} of {whole:,} {subset} images of split {split}"
        if len(missing):
            verb = "is" if len(missing) == 1 else "are"
            apart = ": a partial result, which reports keep apart" if subset == "test" else ""
            yield f"{len(missing):,} of {whole:,} {subset} images {verb} missing, the first {missing[0]}{apart}"
    for path, left_out in {part.file.path: part.left_out for part in parts.values()}.items():
        if left_out:
            told = (f"{n:,} of {'no' if name == 'none' else 'the ' + name} subset" for name, n in left_out.items())
            also = "; --subset test --subset val imports these, too" if list(left_out) == ["val"] else ""
            if {"train", "val"} <= left_out.keys():
                also = "; --split FILE, a table of images and subsets, says which of them validate"
            yield f"left out of {path.name}: {', '.join(told)}{also}"
