"""`cxrkit report --probes`: what features say of age, sex and view, as section 3 of Baltruschat et al. 2019 reports it.

A table for each of the three. Folds are pooled where probe and extractor were trained on equal terms: the extractor's
recipe is part of the probe's (config.recipe_digest), while its checkpoint is of course another one in every fold.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from cxrkit.base import manifests
from cxrkit.base.contracts import Metric
from cxrkit.base.labels import AGE, SEX, VIEW, LabelSet
from cxrkit.report.document.tables import EMPTY, ROUGHLY, UNCHECKED, Cell, Column, Number, Report, Row, Table
from cxrkit.report.evidence.cells import APPROXIMATE_NOTE, is_approximate
from cxrkit.report.evidence.comparability import Verdict, doubt_notes, judge
from cxrkit.report.evidence.reference import known_splits
from cxrkit.report.evidence.runs import FoundRuns, Run, found_in, is_probe
from cxrkit.report.evidence.variants import Variant, details, full_name, variant_of
from cxrkit.report.literature.published import of_the_paper
from cxrkit.report.paper.not_comparable import not_comparable_tables
from cxrkit.report.paper.official import SPLIT as OFFICIAL

_TITLES = {
    SEX.name: "Sex, male or not, from the features",
    VIEW.name: "View position, AP or PA, from the features",
    AGE.name: "Age from the features, in years",
}


@dataclass(frozen=True)
class _Measure:
    """A column of a table."""

    name: str
    """The metric's."""

    heading: tuple[str, ...]
    """Printed above."""

    decimals: int
    """Of the printed number."""

    factor: float = 1.0
    """Of the printed number: 100 for per cent."""

    spread: str | None = ""
    """The metric that stands behind the ±; "" for the standard deviation over the folds, None for nothing."""


_SHARES = (
    _Measure("auc", ("AUC",), 4),
    _Measure("sensitivity", ("Sensitivity", "%"), 1, 100),
    _Measure("specificity", ("Specificity", "%"), 1, 100),
)
_AMOUNTS = (
    _Measure("mae", ("Mean abs.", "error"), 2, spread="mae_sd"),
    _Measure("mae_of_median", ("Saying the", "median"), 2, spread=None),
)


@dataclass(frozen=True)
class PublishedProbe:
    """One of the paper's three."""

    model: str
    """The network of this toolkit that repeats it, whose recipe has the same name."""

    name: str
    """The paper's name of it."""

    metric: dict[str, list[float]]
    """Value, and standard deviation where one is printed, by the metric's name."""


@dataclass(frozen=True)
class _Line:
    """A row: the runs behind it, on equal terms, and what is to be said of them."""

    variant: Variant
    """Their terms."""

    verdicts: tuple[Verdict, ...]
    """One a fold; one alone on the official split, and where it is not comparable."""

    alone: bool
    """Whether it is a single run, with intervals over patients in the place of a spread over folds."""


@cache
def published() -> tuple[str, str, int, dict[str, PublishedProbe]]:
    """Return citation, label release, number of folds, and the paper's probes by model, from `probes.toml`."""
    table = manifests.read("published/probes.toml")
    probes = {item["model"]: PublishedProbe(**item) for item in table["probe"]}
    return table["citation"], table["label_release"], table["folds"], probes


def probes(runs: Path | FoundRuns, *, apart: bool = False) -> Report:
    """Return the report on the probes in a folder of runs, or among those that were found in it.

    apart: show the numbers of the probes that do not compare, too. Raises UserError when it holds no evaluated run.
    """
    _, label_release, _, _ = published()
    found = found_in(runs)
    own = [run for run in found.runs if is_probe(run)]
    verdicts = judge(own, known_splits().keys(), label_release)
    tables = [_table(labels, verdicts) for labels in (AGE, SEX, VIEW)]
    tables += not_comparable_tables(verdicts, apart, detailed=lambda run: False)
    for labels in (AGE, SEX, VIEW) if apart else ():
        tables += _apart(labels, verdicts)
    notes = list(found.unusable)
    if not own:
        notes.insert(0, "No probe among these runs: cxrkit train --recipe resnet50-large-vp --from RUN")
    return Report(
        f"Age, sex and view from image features ({of_the_paper('section 3')})",
        tuple(tables),
        tuple(notes),
        key="probes",
    )


