"""How close the loaders' pixels are to careful resampling of the original images. Real images; run with -s to see.

The reference is torchvision's antialiased resize of the 1024-pixel original: `resized_crop` where the crop is not
turned; where it is, the same antialiasing of a warp of the original that is sampled 4 to 8 times finer along each
axis. Pixels that a turned crop reads beyond the border of the image are left out: nothing is known about them (the
loaders repeat the edge of the level, which is a mean over 1 to 4 original pixels).

CXRKIT_FIDELITY_ROUNDS=4 measures four random crops of every image instead of one of every fifth.
"""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional

from cxrkit.base import registry
from cxrkit.datasets.nih.chestxray14 import read
from cxrkit.loaders import targets
from cxrkit.loaders.geometry import Augmentation, Crops, matrices
from cxrkit.loaders.opencv import opencv_matrix, sample
from cxrkit.loaders.plan import Plan, default_resize
from cxrkit.prepare.stage import PrepareConfig, prepare
from cxrkit.shards.store import ShardStore

ROUNDS = int(os.environ.get("CXRKIT_FIDELITY_ROUNDS", "0"))
MEAN_DB, WORST_DB, BACKENDS_DB = 47, 38, 45


@pytest.fixture(scope="module")
def store(nih_raw: Path, tmp_path_factory: pytest.TempPathFactory) -> ShardStore:
    """Return the sample prepared with the defaults: JPEG quality 95 at 1024, 512 and 256 pixels."""
    data = tmp_path_factory.mktemp("fidelity") / "shards"
    limit = None if ROUNDS else 48
    records = read(nih_raw, allow_missing=True)
    prepare(PrepareConfig(raw=nih_raw, data=data, allow_missing=True, workers=1, limit=limit), records)
    return ShardStore(data)


def make_plan(store: ShardStore, size: int, *, train: bool = True, angle_degrees: float = 7.0) -> Plan:
    augmentation = Augmentation(angle_degrees=angle_degrees)
    return Plan(
        np.arange(len(store)), train, 1, 16, size, default_resize(size), store.levels, 1024, augmentation=augmentation
    )


def images_of(store: ShardStore, plan: Plan, backend: str, epoch: int) -> dict[int, np.ndarray]:
    """Return row -> (H, W) uint8, as the loader delivers it."""
    index = store.index
    loader = registry.load("loader", backend)(
        store, plan, targets.targets(index), targets.metadata(index, (0, 99)), threads=2
    )
    found = {}
    for batch in loader.epoch(epoch):
        found |= dict(zip(batch.index.tolist(), batch.image[:, 0].numpy().copy(), strict=True))
    loader.close()
    return found


def original(nih_raw: Path, image_id: str) -> np.ndarray:
    image = cv2.imread(str(nih_raw / "images" / image_id), cv2.IMREAD_GRAYSCALE)
    assert image is not None
    return image


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(np.mean((one.astype(np.float64) - other) ** 2), 1e-9)))


def antialiased_crop(image: np.ndarray, box: np.ndarray, flip: bool, size: int) -> np.ndarray:
    left, top, width, height = (int(value) for value in box)
    crop = functional.resized_crop(
        torch.from_numpy(image)[None], top, left, height, width, [size, size], antialias=True
    )
    return crop[0].numpy()[:, ::-1] if flip else crop[0].numpy()


def antialiased_warp(image: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    finer = 8 if size < 448 else 4
    fine = np.empty((size * finer, size * finer), np.uint8)
    sample(image, opencv_matrix(matrix * [[1 / finer, 1 / finer, 1]]), (0.05, 0.05), fine)
    return functional.resize(torch.from_numpy(fine)[None], [size, size], antialias=True)[0].numpy()


def inside(matrix: np.ndarray, size: int, margin: float) -> np.ndarray:
    """Return (size, size) bool: the output pixels that lie in the image, `margin` pixels away from its border."""
    centre = np.arange(size) + 0.5
    points = np.stack(np.broadcast_arrays(centre[None, :], centre[:, None], 1.0))
    x, y = np.einsum("ij,jhw->ihw", matrix, points)
    return (np.minimum(x, y) > margin) & (np.maximum(x, y) < 1024 - margin)


def report(what: str, values: list[float]) -> None:
    print(
        f"\n{what}: PSNR mean {np.mean(values):.2f} dB, 1st percentile {np.percentile(values, 1):.2f}, "
        f"worst {min(values):.2f} ({len(values)} crops)"
    )


@pytest.mark.parametrize("size", [224, 448])
@pytest.mark.parametrize("angle_degrees", [0.0, 7.0])
def test_random_crops_are_close_to_the_antialiased_original(
    nih_raw: Path, store: ShardStore, size: int, angle_degrees: float
) -> None:
    plan = make_plan(store, size, angle_degrees=angle_degrees)
    values = []
    for epoch in range(max(ROUNDS, 1)):
        for row, found in images_of(store, plan, "opencv", epoch).items():
            crops = plan.crops(epoch, np.array([row]))
            image = original(nih_raw, store.index["image_id"][row])
            if angle_degrees == 0:
                values.append(psnr(found, antialiased_crop(image, crops.box[0], bool(crops.flip[0]), size)))
            else:
                (matrix,) = matrices(crops, np.ones(1), size)
                known = inside(matrix, size, 4)
                values.append(psnr(found[known], antialiased_warp(image, matrix, size)[known]))
    report(f"random crops to {size}, angle up to {angle_degrees:g}", values)
    assert np.mean(values) >= MEAN_DB
    assert min(values) >= WORST_DB


@pytest.mark.parametrize("size", [224, 448])
def test_the_centre_crop_is_close_to_resize_then_crop(nih_raw: Path, store: ShardStore, size: int) -> None:
    plan = make_plan(store, size, train=False)
    values = []
    for row, found in images_of(store, plan, "opencv", 0).items():
        image = torch.from_numpy(original(nih_raw, store.index["image_id"][row]))[None]
        scaled = functional.resize(image, [plan.resize, plan.resize], antialias=True)
        values.append(psnr(found, functional.center_crop(scaled, [size, size])[0].numpy()))
    report(f"centre crop to {size}", values)
    assert np.mean(values) >= MEAN_DB
    assert min(values) >= WORST_DB


@pytest.mark.parametrize("size", [224, 448])
def test_backends_make_the_same_pixels(store: ShardStore, size: int) -> None:
    pytest.importorskip("nvidia.dali", reason="NVIDIA DALI is not installed")
    plan = make_plan(store, size)
    one, other = (images_of(store, plan, backend, 0) for backend in ("opencv", "dali"))
    values = [psnr(one[row], other[row]) for row in one]
    report(f"OpenCV against DALI to {size}", values)
    assert min(values) >= BACKENDS_DB


def test_a_mirrored_or_shifted_batch_would_be_noticed(nih_raw: Path, store: ShardStore) -> None:
    """The bounds above can fail: half a pixel off is already far below them."""
    image = original(nih_raw, store.index["image_id"][0])
    crops = Crops(np.array([[100.0, 100, 800, 800]]), np.array([0.05]), np.array([False]))
    (matrix,) = matrices(crops, np.ones(1), 224)
    good = antialiased_warp(image, matrix, 224)
    shifted = antialiased_warp(image, matrix + np.array([[0, 0, 2.0], [0, 0, 0]]), 224)
    assert psnr(good, shifted) < WORST_DB
