"""Leave few training films of a phantom cohort their boxes, as a real training set has few.

    python -m benchmarks.seed_systems.boxed RAW

Of ChestX-ray14 1 film in 127 is boxed; `cxrkit synth` boxes each finding. Here one patient in five keeps the boxes of
the films that train in fold 1 (Li et al. 2018 learn from image labels first of all), and films that validate or test
keep all: what is localised is held against them. The box list in RAW is replaced.
"""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl

from cxrkit.base.files import write_text
from cxrkit.datasets import splits
from cxrkit.datasets.phantom import cohort

FOLD, ONE_IN = "1", 5


def few(raw: Path) -> pl.Series:
    """Return the names of the films of `raw` that keep their boxes."""
    split = splits.make(cohort.read(raw).frame, FOLD).frame
    patient = pl.col("patient_id").cast(pl.Int64)
    return split.filter((pl.col("subset") != "train") | (patient % ONE_IN == 0))["image_id"]


def leave_few(raw: Path) -> None:
    """Take the other films' boxes out of the box list of `raw`; twice changes nothing more."""
    path = raw / cohort.BOX_NAME
    header, *lines = path.read_text(encoding="utf-8").splitlines()
    kept = set(few(raw))
    write_text(path, "\n".join([header, *(line for line in lines if line.partition(",")[0] in kept), ""]))


if __name__ == "__main__":
    leave_few(Path(sys.argv[1]))
