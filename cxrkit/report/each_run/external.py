"""External validity: each run's AUCs on its own test images and on another hospital's, and what these images are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from cxrkit.base import labels as label_sets
from cxrkit.base.contracts import Metric
from cxrkit.base.errors import UserError
from cxrkit.base.files import file_digest
from cxrkit.report.document.tables import AVERAGE, EMPTY, ROUGHLY, Cell, Column, Number, Report, Row, Table
from cxrkit.report.evidence.cells import APPROXIMATE_NOTE, CONSTANT_NOTE, metric_cell
from cxrkit.runs.external import SCORES, SharedLabel, Validity, read_validity, validities
from cxrkit.runs.folder import RunFolder
from cxrkit.statistics.intervals import APPROXIMATE, MIN_PATIENTS, TOO_FEW

KEY = "external"


def external(found: Sequence[Validity], left_out: Sequence[str] = ()) -> Report:
    """Return the tables of what runs are worth on other hospitals' images, two for each run and data set."""
    tables: list[Table] = []
    for number, one in enumerate(found, 1):
        tail = f"-{number}" if len(found) > 1 else ""
        tables += [_aucs(one, f"{KEY}{tail}"), _images(one, f"{KEY}-images{tail}")]
    notes = [f"Left out: {reason}" for reason in left_out]
    return Report("External validity", tuple(tables), tuple(notes), key=KEY)


def external_of(runs: Sequence[Path]) -> Report:
    """Return `external` of all that is kept in run folders; what is of other predictions than the run's is left out.

    Raises UserError where nothing is left.
    """
    found, left_out = [], []
    for path in (path for run in runs for path in validities(run)):
        try:
            one = read_validity(path)
            if why := stale(path, one):
                raise UserError(f"{path.parent}: {why}")
            found.append(one)
        except UserError as error:
            left_out.append(error.what)
    if not found:
        raise UserError(
            "no run with external scores of its present network" + "".join(f"\n  {reason}" for reason in left_out),
            remedy="evaluate one with `cxrkit evaluate RUN --on FOLDER`",
        )
    return external(found, left_out)


def stale(path: Path, one: Validity) -> str:
    """Return why a validity.json is not of the files that are there now; "" where it is."""
    run = RunFolder(path.parent.parent.parent)
    expected = {
        path.parent / SCORES: one.scores_sha256,
        run.predictions("test"): one.internal_sha256,
        run.best: one.checkpoint_sha256,
    }
    for file, digest in expected.items():
        if not file.is_file():
            return f"{file.name} is missing"
        if file_digest(file) != digest:
            return f"{file.name} was replaced since; evaluate it again with `cxrkit evaluate RUN --on FOLDER`"
    return ""


def _rows(one: Validity, cells: Callable[[SharedLabel], tuple[Cell, ...]]) -> tuple[Row, ...]:
    """Return a row for each label that enters the mean, the mean, and the others."""
    labels = label_sets.get(one.internal_origin.label_set)
    averaged = [label for label in one.labels if label.ours in one.mean_labels]
    beside = [label for label in one.labels if label.ours not in one.mean_labels]
    rows = [Row(label.ours, labels.heading(label.ours), cells(label)) for label in averaged]
    if one.mean is not None:
        rows.append(Row(AVERAGE, f"Mean of {len(averaged)}", cells(one.mean), rule_above=True))
    for number, label in enumerate(beside):
        rows.append(Row(label.ours, labels.heading(label.ours), cells(label), rule_above=number == 0))
    return tuple(rows)


