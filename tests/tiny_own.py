"""A prepared folder of a few pictures, and runs with a network that nobody trained: for what asks a network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import tiny_cohort
import torch
from rich.console import Console
from torch import Tensor, nn

from cxrkit import models, pipeline
from cxrkit.base import labels as label_sets
from cxrkit.base.contracts import Outputs, Records
from cxrkit.base.files import file_digest
from cxrkit.base.labels import LabelSet
from cxrkit.loaders.inputs import Inputs
from cxrkit.models.weights import SCRATCH
from cxrkit.prepare.stage import PrepareConfig, prepare
from cxrkit.runs import checkpoints
from cxrkit.runs.checkpoints import CheckpointInfo
from cxrkit.runs.config import recipe_digest, to_toml
from cxrkit.runs.folder import RunFolder, Trained, write_split

FILMS = 12  # of four patients: two train, one validates, one tests
SUBSETS = ("train", "train", "val", "test")


class TinyNet(nn.Module):
    """One convolution, a mean, a dense layer, which is told age, sex and view if `told`."""

    def __init__(self, labels: int, told: bool) -> None:
        super().__init__()
        self.spec = models.ModelSpec("tiny", input_size=64, resize=73, meta=told)
        self.initial_weights = SCRATCH
        self.maps, self.head = nn.Conv2d(1, 4, 8, stride=8), nn.Linear(4 + 3 * told, labels)

    def forward(self, image_BCHW: Tensor, meta_B3: Tensor) -> Outputs:
        pooled = self.maps(image_BCHW).relu().mean((2, 3))
        return Outputs(self.head(torch.cat([pooled, meta_B3], dim=1) if self.spec.meta else pooled))


def build_tiny(labels: LabelSet, *, told: bool = False) -> TinyNet:
    return TinyNet(len(labels), told)


def build_moody(labels: LabelSet) -> TinyNet:
    """Return a network whose path depends on what it sees, which no exporter can follow."""

    class Moody(TinyNet):
        def forward(self, image_BCHW: Tensor, meta_B3: Tensor) -> Outputs:
            outputs = super().forward(image_BCHW, meta_B3)
            return outputs if float(image_BCHW.mean()) > -100 else Outputs(-outputs.logits)

    return Moody(len(labels), False)


def prepared(folder: Path) -> Path:
    """Write the films' PNGs into folder/raw, prepare them into folder/shards (as JPEG); return that."""
    tiny_cohort.write_images(folder / "raw" / "images", FILMS)
    records: Records = tiny_cohort.records(folder / "raw", FILMS)
    prepare(PrepareConfig(raw=folder / "raw", data=folder / "shards", levels=(256, 128), workers=1), records)
    ids = records.frame["image_id"]
    subset = [SUBSETS[int(name[:8]) - 1] for name in ids]
    pl.DataFrame({"image_id": ids, "subset": subset}).write_csv(folder / "split.csv")
    return folder / "shards"


def run_of(
    model: str, data: Path, runs: Path, *, predicted: bool = True, sets: Sequence[str] = (), **said: Any
) -> RunFolder:
    """Return a run whose network is as it was drawn, with its dense layer made to say something."""
    values = {"model": model, "data": data, "runs": runs, "fold": str(data.parent / "split.csv"), "batch_size": 4}
    said = values | {"input_size": 64, "precision": "fp32", "device": "cpu"} | said
    config = pipeline.resolve(said, sets=sets)
    run, spec = pipeline.folder_of(config), models.spec_of(config)
    inputs = Inputs.of(data, config.run.fold, None)
    assert config.input.size is not None
    network = models.build(spec.name, labels=inputs.labels, options=config.model.options, pretrained=False, seed=5)
    with torch.no_grad():
        dense = network.fc if hasattr(network, "fc") else network.head
        dense.weight.mul_(8)
    info = CheckpointInfo(
        name=config.name, model=spec.name, options=config.model.options, recipe=config.recipe or config.model.name,
        recipe_digest=recipe_digest(config), changes=(), seed=5, input_size=config.input.size,
        age_range=inputs.age_range, origin=inputs.origin(), epoch=1, progress={}, masked=config.loss.masked,
    )  # fmt: skip
    run.best.parent.mkdir(parents=True)
    checkpoints.save(run.best, network, info)
    run.config.write_text(to_toml(config))
    write_split(run, inputs.split, inputs.used())
    run.finish("train", Trained(1, file_digest(run.best)))
    inputs.close()
    if predicted:
        pipeline.predict(run, Console(quiet=True), threads=1)
    return run


def label_names(run: RunFolder) -> tuple[str, ...]:
    """Return the names of a run's scores."""
    return label_sets.get(checkpoints.read_info(run.best).origin.label_set).labels
