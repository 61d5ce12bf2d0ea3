"""Execute a plan from pixels that stay in the device's memory (`--cache gpu`).

The levels that the crops need are decoded and uploaded once, into one flat uint8 tensor; a bundle of batches then is a
table of offsets and matrices, and one kernel that blurs and samples in 16 reads per output pixel. Nothing is sampled
from another level than the plan says: what does not fit is read for each bundle from the prepared folder, by threads,
and uploaded beside the rest.

How often the default augmentation (area 0.08 to 1) samples each level, and what it takes to keep them (measured over
112,120 crops; GB for 112,120 images):

    level        at 224    at 448    one image    all images
    1024          7.5 %    60.1 %     1.05 MB      117.6 GB
    512          52.7 %    39.9 %     0.26 MB       29.4 GB
    256          39.9 %     0.0 %     0.07 MB        7.3 GB

Evaluation reads one level alone, 256 for an input of 224 and 512 for 448. So at 224 the two small levels, 37 GB,
leave one crop in 13 to be read; at 448, 147 GB hold everything, or 103 GB the 70 % that a fold trains on.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from cxrkit.base.compiling import compiled
from cxrkit.base.contracts import Batch
from cxrkit.base.errors import UserError
from cxrkit.base.notes import through
from cxrkit.base.progress import Bar, progress_bar
from cxrkit.loaders.gather import gather, taps
from cxrkit.loaders.geometry import choose_levels
from cxrkit.loaders.plan import MADE_TOGETHER, Plan, PlannedBatch
from cxrkit.loaders.running import Batches, Running, at_least_one, threads_or_default
from cxrkit.loaders.tables import Tables, cut, used_on
from cxrkit.shards.store import ShardStore

SHARE_OF_FREE = 0.7  # of the device's free memory; the rest is for the model
SHARE_OF_ROOM = 1 / 8  # of what may be used: at most so much is room for what a bundle of several batches misses
CHUNK_BYTES = 1 << 24  # decoded and uploaded at a time by each thread
SAMPLED_CROPS = 1 << 12  # drawn to estimate how often each level is sampled


class ResidentLoader:
    """A contracts.Loader whose pixels lie on `device`, and so do its batches.

    targets: (N, L) and metadata: (N, 3) float32 for all rows of the index. threads: that decode; default, all cores
    that this process may use. memory_bytes: what the pixels may take; default, 70 % of what is free. made_together:
    images that are made at a time, in whole batches; fewer where memory is short, one batch at least. prefetch: such
    bundles for which missing pixels are read ahead. compile: the kernel, with torch.compile; default, on CUDA.
    console: shows the progress of the upload, and what was kept.

    The upload happens at construction, and again in the first epoch after `close`. Raises UserError when the memory
    does not even hold one batch, or a record is damaged.
    """

    def __init__(
        self,
        store: ShardStore,
        plan: Plan,
        targets: NDArray[np.float32],
        metadata: NDArray[np.float32],
        *,
        threads: int | None = None,
        device: str | torch.device = "cuda",
        memory_bytes: int | None = None,
        made_together: int = MADE_TOGETHER,
        prefetch: int = 2,
        compile: bool | None = None,
        console: Console | None = None,
    ) -> None:
        assert plan.levels == store.levels
        at_least_one("prefetch", prefetch)
        at_least_one("made_together", made_together)
        self._store = store
        self._plan = plan
        self._device = torch.device(device)
        self._on_gpu = self._device.type == "cuda"
        self._tables = Tables(targets, metadata, self._device)
        self._threads = threads_or_default(threads)
        self._memory_bytes = memory_bytes
        self._made_together = made_together
        self._prefetch = prefetch
        self._gather: Any = gather
        self._is_compiled = self._on_gpu if compile is None else compile
        if self._is_compiled:
            self._gather = compiled(gather, str(device), through(console))
        self._console = console
        # Batches are made beside the model's work, on a stream of their own (None: no streams on a CPU).
        self._stream: Any = torch.cuda.Stream(self._device) if self._on_gpu else None  # type: ignore[no-untyped-call]
        self._running = Running()
        self._kept: _Kept | None = None
        self.steps = plan.steps
        self._load()

    @property
    def summary(self) -> str:
        """What is kept, in one line; "" when closed."""
        return self._kept.summary if self._kept else ""

    def epoch(self, epoch: int, start_step: int = 0) -> Batches:
        """Yield the batches of `epoch` from `start_step` on, in the plan's order.

        Raises UserError for a damaged record.
        """
        return self._running.started(self._epoch(epoch, start_step))

    def close(self) -> None:
        """End the epochs that are under way, and free the pixels. Safe to call twice."""
        self._running.end()
        if self._on_gpu and self._kept is not None:
            self._stream.synchronize()  # the last batch may still be sampled from them
        self._kept = None

    def _load(self) -> _Kept:
        if self._kept is None:
            rows = self._plan.rows if self._plan.train else self._plan.rows[self._plan.rank :: self._plan.world_size]
            budget = self._memory_bytes
            if budget is None:
                budget = int(SHARE_OF_FREE * free_bytes(self._device))
            # Not an inference tensor, wherever the first epoch is asked for.
            with torch.inference_mode(False):
                kept = _Kept(self._store, self._plan, rows, budget, self._device, self._made_together)
                kept.fill(self._threads, self._console)
            self._kept = kept  # not before it is full: a failed upload must not be sampled later
            if self._console is not None:
                self._console.print(kept.summary, highlight=False)
        return self._kept

    def _epoch(self, epoch: int, start_step: int) -> Batches:
        kept = self._load()
        upcoming = self._plan.bundles(epoch, start_step, kept.images)
        queue: deque[_Pending] = deque()
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="cxrkit-resident")
        try:
            while True:
                while len(queue) <= self._prefetch and (planned := next(upcoming, None)) is not None:
                    queue.append(self._start(pool, kept, planned))
                if not queue:
                    return
                yield from cut(self._deliver(kept, queue.popleft()), self._plan.batch_size)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _start(self, pool: ThreadPoolExecutor, kept: _Kept, planned: PlannedBatch) -> _Pending:
        """Locate the pixels of `planned`, and let the threads read those that are not kept."""
        views = len(self._plan.views)
        base, missing = kept.locate(planned, views)
        # What the kernel reads of each image is one row of a table of numbers, so that a batch is one upload: where its
        # window lies among the pixels, and the map and the blur within it. float64 holds any offset exactly.
        left, top, right, bottom = planned.window.T
        side = np.asarray(self._plan.levels)[planned.level]
        # Of a kept image the window begins within the whole level; of a missing one, the window alone was read.
        pitch = np.where(missing, right - left, side)
        place = np.stack([np.where(missing, base, base + top * side + left), pitch, right - left, bottom - top], axis=1)
        table = np.concatenate([place, planned.window_matrix.reshape(-1, 6), taps(planned.sigma)], axis=1)
        if self._is_compiled:
            # Always a full bundle, so that it is compiled for one shape; what is too much is cut off afterwards.
            table = np.concatenate([table, np.repeat(table[:1], kept.images - len(table), axis=0)])
        pending = _Pending(planned, torch.from_numpy(table), torch.empty(0), [])
        if missing.any():
            size = int(((right - left) * (bottom - top))[::views][missing[::views]].sum())
            pending.staging = torch.empty(size, dtype=torch.uint8, pin_memory=self._on_gpu)
            out = pending.staging.numpy()
            pending.reading = [
                pool.submit(self._read, planned, i, out[base[i] - kept.scratch :])
                for i in np.flatnonzero(missing).tolist()
                if i % views == 0
            ]
        return pending

    def _read(self, planned: PlannedBatch, i: int, out: NDArray[np.uint8]) -> None:
        window_HW = self._store.window(int(planned.rows[i]), int(planned.level[i]), planned.window[i].tolist())
        out[: window_HW.size].reshape(window_HW.shape)[:] = window_HW

    def _deliver(self, kept: _Kept, pending: _Pending) -> Batch:
        for future in pending.reading:
            future.result()
        rows = pending.planned.rows
        # no_grad and inference_mode(False): whoever asks, the kernel is compiled for one mode.
        with torch.inference_mode(False), torch.no_grad(), torch.cuda.stream(self._stream):
            if pending.reading:
                # The bundle before was sampled from the same place, but earlier on the same stream.
                kept.pixels[kept.scratch :][: len(pending.staging)].copy_(pending.staging, non_blocking=True)
            table = self._upload(pending.table)
            # Not compiled, the kernel holds every intermediate value: of one batch at a time, then.
            together = len(table) if self._is_compiled else self._plan.batch_size
            images = [
                self._gather(kept.pixels, part[:, :4].long(), part[:, 4:].float(), self._plan.input_size)
                for part in torch.split(table, together)
            ]
            batch = self._tables.batch((images[0] if len(images) == 1 else torch.cat(images))[: len(rows)], rows)
        if self._on_gpu:
            current = torch.cuda.current_stream(self._device)
            current.wait_stream(self._stream)
            used_on(batch, current)
        return batch

    def _upload(self, table: torch.Tensor) -> torch.Tensor:
        """Copy without waiting; the allocator of pinned memory keeps it until the copy is done."""
        return table.pin_memory().to(self._device, non_blocking=True) if self._on_gpu else table


@dataclass
class _Pending:
    """A bundle of batches whose missing pixels are being read."""

    planned: PlannedBatch
    """What it is made of."""

    table: torch.Tensor
    """(images, 12) float64: base, pitch, width, height, the matrix, taps x and y."""

    staging: torch.Tensor
    """(bytes,) uint8, the missing windows, pinned where they will be copied to a GPU."""

    reading: list[Future[None]]
    """The windows that are being read into `staging`."""


class _Kept:
    """The pixels on the device: whole images, level after level, then room for what a bundle of batches misses.

    pixels: (bytes,) uint8 on the device. scratch: where the room for missing windows begins. images: of a bundle.
    """

    def __init__(
        self,
        store: ShardStore,
        plan: Plan,
        rows: NDArray[np.int64],
        budget: int,
        device: torch.device,
        made_together: int,
    ) -> None:
        self._store = store
        self._rows = np.sort(rows)  # the order in which they lie on the disk
        self._sides = np.asarray(plan.levels)
        self._share = level_shares(plan)
        self._budget = budget
        sampled = self._sides[self._share > 0]
        everything = int((sampled**2).sum()) * len(rows)
        # A random crop may need a level that none of those drawn did; evaluation samples one level alone.
        largest = int(self._sides[0] if plan.train else sampled.max(initial=0))
        together = plan.batch_size // len(plan.views)  # all views of an image are sampled from the same pixels
        a_batch = together * largest**2
        batches = min(plan.bundled(made_together), max(plan.steps, 1))
        if not plan.train and everything <= budget:
            room = 0  # nothing will be missing
        else:
            # Room for more than one batch must not take the place of many pixels, or of the last ones.
            rest = budget - everything
            allowed = min(int(budget * SHARE_OF_ROOM), rest if rest >= a_batch else budget)
            batches = max(1, min(batches, allowed // a_batch))
            room = batches * a_batch
        self.images = batches * plan.batch_size
        if room > budget:
            raise UserError(
                f"--cache gpu: a batch of {together} images takes up to {gigabytes(room)}, and all that is "
                f"sampled {gigabytes(everything)}, but only {gigabytes(budget)} of the memory of {device} may be used",
                remedy="use --cache none, a smaller --batch-size or a larger --cache-gb, or free memory on the device",
            )
        self.count = what_fits(self._share, plan.levels, len(rows), budget - room)
        self._offset = np.full((len(store), len(plan.levels)), -1, dtype=np.int64)
        self.scratch = 0
        for level in np.argsort(self._sides):
            kept, size = self._rows[: self.count[level]], int(self._sides[level]) ** 2
            self._offset[kept, level] = self.scratch + np.arange(len(kept)) * size
            self.scratch += len(kept) * size
        self.pixels = torch.empty(self.scratch + room, dtype=torch.uint8, device=device)

    @property
    def summary(self) -> str:
        """What is kept, in one line."""
        n = max(len(self._rows), 1)
        levels = ", ".join(
            f"level {side} of {count / n:.0%} of the images"
            for side, count in zip(self._sides.tolist(), self.count, strict=True)
            if count
        )
        missed = float(self._share @ (1 - np.asarray(self.count) / n)) if len(self._rows) else 0.0
        return (
            f"{self.pixels.device} keeps {levels or 'nothing'} ({gigabytes(self.scratch)} of "
            f"{gigabytes(self._budget)}); {missed:.1%} of the crops are read from the prepared folder"
        )

    def fill(self, threads: int, console: Console | None) -> None:
        """Decode and upload what is kept. Raises UserError for a damaged record."""
        what = f"upload to {self.pixels.device}"
        with (
            progress_bar(what, sum(self.count), console=console) as bar,
            ThreadPoolExecutor(threads, thread_name_prefix="cxrkit-resident") as pool,
        ):
            futures = []
            for level, count in enumerate(self.count):
                together = max(1, CHUNK_BYTES // int(self._sides[level]) ** 2)
                futures += [
                    pool.submit(self._fill, level, self._rows[start : min(start + together, count)], bar)
                    for start in range(0, count, together)
                ]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _fill(self, level: int, rows: NDArray[np.int64], bar: Bar) -> None:
        side = int(self._sides[level])
        start = int(self._offset[rows[0], level])
        target = self.pixels[start : start + len(rows) * side**2]
        on_cpu = target.device.type == "cpu"
        staging = target if on_cpu else torch.empty(target.shape, dtype=torch.uint8, pin_memory=True)
        images_NHW = staging.numpy().reshape(-1, side, side)
        for image_HW, row in zip(images_NHW, rows.tolist(), strict=True):
            image_HW[:] = self._store.image(row, level)
        if not on_cpu:
            target.copy_(staging)
        bar.advance(len(rows))

    def locate(self, planned: PlannedBatch, views: int = 1) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return per image where it begins in `pixels`, or where its window shall if it is missing; and which are.

        views: how many that follow each other are of one image, whose window they share.
        """
        once = planned[::views]
        base = self._offset[once.rows, once.level]
        missing = base < 0
        left, top, right, bottom = once.window[missing].T
        size = (right - left) * (bottom - top)
        base[missing] = self.scratch + np.cumsum(size) - size
        return np.repeat(base, views), np.repeat(missing, views)


