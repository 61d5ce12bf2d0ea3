"""A small study with everything that reports are made of, in a world of its own size.

`build` draws a cohort of 300 patients, makes its official split and its resamples, and writes run folders as trainings
and imports leave them: config, metrics, split, predictions, scores. `known` makes the toolkit take this cohort for
ChestX-ray14: its manifests then hold the digests and counts of these splits and labels, so that the runs are comparable
by the same rules as real ones. Nothing is trained: the scores are drawn, so that each model knows about as much as its
`strength` says.
"""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import tomli_w
from tiny_tables import write_raw

from cxrkit import recipes
from cxrkit.base import manifests
from cxrkit.base.contracts import EVALUATED, NO_FINDING, PATHOLOGIES
from cxrkit.base.files import digest_lines, write_json, write_text
from cxrkit.base.origin import Basis, Origin, labels_digest, metadata_digest
from cxrkit.datasets import known_splits, splits
from cxrkit.datasets.nih import archives, roster
from cxrkit.datasets.splits import Split
from cxrkit.evaluators.scoring import evaluate_run
from cxrkit.evaluators.truth import read_truth
from cxrkit.imports.importing import ImportRequest, import_predictions
from cxrkit.report.evidence import reference
from cxrkit.runs.config import recipe_digest, to_toml
from cxrkit.runs.folder import RunFolder, write_split
from cxrkit.runs.metrics import MetricsFile
from cxrkit.runs.predictions import PredictionInfo, write_predictions

PATIENTS = 300
REPLICATES = 50
# Beside this many in a thousand images each pathology is drawn; Hernia in few patients, as in the real data.
PREVALENCE = dict(zip(PATHOLOGIES, (90, 80, 70, 22, 120, 250, 140, 60, 230, 130, 90, 150, 60, 300), strict=True))
EPOCHS = 6


@dataclass(frozen=True)
class Drawn:
    """A model whose scores are drawn."""

    recipe: str
    strength: float
    seeds: tuple[int, ...] = (0,)
    splits: tuple[str, ...] = ("official",)
    limit: int | None = None  # how many test images it was asked about; None: all
    name: str = ""


MODELS = (
    Drawn("resnet50-large", 0.55, seeds=(0, 1), splits=("official",)),
    Drawn("resnet50-large", 0.55, splits=("resample-1", "resample-2", "resample-3")),
    Drawn("resnet50-large-meta", 0.66, splits=("official", "resample-1", "resample-2", "resample-3")),
    Drawn("resnet38-large-meta", 0.65),
    Drawn("mlp-meta", 0.15),
    Drawn("resnet101-large", 0.5, limit=60, name="partial"),
)


@dataclass(frozen=True)
class Study:
    """Where the study lies."""

    folder: Path

    @property
    def raw(self) -> Path:
        """NIH's tables of the cohort, without images."""
        return self.folder / "raw"

    @property
    def labels(self) -> Path:
        """image_id, patient_id, age_years, sex, view and the labels."""
        return self.folder / "labels.parquet"

    @property
    def runs(self) -> Path:
        """The run folders."""
        return self.folder / "runs"


def cohort() -> pl.DataFrame:
    """Return the records: patients with one to nine images, metadata that a label depends on, rare findings."""
    generator = np.random.default_rng(7)
    images_K = 1 + generator.geometric(0.35, PATIENTS).clip(max=9)
    patient_N = np.repeat(np.arange(1, PATIENTS + 1), images_K)
    number_N = np.concatenate([np.arange(count) for count in images_K])
    age_N = np.repeat(generator.integers(5, 92, PATIENTS), images_K)
    sex_N = np.repeat(generator.choice(["M", "F"], PATIENTS, p=[0.56, 0.44]), images_K)
    view_N = generator.choice(["PA", "AP"], len(patient_N), p=[0.6, 0.4])
    ill_K = generator.normal(size=PATIENTS)
    truth = {}
    for label, in_a_thousand in PREVALENCE.items():
        risk_N = np.repeat(ill_K + 0.5 * generator.normal(size=PATIENTS), images_K) + 0.4 * (view_N == "AP")
        risk_N = risk_N + generator.normal(size=len(patient_N))
        truth[label] = risk_N > np.quantile(risk_N, 1 - in_a_thousand / 1000)
    return pl.DataFrame(
        {
            "image_id": [
                f"{patient:08d}_{number:03d}.png" for patient, number in zip(patient_N, number_N, strict=True)
            ],
            "patient_id": [str(patient) for patient in patient_N],
            "follow_up": number_N,
            "age_years": age_N,
            "sex": sex_N,
            "view": view_N,
            **truth,
            NO_FINDING: ~np.any(list(truth.values()), axis=0),
            "official": np.where(patient_N % 3 == 0, "test", "train_val"),
        }
    ).sort("image_id")


