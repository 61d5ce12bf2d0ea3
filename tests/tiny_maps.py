"""Networks whose maps are known, and a cohort of films with one bright square each: what localisation is tested on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import tiny_cohort
import torch
from rich.console import Console
from torch import Tensor, nn

from cxrkit import pipeline
from cxrkit.base.contracts import BOX_SCHEMA, PIXEL_SCHEMA, Outputs, Records, record_schema
from cxrkit.base.labels import LabelSet
from cxrkit.models import ModelSpec
from cxrkit.models.weights import SCRATCH
from cxrkit.runs.folder import RunFolder
from cxrkit.shards.file import ShardSettings

SIZE = 64
SPOTS = LabelSet("tiny_maps:SPOTS", ("Bright", "Dark"), ("Bright", "Dark"))
SIDE = 160  # of a spot, on the film of 1024 pixels


class SpotNet(nn.Module):
    """Its map of Bright is the image itself in cells of 4 x 4 pixels, that of Dark the negative."""

    def __init__(self, spec: ModelSpec, outputs: int) -> None:
        super().__init__()
        self.spec, self.initial_weights = spec, SCRATCH
        self.cells = nn.Conv2d(1, 1, 4, stride=4)
        self.head = nn.Conv2d(1, outputs, 1)
        with torch.no_grad():
            self.cells.weight.fill_(1 / 16)
            self.cells.bias.zero_()
            self.head.weight.copy_(torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1))
            self.head.bias.zero_()

    def forward(self, image_BCHW: Tensor, meta_B3: Tensor) -> Outputs:
        maps = self.head(self.cells(image_BCHW))
        return Outputs(maps.amax(dim=(2, 3)), maps)


class LearnedNet(nn.Module):
    """Two convolutions, a map for each label, and the largest place of each: it can learn where a spot is."""

    def __init__(self, spec: ModelSpec, outputs: int) -> None:
        super().__init__()
        self.spec, self.initial_weights = spec, SCRATCH
        self.body = nn.Sequential(
            nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Conv2d(8, outputs, 1)

    def forward(self, image_BCHW: Tensor, meta_B3: Tensor) -> Outputs:
        maps = self.head(self.body(image_BCHW))
        return Outputs(torch.logsumexp(4 * maps.flatten(2), dim=2) / 4 - 1, maps)


def _spec() -> ModelSpec:
    return ModelSpec("spots", input_size=SIZE, resize=80, learning_rate=0.02)


def build_spots(labels: LabelSet) -> SpotNet:
    return SpotNet(_spec(), len(labels))


def build_learned(labels: LabelSet) -> LearnedNet:
    return LearnedNet(_spec(), len(labels))


def spot_records(patients: int = 120, seed: int = 0) -> tuple[Records, list[np.ndarray]]:
    """Return records of films with a bright or a dark square at a random place, and the films at 128 pixels.

    Two films a patient. Half of the films have a square, never two, and all have two striped ones that are no finding:
    what catches the eye is not enough. The last third of the patients are the test set.
    """
    generator = np.random.default_rng(seed)
    rows, boxes, films = [], [], []
    stripes = np.where(np.arange(SIDE // 8) % 2, 90.0, -90.0)
    for number in range(2 * patients):
        kind = ["Bright", "Dark", None, None][int(generator.integers(4))]
        film = generator.normal(120, 8, (128, 128))
        (x, y), *others = _places(generator)
        name = f"{number // 2:08d}_{number % 2:03d}.png"
        if kind:
            film[y : y + SIDE // 8, x : x + SIDE // 8] += 90 if kind == "Bright" else -90
            boxes.append((name, kind, x * 8.0, y * 8.0, float(SIDE), float(SIDE)))
        for left, top in others:
            film[top : top + SIDE // 8, left : left + SIDE // 8] += stripes
        official = "test" if number // 2 >= 2 * patients // 3 else "train_val"
        row = (name, str(number // 2), 0, 50, "M", "PA", kind == "Bright", kind == "Dark", official, name, None)
        rows.append(row)
        films.append(np.clip(film, 0, 255).astype(np.uint8))
    frame = pl.DataFrame(rows, schema={**record_schema(SPOTS), **PIXEL_SCHEMA}, orient="row")
    listed = pl.DataFrame(boxes, schema=BOX_SCHEMA, orient="row").sort(*BOX_SCHEMA)
    return Records("spots", frame, "synthetic", listed, labels=SPOTS), films


def _places(generator: np.random.Generator) -> list[tuple[int, int]]:
    """Return left and top of three squares that do not touch, in pixels of the 128-pixel film, inside the crop."""
    side = SIDE // 8
    while True:
        places = [(int(x), int(y)) for x, y in generator.integers(14, 128 - 14 - side, (3, 2))]
        apart = [max(abs(a - c), abs(b - d)) for (a, b) in places for (c, d) in places if (a, b) != (c, d)]
        if len(set(places)) == 3 and min(apart) > side + 4:
            return places


def write_spots(folder: Path, *, boxes: bool = True) -> Path:
    """Write the spots as a prepared folder."""
    records, films = spot_records()
    if not boxes:
        records = replace(records, boxes=None)
    settings = ShardSettings(dataset="spots", codec="png", quality=0, levels=(128,), image_size=1024)
    encoded = [[cv2.imencode(".png", film)[1].tobytes()] for film in films]
    return tiny_cohort.write_prepared(folder, records, settings, encoded, per_shard=80)


def train(data: Path, runs: Path, model: str = "tiny_maps:build_spots", **said: object) -> RunFolder:
    """Return a run on the spots; by default of the network whose maps are known, one step that changes nothing."""
    values = {"model": model, "data": data, "runs": runs, "fold": "official", "epochs": 1, "lr": 1e-9, "name": "spots"}
    config = pipeline.resolve(values | {"batch_size": 20, "threads": 1} | said)
    return pipeline.train(config, False, Console(quiet=True))
