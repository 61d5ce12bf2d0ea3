"""AUCs with and without the films that have a drain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cxrkit.audit.drains import Drains
from cxrkit.report.evidence.opened import Evidence
from cxrkit.statistics import clustered
from cxrkit.statistics.clustered import Estimate
from cxrkit.statistics.comparing import Comparison, LabelComparisons, compare, compare_labels

FINDING = "Pneumothorax"  # which a drain treats


@dataclass(frozen=True)
class Group:
    """Films with the finding, some of them, told from all films without it."""

    positives: int
    """Films with the finding."""

    estimate: Estimate
    """The AUC."""


@dataclass(frozen=True)
class WithDrains:
    """What a list of drains shows of a run's scores."""

    drains: Drains
    """The list."""

    evidence: Evidence
    """The run's scores of its test images."""

    listed: int
    """Test images that the list says something of."""

    drained: int
    """Those with a drain."""

    patients: int
    """Patients with a drain on some test image."""

    left_out: int
    """Test images of these patients."""

    groups: dict[bool, Group]
    """Films with the finding, by whether a drain is listed; empty where the run has no such finding."""

    unlisted: int
    """Films with the finding of which the list says nothing."""

    gap: Comparison | None
    """The AUC of the finding with a drain less that of it without."""

    all: tuple[Estimate, ...]
    """AUC of each label on all test images."""

    without: tuple[Estimate, ...]
    """Without the images of patients with a drain."""

    averaged: tuple[int, ...]
    """Places of the labels that the means are over: averaged ones with an AUC on both."""

    against: LabelComparisons | None
    """Without, less all; None where there is no mean."""


def with_drains(drains: Drains, evidence: Evidence) -> WithDrains:
    """Return the AUCs of the films with and without drains, from a run's own predictions."""
    images = evidence.images.select("image_id", "patient_id").join(
        drains.table, on="image_id", how="left", maintain_order="left"
    )
    drained = images["drain"].fill_null(False).to_numpy()
    patients = images.filter(pl.col("drain"))["patient_id"].unique()
    of_them = images["patient_id"].is_in(patients.implode()).to_numpy()
    number = int(evidence.clusters.max()) + 1
    all_L = clustered.estimates(
        evidence.scores, evidence.positive, evidence.clusters, known_NL=evidence.known, clusters=number
    )
    kept_NL = evidence.known & ~of_them[:, None]
    without_L = clustered.estimates(
        evidence.scores, evidence.positive, evidence.clusters, known_NL=kept_NL, clusters=number
    )
    averaged = tuple(
        place
        for place, label in enumerate(evidence.labels.labels)
        if label in evidence.labels.averaged
        and np.isfinite(all_L[place].influence).all()
        and np.isfinite(without_L[place].influence).all()
    )
    groups, unlisted = _groups(images["drain"], evidence, number)
    gap = compare(groups[True].estimate, groups[False].estimate) if groups else None
    return WithDrains(
        drains, evidence, int(images["drain"].is_not_null().sum()), int(drained.sum()), len(patients),
        int(of_them.sum()), groups, unlisted, gap, tuple(all_L), tuple(without_L), averaged,
        compare_labels([without_L], [all_L], averaged) if averaged else None,
    )  # fmt: skip


def _groups(drain: pl.Series, evidence: Evidence, number: int) -> tuple[dict[bool, Group], int]:
    """Return the finding with and without a drain, each against all films without it; and how many are not listed."""
    if FINDING not in evidence.labels.labels:
        return {}, 0
    place = evidence.labels.labels.index(FINDING)
    positive, known = evidence.positive[:, place], evidence.known[:, place]
    said: NDArray[np.bool_] = drain.is_not_null().to_numpy()
    found = {}
    for wanted in (True, False):
        chosen = positive & said & (drain.fill_null(False).to_numpy() == wanted)
        one = clustered.estimate(
            evidence.scores[:, place],
            positive,
            evidence.clusters,
            clusters=number,
            known_N=known & (chosen | ~positive),
        )
        found[wanted] = Group(int(chosen.sum()), one)
    return found, int((positive & ~said).sum())
