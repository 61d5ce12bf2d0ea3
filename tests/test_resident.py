"""The resident loader: OpenCV's pixels, whatever part of them is kept on the device. All on the CPU but the last."""

from __future__ import annotations

import gc
import io
import itertools
import os
import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
import pytest
import torch
from rich.console import Console
from test_loaders import CODECS, N, keep, psnr, same, write_folder
from tiny_cohort import shards, table_of

from cxrkit.base.errors import UserError
from cxrkit.loaders import targets
from cxrkit.loaders.gather import gather, taps
from cxrkit.loaders.opencv import OpenCVLoader, opencv_matrix, sample
from cxrkit.loaders.plan import Augmentation, Plan, default_resize
from cxrkit.loaders.resident import ResidentLoader, level_shares, what_fits
from cxrkit.shards.store import ShardStore

SIDES = np.array([128, 64])
EVERYTHING = int((SIDES**2).sum()) * N
ROOM = 4 * 128**2  # what one batch of `make` may miss
SAME_DB = 45


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {codec: write_folder(tmp_path_factory.mktemp(codec), codec) for codec in CODECS}


def make(folder: Path, *, train: bool = True, kind: Any = ResidentLoader, **options: Any) -> Any:
    """Return a loader of the whole folder on the CPU; options of Plan and of the loader."""
    of_plan = {key: options.pop(key) for key in list(options) if key in Plan.__dataclass_fields__}
    store = ShardStore(folder, check_crc=options.pop("check_crc", True))
    given = {"rows": np.arange(len(store)), "input_size": 56, "resize": 64, "image_size": 128, "batch_size": 4}
    plan = Plan(train=train, seed=3, levels=store.levels, **(given | of_plan))
    meta = targets.metadata(store.index, (20, 40))
    return kind(store, plan, targets.targets(store.index), meta, **({"threads": 2, "device": "cpu"} | options))


def agreement(one: Any, other: Any, epochs: int) -> list[float]:
    """Return the PSNR of every image between two loaders that must agree in all else."""
    values = []
    for epoch in range(epochs):
        for a, b in itertools.zip_longest(one.epoch(epoch), other.epoch(epoch)):
            assert torch.equal(a.index, b.index)
            assert torch.equal(a.target, b.target)
            assert torch.equal(a.meta, b.meta)
            assert a.image.shape == b.image.shape
            values += [psnr(i, j) for i, j in zip(a.image, b.image, strict=True)]
    one.close()
    other.close()
    return values


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("train", [True, False])
def test_the_pixels_are_opencvs(folders: dict[str, Path], codec: str, train: bool) -> None:
    resident, opencv = (make(folders[codec], train=train, kind=kind) for kind in (ResidentLoader, OpenCVLoader))
    values = agreement(resident, opencv, 3)
    print(f"\n{codec}, train {train}: PSNR mean {np.mean(values):.1f} dB, worst {min(values):.1f}")
    assert len(values) == 3 * N
    assert min(values) >= SAME_DB


def test_both_levels_were_sampled_above(folders: dict[str, Path]) -> None:
    plan = make(folders["raw"])._plan
    assert {level for planned in plan.batches(0) for level in planned.level.tolist()} == {0, 1}


@pytest.mark.parametrize("train", [True, False])
def test_a_batch_is_what_the_contract_says(folders: dict[str, Path], train: bool) -> None:
    loader = make(folders["jpeg"], train=train)
    batches = keep(loader.epoch(1))
    assert loader.steps == len(batches) == 6
    assert [len(batch.index) for batch in batches] == [4, 4, 4, 4, 4, 1], "the last batch is short, not padded"
    assert sorted(torch.cat([batch.index for batch in batches]).tolist()) == list(range(N))
    for batch in batches:
        assert (batch.image.shape, batch.image.dtype) == ((len(batch.index), 1, 56, 56), torch.uint8)
        assert batch.image.is_contiguous()
        assert not batch.image.is_inference()


