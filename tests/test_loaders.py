"""Both backends: the plan's batches, from every codec, whole, in order, and nothing left behind."""

from __future__ import annotations

import gc
import importlib.util
import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
import psutil
import pytest
import torch
from tiny_cohort import shards, table_of, write_prepared

from cxrkit import loaders
from cxrkit.base import registry
from cxrkit.base.contracts import LABELS, PIXEL_SCHEMA, RECORD_SCHEMA, Batch, Records
from cxrkit.base.errors import UserError
from cxrkit.loaders import opencv, targets
from cxrkit.loaders.plan import Augmentation, Plan
from cxrkit.shards import codecs
from cxrkit.shards.file import ShardSettings
from cxrkit.shards.store import ShardStore

LEVELS = (128, 64)
N = 21
has_dali = importlib.util.find_spec("nvidia") is not None and importlib.util.find_spec("nvidia.dali") is not None
needs_dali = pytest.mark.skipif(not has_dali, reason="NVIDIA DALI is not installed (the extras gpu and gpu-cuda12)")
BACKENDS = ["opencv", pytest.param("dali", marks=needs_dali)]
CODECS = ["raw", "jpeg", "png"]


def write_folder(folder: Path, codec: str, n: int = N, levels: tuple[int, ...] = LEVELS, *, seed: int = 0) -> Path:
    """Write a prepared folder of n smooth random images."""
    rng = np.random.default_rng(seed)
    images = [cv2.resize(rng.integers(0, 256, (9, 9), np.uint8), (levels[0],) * 2, interpolation=2) for _ in range(n)]
    encoded = [
        [
            bytes(codecs.encode(codec, cv2.resize(image, (level, level), interpolation=cv2.INTER_AREA)))
            for level in levels
        ]
        for image in images
    ]
    rows = [
        {"image_id": f"{i:08d}_000.png", "patient_id": str(i), "follow_up": 0, "age_years": 20 + i}
        | {"sex": "MF"[i % 2], "view": ["PA", "AP"][i % 3 == 0], "official": "train_val"}
        | {label: (i + k) % 5 == 0 for k, label in enumerate(LABELS)}
        for i in range(n)
    ]
    absent = pl.DataFrame({name: [None] * n for name in PIXEL_SCHEMA}, schema=PIXEL_SCHEMA)
    frame = pl.DataFrame(rows, schema=RECORD_SCHEMA).hstack(absent)
    settings = ShardSettings("test", codec, 95 if codec == "jpeg" else 0, levels, levels[0])
    write_prepared(folder, Records("test", frame, "unknown"), settings, encoded, per_shard=n)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {codec: write_folder(tmp_path_factory.mktemp(codec), codec) for codec in CODECS}


def make(backend: str, folder: Path, *, train: bool = True, batch_size: int = 4, **options: Any) -> Any:
    """Return a loader of the whole folder; options of Plan and of the backend."""
    of_plan = {key: options.pop(key) for key in list(options) if key in Plan.__dataclass_fields__}
    store = ShardStore(folder, check_crc=options.pop("check_crc", True))
    size = {"input_size": 56, "resize": 64, "image_size": 128} | of_plan
    rows = size.pop("rows", np.arange(len(store)))
    plan = Plan(rows, train, 3, batch_size, levels=store.levels, **size)
    meta = targets.metadata(store.index, (20, 40))
    return registry.load("loader", backend)(store, plan, targets.targets(store.index), meta, threads=2, **options)


def keep(batches: Iterator[Batch]) -> list[Batch]:
    return [Batch(b.image.clone(), b.target.clone(), b.meta.clone(), b.index.clone()) for b in batches]


