"""Execute the order of a plan for a network that looks at no image: age, sex, view and labels alone."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from cxrkit.loaders.plan import Plan
from cxrkit.loaders.running import Batches, Running
from cxrkit.loaders.tables import Tables
from cxrkit.shards.store import ShardStore


class PixellessLoader:
    """A contracts.Loader whose images have 0 x 0 pixels; its batches lie on `device`.

    targets: (N, L) and metadata: (N, 3) float32, for all rows that the plan may name. The store is not read.
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
    ) -> None:
        self._plan = plan
        self._device = torch.device(device)
        self._tables = Tables(targets, metadata, self._device)
        self._running = Running()
        self.steps = plan.steps

    def epoch(self, epoch: int, start_step: int = 0) -> Batches:
        """Yield the batches of `epoch` from `start_step` on, in the plan's order."""
        return self._running.started(self._epoch(epoch, start_step))

    def close(self) -> None:
        """End the epochs that are under way. Safe to call twice."""
        self._running.end()

    def _epoch(self, epoch: int, start_step: int) -> Batches:
        for rows in self._plan.rows_of(epoch, start_step):
            image = torch.empty((len(rows), 1, 0, 0), dtype=torch.uint8, device=self._device)
            yield self._tables.batch(image, rows)
