"""Small cohorts in other hospitals' layouts, and run folders whose network was never trained but is there."""

from __future__ import annotations

import functools
from pathlib import Path

import polars as pl
import pytest
import torch
from tiny_runs import make_info, make_scores
from tiny_tables import small_cohort, write_raw

from cxrkit import models
from cxrkit.base.files import file_digest
from cxrkit.base.origin import Origin, labels_digest
from cxrkit.datasets import splits
from cxrkit.datasets.phantom import layouts
from cxrkit.datasets.phantom.film import draw
from cxrkit.prepare.records import read_records
from cxrkit.prepare.stage import PrepareConfig, prepare_tables
from cxrkit.runs import checkpoints
from cxrkit.runs.checkpoints import CheckpointInfo
from cxrkit.runs.config import TrainConfig, to_toml
from cxrkit.runs.folder import RunFolder
from cxrkit.runs.predictions import write_predictions

NETWORK = "examples.dropout_net:build"  # it looks at 32 x 32 pixels, and at age, sex and view


_draw = functools.cache(draw)  # the layouts show the same films


def write_layout(folder: Path, name: str, films: int) -> Path:
    """Draw a cohort of seed 3 into folder/NAME, in that hospital's layout."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layouts, "draw", _draw)
        layouts.generate(folder / name, name, films, seed=3, workers=1)
    return folder / name


def write_own_data(folder: Path) -> Path:
    """Return a prepared folder of tables: the data set that `make_network_run` pretends to be trained on."""
    raw = write_raw(folder / "own-raw", small_cohort(), synthetic=True)
    config = PrepareConfig(raw=raw, data=folder / "own", dataset="synthetic", tables_only=True)
    prepare_tables(config, read_records("synthetic", raw, allow_missing=True))
    return config.data


def make_network_run(folder: Path, data: Path, model: str = NETWORK, **changes: object) -> RunFolder:
    """Return a run with a config, a checkpoint of random weights and test predictions; changes: of the Origin."""
    records = small_cohort()
    split = splits.make(records, "official")
    values = {
        "dataset": "synthetic", "label_set": "chestxray14", "label_release": "synthetic",
        "labels_digest": labels_digest(records), "pixels_digest": "", "preparation_digest": "", "image_side": 0,
        "split": "official", "split_digest": split.digest, "train_images": split.images("train"),
        "train_subset_images": split.images("train"),
    }  # fmt: skip
    origin = Origin(**(values | changes))  # type: ignore[arg-type]
    run = RunFolder(folder / model.partition(":")[0] / "official")
    run.best.parent.mkdir(parents=True)
    torch.manual_seed(0)
    options = {"input_size": 32} if model == NETWORK else {}
    network = models.build(model, options=options, pretrained=False)
    info = CheckpointInfo(
        name="mine", model=model, options=options, recipe="mine", recipe_digest="ee" * 32, changes=(), seed=0,
        input_size=network.spec.input_size, age_range=(31.0, 90.0), origin=origin, epoch=3, progress={},
    )  # fmt: skip
    checkpoints.save(run.best, network, info)
    config = TrainConfig().with_values({"model.name": model, "model.options": options, "run.data": data})
    run.config.write_text(to_toml(config))
    about = make_info(origin, split, name="mine", model=model, epoch=3, checkpoint_sha256=file_digest(run.best))
    write_predictions(run.predictions("test"), make_scores(records, split), about)
    return run


def ids_of(raw: Path, pattern: str) -> set[str]:
    """Return the stems of the files in and below `raw`."""
    return {path.stem for path in raw.rglob(pattern)}


def rewrite(path: Path, **columns: pl.Expr) -> None:
    """Change columns of a CSV, all of whose cells are text."""
    pl.read_csv(path, infer_schema=False).with_columns(**columns).write_csv(path)
