"""The tables of an audit on films with a chest drain."""

from __future__ import annotations

from cxrkit.audit.cells import auc_cell, count_cell
from cxrkit.audit.tables import average_notes, gap_cell, label_rows_of
from cxrkit.audit.with_drains import FINDING, WithDrains
from cxrkit.base.words import count as counted
from cxrkit.report.document.tables import EMPTY, Cell, Column, Row, Table
from cxrkit.statistics import clustered


def drain_tables(found: WithDrains) -> list[Table]:
    """Return the finding with and without a drain, and all labels without the patients with a drain."""
    tables = [_finding(found)] if found.groups else []
    return [*tables, _labels(found)]


def _finding(found: WithDrains) -> Table:
    labels = found.evidence.labels
    name = labels.heading(FINDING)
    columns = (
        Column("images", ("images",), ("images",), own=True),
        Column("patients", ("patients",), ("patients",), own=True),
        Column("AUC", ("AUC",), ("auc",), own=True),
    )
    rows = []
    for drained, words in ((True, "with a drain"), (False, "without a drain")):
        group = found.groups[drained]
        counts = count_cell(group.positives, "images"), count_cell(group.estimate.positive_patients, "patients")
        rows.append(Row(words, words, (*counts, auc_cell(group.estimate))))
    gap = EMPTY if found.gap is None else gap_cell(found.gap)
    rows.append(Row("difference", "with less without", (EMPTY, EMPTY, gap), rule_above=True))
    count = found.unlisted
    notes = [
        f"Films with {name} and a drain, or none, each told from all test images without {name}; brackets: 95 % "
        "intervals over patients, who may be in both rows",
        "A drain treats a pneumothorax: a network that finds it by the drain finds those that are treated",
    ]
    if count:
        notes.append(f"{counted(count, 'film')} with {name} are not on the list, and in neither row"
                     if count != 1 else f"1 film with {name} is not on the list, and in neither row")  # fmt: skip
    return Table(f"{name} with and without a chest drain", f"Films with {name}", columns, tuple(rows), tuple(notes),
                 key="audit-drains", rows_are_runs=True)  # fmt: skip


def _labels(found: WithDrains) -> Table:
    labels = found.evidence.labels

    def cells(place: int) -> tuple[Cell, ...]:
        gap = EMPTY if found.against is None else gap_cell(found.against.labels[place])
        return auc_cell(found.all[place]), auc_cell(found.without[place], interval=False), gap

    average = None
    if found.against is not None:
        means = [clustered.mean([group[place] for place in found.averaged]) for group in (found.all, found.without)]
        average = (auc_cell(means[0]), auc_cell(means[1], interval=False), gap_cell(found.against.mean))
    columns = (
        Column("all images", ("all images",), ("auc",), own=True),
        Column("without", ("without", "them"), ("auc",), own=True),
        Column("difference", ("difference",), ("difference",), own=True),
    )
    notes = [
        f"Of {len(found.evidence.images):,} test images {found.listed:,} are on the list, {found.drained:,} of them "
        f"with a drain; their {counted(found.patients, 'patient')} have {counted(found.left_out, 'test image')}, "
        "which are left out",
        "Brackets: 95 % intervals over patients. What is left out are ill patients with many films: an AUC also "
        "changes because those that are left are others",
        f"List: {found.drains.path.name}, {found.drains.listed:,} films",
    ]
    if count := found.drains.unclear:
        notes.append(f"{counted(count, 'film')} of the data set stand in it with a drain and without one, "
                     "and are left out")  # fmt: skip
    notes += average_notes(labels, found.averaged)
    title = "Without the patients who have a chest drain on some test image"
    return Table(title, "Finding", columns, label_rows_of(labels, cells, average, found.averaged), tuple(notes),
                 key="audit-drains-labels")  # fmt: skip