def gigabytes(count: int) -> str:
    """Return bytes as people read them: 36.7 GB, 4.0 MB."""
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.2f} MB"


def free_bytes(device: torch.device) -> int:
    """Return the free memory of a GPU, or half of the memory that is free on the host."""
    if device.type == "cuda":
        torch.cuda.empty_cache()  # what PyTorch holds for later, a closed loader's pixels for one, is free too
        return torch.cuda.mem_get_info(device)[0]
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def level_shares(plan: Plan) -> NDArray[np.float64]:
    """Return how often each level is sampled, (levels,) summing to 1; estimated from the plan's first crops."""
    if not len(plan.rows):
        return np.zeros(len(plan.levels))
    rows = plan.rows[:SAMPLED_CROPS]
    epochs = -(-SAMPLED_CROPS // len(rows)) if plan.train else 1
    boxes = np.concatenate([plan.crops(epoch, rows).box for epoch in range(epochs)])
    level = choose_levels(boxes, plan.image_size, plan.input_size, plan.levels, plan.min_scale)
    share: NDArray[np.float64] = np.bincount(level, minlength=len(plan.levels)) / len(level)
    return share


def what_fits(share: NDArray[np.float64], levels: Sequence[int], images: int, budget: int) -> list[int]:
    """Return of how many images each level is kept: first the level that serves most crops per byte.

    share: how often each level is sampled; a level that is never sampled is not kept. budget: bytes.
    """
    count = [0] * len(levels)
    per_byte = share / np.asarray(levels, dtype=np.float64) ** 2
    for level in np.argsort(-per_byte, kind="stable"):
        if share[level] > 0:
            count[level] = min(images, budget // levels[level] ** 2)
            budget -= count[level] * levels[level] ** 2
    return count
