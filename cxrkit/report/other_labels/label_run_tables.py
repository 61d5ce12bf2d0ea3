"""AUCs against two sets of labels, side by side: a table for one run, and one with a row for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cxrkit.base.contracts import Metric
from cxrkit.evaluators.label_sources import LabelSource
from cxrkit.report.document.numbers import signed
from cxrkit.report.document.tables import AVERAGE, EMPTY, ROUGHLY, Cell, Column, Row, Table
from cxrkit.report.evidence import comparability
from cxrkit.report.evidence.cells import APPROXIMATE_NOTE, CONSTANT_NOTE, is_approximate, metric_cell
from cxrkit.report.evidence.comparability import doubt_notes
from cxrkit.report.evidence.reference import known_splits
from cxrkit.report.literature.published import table5
from cxrkit.report.other_labels.held_against import HeldAgainst
from cxrkit.report.other_labels.label_agreement import of_images
from cxrkit.statistics.comparing import Comparison
from cxrkit.statistics.intervals import APPROXIMATE, TOO_FEW

# A difference stands beside two intervals and must be short: in hundredths of AUC, and in thousandths where two
# releases differ in a few images.
_HUNDREDTHS, _THOUSANDTHS = (
    ("hundredths", 100, "1.0 is an AUC of 0.010"),
    ("thousandths", 1000, "1.0 is an AUC of 0.001"),
)
_AUC_FIELDS = ("auc", "lower", "upper", "positives")


@dataclass(frozen=True)
class Named:
    """A run, what it is called, and what it is worth against a source."""

    name: str
    """Name, what is special about it, and split."""

    found: HeldAgainst
    """Its AUCs."""


def overview(source: LabelSource, named: Sequence[Named]) -> Table:
    """Return a row for each run: its AUCs against the source, or the mean alone where there is one."""
    keys = [AVERAGE] if source.findings.averaged else list(source.findings.labels)
    heads = [Column("images", ("Images",), ("images",))]
    heads += [Column(f"{source.title}: {key}", (source.findings.heading(key),), _AUC_FIELDS) for key in keys]
    rows = []
    for one in named:
        found = one.found
        cells = (_metric_cell(found.source.get(key)) for key in keys)
        rows.append(Row(one.name, one.name, (Cell(f"{found.images:,}", {"images": found.images}), *cells)))
    metrics = [one.found.source[key] for one in named for key in keys if key in one.found.source]
    notes = ["Compare rows of one split only: runs on other splits have other images"] * _differ(named)
    notes += _metric_notes(metrics)
    title = f"AUC against {source.title}, run by run"
    return Table(title, "Run", tuple(heads), tuple(rows), tuple(notes), f"labels-{source.name}-runs")


def _differ(named: Sequence[Named]) -> bool:
    return len({(one.found.images, one.found.run.split) for one in named}) > 1


def run_table(source: LabelSource, one: Named, number: int) -> Table:
    """Return a row for each finding: the AUC against NIH's labels, against the source, and the difference.

    number: of the run among those of the report, from 1; it goes into the table's key.
    """
    found = one.found
    release = found.run.origin.label_release
    unit, factor, _ = _unit(source)
    heads = (
        Column(f"{one.name}, NIH's labels", ("NIH's", f"labels {release}" if release else "labels"), _AUC_FIELDS),
        Column(f"{one.name}, {source.title}", source.heading, _AUC_FIELDS),
        Column(f"{one.name}, difference", ("Difference,", unit), ("difference", "lower", "upper", "p_value")),
    )
    averaged = [AVERAGE] * (AVERAGE in found.source)
    findings = source.findings
    keys = [key for key in (*findings.averaged, *averaged, *findings.beside) if key in found.source]
    rows = tuple(
        Row(
            key,
            findings.heading(key),
            (
                _metric_cell(found.nih.get(key)),
                _metric_cell(found.source.get(key)),
                _difference_cell(found.difference.get(key), factor, same=key in found.same),
            ),
            rule_above=key == AVERAGE,
        )
        for key in keys
    )
    return Table(
        f"{one.name}: AUC against NIH's labels and against {source.title}",
        "Finding",
        heads,
        rows,
        tuple(_run_notes(source, one)),
        f"labels-{source.name}-{number}",
    )


def _unit(source: LabelSource) -> tuple[str, int, str]:
    return _THOUSANDTHS if source.release else _HUNDREDTHS


def _metric_cell(metric: Metric | None) -> Cell:
    return EMPTY if metric is None else metric_cell(metric, uncertainty=True)


def _difference_cell(found: Comparison | None, factor: int, *, same: bool) -> Cell:
    if found is None or found.difference != found.difference:
        return EMPTY
    values = {"difference": found.difference}
    if same:
        return Cell("same labels", values)
    text = signed(factor * found.difference, 1)
    if found.lower == found.lower:  # not NaN
        values |= {"lower": found.lower, "upper": found.upper, "p_value": found.p_value}
        rough = ROUGHLY * (found.mark == APPROXIMATE)
        text += f" {rough}[{signed(factor * found.lower, 1)}, {signed(factor * found.upper, 1)}]"
    elif found.mark == TOO_FEW:
        text += f" ({TOO_FEW})"
    return Cell(text, values)


def _run_notes(source: LabelSource, one: Named) -> list[str]:
    found, run = one.found, one.found.run
    notes = [f"The same scores on the same {of_images(found.images, found.patients)}"]
    whole = source.scored.height
    if source.scored_part and found.images < whole:
        notes[0] += f", of {whole:,} that have {source.title}"
    elif not source.scored_part and found.images < run.test.images:
        notes[0] += f", of the run's {run.test.images:,} test images"
    several = [name for name, labels in source.made_of.items() if len(labels) > 1 and name in found.source]
    if several:
        notes.append(f"{', '.join(several)}: the scores p, q, ... of several labels count as 1 - (1 - p)(1 - q)...")
    if absent := [name for name in source.findings.labels if name not in found.source]:
        notes.append(f"Left out, since the run has no scores of all that stands for it: {', '.join(absent)}")
    unit, _, such_as = _unit(source)
    notes.append(
        f"Difference: the AUC against {source.title} less that against NIH's, in {unit} ({such_as}), with its 95 % "
        "interval over patients"
    )
    if source.scored_part:
        notes.append(
            "The images were not drawn at random: compare these AUCs with each other, not with those of other tables"
        )
    verdict = comparability.judge([run], known_splits().keys(), table5().label_release)[0]
    notes += [f"Kept out of the tables with published results: {'; '.join(verdict.reasons)}"] * bool(verdict.reasons)
    notes += doubt_notes(verdict, one.name)
    return notes + _metric_notes([*found.nih.values(), *found.source.values()])


def _metric_notes(metrics: Sequence[Metric]) -> list[str]:
    made = dict.fromkeys(metric.interval for metric in metrics if metric.lower is not None)
    notes = [f"Intervals of AUCs: {how}" for how in made if how]
    notes += [APPROXIMATE_NOTE] * any(map(is_approximate, metrics))
    return notes + [CONSTANT_NOTE] * any(metric.constant for metric in metrics)
