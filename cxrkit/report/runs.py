"""The user's evaluated runs: find them, and say why one cannot stand beside published numbers."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cxrkit.errors import UserError
from cxrkit.evaluators import results
from cxrkit.evaluators.results import Scores, SubsetScores
from cxrkit.report.published import Reference


@dataclass(frozen=True)
class Run:
    """One evaluated run. name: its model, or its folder where two runs of one split have the same model."""

    folder: Path
    name: str
    scores: Scores

    @property
    def split(self) -> str:
        """The split's name: official, resample-1, ..."""
        return self.scores.split

    @property
    def test(self) -> SubsetScores:
        """The test scores. `find` returns only runs that have them."""
        return self.scores.subsets["test"]


@dataclass(frozen=True)
class Found:
    """runs: evaluated on a test set, in natural order of their names; unfinished: the others, each with the reason."""

    runs: tuple[Run, ...]
    unfinished: tuple[str, ...]


def find(folder: Path) -> Found:
    """Return the runs in `folder` (`<model>/<split>/scores.json`).

    Raises UserError when the folder or any evaluated run is missing, and for a scores file that cannot be read.
    """
    remedy = (
        "train a model with `cxrkit train --model NAME --fold official`, or name the folder of your runs with --runs"
    )
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder of runs", remedy=remedy)
    runs, unfinished = [], []
    for run in sorted(path for path in folder.glob("*/*") if path.is_dir()):
        shown = run.relative_to(folder).as_posix()
        if not (run / "scores.json").is_file():
            if (run / "config.toml").is_file() or (run / "predictions").is_dir():
                unfinished.append(f"{shown}: not evaluated yet (no scores.json)")
            continue
        scores = results.read(run / "scores.json")
        if "test" in scores.subsets:
            runs.append(Run(run, scores.model, scores))
        else:
            unfinished.append(f"{shown}: no test scores, only {', '.join(scores.subsets) or 'an empty file'}")
    if not runs:
        found = "".join(f"\n  {line}" for line in unfinished)
        if unfinished:
            remedy = "finish it with `cxrkit train --resume`, or `cxrkit predict` and `cxrkit evaluate` what is trained"
        raise UserError(f"{folder}: no evaluated run (<model>/<split>/scores.json){found}", remedy=remedy)
    return Found(tuple(sorted(_distinct(runs, folder), key=_natural_order)), tuple(unfinished))


def reasons_apart(run: Run, reference: Reference, splits: Iterable[str]) -> list[str]:
    """Return why the run's numbers cannot stand beside results on `reference` and one of `splits`; empty: they can."""
    scores, test = run.scores, run.test
    reasons = []
    if scores.dataset != reference.dataset:
        drawn = "synthetic images" if scores.dataset == "synthetic" else f"data set {scores.dataset}"
        reasons.append(f"{drawn}, not {reference.dataset}")
    elif scores.label_release != reference.label_release:
        reasons.append(f"labels of release {scores.label_release}, not {reference.label_release}")
    if scores.split not in splits:
        reasons.append("another split")
    if not test.complete:
        reasons.append(f"{test.images:,} of {test.subset_images:,} test images")
    elif not reasons and reference.images_digest and test.images_digest != reference.images_digest:
        reasons.append(f"its {test.images:,} test images are not the {reference.images:,} of the official list")
    if scores.train_images < scores.train_subset_images:
        reasons.append(f"trained on {scores.train_images:,} of {scores.train_subset_images:,} images")
    if test.undefined:
        named = ", ".join(test.undefined) if len(test.undefined) <= 2 else f"{len(test.undefined)} of 14 pathologies"
        reasons.append(f"AUC undefined for {named}")
    if not test.leakage_checked:
        reasons.append("not checked against its training images (no split.parquet)")
    return reasons


def refuse_mixed_digests(runs: Iterable[Run]) -> None:
    """Raise UserError when runs of one split name were made with different assignments of images.

    Such runs were trained or chosen on different images, so ranking them would be wrong; which of them is right is not
    for a report to guess.
    """
    by_split: dict[str, dict[str, list[Run]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        by_split[run.split][run.scores.split_digest].append(run)
    for split, by_digest in by_split.items():
        if len(by_digest) > 1:
            lines = "".join(
                f"\n  digest {digest[:12]}: {', '.join(str(run.folder) for run in group)}"
                for digest, group in by_digest.items()
            )
            raise UserError(
                f"split {split!r} is not the same in all runs, so they must not be compared{lines}",
                remedy="train the odd ones again, or report them from a folder of their own with --runs",
            )


def _distinct(runs: list[Run], folder: Path) -> list[Run]:
    """Name runs by their folder where model and split do not tell them apart."""
    taken = [(run.name, run.split) for run in runs]
    return [
        Run(run.folder, run.folder.relative_to(folder).as_posix(), run.scores)
        if taken.count((run.name, run.split)) > 1
        else run
        for run in runs
    ]


def _natural_order(run: Run) -> tuple[list[str | int], str]:
    """Sort resnet38 before resnet101."""
    pieces = re.split(r"(\d+)", run.name)
    return [int(piece) if index % 2 else piece for index, piece in enumerate(pieces)], run.split