def test_resuming_epochs_and_batch_sizes_change_nothing(folders: dict[str, Path]) -> None:
    loader = make(folders["raw"])
    whole = keep(loader.epoch(5))
    for start in range(loader.steps + 1):
        assert same(keep(loader.epoch(5, start)), whole[start:])
    assert not same(keep(loader.epoch(6)), whole)
    assert same(keep(make(folders["raw"]).epoch(5, 2)), whole[2:])
    larger = keep(make(folders["raw"], batch_size=7, prefetch=4).epoch(5))
    assert torch.equal(torch.cat([b.image for b in larger]), torch.cat([b.image for b in whole]))


@pytest.mark.parametrize("codec", ["raw", "jpeg"])
@pytest.mark.parametrize("kept_bytes", [0, 64**2 * 5, 64**2 * N, 64**2 * N + 128**2 * 7, EVERYTHING])
def test_what_does_not_fit_is_read_and_looks_the_same(folders: dict[str, Path], codec: str, kept_bytes: int) -> None:
    whole = keep(make(folders[codec]).epoch(0))
    part = make(folders[codec], memory_bytes=kept_bytes + ROOM)
    assert same(keep(part.epoch(0)), whole)
    assert part._kept.pixels.numel() == kept_bytes + ROOM


def test_evaluation_keeps_one_level_or_a_part_of_it(folders: dict[str, Path]) -> None:
    whole = make(folders["raw"], train=False)
    assert whole._kept.count == [0, N]
    assert whole._kept.pixels.numel() == N * 64**2, "and no room for what is missing"
    part = make(folders["raw"], train=False, memory_bytes=10 * 64**2)
    assert part._kept.count == [0, 6]
    assert "level 64 of 29% of the images" in part.summary
    assert "71.4% of the crops are read" in part.summary
    assert same(keep(part.epoch(0)), keep(whole.epoch(0)))
    half = make(folders["raw"], train=False, rank=1, world_size=2)
    assert half._kept.count == [0, N // 2], "a rank keeps its own images"
    assert torch.cat([b.index for b in half.epoch(0)]).tolist() == list(range(1, N, 2))


def test_an_empty_subset_has_no_batches(folders: dict[str, Path]) -> None:
    loader = make(folders["raw"], train=False, rows=np.empty(0, dtype=np.int64))
    assert (loader.steps, list(loader.epoch(0))) == (0, [])


def test_too_little_memory_says_how_much_is_needed(folders: dict[str, Path]) -> None:
    message = r"--cache gpu: a batch of 4 images takes up to 0.07 MB, and all that is sampled 0.43 MB, but only 0.05 MB"
    with pytest.raises(UserError, match=message) as caught:
        make(folders["raw"], memory_bytes=50_000)
    assert "--cache none" in caught.value.remedy


def test_the_levels_that_serve_most_crops_per_byte_are_kept_first() -> None:
    levels, at_224, at_448 = (1024, 512, 256), np.array([0.075, 0.527, 0.399]), np.array([0.6, 0.4, 0.0])
    images = 78_484
    assert what_fits(at_224, levels, images, 119_000_000_000) == [images] * 3
    assert what_fits(at_224, levels, images, 30_000_000_000) == [4_083, images, images]
    assert what_fits(at_224, levels, images, 6_000_000_000) == [0, 3_267, images]
    assert what_fits(at_448, levels, images, 119_000_000_000) == [images, images, 0]
    assert what_fits(at_448, levels, images, 80_000_000_000) == [56_672, images, 0]
    assert what_fits(np.array([0.0, 0.1, 0.9]), levels, 10, 0) == [0, 0, 0]


@pytest.mark.parametrize(
    ("input_size", "train", "expected"),
    [
        (224, True, (0.075, 0.527, 0.399)),
        (448, True, (0.601, 0.399, 0)),
        (224, False, (0, 0, 1)),
        (448, False, (0, 1, 0)),
    ],
)
def test_how_often_each_level_is_sampled(input_size: int, train: bool, expected: tuple[float, ...]) -> None:
    plan = Plan(np.arange(5000), train, 0, 16, input_size, default_resize(input_size), (1024, 512, 256), 1024)
    share = level_shares(plan)
    assert share.sum() == pytest.approx(1)
    assert share == pytest.approx(expected, abs=0.03 if train else 0)  # 4 standard errors of 4,096 draws


def test_closing_frees_the_pixels_and_an_epoch_brings_them_back(folders: dict[str, Path]) -> None:
    def ours() -> int:
        return sum(thread.name.startswith("cxrkit-") for thread in threading.enumerate())

    loader = make(folders["jpeg"], memory_bytes=ROOM)  # nothing kept: the threads have work
    unfinished = loader.epoch(0)
    first = next(unfinished).image.clone()
    assert ours() > 0
    loader.close()
    loader.close()
    assert ours() == 0
    assert next(unfinished, None) is None
    assert (loader._kept, loader.summary) == (None, "")
    with torch.inference_mode():
        again = next(loader.epoch(0)).image
    assert torch.equal(again, first)
    assert not again.is_inference()
    gc.collect()
    assert ours() == 0, "leaving an epoch early stops its threads"


@pytest.mark.parametrize("kept", [True, False])
def test_a_damaged_record_is_named(tmp_path: Path, kept: bool) -> None:
    folder = write_folder(tmp_path, "jpeg")
    table = pl.read_parquet(table_of(folder, "index"))
    path = folder / shards(folder)[0]
    data = bytearray(path.read_bytes())
    data[table["offset_64"][9] + 150] ^= 0xFF
    path.write_bytes(bytes(data))
    message = r"00000009_000.png at level 64 is damaged.*checksum"
    if kept:
        with pytest.raises(UserError, match=message):
            make(folder, train=False)
        return
    loader = make(folder, train=False, memory_bytes=4 * 64**2)
    seen: list[int] = []
    with pytest.raises(UserError, match=message):
        seen.extend(i for batch in loader.epoch(0) for i in batch.index.tolist())
    assert seen == list(range(8)), "what came before is in order"
    assert len(keep(loader.epoch(0, 3))) == 3, "the loader survives"


def test_a_failed_upload_is_not_sampled_later(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    loader = make(folders["raw"])
    whole = keep(loader.epoch(0))
    loader.close()

    def fail(row: int, level: int) -> np.ndarray:
        raise UserError("the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(loader._store, "image", fail)
        with pytest.raises(UserError, match="the disk is gone"):
            next(loader.epoch(0))
    assert same(keep(loader.epoch(0)), whole)


def test_the_console_hears_what_is_kept(folders: dict[str, Path]) -> None:
    text = io.StringIO()
    make(folders["raw"], memory_bytes=EVERYTHING + ROOM, console=Console(file=text, width=200))
    assert text.getvalue() == (
        "cpu keeps level 128 of 100% of the images, level 64 of 100% of the images (0.43 MB of 0.50 MB); "
        "0.0% of the crops are read from the prepared folder\n"
    )


def window(image_HW: np.ndarray, matrix: np.ndarray, sigma: tuple[float, float], size: int, start: int = 0) -> Any:
    """Return (size, size) uint8, sampled by the kernel from `image_HW` that begins at byte `start`."""
    pixels = torch.empty(start + image_HW.size, dtype=torch.uint8)
    pixels[start:] = torch.from_numpy(image_HW.ravel())
    height, width = image_HW.shape
    warp = np.concatenate([matrix.ravel(), taps(np.array(sigma))]).astype(np.float32)
    place = torch.tensor([[start, width, width, height]])
    return gather(pixels, place, torch.from_numpy(warp)[None], size)[0, 0].numpy()


def test_whole_pixels_are_copied_and_mirrored() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 40), np.uint8)
    matrix = np.array([[1.0, 0, 7], [0, 1, 3]])
    assert (window(image, matrix, (0.05, 0.05), 16) == image[3:19, 7:23]).all()
    assert (window(image, matrix * [[-1, 1, 1], [1, 1, 1]] + [[0, 0, 16], [0, 0, 0]], (0.05, 0.05), 16)
            == image[3:19, 22:6:-1]).all()  # fmt: skip


def test_halving_rounds_half_to_even() -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8)
    mean = image.reshape(16, 2, 16, 2).mean(axis=(1, 3))
    assert (window(image, np.array([[2.0, 0, 0], [0, 2, 0]]), (0.05, 0.05), 16) == np.rint(mean)).all()


