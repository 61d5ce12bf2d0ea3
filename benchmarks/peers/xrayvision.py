"""torchxrayvision's NIH_Dataset on the PNGs, with the augmentation that its training script uses."""

from __future__ import annotations

from typing import Any

import torchvision
import torchxrayvision
from torchvision.transforms import InterpolationMode

from benchmarks.peers.torchvision_files import epochs
from benchmarks.stopwatch import Pass


class _Pairs:
    """(image, label) of its dictionaries."""

    def __init__(self, dataset: Any, limit: int | None) -> None:
        self.dataset = dataset
        self.length = min(len(dataset), limit or len(dataset))

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        item = self.dataset[index]
        return item["img"], item["lab"]


def load(images: str, table: str, size: int, batch: int, workers: int, limit: int | None = None) -> Pass:
    """Return a pass over one epoch: its centre crop and resize, then rotation, crop and flip; float32, not uint8."""
    resize = torchvision.transforms.Compose(
        [torchxrayvision.datasets.XRayCenterCrop(), torchxrayvision.datasets.XRayResizer(512, engine="cv2")]
    )
    augment = torchvision.transforms.Compose(
        [
            torchxrayvision.datasets.ToPILImage(),
            torchvision.transforms.RandomResizedCrop(size, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3)),
            torchvision.transforms.RandomRotation(7, interpolation=InterpolationMode.BILINEAR),
            torchvision.transforms.RandomHorizontalFlip(),
            torchvision.transforms.ToTensor(),
        ]
    )
    dataset = torchxrayvision.datasets.NIH_Dataset(
        imgpath=images, csvpath=table, views=["PA", "AP"], unique_patients=False, transform=resize, data_aug=augment
    )
    return epochs(_Pairs(dataset, limit), batch, workers)
