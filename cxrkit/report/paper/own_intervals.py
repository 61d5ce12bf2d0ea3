"""The intervals of the runs in the official table, with the positives and effective patients behind them."""

from __future__ import annotations

from cxrkit.base.labels import CHESTXRAY14
from cxrkit.report.document.tables import AVERAGE, Cell, Column, Table, label_rows
from cxrkit.report.evidence.cells import APPROXIMATE_NOTE, aucs, interval_cells, is_approximate
from cxrkit.report.paper.own_columns import OwnColumns

EFFECTIVE_NOTE = (
    "Effective patients: how many with equally many images would say as much; of the positives or of the negatives, "
    "whichever are fewer; of the average, the fewest of its labels, which is the cautious choice"
)


def interval_table(own: OwnColumns) -> Table:
    """Return the intervals by themselves: beside published AUCs they would not fit a terminal."""
    heads = own.by_run()
    metrics = [metric for _, run in heads for metric in aucs(run)]
    # Comparable runs have the same test images and labels, hence the same positives and patients: those of the first
    # run that has the label.
    told = {metric.label or AVERAGE: metric for metric in reversed(metrics)}
    positives = {key: Cell(f"{metric.positives:,}") for key, metric in told.items() if metric.positives is not None}
    effective = {
        key: Cell(f"{metric.clusters_effective:,.0f}")
        for key, metric in told.items()
        if metric.clusters_effective is not None
    }
    counts = [(Column("positives", ("Positives",)), positives)]
    if effective:
        counts.append((Column("effective patients", ("Effective", "patients")), effective))
    made = [metric.interval for metric in metrics if metric.lower is not None]
    notes = [f"Intervals: {how}" for how in dict.fromkeys(made) if how]
    notes += [EFFECTIVE_NOTE] * bool(effective)
    notes += [APPROXIMATE_NOTE] * any(map(is_approximate, metrics))
    if any(run.own is not None for _, run in heads):
        notes.append("-: an epoch that is not the run's own best one has no intervals")
    return Table(
        "95 % confidence intervals on the official test set",
        "Pathology",
        (*(head for head, _ in counts), *(head for head, _ in heads)),
        label_rows([*(cells for _, cells in counts), *(interval_cells(run) for _, run in heads)], CHESTXRAY14),
        tuple(notes),
        key="intervals",
    )
