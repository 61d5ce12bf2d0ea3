"""Execute a plan with NVIDIA DALI: on a GPU, or on its CPU pipeline where there is none.

Threads read the encoded bytes ahead, out of the mapped shards; DALI decodes what each image needs of them, blurs it and
samples it into uint8 images on the device, a bundle of batches at a time. DALI draws nothing itself: order and geometry
come from the plan, so nothing has to be rewound or restored, and the pipeline survives from epoch to epoch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cxrkit.base.contracts import Batch
from cxrkit.base.errors import UserError
from cxrkit.loaders import dali_graph, dali_setup
from cxrkit.loaders.plan import MADE_TOGETHER, Plan, PlannedBatch
from cxrkit.loaders.running import Batches, Running, at_least_one, share, threads_or_default
from cxrkit.loaders.tables import Tables, cut
from cxrkit.shards.store import ShardStore

CHUNK = 16  # images that one thread reads at a time

_Encoded = tuple[NDArray[np.uint8], tuple[int, int]]
"""What is handed over of one image, and where in its level, (x, y), that begins."""


class DaliLoader:
    """A contracts.Loader on DALI; its batches lie on `device`. One epoch at a time.

    targets: (N, L) and metadata: (N, 3) float32 for all rows of the index. threads: of the pipeline, and as many
    that read; default, all cores that this process may use. made_together: images that are made at a time, in whole
    batches; one batch at least. prefetch: such bundles made ahead of the one in use.

    hw_decoder_load: share of JPEGs for the GPU's decoding engines, the rest going to its cores. The two differ in
    pixels, by rounding: 1.0 or 0.0 gives the same batches in every run, a value between may be faster.
    tiles: whether DALI gets only the part of a tiled JPEG that a window needs, or the whole file.
    region: whether the decoder itself leaves out what is outside of the window, or the window is cut out of what was
    decoded. Default, on the CPU alone: nvImageCodec 0.9 ends the process on some GPUs when it decodes a region of a
    JPEG (its issue 55).

    While its batches are in use no CUDA graph may be captured: DALI synchronises the device from a thread of its own,
    which a capture does not survive.

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
        made_together: int = MADE_TOGETHER,
        prefetch: int = 2,
        hw_decoder_load: float = 1.0,
        tiles: bool = True,
        region: bool | None = None,
    ) -> None:
        assert plan.levels == store.levels
        at_least_one("prefetch", prefetch)
        at_least_one("made_together", made_together)
        share("hw_decoder_load", hw_decoder_load)
        dali_setup.modules()
        self._store = store
        self._plan = plan
        self._device = torch.device(device)
        self._tables = Tables(targets, metadata, self._device)
        self._threads = threads_or_default(threads)
        self._made_together = made_together
        self._prefetch = prefetch
        self._tiles = tiles
        on_gpu = self._device.type == "cuda"
        self.graph = dali_graph.Graph(
            images=min(plan.bundled(made_together), max(plan.steps, 1)) * plan.batch_size // len(plan.views),
            side=plan.input_size,
            gpu=_device_index(self._device) if on_gpu else None,
            threads=self._threads,
            prefetch=prefetch,
            # Raw levels need no decoder, and DALI has none for zstd, and for HTJ2K on a GPU only: then the threads hand
            # over pixels.
            pixels=store.codec in ("raw", "zstd") or (store.codec == "htj2k" and not on_gpu),
            region=not on_gpu if region is None else region,
            hw_decoder_load=hw_decoder_load,
            views=len(plan.views),
        )
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
        bundles = self._plan.bundles(epoch, start_step, self._made_together)
        self._source.start(self._read_ahead(pool, bundles))
        try:
            self._begin(pipeline)
            for _ in range(start_step, self.steps, self._plan.bundled(self._made_together)):
                yield from cut(self._bundle(pipeline), self._plan.batch_size)
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

    def _bundle(self, pipeline: Any) -> Batch:
        image = self._take(pipeline)
        rows = self._source.delivered().rows
        side = self._plan.input_size
        return self._tables.batch(image.view(len(rows), 1, side, side), rows)

    def _take(self, pipeline: Any) -> torch.Tensor:
        """Return the next bundle of images as `dali_graph.build` says, uint8, and let the pipeline go on.

        Nothing is copied, and the host waits only until the work is queued. What orders DALI's work and torch's is
        DLPack, both ways: `from_dlpack` makes torch's current stream wait for DALI's event behind the images; and when
        the last view of them is gone, DALI hands their memory to a thread of its own, which synchronises the whole
        device before the memory is used again. So what is queued on any stream may still read them, and DALI, which
        takes other memory meanwhile, may run on at once: it is never made to wait for the model.
        """
        try:
            # Given a stream, DALI does not make the host wait for the images; that is all it is given for.
            stream = torch.cuda.current_stream(self._device) if self._device.type == "cuda" else None
            (images,) = pipeline.share_outputs(cuda_stream=stream)
            image: torch.Tensor = torch.utils.dlpack.from_dlpack(images.as_tensor())
            pipeline.release_outputs()  # the default executor gives memory away with its last reference, not here
            pipeline.schedule_run()
        except BaseException as error:
            self._pipeline = None
            if isinstance(error, RuntimeError) and (failed := self._failed(error)) is not None:
                raise failed from error
            raise
        return image

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

    def _failed(self, error: RuntimeError) -> UserError | None:
        """Return what to say of an image that DALI could not decode; None where that was not what went wrong.

        DALI does not tell which one it was, but OpenCV does.
        """
        planned = self._source.under_way()
        if planned is None or self.graph.pixels:
            return None
        for row, level in zip(planned.rows.tolist(), planned.level.tolist(), strict=True):
            try:
                self._store.image(row, level)
            except UserError as damaged:
                return damaged
        if not any(word in str(error).lower() for word in ("decode", "nvimagecodec", "nvjpeg")):
            return None
        names = ", ".join(self._store.index["image_id"].gather(planned.rows[:8].tolist()))
        return UserError(
            f"{self._store.folder}: DALI on {self._device} could not decode {names}{', ...' * (len(planned) > 8)}, "
            f"which OpenCV can: {str(error).strip().splitlines()[0]}",
            remedy="use --loader opencv; where DALI takes whole files only, --set run.loader_options.tiles=false",
        )

    def _read_ahead(self, pool: ThreadPoolExecutor, upcoming: Iterator[PlannedBatch]) -> Iterator[_Inputs]:
        """Yield what the pipeline is fed with, while the threads read the next bundles."""
        reading: deque[tuple[PlannedBatch, list[Future[list[_Encoded]]]]] = deque()
        while True:
            while len(reading) < self._prefetch and (planned := next(upcoming, None)) is not None:
                once = planned[:: self.graph.views]
                parts = [once[start : start + CHUNK] for start in range(0, len(once), CHUNK)]
                reading.append((planned, [pool.submit(self._read, part) for part in parts]))
            if not reading:
                return
            planned, futures = reading.popleft()
            data, origin = zip(*(item for future in futures for item in future.result()), strict=True)
            begins = None if self.graph.pixels else np.array(origin)
            yield planned, dali_graph.inputs(planned, list(data), begins, self.graph.views)

    def _read(self, planned: PlannedBatch) -> list[_Encoded]:
        """Return encoded bytes of each image, or the pixels (H, W, 1) in its window; in memory, off the disk."""
        return [
            self._read_one(*one)
            for one in zip(planned.rows.tolist(), planned.level.tolist(), planned.window.tolist(), strict=True)
        ]

    def _read_one(self, row: int, level: int, window: list[int]) -> _Encoded:
        if self.graph.pixels:
            return self._store.window(row, level, window)[:, :, None].copy(), (0, 0)
        if not self._tiles:
            return self._store.encoded(row, level).copy(), (0, 0)
        data, (left, top, _, _) = self._store.encoded_window(row, level, window)
        # What was joined lies in memory already; a view of the file is to be read here, not where DALI waits for it.
        whole = len(data) == self._store.size(row, level)
        return data.copy() if whole else data, (left, top)

    def _started(self) -> Any:
        """Return a built pipeline. Raises UserError where DALI does not fit the machine, its CUDA driver above all."""
        try:
            return dali_graph.build(self.graph, self._source)
        except RuntimeError as error:
            raise UserError(
                f"DALI could not start on {self._device}: {str(error).strip().splitlines()[0]}"
                + (f"; {reason}" if (reason := dali_setup.misfit()) else ""),
                remedy=f"{dali_setup.how_to_install()} (`cxrkit doctor` compares the versions), or choose "
                "--loader opencv",
            ) from error


_Inputs = tuple[PlannedBatch, dali_graph.Arrays]


class _Source:
    """What DALI calls for every bundle. It holds those of one epoch, and whose turn it is."""

    def __init__(self) -> None:
        self._upcoming: Iterator[_Inputs] = iter(())
        self._given_out: deque[PlannedBatch] = deque()

    def start(self, upcoming: Iterator[_Inputs]) -> None:
        """Give out `upcoming` from now on."""
        self._upcoming = upcoming
        self._given_out.clear()

    def delivered(self) -> PlannedBatch:
        """Return the oldest bundle given out, whose images have now come back."""
        return self._given_out.popleft()

    def under_way(self) -> PlannedBatch | None:
        """Return the oldest bundle that has not come back."""
        return self._given_out[0] if self._given_out else None

    def __call__(self, info: object) -> dali_graph.Arrays:
        planned, inputs = next(self._upcoming)  # at the end DALI wants StopIteration, and this raises it
        self._given_out.append(planned)
        return inputs


def _device_index(device: torch.device) -> int:
    return torch.cuda.current_device() if device.index is None else device.index
