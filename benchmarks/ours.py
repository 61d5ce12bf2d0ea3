"""cxrkit as a contender: the same functions that `cxrkit prepare` and `cxrkit train` call."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.stopwatch import Pass
from cxrkit.base import registry
from cxrkit.loaders import targets
from cxrkit.loaders.plan import Plan, default_resize
from cxrkit.shards.store import ShardStore

if TYPE_CHECKING:
    from cxrkit.base.contracts import Loader


def open_loader(
    data: Path,
    backend: str,
    size: int,
    batch: int,
    threads: int | None,
    device: str = "cpu",
    drop_last: bool = False,
    limit: int | None = None,
    train: bool = True,
    **options: Any,
) -> Loader:
    """Return a loader over the images of a prepared folder: with the paper's augmentation, or for evaluation.

    limit: how many of its images; default, all. options: further keyword arguments of the backend.
    """
    store = ShardStore(data)
    plan = plan_for(store, size, batch, limit=limit, train=train, drop_last=drop_last)
    target, meta = (
        targets.targets(store.index),
        targets.metadata(store.index, targets.age_range(store.index["age_years"])),
    )
    backend_class = registry.load("loader", backend)
    loader: Loader = backend_class(store, plan, target, meta, threads=threads, device=device, **options)
    return loader


def plan_for(
    store: ShardStore, size: int, batch: int, *, limit: int | None = None, train: bool = True, drop_last: bool = False
) -> Plan:
    """Return the plan that `open_loader` executes."""
    rows = np.arange(len(store))[:limit]
    return Plan(
        rows=rows,
        train=train,
        seed=0,
        batch_size=min(batch, len(rows)),
        input_size=size,
        resize=default_resize(size),
        levels=store.levels,
        image_size=store.image_size,
        drop_last=drop_last,
    )


def load(data: str, backend: str, size: int, batch: int, threads: int, limit: int | None = None) -> Pass:
    """Return a pass over one epoch, another one every time."""
    loader = open_loader(Path(data), backend, size, batch, threads, limit=limit)
    epoch = 0

    def one_pass() -> Mapping[str, float]:
        nonlocal epoch
        images = sum(len(step.index) for step in loader.epoch(epoch))
        epoch += 1
        return {"images": images}

    return one_pass


def prepare(
    raw: str,
    out: str,
    workers: int,
    limit: int | None = None,
    levels: Sequence[int] = (1024, 512, 256),
    listed: bool = False,
) -> Pass:
    """Return a pass that prepares a raw folder into an empty one.

    listed: read the records beforehand, uncounted; otherwise their reading and checking is part of every pass.
    """
    from cxrkit.prepare import stage

    config = stage.PrepareConfig(raw=Path(raw), data=Path(out), levels=tuple(levels), workers=workers, limit=limit)
    records = registry.load("dataset", config.dataset)(config.raw) if listed else None

    def one_pass() -> Mapping[str, float]:
        shutil.rmtree(out, ignore_errors=True)
        summary = stage.prepare(config, records) if records else stage.prepare_raw(config)
        stages = {f"{stage} ms": 1000 * seconds / summary.images for stage, seconds in summary.stage_seconds.items()}
        size = sum(summary.level_bytes.values()) / summary.images
        return {"images": summary.images, "decoding share": summary.decoding_share, "bytes": size, **stages}

    return one_pass


def open_store(data: str) -> Pass:
    """Return a pass that opens a prepared folder and its index, ready to read the first image."""

    def one_pass() -> Mapping[str, float]:
        store = ShardStore(Path(data))
        rows = len(store)
        store.close()
        return {"images": rows}

    return one_pass
