"""A run's predictions against other labels of the same images.

The difference of the two AUCs is of one set of scores and of the same patients, so its interval is that of a paired
difference (statistics/clustered.py): much of what moves one of them moves the other, too.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrkit.base.contracts import Metric
from cxrkit.datasets.nih.chestxray14 import NAME as NIH_DATASET
from cxrkit.evaluators import auc
from cxrkit.evaluators import label_sources as sources_of
from cxrkit.evaluators.label_sources import Aligned, LabelSource
from cxrkit.report.document.tables import AVERAGE
from cxrkit.report.evidence.keeping import Arrays
from cxrkit.report.evidence.opened import Derivation, Evidence, Opened
from cxrkit.report.evidence.runs import Run, is_probe
from cxrkit.report.evidence.staleness import stale_reasons
from cxrkit.statistics import clustered, comparing
from cxrkit.statistics.comparing import Comparison

_VERSION = 1  # of what is kept in run folders


@dataclass(frozen=True)
class HeldAgainst:
    """One run's AUCs against NIH's labels and against a source, on the images that both know."""

    run: Run
    """The run."""

    images: int
    """How many images those are."""

    patients: int
    """How many patients they are of."""

    nih: dict[str, Metric]
    """By finding, and AVERAGE where there is a mean: against the labels that the run was evaluated with."""

    source: dict[str, Metric]
    """Against the source."""

    difference: dict[str, Comparison]
    """The AUC against the source less that against NIH's labels."""

    same: frozenset[str]
    """The findings of which both say the same of every image."""


def why_not(run: Run, source: LabelSource) -> str:
    """Return why a run cannot be held against a source, as far as its scores say so; "" where nothing speaks against.

    Whether it compares with published results does not matter here: part of a test set is a test set, too.
    """
    if is_probe(run):
        return "predicts age, sex or view"
    if run.origin.dataset != NIH_DATASET:
        return f"images of data set {run.origin.dataset}, not {NIH_DATASET}"
    if not any(set(of) <= set(run.scores.labels.labels) for of in source.made_of.values()):
        return f"label set {run.origin.label_set} has none of the findings"
    return "; ".join(stale_reasons(run))


def held_against(run: Run, source: LabelSource, opened: Opened) -> HeldAgainst:
    """Return what a run's predictions are worth against a source, kept in the run folder for the next time.

    Raises UserError where predictions or labels cannot be read.
    """
    name = f"labels-{source.name}-{source.digest[:12]}"
    kept = opened.derived(run, Derivation(name, _VERSION, lambda evidence: _compute(evidence, source)))
    found: dict[str, Any] = json.loads(str(kept["found"]))
    return HeldAgainst(
        run=run,
        images=found["images"],
        patients=found["patients"],
        nih={key: Metric(**values) for key, values in found["nih"].items()},
        source={key: Metric(**values) for key, values in found["source"].items()},
        difference={key: Comparison(**values) for key, values in found["difference"].items()},
        same=frozenset(found["same"]),
    )


def _compute(evidence: Evidence, source: LabelSource) -> Arrays:
    aligned = sources_of.align(evidence.images, evidence.scores, evidence.truth, evidence.labels, source)
    clusters = aligned.truths.clusters
    found: dict[str, Any] = {"images": len(clusters), "patients": len(np.unique(clusters))}
    found |= {"nih": {}, "source": {}, "difference": {}, "same": []}
    if len(clusters) and len(aligned.findings):
        found |= {
            "nih": _metrics(aligned, aligned.truths.nih),
            "source": _metrics(aligned, aligned.truths.source),
            "difference": {key: asdict(one) for key, one in _differences(aligned).items()},
            "same": [
                finding
                for place, finding in enumerate(aligned.findings.labels)
                if np.array_equal(aligned.truths.nih[:, place], aligned.truths.source[:, place], equal_nan=True)
            ],
        }
    return {"found": np.array(json.dumps(found))}


def _metrics(aligned: Aligned, truth_NF: NDArray[np.float32]) -> dict[str, dict[str, Any]]:
    # The same intervals as in scores.json: over all images of a run they are those very numbers.
    score_NF: Any = aligned.scores  # of 32 or 64 bits, as in prediction files
    found = auc.evaluate(score_NF, truth_NF, aligned.truths.clusters, aligned.findings)
    return {metric.label or AVERAGE: asdict(metric) for metric in found}


def _differences(aligned: Aligned) -> dict[str, Comparison]:
    """Return each finding's difference, and that of the means where all that is averaged has both AUCs."""
    findings, truths = aligned.findings, aligned.truths
    nih, source = (
        clustered.estimates(aligned.scores, truth_NF > 0.5, truths.clusters, known_NL=~np.isnan(truth_NF))
        for truth_NF in (truths.nih, truths.source)
    )
    found = {name: comparing.compare(source[place], nih[place]) for place, name in enumerate(findings.labels)}
    places = [findings.labels.index(name) for name in findings.averaged]
    if places and not any(np.isnan(one.value) for side in (nih, source) for one in (side[place] for place in places)):
        means = (clustered.mean([side[place] for place in places]) for side in (source, nih))
        found[AVERAGE] = comparing.compare(*means)
    return found
