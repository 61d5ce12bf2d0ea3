"""FFCV 1.0.2: its own file of 512-pixel RGB images (it has no gray ones), decoded and cropped in compiled threads."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from ffcv.fields import NDArrayField, RGBImageField
from ffcv.fields.decoders import NDArrayDecoder, RandomResizedCropRGBImageDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.transforms import RandomHorizontalFlip, ToTensor, ToTorchImage
from ffcv.writer import DatasetWriter

from benchmarks.stopwatch import Pass

SIDE = 512


class _Pngs:
    """(512-pixel RGB image, labels) of each PNG, the way FFCV's writer wants them."""

    def __init__(self, folder: str, labels: str) -> None:
        self.paths = [str(path) for path in sorted(Path(folder).iterdir())]
        self.labels = np.load(labels)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        gray = cv2.imread(self.paths[index], cv2.IMREAD_GRAYSCALE)
        assert gray is not None, f"{self.paths[index]} is not an image"
        small = cv2.resize(gray, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        return cv2.cvtColor(small, cv2.COLOR_GRAY2RGB), self.labels[index]


def write(folder: str, labels: str, out: str, mode: str, workers: int, quality: int = 95) -> Pass:
    """Return a pass that writes FFCV's file. mode: "jpg" or "raw"."""
    dataset = _Pngs(folder, labels)
    fields = {
        "image": RGBImageField(write_mode=mode, jpeg_quality=quality),
        "label": NDArrayField(np.dtype(np.float32), (15,)),
    }

    def one_pass() -> Mapping[str, float]:
        cv2.setNumThreads(1)
        with tempfile.TemporaryDirectory(
            dir=Path(out).parent
        ) as folder:  # an unfinished file must not be taken for one
            part = Path(folder) / "part.beton"
            DatasetWriter(str(part), fields, num_workers=workers).from_indexed_dataset(dataset)
            size = part.stat().st_size / len(dataset)
            part.replace(out)
        return {"images": len(dataset), "bytes": size}

    return one_pass


def load(file: str, size: int, batch: int, workers: int) -> Pass:
    """Return a pass over one epoch: random crop and flip, no rotation, which FFCV does not have."""
    crop = RandomResizedCropRGBImageDecoder((size, size), scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3))
    pipelines: dict[str, list[Any]] = {
        "image": [crop, RandomHorizontalFlip(), ToTensor(), ToTorchImage()],
        "label": [NDArrayDecoder(), ToTensor()],
    }
    loader = Loader(file, batch, num_workers=workers, order=OrderOption.RANDOM, os_cache=True, pipelines=pipelines)

    def one_pass() -> Mapping[str, float]:
        return {"images": sum(len(images) for images, _ in loader)}

    return one_pass