def psnr(one: Any, other: Any) -> float:
    error = np.mean((np.asarray(one, dtype=np.float64) - np.asarray(other, dtype=np.float64)) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def same(one: list[Batch], other: list[Batch]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(getattr(a, name), getattr(b, name))
        for a, b in zip(one, other, strict=True)
        for name in ("image", "target", "meta", "index")
    )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("train", [True, False])
def test_a_batch_is_what_the_contract_says(backend: str, folders: dict[str, Path], train: bool) -> None:
    loader = make(backend, folders["jpeg"], train=train)
    batches = keep(loader.epoch(1))
    loader.close()
    assert loader.steps == len(batches) == 6
    assert [len(b.index) for b in batches] == [4, 4, 4, 4, 4, 1], "the last batch is short, not padded"
    index = torch.cat([b.index for b in batches])
    assert sorted(index.tolist()) == list(range(N))
    assert (index.tolist() == list(range(N))) is not train
    frame = ShardStore(folders["jpeg"]).index
    for batch in batches:
        n = len(batch.index)
        assert (batch.image.shape, batch.image.dtype) == ((n, 1, 56, 56), torch.uint8)
        assert (batch.target.shape, batch.target.dtype) == ((n, 15), torch.float32)
        assert (batch.meta.shape, batch.meta.dtype) == ((n, 3), torch.float32)
        assert batch.index.dtype == torch.int64
        assert torch.equal(batch.target, torch.from_numpy(targets.targets(frame))[batch.index])
        assert torch.equal(batch.meta, torch.from_numpy(targets.metadata(frame, (20, 40)))[batch.index])


@pytest.mark.parametrize("name", [pytest.param("dali", marks=needs_dali), "resident"])
def test_backends_agree_whatever_the_angle(folders: dict[str, Path], name: str) -> None:
    augmentation = Augmentation(angle_degrees=180, area=(0.3, 1))
    one, other = (make(kind, folders["raw"], augmentation=augmentation, device="cpu") for kind in ("opencv", name))
    for a, b in itertools.zip_longest(one.epoch(0), other.epoch(0)):
        assert min(psnr(i, j) for i, j in zip(a.image, b.image, strict=True)) >= 45
    one.close()
    other.close()


@pytest.mark.parametrize("backend", BACKENDS)
def test_codecs_agree(folders: dict[str, Path], backend: str) -> None:
    raw, png, jpeg = (keep(make(backend, folders[codec]).epoch(0)) for codec in ("raw", "png", "jpeg"))
    assert same(raw, png), "both are lossless"
    assert min(psnr(a.image, b.image) for a, b in zip(raw, jpeg, strict=True)) > 40


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("codec", "package"), [("htj2k", "imagecodecs"), ("zstd", "zstandard")])
def test_batches_of_a_lossless_codec_are_those_of_raw_levels(
    folders: dict[str, Path], tmp_path: Path, backend: str, codec: str, package: str
) -> None:
    pytest.importorskip(package)
    folder = write_folder(tmp_path, codec)
    assert same(keep(make(backend, folder).epoch(0)), keep(make(backend, folders["raw"]).epoch(0)))


@pytest.mark.parametrize("backend", BACKENDS)
def test_resuming_at_any_step_gives_the_same_batches(folders: dict[str, Path], backend: str) -> None:
    loader = make(backend, folders["raw"])
    whole = keep(loader.epoch(5))
    for start in range(loader.steps + 1):
        assert same(keep(loader.epoch(5, start)), whole[start:])
    fresh = make(backend, folders["raw"])
    assert same(keep(fresh.epoch(5, 2)), whole[2:])


@pytest.mark.parametrize("backend", BACKENDS)
def test_batch_size_threads_and_prefetch_change_nothing(folders: dict[str, Path], backend: str) -> None:
    one = keep(make(backend, folders["jpeg"], batch_size=3, prefetch=1).epoch(2))
    other = keep(make(backend, folders["jpeg"], batch_size=7, prefetch=4).epoch(2))
    for name in ("image", "index"):
        assert torch.equal(torch.cat([getattr(b, name) for b in one]), torch.cat([getattr(b, name) for b in other]))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_batch_stays_valid_until_the_next_is_asked_for(folders: dict[str, Path], backend: str) -> None:
    expected = keep(make(backend, folders["raw"]).epoch(0))
    for batch, first in zip(make(backend, folders["raw"]).epoch(0), expected, strict=True):
        time.sleep(0.02)  # the threads have long gone on to the next batches
        assert torch.equal(batch.image, first.image)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_empty_subset_has_no_batches(folders: dict[str, Path], backend: str) -> None:
    loader = make(backend, folders["raw"], train=False, rows=np.empty(0, dtype=np.int64))
    assert (loader.steps, list(loader.epoch(0))) == (0, [])