def build(folder: Path) -> Study:
    """Write the study into an empty folder and return it. Call it inside `known`, which an import asks."""
    study = Study(folder)
    records = cohort()
    write_raw(study.raw, records)
    records.drop("follow_up", "official").write_parquet(study.labels)
    truth = read_truth(study.labels)
    for number, model in enumerate(MODELS):
        for name in model.splits:
            for seed in model.seeds:
                run = _write_run(study, model, records, splits.make(records, name), seed, number)
                evaluate_run(run.path, truth, options={"replicates": REPLICATES})
    _import(study, records, truth)
    return study


def _scores(model: Drawn, records: pl.DataFrame, chosen: pl.DataFrame, seed: int, number: int) -> pl.DataFrame:
    """Return the scores of the chosen images: what is true, and noise that is the model's own and the seed's."""
    labels = (*PATHOLOGIES, NO_FINDING)
    truth_NL = chosen.select(pl.col(label).cast(pl.Float64) for label in labels).to_numpy()
    common = np.random.default_rng(1).normal(size=(len(records), len(labels)))  # what is hard is hard for all
    rows_N = records.with_row_index("row").join(chosen.select("image_id"), on="image_id")["row"].to_numpy()
    own = np.random.default_rng([2, number, seed]).normal(size=(len(records), len(labels)))
    noise_NL = 0.8 * common[rows_N] + 0.6 * own[rows_N]
    logit_NL = model.strength * (truth_NL - 0.5) * 2 + noise_NL - 1.5
    score_NL = (1 / (1 + np.exp(-logit_NL))).astype(np.float32)
    return chosen.select("image_id", "patient_id").hstack(pl.DataFrame(score_NL, schema=list(labels)))


def _write_run(study: Study, model: Drawn, records: pl.DataFrame, split: Split, seed: int, number: int) -> RunFolder:
    name = model.name or model.recipe
    # A copy of the study reads the labels of the first one: they are the same.
    said = {"data": study.labels, "runs": study.runs, "fold": split.name, "seed": seed, "epochs": EPOCHS}
    plain = recipes.load(model.recipe)
    config = recipes.resolve(said, recipe=model.recipe).with_values({"schedule.epochs": plain.schedule.epochs})
    run = RunFolder.of(study.runs, name, split.name, seed)
    run.path.mkdir(parents=True)
    write_text(run.config, to_toml(config))
    pixels = "" if model.recipe == "mlp-meta" else "bb" * 32
    origin = replace(
        reference.reference_origin(split.name),
        pixels_digest=pixels,
        preparation_digest=next(iter(reference.known_preparations())) if pixels else "",
        image_side=1024 if pixels else 0,
        basis=Basis() if pixels else Basis(pixels="unused"),
    )
    used = {subset: digest_lines([subset]) for subset in ("train", *EVALUATED)}
    about = {"cxrkit": "0.3.0", "device": "cpu", "precision": "fp32", "processes": 1}
    write_json(run.provenance, about | {"seed": seed, "used_digests": used})
    _write_metrics(run, seed)
    write_split(run, split, records.select("image_id", used=pl.lit(True), source_crc32=pl.lit(1, pl.UInt32)))
    for subset in EVALUATED:
        chosen = records.join(split.frame.filter(pl.col("subset") == subset).select("image_id"), on="image_id")
        scores = _scores(model, records, chosen, seed, number)
        info = PredictionInfo(
            name=name,
            model=model.recipe,
            recipe=model.recipe,
            recipe_digest=recipe_digest(config),
            changes=(),
            seed=seed,
            input_size=config.input.size or 448,
            epoch=4,
            checkpoint_sha256=digest_lines([name, split.name, str(seed)]),
            subset=subset,
            subset_images=split.images(subset),
            origin=origin,
        )
        write_predictions(run.predictions(subset), scores.head(model.limit or len(scores)), info)
    return run


