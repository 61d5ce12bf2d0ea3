"""From a prepared folder and a split to the loaders of an experiment."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from cxrkit import loaders, registry
from cxrkit.contracts import IMAGE_SIZE, SUBSETS, Loader, Subset
from cxrkit.errors import UserError
from cxrkit.files import digest_lines
from cxrkit.loaders import plan as plans
from cxrkit.loaders import targets
from cxrkit.shards import ShardStore
from cxrkit.splits import Split, make

if TYPE_CHECKING:
    from cxrkit.config import TrainConfig
    from cxrkit.models import ModelSpec


@dataclass
class Inputs:
    """The data side of one experiment.

    rows: per subset, the rows of index.parquet that are used: prepared, and at most `limit`. numbers: each row's place
    among all images of the data set, prepared or not, which order and augmentation are drawn from. age_range:
    youngest and oldest training age in years, of all training images of the split, prepared or not.
    """

    store: ShardStore
    split: Split
    rows: dict[Subset, np.ndarray]
    numbers: np.ndarray
    age_range: tuple[float, float]
    _open: list[Loader] = field(default_factory=list)

    @classmethod
    def of(cls, data: Path, fold: str, limit: int | None) -> Inputs:
        """Open the prepared folder `data`, cut by `fold`. Raises UserError for a folder or fold that cannot be."""
        store = ShardStore(data)
        records = store.records()
        split = make(records, fold)
        training = split.frame.filter(pl.col("subset") == "train").select("image_id")
        ages = records.join(training, on="image_id", how="semi")["age_years"]
        subset_of_row = store.index.select("image_id").join(
            split.frame, on="image_id", how="left", maintain_order="left"
        )
        rows = {
            subset: _spread(np.flatnonzero((subset_of_row["subset"] == subset).fill_null(False).to_numpy()), limit)
            for subset in SUBSETS
        }
        places = records.select("image_id").with_row_index("number")
        numbers = store.index.select("image_id").join(places, on="image_id", how="left", maintain_order="left")[
            "number"
        ]
        return cls(store, split, rows, numbers.to_numpy().astype(np.int64), targets.age_range(ages))

    def require(self, subset: Subset) -> None:
        """Raise a UserError when no image of `subset` is prepared."""
        if not len(self.rows[subset]):
            raise UserError(
                f"{self.store.folder}: none of the {self.split.images(subset):,} {subset} images of split "
                f"{self.split.name} is prepared",
                remedy="prepare more of the data set, or choose another --fold",
            )

    def used_digest(self, subset: Subset) -> str:
        """Return the SHA-256 over the image ids that are used of `subset`."""
        return digest_lines(self.store.index["image_id"].gather(self.rows[subset]).sort())

    def train_plan(self, config: TrainConfig, spec: ModelSpec) -> plans.Plan:
        """Return the plan of the training images. The last batch of an epoch is left out when it is short."""
        assert config.batch_size is not None
        rows = self.rows["train"]
        return plans.Plan(
            rows=rows,
            train=True,
            seed=config.seed,
            # Fewer images than a batch are one short batch: a tiny trial should run, not fail.
            batch_size=min(config.batch_size, len(rows)),
            input_size=spec.input_size,
            resize=spec.resize,
            levels=self.store.levels,
            image_size=getattr(self.store, "image_size", IMAGE_SIZE),
            drop_last=True,
            numbers=self.numbers[rows],
            augmentation=plans.Augmentation(
                area=(config.area_min, 1.0),
                aspect=(1 / config.aspect_max, config.aspect_max),
                angle_degrees=config.angle,
                flip=config.flip,
            ),
        )

    def eval_plan(self, subset: Subset, spec: ModelSpec, batch_size: int) -> plans.Plan:
        """Return the plan of `subset`: every image once, in order, the centre crop."""
        return plans.Plan(
            rows=self.rows[subset],
            train=False,
            seed=0,
            batch_size=batch_size,
            input_size=spec.input_size,
            resize=spec.resize,
            levels=self.store.levels,
            image_size=getattr(self.store, "image_size", IMAGE_SIZE),
        )

    def loader(self, plan: plans.Plan, name: str, device: str, threads: int | None) -> Loader:
        """Return a loader that executes `plan`; `close` ends it with all others."""
        backend = registry.load("loader", loaders.choose(name, device))
        index = self.store.index
        loader: Loader = backend(
            self.store,
            plan,
            targets.targets(index),
            targets.metadata(index, self.age_range),
            threads=threads,
            device=device,
        )
        self._open.append(loader)
        return loader

    def close(self) -> None:
        """Close the loaders and the store."""
        for loader in self._open:
            loader.close()
        self._open.clear()
        self.store.close()


def _spread(rows: np.ndarray, limit: int | None) -> np.ndarray:
    """Return at most `limit` rows, evenly spread: the first ones would be few patients with many images each."""
    if limit is None or limit >= len(rows):
        return rows
    return rows[np.arange(limit) * len(rows) // limit]
