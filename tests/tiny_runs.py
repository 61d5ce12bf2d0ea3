"""Run folders without a training: records, a split, and prediction files whose origin is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from cxrkit.base.contracts import LABELS
from cxrkit.base.labels import CHESTXRAY14, LabelSet
from cxrkit.base.origin import Origin, labels_digest
from cxrkit.datasets.splits import Split
from cxrkit.runs.predictions import PredictionInfo, write_predictions

PATIENTS = 60  # the last 20 test, the 10 before validate


def make_records(seed: int = 0, labels: LabelSet = CHESTXRAY14) -> pl.DataFrame:
    generator = np.random.default_rng(seed)
    rows = [
        (f"{patient:08d}_{image:03d}.png", str(patient))
        for patient in range(1, PATIENTS + 1)
        for image in range(1 + patient % 4)
    ]
    truth = {label: generator.random(len(rows)) < 0.35 for label in labels.labels}
    ids, patients = zip(*rows, strict=True)
    return pl.DataFrame({"image_id": ids, "patient_id": patients, **truth}).sort("image_id")


def make_split(records: pl.DataFrame, name: str = "official") -> Split:
    number = pl.col("patient_id").cast(pl.Int32)
    subset = pl.when(number > 40).then(pl.lit("test"))
    subset = subset.when(number > 30).then(pl.lit("val")).otherwise(pl.lit("train"))
    return Split(name, records.select("image_id", "patient_id", subset=subset))


def make_origin(records: pl.DataFrame, split: Split, labels: LabelSet = CHESTXRAY14, **changes) -> Origin:
    values = {
        "dataset": "nih-chestxray14",
        "label_set": labels.name,
        "label_release": "v2020",
        "labels_digest": labels_digest(records, labels),
        "pixels_digest": "bb" * 32,
        "preparation_digest": "cc" * 32,
        "image_side": 1024,
        "split": split.name,
        "split_digest": split.digest,
        "train_images": split.images("train"),
        "train_subset_images": split.images("train"),
    }
    return Origin(**(values | changes))


def make_info(origin: Origin, split: Split, subset: str = "test", **changes) -> PredictionInfo:
    values = {
        "name": "resnet50-large-meta",
        "model": "resnet50-large-meta",
        "recipe": "resnet50-large-meta",
        "recipe_digest": "ee" * 32,
        "changes": (),
        "seed": 0,
        "input_size": 448,
        "epoch": 7,
        "checkpoint_sha256": "ab" * 32,
        "subset": subset,
        "subset_images": split.images(subset),
        "origin": origin,
    }
    return PredictionInfo(**(values | changes))


def make_scores(records: pl.DataFrame, split: Split, subset: str = "test", labels=LABELS) -> pl.DataFrame:
    chosen = records.join(split.frame.filter(pl.col("subset") == subset).select("image_id"), on="image_id")
    noise = np.random.default_rng(1).random((len(chosen), len(labels)))
    truth = chosen.select(pl.col(label).cast(pl.Float32).fill_null(0.5) for label in labels).to_numpy()
    score_NL = (0.3 * truth + 0.7 * noise).astype(np.float32)
    return chosen.select("image_id", "patient_id").hstack(pl.DataFrame(score_NL, schema=list(labels)))


def make_run(
    folder: Path, records: pl.DataFrame, split: Split, labels: LabelSet = CHESTXRAY14, info=None, **changes
) -> Path:
    """Return `folder` as a training leaves it: a split, and the predictions of both subsets."""
    folder.mkdir(parents=True)
    split.frame.write_parquet(folder / "split.parquet")
    origin = make_origin(records, split, labels, **changes)
    for subset in ("val", "test"):
        about = make_info(origin, split, subset, **(info or {}))
        scores = make_scores(records, split, subset, labels.labels)
        write_predictions(folder / "predictions" / f"{subset}.parquet", scores, about)
    return folder
