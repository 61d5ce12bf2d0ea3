"""MONAI's CacheDataset: decoded 512-pixel images kept in memory, then its random transforms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from monai.data import CacheDataset
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    LoadImaged,
    RandFlipd,
    RandRotated,
    RandSpatialCropd,
    Resized,
)

from benchmarks.peers.torchvision_files import epochs
from benchmarks.stopwatch import Pass


class _Pairs:
    """(image, label) of MONAI's dictionaries."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        item = self.dataset[index]
        return item["image"].as_tensor(), item["label"]


def load(folder: str, labels: str, size: int, batch: int, workers: int, limit: int | None = None) -> Pass:
    """Return a pass over one epoch. The cache is filled before, and not counted."""
    target = np.load(labels)
    items = [{"image": str(path), "label": target[i]} for i, path in enumerate(sorted(Path(folder).iterdir())[:limit])]
    steps = [
        LoadImaged("image", reader="PILReader"),
        EnsureChannelFirstd("image"),
        RandSpatialCropd("image", roi_size=[145, 145], max_roi_size=[512, 512], random_size=True),
        Resized("image", (size, size), mode="bilinear"),
        RandRotated("image", range_x=np.deg2rad(7), prob=1.0, mode="bilinear", padding_mode="border"),
        RandFlipd("image", prob=0.5, spatial_axis=0),
    ]
    dataset = CacheDataset(items, Compose(steps), num_workers=workers, progress=False)
    return epochs(_Pairs(dataset), batch, workers)
