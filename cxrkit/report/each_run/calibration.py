"""Whether the runs' probabilities mean what they say: as predicted, and mended by what val says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cxrkit.base.contracts import Metric
from cxrkit.base.labels import LabelSet
from cxrkit.base.words import count as counted
from cxrkit.evaluators.calibration import BOUND, BRIER, ERROR, SHIFTED, STAGES, TEMPERATURE, TEMPERED
from cxrkit.report.document.figures import Axis, Figure, Line, Panel
from cxrkit.report.document.tables import AVERAGE, EMPTY, Cell, Column, Row, Table, heading_lines, label_rows
from cxrkit.report.evidence.keeping import Arrays
from cxrkit.report.evidence.measured import by_key, measured, of_all
from cxrkit.report.evidence.metric_names import metric_name
from cxrkit.report.evidence.opened import Derivation, Evidence, Opened
from cxrkit.report.evidence.run_names import run_names
from cxrkit.report.evidence.runs import Run
from cxrkit.statistics.calibration import BINS, reliability

OPTIONS: dict[str, Any] = {"replicates": 1}  # of the evaluator: the intervals are not shown
_FEW = 4  # runs whose points are marked
_PANELS = 3  # side by side
_AS_TEMPERED = "as tempered: "  # begins the reason why a label is not corrected
_AS_PREDICTED = (BRIER, ERROR)
_MENDED = (TEMPERATURE, BRIER + TEMPERED, ERROR + TEMPERED, BRIER + SHIFTED, ERROR + SHIFTED)
_MENDED_NOTES = (
    "Temperature: one for all labels, fitted on val by cross-entropy; above 1 the model was too sure",
    "Tempered: the probabilities with it. Prior: these, corrected for the prevalence of the test images, which is "
    "estimated from their scores alone; what the model learned is taken to be that of val (Saerens et al. 2002)",
)
_NAMES = tuple(name + stage for stage in STAGES for name in (BRIER, ERROR))
_Found = dict[tuple[str, str | None, str], Metric]


def calibration(
    runs: Sequence[Run], opened: Opened, names: Mapping[Path, str] | None = None
) -> tuple[list[Table], list[Figure]]:
    """Return the tables "calibration" (means) and "calibration-labels", and the reliability figure "calibration".

    runs: of one split, data set and label set. names: what they are called, by folder (`run_names`). A run whose
    predictions or labels cannot be read is left out, and a note says why; of one without validation predictions nothing
    is mended. Raises UserError where there is no run left.
    """
    names = run_names(runs) if names is None else names
    found, left_out = of_all(runs, names, lambda run: by_key(measured(run, opened, "calibration", **OPTIONS)))
    labels = runs[0].scores.labels
    shown = [(names[run.folder], metrics) for run, metrics in found]
    curves = [(names[run.folder], opened.derived(run, RELIABILITY)) for run, _ in found]
    tables = [_means(shown, labels, left_out), _by_label(shown, labels)]
    return tables, [_figure(curves, labels)]


def _means(shown: Sequence[tuple[str, _Found]], labels: LabelSet, left_out: Sequence[str]) -> Table:
    """Return a row for each run: the means over the averaged labels."""
    mended = _any_mended(shown)
    keys = (*_AS_PREDICTED, *(_MENDED if mended else ()))
    notes = (
        f"Means over {len(labels.averaged)} labels. Brier: mean squared distance of probability and truth; ECE: "
        f"expected calibration error, {BINS} bins of equally many images. Both are best at 0",
        *(_MENDED_NOTES if mended else ()),
        *(_reasons(shown) if mended else _unmended(shown)),
        *left_out,
    )
    rows = tuple(Row("", name, tuple(_number(found.get((key, None, ""))) for key in keys)) for name, found in shown)
    columns = tuple(Column(metric_name(key), heading_lines(metric_name(key), 9)) for key in keys)
    title = f"Brier score{', calibration error and temperature' if mended else ' and calibration error'}"
    return Table(title, "Run", columns, rows, notes, key="calibration")


def _any_mended(shown: Sequence[tuple[str, _Found]]) -> bool:
    """Whether some run has a temperature."""
    return any(found[TEMPERATURE, None, ""].value is not None for _, found in shown)


def _unmended(shown: Sequence[tuple[str, _Found]]) -> list[str]:
    """Return the one note for columns that no run has a number for: which are left out, and why."""
    why = dict.fromkeys(found[TEMPERATURE, None, ""].reason for _, found in shown)
    return [f"Temperature, and what is mended by it: left out, {'; '.join(why)}"]


def _reasons(shown: Sequence[tuple[str, _Found]]) -> list[str]:
    """Return why a run has no temperature, or for which labels no correction of the prior."""
    notes = []
    for name, found in shown:
        temperature = found[TEMPERATURE, None, ""]
        if BOUND in temperature.reason and temperature.value is not None:
            notes.append(f"{name}: temperature {temperature.value:g}: {BOUND}")
        without = [metric for (key, label, _), metric in found.items() if key == BRIER + SHIFTED and label]
        without = [metric for metric in without if metric.reason.startswith(_AS_TEMPERED)]
        if temperature.value is None:
            notes.append(f"{name}: {temperature.reason}")
        elif without:
            count = counted(len(without), "label")
            reason = without[0].reason.removeprefix(_AS_TEMPERED)
            notes.append(f"{name}: {count} not corrected for the prevalence. {without[0].label}: {reason}")
    return notes


def _number(metric: Metric | None) -> Cell:
    if metric is None or metric.value is None:
        return EMPTY
    decimals = 2 if metric.name == TEMPERATURE else 4
    return Cell(f"{metric.value:.{decimals}f}", {metric.name: metric.value})


def _by_label(shown: Sequence[tuple[str, _Found]], labels: LabelSet) -> Table:
    """Return a column for each run: the calibration error of each label, before and after."""
    columns = tuple(Column(name, heading_lines(name), _NAMES, own=True) for name, _ in shown)
    cells = [{label or AVERAGE: _both(found, label) for label in (*labels.labels, None)} for _, found in shown]
    return Table(
        f"Calibration error of each label{', as predicted and with the temperature' * _any_mended(shown)}",
        "Pathology",
        columns,
        label_rows(cells, labels),
        (f"CSV has the Brier scores{', and all three stages' * _any_mended(shown)}",),
        key="calibration-labels",
    )


def _both(found: _Found, label: str | None) -> Cell:
    metrics = [found.get((name, label, "")) for name in _NAMES]
    values = {name: metric.value if metric else None for name, metric in zip(_NAMES, metrics, strict=True)}
    before, after = values[ERROR], values[ERROR + TEMPERED]
    if before is None:
        return EMPTY
    return Cell(f"{before:.3f}" + ("" if after is None else f" → {after:.3f}"), values)


def _curves(evidence: Evidence) -> Arrays:
    """Return the reliability curve of each label, NaN where it has fewer points than bins."""
    shape = (len(evidence.labels), BINS)
    predicted_LB, observed_LB, images_LB = np.full(shape, np.nan), np.full(shape, np.nan), np.zeros(shape, int)
    for number in range(len(evidence.labels)):
        known_N = evidence.known[:, number]
        curve = reliability(evidence.scores[known_N, number], evidence.positive[known_N, number])
        for place, point in enumerate(curve):
            predicted_LB[number, place], observed_LB[number, place] = point.mean_score, point.observed
            images_LB[number, place] = point.images
    return {
        "labels": np.array(evidence.labels.labels),
        "predicted": predicted_LB,
        "observed": observed_LB,
        "images": images_LB,
    }


RELIABILITY = Derivation("reliability", 1, _curves)


def _figure(curves: Sequence[tuple[str, Arrays]], labels: LabelSet) -> Figure:
    panels = tuple(
        panel for label in (*labels.averaged, *labels.beside) if (panel := _panel(label, curves, labels)) is not None
    )
    return Figure(
        "calibration",
        "Reliability",
        "What the model says of a label, and how often it is there, on the test images; "
        f"{BINS} bins of equally many images by rising probability, as predicted. Dashed: probabilities that mean what "
        "they say. The panels have different scales.",
        panels,
        columns=min(_PANELS, len(panels)),
    )


def _panel(label: str, curves: Sequence[tuple[str, Arrays]], labels: LabelSet) -> Panel | None:
    lines = []
    for name, arrays in curves:
        places = np.flatnonzero(arrays["labels"] == label)
        if not len(places):
            continue
        x_B, y_B = (np.asarray(arrays[key][places[0]], np.float64) for key in ("predicted", "observed"))
        shown_B = ~np.isnan(x_B)
        if shown_B.any():
            x, y = tuple(x_B[shown_B].tolist()), tuple(y_B[shown_B].tolist())
            lines.append(Line(name, x, y, markers=len(curves) <= _FEW))
    if not lines:
        return None
    top = min(1.0, 1.05 * max(max(*line.x, *line.y) for line in lines) or 1.0)
    return Panel(
        labels.heading(label),
        (Line("", (0.0, top), (0.0, top)), *lines),
        Axis("Mean probability", 0.0, top),
        Axis("Observed share", 0.0, top),
        square=True,
    )
