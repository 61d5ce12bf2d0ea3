"""The loaders as a library: the images of a prepared folder, batch by batch, for a training loop of one's own.

    import cxrkit
    feed = cxrkit.open("data/shards", subset="train", size=224, batch_size=32)
    for epoch in range(5):
        for batch in feed:
            step(batch["image"], batch["label"])

Order and crops are those of `cxrkit train`: pure functions of (seed, epoch, image), whatever the loader, the number of
threads and the number of processes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
import polars as pl

from cxrkit.base.contracts import SUBSETS, Subset
from cxrkit.base.errors import UserError
from cxrkit.base.extras import not_installed
from cxrkit.base.ranks import Ranks
from cxrkit.base.registry import unknown
from cxrkit.loaders import AUTO
from cxrkit.loaders.geometry import Augmentation
from cxrkit.loaders.inputs import Inputs
from cxrkit.loaders.plan import Plan, default_resize
from cxrkit.models.grammar import SMALLEST_INPUT

if TYPE_CHECKING:
    import torch

    from cxrkit.base.contracts import Loader

__all__ = ["Augmentation", "Feed", "FeedBatch", "open"]


class FeedBatch(TypedDict):
    """One batch: tensors on the feed's device, and the names of the images."""

    image: torch.Tensor
    """(B, 1, size, size) uint8, gray levels 0 to 255."""

    label: torch.Tensor
    """(B, L) float32, in the order of `Feed.labels`: 1 has it, 0 has not, NaN not known."""

    metadata: torch.Tensor
    """(B, 3) float32: age scaled to [0, 1] by the training images' range, sex (M = 1), view (AP = 1); 0.5 not known."""

    ids: list[str]
    """B image ids, such as 00000001_000.png."""


