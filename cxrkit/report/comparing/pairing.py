"""Contests out of contenders: their runs aligned by image, in the labels that all of them have.

The order of files plays no part: an Evidence is sorted by image, and what is kept of it carries a digest of the images,
patients and truth behind each label. It is kept in each run folder, so the next comparison reads 1 MB a run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cxrkit.base.errors import UserError
from cxrkit.base.labels import LabelSet
from cxrkit.report.comparing.contenders import Contender, is_fold, refuse_apart
from cxrkit.report.comparing.contests import Contest, OnFolds, OnImages
from cxrkit.report.evidence.keeping import Arrays
from cxrkit.report.evidence.opened import Derivation, Evidence, Opened
from cxrkit.report.evidence.runs import Run
from cxrkit.statistics.clustered import Estimate

_LIKE_ESTIMATE = ("value", "clusters_effective", "positive_patients", "negative_patients")


def _influences(evidence: Evidence) -> Arrays:
    """Return each label's estimate, and a digest of the images, patients and truth that it is of."""
    found = evidence.estimates()
    arrays: Arrays = {name: np.array([getattr(one, name) for one in found]) for name in _LIKE_ESTIMATE}
    who = evidence.images.select(pl.concat_str("image_id", "patient_id", separator=" ").str.join("\n")).item()
    base = hashlib.sha256(who.encode())
    digests = []
    for truth_N in evidence.truth.T:
        sha = base.copy()
        sha.update(np.where(np.isnan(truth_N), 2, truth_N > 0.5).astype(np.uint8).tobytes())
        digests.append(sha.hexdigest())
    return arrays | {
        "labels": np.array(evidence.labels.labels),
        "truth": np.array(digests),
        "influence": np.stack([one.influence for one in found]),
    }


INFLUENCES = Derivation("influences", 1, _influences)


def contests(contenders: Sequence[Contender], opened: Opened) -> list[Contest]:
    """Return one contest for each split that all contenders have, and one over the folds that they have in common.

    A single common fold is a split like any other. Contenders with one split each are compared on it whatever it is
    called, as long as the test images are the same. Raises UserError where they have no split in common, or where two
    of their runs may not be compared.
    """
    common = [split for split in contenders[0].splits if all(split in other.splits for other in contenders)]
    if not common and any(len(contender.splits) > 1 for contender in contenders):
        raise UserError(
            "no split in common: " + "; ".join(f"{item.name} has {', '.join(item.splits)}" for item in contenders),
            remedy="train or evaluate all of them on one split, or on the same folds",
        )
    doubts = [note for contender in contenders for note in contender.doubts()]
    if not common:
        found = on_images(contenders, [item.runs for item in contenders], contenders[0].splits[0], opened)
        return [replace(found, notes=(*found.notes, *doubts))]
    folds = [split for split in common if is_fold(split)]
    alone = [split for split in common if split not in folds or len(folds) == 1]

    def on_split(split: str) -> OnImages:
        return on_images(contenders, [contender.on(split) for contender in contenders], split, opened)

    made: list[Contest] = [on_split(split) for split in alone]
    if len(folds) > 1:
        made.append(_on_folds([on_split(fold) for fold in folds]))
    notes = (*_left_out(contenders, common), *doubts)
    return [replace(contest, notes=(*contest.notes, *notes)) for contest in made]


def _left_out(contenders: Sequence[Contender], common: Sequence[str]) -> list[str]:
    notes = []
    for contender in contenders:
        if others := [split for split in contender.splits if split not in common]:
            notes.append(f"Left out: {contender.name} on {', '.join(others)}, which not all of them have")
    return notes


def on_images(
    contenders: Sequence[Contender], members: Sequence[Sequence[Run]], split: str, opened: Opened
) -> OnImages:
    """Return the contenders on the test images of one split; members: the runs of each, one for each seed.

    Raises UserError where two runs may not be compared, share no image, or share no label with an AUC.
    """
    runs = [run for seeds in members for run in seeds]
    for run in runs[1:]:
        refuse_apart(runs[0], run)
    arrays, (images, patients), notes = _aligned(runs, opened)
    if len({run.origin.split_digest for run in runs} - {""}) > 1:
        notes.append("The splits differ in their training and validation images; the test images are the same")
    notes += _alike(contenders, members, arrays)
    labels, left_out = _common_labels(runs, arrays)
    estimates = iter([_estimates(item) for item in arrays])
    return OnImages(
        tuple(contender.name for contender in contenders),
        labels,
        tuple(tuple(next(estimates) for _ in seeds) for seeds in members),
        split,
        images,
        patients,
        images < max(run.test.subset_images for run in runs),
        (*notes, *left_out),
    )


