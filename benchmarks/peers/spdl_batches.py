"""SPDL: its pipeline of threads, with a stage that makes a whole batch at a time with OpenCV.

SPDL's own decoder is FFmpeg's, and a stage for each image costs a task for each; its guide on noisy neighbours and on
composition says to give a stage enough to do and to keep to a few threads. Batches come out as they are ready.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import cv2
import numpy as np
import torch
from spdl.pipeline import PipelineBuilder

from benchmarks.peers.opencv_crops import decoded, paths_of, sample_into
from benchmarks.stopwatch import Pass


def load(
    folder: str, labels: str, size: int, batch: int, workers: int, rotate: bool = False, limit: int | None = None
) -> Pass:
    """Return a pass over one epoch."""
    cv2.setNumThreads(1)
    paths, target = paths_of(folder, limit), torch.from_numpy(np.load(labels))
    order = np.random.default_rng(0)

    def batches() -> Iterator[tuple[np.ndarray, int]]:
        shuffled = order.permutation(len(paths))
        for start in range(0, len(paths), batch):
            yield shuffled[start : start + batch], int(order.integers(1 << 62))

    def make(asked: tuple[np.ndarray, int]) -> tuple[torch.Tensor, torch.Tensor]:
        rows, seed = asked
        generator = np.random.default_rng(seed)
        image_BCHW = np.empty((len(rows), 1, size, size), np.uint8)
        for image_CHW, row in zip(image_BCHW, rows, strict=True):
            sample_into(image_CHW[0], decoded(paths[row]), generator, rotate)
        return torch.from_numpy(image_BCHW), target[rows]

    def one_pass() -> Mapping[str, float]:
        builder = PipelineBuilder().add_source(batches()).pipe(make, concurrency=workers).add_sink(2)
        pipeline = builder.build(num_threads=workers)
        with pipeline.auto_stop():
            return {"images": sum(len(images) for images, _ in pipeline.get_iterator(timeout=60))}

    return one_pass
