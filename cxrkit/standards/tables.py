"""Two tables of a run: its test metrics by label with intervals and counts, and who is in each partition."""

from __future__ import annotations

from cxrkit.base.contracts import Metric
from cxrkit.report.document.tables import AVERAGE, EMPTY, Cell, Column, Row, Table
from cxrkit.report.evidence.metric_names import metric_name
from cxrkit.report.evidence.undefined import defined_names, undefined_words
from cxrkit.standards.cases import Cases
from cxrkit.standards.facts import RunFacts
from cxrkit.standards.words import (
    SUBSET_WORDS,
    count,
    groups_found,
    how_intervals,
    listed,
    value_words,
)


def performance_table(facts: RunFacts) -> Table:
    """Return every metric of the test images by label, then the mean, then the labels beside it.

    A metric without any value has no column: a note names it and says why.
    """
    test, labels = facts.run.test, facts.labels
    names = defined_names(test)
    has_counts = any(metric.positives is not None for metric in test.overall)
    columns = [Column(name, (metric_name(name),)) for name in names]
    if has_counts:
        columns.append(Column("positive", ("Positive images (patients)",)))
    rows = []
    for label in (*labels.averaged, None, *labels.beside):
        found = [test.metric(name, label) for name in names]
        if not any(found):
            continue
        cells = [Cell(value_words(metric)) if metric else EMPTY for metric in found]
        if has_counts:
            cells.append(_counts(found) if label else EMPTY)
        heading = labels.heading(label) if label else AVERAGE
        rows.append(Row(label or AVERAGE, heading, tuple(cells), rule_above=label is None))
    whole = "" if test.complete else f" of {test.subset_images:,}"
    how = how_intervals(facts)
    notes = [f"In square brackets: intervals, {how}"] if how else []
    if any(metric.mark for metric in test.overall):
        notes.append("In round brackets: how far an interval can be trusted, by the number of patients behind it")
    if undefined := undefined_words(test):
        notes.append(f"Left out, for want of any value: {'; '.join(undefined)}")
    title = f"Test metrics: {test.images:,}{whole} images of {count(test.patients, 'patient')}"
    return Table(title, "Label", tuple(columns), tuple(rows), tuple(notes), key="performance")


def subgroups_table(facts: RunFacts) -> Table | None:
    """Return the mean of each metric in each group of the test images; None where no group was evaluated."""
    groups, test = groups_found(facts), facts.run.test
    metrics = [metric for metric in test.metrics if metric.group in groups and metric.label is None]
    names = tuple(dict.fromkeys(metric.name for metric in metrics if metric.value is not None))
    if not names:
        return None
    rows = []
    for group in groups:
        found = [test.metric(name, None, group) for name in names]
        cells = (Cell(value_words(metric)) if metric else EMPTY for metric in found)
        rows.append(Row(group, f"{group[0].upper()}{group[1:]}", tuple(cells)))
    over: dict[str, list[str]] = {}
    for metric in metrics:
        if metric.reason and metric.value is not None and metric.group not in over.setdefault(metric.reason, []):
            over[metric.reason].append(metric.group)
    how = dict.fromkeys(metric.interval for metric in metrics if metric.lower is not None and metric.interval)
    notes = [f"In square brackets: intervals, {'; '.join(how)}"] if how else []
    notes += [f"Means of {listed(of)}: {reason}" for reason, of in over.items()]
    columns = tuple(Column(name, (f"{metric_name(name)}, mean over the labels",)) for name in names)
    return Table("Subgroups of the test images", "Group", columns, tuple(rows), tuple(notes), key="subgroups")


def _counts(metrics: list[Metric | None]) -> Cell:
    metric = next((item for item in metrics if item is not None and item.positives is not None), None)
    if metric is None:
        return EMPTY
    patients = "" if metric.positive_patients is None else f" ({metric.positive_patients:,})"
    return Cell(f"{metric.positives:,}{patients}")


def cases_table(facts: RunFacts) -> Table | None:
    """Return who is in each partition; None where the labels cannot be read any more."""
    parts = [(item, item.cases) for item in facts.partitions_used if item.cases is not None and item.used]
    if not parts:
        return None
    known = [(item, cases) for item, cases in parts if cases is not None]
    rows = [
        _case_row("Images", [f"{item.used:,}" for item, _ in known]),
        _case_row("Women", [f"{cases.female:,}" for _, cases in known]),
        _case_row("Men", [f"{cases.male:,}" for _, cases in known]),
        _case_row("Age in years, median (quartiles)", [_age(cases) for _, cases in known]),
    ]
    for view in sorted({view for _, cases in known for view in cases.views}):
        rows.append(_case_row(f"View {view}", [f"{cases.views.get(view, 0):,}" for _, cases in known]))
    findings = [label for label in facts.labels.labels if any(label in cases.positives for _, cases in known)]
    for place, label in enumerate(findings):
        counts = [f"{cases.positives.get(label, 0):,}" for _, cases in known]
        rows.append(_case_row(facts.labels.heading(label), counts, rule_above=place == 0))
    columns = tuple(Column(item.subset, (SUBSET_WORDS[item.subset].capitalize(),)) for item, _ in known)
    notes = ("Of the images that were used; below: images that have a label",) if findings else ()
    return Table("Cases of each partition", "", columns, tuple(rows), notes, key="cases")


def _case_row(heading: str, texts: list[str], *, rule_above: bool = False) -> Row:
    return Row("", heading, tuple(map(Cell, texts)), rule_above=rule_above)


def _age(cases: Cases) -> str:
    if cases.age_years is None:
        return "-"
    lower, middle, upper = cases.age_years
    return f"{middle:g} ({lower:g}, {upper:g})"