def _aucs(one: Validity, key: str) -> Table:
    columns = (
        Column(f"{one.run}, internal", ("Internal", "AUC"), ("auc", "lower", "upper"), own=True),
        Column(f"{one.run}, {one.dataset}", ("External", "AUC"), ("auc", "lower", "upper"), own=True),
        Column(f"{one.run}, external less internal", ("Difference", "[95 % interval]"), ("difference",), own=True),
    )

    def cells(label: SharedLabel) -> tuple[Cell, ...]:
        plain = [replace(metric_cell(side, False), competes=False) for side in (label.internal, label.external)]
        return (*plain, _difference(label))

    notes = [*one.notes, *(f"{_pair(label)}: {label.caveat}" for label in one.labels if label.caveat)]
    notes += [
        "Difference: external less internal, of other patients with other labels; its interval adds both variances, by "
        "patient, with Welch's degrees of freedom. It says that they differ, not why",
        "Mean: over the labels that both have, on both sides, and so not the mean of the run's own tables",
    ]
    marks = {metric.mark for label in one.labels for metric in (label.internal, label.external)}
    notes += [APPROXIMATE_NOTE] * (APPROXIMATE in marks)
    few = any(label.mark == TOO_FEW for label in one.labels)
    notes += [f"No interval where fewer than {MIN_PATIENTS} patients have the finding, or have it not"] * few
    constant = any(metric.constant for label in one.labels for metric in (label.internal, label.external))
    notes += [CONSTANT_NOTE] * constant
    title = f"External validity of {one.run} ({one.internal_origin.split}) on {one.dataset}"
    return Table(title, "Pathology", columns, _rows(one, cells), tuple(notes), key)


def _pair(label: SharedLabel) -> str:
    alike = label.ours.replace("_", " ").lower() == label.theirs.lower()
    return label.ours if alike else f"{label.ours} and {label.theirs}"


def _difference(label: SharedLabel) -> Cell:
    if label.difference is None:
        return EMPTY
    values: dict[str, Number] = {"difference": label.difference, "lower": label.lower, "upper": label.upper}
    if label.lower is None or label.upper is None:
        return Cell(f"{label.difference:+.3f}", values)
    roughly = ROUGHLY * (label.mark == APPROXIMATE)
    values |= {"approximate": 1} if roughly else {}
    return Cell(f"{label.difference:+.3f} {roughly}[{label.lower:+.3f}, {label.upper:+.3f}]", values)


def _images(one: Validity, key: str) -> Table:
    """Return intervals, and how many images with and without a finding each AUC rests on."""
    columns = (
        Column(f"{one.run}, internal", ("Internal", "interval"), own=True),
        Column(f"{one.run}, {one.dataset}", ("External", "interval"), own=True),
        Column("internal", ("Internal", "preval."), ("prevalence", "positives", "images"), own=True),
        Column(one.dataset, ("External", "preval."), ("prevalence", "positives", "images"), own=True),
        Column(one.dataset, ("External", "images"), ("images",), own=True),
    )

    def cells(label: SharedLabel) -> tuple[Cell, ...]:
        sides = (label.internal, label.external)
        return (*map(_interval, sides), *map(_prevalence, sides), _known(label.external))

    notes = (
        f"Internal: {one.internal_images:,} test images of {one.internal_patients:,} patients of "
        f"{one.internal_origin.dataset}, {one.internal_origin.split}",
        f"External: {one.images:,} images of "
        + ("as many films without patient ids" if one.by_image else f"{one.patients:,} patients")
        + f" of {one.dataset}",
        "Intervals: 95 %, of the AUC, logit-t with effective patients, from a bootstrap over patients",
        "Prevalence: of the images of which it is known whether they have the finding; external images: of these",
        "PPV, NPV and calibration change with the prevalence, AUCs do not by themselves",
    )
    title = f"Intervals and prevalence of {one.run} ({one.internal_origin.split}) and {one.dataset}"
    return Table(title, "Pathology", columns, _rows(one, cells), notes, key)


def _interval(metric: Metric) -> Cell:
    if metric.lower is None or metric.upper is None:
        return EMPTY
    return Cell(f"{ROUGHLY * (metric.mark == APPROXIMATE)}[{metric.lower:.3f}, {metric.upper:.3f}]")


def _images_of(metric: Metric) -> int | None:
    if metric.positives is None or metric.negatives is None:
        return None
    return metric.positives + metric.negatives


def _prevalence(metric: Metric) -> Cell:
    images = _images_of(metric)
    if not images or metric.positives is None:
        return EMPTY
    share = metric.positives / images
    return Cell(f"{share:.1%}", {"prevalence": share, "positives": metric.positives, "images": images})


def _known(metric: Metric) -> Cell:
    images = _images_of(metric)
    return EMPTY if images is None else Cell(f"{images:,}", {"images": images})
