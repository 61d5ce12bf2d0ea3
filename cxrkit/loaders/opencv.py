"""Execute a plan with OpenCV on CPU threads.

OpenCV releases the GIL while it decodes and warps, so threads are enough: nothing is pickled, no memory is shared by
name. About 128 images, a bundle of batches, are made at a time whatever the batch, in a ring of buffers that are
allocated once per epoch: the bundle is cut into chunks that all threads work on together, and while the model works on
its batches, the next bundles are made. A batch is given out as soon as its own chunks are done.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from cxrkit.base.contracts import Batch
from cxrkit.loaders.geometry import NO_SIGMA
from cxrkit.loaders.plan import PLANNED_AHEAD, Plan, PlannedBatch
from cxrkit.loaders.running import Batches, Running, at_least_one, threads_or_default
from cxrkit.loaders.tables import Tables, cut
from cxrkit.shards.store import ShardStore

# Images, or more where an image has more views: few enough for all threads to share a batch of 16, many enough to
# hide the hand-over.
CHUNK = 4
_FLAGS = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP


def sample(
    image_HW: NDArray[np.uint8], matrix: NDArray[np.float64], sigma: tuple[float, float], out_HW: NDArray[np.uint8]
) -> None:
    """Fill `out_HW`: blur `image_HW` by `sigma` (x, y), then sample it bilinearly at `matrix @ (x, y, 1)`.

    Outside the image its edge is repeated.
    """
    blurred: Any = image_HW
    if max(sigma) > NO_SIGMA:
        blurred = cv2.GaussianBlur(image_HW, (3, 3), sigma[0], sigmaY=sigma[1])
    height, width = out_HW.shape
    cv2.warpAffine(blurred, matrix, (width, height), dst=out_HW, flags=_FLAGS, borderMode=cv2.BORDER_REPLICATE)


def opencv_matrix(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the maps (..., 2, 3) in OpenCV's coordinates, which count from the centre of the first pixel."""
    shifted = matrix.copy()
    shifted[..., 2] += matrix[..., :2].sum(axis=-1) / 2 - 0.5
    return shifted


@dataclass
class _Slot:
    """One buffer of the ring, and the work that fills it."""

    image: torch.Tensor
    """(images of a bundle, 1, H, W) uint8, pinned where it will be copied to a GPU."""

    planned: PlannedBatch | None = None
    """The bundle that is made in it."""

    pending: list[Future[None]] = field(default_factory=list)
    """The chunks that are being made, in their order."""

    copied: torch.cuda.Event | None = None
    """The end of the last copy to the GPU."""


