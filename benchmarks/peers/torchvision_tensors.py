"""torchvision without Pillow: `decode_jpeg` and v2 on uint8 tensors, in a torch DataLoader."""

from __future__ import annotations

import numpy as np
import torch
from torch.utils.data import Dataset
from torchvision.io import ImageReadMode, decode_jpeg, read_file
from torchvision.transforms import v2

from benchmarks.peers.opencv_crops import paths_of
from benchmarks.peers.torchvision_files import epochs
from benchmarks.stopwatch import Pass


def transform(size: int) -> v2.Compose:
    """Return crop and flip; no rotation, which costs more on tensors than everything else together."""
    crop = v2.RandomResizedCrop(size, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3), antialias=True)
    return v2.Compose([crop, v2.RandomHorizontalFlip()])


class Files(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Gray tensors decoded from JPEG files."""

    def __init__(self, folder: str, labels: str, size: int, limit: int | None) -> None:
        self.paths = paths_of(folder, limit)
        self.labels = torch.from_numpy(np.load(labels))
        self.transform = transform(size)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        image_CHW = decode_jpeg(read_file(self.paths[index]), mode=ImageReadMode.GRAY)
        return self.transform(image_CHW), self.labels[index]


def load(folder: str, labels: str, size: int, batch: int, workers: int, limit: int | None = None) -> Pass:
    """Return a pass over one epoch."""
    return epochs(Files(folder, labels, size, limit), batch, workers)
