"""The tables of targets and metadata on a batch's device, and the batch that they complete."""

from __future__ import annotations

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