class OpenCVLoader:
    """A contracts.Loader on CPU threads; its batches lie on `device`.

    targets: (N, L) and metadata: (N, 3) float32 for all rows of the index. threads: default, all cores that this
    process may use. prefetch: batches that are made ahead of the one in use, at least: they are made in bundles.

    A batch is valid until the next one is asked for. Leaving an epoch early stops its threads. OpenCV's own threads
    are switched off for the whole process: they would compete with these.
    """

    def __init__(
        self,
        store: ShardStore,
        plan: Plan,
        targets: NDArray[np.float32],
        metadata: NDArray[np.float32],
        *,
        threads: int | None = None,
        device: str | torch.device = "cpu",
        prefetch: int = 2,
    ) -> None:
        at_least_one("prefetch", prefetch)
        assert plan.levels == store.levels
        self._store = store
        self._plan = plan
        self._device = torch.device(device)
        self._tables = Tables(targets, metadata, self._device)
        self._threads = threads_or_default(threads)
        self._prefetch = prefetch
        self._mapped = store.codec == "raw"
        # All views of an image are in one chunk, so that it is decoded once.
        self._views = len(plan.views)
        self._chunk = -(-CHUNK // self._views) * self._views
        self._running = Running()
        self.steps = plan.steps

    def epoch(self, epoch: int, start_step: int = 0) -> Batches:
        """Yield the batches of `epoch` from `start_step` on, in the plan's order.

        Raises UserError for a record whose checksum or codec fails.
        """
        return self._running.started(self._epoch(epoch, start_step))

    def close(self) -> None:
        """End the epochs that are under way, and their threads. Safe to call twice."""
        self._running.end()

    def _epoch(self, epoch: int, start_step: int) -> Batches:
        cv2.setNumThreads(0)
        steps, together = self.steps - start_step, self._plan.bundled()
        images = min(steps, together) * self._plan.batch_size
        # Planning several bundles at once halves what planning costs, to 2 microseconds an image.
        planned_ahead = self._plan.bundles(epoch, start_step, PLANNED_AHEAD)
        upcoming = (run[start : start + images] for run in planned_ahead for start in range(0, len(run), images))
        bundles_ahead = -(-self._prefetch // together)
        free = deque(self._allocate(images) for _ in range(min(1 + bundles_ahead, -(-steps // together))))
        queue: deque[_Slot] = deque()
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="cxrkit-opencv")
        try:
            while True:
                while free and (planned := next(upcoming, None)) is not None:
                    queue.append(self._start(pool, free.popleft(), planned))
                if not queue:
                    return
                slot = queue.popleft()
                yield from self._batches(slot)
                free.append(slot)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _allocate(self, images: int) -> _Slot:
        side = self._plan.input_size
        shape = (images, 1, side, side)
        return _Slot(torch.empty(shape, dtype=torch.uint8, pin_memory=self._device.type == "cuda"))

    def _start(self, pool: ThreadPoolExecutor, slot: _Slot, planned: PlannedBatch) -> _Slot:
        """Hand the images of `planned` to the threads, to be written into `slot`."""
        if slot.copied is not None:
            slot.copied.synchronize()  # the copy to the GPU still reads the buffer
        slot.planned = planned
        work = planned, opencv_matrix(planned.window_matrix), slot.image[:, 0].numpy()
        slot.pending = [
            pool.submit(self._fill, *work, slice(start, min(start + self._chunk, len(planned))))
            for start in range(0, len(planned), self._chunk)
        ]
        return slot

    def _fill(
        self, planned: PlannedBatch, matrix: NDArray[np.float64], out_BHW: NDArray[np.uint8], part: slice
    ) -> None:
        lists = (values[part].tolist() for values in (planned.rows, planned.level, planned.window, planned.sigma))
        each = zip(*lists, matrix[part], out_BHW[part], strict=True)
        for place, (row, level, window, sigma, matrix_23, out_HW) in enumerate(each):
            if place % self._views == 0:
                window_HW = self._store.window(row, level, window)
                if self._mapped and max(sigma) <= NO_SIGMA:
                    window_HW = copied(window_HW)
            sample(window_HW, matrix_23, sigma, out_HW)

    def _batches(self, slot: _Slot) -> Batches:
        """Yield the batches of a bundle, each as soon as it is there."""
        assert slot.planned is not None
        rows, size = slot.planned.rows, self._plan.batch_size
        image = slot.image[: len(rows)]
        if self._device.type != "cpu":
            _wait(slot.pending)
        if self._device.type == "cuda":
            image, slot.copied = copy_to_gpu(image, self._device)
        elif self._device.type != "cpu":
            image = image.to(self._device)
        bundle = self._tables.batch(image, rows)
        if self._device.type == "cuda":
            yield from cut(bundle, size)
            return
        for start in range(0, len(rows), size):
            part = slice(start, start + size)
            _wait(slot.pending[start // self._chunk : -(-part.stop // self._chunk)])
            yield Batch(bundle.image[part], bundle.target[part], bundle.meta[part], bundle.index[part])


def _wait(pending: Iterable[Future[None]]) -> None:
    """Wait for chunks, in their order: the first that failed raises."""
    for future in pending:
        future.result()


def copied(image_HW: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the image in memory of this thread, which is used again for the next one.

    In a mapped level the rows of a window are far apart, and sampling along a slant then misses the caches: the copy
    saves 13 % of the sampling at 448 and 5 % at 224. What was decoded lies together already, and so does what was
    blurred.
    """
    height, width = image_HW.shape
    memory = getattr(_of_thread, "memory", None)
    if memory is None or len(memory) < height * width:
        memory = _of_thread.memory = np.empty(height * width, np.uint8)
    copy: NDArray[np.uint8] = memory[: height * width].reshape(height, width)
    copy[:] = image_HW
    return copy


_of_thread = threading.local()


def copy_to_gpu(image: torch.Tensor, device: torch.device) -> tuple[torch.Tensor, torch.cuda.Event]:
    """Start copying pinned memory to the GPU beside its current work; return the copy and the event that ends it.

    Work that is queued on the current stream afterwards waits for the copy; the host does not.
    """
    current = torch.cuda.current_stream(device)
    side = _side_stream(device)
    with torch.cuda.stream(side):
        copy = image.to(device, non_blocking=True)
        done = side.record_event()
    current.wait_event(done)
    copy.record_stream(current)  # the allocator must not hand the memory out again before the model has read it
    return copy, done


_side_streams: dict[torch.device, torch.cuda.Stream] = {}


def _side_stream(device: torch.device) -> torch.cuda.Stream:
    if device not in _side_streams:
        _side_streams[device] = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    return _side_streams[device]