def _alike(contenders: Sequence[Contender], members: Sequence[Sequence[Run]], arrays: Sequence[Arrays]) -> list[str]:
    """Say which runs order the images alike in every label: copies, or one model under two names."""
    owners = [
        f"{contender.name}, seed {run.scores.seed}" if len(seeds) > 1 else contender.name
        for contender, seeds in zip(contenders, members, strict=True)
        for run in seeds
    ]
    alike: dict[str, list[str]] = {}
    for owner, item in zip(owners, arrays, strict=True):
        found = hashlib.sha256("".join(item["truth"].tolist()).encode() + item["influence"].tobytes()).hexdigest()
        alike.setdefault(found, []).append(owner)
    return [
        f"{' and '.join(same)} order the test images alike in every label: they are copies, or one model"
        for same in alike.values()
        if len(same) > 1
    ]


def _aligned(runs: Sequence[Run], opened: Opened) -> tuple[list[Arrays], tuple[int, int], list[str]]:
    """Return the arrays of INFLUENCES of each run, on the images that all of them have."""
    if len({run.test.images_digest for run in runs}) == 1:
        test = runs[0].test
        part = "" if test.complete else f"Partial: {test.images:,} of {test.subset_images:,} test images"
        return [opened.derived(run, INFLUENCES) for run in runs], (test.images, test.patients), [part] * bool(part)
    found = [opened.evidence(run) for run in runs]
    shared = found[0].images.select("image_id")
    for evidence in found[1:]:
        shared = shared.join(evidence.images, on="image_id", how="semi")
    if shared.is_empty():
        raise UserError(
            f"{runs[0].folder} and {runs[-1].folder}: share no test image",
            remedy="predict the same images with both models",
        )
    names = shared["image_id"].implode()
    found = [_of_images(evidence, evidence.images["image_id"].is_in(names).to_numpy()) for evidence in found]
    counts = ", ".join(f"{run.name} has {run.test.images:,}" for run in runs)
    note = f"Partial: only the {shared.height:,} test images that all of them have are compared ({counts})"
    return [_influences(item) for item in found], (shared.height, found[0].images["patient_id"].n_unique()), [note]


def _of_images(evidence: Evidence, kept_N: NDArray[np.bool_]) -> Evidence:
    return Evidence(
        evidence.images.filter(pl.Series(kept_N)), evidence.scores[kept_N], evidence.truth[kept_N], evidence.labels
    )


def _common_labels(runs: Sequence[Run], arrays: Sequence[Arrays]) -> tuple[LabelSet, list[str]]:
    """Return the labels that are compared, and notes on the others: those without scores, or without an AUC."""
    truths = [dict(zip(item["labels"].tolist(), item["truth"].tolist(), strict=True)) for item in arrays]
    values = [dict(zip(item["labels"].tolist(), item["value"].tolist(), strict=True)) for item in arrays]
    known = runs[0].scores.labels
    everywhere = dict.fromkeys(label for run in runs for label in run.scores.labels.labels)
    reasons: dict[str, list[str]] = {}
    for label in everywhere:
        if lacking := [run.name for run, truth in zip(runs, truths, strict=True) if label not in truth]:
            reasons.setdefault(f"no scores by {', '.join(dict.fromkeys(lacking))}", []).append(label)
        elif len({truth[label] for truth in truths}) > 1:
            reasons.setdefault("their truth differs between the runs", []).append(label)
        elif np.isnan([value[label] for value in values]).any():
            reasons.setdefault("no AUC, all or none of the images have it", []).append(label)
    left_out = {label for labels in reasons.values() for label in labels}
    kept = tuple(label for label in known.labels if label not in left_out)
    averaged = tuple(label for label in kept if all(label in run.scores.labels.averaged for run in runs))
    notes = [f"Not compared: {', '.join(map(known.heading, labels))} ({why})" for why, labels in reasons.items()]
    if not averaged:
        raise UserError(
            f"{runs[0].folder} and {runs[-1].folder}: no label to compare; {'; '.join(notes) or 'none is averaged'}",
            remedy="compare runs that score the same labels of the same images",
        )
    return replace(known, labels=kept, averaged=averaged), notes


def _estimates(arrays: Arrays) -> dict[str, Estimate]:
    return {
        str(label): Estimate(
            float(arrays["value"][place]),
            arrays["influence"][place].astype(np.float64, copy=False),
            float(arrays["clusters_effective"][place]),
            int(arrays["positive_patients"][place]),
            int(arrays["negative_patients"][place]),
        )
        for place, label in enumerate(arrays["labels"])
    }


def _on_folds(folds: Sequence[OnImages]) -> OnFolds:
    """Return the contenders over the folds, in the labels that each fold has an AUC of."""
    first = folds[0].labels
    labels = tuple(label for label in first.labels if all(label in fold.labels.labels for fold in folds))
    averaged = tuple(label for label in first.averaged if label in labels)
    contenders = range(len(folds[0].names))
    value_QFL = np.array([[[fold.auc(number, label) for label in labels] for fold in folds] for number in contenders])
    notes = dict.fromkeys(f"{fold.split}: {note}" for fold in folds for note in fold.notes)
    return OnFolds(
        folds[0].names,
        replace(first, labels=labels, averaged=averaged),
        value_QFL,
        tuple(fold.split for fold in folds),
        tuple(notes),
    )
