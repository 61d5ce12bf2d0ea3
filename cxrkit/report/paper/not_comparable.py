"""Runs that must not stand in a comparison: named with the reason, and on demand shown by themselves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

from cxrkit.base.labels import LabelSet
from cxrkit.base.words import count as counted
from cxrkit.report.document.numbers import rounded
from cxrkit.report.document.tables import Cell, Column, Row, Table, label_rows
from cxrkit.report.evidence.cells import (
    APPROXIMATE_NOTE,
    CONSTANT_NOTE,
    aucs,
    has_constant,
    is_approximate,
    run_heading,
    score_cells,
)
from cxrkit.report.evidence.comparability import Verdict
from cxrkit.report.evidence.runs import Run
from cxrkit.report.evidence.variants import details, full_name, variant_of

# Runs side by side in a table of their numbers; a page of text has no room for more.
SIDE_BY_SIDE = 4
_COMMANDS = 3  # that are named below a table


def not_comparable_tables(
    verdicts: Iterable[Verdict], apart: bool, detailed: Callable[[Run], bool], among: Sequence[Run] = ()
) -> Iterator[Table]:
    """Yield a short table: how many runs were kept apart, why, and their names.

    apart: instead, a table with a row for each run, then the AUCs of those that are `detailed` and have any. among: all
    of the report's runs (variants.details).
    """
    verdicts = [verdict for verdict in verdicts if not verdict.comparable]
    if not verdicts:
        return
    if not apart:
        yield _summary(verdicts)
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
        yield _numbers_table(group, group[0].run.scores.labels, which, f"apart-{number}", among)


def _summary(verdicts: list[Verdict]) -> Table:
    """Return a row for each reason, those with the most runs first."""
    alike: dict[tuple[str, ...], list[Run]] = defaultdict(list)
    for verdict in verdicts:
        alike[verdict.reasons].append(verdict.run)
    rows = [
        Row("", f"{len(runs):,}", (Cell("; ".join(reasons)), Cell(_names(runs))))
        for reasons, runs in sorted(alike.items(), key=lambda item: -len(item[1]))
    ]
    count = counted(len(verdicts), "run")
    return Table(
        f"Kept out of the comparison: {count}",
        "Runs",
        (Column("why", ("Why",), left=True), Column("names", ("Names",), left=True)),
        tuple(rows),
        ("`--apart` shows each of them, with its numbers", *_mending(verdicts)),
        key="apart",
    )


def _mending(verdicts: list[Verdict]) -> list[str]:
    """Return the commands that mend what keeps runs apart, where there are any; the first of many."""
    commands = list(dict.fromkeys(command for verdict in verdicts for command in verdict.mended_by))
    more = f", and {len(commands) - _COMMANDS} more" if len(commands) > _COMMANDS else ""
    said = ", ".join(f"`{command}`" for command in commands[:_COMMANDS])
    return [f"What mends it: {said}{more}"] if commands else []


def _names(runs: Iterable[Run]) -> str:
    """Return "net (official, resample-1), other (official)"."""
    splits: dict[str, list[str]] = defaultdict(list)
    for run in runs:
        seed = f" seed {run.scores.seed}" if run.scores.seed else ""
        splits[run.name].append(f"{run.split}{seed}")
    return ", ".join(f"{name} ({', '.join(found)})" for name, found in splits.items())


def _numbers_table(verdicts: list[Verdict], labels: LabelSet, which: str, key: str, among: Sequence[Run]) -> Table:
    variants = {id(verdict): variant_of(verdict.run) for verdict in verdicts}
    words = details(variants.values(), {}, among)
    columns = []
    for verdict in verdicts:
        variant = variants[id(verdict)]
        run = verdict.run
        name = full_name(variant, words[variant])
        columns.append(
            Column(
                name=f"{name}, {run.split}",
                heading=(*run_heading(run.name, words[variant], doubtful=bool(verdict.doubts)), run.split),
                fields=("auc",),
                own=True,
                doubts=(*(f"not comparable: {reason}" for reason in verdict.reasons), *verdict.doubts),
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
        key=key,
    )


def _reasons_table(verdicts: list[Verdict]) -> Table:
    columns = [Column(head, (head,), own=True) for head in ("Split", "Average")]
    rows = []
    for verdict in verdicts:
        mean = verdict.run.auc()
        average = "-" if mean is None or mean.value is None else rounded(mean.value)
        why = "; ".join((*verdict.reasons, *verdict.doubts))
        rows.append(Row("", verdict.run.name, tuple(map(Cell, (verdict.run.split, average, why)))))
    return Table(
        "Not comparable: runs kept out of the comparison",
        "Run",
        (*columns, Column("why", ("Why",), left=True)),
        tuple(rows),
        tuple(_mending(verdicts)),
        key="apart",
    )
