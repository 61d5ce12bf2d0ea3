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
from cxrkit.shards import codecs, tiles
from cxrkit.shards.file import ShardSettings
from cxrkit.shards.store import ShardStore

LEVELS = (128, 64)
N = 21
has_dali = importlib.util.find_spec("nvidia") is not None and importlib.util.find_spec("nvidia.dali") is not None
needs_dali = pytest.mark.skipif(not has_dali, reason="NVIDIA DALI is not installed (the extras gpu and gpu-cuda12)")
BACKENDS = ["opencv", pytest.param("dali", marks=needs_dali)]
CODECS = ["raw", "jpeg", "png"]


def write_folder(
    folder: Path, codec: str, n: int = N, levels: tuple[int, ...] = LEVELS, *, seed: int = 0, restart: int = 0
) -> Path:
    """Write a prepared folder of n smooth random images."""
    rng = np.random.default_rng(seed)
    images = [cv2.resize(rng.integers(0, 256, (9, 9), np.uint8), (levels[0],) * 2, interpolation=2) for _ in range(n)]
    encoded = [
        [
            bytes(codecs.encode(codec, cv2.resize(image, (level, level), interpolation=cv2.INTER_AREA), 95, restart))
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
    settings = ShardSettings("test", codec, 95 if codec == "jpeg" else 0, levels, levels[0], restart)
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
    options = {"threads": 2} | options
    return registry.load("loader", backend)(store, plan, targets.targets(store.index), meta, **options)


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


@pytest.fixture(scope="module")
def with_and_without_tiles(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two folders of the same images, in levels of which most crops need a part."""
    folders = [tmp_path_factory.mktemp(f"tiles{restart}") for restart in (tiles.RESTART, 0)]
    for folder, restart in zip(folders, (tiles.RESTART, 0), strict=True):
        write_folder(folder, "jpeg", levels=(512, 256), restart=restart)
    return folders


BIG = {"input_size": 112, "resize": 128, "image_size": 512}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("train", [True, False])
def test_tiles_change_no_pixel_of_a_batch(with_and_without_tiles: list[Path], backend: str, train: bool) -> None:
    tiled, plain = (make(backend, folder, train=train, **BIG) for folder in with_and_without_tiles)
    for epoch in (0, 1):
        assert same(keep(tiled.epoch(epoch)), keep(plain.epoch(epoch)))
    tiled.close()
    plain.close()


def test_windows_of_tiles_are_what_is_decoded(
    with_and_without_tiles: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the test above would show nothing: of the whole level, the crops of an epoch decode less than 0.7."""
    decoded, decode = [0], codecs.decode

    def counted(codec: str, data: Any, width: int, height: int | None = None) -> Any:
        decoded[0] += width * (height or width)
        return decode(codec, data, width, height)

    monkeypatch.setattr(codecs, "decode", counted)
    counts = []
    for folder in with_and_without_tiles:
        keep(make("opencv", folder, threads=1, **BIG).epoch(0))
        counts.append(decoded[0])
        decoded[0] = 0
    assert 0 < counts[0] < 0.7 * counts[1]


@pytest.mark.parametrize("codec", ["jpeg", "raw"])
def test_the_number_of_threads_changes_nothing(
    with_and_without_tiles: list[Path], folders: dict[str, Path], codec: str
) -> None:
    folder, size = (with_and_without_tiles[0], BIG) if codec == "jpeg" else (folders["raw"], {})
    one, *others = (keep(make("opencv", folder, threads=threads, **size).epoch(3)) for threads in (1, 2, 4))
    assert all(same(one, other) for other in others)


@pytest.mark.parametrize("codec", ["jpeg", "raw"])
def test_batches_are_what_the_plan_says_image_by_image(
    with_and_without_tiles: list[Path], folders: dict[str, Path], codec: str
) -> None:
    """The loader makes bundles, and copies windows of mapped levels: against one image after the other, without."""
    folder, size = (with_and_without_tiles[0], BIG) if codec == "jpeg" else (folders["raw"], {})
    loader = make("opencv", folder, batch_size=5, **size)
    store, plan = ShardStore(folder), loader._plan
    for batch, planned in zip(loader.epoch(4), plan.batches(4), strict=True):
        assert batch.index.tolist() == planned.rows.tolist()
        for i, image in enumerate(batch.image[:, 0].numpy()):
            expected = np.empty_like(image)
            level_HW = store.image(int(planned.rows[i]), int(planned.level[i]))
            left, top, right, bottom = planned.window[i]
            part_HW = np.ascontiguousarray(level_HW[top:bottom, left:right])
            opencv.sample(part_HW, opencv.opencv_matrix(planned.window_matrix[i]), tuple(planned.sigma[i]), expected)
            assert np.array_equal(image, expected)


MANY = 300  # images: two bundles and a part of one


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("many"), "raw", MANY, (32,))


SMALL = {"input_size": 14, "resize": 16, "image_size": 32}


@pytest.mark.parametrize("batch_size", [1, 7, 8, 100, 128, 129, 400])
@pytest.mark.parametrize("prefetch", [1, 2, 40])
def test_bundles_show_nowhere_but_in_the_time(many: Path, batch_size: int, prefetch: int) -> None:
    loader = make("opencv", many, batch_size=batch_size, prefetch=prefetch, **SMALL)
    whole = keep(make("opencv", many, batch_size=MANY, **SMALL).epoch(1))[0]
    batches = keep(loader.epoch(1))
    assert [len(batch.index) for batch in batches[:-1]] == [batch_size] * (loader.steps - 1)
    for name in ("image", "target", "meta", "index"):
        assert torch.equal(torch.cat([getattr(batch, name) for batch in batches]), getattr(whole, name))
    for start in {0, 1, 17, loader.steps - 1, loader.steps}:
        assert same(keep(loader.epoch(1, start)), batches[start:])
    for batch, first in zip(loader.epoch(1), batches, strict=True):
        if batch_size > 7:
            time.sleep(0.002)
        assert torch.equal(batch.image, first.image), "still valid, with the next ones under way"
    unfinished = loader.epoch(1)
    next(unfinished)
    loader.close()
    assert next(unfinished, None) is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("batch_size", [8, 100, 200])
def test_bundles_on_a_gpu_are_those_on_the_cpu(many: Path, batch_size: int) -> None:
    """With work of the GPU between batches, so that a buffer that is used again too early would show."""
    expected = keep(make("opencv", many, batch_size=batch_size, **SMALL).epoch(1))
    busy = torch.ones(4096, 4096, device="cuda")
    for batch, first in zip(
        make("opencv", many, batch_size=batch_size, device="cuda", **SMALL).epoch(1), expected, strict=True
    ):
        busy = (busy @ busy).clamp(0, 1)
        assert (batch.image.device.type, batch.image.is_contiguous()) == ("cuda", True)
        for name in ("image", "target", "meta", "index"):
            assert torch.equal(getattr(batch, name).cpu(), getattr(first, name))


def test_the_first_batch_does_not_wait_for_its_bundle(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread stands still at the ninth image until the first batch, of eight, is out."""
    loader = make("opencv", many, batch_size=8, threads=1, **SMALL)
    window, calls, go_on = ShardStore.window, itertools.count(), threading.Event()

    def slow(*arguments: Any) -> Any:
        if next(calls) == 8:
            assert go_on.wait(30), "the first batch waits for more than itself"
        return window(*arguments)

    monkeypatch.setattr(ShardStore, "window", slow)
    batches = loader.epoch(0)
    first = next(batches)
    go_on.set()
    assert len(first.index) == 8
    assert len(list(batches)) == loader.steps - 1


@pytest.mark.parametrize(("batch_size", "images"), [(8, 256), (64, 256), (100, 300), (128, 384), (200, 600)])
def test_no_more_buffers_than_are_needed(
    many: Path, monkeypatch: pytest.MonkeyPatch, batch_size: int, images: int
) -> None:
    """A bundle in use and at least two batches ahead; from batches of 128 on, three batches."""
    made, allocate = [], opencv.OpenCVLoader._allocate

    def counted(self: Any, count: int) -> Any:
        made.append(count)
        return allocate(self, count)

    monkeypatch.setattr(opencv.OpenCVLoader, "_allocate", counted)
    loader = make("opencv", many, batch_size=batch_size, **SMALL)
    keep(loader.epoch(0))
    assert sum(made) == min(images, loader.steps * batch_size)


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
def test_memory_stays_flat_over_many_epochs(with_and_without_tiles: list[Path], backend: str) -> None:
    loader = make(backend, with_and_without_tiles[0], batch_size=8, **BIG)
    process = psutil.Process()
    epochs, used = itertools.count(), []
    for many in (4, 30, 30, 30):
        for epoch in itertools.islice(epochs, many):
            for _ in loader.epoch(epoch):
                pass
        gc.collect()
        used.append(process.memory_full_info().uss)
    # One epoch makes 0.26 MB of images: 30 kept ones would show, each time; what is taken once does not count.
    assert min(later - earlier for earlier, later in itertools.pairwise(used)) < 4e6
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
