"""ROC and precision-recall curves of runs, one panel a label.

The exact curve of 25,596 images has as many points; a run folder keeps those that matter most, first of all: 400 of a
ROC curve at most, from which no sensitivity is read wrong by more than 0.002, and 120 of the other. A figure draws
fewer where many runs stand in it: forty runs and fifteen labels are below 2 MB as SVG.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cxrkit.base.errors import UserError
from cxrkit.base.labels import LabelSet
from cxrkit.report.document.figures import Axis, Figure, Line, Panel
from cxrkit.report.evidence.keeping import Arrays
from cxrkit.report.evidence.opened import Derivation, Evidence, Opened
from cxrkit.report.evidence.run_names import run_names
from cxrkit.report.evidence.runs import Run
from cxrkit.statistics.curves import Floats, by_importance
from cxrkit.statistics.curves import curves as exact_curves

POINTS = (400, 120)  # of a ROC curve, and of a precision-recall curve, at most
WRONG = 0.002  # how far from a ROC curve, up or down, a point may be that is left out
TOLERANCE = 0.0003  # how far from the other one, in any direction, sides being 1: a 20th of a pixel
IN_ALL = (110_000, 36_000)  # points of all curves of a figure: some 13 bytes each in an SVG
FEW_RUNS = 3  # whose numbers find room above a panel
COLUMNS = 3  # of panels


def curves(runs: Sequence[Run], opened: Opened, names: Mapping[Path, str] | None = None) -> list[Figure]:
    """Return the figures "roc" and "precision-recall" of the runs' test images; none where no run has a curve.

    runs: of the same test images, or the caption says that they are not. names: what the legend calls them, by folder
    (`run_names`). A run whose predictions or labels cannot be read is left out, and the caption says why.
    """
    called = run_names(runs) if names is None else names
    found: list[_Curved] = []
    without: list[str] = []
    for run in runs:
        try:
            if run.has_auc:
                found.append(_Curved(called[run.folder], run, opened.derived(run, CURVES)))
        except UserError as error:
            without.append(f"{called[run.folder]} ({error.what})")
    labels = _labels(found)
    if not labels:
        return []
    many = len(found) * len(labels)
    points = [max(12, min(most, in_all // many)) for most, in_all in zip(POINTS, IN_ALL, strict=True)]
    panels = [_panels(label, heading, found, points) for label, heading in labels.items()]
    roc, precision_recall = (tuple(pair[kind] for pair in panels) for kind in (0, 1))
    about = _about(found, without)
    return [
        Figure(
            "roc",
            "ROC curves",
            f"Sensitivity against 1 - specificity at every threshold, {about} Dashed: what chance gives."
            + _above(found, "AUC"),
            roc,
            COLUMNS,
        ),
        Figure(
            "precision-recall",
            "Precision-recall curves",
            f"Precision against recall at every threshold, {about} Dashed: the prevalence, the precision that chance "
            "gives. Both grow with it, so that these curves do not compare with those of another test set."
            + _above(found, "average precision"),
            precision_recall,
            COLUMNS,
        ),
    ]


def _compute(evidence: Evidence) -> Arrays:
    """Return the curves of all labels behind one another, and where that of each label ends."""
    kept: dict[str, list[Floats]] = {"fpr": [], "tpr": [], "recall": [], "precision": []}
    ends: list[tuple[int, int]] = []
    shares: list[tuple[float, float]] = []
    for number in range(len(evidence.labels)):
        known = evidence.known[:, number]
        truth = evidence.positive[known, number]
        found = exact_curves(evidence.scores[known, number], truth)
        if found is None:
            ends.append((0, 0))
            shares.append((np.nan, np.nan))
            continue
        fpr, tpr, precision = found.false_positive_rate, found.true_positive_rate, found.precision
        bends = found.bends()
        from_zero = np.append(0, bends)
        roc = from_zero[by_importance(fpr[from_zero], tpr[from_zero], POINTS[0], WRONG, vertical=True)]
        recall = bends[by_importance(tpr[bends], precision[bends - 1], POINTS[1], TOLERANCE)]
        of_label = {"fpr": fpr[roc], "tpr": tpr[roc], "recall": tpr[recall], "precision": precision[recall - 1]}
        for name, values in of_label.items():
            kept[name].append(values)
        ends.append((len(roc), len(recall)))
        shares.append((found.average_precision, float(truth.mean())))
    return {
        **{name: np.concatenate(parts or [np.empty(0)]).astype(np.float32) for name, parts in kept.items()},
        "ends": np.cumsum(np.array(ends, np.int64), axis=0),
        "average_precision": np.array([share for share, _ in shares]),
        "prevalence": np.array([share for _, share in shares]),
        "labels": np.array(evidence.labels.labels),
    }


CURVES = Derivation("curves", 2, _compute)


@dataclass(frozen=True)
class _Curved:
    """A run and its curves."""

    name: str
    """In the legend."""

    run: Run
    """Whose they are."""

    arrays: Arrays
    """What CURVES found."""

    def number(self, label: str) -> int | None:
        """Return which of its labels has curves; None where this one has none."""
        labels = self.arrays["labels"].tolist()
        number = labels.index(label) if label in labels else None
        return None if number is None or np.isnan(self.arrays["prevalence"][number]) else number

    def line(self, number: int, kind: int, points: int) -> Line:
        """Return a label's ROC curve (kind 0) or its precision-recall curve (1), of at most `points` points."""
        ends = self.arrays["ends"][:, kind]
        part = slice(int(ends[number - 1]) if number else 0, int(ends[number]))
        across, up = (("fpr", "tpr"), ("recall", "precision"))[kind]
        x, y = (self.arrays[name][part][:points].astype(np.float64) for name in (across, up))
        # They lie in the order of their importance. Where x stays, sensitivity rises and precision falls.
        order = np.lexsort((-y if kind else y, x))
        return Line(self.name, tuple(x[order].round(4).tolist()), tuple(y[order].round(4).tolist()))

    def value(self, number: int, label: str, kind: int) -> float | None:
        """Return a label's AUC (kind 0) or its average precision (1)."""
        if kind:
            return float(self.arrays["average_precision"][number])
        metric = self.run.auc(label)
        return None if metric is None else metric.value


