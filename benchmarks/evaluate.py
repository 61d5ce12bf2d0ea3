"""Evaluation: 1,000 patient-cluster bootstrap replicates of 15 AUCs on the official test set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import Record
from benchmarks.session import Part, Row, Session
from benchmarks.stopwatch import Pass
from cxrkit.base.contracts import LABELS
from cxrkit.statistics import ranking

IMAGES, PATIENTS = 25_596, 2_797  # the official test set
REPLICATES, CHECKED, SEED = 1000, 5, 0
GROUP = "15 AUCs, 25,596 images"
OURS, SKLEARN = "cxrkit, 1,000 replicates", "scikit-learn, 1,000 replicates (projected)"


def measure(session: Session) -> Record:
    """Return the record of this part."""
    part = Part("evaluate", session)
    path, origin = session.work / "scores.npz", "drawn"
    session.work.mkdir(parents=True, exist_ok=True)
    truth, patient = official_test_set(session.raw)
    if truth is None:
        truth, patient = _drawn()
    else:
        origin = "the official test set's"
    generator = np.random.default_rng(SEED)
    score = (1 / (1 + np.exp(-generator.normal(1.2 * truth - 2, 1)))).astype(np.float32)
    np.savez(path, score=score, truth=truth, patient=patient)
    replicates = 100 if session.quick else REPLICATES
    rows = [
        Row(OURS, "benchmarks.evaluate:ours", {"file": str(path), "replicates": replicates}, packages=("numpy",)),
        Row(
            SKLEARN,
            "benchmarks.evaluate:sklearn",
            {"file": str(path)},
            packages=("scikit-learn",),
            note="2 replicates measured",
        ),
    ]
    # A pass counts replicates, and a lap may take many: seconds for a thousand.
    part.entries += session.race(GROUP, rows, unit="s", value=lambda lap: REPLICATES * lap.seconds / lap.images)
    mine = part.entries[0]
    part.target("1,000 replicates", 5.0, mine.spread.median if mine.values else None, at_least=False, unit="s")
    difference = largest_difference(score, truth, patient)
    part.target(
        f"largest difference to scikit-learn, {CHECKED} replicates of 15 labels",
        1e-12,
        difference,
        at_least=False,
        unit="",
    )
    return part.record(images=len(truth), patients=len(np.unique(patient)), truth=origin, scores="drawn")


def ours(file: str, replicates: int) -> Pass:
    """Return a pass of one bootstrap."""
    data = np.load(file)
    score, truth, patient = data["score"], data["truth"], data["patient"]

    def one_pass() -> Mapping[str, float]:
        return {"images": len(ranking.bootstrap(score, truth, patient, replicates=replicates, seed=SEED))}

    return one_pass


def sklearn(file: str, replicates: int = 2) -> Pass:
    """Return a pass of a few replicates with a sort per label and replicate."""
    data = np.load(file)
    score, truth, patient = data["score"], data["truth"], data["patient"]

    def one_pass() -> Mapping[str, float]:
        return {"images": len(_reference(score, truth, patient, replicates))}

    return one_pass


def largest_difference(score: Any, truth: Any, patient: Any) -> float:
    """Return how far a few replicates are from scikit-learn's AUC of the very images drawn."""
    found = ranking.bootstrap(score, truth, patient, replicates=CHECKED, seed=SEED)
    return float(np.abs(found - _reference(score, truth, patient, CHECKED)).max())


def _reference(score: Any, truth: Any, patient: Any, replicates: int) -> Any:
    from sklearn.metrics import roc_auc_score

    patients, cluster = np.unique(patient, return_inverse=True)
    result = np.empty((replicates, truth.shape[1]))
    for row, drawn in zip(result, ranking.draw(len(patients), replicates, SEED), strict=True):
        image = np.repeat(np.arange(len(cluster)), drawn[cluster])
        row[:] = [roc_auc_score(truth[image, label], score[image, label]) for label in range(truth.shape[1])]
    return result


def official_test_set(raw: Path | None) -> tuple[Any, Any]:
    """Return truth (N, 15) and patient (N,) of the official test set, None where the raw folder has not all of it."""
    if raw is None:
        return None, None
    from cxrkit.datasets.nih import chestxray14 as nih_chestxray14

    frame = nih_chestxray14.read(raw, allow_missing=True).frame
    test = frame.filter(frame["official"] == "test")
    if len(test) != IMAGES:
        return None, None
    return test.select(LABELS).to_numpy(), test["patient_id"].rank("dense").to_numpy()  # a file of numbers alone


def _drawn() -> tuple[Any, Any]:
    """Return as many images and patients as the official test set has, with findings of 1 to 40 % prevalence."""
    generator = np.random.default_rng(SEED)
    prevalence = np.geomspace(0.01, 0.4, len(LABELS))
    return generator.random((IMAGES, len(LABELS))) < prevalence, np.sort(generator.integers(0, PATIENTS, IMAGES))
