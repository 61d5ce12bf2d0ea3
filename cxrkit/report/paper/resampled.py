"""`cxrkit report`: Table 3 of Baltruschat et al. 2019, mean and standard deviation over the resampling folds.

Runs on another data set, the phantoms above all, stand beside nothing published, but beside each other: they have a
table of their own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cxrkit.base.labels import CHESTXRAY14
from cxrkit.datasets.splits import resample
from cxrkit.report.document.tables import Report, Table
from cxrkit.report.evidence.common_terms import terms_notes
from cxrkit.report.evidence.comparability import Verdict, judge
from cxrkit.report.evidence.epochs import AtEpochs, EpochChoice, at_epochs
from cxrkit.report.evidence.runs import FoundRuns, Run, found_in, without_probes
from cxrkit.report.literature import published
from cxrkit.report.literature.published import of_the_paper
from cxrkit.report.paper import own_metrics
from cxrkit.report.paper.counterparts import without_figures
from cxrkit.report.paper.figure5 import figure5
from cxrkit.report.paper.folds import folds_table
from cxrkit.report.paper.not_comparable import not_comparable_tables
from cxrkit.report.paper.official import SPLIT as OFFICIAL
from cxrkit.report.paper.official import elsewhere_note

TITLE = "AUC x 100, mean ± standard deviation over the resampling folds"


def resampled(runs: Path | FoundRuns, epoch: EpochChoice = "own", *, apart: bool = False) -> Report:
    """Return the resampling table: each variant over the folds that exist, and the paper's matching column beside it.

    runs: their folder, or what was found in it. epoch: the one of each run that stands in the table (epochs.py).
    apart: show the numbers of the runs that do not compare, too. Raises UserError when `runs` holds no evaluated run.
    """
    table = published.table3()
    splits = tuple(map(resample, range(1, table.folds + 1)))
    found, probes_note = without_probes(found_in(runs))

    def judged(run: Run) -> Verdict:
        return judge([run], splits, table.label_release)[0]

    verdicts = judge((run for run in found.runs if run.split != OFFICIAL), splits, table.label_release)
    at = at_epochs([verdict for verdict in verdicts if verdict.comparable], epoch, judged)
    tables = folds_table(f"{TITLE} ({of_the_paper('Table 3')})", table, at, among=found.runs)
    any_comparable, elsewhere = bool(tables), _elsewhere(verdicts)
    others = [item for item in verdicts if not item.comparable and not item.elsewhere] + list(at.without)
    for group in elsewhere:
        own = at_epochs(group, epoch, lambda run: _beside_its_like(judged(run)))
        tables += _own_tables(own, group, found.runs)
        others += own.without
    tables += not_comparable_tables(others, apart, detailed=lambda run: run.split in splits, among=found.runs)
    tables += own_metrics.tables((run for run in found.runs if run.split != OFFICIAL), found.runs)
    notes = [*terms_notes(found.runs), *found.unusable, *probes_note]
    if not any_comparable:
        notes.insert(
            0, f"No run compares with {of_the_paper('Table 3')} yet; it takes the folds {splits[0]} to {splits[-1]}"
        )
    notes += without_figures(at.columns)
    figures = tuple(figure5(at, table, found.runs))
    notes += elsewhere_note(found.runs, [OFFICIAL], "the official split", "cxrkit report --official-split")
    return Report("ChestX-ray14, resampling by patient", tuple(tables), tuple(notes), figures, key="resampled")


def _elsewhere(verdicts: Sequence[Verdict]) -> list[list[Verdict]]:
    """Return the runs that nothing but their data set speaks against, in groups that may stand side by side."""
    groups: dict[tuple[str, ...], list[Verdict]] = defaultdict(list)
    order = list(published.table3().columns)  # the paper's networks in the paper's order, before all others
    models = [verdict.run.scores.model for verdict in verdicts]
    places = [order.index(model) if model in order else len(order) for model in models]
    for _, verdict in sorted(zip(places, verdicts, strict=True), key=lambda pair: pair[0]):
        if verdict.elsewhere:
            origin = verdict.run.origin
            same = (origin.dataset, origin.label_set, origin.labels_digest, origin.metadata_digest)
            groups[*same, origin.pixels_digest].append(_beside_its_like(verdict))
    return list(groups.values())


def _beside_its_like(verdict: Verdict) -> Verdict:
    """Return the verdict for a table of its own data set: that this is another one is no reason there, all else is."""
    return replace(verdict, reasons=()) if verdict.elsewhere else verdict


def _own_tables(at: AtEpochs, group: Sequence[Verdict], among: Sequence[Run]) -> list[Table]:
    labels, dataset = group[0].run.scores.labels, group[0].run.origin.dataset
    what = dataset if labels.name == CHESTXRAY14.name else f"{dataset}, labels {labels.name}"
    alone = replace(published.table3(), columns={})
    return [
        replace(
            table,
            notes=(
                "Another data set than that of published results: none may stand beside these numbers",
                *table.notes,
            ),
        )
        for table in folds_table(f"{TITLE}: {what}", alone, at, labels, among)
    ]