def _labels(found: Iterable[_Curved]) -> dict[str, str]:
    """Return the labels of which any run has a curve, the averaged ones first, with their headings."""
    order: dict[str, str] = {}
    for curved in found:
        labels: LabelSet = curved.run.scores.labels
        for label in (*labels.averaged, *labels.beside):
            if curved.number(label) is not None:
                order.setdefault(label, labels.heading(label))
    return order


def _panels(label: str, heading: str, found: Sequence[_Curved], points: Sequence[int]) -> tuple[Panel, Panel]:
    """Return the two panels of a label."""
    present = [(curved, number) for curved in found if (number := curved.number(label)) is not None]
    prevalences = dict.fromkeys(round(float(curved.arrays["prevalence"][number]), 4) for curved, number in present)
    chance = (
        [Line("", (0.0, 1.0), (0.0, 1.0))],
        [Line("", (0.0, 1.0), (prevalence, prevalence)) for prevalence in prevalences],
    )
    axes = (("1 - specificity", "Sensitivity"), ("Recall", "Precision"))
    made = []
    for kind in (0, 1):
        lines = [curved.line(number, kind, points[kind]) for curved, number in present]
        values = [curved.value(number, label, kind) for curved, number in present]
        numbers = "  ".join("-" if value is None else f"{value:.3f}" for value in values)
        title = f"{heading}  {numbers}" if len(found) <= FEW_RUNS else heading
        x, y = (Axis(name, 0.0, 1.0) for name in axes[kind])
        made.append(Panel(title, (*chance[kind], *lines), x, y, square=True))
    return made[0], made[1]


def _about(found: Sequence[_Curved], without: Sequence[str]) -> str:
    """Return what a caption says of the images, and of runs that are not there."""
    images = sorted({curved.run.test.images for curved in found})
    same = len({curved.run.test.images_digest for curved in found}) == 1
    if same:
        text = f"on the same {images[0]:,} test images."
    elif len(images) == 1:
        text = f"on {images[0]:,} test images each, not the same ones."
    else:
        text = f"on {images[0]:,} to {images[-1]:,} test images, not the same ones."
    if without:
        text += f" Left out: {'; '.join(without)}."
    return text


def _above(found: Sequence[_Curved], what: str) -> str:
    if len(found) > FEW_RUNS:
        return ""
    return f" Above each panel: the {what}" + (", in the order of the legend." if len(found) > 1 else ".")
