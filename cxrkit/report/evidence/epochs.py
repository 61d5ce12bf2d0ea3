"""Which epoch of each run stands in a table: its own best one, or the one that its column's runs have in common.

The paper selects by "the average validation loss over all re-samples" (Baltruschat et al. 2019, section 3): one epoch
for all of them. That needs the predictions of every epoch (`--keep-epochs`), which `cxrkit evaluate` scores.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from cxrkit.base.errors import UserError
from cxrkit.report.evidence.comparability import Verdict
from cxrkit.report.evidence.runs import Run
from cxrkit.report.evidence.variants import Variant, pool
from cxrkit.runs.config import read_run_config
from cxrkit.runs.epoch_scores import RunEpochs, read_epoch_scores
from cxrkit.runs.epochs import ranges
from cxrkit.runs.folder import RunFolder
from cxrkit.runs.predictions import IMPORTED

EpochChoice = Literal["own", "common"]
Columns = dict[Variant, list[Verdict]]
NOT_KEPT = (
    "the predictions of its epochs were not kept, so there is no epoch that it has in common with others "
    "(`--keep-epochs` when training, or `--epoch own` here)"
)


@dataclass(frozen=True)
class CommonEpoch:
    """The epoch that was chosen for the runs of one column."""

    epoch: int
    """From 1."""

    val_loss: float | None = None
    """The validation loss, averaged over the runs; None for a run by itself whose epochs were not kept."""

    runs: int = 1
    """How many it is averaged over."""

    candidates: int = 0
    """How many epochs all of them have kept."""

    lacking: tuple[int, ...] = ()
    """Epochs that only some of them have kept."""


@dataclass(frozen=True)
class AtEpochs:
    """The columns of a table at the epochs that were chosen."""

    columns: Columns
    """The runs of each column, at their epochs."""

    chosen: Mapping[Variant, CommonEpoch]
    """The common epoch of each column; none at their own best epochs."""

    without: tuple[Verdict, ...] = ()
    """Runs that have no common epoch with the others, each with the reason."""

    def words(self, words: Mapping[Variant, tuple[str, ...]]) -> dict[Variant, tuple[str, ...]]:
        """Return what headings must say, with the epoch where one was chosen."""
        return {
            variant: (*said, *([f"epoch {self.chosen[variant].epoch}"] if variant in self.chosen else []))
            for variant, said in words.items()
        }

    def notes(self, names: Mapping[Variant, str]) -> list[str]:
        """Return which epochs the table is of, and how they were chosen."""
        if names and all(variant.recipe == IMPORTED for variant in names):
            return []  # what was made elsewhere has no epochs here
        if not self.chosen:
            return ["Epochs: each run at its own best one; `--epoch common`: one for all runs of a column"]
        notes = [
            "Epochs: for each column of runs the one with the lowest validation loss averaged over its runs, the "
            "earliest of equal ones (the paper's selection)"
        ]
        return notes + [_chosen_note(names[variant], common) for variant, common in self.chosen.items()]


def _chosen_note(name: str, common: CommonEpoch) -> str:
    if common.val_loss is None:
        return f"{name}: one run, whose own best epoch is the common one"
    lacking = ""
    if common.lacking:
        lacking = f"; not among them, since not all runs kept {'it' if len(common.lacking) == 1 else 'them'}: epoch"
        lacking += f"{'s' * (len(common.lacking) > 1)} {ranges(common.lacking)}"
    runs = f"{common.runs} runs" if common.runs > 1 else "1 run"
    return (
        f"{name}: validation loss {common.val_loss:.4f} over {runs}, the lowest of {common.candidates} epochs{lacking}"
    )


def at_epochs(verdicts: Sequence[Verdict], choice: EpochChoice, judged: Callable[[Run], Verdict]) -> AtEpochs:
    """Return the columns of comparable runs at their own best epochs, or at the epoch that a column has in common.

    judged: whether a run at another epoch may stand in the table; the gates are those of any run. One that may not is
    set apart, and the epoch chosen anew for the others.
    """
    if choice == "own":
        return AtEpochs(pool(verdicts), {})
    columns: Columns = {}
    chosen: dict[Variant, CommonEpoch] = {}
    without: list[Verdict] = []
    kept: list[tuple[Verdict, RunEpochs]] = []
    for variant, members in pool(verdicts).items():
        if _is_its_own(members):
            columns[variant], chosen[variant] = members, CommonEpoch(members[0].run.scores.epoch)
            continue
        for verdict in members:
            try:
                kept.append((verdict, _epochs_of(verdict.run)))
            except UserError as error:
                without.append(replace(verdict, reasons=(error.what,)))
    while kept:
        # Pooled again: what was set apart may have been one seed's fold, and a column has whole seeds only.
        epochs_of = {id(verdict): found for verdict, found in kept}
        kept = []
        for variant, members in pool(item for item in verdicts if id(item) in epochs_of).items():
            pairs = [(verdict, epochs_of[id(verdict)]) for verdict in members]
            common = choose([found for _, found in pairs])
            if common is None:
                without += (replace(item, reasons=("no epoch was kept by all runs of its column",)) for item in members)
                continue
            moved = [_moved(verdict, found, common.epoch, judged) for verdict, found in pairs]
            without += (verdict for verdict in moved if not verdict.comparable)
            if all(verdict.comparable for verdict in moved):
                columns[variant], chosen[variant] = moved, common
            else:
                kept += (pair for pair, verdict in zip(pairs, moved, strict=True) if verdict.comparable)
    place = {verdict.run.folder: number for number, verdict in enumerate(verdicts)}
    ordered = sorted(columns, key=lambda variant: place[columns[variant][0].run.folder])
    return AtEpochs({variant: columns[variant] for variant in ordered}, chosen, tuple(without))


def _is_its_own(members: list[Verdict]) -> bool:
    """Whether a column is one run whose epochs were not kept, and whose own best epoch is the common one anyway."""
    run = RunFolder(members[0].run.folder)
    if len(members) > 1 or run.epoch_scores.exists():
        return False
    try:
        return read_run_config(run.config).selection.metric == "val_loss"
    except UserError:
        return False


def choose(runs: list[RunEpochs]) -> CommonEpoch | None:
    """Return the epoch with the lowest validation loss averaged over the runs, the earliest of equal ones.

    Only epochs that all of them have are chosen among; None where there is none.
    """
    losses = [{item.epoch: item.val_loss for item in run.epochs} for run in runs]
    everywhere = set.intersection(*(set(found) for found in losses))
    if not everywhere:
        return None
    means = {epoch: statistics.fmean(found[epoch] for found in losses) for epoch in sorted(everywhere)}
    epoch = min(means, key=lambda number: (means[number], number))
    # Epochs are counted from 1: one that nobody kept is lacking, too.
    lacking = set(range(1, max(max(found) for found in losses) + 1)) - everywhere
    return CommonEpoch(epoch, means[epoch], len(runs), len(everywhere), tuple(sorted(lacking)))


def _epochs_of(run: Run) -> RunEpochs:
    """Return the scores of the run's epochs. Raises UserError where there are none that belong to its own."""
    path = RunFolder(run.folder).epoch_scores
    if not path.exists():
        raise UserError(NOT_KEPT)
    found = read_epoch_scores(path, run.scores.labels)
    if (found.test_sha256, found.evaluator) != (run.test.predictions_sha256, run.scores.evaluator):
        raise UserError("its epochs.json is not of its scores.json: write both again with `cxrkit evaluate`")
    if not found.epochs:
        raise UserError("none of the epochs that it kept can be used: " + "; ".join(found.unusable.values()))
    return found


def _moved(verdict: Verdict, found: RunEpochs, epoch: int, judged: Callable[[Run], Verdict]) -> Verdict:
    """Return the verdict on a run at another epoch; at its own best one it stands as it was, with its intervals."""
    run = verdict.run
    if run.scores.epoch == epoch:
        return verdict
    item = found.get(epoch)
    assert item is not None
    scores = replace(run.scores, epoch=epoch, checkpoint_sha256="", subsets={"test": item.test})
    again = judged(replace(run, scores=scores, own=run))
    return replace(again, doubts=verdict.doubts)
