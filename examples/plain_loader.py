"""A loader: one image after the other in the calling thread, to read how a plan is executed rather than to be fast."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from cxrkit.base.contracts import Batch
from cxrkit.loaders.opencv import opencv_matrix, sample
from cxrkit.loaders.plan import Plan, PlannedBatch
from cxrkit.loaders.tables import Tables
from cxrkit.shards.store import ShardStore


class PlainLoader:
    """A contracts.Loader without threads; its batches lie on `device`."""

    def __init__(
        self,
        store: ShardStore,
        plan: Plan,
        targets: NDArray[np.float32],
        metadata: NDArray[np.float32],
        *,
        threads: int | None = None,
        device: str = "cpu",
    ) -> None:
        self.steps = plan.steps
        self._store = store
        self._plan = plan
        self._device = torch.device(device)
        self._tables = Tables(targets, metadata, self._device)

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """Yield the batches of `epoch` from `start_step` on."""
        for planned in self._plan.batches(epoch, start_step):
            image_BHW = np.stack([self._image(planned, i) for i in range(len(planned))])
            image_B1HW = torch.from_numpy(image_BHW)[:, None].to(self._device)
            yield self._tables.batch(image_B1HW, planned.rows)

    def close(self) -> None:
        """There is nothing to end."""

    def _image(self, planned: PlannedBatch, i: int) -> NDArray[np.uint8]:
        level_HW = self._store.image(int(planned.rows[i]), int(planned.level[i]))
        sigma_x, sigma_y = planned.sigma[i].tolist()
        out_HW = np.empty((self._plan.input_size,) * 2, dtype=np.uint8)
        sample(level_HW, opencv_matrix(planned.matrix[i]), (sigma_x, sigma_y), out_HW)
        return out_HW
