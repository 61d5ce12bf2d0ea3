"""From scores to AUCs and their differences: what is lost without the metadata, without the border, and so on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cxrkit.audit.asking import ALONE, WHOLE, Answers
from cxrkit.base.errors import UserError
from cxrkit.base.labels import LabelSet
from cxrkit.report.evidence.opened import Evidence
from cxrkit.statistics import clustered
from cxrkit.statistics.clustered import Estimate
from cxrkit.statistics.comparing import Comparison, LabelComparisons, compare, compare_labels, holm


@dataclass(frozen=True)
class Change:
    """AUCs under some condition, and how they differ from those of the films as they are."""

    estimates: tuple[Estimate, ...]
    """Of each label."""

    mean: Estimate | None
    """Over the averaged labels that have an AUC; None where none has."""

    against: LabelComparisons | None
    """Less those of the films as they are, the mean's first; None of these themselves, and where there is no mean."""

    spread: float | None = None
    """Standard deviation of the mean AUC over the permutations; None where there is but one, or none was made."""


@dataclass(frozen=True)
class Results:
    """Everything that the tables of an audit show of the network's scores."""

    labels: LabelSet
    """The labels that have scores."""

    averaged: tuple[int, ...]
    """Places of the labels that the means are over: the averaged ones that have an AUC and a variance."""

    images: int
    """Test images."""

    patients: int
    """Of whom they are."""

    whole: Change
    """Of the films as they are."""

    changed: Mapping[str, Change]
    """By MASKED, ALONE, and what was permuted."""

    chance: Mapping[str, tuple[Comparison, ...]]
    """Of ALONE: each label's AUC less 0.5."""


def results(answers: Answers, evidence: Evidence, labels: LabelSet) -> Results:
    """Return the AUCs of the evaluated test images.

    labels: of the network's outputs. Raises UserError where the run's predictions are of other images.
    """
    rows = _places(answers.image_id, evidence.images["image_id"])
    columns = [labels.labels.index(label) for label in evidence.labels.labels]

    def estimates(scores_NL: NDArray[np.float32]) -> list[Estimate]:
        own = scores_NL[rows][:, columns]
        return clustered.estimates(own, evidence.positive, evidence.clusters, known_NL=evidence.known)

    whole = estimates(answers.scores[WHOLE])
    averaged = tuple(
        place
        for place, label in enumerate(evidence.labels.labels)
        if label in evidence.labels.averaged and np.isfinite(whole[place].influence).all()
    )
    changed = {
        name: _change(estimates(scores), whole, averaged) for name, scores in answers.scores.items() if name != WHOLE
    }
    for name, scores_PNL in answers.permuted.items():
        drawn = [estimates(scores_NL) for scores_NL in scores_PNL]
        means = [clustered.mean([one[place] for place in averaged]).value for one in drawn] if averaged else []
        spread = float(np.std(means, ddof=1)) if len(means) > 1 else None
        over = [clustered.mean(of_label) for of_label in zip(*drawn, strict=True)]
        changed[name] = replace(_change(over, whole, averaged), spread=spread)
    chance = {ALONE: tuple(map(less_chance, changed[ALONE].estimates))} if ALONE in changed else {}
    return Results(
        evidence.labels,
        averaged,
        len(rows),
        int(evidence.clusters.max()) + 1,
        Change(tuple(whole), _mean(whole, averaged), None),
        changed,
        chance,
    )


def _change(found: Sequence[Estimate], whole: Sequence[Estimate], averaged: Sequence[int]) -> Change:
    against = compare_labels([found], [whole], averaged) if averaged else None
    return Change(tuple(found), _mean(found, averaged), against)


def _mean(found: Sequence[Estimate], averaged: Sequence[int]) -> Estimate | None:
    return clustered.mean([found[place] for place in averaged]) if averaged else None


def _places(there: pl.Series, wanted: pl.Series) -> NDArray[np.intp]:
    """Return where each wanted image is."""
    known = pl.DataFrame({"image_id": there}).with_row_index("place")
    found = pl.DataFrame({"image_id": wanted}).join(known, on="image_id", how="left", maintain_order="left")
    if missing := found["place"].null_count():
        raise UserError(
            f"the run's predictions are of {len(wanted):,} test images, and {missing:,} of them are not among those "
            "that its network is asked about now",
            remedy="predict and evaluate the run again with the --data that it has now",
        )
    return found["place"].cast(pl.Int64).to_numpy().astype(np.intp)


def less_chance(one: Estimate) -> Comparison:
    """Return an AUC less 0.5, by its own variance over patients."""
    many = 10**9  # the half is known, whoever the patients are
    half = Estimate(0.5, np.zeros_like(one.influence), float("inf"), many, many)
    return compare(one, half)


def beyond_chance(found: Results, level: float = 0.05) -> list[str]:
    """Return the labels that the border alone tells better than by chance, p-values adjusted by Holm over all."""
    tests = [found.chance[ALONE][place] for place in found.averaged]
    adjusted = holm([one.p_value for one in tests])
    labels = [found.labels.labels[place] for place in found.averaged]
    return [
        label
        for label, one, p_value in zip(labels, tests, adjusted, strict=True)
        if one.difference > 0 and p_value <= level
    ]


def worse(found: Results, name: str, level: float = 0.05) -> list[str]:
    """Return the averaged labels whose AUC is lower under a condition, p-values adjusted by Holm over all."""
    against = found.changed[name].against
    if against is None:
        return []
    return [
        found.labels.labels[place]
        for place in found.averaged
        if against.labels[place].difference < 0 and against.adjusted[place] <= level
    ]
