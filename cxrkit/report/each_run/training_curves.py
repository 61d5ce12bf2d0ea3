"""How trainings went, epoch by epoch, from the metrics.jsonl of each run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cxrkit.report.document.figures import Axis, Figure, Line, Panel
from cxrkit.report.evidence.run_names import model_names, run_names
from cxrkit.report.evidence.runs import Run
from cxrkit.runs.folder import RunFolder
from cxrkit.runs.metrics import read_metrics
from cxrkit.statistics.curves import by_importance

POINTS = 120  # of a curve: a training may have thousands of epochs
COLUMNS = 3  # of panels


@dataclass(frozen=True)
class _Measure:
    """One panel: a value that the line of an epoch may have."""

    key: str
    """In metrics.jsonl."""

    title: str
    """Above the panel."""

    axis: str = ""
    """Beside it, where the title is not enough."""

    logarithmic: float | None = None
    """How many times its lowest value the highest is when equal ratios are equal heights; None: they never are."""

    marked: bool = False
    """Whether the chosen epoch is marked."""


_MEASURES = (
    _Measure("train_loss", "Training loss"),
    _Measure("val_loss", "Validation loss", marked=True),
    _Measure("val_auc", "Validation mean AUC", marked=True),
    _Measure("val_mae", "Validation mean absolute error", marked=True),
    _Measure("lr", "Learning rate", logarithmic=1.0),
    # A network that looks at no image is a hundred times as fast as one that does, and would flatten all others.
    _Measure("images_per_second", "Training speed", "images/s", logarithmic=20.0),
)


@dataclass(frozen=True)
class Training:
    """A run whose training is shown."""

    name: str
    """What the legend calls it."""

    folder: Path
    """Its run folder."""

    epoch: int | None
    """The one that was chosen, and is marked; None where none is known."""

    model: str = ""
    """The model that it is a run of, where its name says more: one model has one colour in all figures."""


def training_curves(runs: Sequence[Run], names: Mapping[Path, str] | None = None) -> list[Figure]:
    """Return the figure "training" of evaluated runs; see `curves_of`.

    names: what the legend calls the runs, by folder (`run_names`).
    """
    called = run_names(runs) if names is None else names
    # The run's own best epoch, or the one that a report has chosen.
    models = model_names(runs) if names is None else names
    return curves_of([Training(called[run.folder], run.folder, run.scores.epoch, models[run.folder]) for run in runs])


def curves_of(trainings: Sequence[Training]) -> list[Figure]:
    """Return the figure "training"; none where no run has a metrics.jsonl with a whole epoch.

    Runs without metrics (those that were imported, and folders of which only predictions were kept) are left out, and
    the caption says which.
    """
    found = {item.folder: _epochs(item.folder) for item in trainings}
    shown = [item for item in trainings if found[item.folder]]
    panels = tuple(
        _panel(measure, lines)
        for measure in _MEASURES
        if (lines := [line for item in shown for line in _lines(measure, item, found[item.folder])])
    )
    if not panels:
        return []
    without = [item.name for item in trainings if not found[item.folder]]
    caption = (
        "Each point is an epoch; the training loss is the mean over it, the validation's follows it. The point "
        "marks the epoch whose network was tested."
    )
    if any(item.model not in ("", item.name) for item in shown):
        caption += " The runs of a model, one for each split, have its colour."
    if without:
        caption += f" Without a record of their training: {', '.join(without)}."
    return [Figure("training", "Training curves", caption, panels, COLUMNS)]


def _epochs(folder: Path) -> list[dict[str, Any]]:
    """Return the epochs' lines by rising number; empty where there is no file of them."""
    try:
        lines = [line for line in read_metrics(RunFolder(folder).metrics) if isinstance(line, dict)]
    except OSError:
        return []
    by_number = {line["epoch"]: line for line in lines if line.get("kind") == "epoch" and _number(line, "epoch")}
    return [by_number[number] for number in sorted(by_number)]


def _number(line: Mapping[str, Any], key: str) -> bool:
    """Whether a line has a number there; what JSON could not hold is null."""
    return isinstance(line.get(key), int | float)


def _lines(measure: _Measure, training: Training, epochs: Iterable[Mapping[str, Any]]) -> list[Line]:
    """Return the curve of a measure, and the mark on the chosen epoch."""
    points = {line["epoch"]: float(line[measure.key]) for line in epochs if _number(line, measure.key)}
    if not points:
        return []
    x, y = np.array(list(points), float), np.array(list(points.values()), float)
    chosen = np.sort(by_importance(_scaled(x), _scaled(y), POINTS))
    name, epoch = training.name, training.epoch
    of = training.model if training.model != name else ""
    lines = [Line(name, tuple(x[chosen].tolist()), tuple(y[chosen].tolist()), steps=measure.key == "lr", of=of)]
    if measure.marked and epoch is not None and epoch in points:
        lines.append(Line(name, (float(epoch),), (points[epoch],), markers=True, of=of))
    return lines


def _scaled(values: np.ndarray) -> np.ndarray:
    """Return values on 0 to 1, as a panel shows them."""
    width = np.ptp(values)
    return (values - values.min()) / width if width else np.zeros(len(values))


def _panel(measure: _Measure, lines: Sequence[Line]) -> Panel:
    # A rate of 0 has no logarithm.
    values = [value for line in lines for value in line.y]
    ratio = measure.logarithmic
    logarithmic = ratio is not None and min(values) > 0 and max(values) >= ratio * min(values)
    return Panel(measure.title, tuple(lines), Axis("Epoch"), Axis(measure.axis, logarithmic=logarithmic))
