"""What an evaluator finds in a run's predictions, whoever made its scores.json; kept in the run folder."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import numpy as np

from cxrkit.base import registry
from cxrkit.base.contracts import Metric, Validation
from cxrkit.base.errors import UserError
from cxrkit.report.evidence.keeping import Arrays
from cxrkit.report.evidence.opened import Derivation, Evidence, Opened
from cxrkit.report.evidence.runs import Run

# Raised where one of the evaluators would find other numbers.
_VERSION = 2
_DEFAULTS = {item.name: item.default for item in fields(Metric)}


def measured(run: Run, opened: Opened, evaluator: str, **options: Any) -> list[Metric]:
    """Return the metrics of the run's test images by a registered evaluator, with these options.

    One that asks for the validation images is given those, where they were predicted. Raises UserError when predictions
    or labels cannot be read, and for what the evaluator refuses.
    """
    kept = opened.derived(run, metrics_by(run, opened, evaluator, **options))
    return [Metric(**item) for item in json.loads(kept["metrics"].tobytes())]


def metrics_by(run: Run, opened: Opened, evaluator: str, **options: Any) -> Derivation:
    """Return how `measured` finds its metrics. Raises UserError as that does."""
    function = registry.load("evaluator", evaluator)
    asks = inspect.signature(function).parameters
    val = run.scores.subsets.get("val") if "validation" in asks else None

    def compute(evidence: Evidence) -> Arrays:
        given = dict(options)
        if val is not None:
            of_val = opened.evidence(run, "val")
            given["validation"] = Validation(of_val.scores, of_val.truth, of_val.clusters)
        if "images" in asks:
            given["images"] = evidence.images
        found = function(evidence.scores, evidence.truth, evidence.clusters, evidence.labels, **given)
        return {"metrics": np.frombuffer(_packed(found).encode(), np.uint8)}

    if val is not None:
        opened.check(run, "val")
    settings = json.dumps([options, "" if val is None else val.predictions_sha256])
    if "images" in asks:  # their ages, sexes and views are not the run's own: it may be shown with those of a table
        settings += opened.metadata_digest(run)
    return Derivation(evaluator, _VERSION, compute, settings)


def _packed(metrics: Iterable[Metric]) -> str:
    """Return metrics as JSON, without what is as it is by default."""
    return json.dumps(
        [
            {
                name: value
                for name, default in _DEFAULTS.items()
                if (value := getattr(metric, name)) != default or default is MISSING
            }
            for metric in metrics
        ]
    )


def of_all(
    runs: Sequence[Run], names: Mapping[Path, str], find: Callable[[Run], Any]
) -> tuple[list[tuple[Run, Any]], tuple[str, ...]]:
    """Return the runs with what `find` finds in each, and notes on those in which nothing can be found.

    Raises UserError, with the reasons, where nothing can be found in any: a document of nothing would not say why.
    """
    found, lacking = [], []
    for run in runs:
        try:
            found.append((run, find(run)))
        except UserError as error:
            lacking.append((names[run.folder], error))
    if not found:
        raise UserError(_all_lack(lacking), remedy="; ".join(dict.fromkeys(error.remedy for _, error in lacking)))
    return found, tuple(f"Left out: {name} ({error.what})" for name, error in lacking)


def _all_lack(lacking: Sequence[tuple[str, UserError]]) -> str:
    """Return why nothing is found in any run; runs of one reason share it."""
    by: dict[str, list[str]] = {}
    for name, error in lacking:
        by.setdefault(error.what, []).append(name)
    return "; ".join(f"{what} ({'; '.join(names)})" for what, names in by.items()) or "there is no run"


def by_key(metrics: Iterable[Metric]) -> dict[tuple[str, str | None, str], Metric]:
    """Return metrics by name, label (None: the mean) and group."""
    return {(metric.name, metric.label, metric.group): metric for metric in metrics}
