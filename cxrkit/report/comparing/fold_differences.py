"""What stands under Table 3: set-up against set-up over the folds, by what their spread really says."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from cxrkit.base.labels import LabelSet
from cxrkit.base.words import count
from cxrkit.datasets.splits import resample
from cxrkit.report.comparing.contests import OnFolds
from cxrkit.report.comparing.difference_cells import fold_notes
from cxrkit.report.comparing.matrix import by_average, matrix_table
from cxrkit.report.document.tables import Table
from cxrkit.report.evidence.runs import Run

SAMPLING_NOTE = (
    "One model's sampling error on one such test set is about 1.0 point a label, and the paper's mean standard "
    "deviation over folds 0.9 to 1.2: most of that spread is the test patients'"
)


def fold_differences(setups: Mapping[str, Mapping[int, Sequence[Run]]], labels: LabelSet) -> list[Table]:
    """Return the matrix of differences between set-ups, fold against fold; none where fewer than two can be compared.

    setups: by name, the runs of each fold, one for each seed; seeds are averaged in each fold first. Those that have
    the most folds are compared, over the folds that all of them have; a note names the others. Where these have several
    folds in common with them, too, a second matrix compares all over those.
    """
    most = max((len(folds) for folds in setups.values()), default=0)
    compared = {name: folds for name, folds in setups.items() if len(folds) == most}
    counts = {name: len(folds) for name, folds in setups.items() if name not in compared}
    left_out = [f"Not compared: {name}, which has {count(n, 'fold')} of {most}" for name, n in counts.items()]
    tables = _matrix(compared, labels, left_out, "fold-differences")
    several = {name: folds for name, folds in setups.items() if len(folds) > 1}
    if len(several) > len(compared):
        left_out = [f"Not compared: {name}, which has 1 fold" for name in setups if name not in several]
        tables += _matrix(several, labels, left_out, "fold-differences-common")
    return tables


def _matrix(
    compared: Mapping[str, Mapping[int, Sequence[Run]]], labels: LabelSet, left_out: Sequence[str], key: str
) -> list[Table]:
    """Return the matrix over the folds that all have, with notes on the others; none for one, or for one fold."""
    common = sorted(set.intersection(*map(set, compared.values()))) if compared else []
    if len(compared) < 2 or len(common) < 2:
        return []
    value_QFL = np.array([[_aucs(folds[number], labels.averaged) for number in common] for folds in compared.values()])
    contest = OnFolds(
        tuple(compared),
        replace(labels, labels=labels.averaged),
        value_QFL,
        tuple(map(resample, common)),
    )
    means = contest.pairwise()
    table = matrix_table(contest, means, by_average(contest), times=100)
    notes = (*table.notes, *fold_notes(contest), SAMPLING_NOTE, *left_out)
    return [replace(table, title=f"{table.title}: average AUC x 100", notes=notes, key=key)]


def _aucs(seeds: Sequence[Run], labels: Sequence[str]) -> list[float]:
    """Return the test AUC of each label, averaged over the seeds of one fold; NaN where a seed has none."""
    found = [[run.auc(label) for label in labels] for run in seeds]
    values = [[math.nan if item is None or item.value is None else item.value for item in seed] for seed in found]
    return [float(value) for value in np.mean(values, axis=0)]
