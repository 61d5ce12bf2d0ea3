"""Runs that must not stand in a comparison: shown all the same, by themselves, each with the reason."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from cxrkit.base.labels import LabelSet
from cxrkit.report.cells import (
    APPROXIMATE_NOTE,
    CONSTANT_NOTE,
    aucs,
    csv_fields,
    has_constant,
    is_approximate,
    run_heading,
    score_cells,
)
from cxrkit.report.comparability import Verdict
from cxrkit.report.runs import Run
from cxrkit.report.tables import Cell, Column, Row, Table, label_rows
from cxrkit.report.variants import details, full_name, variant_of

# Runs side by side in a table of their numbers; a page of text has no room for more.
SIDE_BY_SIDE = 4


def not_comparable_tables(verdicts: Iterable[Verdict], detailed: Callable[[Run], bool]) -> Iterator[Table]:
    """Yield a table that names each run with its reasons, then the AUCs of those that are `detailed` and have any."""
    verdicts = [verdict for verdict in verdicts if not verdict.comparable]
    if not verdicts:
        return
    yield _reasons_table(verdicts)
    by_labels: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        if detailed(verdict.run) and verdict.run.has_auc:
            by_labels.setdefault(verdict.run.origin.label_set, []).append(verdict)
    groups = [
        group[start : start + SIDE_BY_SIDE]
        for group in by_labels.values()
        for start in range(0, len(group), SIDE_BY_SIDE)
    ]
    for number, group in enumerate(groups, 1):
        which = f" ({number})" if len(groups) > 1 else ""
        yield _numbers_table(group, group[0].run.scores.labels, which)


def _numbers_table(verdicts: list[Verdict], labels: LabelSet, which: str) -> Table:
    variants = {id(verdict): variant_of(verdict.run) for verdict in verdicts}
    words = details(variants.values(), {})
    columns = []
    for verdict in verdicts:
        variant = variants[id(verdict)]
        run = verdict.run
        name = full_name(variant, words[variant])
        columns.append(
            Column(
                name=f"not comparable ({'; '.join(verdict.reasons)}): {name} {run.split}",
                heading=(*run_heading(run.name, words[variant], doubtful=bool(verdict.doubts)), run.split),
                fields=csv_fields(run),
                own=True,
            )
        )
    runs = [verdict.run for verdict in verdicts]
    notes = [CONSTANT_NOTE] * any(map(has_constant, runs))
    notes += [APPROXIMATE_NOTE] * any(is_approximate(metric) for run in runs for metric in aucs(run))
    return Table(
        f"Not comparable: their numbers{which}",
        "Pathology",
        tuple(columns),
        label_rows((score_cells(run, uncertainty=True) for run in runs), labels),
        tuple(notes),
    )


def _reasons_table(verdicts: list[Verdict]) -> Table:
    columns = [Column(head, (head,), own=True) for head in ("Split", "Average")]
    rows = []
    for verdict in verdicts:
        mean = verdict.run.auc()
        average = "-" if mean is None or mean.value is None else f"{mean.value:.3f}"
        why = "; ".join((*verdict.reasons, *verdict.doubts))
        rows.append(Row("", verdict.run.name, tuple(map(Cell, (verdict.run.split, average, why)))))
    return Table(
        "Not comparable: runs kept out of the comparison",
        "Run",
        (*columns, Column("why", ("Why",), left=True)),
        tuple(rows),
    )
