"""From a prepared folder and a split to the loaders of an experiment."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.console import Console

from cxrkit import loaders
from cxrkit.base import registry, typed
from cxrkit.base.contracts import SUBSETS, Loader, Subset
from cxrkit.base.errors import UserError
from cxrkit.base.files import digest_lines
from cxrkit.base.labels import LabelSet
from cxrkit.base.origin import Basis, Origin, boxes_digest, differences, labels_digest, metadata_digest
from cxrkit.base.ranks import ALONE, Ranks
from cxrkit.datasets import splits
from cxrkit.datasets.splits import Split
from cxrkit.loaders import plan as plans
from cxrkit.loaders import targets
from cxrkit.loaders import views as test_time
from cxrkit.shards.store import ShardStore

if TYPE_CHECKING:
    from cxrkit.models import InitialWeights, ModelSpec
    from cxrkit.runs.config import TrainConfig
    from cxrkit.runs.sections import RunSettings

GB = 10**9


@dataclass
class Inputs:
    """The data side of one experiment."""

    store: ShardStore
    """The prepared folder."""

    split: Split
    """Which image trains, validates and tests."""

    labels: LabelSet
    """What is learned."""

    pixels: bool
    """Whether images are looked at."""

    frame: pl.DataFrame
    """The images that can be used, one row each (contracts.record_schema): the prepared ones, or all that the tables
    list where no pixel is looked at."""

    rows: dict[Subset, np.ndarray]
    """Per subset, the rows of `frame` that are used: at most `limit`."""

    numbers: np.ndarray
    """Each row's place among all images of the data set, prepared or not: order and augmentation are drawn from it."""

    age_range: tuple[float, float]
    """Youngest and oldest training age in years, of all training images of the split, prepared or not."""

    features: NDArray[np.float32] | None = None
    """(N, F) of every row of `frame`, which a probe is given in the place of images: see trainers.features."""

    extractor: InitialWeights | None = None
    """Of a probe: the checkpoint that made the features."""

    _open: list[Loader] = field(default_factory=list)

    @classmethod
    def of(cls, data: Path, split: str | Split, limit: int | None, *, pixels: bool = True) -> Inputs:
        """Open the prepared folder `data`, cut by `split`: what `--fold` names, or the split of a run that exists.

        pixels: whether images are looked at. Raises UserError for a folder or fold that cannot be, and for a split of
        other images or patients.
        """
        store = ShardStore(data)
        records = store.records()
        split = splits.make(records, split) if isinstance(split, str) else _of_these(store, records, split)
        training = split.frame.filter(pl.col("subset") == "train").select("image_id")
        ages = records.join(training, on="image_id", how="semi")["age_years"]
        frame = store.index if pixels else records
        subset_of_row = frame.select("image_id").join(split.frame, on="image_id", how="left", maintain_order="left")
        rows = {
            subset: _spread(np.flatnonzero((subset_of_row["subset"] == subset).fill_null(False).to_numpy()), limit)
            for subset in SUBSETS
        }
        places = records.select("image_id").with_row_index("number")
        numbers = frame.select("image_id").join(places, on="image_id", how="left", maintain_order="left")["number"]
        return cls(
            store,
            split,
            store.labels,
            pixels,
            frame,
            rows,
            numbers.to_numpy().astype(np.int64),
            targets.age_range(ages),
        )

    def require(self, subset: Subset) -> None:
        """Raise a UserError when no image of `subset` is at hand."""
        if not len(self.rows[subset]):
            if self.pixels and not self.store.levels:
                raise UserError(
                    f"{self.store.folder}: holds tables alone (prepare --tables-only), and this network looks at "
                    "images",
                    remedy="run `cxrkit prepare` without --tables-only, or train --model mlp-meta",
                )
            raise UserError(
                f"{self.store.folder}: none of the {self.split.images(subset):,} {subset} images of split "
                f"{self.split.name} is prepared",
                remedy="prepare more of the data set, or choose another --fold",
            )

    def prevalence(self) -> list[float]:
        """Return for each label the share of the split's training images, prepared or not, that have it."""
        training = self.split.frame.filter(pl.col("subset") == "train").select("image_id")
        return targets.prevalence(
            targets.targets(self.store.records().join(training, on="image_id", how="semi"), self.labels)
        )

    def origin(self) -> Origin:
        """Return what a network that is trained on these inputs from scratch is made of."""
        about = self.store.about
        return Origin(
            dataset=about["dataset"],
            label_set=self.labels.name,
            label_release=about["label_release"],
            labels_digest=self._labels_digest,
            pixels_digest=self.store.pixels_digest if self.pixels else "",
            preparation_digest=self.store.settings_digest if self.pixels else "",
            image_side=self.store.image_size if self.pixels else 0,
            split=self.split.name,
            split_digest=self.split.digest,
            train_images=len(self.rows["train"]),
            train_subset_images=self.split.images("train"),
            metadata_digest=self._metadata_digest,
            basis=Basis(pixels="checked" if self.pixels else "unused"),
        )

    @cached_property
    def _metadata_digest(self) -> str:
        return metadata_digest(self.store.records())

    @cached_property
    def boxes_digest(self) -> str:
        """Digest of the data set's box list, for the origin of a training that learns from it."""
        return boxes_digest(self.store.boxes(), self.labels)

    @property
    def _labels_digest(self) -> str:
        return labels_digest(self.store.records(), self.labels) if self.labels.metadata else self.store.labels_digest

    def used(self) -> pl.DataFrame:
        """Return image_id, `used` and `source_crc32` of every image in `frame`: what a run writes down with its split.

        The checksum is null where no pixel is looked at.
        """
        used = np.zeros(len(self.frame), dtype=bool)
        for rows in self.rows.values():
            used[rows] = True
        crc32 = self.store.source_crc32 if self.pixels else [None] * len(used)
        return self.frame.select("image_id").with_columns(
            used=pl.Series(used), source_crc32=pl.Series(crc32, dtype=pl.UInt32)
        )

    def other_pixels(self, known: pl.DataFrame) -> list[str]:
        """Return the prepared images whose source files are not those that a run has seen.

        known: a run's split table (runs.read_split): its checksums, null where it had not seen an image.
        """
        both = self.used().join(known.select("image_id", was="source_crc32"), on="image_id", how="inner")
        return both.filter(pl.col("was") != pl.col("source_crc32"))["image_id"].sort().to_list()

    def refuse_other(self, what: str, origin: Origin, seen: pl.DataFrame | None, remedy: str) -> None:
        """Raise a UserError, beginning with `what`, unless data set, labels, split and pixels are those of `origin`.

        So must be the boxes, where it learned from boxes. seen: the run's split table; where the prepared folder has
        grown since, the images that both know decide.
        """
        found = self.origin()
        if origin.boxes_digest:
            found = replace(found, boxes_digest=self.boxes_digest)
        for item in differences(origin, found, {"data set", "labels", "boxes", "metadata", "split", "pixels"}):
            more = ""
            if item.part == "pixels" and seen is not None and _prepared_alike(origin, found):
                other = self.other_pixels(seen)
                if not other:
                    continue
                more = f": {len(other):,} images have other source files, the first {other[0]}"
            raise UserError(f"{what} {item.one}, but {self.store.folder} has {item.other}{more}", remedy=remedy)

    def used_digest(self, subset: Subset) -> str:
        """Return the SHA-256 over the image ids that are used of `subset`."""
        return digest_lines(self.frame["image_id"].gather(self.rows[subset]).sort())

    def train_plan(self, config: TrainConfig, spec: ModelSpec, ranks: Ranks = ALONE) -> plans.Plan:
        """Return the plan of the training images. The last batch of an epoch is left out when it is short.

        ranks: share each batch; raises UserError where they cannot do so equally.
        """
        assert config.optimizer.batch_size is not None
        rows, wanted = self.rows["train"], config.augmentation
        return plans.Plan(
            rows=rows,
            train=True,
            seed=config.run.seed,
            # Fewer images than a batch are one short batch: a tiny trial should run, not fail.
            batch_size=ranks.share(min(config.optimizer.batch_size, len(rows))),
            input_size=spec.input_size,
            resize=spec.resize,
            levels=self.store.levels if spec.image else (),
            image_size=self.store.image_size,
            drop_last=True,
            numbers=self.numbers[rows],
            rank=ranks.rank,
            world_size=ranks.world_size,
            augmentation=plans.Augmentation(
                area=(wanted.area_min, 1.0),
                aspect=(1 / wanted.aspect_max, wanted.aspect_max),
                angle_degrees=wanted.angle,
                flip=wanted.flip,
            ),
        )

    def eval_plan(
        self, subset: Subset, spec: ModelSpec, batch_size: int, ranks: Ranks = ALONE, views: str = "none"
    ) -> plans.Plan:
        """Return the plan of `subset`: every image once, in order, the centre crop; this rank's batches of it.

        views: how each image is looked at, as `test.views` says; a batch then holds at most `batch_size` views, those
        of one image at least. Raises UserError for views of a network without images, and for levels that are too
        small.
        """
        test_time.check(views, spec)
        seen = test_time.VIEWS[views]
        images = max(1, batch_size // len(seen))
        return plans.Plan(
            rows=ranks.own_batches(self.rows[subset], images),
            train=False,
            seed=0,
            batch_size=images * len(seen),
            input_size=spec.input_size,
            resize=test_time.resize_for(views, spec.input_size, spec.resize),
            levels=self.store.levels if spec.image else (),
            image_size=self.store.image_size,
            views=seen,
        )

    def loader(
        self,
        plan: plans.Plan,
        name: str,
        device: str,
        threads: int | None,
        *,
        options: Mapping[str, Any] | None = None,
        known_only: bool = False,
        console: Console | None = None,
    ) -> Loader:
        """Return a loader that executes `plan`; `close` ends it with all others.

        name: a registered one, or "auto"; where no pixel is looked at, there is but one, and a wrong name is heard all
        the same. options: of the loader's constructor. known_only: leave out those that it does not take. console: for
        a loader that has something to show.

        Raises UserError for an option that the loader does not take, and for a value of another type.
        """
        looks_at_images = self.pixels and self.features is None
        if looks_at_images and name == loaders.PIXELLESS:
            raise UserError(
                f"--loader {name}: delivers no image, and this network looks at images",
                remedy="leave out --loader, or choose opencv or dali",
            )
        if looks_at_images or name not in (loaders.AUTO, loaders.PIXELLESS):
            chosen = loaders.choose(name, device)
            backend = registry.load("loader", chosen)
            options = options or {}
            if known_only:
                takes = inspect.signature(backend).parameters
                options = {option: value for option, value in options.items() if option in takes}
            more = checked_options(chosen, backend, options)
        if not looks_at_images:
            backend, more = registry.load("loader", loaders.PIXELLESS), {}
        if "console" in inspect.signature(backend).parameters:
            more["console"] = console
        loader: Loader = backend(
            self.store,
            plan,
            targets.targets(self.frame, self.labels),
            targets.metadata(self.frame, self.age_range) if self.features is None else self.features,
            threads=threads,
            device=device,
            **more,
        )
        if missing := [part for part in ("epoch", "close") if not callable(getattr(loader, part, None))]:
            raise UserError(
                f"loader {name!r}: expected an object with steps, epoch and close, found {loader!r:.80}, which has no "
                f"{missing[0]}",
                remedy="compare it with examples/plain_loader.py; cxrkit/base/contracts.py says what a loader is",
            )
        self._open.append(loader)
        return loader

    def forget(self, loader: Loader) -> None:
        """Leave it to the caller to close a loader."""
        self._open.remove(loader)

    def close(self) -> None:
        """Close the loaders and the store."""
        for loader in self._open:
            loader.close()
        self._open.clear()
        self.store.close()


def loader_options(run: RunSettings, *, cached: bool) -> dict[str, Any]:
    """Return the options of one of a training's loaders.

    cached: of the one that `--cache gpu` chooses; the others are those of `--loader`, and take `run.loader_options`.

    Raises UserError for `--cache-gb` without `--cache gpu`.
    """
    if run.cache_gb is not None and run.cache != "gpu":
        raise UserError(
            f"--cache-gb {run.cache_gb:g}: nothing is kept on the device with --cache {run.cache}",
            remedy="give --cache gpu with it, or leave it out",
        )
    if not cached:
        return dict(run.loader_options)
    given = {
        "memory_bytes": None if run.cache_gb is None else int(run.cache_gb * GB),
        "compile": run.compile,
    }
    return {option: value for option, value in given.items() if value is not None}


def checked_options(name: str, backend: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return `options` of the loader `name`, whose constructor is `backend`, with the types that this asks for.

    Raises UserError for one that it does not take, with those that it does, and for a value of another type.
    """
    if not options:
        return {}
    parameters = inspect.signature(backend).parameters.values()
    known = [
        item.name
        for item in parameters
        if item.kind is item.KEYWORD_ONLY and item.name not in ("threads", "device", "console")
    ]
    takes_any = any(item.kind is item.VAR_KEYWORD for item in parameters)
    try:
        hints = typing.get_type_hints(backend.__init__ if inspect.isclass(backend) else backend)
    except (NameError, TypeError, AttributeError):  # of a plug-in whose annotations cannot be resolved
        hints = {}
    checked = {}
    for option, value in options.items():
        if option not in known and not takes_any:
            raise registry.unknown_option("loader", name, option, known)
        try:
            checked[option] = typed.build(hints.get(option, Any), value, f"run.loader_options.{option}")
        except typed.FieldError as error:
            raise UserError(f"loader {name!r}: {error}", remedy="correct the value") from None
    return checked


def _prepared_alike(one: Origin, other: Origin) -> bool:
    return (one.image_side, one.preparation_digest) == (other.image_side, other.preparation_digest)


def _of_these(store: ShardStore, records: pl.DataFrame, split: Split) -> Split:
    """Return the split, which must be one of the folder's images and patients."""
    known = records.select("image_id", recorded="patient_id")
    found = split.frame.join(known, on="image_id", how="left", maintain_order="left")
    strange = found.filter(pl.col("recorded").is_null() | (pl.col("recorded") != pl.col("patient_id")))
    if strange.height:
        raise UserError(
            f"{store.folder}: {strange.height:,} images of the run's split {split.name} are not in its data set, or of "
            f"another patient there, the first {strange['image_id'][0]}",
            remedy="give the --data that the run was trained on",
        )
    return split


def _spread(rows: np.ndarray, limit: int | None) -> np.ndarray:
    """Return at most `limit` rows, evenly spread: the first ones would be few patients with many images each."""
    if limit is None or limit >= len(rows):
        return rows
    return rows[np.arange(limit) * len(rows) // limit]
