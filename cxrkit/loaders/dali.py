"""Execute a plan with NVIDIA DALI: on a GPU, or on its CPU pipeline where there is none.

Threads read the encoded bytes ahead, out of the mapped shards; DALI decodes the part of each image that is needed,
blurs it and samples it into one uint8 batch on the device. DALI draws nothing itself: order and geometry come from
the plan, so nothing has to be rewound or restored, and the pipeline survives from epoch to epoch.
"""

from __future__ import annotations

import functools
import importlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cxrkit.base.errors import UserError
from cxrkit.loaders.plan import Plan, PlannedBatch
from cxrkit.loaders.running import Batches, Running, threads_or_default
from cxrkit.loaders.tables import Tables
from cxrkit.shards.store import ShardStore

CHUNK = 16  # images that one thread reads at a time


class DaliLoader:
    """A contracts.Loader on DALI; its batches lie on `device`. One epoch at a time.

    targets: (N, L) and metadata: (N, 3) float32 for all rows of the index. threads: of the pipeline, and as many
    that read; default, all cores that this process may use. prefetch: batches made ahead of the one in use.
    hw_decoder_load: share of JPEGs for the GPU's decoding engines, the rest going to its cores. The two differ in
    pixels, by rounding: 1.0 or 0.0 gives the same batches in every run, a value between may be faster.

    Raises UserError where DALI is not installed.
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
        hw_decoder_load: float = 1.0,
    ) -> None:
        assert prefetch >= 1
        assert plan.levels == store.levels
        _dali()
        self._store = store
        self._plan = plan
        self._device = torch.device(device)
        self._tables = Tables(targets, metadata, self._device)
        self._threads = threads_or_default(threads)
        self._prefetch = prefetch
        self._hw_decoder_load = hw_decoder_load
        # Raw levels need no decoder, and DALI decodes HTJ2K on a GPU only: then the reading threads hand over pixels.
        self._pixels = store.codec == "raw" or (store.codec == "htj2k" and self._device.type == "cpu")
        self._source = _Source()
        self._pipeline: Any = None
        self._running = Running()
        self.steps = plan.steps

    def epoch(self, epoch: int, start_step: int = 0) -> Batches:
        """Yield the batches of `epoch` from `start_step` on, in the plan's order; an epoch under way ends.

        Raises UserError for a record whose checksum fails or that cannot be decoded.
        """
        self._running.end()
        return self._running.started(self._epoch(epoch, start_step))

    def close(self) -> None:
        """End the epoch that is under way, and the pipeline with its threads. Safe to call twice."""
        self._running.end()
        self._pipeline = None

    def _epoch(self, epoch: int, start_step: int) -> Batches:
        if start_step >= self.steps:
            return
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="cxrkit-dali")
        if self._pipeline is None:
            self._pipeline = self._started()
        pipeline = self._pipeline
        self._source.start(self._read_ahead(pool, self._plan.batches(epoch, start_step)))
        try:
            self._begin(pipeline)
            for _ in range(start_step, self.steps):
                image_BHWC = self._take(pipeline)
                rows = self._source.delivered()
                yield self._tables.batch(image_BHWC.view(len(rows), 1, *image_BHWC.shape[1:3]), rows)
        finally:
            # A pipeline in which something failed is of no more use; it was given up by then.
            if self._pipeline is not None:
                self._drain(pipeline)
            pool.shutdown(wait=True, cancel_futures=True)

    def _begin(self, pipeline: Any) -> None:
        try:
            pipeline.schedule_run()
        except BaseException:
            self._pipeline = None
            raise

    def _take(self, pipeline: Any) -> torch.Tensor:
        """Return the next batch of images, (B, H, W, 1) uint8, and let the pipeline go on."""
        try:
            # Bound to the stream that the model runs on: the host does not wait, and DALI takes the memory back only
            # after what is queued there by then. The default executor gives memory away with its last reference, so
            # the view needs no copy and the pipeline may go on at once.
            stream = torch.cuda.current_stream(self._device) if self._device.type == "cuda" else None
            (images,) = pipeline.share_outputs(cuda_stream=stream)
            image_BHWC: torch.Tensor = torch.utils.dlpack.from_dlpack(images.as_tensor())
            pipeline.release_outputs()
            pipeline.schedule_run()
        except BaseException as error:
            self._pipeline = None
            if isinstance(error, RuntimeError) and "decode" in str(error).lower():
                raise self._failed(error) from error
            raise
        return image_BHWC

    def _drain(self, pipeline: Any) -> None:
        """Finish what the pipeline has begun, so that the next epoch finds it empty."""
        self._source.start(iter(()))
        try:
            pipeline.schedule_run()  # hears that there is no more
            while True:
                pipeline.share_outputs()
                pipeline.release_outputs()
        except StopIteration:
            pipeline.reset()
        except RuntimeError:  # a batch that nobody asked for could not be decoded: build anew
            self._pipeline = None

    def _failed(self, error: RuntimeError) -> UserError:
        rows = self._source.under_way()
        names = ", ".join(self._store.index["image_id"].gather(rows[:8].tolist()))
        return UserError(
            f"{self._store.folder}: DALI could not make a batch out of {names}{', ...' if len(rows) > 8 else ''}: "
            f"{str(error).strip().splitlines()[0]}",
            remedy="run `cxrkit verify --deep` to find what is damaged, or use --loader opencv, which names it",
        )

    def _read_ahead(self, pool: ThreadPoolExecutor, upcoming: Iterator[PlannedBatch]) -> Iterator[_Inputs]:
        """Yield what the pipeline is fed with, while the threads read the next batches."""
        reading: deque[tuple[PlannedBatch, list[Future[list[NDArray[np.uint8]]]]]] = deque()
        while True:
            while len(reading) < self._prefetch and (planned := next(upcoming, None)) is not None:
                parts = [planned[start : start + CHUNK] for start in range(0, len(planned), CHUNK)]
                reading.append((planned, [pool.submit(self._read, part) for part in parts]))
            if not reading:
                return
            planned, futures = reading.popleft()
            data = [item for future in futures for item in future.result()]
            yield planned.rows, _inputs(planned, data, with_window=not self._pixels)

    def _read(self, planned: PlannedBatch) -> list[NDArray[np.uint8]]:
        """Return the encoded bytes of each image, or the pixels (H, W, 1) in its window; in memory, off the disk."""
        wanted = zip(planned.rows.tolist(), planned.level.tolist(), planned.window.tolist(), strict=True)
        if not self._pixels:
            return [self._store.encoded(row, level).copy() for row, level, _ in wanted]
        return [
            self._store.image(row, level)[top:bottom, left:right, None].copy()
            for row, level, (left, top, right, bottom) in wanted
        ]

    def _started(self) -> Any:
        """Return a built pipeline. Raises UserError where DALI does not fit the machine, its CUDA driver above all."""
        try:
            return self._build()
        except RuntimeError as error:
            raise UserError(
                f"DALI could not start on {self._device}: {str(error).strip().splitlines()[0]}",
                remedy="install the DALI of your CUDA version (see `cxrkit doctor`), or choose --loader opencv",
            ) from error

    def _build(self) -> Any:
        dali, fn, types = _dali()
        on_gpu = self._device.type == "cuda"
        device_id = _device_index(self._device) if on_gpu else None
        # matrix, sigma; data is encoded or pixels, and only what is encoded has a window to cut out.
        kinds = [types.UINT8, types.FLOAT, types.FLOAT, *([] if self._pixels else [types.INT32, types.INT32])]
        dimensions = [3 if self._pixels else 1, 2, 1, *([] if self._pixels else [1, 1])]
        pipeline = dali.Pipeline(self._plan.batch_size, self._threads, device_id, prefetch_queue_depth=self._prefetch)
        with pipeline:
            data, matrix, sigma, *window = fn.external_source(
                source=self._source,
                num_outputs=len(kinds),
                batch=True,
                batch_info=True,
                dtype=kinds,
                ndim=dimensions,
                layout=["HWC" if self._pixels else "", *[""] * (len(kinds) - 1)],
            )
            if self._pixels:
                image = data.gpu() if on_gpu else data
            else:
                image = fn.decoders.image_slice(
                    data,
                    start=window[0],
                    shape=window[1],
                    axis_names="HW",
                    device="mixed" if on_gpu else "cpu",
                    hw_decoder_load=self._hw_decoder_load,
                    output_type=types.GRAY,
                )
            image = fn.gaussian_blur(image, sigma=sigma, window_size=3)
            side = self._plan.input_size
            # No fill_value: outside the image its edge is repeated.
            pipeline.set_outputs(fn.warp_affine(image, matrix=matrix, size=(side, side), inverse_map=True))
        pipeline.build()
        return pipeline


_Arrays = tuple[list[NDArray[np.uint8]] | NDArray[Any], ...]
_Inputs = tuple[NDArray[np.int64], _Arrays]


def _inputs(planned: PlannedBatch, data: list[NDArray[np.uint8]], *, with_window: bool) -> _Arrays:
    """Return what the pipeline takes: images, matrices, sigmas (y, x), and starts and sizes (y, x) of the windows."""
    # A window is (left, top, right, bottom), and DALI counts rows first: [1::-1] takes (top, left), [:1:-1] takes
    # (bottom, right).
    start, stop = planned.window[:, 1::-1], planned.window[:, :1:-1]
    matrix = planned.window_matrix.astype(np.float32)
    sigma = np.ascontiguousarray(planned.sigma[:, ::-1], dtype=np.float32)  # rows first, too
    if not with_window:
        return data, matrix, sigma
    # DALI takes contiguous arrays only.
    window = np.ascontiguousarray([start, stop - start], dtype=np.int32)
    return data, matrix, sigma, window[0], window[1]


class _Source:
    """What DALI calls for every batch. It holds the batches of one epoch, and whose turn it is."""

    def __init__(self) -> None:
        self._upcoming: Iterator[_Inputs] = iter(())
        self._rows: deque[NDArray[np.int64]] = deque()

    def start(self, upcoming: Iterator[_Inputs]) -> None:
        """Give out `upcoming` from now on."""
        self._upcoming = upcoming
        self._rows.clear()

    def delivered(self) -> NDArray[np.int64]:
        """Return the rows of the oldest batch given out, whose images have now come back."""
        return self._rows.popleft()

    def under_way(self) -> NDArray[np.int64]:
        """Return the rows of the oldest batch that has not come back."""
        return self._rows[0] if self._rows else np.empty(0, dtype=np.int64)

    def __call__(self, info: object) -> _Arrays:
        rows, inputs = next(self._upcoming)  # at the end DALI wants StopIteration, and this raises it
        self._rows.append(rows)
        return inputs


@functools.cache
def why_not(device: str) -> str | None:
    """Return why DALI cannot work on `device`: not installed, or built for another CUDA driver; None where it can.

    It makes one image there, which takes a fraction of a second; asked again, it knows.
    """
    on_gpu = device.startswith("cuda")
    try:
        dali, fn, types = _dali()
        pipeline = dali.Pipeline(1, 1, (torch.device(device).index or 0) if on_gpu else None)
        with pipeline:
            image = fn.constant(idata=[0] * 16, shape=[4, 4, 1], dtype=types.UINT8, layout="HWC")
            pipeline.set_outputs(fn.gaussian_blur(image.gpu() if on_gpu else image, window_size=3))
        pipeline.build()
        pipeline.run()
    except (UserError, RuntimeError, OSError) as error:
        return str(error).strip().splitlines()[0]
    return None


def _device_index(device: torch.device) -> int:
    return torch.cuda.current_device() if device.index is None else device.index


def _dali() -> tuple[Any, Any, Any]:
    """Return nvidia.dali and its modules fn and types. Raises UserError where they cannot be imported."""
    try:
        dali, fn, types = (importlib.import_module(f"nvidia.dali{part}") for part in ("", ".fn", ".types"))
    except ImportError as error:
        raise UserError(
            f"the loader 'dali' needs NVIDIA DALI, which cannot be imported here ({error})",
            remedy="pip install nvidia-dali-cuda130 (Linux only), or use --loader opencv",
        ) from None
    return dali, fn, types