@pytest.mark.parametrize("seed", range(8))
def test_noise_under_any_map_is_sampled_as_by_opencv(seed: int) -> None:
    """White noise, to beyond the edges: nothing hides a tap or a border rule that differs."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (50, 70), np.uint8)
    angle, (scale_x, scale_y) = rng.uniform(-0.3, 0.3), rng.uniform(0.8, 2, 2) * rng.choice([-1, 1], 2)
    matrix = np.array([[np.cos(angle) * scale_x, -np.sin(angle) * scale_y, 0]])
    matrix = np.concatenate([matrix, [[np.sin(angle) * scale_x, np.cos(angle) * scale_y, 0]]])
    matrix[:, 2] = rng.uniform(20, 40, 2) - matrix[:, :2].sum(axis=1) * 24
    sigma = tuple(np.where(rng.random(2) < 0.3, 0.05, rng.uniform(0.4, 0.85, 2)))
    expected = np.empty((48, 48), np.uint8)
    sample(image, opencv_matrix(matrix), sigma, expected)
    found = window(image, matrix, sigma, 48)
    # OpenCV rounds the blurred image, and the blur's weights, to 8 bits.
    assert np.abs(found.astype(int) - expected).max() <= 2
    assert psnr(found, expected) > 50
    reference = cv2.warpAffine(image, opencv_matrix(matrix), (48, 48), flags=cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR)
    if max(sigma) > 0.05:
        assert psnr(found, reference) < 40, "without the blur it would not be"


def test_pixels_beyond_two_gigabytes_are_found() -> None:
    image = np.random.default_rng(0).integers(0, 256, (16, 16), np.uint8)
    found = window(image, np.array([[1.0, 0, 0], [0, 1, 0]]), (0.05, 0.05), 16, start=2**31 + 12_345)
    assert (found == image).all()


@pytest.mark.parametrize("size", [224, 448])
def test_real_images_are_sampled_as_by_opencv(nih_raw: Path, tmp_path: Path, size: int) -> None:
    from cxrkit.datasets.nih.chestxray14 import read
    from cxrkit.prepare.stage import PrepareConfig, prepare

    records = read(nih_raw, allow_missing=True)
    limit = int(os.environ.get("CXRKIT_RESIDENT_IMAGES", "8"))
    prepare(PrepareConfig(raw=nih_raw, data=tmp_path / "s", allow_missing=True, workers=1, limit=limit), records)
    for train in (True, False):
        given = {"input_size": size, "resize": default_resize(size), "image_size": 1024, "train": train}
        one, other = (make(tmp_path / "s", kind=kind, **given) for kind in (ResidentLoader, OpenCVLoader))
        values = agreement(one, other, 3 if train else 1)
        print(f"\nreal images to {size}, train {train}: PSNR mean {np.mean(values):.1f} dB, worst {min(values):.1f}")
        assert min(values) >= SAME_DB


@pytest.mark.cuda
@pytest.mark.parametrize("compile", [False, True])
def test_a_gpu_makes_the_same_batches(folders: dict[str, Path], compile: bool) -> None:
    options: dict[str, Any] = {"augmentation": Augmentation(angle_degrees=20)}
    for memory_bytes in (ROOM, EVERYTHING + ROOM):
        gpu = make(folders["raw"], device="cuda", compile=compile, memory_bytes=memory_bytes, **options)
        cpu = keep(make(folders["raw"], **options).epoch(0))
        for found, expected in zip(gpu.epoch(0), cpu, strict=True):
            assert found.image.device.type == found.target.device.type == "cuda"
            assert torch.equal(found.index.cpu(), expected.index)
            assert (found.image.cpu().int() - expected.image.int()).abs().max() <= 1
        gpu.close()
