"""Raw folders in NIH's layout with tables alone, for tests that need no pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from cxrkit.base.contracts import LABELS, NO_FINDING, PATHOLOGIES

PATIENTS = 60


def write_raw(folder: Path, frame: pl.DataFrame, *, synthetic: bool = False) -> Path:
    """Write a raw folder without images, in NIH's layout; synthetic: as that of a phantom cohort."""
    folder.mkdir(parents=True)
    findings = pl.concat_str(
        [pl.when(pl.col(label)).then(pl.lit(label)) for label in LABELS], separator="|", ignore_nulls=True
    )
    frame.select(
        pl.col("image_id").alias("Image Index"),
        findings.alias("Finding Labels"),
        pl.col("follow_up").alias("Follow-up #"),
        pl.col("patient_id").alias("Patient ID"),
        pl.col("age_years").alias("Patient Age"),
        pl.col("sex").alias("Patient Gender"),
        pl.col("view").alias("View Position"),
    ).write_csv(folder / "Data_Entry_2017_v2020.csv")
    for subset in ("train_val", "test"):
        names = frame.filter(pl.col("official") == subset)["image_id"]
        (folder / f"{subset}_list.txt").write_text("\n".join(names))
    if synthetic:
        (folder / "SYNTHETIC.json").write_text('{"complete": true, "images": 80, "seed": 1}')
    return folder


def small_cohort() -> pl.DataFrame:
    """Return the records of 60 patients, every third of whom is in the official test set."""
    generator = np.random.default_rng(0)
    rows = [(patient, number) for patient in range(1, PATIENTS + 1) for number in range(1 + patient % 4)]
    truth = {label: generator.random(len(rows)) < 0.13 for label in PATHOLOGIES}
    return pl.DataFrame(
        {
            "image_id": [f"{patient:08d}_{number:03d}.png" for patient, number in rows],
            "patient_id": [str(patient) for patient, _ in rows],
            "follow_up": [number for _, number in rows],
            "age_years": [30 + patient for patient, _ in rows],
            "sex": ["MF"[patient % 2] for patient, _ in rows],
            "view": ["PA" if number % 3 else "AP" for _, number in rows],
            **truth,
            NO_FINDING: ~np.any(list(truth.values()), axis=0),
            "official": ["test" if patient % 3 == 0 else "train_val" for patient, _ in rows],
        }
    )
