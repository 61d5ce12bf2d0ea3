"""LitData: JPEGs packed into its chunks, decoded by torchvision and cropped as v2 tensors in its loader's workers."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from litdata import StreamingDataLoader, StreamingDataset, optimize
from torchvision.io import ImageReadMode, decode_jpeg

from benchmarks.peers.opencv_crops import paths_of
from benchmarks.peers.torchvision_tensors import transform
from benchmarks.stopwatch import Pass


def _sample(item: tuple[str, Any]) -> dict[str, Any]:
    path, label = item
    return {"image": Path(path).read_bytes(), "label": label}


def write(folder: str, labels: str, out: str, workers: int) -> Pass:
    """Return a pass that packs a folder of JPEGs and their labels."""
    items = list(zip(paths_of(folder), np.load(labels), strict=True))

    def one_pass() -> Mapping[str, float]:
        part = Path(out + ".part")
        shutil.rmtree(part, ignore_errors=True)
        optimize(_sample, items, output_dir=str(part), chunk_bytes="16MB", num_workers=workers, verbose=False)
        part.rename(out)
        return {"images": len(items)}

    return one_pass


class _Crops(StreamingDataset):  # type: ignore[misc]
    """Its samples, decoded and augmented."""

    def __init__(self, folder: str, augment: Any) -> None:
        super().__init__(folder, shuffle=True, max_cache_size="10GB")
        self.augment = augment

    def __getitem__(self, index: Any) -> tuple[torch.Tensor, torch.Tensor]:
        sample = super().__getitem__(index)
        encoded = torch.frombuffer(bytearray(sample["image"]), dtype=torch.uint8)
        image_CHW = decode_jpeg(encoded, mode=ImageReadMode.GRAY)
        return self.augment(image_CHW), torch.from_numpy(sample["label"])


def load(folder: str, size: int, batch: int, workers: int) -> Pass:
    """Return a pass over one epoch."""
    dataset = _Crops(folder, transform(size))
    open_loader = partial(StreamingDataLoader, persistent_workers=workers > 0)
    loader: Any = open_loader(dataset, batch_size=batch, num_workers=workers, shuffle=True)

    def one_pass() -> Mapping[str, float]:
        return {"images": sum(len(images) for images, _ in loader)}

    return one_pass
