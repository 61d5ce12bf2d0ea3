"""The user's evaluated runs: find them, name them, and see whether their scores are still those of their files."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, fields, replace
from pathlib import Path

from cxrkit.base.contracts import Metric
from cxrkit.base.errors import UserError
from cxrkit.base.files import file_digest
from cxrkit.base.origin import Origin
from cxrkit.runs import epochs
from cxrkit.runs.folder import RunFolder
from cxrkit.runs.predictions import read_prediction_info
from cxrkit.runs.scores import IDENTITY, Scores, SubsetScores, read_scores

AUC = "auc"  # the metric that the paper's tables are of


@dataclass(frozen=True)
class Run:
    """One evaluated run."""

    folder: Path
    """Its run folder."""

    name: str
    """The run's own name, or its folder's where two runs would have the same."""

    scores: Scores
    """The content of its scores.json, with test scores; or those of another epoch that was kept."""

    own: Run | None = None
    """The run at its own best epoch, where `scores` are of another one."""

    @property
    def origin(self) -> Origin:
        """What its numbers were made of."""
        return self.scores.origin

    @property
    def split(self) -> str:
        """The split's name: official, resample-1, ..."""
        return self.scores.origin.split

    @property
    def test(self) -> SubsetScores:
        """The test scores. `find_runs` returns only runs that have them."""
        return self.scores.subsets["test"]

    def auc(self, label: str | None = None) -> Metric | None:
        """Return the test AUC of a label, or the mean; None where the evaluator has not found it."""
        return self.test.metric(AUC, label)

    @property
    def has_auc(self) -> bool:
        """Whether its evaluator found any AUC."""
        return AUC in self.test.names


@dataclass(frozen=True)
class FoundRuns:
    """What a folder of runs holds."""

    runs: tuple[Run, ...]
    """Evaluated on a test set, in natural order of their names."""

    unusable: tuple[str, ...]
    """The others, each with the reason."""


def find_runs(folder: Path) -> FoundRuns:
    """Return the runs in `folder` (`<name>/<split>/scores.json`).

    Raises UserError when the folder is missing, or no run in it has test scores that can be read.
    """
    remedy = (
        "train a model with `cxrkit train --model NAME --fold official`, or name the folder of your runs with --runs"
    )
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder of runs", remedy=remedy)
    runs, unusable, unfinished = [], [], False
    for path in sorted(path for path in folder.glob("*/*") if path.is_dir()):
        shown = path.relative_to(folder).as_posix()
        try:
            scores = _scores(path)
        except UserError as error:
            message, _, advice = str(error).partition("\n  remedy: ")
            unusable.append(f"{message.replace(str(path), shown)}; {advice}")
            continue
        if scores is not None and "test" in scores.subsets:
            runs.append(Run(path, scores.name, scores))
        elif scores is not None:
            unusable.append(f"{shown}: no test scores, only {', '.join(scores.subsets) or 'an empty file'}")
            unfinished = True
        elif (path / "config.toml").is_file() or (path / "predictions").is_dir():
            unusable.append(f"{shown}: not evaluated yet (no scores.json)")
            unfinished = True
    if not runs:
        found = "".join(f"\n  {line}" for line in unusable)
        if unfinished:
            remedy = "finish it with `cxrkit train --resume`, or `cxrkit predict` and `cxrkit evaluate` what is trained"
        raise UserError(f"{folder}: no evaluated run (<name>/<split>/scores.json){found}", remedy=remedy)
    return FoundRuns(tuple(sorted(_told_apart(runs, folder), key=_natural_order)), tuple(unusable))


def is_probe(run: Run) -> bool:
    """Whether a run predicts age, sex or view: such runs have a report of their own."""
    return bool(run.scores.labels.metadata)


def without_probes(found: FoundRuns) -> tuple[FoundRuns, list[str]]:
    """Return what is found without the probes, and a note that says where they are to be seen."""
    others = tuple(run for run in found.runs if not is_probe(run))
    count = len(found.runs) - len(others)
    note = f"{count} probe{'s' * (count > 1)} of age, sex or view belong{'s' * (count == 1)} in another table: "
    return replace(found, runs=others), [f"{note}`cxrkit report --probes`"] * bool(count)


def _scores(path: Path) -> Scores | None:
    return read_scores(path / "scores.json") if (path / "scores.json").exists() else None


def stale_reasons(run: Run) -> list[str]:
    """Return why the run's scores are not those of the files that lie beside them now; empty: they are."""
    folder = RunFolder(run.folder)
    if run.own is None:
        return _stale(run, folder.predictions("test")) or _newer_checkpoint(run)
    # What was kept belongs to this training as long as its own scores do.
    return stale_reasons(run.own) or _stale(run, epochs.predictions_of(folder, run.scores.epoch, "test"))


def _stale(run: Run, path: Path) -> list[str]:
    name = path.relative_to(run.folder).as_posix()
    try:
        about, sha256 = read_prediction_info(path)
    except UserError as error:
        if not path.exists():
            return [f"its {name} is missing"]
        return [f"its {name} cannot be read ({str(error).splitlines()[0]})"]
    if sha256 != run.test.predictions_sha256:
        return [f"its {name} was replaced after it was scored"]
    if other := [name for name in IDENTITY if getattr(about, name) != getattr(run.scores, name)]:
        return [f"its scores.json says another {_field(about.origin, run.origin, other[0])} than its predictions"]
    return []


def _field(one: Origin, other: Origin, name: str) -> str:
    if name != "origin":
        return name
    return next(item.name for item in fields(Origin) if getattr(one, item.name) != getattr(other, item.name))


def _newer_checkpoint(run: Run) -> list[str]:
    """Return a reason when the best checkpoint is newer than the scores, and another one than they were made with."""
    folder = RunFolder(run.folder)
    try:
        scored = folder.scores.stat().st_mtime_ns
        # An older file is not read at all: it may have 500 MB, and a report may have forty of them.
        newer = [path for path in (folder.best, folder.last) if path.exists() and path.stat().st_mtime_ns > scored]
        if folder.best in newer and run.scores.checkpoint_sha256 not in map(file_digest, newer):
            return ["its checkpoint was replaced after it was scored"]
    except OSError as error:
        return [f"its checkpoint cannot be read ({error.strerror})"]
    return []


def _told_apart(runs: list[Run], folder: Path) -> list[Run]:
    """Name runs by their folders where two of one split, seed and recipe would have the same name."""

    def identity(run: Run) -> tuple[object, ...]:
        scores = run.scores
        return (run.name, run.split, scores.seed, scores.recipe_digest, scores.input_size)

    twice = {name for (name, *_), count in Counter(map(identity, runs)).items() if count > 1}
    runs = [replace(run, name=run.folder.relative_to(folder).parts[0]) if run.name in twice else run for run in runs]
    twice = {name for (name, *_), count in Counter(map(identity, runs)).items() if count > 1}
    return [replace(run, name=run.folder.relative_to(folder).as_posix()) if run.name in twice else run for run in runs]


def _natural_order(run: Run) -> tuple[list[str | int], str, int]:
    """Sort resnet38 before resnet101."""
    pieces = re.split(r"(\d+)", run.name)
    return [int(piece) if index % 2 else piece for index, piece in enumerate(pieces)], run.split, run.scores.seed
