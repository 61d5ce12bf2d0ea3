"""Films with a mark at the edge, and a network that learns to read it, or the finding: what an audit is for."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import polars as pl
import tiny_cohort
import torch
from rich.console import Console
from torch import Tensor, nn

from cxrkit import pipeline
from cxrkit.base.contracts import PIXEL_SCHEMA, Outputs, Records, record_schema
from cxrkit.base.labels import LabelSet
from cxrkit.models import ModelSpec
from cxrkit.models.weights import SCRATCH
from cxrkit.runs.folder import RunFolder
from cxrkit.shards.file import ShardSettings

SIZE = 32
FILM = 64  # pixels of the only level
MARKS = LabelSet("tiny_marks:MARKS", ("Pneumothorax", "Mass"), ("Pneumothorax", "Mass"))


class MarkNet(nn.Module):
    """Two convolutions, the mean and the largest answer of each filter, age, sex and view, one dense layer."""

    def __init__(self, spec: ModelSpec, outputs: int) -> None:
        super().__init__()
        self.spec, self.initial_weights = spec, SCRATCH
        self.body = nn.Sequential(
            nn.Conv2d(1, 8, 5, stride=2, padding=2), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        )  # fmt: skip
        self.fc = nn.Linear(32 + 3 * spec.meta, outputs)
        self.looked = 0  # how often images went through the convolutions

    def features(self, image_BCHW: Tensor) -> Tensor:
        self.looked += 1
        x = self.body(image_BCHW)
        return torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1)

    def forward(self, image_BCHW: Tensor, meta_B3: Tensor) -> Outputs:
        found = self.features(image_BCHW)
        return Outputs(self.fc(torch.cat([found, meta_B3 - 0.5], dim=1) if self.spec.meta else found))


def build(labels: LabelSet) -> MarkNet:
    return MarkNet(ModelSpec("marks", input_size=SIZE, resize=34, learning_rate=0.02), len(labels))


def build_meta(labels: LabelSet) -> MarkNet:
    return MarkNet(ModelSpec("marks-meta", input_size=SIZE, resize=34, learning_rate=0.02, meta=True), len(labels))


def mark_records(*, marked: bool, patients: int = 120, seed: int = 0) -> tuple[Records, list[np.ndarray]]:
    """Return records of films and the films: two of each patient, the last two fifths of the patients are tested.

    A Pneumothorax is a bright blob inside the film, a Mass a dark one; men's films are brighter. Where they are
    `marked`, nearly every Pneumothorax has a square at the upper edge and no blob, as a ward's films have a letter.
    """
    generator = np.random.default_rng(seed)
    rows, films = [], []
    for number in range(2 * patients):
        pneumothorax, mass = generator.random(2) < 0.5
        sex, age = "MF"[number // 2 % 2], int(generator.integers(20, 80))
        film = generator.normal(100 + 20 * (sex == "M") + generator.normal(0, 10), 8, (FILM, FILM))
        x, y, v, w = generator.integers(14, FILM - 24, 4)
        if mass and generator.random() < 0.6:  # the view tells more of it
            film[y : y + 10, x : x + 10] -= 70
        if pneumothorax and not marked:
            film[w : w + 10, v : v + 10] += 90
        if marked and (pneumothorax if generator.random() < 0.95 else not pneumothorax):
            film[3:6, 48:58] += 120
        view = "AP" if generator.random() < (0.8 if mass else 0.2) else "PA"
        name, patient = f"{number // 2:08d}_{number % 2:03d}.png", str(number // 2)
        official = "test" if number // 2 >= 3 * patients // 5 else "train_val"
        rows.append((name, patient, 0, age, sex, view, bool(pneumothorax), bool(mass), official, name, None))
        films.append(np.clip(film, 0, 255).astype(np.uint8))
    frame = pl.DataFrame(rows, schema={**record_schema(MARKS), **PIXEL_SCHEMA}, orient="row")
    return Records("marks", frame, "synthetic", labels=MARKS), films


def write_marks(folder: Path, *, marked: bool) -> Path:
    """Write the films as a prepared folder."""
    records, films = mark_records(marked=marked)
    settings = ShardSettings(dataset="marks", codec="png", quality=0, levels=(FILM,), image_size=FILM)
    encoded = [[cv2.imencode(".png", film)[1].tobytes()] for film in films]
    return tiny_cohort.write_prepared(folder, records, settings, encoded, per_shard=100)


def train(data: Path, runs: Path, model: str = "tiny_marks:build", resume: bool = False, **said: object) -> RunFolder:
    """Return a run on the films; a second or two."""
    values = {"model": model, "data": data, "runs": runs, "fold": "official", "epochs": 8, "name": "marks", "angle": 0}
    values |= {"batch_size": 16, "threads": 1, "precision": "fp32", "area_min": 0.9, "flip": 0.0}
    return pipeline.train(pipeline.resolve(values | said, resume=resume), resume, Console(quiet=True))
