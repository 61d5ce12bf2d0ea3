"""torchvision's transforms (v2) in a torch DataLoader, on image files: what most people write first."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import InterpolationMode, v2

from benchmarks.stopwatch import Pass


def transform(size: int) -> v2.Compose:
    """Return crop, rotation (after the crop, where it is cheapest) and flip of Pillow images, then a uint8 tensor.

    On Pillow images, because that is faster than on tensors: 1.8 against 2.4 ms a 512-pixel JPEG to 224.
    """
    return v2.Compose(
        [
            v2.RandomResizedCrop(size, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3), antialias=True),
            v2.RandomRotation(7, interpolation=InterpolationMode.BILINEAR),
            v2.RandomHorizontalFlip(),
            v2.PILToTensor(),
        ]
    )


class Files(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Gray images decoded from files."""

    def __init__(self, folder: str, labels: str, size: int, limit: int | None) -> None:
        self.paths = [str(path) for path in sorted(Path(folder).iterdir())[:limit]]
        self.labels = torch.from_numpy(np.load(labels))
        self.transform = transform(size)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        with Image.open(self.paths[index]) as image:
            return self.transform(image.convert("L")), self.labels[index]


def load(folder: str, labels: str, size: int, batch: int, workers: int, limit: int | None = None) -> Pass:
    """Return a pass over one epoch."""
    return epochs(Files(folder, labels, size, limit), batch, workers)


def epochs(dataset: Any, batch: int | None, workers: int, shuffle: bool = True) -> Pass:
    """Return a pass over `dataset` of (image, label) pairs in a DataLoader whose workers stay."""
    loader = DataLoader(dataset, batch, shuffle=shuffle or None, num_workers=workers, persistent_workers=workers > 0)

    def one_pass() -> Mapping[str, float]:
        return {"images": sum(len(images) for images, _ in loader)}

    return one_pass
