"""Who is compared with whom: the runs of each contender, their names, and every reason against it.

A contender is one model: a single run, or the runs of its seeds and folds, trained on equal terms.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cxrkit.base.errors import UserError
from cxrkit.base.origin import differences
from cxrkit.datasets.splits import resample_number
from cxrkit.report.evidence.runs import Run
from cxrkit.report.evidence.staleness import stale_reasons
from cxrkit.report.evidence.variants import variant_of
from cxrkit.runs.folder import RunFolder, read_split
from cxrkit.runs.scores import read_scores
from cxrkit.runs.search import runs_named

_NAME_RUNS = "name run folders (RUNS/NAME/SPLIT), RUNS/NAME for all its folds and seeds, or a run's name below --runs"


@dataclass(frozen=True)
class Contender:
    """One model: the runs that were trained on equal terms."""

    name: str
    """What tables call it."""

    runs: tuple[Run, ...]
    """On one split or several folds, with one seed or several."""

    def on(self, split: str) -> tuple[Run, ...]:
        """Return its runs on a split, one for each seed."""
        return tuple(run for run in self.runs if run.split == split)

    @property
    def splits(self) -> list[str]:
        """The splits that it was tested on: folds in their order, behind the others."""
        return sorted(
            {run.split for run in self.runs}, key=lambda name: (is_fold(name), resample_number(name) or 0, name)
        )

    def doubts(self) -> list[str]:
        """Say whether it is not known that the test images are new to it, and what else is special of its training."""
        notes = []
        if not all(run.test.leakage_checked for run in self.runs):
            notes.append(f"{self.name}: what it was trained on is not known; these images may be among them")
        part = [run.origin for run in self.runs if run.origin.train_images and not run.origin.complete]
        if part:
            trained = f"{part[0].train_images:,} of {part[0].train_subset_images:,} images"
            notes.append(f"{self.name}: trained on {trained} of its split")
        return notes


def is_fold(split: str) -> bool:
    """Whether a split is one of the resampling folds, which are compared with each other as draws."""
    return resample_number(split) is not None


def named(texts: Sequence[str], folder: Path) -> list[list[Run]]:
    """Return the runs of each of `texts`: a run folder, a folder of its splits and seeds, or a name below `folder`.

    Raises UserError where there is no such run, where one is not evaluated, and where two texts name the same run.
    """
    found = [_runs_of(text, folder) for text in texts]
    first_named: dict[Path, str] = {}
    for text, runs in zip(texts, found, strict=True):
        for run in runs:
            if (path := run.folder.resolve()) in first_named:
                raise UserError(
                    f"{run.folder}: named twice, by {first_named[path]} and by {text}", remedy="name two different runs"
                )
            first_named[path] = text
    return found


def _runs_of(text: str, folder: Path) -> list[Run]:
    if inside := runs_named(Path(text), folder):
        evaluated = [path for path in inside if RunFolder(path).scores.exists()]
        if not evaluated:
            raise UserError(
                f"{inside[0]}: not evaluated yet (no scores.json)",
                remedy=f"finish its training, or `cxrkit evaluate {inside[0]}` its predictions",
            )
        return [_open(path) for path in evaluated]
    is_there = Path(text).is_dir() or (folder / text).is_dir()
    what = f"{text}: holds no run" if is_there else f"{text}: there is no such run, neither here nor in {folder}"
    known = sorted({path.parent.parent.name for path in folder.glob("*/*/scores.json")})
    raise UserError(what, remedy=_NAME_RUNS + (f"; there are {', '.join(known[:8])}" if known else ""))


def _open(path: Path) -> Run:
    scores = read_scores(RunFolder(path).scores)
    if "test" not in scores.subsets:
        raise UserError(
            f"{path}: has no test scores, only {', '.join(scores.subsets) or 'an empty scores.json'}",
            remedy=f"`cxrkit predict {path} --subset test`, then `cxrkit evaluate {path}`",
        )
    return Run(path, scores.name, scores)


def contenders(groups: Sequence[Sequence[Run]]) -> list[Contender]:
    """Return a contender for each group of runs, under names that tell them apart.

    Raises UserError for a group whose runs were not trained on equal terms, for runs without AUCs, and for scores that
    are not those of the files that lie beside them.
    """
    for runs in groups:
        for run in runs:
            refuse_alone(run)
        _refuse_mixed(runs)
    names: list[str] = []
    for name_of in (_short_name, _folder_name, _whole_name):
        names = [name_of(runs) for runs in groups]
        if max(Counter(names).values(), default=0) < 2:
            break
    return [Contender(name, tuple(runs)) for name, runs in zip(names, groups, strict=True)]


def _short_name(runs: Sequence[Run]) -> str:
    return runs[0].name


def _folder_name(runs: Sequence[Run]) -> str:
    return "/".join(runs[0].folder.parts[-2:]) if len(runs) == 1 else runs[0].folder.parent.name


def _whole_name(runs: Sequence[Run]) -> str:
    return str(runs[0].folder if len(runs) == 1 else runs[0].folder.parent)


def refuse_alone(run: Run) -> None:
    """Raise UserError for a run that cannot be compared with any: without AUCs, or with scores of other files."""
    if run.scores.labels.unit:
        raise UserError(
            f"{run.folder}: predicts {', '.join(run.scores.labels.labels)} in {run.scores.labels.unit}, "
            "which has no AUC to compare",
            remedy="compare runs that predict findings; `cxrkit report --probes` shows this one",
        )
    if stale := stale_reasons(run):
        raise UserError(f"{run.folder}: {'; '.join(stale)}", remedy=f"score it again: `cxrkit evaluate {run.folder}`")


def _refuse_mixed(runs: Sequence[Run]) -> None:
    seen: dict[tuple[str, int], Run] = {}
    for run in runs:
        if (first := seen.setdefault((run.split, run.scores.seed), run)) is not run:
            raise UserError(
                f"{run.folder.parent}: its runs {first.folder.name} and {run.folder.name} are both of seed "
                f"{run.scores.seed} on split {run.split}; a copy is no second training",
                remedy="name the run folders that belong together one by one, or move the copy away",
            )
    terms = {replace(variant_of(run), name="", seeds=()): run for run in reversed(runs)}
    if len(terms) < 2:
        return
    one, other, *_ = terms.values()
    digests = " and ".join(run.scores.recipe_digest[:8] for run in (other, one))
    raise UserError(
        f"{runs[0].folder.parent}: its runs {other.folder.name} and {one.folder.name} were not trained on equal terms "
        f"(settings {digests})",
        remedy="name the run folders that belong together one by one",
    )


def refuse_apart(one: Run, other: Run) -> None:
    """Raise UserError unless two runs may be compared on the test images that they share.

    Their data set, labels and split must be the same; of another split all test images must be.
    """
    pair = f"{one.folder} and {other.folder}"
    mine, theirs = one.origin, other.origin
    if mine.dataset != theirs.dataset:
        what = f"of different data sets, {mine.dataset} and {theirs.dataset}"
        raise UserError(f"{pair}: {what}", remedy="compare runs of one data set")
    # Equal digests are equal labels, whatever they are called; other label sets are compared label by label.
    same_labels = mine.label_set != theirs.label_set or mine.labels_digest == theirs.labels_digest
    if not same_labels and (found := differences(mine, theirs, {"labels"})):
        what = f"evaluated on different labels, {found[0].one} and {found[0].other}"
        raise UserError(f"{pair}: {what}", remedy="evaluate both on the same release of the labels")
    if one.test.images_digest == other.test.images_digest:
        return
    if found := differences(mine, theirs, {"split"}):
        raise UserError(
            f"{pair}: tested on different images, {found[0].one} and {found[0].other}{_trained_on(one, other)}",
            remedy="compare runs on the same split; the folds of each model are compared by naming RUNS/NAME",
        )


def _trained_on(one: Run, other: Run) -> str:
    """Say how many of the one's test images the other was trained on, and the reverse, where that is known."""
    said = []
    for run, tested in ((other, one), (one, other)):
        try:
            _, table = read_split(RunFolder(run.folder))
            _, theirs = read_split(RunFolder(tested.folder))
        except UserError:
            continue
        test = theirs.filter((theirs["subset"] == "test") & theirs["used"])
        train = table.filter((table["subset"] == "train") & table["used"])
        if shared := test.join(train, on="image_id", how="semi").height:
            said.append(f"{run.name} was trained on {shared:,} of the {test.height:,} test images of {tested.name}")
    return f"; {'; '.join(said)}" if said else ""
