"""`cxrkit report --official-split`: Table 5 of Baltruschat et al. 2019 with the user's runs in it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from cxrkit.base.labels import CHESTXRAY14
from cxrkit.report.document.numbers import rounded
from cxrkit.report.document.tables import (
    AVERAGE,
    Cell,
    Column,
    Report,
    Row,
    Table,
    bold_best,
    label_rows,
)
from cxrkit.report.evidence.common_terms import terms_notes
from cxrkit.report.evidence.comparability import judge
from cxrkit.report.evidence.epochs import EpochChoice, at_epochs
from cxrkit.report.evidence.reference import known_splits
from cxrkit.report.evidence.runs import FoundRuns, Run, found_in, without_probes
from cxrkit.report.literature import published, works
from cxrkit.report.literature.marks import in_heading, mark_notes, marks_of
from cxrkit.report.literature.published import Published, Table5, of_the_paper
from cxrkit.report.paper import own_metrics
from cxrkit.report.paper.counterparts import counterparts, without_figures
from cxrkit.report.paper.not_comparable import not_comparable_tables
from cxrkit.report.paper.official_notes import table_notes
from cxrkit.report.paper.own_columns import DECIMALS, OwnColumns
from cxrkit.report.paper.own_intervals import interval_table
from cxrkit.report.paper.rank import rank_table

SPLIT = "official"


def official(
    runs: Path | FoundRuns, also: Sequence[str] = (), epoch: EpochChoice = "own", *, apart: bool = False
) -> Report:
    """Return the official-split table: published columns, and beside them every run that compares with them.

    runs: their folder, or what was found in it. also: literature results to add as columns, as `works.resolve_also`
    reads them: keys, "primary", "top10", "all". epoch: the one of each run that stands in the table (epochs.py). apart:
    show the numbers of the runs that do not compare, too. Raises UserError when `runs` holds no evaluated run, and for
    a result that is unknown or does not compare.
    """
    table = published.table5()
    added = _added(also, table)
    columns = (*table.columns, *(column for column in added if column.auc))
    averages = [column for column in added if not column.auc]
    found, probes_note = without_probes(found_in(runs))
    folds = known_splits().keys() - {SPLIT}
    verdicts = judge((run for run in found.runs if run.split not in folds), (SPLIT,), table.label_release)
    comparable = [verdict for verdict in verdicts if verdict.comparable]
    at = at_epochs(comparable, epoch, lambda run: judge([run], (SPLIT,), table.label_release)[0])
    own = OwnColumns(at, columns, found.runs)
    others = [verdict for verdict in verdicts if not verdict.comparable] + list(at.without)
    tables = [_main_table(table, columns, own, reasons_follow=bool(others))]
    if at.columns:
        tables.append(interval_table(own))
    ranks = rank_table(
        [(", ".join(words), verdict) for _, words, verdict in own.runs()],
        table.label_release,
        works.comparable() if "all" in also else [works.get(column.key) for column in averages],
    )
    tables += [ranks] if ranks else []
    tables += counterparts(
        dict(zip(own.members, own.cells(), strict=True)), own.words, [c.key for c in columns], table.label_release
    )
    tables += not_comparable_tables(others, apart, detailed=lambda run: run.split == SPLIT, among=found.runs)
    tables += own_metrics.tables((run for run in found.runs if run.split not in folds), found.runs)
    notes = [
        *terms_notes(found.runs),
        *found.unusable,
        *probes_note,
        *elsewhere_note(found.runs, folds, "resampling folds", "cxrkit report"),
    ]
    notes += _averages_note(averages, ranked=ranks is not None)
    notes += without_figures(own.members)
    return Report("ChestX-ray14, official split", tuple(tables), tuple(notes), key="official")


def _added(also: Sequence[str], table: Table5) -> list[Published]:
    """Return the columns that are asked for beside those of the paper."""
    keys = works.resolve_also(",".join(also)) if also else ()
    own = {column.key for column in table.columns}
    return [published.from_literature(key) for key in keys if key not in own]


def _averages_note(columns: Sequence[Published], *, ranked: bool) -> list[str]:
    """Say of works that have no AUCs of labels where they stand: columns of dashes would say nothing."""
    if not columns:
        return []
    many = f"{len(columns)} of the results that were asked for give"
    who = f"{columns[0].key} gives" if len(columns) == 1 else many
    said = f"Of the pathologies {who} the average alone"
    if ranked:
        return [f"{said}: in the table of ranks"]
    means = [f"{column.key} {rounded(column.mean, DECIMALS)}" for column in columns if column.mean is not None]
    return [f"{said}: {', '.join(means)}"]


def _main_table(table: Table5, columns: Sequence[Published], own: OwnColumns, *, reasons_follow: bool) -> Table:
    heads = [_published_head(column, table.label_release) for column in columns]
    rivals = {*range(len(heads)), *(len(heads) + index for index, altered in enumerate(own.altered) if not altered)}
    heads += own.columns()
    cells = [*map(_published_cells, columns), *own.cells()]
    rows = bold_best(label_rows(cells, CHESTXRAY14), "auc", DECIMALS, rivals)
    means = [auc for index in rivals if (mean := cells[index].get(AVERAGE)) and (auc := mean.values["auc"]) is not None]
    return Table(
        f"AUC on the official test set ({of_the_paper('Table 5')})",
        "Pathology",
        tuple(heads),
        (*rows, _pretraining_row(columns, own)),
        tuple(table_notes(table, columns, own, means, reasons_follow=reasons_follow)),
        key="table5",
    )


def _published_head(column: Published, label_release: str) -> Column:
    marks = marks_of(works.get(column.key), label_release)
    doubts = tuple(mark_notes(marks))
    return Column(column.name, in_heading(column.heading, marks), ("auc",), doubts=doubts, cite=column.key)


def _pretraining_row(columns: Sequence[Published], own: OwnColumns) -> Row:
    """Return what each network had seen before; it is no number, so a CSV has no place for it."""
    seen = [works.get(column.key).pretrained.seen for column in columns]
    seen += [members[0].run.origin.saw.seen for members in own.members.values()]
    return Row("", "Pretraining", tuple(map(Cell, seen)), rule_above=True)


def _published_cells(column: Published) -> dict[str, Cell]:
    cells = {label: Cell(rounded(auc, DECIMALS), {"auc": auc}) for label, auc in column.auc.items()}
    if column.mean is not None:
        cells[AVERAGE] = Cell(rounded(column.mean, DECIMALS), {"auc": column.mean})
    return cells


def elsewhere_note(runs: Sequence[Run], splits: Collection[str], what: str, command: str) -> list[str]:
    """Return a note on the runs that another table of the paper is about."""
    count = sum(run.split in splits for run in runs)
    if not count:
        return []
    how_many = f"{count} runs on {what} belong" if count > 1 else f"1 run on {what} belongs"
    return [f"{how_many} in another table: `{command}`"]
