"""Grain: a shuffled MapDataset whose transformation decodes and crops with OpenCV, read by threads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import grain
import numpy as np
import torch

from benchmarks.peers.opencv_crops import decoded, paths_of, sample_into
from benchmarks.stopwatch import Pass


class _Crop(grain.transforms.RandomMap):  # type: ignore[misc]
    """Decodes one file and samples a random crop of it."""

    def __init__(self, paths: list[str], labels: np.ndarray, size: int) -> None:
        self.paths, self.labels, self.size = paths, labels, size

    def random_map(self, element: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        image_CHW = np.empty((1, self.size, self.size), np.uint8)
        sample_into(image_CHW[0], decoded(self.paths[element]), rng, rotate=False)
        return image_CHW, self.labels[element]


def load(folder: str, labels: str, size: int, batch: int, workers: int, limit: int | None = None) -> Pass:
    """Return a pass over one epoch. Batches are put together by the threads, which is faster than by the consumer."""
    cv2.setNumThreads(1)
    paths = paths_of(folder, limit)
    crop = _Crop(paths, np.load(labels), size)
    # The whole data set again and again, in another order each time; an epoch is a slice of it.
    options = grain.ReadOptions(num_threads=workers, prefetch_buffer_size=2 * workers)
    epoch = 0

    def one_pass() -> Mapping[str, float]:
        nonlocal epoch
        dataset: Any = grain.MapDataset.range(len(paths)).seed(epoch).shuffle().random_map(crop).batch(batch)
        epoch += 1
        images = 0
        for image_BCHW, target in dataset.to_iter_dataset(options):
            images += len(torch.from_numpy(image_BCHW))
            torch.from_numpy(target)
        return {"images": images}

    return one_pass
