"""`--labels`: the same predictions against other labels of the same images, and what NIH's labels say of those.

A table for each run, since runs of different splits have different images in common with a source.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cxrkit.base.contracts import Metric
from cxrkit.base.errors import UserError
from cxrkit.base.labels import CHESTXRAY14
from cxrkit.evaluators import label_sources as sources_of
from cxrkit.evaluators.label_sources import LabelSource
from cxrkit.report import comparability
from cxrkit.report.cells import APPROXIMATE_NOTE, CONSTANT_NOTE, is_approximate, metric_cell
from cxrkit.report.evidence import Opened
from cxrkit.report.figures import Axis, Figure, Panel, Ranges
from cxrkit.report.held_against import HeldAgainst, held_against, why_not
from cxrkit.report.label_agreement import agreement_tables, of_images
from cxrkit.report.official import doubt_notes
from cxrkit.report.published import table5
from cxrkit.report.reference import known_splits
from cxrkit.report.runs import Run
from cxrkit.report.tables import AVERAGE, EMPTY, ROUGHLY, Cell, Column, Report, Row, Table
from cxrkit.report.variants import details, full_name, variant_of
from cxrkit.runs.scores import read_scores
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
class _Named:
    """A run, what it is called, and what it is worth against a source."""

    name: str
    found: HeldAgainst


def label_sources(runs: Sequence[Run], names: Sequence[str], raw: Path, opened: Opened) -> Report:
    """Return what runs are worth against other labels of their test images, beside NIH's own labels.

    names: of the sources, "nih-2017" or "google2019"; "nih", what every run is evaluated with, may stand among them.
    raw: a folder with the files of the sources; of a single source, its file. Raises UserError for a source that is not
    known, or not there, and where no run can be held against any of them.
    """
    wanted = [name for name in dict.fromkeys(names) if name != sources_of.NIH] or [sources_of.NIH]
    sources = [sources_of.read_source(name, raw) for name in wanted]
    tables: list[Table] = []
    figures, notes, any_found = [], [], False
    for source in sources:
        named, left_out = _held_against(runs, source, opened)
        notes += _left_out_notes(left_out)
        if not named:
            continue
        any_found = True
        tables += agreement_tables(source, opened.truth(named[0].found.run).records(CHESTXRAY14))
        tables += [_overview(source, named)] * (len(named) > 1)
        tables += [_run_table(source, one, number) for number, one in enumerate(named, 1)]
        figures.append(_figure(source, named))
    if not any_found:
        raise UserError(
            "--labels: no run can be held against " + " or ".join(source.title for source in sources),
            remedy="; ".join(notes) or "train or import a run on ChestX-ray14 first",
        )
    titles = " and ".join(source.title for source in sources)
    return Report(
        f"AUC against NIH's labels and against {titles}", tuple(tables), tuple(notes), tuple(figures), "labels"
    )


def label_sources_of(run: Path, names: Sequence[str], raw: Path, data: Path | None = None) -> Report:
    """Return `label_sources` of one run folder: `cxrkit evaluate RUN --labels google2019 --raw DIR`.

    data: where NIH's labels are read from, by default what the run was evaluated with. Raises UserError, too, where the
    run is not evaluated on a test set.
    """
    scores = read_scores(run / "scores.json")
    if "test" not in scores.subsets:
        raise UserError(
            f"{run}: has no test scores, and only test images have other labels",
            remedy="predict the test images with `cxrkit predict`, then `cxrkit evaluate`",
        )
    return label_sources([Run(run, scores.name, scores)], names, raw, Opened(data))


def _held_against(
    runs: Sequence[Run], source: LabelSource, opened: Opened
) -> tuple[list[_Named], list[tuple[Run, str]]]:
    """Return the runs that can be held against a source, and the others with the reason."""
    fit = [(run, why_not(run, source)) for run in runs]
    left_out = [(run, reason) for run, reason in fit if reason]
    variants = {id(run): variant_of(run) for run, reason in fit if not reason}
    words = details(variants.values(), {})
    named = []
    for run, reason in fit:
        if reason:
            continue
        try:
            found = held_against(run, source, opened)
        except UserError as error:
            left_out.append((run, error.what))
            continue
        if not found.images:
            left_out.append((run, f"none of its test images has {source.title}"))
            continue
        variant = variants[id(run)]
        named.append(_Named(f"{full_name(variant, words[variant])} {run.split}", found))
    return named, left_out


def _left_out_notes(reasons: Iterable[tuple[Run, str]]) -> list[str]:
    """Return a note for each reason, with the runs that it keeps out."""
    by_reason: dict[str, list[str]] = defaultdict(list)
    for run, reason in reasons:
        by_reason[reason].append(f"{run.name} {run.split}")
    return [
        f"Left out: {len(names)} run{'s' * (len(names) > 1)} ({', '.join(names)}): {reason}"
        for reason, names in by_reason.items()
    ]


# What runs are worth


def _overview(source: LabelSource, named: Sequence[_Named]) -> Table:
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


def _differ(named: Sequence[_Named]) -> bool:
    return len({(one.found.images, one.found.run.split) for one in named}) > 1


def _run_table(source: LabelSource, one: _Named, number: int) -> Table:
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
    text = _signed(factor * found.difference)
    if found.lower == found.lower:  # not NaN
        values |= {"lower": found.lower, "upper": found.upper, "p_value": found.p_value}
        rough = ROUGHLY * (found.mark == APPROXIMATE)
        text += f" {rough}[{_signed(factor * found.lower)}, {_signed(factor * found.upper)}]"
    elif found.mark == TOO_FEW:
        text += f" ({TOO_FEW})"
    return Cell(text, values)


def _signed(difference: float) -> str:
    text = f"{difference:+.1f}"
    return "0.0" if float(text) == 0 else text


def _run_notes(source: LabelSource, one: _Named) -> list[str]:
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


# The figure


def _figure(source: LabelSource, named: Sequence[_Named]) -> Figure:
    """Return a forest plot for each finding, or of the mean alone: runs from top to bottom, once for each labels."""
    keys = [AVERAGE] if source.findings.averaged else list(source.findings.labels)
    panels = tuple(
        Panel(
            source.findings.heading(key),
            (
                _ranges("NIH's labels", [one.found.nih.get(key) for one in named], hollow=True),
                _ranges(source.title[len("the ") :].capitalize(), [one.found.source.get(key) for one in named]),
            ),
            x=Axis("AUC"),
            categories=tuple(one.name for one in named),
            across="y",
        )
        for key in keys
    )
    return Figure(
        f"labels-{source.name}",
        f"AUC against NIH's labels and against {source.title}",
        f"The same scores against both, on each run's test images that have {source.title}. "
        "Whiskers: 95 % intervals over patients.",
        panels,
        columns=len(panels),
    )


def _ranges(name: str, metrics: Sequence[Metric | None], *, hollow: bool = False) -> Ranges:
    def numbers(field: str) -> tuple[float, ...]:
        values = (None if metric is None else getattr(metric, field) for metric in metrics)
        return tuple(float("nan") if value is None else value for value in values)

    return Ranges(name, numbers("value"), numbers("lower"), numbers("upper"), hollow)
