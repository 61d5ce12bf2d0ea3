"""Which metrics were found, and which were only asked for: what has no value of any label, and why."""

from __future__ import annotations

from cxrkit.report.evidence.metric_names import metrics_listed
from cxrkit.runs.scores import SubsetScores

_SAME = ("no threshold: ", "as tempered: ")  # what a reason begins with, where one stands for another's


def defined_names(part: SubsetScores) -> tuple[str, ...]:
    """Return the metrics of all images that have a value, of one label at least, in the evaluators' order."""
    found = {metric.name for metric in part.overall if metric.value is not None}
    return tuple(name for name in part.names if name in found)


def undefined_words(part: SubsetScores) -> list[str]:
    """Return which metrics of all images have no value at all, and why, those of one reason together.

    "temperature and threshold (no validation predictions)". A label's reason says more than that of a mean over none.
    """
    defined = defined_names(part)
    by: dict[str, list[str]] = {}
    for name in part.names:
        if name not in defined:
            metrics = [metric for metric in part.overall if metric.name == name]
            metrics.sort(key=lambda metric: metric.label is None)
            reason = next((metric.reason for metric in metrics if metric.reason), "no reason given")
            for start in _SAME:
                reason = reason.removeprefix(start)
            by.setdefault(reason, []).append(name)
    return [f"{metrics_listed(names)} ({reason})" for reason, names in by.items()]
