"""How long the whole job will take here: a second of preparing is measured, a training recalled or measured."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl
from rich.console import Console

from cxrkit.base.contracts import IMAGE_SIZE, Records, Subset
from cxrkit.base.cores import available_cores, free_cores
from cxrkit.base.errors import UserError
from cxrkit.base.labels import CHESTXRAY14
from cxrkit.base.progress import duration
from cxrkit.base.words import count
from cxrkit.datasets.nih.archives import manifest
from cxrkit.doctor.findings import Finding

RECIPE = "resnet50-large-meta"  # the best of the paper
_SECONDS = 1.0
_MOST = 64  # images taken from a raw folder to measure with


def preparing(raw: Path | None, records: Records | None) -> Iterator[Finding]:
    """Measure for a second what preparing an image takes: real ones where there are any, else a drawn one."""
    images = int(manifest()["split"]["all"]["images"])
    side, sources, whose = IMAGE_SIZE, list[bytes](), "of yours"
    if records is not None:
        images, side = len(records.frame) - records.missing, records.side
        sources = _some(records)
    if not sources:
        side, sources, whose = IMAGE_SIZE, [_drawn()], "drawn"
    if not images:
        return
    if (measured := _prepare_for_a_second(sources, side)) is None:  # said of the pixels already
        return
    seconds, measured_on = measured
    cores = min(available_cores(), free_cores())
    long = f"about {duration(images * seconds / cores)}"
    if records is not None and records.missing:
        long += f" (all {len(records.frame):,}: {duration(len(records.frame) * seconds / cores)})"
    found = (
        f"preparing {count(images, 'image')}: {long} with {count(cores, 'free core')}, "
        f"{seconds * 1e3:.0f} ms an image, measured on {measured_on:,} {whose}; "
        "reading them from the disk not counted"
    )
    yield Finding("time", "ok", found)


def _some(records: Records) -> list[bytes]:
    files = records.frame.filter(pl.col("path").is_not_null() & pl.col("member").is_null())["path"].sort()
    found = []
    for path in files.gather_every(max(1, len(files) // _MOST)).head(_MOST):
        try:
            found.append(Path(path).read_bytes())
        except OSError:
            continue
    return found


def _drawn() -> bytes:
    from cxrkit.datasets.phantom.cohort import cohort, encode
    from cxrkit.datasets.phantom.film import draw

    return encode(draw(next(cohort(0)).film), rgba=False)


def _prepare_for_a_second(sources: Sequence[bytes], side: int) -> tuple[float, int] | None:
    """Return the processor seconds of an image (decode, scale, encode) and on how many images that was measured.

    None where one of them is damaged.
    """
    from cxrkit.prepare.config import PrepareConfig, default_levels
    from cxrkit.prepare.worker import pyramid, warm_up
    from cxrkit.shards import codecs, tiles
    from cxrkit.sources.pixels import DamagedImage, read_image

    warm_up()

    def make(data: bytes) -> None:
        image_HW = read_image(data, side).image
        for level_HW in pyramid(image_HW, default_levels(side)):
            codecs.encode(PrepareConfig.codec, level_HW, PrepareConfig.quality, tiles.RESTART)

    try:
        make(sources[0])
        began, clock, made = time.thread_time(), time.monotonic(), 0
        while made < 2 or time.monotonic() - clock < _SECONDS:
            make(sources[made % len(sources)])
            made += 1
    except DamagedImage:
        return None
    return (time.thread_time() - began) / made, min(made, len(sources))


def training(runs: Path, *, measure: bool = False, console: Console | None = None) -> Iterator[Finding]:
    """Say what a training of RECIPE on the official split takes: as measured before, or now where that is asked for."""
    from cxrkit import recipes
    from cxrkit.reproduce import calibration, process
    from cxrkit.reproduce.costs import Costs, Kind
    from cxrkit.reproduce.planning import Planned
    from cxrkit.runs.folder import RunFolder

    try:
        config = recipes.load(RECIPE)
        images = _official_images()
        item = Planned(RECIPE, config, RunFolder(runs / RECIPE), images=images, labels=CHESTXRAY14)
        threads, file = process.computing_threads(1), runs / ".reproduce" / "calibration.json"
        costs = Costs()
        calibration.recall(costs, [item], file, threads)
        if measure and costs.unknown([item]):
            calibration.calibrate(costs, [item], file, threads, console or Console(quiet=True))
    except (UserError, ImportError, RuntimeError):  # said of torch already
        return
    epoch, epochs = costs.epoch_seconds(item), config.schedule.epochs
    what = f"training {RECIPE} on the official split, {epochs} epochs"
    if epoch is None:
        yield Finding("time", "ok", f"{what}: not measured here yet; `cxrkit doctor --time` takes some steps to know")
        return
    known = costs.known[Kind.of(item)]
    pace = f"{1 / known.train_seconds:,.1f} images/s, {known.source}"
    found = f"{what}: about {duration(epoch * epochs)} ({pace})"
    if epoch * epochs < 14 * 86_400:
        yield Finding("time", "ok", found)
    else:
        remedy = "train on a GPU; on a CPU mlp-meta takes seconds, resnet14-small-meta the least of those with images"
        yield Finding("time", "note", found, remedy)


def _official_images() -> dict[Subset, int]:
    """Return the images of each subset: an eighth of train_val, by patient, validates."""
    counts = manifest()["split"]
    train_val = int(counts["train_val"]["images"])
    return {"train": train_val * 7 // 8, "val": train_val // 8, "test": int(counts["test"]["images"])}
