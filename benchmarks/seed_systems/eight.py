"""The phantom cohort with the eight labels of ChestX-ray8, which wang2017-resnet50-8 learns.

    cxrkit prepare --dataset benchmarks.seed_systems.eight:read --raw DIR --data SHARDS

As `--dataset nih-chestxray8` is for the download: the same films, eight of their labels.
"""

from __future__ import annotations

from pathlib import Path

from cxrkit.base.contracts import Records
from cxrkit.datasets.nih.chestxray8 import eight_of
from cxrkit.datasets.phantom import cohort


def read(raw: Path, *, allow_missing: bool = False) -> Records:
    """Return a synthetic cohort's records with ChestX-ray8's labels alone. Raises UserError."""
    return eight_of(cohort.read(raw, allow_missing=allow_missing), "benchmarks.seed_systems.eight:read")
