"""The tables of targets and metadata on a batch's device, and the batches that they complete."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from cxrkit.base.contracts import Batch


class Tables:
    """Targets (N, L) and metadata (N, 3) of all rows, uploaded once."""

    def __init__(self, targets: NDArray[np.float32], metadata: NDArray[np.float32], device: torch.device) -> None:
        self._device = device
        self._targets = torch.from_numpy(np.ascontiguousarray(targets, dtype=np.float32)).to(device)
        self._metadata = torch.from_numpy(np.ascontiguousarray(metadata, dtype=np.float32)).to(device)

    def batch(self, image: torch.Tensor, rows: NDArray[np.int64]) -> Batch:
        """Return `image` (B, 1, H, W) together with what belongs to `rows` (B,)."""
        index = torch.from_numpy(rows.copy())
        if self._device.type == "cuda":
            # From ordinary memory the copy would wait for all work that the device has been given.
            index = index.pin_memory().to(self._device, non_blocking=True)
        return Batch(image, self._targets[index], self._metadata[index], index)


def cut(bundle: Batch, batch_size: int) -> Iterator[Batch]:
    """Yield the batches of a bundle, as views of it; the last may be short.

    On a GPU each is ready for the work that is queued on the stream that is current when it is given out.
    """
    on_gpu = bundle.image.device.type == "cuda"
    ready_on = torch.cuda.current_stream(bundle.image.device) if on_gpu else None
    for start in range(0, len(bundle.index), batch_size):
        if ready_on is not None and (current := torch.cuda.current_stream(bundle.image.device)) != ready_on:
            current.wait_stream(ready_on)
            used_on(bundle, current)
        part = slice(start, start + batch_size)
        yield Batch(bundle.image[part], bundle.target[part], bundle.meta[part], bundle.index[part])


def used_on(batch: Batch, stream: torch.cuda.Stream) -> None:
    """Tell PyTorch's allocator that work on `stream` reads the batch: until it is done, the memory is not reused."""
    for tensor in (batch.image, batch.target, batch.meta, batch.index):
        tensor.record_stream(stream)