def _table(labels: LabelSet, verdicts: Iterable[Verdict]) -> Table:
    """Return the table of one label set: comparable runs, pooled over folds, then the paper's row."""
    citation, _, count, papers = published()
    pooled: dict[Variant, list[Verdict]] = defaultdict(list)
    official = []
    for verdict in verdicts:
        if verdict.comparable and verdict.run.scores.labels == labels:
            if verdict.run.split == OFFICIAL:
                official.append(_Line(_terms(verdict.run), (verdict,), alone=True))
            else:
                pooled[_terms(verdict.run)].append(verdict)
    lines = [_Line(variant, tuple(found), alone=False) for variant, found in pooled.items()] + official
    measures = _AMOUNTS if labels.unit else _SHARES
    rows, notes = _rows(lines, labels, measures)
    for paper in papers.values():
        if _label_set_of(paper.model) == labels.name:
            cells = [_paper_cell(paper, measure) for measure in measures]
            rows.append(Row(paper.name, f"paper: {paper.name}", (*cells, Cell(f"{count} of {count}")), rule_above=True))
    notes += [f"Paper's row: {citation}, as printed there", *_spread_notes(labels)]
    return Table(
        _TITLES[labels.name],
        "Probe",
        _columns(labels.name, measures),
        tuple(rows),
        tuple(notes),
        labels.name,
        rows_are_runs=True,
    )


def _apart(labels: LabelSet, verdicts: Iterable[Verdict]) -> list[Table]:
    """Return the numbers of the runs that do not compare, if there are any."""
    lines = [
        _Line(_terms(verdict.run), (verdict,), alone=True)
        for verdict in verdicts
        if not verdict.comparable and verdict.run.scores.labels == labels
    ]
    if not lines:
        return []
    measures = _AMOUNTS if labels.unit else _SHARES
    rows, notes = _rows(lines, labels, measures)
    title = f"Not comparable: {_TITLES[labels.name][0].lower()}{_TITLES[labels.name][1:]}"
    columns = _columns(labels.name, measures, split="Split")
    return [Table(title, "Probe", columns, tuple(rows), tuple(notes), f"apart-{labels.name}", rows_are_runs=True)]


def _columns(name: str, measures: Sequence[_Measure], *, split: str = "Folds") -> tuple[Column, ...]:
    """Return a column for each measure; name: of the label that all of them are of."""
    heads = [Column(name, measure.heading, (measure.name,)) for measure in measures]
    return (*heads, Column("split", (split,)))


def _terms(run: Run) -> Variant:
    """Return the terms of a run, without what is another in every fold: the extractor's checkpoint and split."""
    variant = variant_of(run)
    # The length of the features follows from the extractor, which is named.
    changes = tuple(change for change in variant.changes if not change.startswith("model.options.features_in"))
    return replace(variant, initial_weights="", pretraining="", changes=changes)


def _rows(lines: list[_Line], labels: LabelSet, measures: Sequence[_Measure]) -> tuple[list[Row], list[str]]:
    """Return a row for each line, and the notes below: whatever is special about a run's terms is told there."""
    words = details([line.variant for line in lines], {})
    names = {line.variant: full_name(line.variant, words[line.variant]) for line in lines}
    special = [variant for variant in names if words[variant]]
    notes = [f"({number}) {names[variant]}" for number, variant in enumerate(special, 1)]
    rows = []
    for line in lines:
        name, heading = names[line.variant], line.variant.name
        if line.variant in special:
            heading += f" ({special.index(line.variant) + 1})"
        doubts = dict.fromkeys(doubt for verdict in line.verdicts for doubt in verdict.doubts)
        if doubts:
            heading += f" {UNCHECKED}"
            notes += dict.fromkeys(note for verdict in line.verdicts for note in doubt_notes(verdict, name))
        folds = line.verdicts[0].run.split if line.alone else f"{len(line.verdicts)} of {published()[2]}"
        cells = [_own_cell(line, labels, measure) for measure in measures]
        key = f"{name} {folds}" if line.alone else name
        against = [f"not comparable: {reason}" for verdict in line.verdicts for reason in verdict.reasons]
        rows.append(Row(key, heading, (*cells, Cell(folds)), own=True, doubts=(*against, *doubts)))
    return rows, [*notes, *_interval_notes(lines, labels, measures)]


