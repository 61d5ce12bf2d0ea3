"""`--labels`: the same predictions against other labels of the same images, and what NIH's labels say of those.

A table for each run, since runs of different splits have different images in common with a source.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from cxrkit.base.contracts import Metric
from cxrkit.base.errors import UserError
from cxrkit.base.labels import CHESTXRAY14
from cxrkit.base.words import count
from cxrkit.evaluators import label_sources as sources_of
from cxrkit.evaluators.label_sources import LabelSource
from cxrkit.report.document.figures import Axis, Figure, Panel, Ranges
from cxrkit.report.document.tables import AVERAGE, Report, Table
from cxrkit.report.evidence.opened import Opened
from cxrkit.report.evidence.runs import Run
from cxrkit.report.evidence.variants import details, full_name, variant_of
from cxrkit.report.other_labels.held_against import held_against, why_not
from cxrkit.report.other_labels.label_agreement import agreement_tables
from cxrkit.report.other_labels.label_run_tables import Named, overview, run_table
from cxrkit.runs.scores import read_scores


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
        tables += [overview(source, named)] * (len(named) > 1)
        tables += [run_table(source, one, number) for number, one in enumerate(named, 1)]
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
) -> tuple[list[Named], list[tuple[Run, str]]]:
    """Return the runs that can be held against a source, and the others with the reason."""
    fit = [(run, why_not(run, source)) for run in runs]
    left_out = [(run, reason) for run, reason in fit if reason]
    variants = {id(run): variant_of(run) for run, reason in fit if not reason}
    words = details(variants.values(), {}, runs)
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
        named.append(Named(f"{full_name(variant, words[variant])}, {run.split}", found))
    return named, left_out


def _left_out_notes(reasons: Iterable[tuple[Run, str]]) -> list[str]:
    """Return a note for each reason, with the runs that it keeps out."""
    by_reason: dict[str, list[str]] = defaultdict(list)
    for run, reason in reasons:
        by_reason[reason].append(f"{run.name}, {run.split}")
    return [
        f"Left out: {count(len(names), 'run')} ({', '.join(names)}): {reason}" for reason, names in by_reason.items()
    ]


# The figure


def _figure(source: LabelSource, named: Sequence[Named]) -> Figure:
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