@pytest.mark.parametrize("backend", BACKENDS)
def test_leaving_early_and_closing_leave_no_threads(folders: dict[str, Path], backend: str) -> None:
    def ours() -> int:
        return sum(thread.name.startswith("cxrkit-") for thread in threading.enumerate())

    keep(make(backend, folders["jpeg"]).epoch(0))  # whatever a library starts once
    gc.collect()
    before = psutil.Process().num_threads()
    loader = make(backend, folders["jpeg"])
    for batch in loader.epoch(0):
        assert len(batch.index) == 4
        break
    assert ours() == 0
    unfinished = loader.epoch(0)
    next(unfinished)
    assert ours() > 0
    loader.close()
    loader.close()
    assert ours() == 0
    assert next(unfinished, None) is None
    gc.collect()
    assert psutil.Process().num_threads() <= before
    assert len(keep(loader.epoch(1))) == 6, "a closed loader opens again"


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_damaged_record_is_named_and_the_loader_survives(tmp_path: Path, backend: str) -> None:
    folder = write_folder(tmp_path, "jpeg")
    store = ShardStore(folder)
    row = 9
    table = pl.read_parquet(table_of(folder, "index"))
    path = folder / shards(folder)[0]
    data = bytearray(path.read_bytes())
    for level in LEVELS:
        data[table[f"offset_{level}"][row] + 150] ^= 0xFF
    path.write_bytes(bytes(data))
    loader = make(backend, folder, train=False, batch_size=3)
    seen: list[int] = []
    message = rf"{store.index['image_id'][row]} at level \d+ is damaged.*checksum"
    with pytest.raises(UserError, match=message) as caught:
        seen.extend(i for batch in loader.epoch(0) for i in batch.index.tolist())
    assert "cxrkit verify" in caught.value.remedy
    assert seen == list(range(len(seen))), "what came before is in order and undamaged"
    assert len(seen) <= row
    assert len(keep(loader.epoch(0, row // 3 + 1))) == loader.steps - row // 3 - 1
    loader.close()


@pytest.mark.parametrize("backend", BACKENDS)
def test_bytes_that_are_no_image_are_named(tmp_path: Path, backend: str) -> None:
    folder = write_folder(tmp_path, "jpeg")
    table = pl.read_parquet(table_of(folder, "index"))
    path = folder / shards(folder)[0]
    data = bytearray(path.read_bytes())
    for level in LEVELS:
        start = table[f"offset_{level}"][4]
        data[start : start + 64] = bytes(64)
    path.write_bytes(bytes(data))
    with pytest.raises(UserError, match=r"00000004_000.png at level \d+ is damaged: the jpeg bytes hold no image"):
        keep(make(backend, folder, check_crc=False).epoch(0))


@pytest.mark.parametrize("backend", BACKENDS)
def test_memory_stays_flat_over_many_epochs(folders: dict[str, Path], backend: str) -> None:
    loader = make(backend, folders["jpeg"], batch_size=8, input_size=112, resize=128)
    process = psutil.Process()
    for epoch in range(4):
        for _ in loader.epoch(epoch):
            pass
    gc.collect()
    before = process.memory_info().rss
    for epoch in range(4, 34):
        for _ in loader.epoch(epoch):
            pass
    gc.collect()
    # One epoch makes 0.26 MB of images: 30 kept ones would show.
    assert process.memory_info().rss - before < 4e6
    loader.close()


def test_sampling_at_whole_pixels_copies() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 40), np.uint8)
    out = np.empty((16, 16), np.uint8)
    matrix = opencv.opencv_matrix(np.array([[1.0, 0, 7], [0, 1, 3]]))
    opencv.sample(image, matrix, (0.05, 0.05), out)
    assert (out == image[3:19, 7:23]).all()
    opencv.sample(image, opencv.opencv_matrix(np.array([[-1.0, 0, 23], [0, 1, 3]])), (0.05, 0.05), out)
    assert (out == image[3:19, 22:6:-1]).all()


def test_halving_equals_the_mean_and_edges_repeat() -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8)
    out = np.empty((16, 16), np.uint8)
    opencv.sample(image, opencv.opencv_matrix(np.array([[2.0, 0, 0], [0, 2, 0]])), (0.05, 0.05), out)
    mean = image.reshape(16, 2, 16, 2).mean(axis=(1, 3))
    assert np.abs(out - mean).max() <= 1
    opencv.sample(image, opencv.opencv_matrix(np.array([[1.0, 0, -20], [0, 1, 0]])), (0.05, 0.05), out)
    assert (out == image[:16, :1]).all()


def test_flipping_mirrors_the_unflipped_batch(folders: dict[str, Path]) -> None:
    plain, mirrored = (
        keep(make("opencv", folders["raw"], augmentation=Augmentation(flip=flip, angle_degrees=0)).epoch(0))
        for flip in (0.0, 1.0)
    )
    for a, b in zip(plain, mirrored, strict=True):
        assert (a.image.int() - b.image.flip(3).int()).abs().max() <= 1


def test_auto_is_opencv_without_a_gpu_and_a_given_name_is_taken() -> None:
    assert loaders.choose("auto", "cpu") == "opencv"
    assert loaders.choose("dali", "cpu") == "dali"
    assert loaders.choose("my.module:Loader", "cuda") == "my.module:Loader"