def _own_cell(line: _Line, labels: LabelSet, measure: _Measure) -> Cell:
    values = _values(line, labels, measure.name)
    if not values:
        metric = _metric(line.verdicts[0].run, labels, measure.name)
        return EMPTY if metric is None else Cell(f"n/a ({metric.reason})" if metric.reason else "n/a")
    value = statistics.mean(values)
    spread = statistics.stdev(values) if len(values) > 1 and measure.spread == "" else None
    if measure.spread:
        spreads = _values(line, labels, measure.spread)
        spread = statistics.mean(spreads) if spreads else None
    cell = _cell(value, spread, measure)
    metric = _interval_of(line, labels, measure.name)
    if metric is not None and metric.lower is not None and metric.upper is not None:
        low, high = (f"{measure.factor * bound:.{measure.decimals}f}" for bound in (metric.lower, metric.upper))
        bounds: dict[str, Number] = {"lower": metric.lower, "upper": metric.upper, "n_eff": metric.clusters_effective}
        bounds |= {"approximate": 1} if is_approximate(metric) else {}
        return Cell(f"{cell.text} {ROUGHLY * is_approximate(metric)}[{low}, {high}]", {**cell.values, **bounds})
    return cell


def _interval_of(line: _Line, labels: LabelSet, name: str) -> Metric | None:
    """Return the metric of a run by itself where it has an interval."""
    metric = _metric(line.verdicts[0].run, labels, name) if line.alone else None
    return None if metric is None or metric.lower is None else metric


def _interval_notes(lines: Sequence[_Line], labels: LabelSet, measures: Sequence[_Measure]) -> list[str]:
    """Return how the intervals were made, those of each measure."""
    shown = [(measure, _interval_of(line, labels, measure.name)) for line in lines for measure in measures]
    found = [(measure, metric) for measure, metric in shown if metric is not None]
    made: dict[str, dict[str, None]] = defaultdict(dict)
    for measure, metric in found:
        if metric.interval:
            made[metric.interval][measure.heading[0]] = None
    notes = [f"Intervals of {', '.join(names)}: {how}" for how, names in made.items()]
    return notes + [APPROXIMATE_NOTE] * any(is_approximate(metric) for _, metric in found)


def _paper_cell(paper: PublishedProbe, measure: _Measure) -> Cell:
    if measure.name not in paper.metric:
        return EMPTY
    value, *spread = paper.metric[measure.name]
    return _cell(value, spread[0] if spread else None, measure)


def _cell(value: float, spread: float | None, measure: _Measure) -> Cell:
    shown = [f"{measure.factor * number:.{measure.decimals}f}" for number in (value, spread) if number is not None]
    return Cell(" ± ".join(shown), {measure.name: value, "std": spread})


def _values(line: _Line, labels: LabelSet, name: str) -> list[float]:
    found = [_metric(verdict.run, labels, name) for verdict in line.verdicts]
    return [metric.value for metric in found if metric is not None and metric.value is not None]


def _metric(run: Run, labels: LabelSet, name: str) -> Metric | None:
    return run.test.metric(name, labels.labels[0])


def _label_set_of(model: str) -> str:
    from cxrkit.models import grammar

    return grammar.parse(model).probe


def _spread_notes(labels: LabelSet) -> list[str]:
    if labels.unit:
        return [
            "±: standard deviation of the images' absolute errors, as the paper gives it, averaged over the folds",
            "Saying the median: the mean absolute error of always saying the median age of the validation images",
        ]
    return [
        "±: sample standard deviation over the folds (n - 1; the paper does not say which it is)",
        "Sensitivity and specificity at the threshold of Youden's index, chosen on val and fixed for test; the paper "
        "does not say on which images it chose its own",
    ]
