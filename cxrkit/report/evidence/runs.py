"""The user's evaluated runs: find them, name them, and see whether their scores are still those of their files."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cxrkit.base.contracts import Metric
from cxrkit.base.errors import UserError
from cxrkit.base.origin import Origin
from cxrkit.base.words import count as counted
from cxrkit.report.evidence.selection import chosen, names_of, place_of
from cxrkit.runs.predictions import IMPORTED
from cxrkit.runs.scores import Scores, SubsetScores, read_scores
from cxrkit.runs.search import run_folders

AUC = "auc"  # the metric that the paper's tables are of
_MANY = 4  # places of which the same is wrong share a line, which names as many
_UNFINISHED = ": not evaluated yet (no scores.json)"
_ONLY_VAL = ": no test scores, only"
_NO_RUNS = "train a model with `cxrkit train --model NAME --fold official`, or name the folder of your runs with --runs"
_UNFINISHED_RUNS = "finish it with `cxrkit train --resume`, or `cxrkit predict` and `cxrkit evaluate` what is trained"


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
    def imported(self) -> bool:
        """Whether its predictions came from elsewhere: then nothing is known of a training but what was declared."""
        return self.scores.recipe == IMPORTED

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
    """The others, each with the reason; many of one reason in one line."""


def find_runs(folder: Path, only: Sequence[str] = (), hide: Sequence[str] = ()) -> FoundRuns:
    """Return the runs in `folder`, at any depth (`.../<name>/<split>/scores.json`), or the one that it is itself.

    only, hide: patterns of the names that are wanted, and of those that are not (selection.py). Raises UserError when
    the folder is missing, a pattern matches nothing, or no run that is wanted has test scores that can be read.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder of runs", remedy=_NO_RUNS)
    runs, unusable = _read(folder)
    names = {run.folder: names_of(run.folder, folder, run.scores.name, run.name) for run in runs}
    names |= {path: names_of(path, folder) for path in unusable if path not in names}
    wanted = chosen(names, only, hide, folder)
    runs = [run for run in runs if run.folder in wanted]
    unusable = {path: said for path, said in unusable.items() if path in wanted}
    lines = _lines({place_of(path, folder): said for path, said in unusable.items()})
    if not runs:
        found = "".join(f"\n  {line}" for line in lines)
        unfinished = any(_UNFINISHED in said or _ONLY_VAL in said for said in unusable.values())
        if only or hide:
            raise UserError(
                f"{folder}: no evaluated run that --only and --hide leave{found}", remedy="choose other patterns"
            )
        raise UserError(
            f"{folder}: no evaluated run (<name>/<split>/scores.json){found}",
            remedy=_UNFINISHED_RUNS if unfinished else _NO_RUNS,
        )
    return FoundRuns(tuple(sorted(runs, key=_natural_order)), lines)


def found_in(runs: Path | FoundRuns) -> FoundRuns:
    """Return the runs of a folder, or what was found before. Raises UserError as `find_runs` does."""
    return runs if isinstance(runs, FoundRuns) else find_runs(runs)


def _read(root: Path) -> tuple[list[Run], dict[Path, str]]:
    """Return the runs with test scores, told apart, and what is wrong with each of the other folders."""
    folders = run_folders(root)
    runs = []
    unusable = {path: f": cannot be looked into ({why})" for path, why in folders.unreadable}
    holding = {parent for path in folders.paths for parent in path.parents}
    for path in folders.paths:
        try:
            scores = _scores(path)
        except UserError as error:
            unusable[path] = f"{error.what.replace(str(path), '', 1)}; {error.remedy}"
            continue
        if scores is not None and "test" in scores.subsets:
            runs.append(Run(path, scores.name, scores))
        elif scores is not None:
            unusable[path] = f"{_ONLY_VAL} {', '.join(scores.subsets) or 'an empty file'}"
        elif path not in holding:  # a config beside the folders of runs is not of a run
            unusable[path] = _UNFINISHED
    return _told_apart(runs, root), unusable


def _lines(unusable: Mapping[str, str]) -> tuple[str, ...]:
    """Return what is wrong with each place, in a line; places of which the same is wrong share one when many."""
    alike: dict[str, list[str]] = defaultdict(list)
    for place, said in unusable.items():
        alike[said].append(place)
    lines = []
    for said, places in alike.items():
        if len(places) < _MANY:
            lines += [f"{place}{said}" for place in places]
        else:
            more = f" and {len(places) - _MANY:,} more" if len(places) > _MANY else ""
            lines.append(f"{len(places):,} runs: {said.lstrip('/: ')} ({', '.join(places[:_MANY])}{more})")
    return tuple(lines)


def is_probe(run: Run) -> bool:
    """Whether a run predicts age, sex or view: such runs have a report of their own."""
    return bool(run.scores.labels.metadata)


def without_probes(found: FoundRuns) -> tuple[FoundRuns, list[str]]:
    """Return what is found without the probes, and a note that says where they are to be seen."""
    others = tuple(run for run in found.runs if not is_probe(run))
    count = len(found.runs) - len(others)
    note = f"{counted(count, 'probe')} of age, sex or view belong{'s' * (count == 1)} in another table: "
    return replace(found, runs=others), [f"{note}`cxrkit report --probes`"] * bool(count)


def _scores(path: Path) -> Scores | None:
    return read_scores(path / "scores.json") if (path / "scores.json").exists() else None


def _told_apart(runs: list[Run], root: Path) -> list[Run]:
    """Name runs by their folders where two of one split, seed and recipe would have the same name.

    By NAME first, then by all that leads to NAME, then by the whole place.
    """

    def identity(run: Run) -> tuple[object, ...]:
        scores = run.scores
        return (run.name, run.split, scores.seed, scores.recipe_digest, scores.input_size)

    def above(run: Run) -> str:
        return run.folder.relative_to(root).parent.as_posix().removeprefix(".") or run.folder.absolute().parent.name

    others: tuple[Callable[[Run], str], ...] = (
        lambda run: run.folder.absolute().parent.name,
        above,
        lambda run: place_of(run.folder, root),
    )
    for other in others:
        twice = {name for (name, *_), count in Counter(map(identity, runs)).items() if count > 1}
        runs = [replace(run, name=other(run)) if run.name in twice else run for run in runs]
    return runs


def _natural_order(run: Run) -> tuple[list[str | int], str, int]:
    """Sort resnet38 before resnet101."""
    pieces = re.split(r"(\d+)", run.name)
    return [int(piece) if index % 2 else piece for index, piece in enumerate(pieces)], run.split, run.scores.seed
