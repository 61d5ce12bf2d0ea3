"""The table that a journal asks for: AUC with its 95 % confidence interval, a column for each run, and what it is of.

Nothing published stands in it and no word of this toolkit: it is meant to be read without cxrkit at hand.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from cxrkit.base.labels import LabelSet
from cxrkit.base.words import count as counted
from cxrkit.report.comparing.difference_cells import TOO_FEW_NOTE
from cxrkit.report.document.tables import EMPTY, UNCHECKED, Column, Report, Row, Table, bold_best, label_rows
from cxrkit.report.evidence.cells import (
    APPROXIMATE_NOTE,
    CONSTANT_NOTE,
    aucs,
    has_constant,
    is_approximate,
    run_heading,
    run_marks,
    score_cells,
)
from cxrkit.report.evidence.comparability import Verdict, judge
from cxrkit.report.evidence.reference import known_splits
from cxrkit.report.evidence.runs import Run
from cxrkit.report.literature import published
from cxrkit.report.literature.marks import in_heading, mark_notes
from cxrkit.report.paper.own_columns import DECIMALS
from cxrkit.statistics.intervals import TOO_FEW

OFFICIAL = "official"
TITLE = "AUC with 95 % confidence intervals"
_DATA_SETS = {"nih-chestxray14": "ChestX-ray14"}
_RELEASES = {
    "v2020": "labels as released by the NIH in 2020 (Data_Entry_2017_v2020.csv)",
    "2017": "labels as released by the NIH in 2017 (Data_Entry_2017.csv)",
}


def journal(runs: Sequence[Run], names: Mapping[Path, str]) -> Report:
    """Return the table of runs that were tested on the same images; on a known split those that compare.

    runs: of one data set, its labels and split, with AUCs of the whole test set. names: what each is called, by its
    folder. Without a run that may stand in it, the report has no table, and its notes say why.
    """
    verdicts = _judged(runs)
    shown = [verdict for verdict in verdicts if not _against(verdict)]
    notes = [f"{names[item.run.folder]}: {'; '.join(_against(item))}" for item in verdicts if _against(item)]
    if not shown:
        return Report(TITLE, (), tuple(notes or ["No run has AUCs of a whole test set"]), key="paper")
    left_out = ["Not in this table: " + "; ".join(notes)] * bool(notes)
    return Report(TITLE, (_table(shown, names),), tuple(left_out), key="paper")


def _judged(runs: Sequence[Run]) -> list[Verdict]:
    known = known_splits()
    splits = tuple({run.split for run in runs if run.split in known}) or (OFFICIAL,)
    return judge(runs, splits, published.table5().label_release)


def _against(verdict: Verdict) -> tuple[str, ...]:
    """Return why a run has no place beside others; with a split of one's own there is nothing to differ from."""
    of_a_known_split = verdict.run.split in known_splits()
    return verdict.reasons if of_a_known_split and not verdict.elsewhere else ()


def _table(shown: Sequence[Verdict], names: Mapping[Path, str]) -> Table:
    runs = [verdict.run for verdict in shown]
    labels: LabelSet = runs[0].scores.labels
    columns = []
    for verdict in shown:
        name = names[verdict.run.folder]
        heading = run_heading(name, (), doubtful=bool(verdict.doubts), width=16)
        heading = in_heading(heading, run_marks(verdict.run))
        columns.append(Column(name, heading, ("auc",), own=True, doubts=verdict.doubts))
    rows: Sequence[Row] = label_rows((score_cells(run, uncertainty=True) for run in runs), labels)
    rows = [row for row in rows if any(cell is not EMPTY for cell in row.cells)]
    if len(runs) > 1:
        rows = bold_best(rows, "auc", DECIMALS, set(range(len(runs))))
    title = f"Area under the ROC curve (AUC) [95 % confidence interval] on {_where(runs[0])}"
    return Table(title, "Pathology", tuple(columns), tuple(rows), tuple(_notes(shown, names, labels)), "paper")


def _where(run: Run) -> str:
    dataset = _DATA_SETS.get(run.origin.dataset, run.origin.dataset)
    if run.split == OFFICIAL:
        return f"the official test set of {dataset}"
    return f"the test set of split {run.split} of {dataset}"


def _notes(shown: Sequence[Verdict], names: Mapping[Path, str], labels: LabelSet) -> list[str]:
    runs = [verdict.run for verdict in shown]
    test, origin = runs[0].test, runs[0].origin
    release = _RELEASES.get(origin.label_release, f"labels: {origin.label_release}")
    split = "official split" if origin.split == OFFICIAL else f"split {origin.split}"
    notes = [f"Test set: {split}, {counted(test.images, 'image')} of {counted(test.patients, 'patient')}; {release}"]
    bold = "; bold: the highest AUC of a row as printed, ties included, which is no test of a difference"
    notes.append(
        f"AUC: area under the receiver operating characteristic curve; average: unweighted mean over the "
        f"{len(labels.averaged)} pathologies" + bold * (len(runs) > 1)
    )
    metrics = [metric for run in runs for metric in aucs(run)]
    made = dict.fromkeys(metric.interval for metric in metrics if metric.lower is not None)
    notes += [f"Confidence intervals: {how}" for how in made if how]
    notes += [APPROXIMATE_NOTE] * any(map(is_approximate, metrics))
    notes += [TOO_FEW_NOTE] * any(metric.mark == TOO_FEW for metric in metrics)
    notes += [CONSTANT_NOTE] * any(map(has_constant, runs))
    return [*notes, *_doubts(shown, names), *mark_notes(mark for run in runs for mark in run_marks(run))]


def _doubts(shown: Sequence[Verdict], names: Mapping[Path, str]) -> list[str]:
    """Say what the star stands for, once for all runs of which the same is not verified."""
    alike: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for verdict in shown:
        if verdict.doubts:
            alike[verdict.doubts].append(names[verdict.run.folder])
    every = len(alike) == 1 and len(next(iter(alike.values()))) == len(shown)
    return [
        f"{UNCHECKED} Not verified" + f" ({', '.join(who)})" * (not every) + f": {'; '.join(doubts)}"
        for doubts, who in alike.items()
    ]
