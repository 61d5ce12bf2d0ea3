"""Age, sex and view of other patients in the place of an image's own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# What is replaced, by its place in a network's metadata (loaders/targets.py).
INPUTS = {"age": 0, "sex": 1, "view": 2}
TOGETHER = "age, sex and view"


def permutation(cluster_N: NDArray[np.intp], seed: int) -> NDArray[np.intp]:
    """Return for each image the image whose metadata it gets; a permutation, so that each is given once.

    Patients are drawn in two random orders, and their images follow: image by image, those of the first order get what
    those of the second have. So whole patients are exchanged as far as they have equally many images, and how often an
    age, a sex or a view occurs stays as it is. cluster_N: the number of each image's patient, from 0.
    """
    generator = np.random.Generator(np.random.Philox(seed))
    patients = int(cluster_N.max(initial=-1)) + 1
    giving, taking = (np.argsort(generator.permutation(patients)[cluster_N], kind="stable") for _ in range(2))
    found = np.empty(len(cluster_N), np.intp)
    found[taking] = giving
    return found


def permuted(
    meta_N3: NDArray[np.float32], cluster_N: NDArray[np.intp], names: Sequence[str], seed: int
) -> NDArray[np.float32]:
    """Return the metadata with the inputs called `names` from other patients, all of them from the same one."""
    columns = [INPUTS[name] for name in names]
    changed = meta_N3.copy()
    changed[:, columns] = meta_N3[permutation(cluster_N, seed)][:, columns]
    return changed