def _write_metrics(run: RunFolder, seed: int) -> None:
    metrics = MetricsFile(run.metrics, 0)
    for epoch in range(1, EPOCHS + 1):
        line = {"kind": "epoch", "epoch": epoch, "lr": 0.01 / 2 ** (epoch // 4), "train_images": 800}
        losses = {"train_loss": 0.4 / epoch**0.3, "val_loss": 0.38 / epoch**0.2 + 0.01 * max(0, epoch - 4)}
        metrics.write(line | losses | {"val_auc": 0.8 - 0.2 / epoch + 0.001 * seed, "val_auc_labels": 14})
    metrics.close()


def _import(study: Study, records: pl.DataFrame, truth: Any) -> None:
    """Import the scores of a model from elsewhere, of which nobody says what it was trained on."""
    chosen = records.filter(pl.col("official") == "test")
    scores = _scores(Drawn("", 0.6), records, chosen, 0, len(MODELS)).drop("patient_id", NO_FINDING)
    scores.write_csv(study.folder / "elsewhere.csv")
    request = ImportRequest(study.folder / "elsewhere.csv", "elsewhere", "official", raw=study.raw, runs=study.runs)
    made = import_predictions(request)
    evaluate_run(made.run.path, made.truth, options={"replicates": REPLICATES})


@contextmanager
def known(folder: Path) -> Iterator[None]:
    """Make the toolkit take the cohort for ChestX-ray14 as long as this lasts. folder: for the manifests."""
    if not folder.exists():
        _write_manifests(folder)
    cached = (
        known_splits.known_splits,
        known_splits.known_lists,
        known_splits.our_split,
        reference.reference_origin,
        archives.manifest,
        roster.read,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifests, "folder", lambda: folder)
        try:
            _forget(cached)
            yield
        finally:
            patch.undo()
            _forget(cached)


def _forget(cached: Any) -> None:
    for function in cached:
        function.cache_clear()


def _write_manifests(folder: Path) -> None:
    shutil.copytree(manifests.folder(), folder)
    records = cohort()
    path = folder / "splits.toml"
    written = tomllib.loads(path.read_text())
    for entry in written["split"]:
        split = splits.make(records, entry["name"])
        test = split.frame.filter(pl.col("subset") == "test")
        entry |= {subset: split.images(subset) for subset in ("train", "val", "test")}
        entry |= {"test_patients": test["patient_id"].n_unique(), "digest": split.digest}
        entry["test_digest"] = digest_lines(test["image_id"].sort())
    path.write_text(tomli_w.dumps(written))
    path = folder / "nih_chestxray14.toml"
    facts = tomllib.loads(path.read_text())
    for subset, counts in (("test", facts["labels"]["test"]["v2020"]), ("train_val", facts["labels"]["train_val"])):
        counts |= {label: int(records.filter(pl.col("official") == subset)[label].sum()) for label in counts}
    for subset in ("train_val", "test"):
        facts["split"][subset]["images"] = records.filter(pl.col("official") == subset).height
    facts["labels"]["digest"]["v2020"] = labels_digest(records)
    facts["metadata"]["digest"]["v2020"] = metadata_digest(records)
    path.write_text(tomli_w.dumps(facts))
    patients = (
        records.group_by(pl.col("patient_id").cast(pl.Int32))
        .agg(pl.len(), pl.col("official").first())
        .sort("patient_id")
    )
    words = (f"{images}{'t' * (official == 'test')}" for _, images, official in patients.iter_rows())
    (folder / roster.FILE).write_text(" ".join(words) + "\n")


def origin_of(study: Study) -> Origin:
    """Return the origin of the study's runs on its official split, without pixels. Inside `known`."""
    return reference.reference_origin("official")
