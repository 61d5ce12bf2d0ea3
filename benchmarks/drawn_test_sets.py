"""Test sets drawn with patients as in the official one, and scores whose AUCs are known.

A test set is drawn by drawing the 2,797 patients of the official test set with replacement, each with its images and
its true labels (9.15 images on average, up to 184), and by giving every image a score of known AUC: normal noise, a
part of which is the patient's, the same for all of its images. Two models that know equally much share half of
their noise, so that a comparison that finds a difference is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cxrkit.base.labels import CHESTXRAY14

ROOT = Path(__file__).resolve().parent.parent
# Of all images: the patient, whether NIH's official test list has it, and its labels as bits.
FACTS = ROOT / "tests" / "facts" / "chestxray14.parquet"
# Of which the AUCs are: about those of the paper's best network on the official split.
AUCS = {
    "Cardiomegaly": 0.87, "Emphysema": 0.90, "Edema": 0.84, "Hernia": 0.92, "Pneumothorax": 0.84, "Effusion": 0.82,
    "Mass": 0.81, "Fibrosis": 0.80, "Atelectasis": 0.755, "Consolidation": 0.74, "Pleural_Thickening": 0.76,
    "Nodule": 0.73, "Pneumonia": 0.70, "Infiltration": 0.69, "No Finding": 0.74,
}  # fmt: skip
# Rarer than anything in the official test set: Hernia of fewer patients, for the resamples' test sets and for val.
RARER = {"Hernia, 20 patients": 20, "Hernia, 14 patients": 14}
SHARED = 0.5  # of the noise's variance, by both models
SEED = 0


@dataclass(frozen=True)
class Population:
    """What test sets are drawn from."""

    names: tuple[str, ...]
    """Of the labels: the 15, then those of RARER."""

    truth: NDArray[np.bool_]
    """(N, L), the labels of the official test images, sorted by patient."""

    first: NDArray[np.intp]
    """(K,), the row of each patient's first image."""

    images: NDArray[np.intp]
    """(K,), how many images each patient has."""

    auc: NDArray[np.float64]
    """(L,), the true AUC of each label."""

    @property
    def averaged(self) -> list[int]:
        """The places of the labels that the mean is over."""
        return [self.names.index(label) for label in CHESTXRAY14.averaged]


def population() -> Population:
    """Return the patients of the official test set, with their labels."""
    frame = pl.read_parquet(FACTS).filter("official_test").sort("patient_id", maintain_order=True)
    bits_N = frame["labels"].to_numpy().astype(np.int64)
    columns = [(bits_N >> place) & 1 == 1 for place in range(len(CHESTXRAY14.labels))]
    _, first_K, cluster_N, images_K = np.unique(
        frame["patient_id"].to_numpy(), return_index=True, return_inverse=True, return_counts=True
    )
    hernia_N = columns[CHESTXRAY14.labels.index("Hernia")]
    ill = np.random.default_rng(SEED).permutation(np.unique(cluster_N[hernia_N]))
    columns += [hernia_N & np.isin(cluster_N, ill[:count]) for count in RARER.values()]
    names = (*CHESTXRAY14.labels, *RARER)
    auc_L = np.array([AUCS.get(name, AUCS["Hernia"]) for name in names])
    return Population(names, np.stack(columns, axis=1), first_K, images_K, auc_L)


def draw_test_set(
    of: Population, generator: np.random.Generator, of_patient: float
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.intp]]:
    """Return scores (2 models, N, L), truth (N, L) and the number of each image's patient (N,)."""
    from scipy.special import ndtri

    patients, labels = len(of.first), len(of.names)
    chosen_K = generator.integers(0, patients, patients)
    images_K = of.images[chosen_K]
    cluster_N = np.repeat(np.arange(patients), images_K)
    within_N = np.arange(len(cluster_N)) - np.repeat(np.cumsum(images_K) - images_K, images_K)
    truth_NL = of.truth[of.first[chosen_K][cluster_N] + within_N]

    def noise(parts: float) -> NDArray[np.float32]:
        of_patient_KL = generator.standard_normal((patients, labels), np.float32)
        of_image_NL = generator.standard_normal((len(cluster_N), labels), np.float32)
        scale = [np.float32(np.sqrt(parts * share)) for share in (of_patient, 1 - of_patient)]
        return scale[0] * of_patient_KL[cluster_N] + scale[1] * of_image_NL

    signal_NL = (np.sqrt(2) * ndtri(of.auc)).astype(np.float32) * truth_NL + noise(SHARED)
    return np.stack([signal_NL + noise(1 - SHARED) for _ in range(2)]), truth_NL, cluster_N