@dataclass
class Feed:
    """The batches of one subset, epoch after epoch; `cxrkit.open` makes it.

    `len` is the number of batches of an epoch on this process. Each `iter` is the next epoch, from 0 on, or the one
    that `set_epoch` named; `epoch` gives any, from any step on. To be closed, or used in a `with`.
    """

    inputs: Inputs
    """The prepared folder, cut by the split."""

    plan: Plan
    """Which images a batch holds, and where each of their pixels comes from."""

    loader: Loader
    """What executes the plan."""

    subset: Subset
    """train, val or test."""

    device: str
    """Where its batches lie."""

    reuse_memory: bool
    """Whether a batch is valid only until the next one is asked for."""

    _next: int = field(default=0, init=False)
    _ids: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._ids = self.inputs.frame["image_id"].to_numpy().astype(object)

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the columns of `label`."""
        return self.inputs.labels.labels

    @property
    def images(self) -> int:
        """Number of images of the subset that are prepared, over all processes."""
        return len(self.inputs.rows[self.subset])

    @property
    def batch_size(self) -> int:
        """Images of a full batch on this process."""
        return self.plan.batch_size

    @property
    def on_gpu(self) -> bool:
        """Whether its batches lie on a GPU."""
        return self.device.startswith("cuda")

    @property
    def records(self) -> pl.DataFrame:
        """What is known of each image (contracts.record_schema), one row each, in the order of the image ids."""
        return self.inputs.frame[np.sort(self.inputs.rows[self.subset])]

    def set_epoch(self, epoch: int) -> None:
        """Let the next `iter` be this epoch. Frameworks call it; without it each `iter` goes on by one."""
        self._next = epoch

    def __len__(self) -> int:
        return self.loader.steps

    def __iter__(self) -> Iterator[FeedBatch]:
        epoch, self._next = self._next, self._next + 1
        return self.epoch(epoch)

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[FeedBatch]:
        """Yield the batches of `epoch` from `start_step` on: the same ones whenever they are asked for."""
        batches: Any = self.loader.epoch(epoch, start_step)
        try:
            for batch, rows in zip(batches, self.plan.rows_of(epoch, start_step), strict=True):
                image = batch.image if self.reuse_memory else batch.image.clone()
                yield {"image": image, "label": batch.target, "metadata": batch.meta, "ids": self._ids[rows].tolist()}
        finally:
            if hasattr(batches, "close"):
                batches.close()

    def close(self) -> None:
        """Stop the threads and close the folder. Safe to call twice."""
        self.loader.close()
        self.inputs.close()

    def __enter__(self) -> Feed:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open(
    data: str | os.PathLike[str],
    *,
    split: str = "official",
    subset: Subset = "train",
    size: int = 224,
    batch_size: int = 32,
    train: bool | None = None,
    augmentation: Augmentation | None = None,
    seed: int = 0,
    limit: int | None = None,
    resize: int | None = None,
    drop_last: bool | None = None,
    loader: str = AUTO,
    device: str = "auto",
    threads: int | None = None,
    loader_options: Mapping[str, Any] | None = None,
    rank: int | None = None,
    world_size: int | None = None,
    reuse_memory: bool = False,
) -> Feed:
    """Open a prepared folder (`cxrkit prepare`) for a loop of one's own; see Feed and FeedBatch.

    split, subset: what `cxrkit train --fold` takes, and which part of it. size: pixels along each side of an image.
    batch_size: of this process. train: shuffle and augment; default, for the subset train. augmentation: default, the
    paper's. limit: at most so many images, evenly spread. resize: pixels that an image is scaled to before the centre
    crop of an image that is not augmented; default, the paper's. drop_last: leave out the last, short batch; default,
    with `train`. loader, device, threads, loader_options: as `cxrkit train` has them; auto is the GPU where there is
    one. rank, world_size: this process among those that share each epoch; default, what torch.distributed or torchrun
    says. reuse_memory: spare the copy of each batch, which then is valid only until the next one is asked for.

    Raises UserError (a ValueError) for a folder, a split or a value that cannot be, and where PyTorch is missing.
    """
    try:
        import torch  # noqa: F401
    except ModuleNotFoundError as error:
        raise not_installed(error) or error from None
    from cxrkit.models import compute

    if subset not in SUBSETS:
        raise unknown("subset", subset, SUBSETS, own="")
    _at_least("size", size, SMALLEST_INPUT)
    _at_least("batch_size", batch_size, 1)
    ranks = _ranks(rank, world_size)
    where = compute.choose_device(_device(device, ranks))
    train = subset == "train" if train is None else train
    inputs = Inputs.of(Path(data), split, limit)
    try:
        inputs.require(subset)
        rows = inputs.rows[subset]
        plan = Plan(
            rows=rows if train else ranks.own_batches(rows, batch_size),
            train=train,
            seed=seed,
            batch_size=batch_size,
            input_size=size,
            resize=resize or default_resize(size),
            levels=inputs.store.levels,
            image_size=inputs.store.image_size,
            drop_last=_drops_last(drop_last, train, ranks),
            rank=ranks.rank if train else 0,
            world_size=ranks.world_size if train else 1,
            augmentation=augmentation or Augmentation(),
            numbers=inputs.numbers[rows] if train else None,
        )
        executes = inputs.loader(plan, loader, where, threads, options=loader_options)
        return Feed(inputs, plan, executes, subset, where, reuse_memory)
    except BaseException:
        inputs.close()
        raise


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise UserError(f"{name} is {value}", remedy=f"give a whole number of at least {least}")


def _drops_last(said: bool | None, train: bool, ranks: Ranks) -> bool:
    if said and not train:
        raise UserError(
            "drop_last without train: an evaluation leaves no image out", remedy="leave out drop_last, or give train"
        )
    if said is False and train and ranks.several:
        raise UserError(
            f"drop_last is false, and {ranks.world_size} processes that train take equal shares",
            remedy="leave it out, or train with one process",
        )
    return train if said is None else said


def _ranks(rank: int | None, world_size: int | None) -> Ranks:
    """Return which of several processes this is: what was said, or what torch.distributed or torchrun says."""
    import torch.distributed as dist

    found = Ranks.of(os.environ)
    if rank is None and world_size is None:
        if dist.is_available() and dist.is_initialized():
            local = int(os.environ.get("LOCAL_RANK", "0"))
            return Ranks(dist.get_rank(), dist.get_world_size(), local, max(local + 1, found.local_world_size))
        return found
    rank, world_size = rank or 0, 1 if world_size is None else world_size
    if not 0 <= rank < world_size:
        raise UserError(
            f"rank {rank} of world_size {world_size}", remedy="give both, with a rank from 0 to world_size - 1"
        )
    return Ranks(rank, world_size, found.local_rank, found.local_world_size)


def _device(name: str, ranks: Ranks) -> str:
    """Return the device of this process: of several on a machine with GPUs, the GPU of its number."""
    import torch

    if ranks.several and name in ("auto", "cuda") and torch.cuda.is_available():
        return f"cuda:{ranks.local_rank % torch.cuda.device_count()}"
    return name
