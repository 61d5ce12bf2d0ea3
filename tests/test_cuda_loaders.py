"""The loaders on a GPU: `pytest -m cuda` on a machine that has one.

Nearly every test runs on the CPU, too, where its device is "cpu": what is said of both is said once, and a slip of the
pen does not wait for a GPU.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import REPOSITORY, sees_gpu
from test_dali import break_image
from test_loaders import N, keep, make, needs_dali, psnr, same, write_folder

from cxrkit import loaders
from cxrkit.base.contracts import Batch
from cxrkit.base.errors import UserError
from cxrkit.loaders import dali_setup
from cxrkit.loaders.gather import gather, taps
from cxrkit.loaders.inputs import GB, loader_options
from cxrkit.runs.sections import RunSettings

CODECS = ["jpeg", "raw", "png", "htj2k", "zstd"]
DEVICES = ["cpu", pytest.param("cuda:0", marks=pytest.mark.cuda)]
# On the CPU the kernel of --cache gpu is not compiled: that would say nothing of a GPU's.
COMPILED = [("cpu", False), *(pytest.param("cuda:0", compile, marks=pytest.mark.cuda) for compile in (False, True))]
KINDS = ["opencv", "resident", pytest.param("dali", marks=needs_dali)]
SAME_DB = 45
BUSY_CYCLES = 50_000_000  # of the GPU's clock: about 30 ms


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of small images; "large": of levels that a GPU's JPEG engines take."""
    small = {codec: write_folder(tmp_path_factory.mktemp(codec), codec) for codec in CODECS}
    large = write_folder(tmp_path_factory.mktemp("large"), "jpeg", n=40, levels=(512, 256))
    return small | {"large": large}


LARGE = {"input_size": 224, "resize": 256, "image_size": 512, "batch_size": 8}


def busy(device: str) -> None:
    """Give the GPU 30 ms of work, which everything that is queued on this stream afterwards waits for."""
    if device != "cpu":
        torch.cuda._sleep(BUSY_CYCLES)


def synchronize(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize(device)


def on_cpu(batches: list[Batch]) -> list[Batch]:
    return [Batch(b.image.cpu(), b.target.cpu(), b.meta.cpu(), b.index.cpu()) for b in batches]


def agreement(one: Iterator[Batch], other: Iterator[Batch]) -> list[float]:
    """Return the PSNR of each image between two loaders whose batches must be equal otherwise."""
    values = []
    for a, b in itertools.zip_longest(one, other):
        for name in ("target", "meta", "index"):
            assert torch.equal(getattr(a, name).cpu(), getattr(b, name).cpu())
        assert a.image.shape == b.image.shape
        values += [psnr(i, j) for i, j in zip(a.image.cpu(), b.image.cpu(), strict=True)]
    return values


# --------------------------------------------------------------------------------------------------- which tests see it


def test_a_gpu_is_hidden_unless_it_is_asked_for(request: pytest.FixtureRequest) -> None:
    asked = sees_gpu(request.config.option.markexpr)
    assert asked or not torch.cuda.is_available()
    assert asked or os.environ["CUDA_VISIBLE_DEVICES"] == ""


@pytest.mark.parametrize(
    ("markers", "sees"),
    [
        ("", False),
        ("cuda", True),
        ("cuda and not slow", True),
        ("slow or cuda", True),
        ("not cuda", False),
        ("slow", False),
        ("not slow", False),
        ("barracuda", False),
    ],
)
def test_what_asks_for_it(markers: str, sees: bool) -> None:
    assert sees_gpu(markers) is sees


@pytest.mark.parametrize("workers", [[], ["-n", "1"]], ids=["alone", "xdist"])
def test_a_test_is_hidden_from_a_gpu_in_every_process(tmp_path: Path, workers: list[str]) -> None:
    """With this folder's conftest; a worker, and what it starts, inherit what that decides."""
    (tmp_path / "conftest.py").write_text((REPOSITORY / "tests" / "conftest.py").read_text())
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = cuda: needs a GPU\n")
    code = "import os; print(os.environ.get('CUDA_VISIBLE_DEVICES'))"
    (tmp_path / "test_it.py").write_text(
        "import os, subprocess, sys, pytest\n"
        "def test_hidden():\n"
        f"    said = subprocess.run([sys.executable, '-c', {code!r}], capture_output=True, text=True).stdout\n"
        "    assert (os.environ['CUDA_VISIBLE_DEVICES'], said) == ('', '\\n')\n"
        "@pytest.mark.cuda\n"
        "def test_gpu():\n"
        "    assert os.environ.get('CUDA_VISIBLE_DEVICES') == 'none'\n"
    )
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "none", "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", *workers]

    def said(*more: str) -> str:
        return subprocess.run([*command, *more], cwd=tmp_path, env=environment, capture_output=True, text=True).stdout

    hidden = said()
    assert "1 passed, 1 skipped" in hidden
    assert "a GPU is hidden from all but `pytest -m cuda`" in hidden
    asked = said("-m", "cuda")
    assert "no CUDA device" in asked
    assert "1 skipped" in asked


# ---------------------------------------------------------------------------------------------------------- each loader


@needs_dali
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("hw_decoder_load", [1.0, 0.0])
def test_dali_makes_opencvs_pixels(
    folders: dict[str, Path], device: str, codec: str, train: bool, hw_decoder_load: float
) -> None:
    one = make("dali", folders[codec], train=train, device=device, region=False, hw_decoder_load=hw_decoder_load)
    other = make("opencv", folders[codec], train=train)
    values = [value for epoch in range(2) for value in agreement(one.epoch(epoch), other.epoch(epoch))]
    one.close()
    print(f"\n{codec} on {device}, train {train}: PSNR mean {np.mean(values):.1f} dB, worst {min(values):.1f}")
    assert len(values) == 2 * N
    assert min(values) >= SAME_DB


@needs_dali
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("hw_decoder_load", [1.0, 0.0])
@pytest.mark.parametrize("tiles", [True, False])
def test_dali_makes_opencvs_pixels_of_large_images(
    folders: dict[str, Path], device: str, hw_decoder_load: float, tiles: bool
) -> None:
    given = {"device": device, "region": False, "hw_decoder_load": hw_decoder_load, "tiles": tiles}
    one, other = make("dali", folders["large"], **LARGE, **given), make("opencv", folders["large"], **LARGE)
    values = agreement(one.epoch(0), other.epoch(0))
    one.close()
    print(f"\n{device}, engines {hw_decoder_load}, tiles {tiles}: mean {np.mean(values):.1f}, worst {min(values):.1f}")
    assert min(values) >= SAME_DB


@needs_dali
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("hw_decoder_load", [1.0, 0.0])
def test_batches_survive_while_the_gpu_is_behind(folders: dict[str, Path], device: str, hw_decoder_load: float) -> None:
    """The same bits whether each batch is read at once, or after work that DALI has long overtaken; and on a repeat."""
    given = LARGE | {"device": device, "hw_decoder_load": hw_decoder_load, "made_together": 16}
    loader = make("dali", folders["large"], **given)
    expected = []
    for batch in loader.epoch(0):
        synchronize(device)
        expected += on_cpu([batch])
    for _ in range(3):
        copies = []
        for batch in loader.epoch(0):
            busy(device)
            copies += keep(iter([batch]))  # queued behind that work; the batch itself is given back
            del batch
        synchronize(device)
        assert same(on_cpu(copies), expected)
    again = make("dali", folders["large"], **given)
    assert same(on_cpu(keep(again.epoch(0))), expected), "another loader, the same bits"
    loader.close()
    again.close()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", KINDS)
def test_short_batches_resuming_leaving_and_the_next_epoch(folders: dict[str, Path], device: str, kind: str) -> None:
    loader = make(kind, folders["jpeg"], device=device, **({"made_together": 8} if kind != "opencv" else {}))
    whole = keep(loader.epoch(0))
    assert [len(batch.index) for batch in whole] == [4] * 5 + [1]
    assert {batch.image.device.type for batch in whole} == {torch.device(device).type}
    assert {batch.target.device.type for batch in whole} == {torch.device(device).type}
    for start in range(loader.steps + 1):
        assert same(keep(loader.epoch(0, start)), whole[start:])
    for leave_at in (0, 1, 3):
        left = loader.epoch(0)
        assert same(keep(itertools.islice(left, leave_at)), whole[:leave_at])
        left.close()
        assert same(keep(loader.epoch(0)), whole)
    following = keep(loader.epoch(1))
    assert not same(following, whole)
    loader.close()
    assert same(keep(loader.epoch(1)), following), "a closed loader opens again"
    loader.close()


@needs_dali
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("codec", ["jpeg", "png"])
def test_bytes_that_are_no_image_end_in_an_error_with_a_name(tmp_path: Path, device: str, codec: str) -> None:
    folder = write_folder(tmp_path, codec)
    break_image(folder, 17)
    loader = make("dali", folder, device=device, check_crc=False, train=False)
    with pytest.raises(UserError, match=rf"image 00000017_000.png at level 64 is damaged: the {codec} bytes"):
        keep(loader.epoch(0))
    assert len(keep(loader.epoch(0, 5))) == 1, "the loader survives"
    loader.close()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", KINDS)
def test_batches_are_ready_on_whatever_stream_is_current(folders: dict[str, Path], device: str, kind: str) -> None:
    """A side stream, and another one in the middle of a bundle."""
    loader = make(kind, folders["jpeg"], device=device, **({"prefetch": 1} if kind == "opencv" else {}))
    expected = on_cpu(keep(loader.epoch(0)))
    streams: list[Any] = [contextlib.nullcontext()] * 3
    if device != "cpu":
        streams = [torch.cuda.stream(torch.cuda.Stream(device)) for _ in range(3)]
    found = []
    batches = loader.epoch(0)
    for step in range(loader.steps):
        with streams[step % 3]:
            busy(device)
            found += keep(iter([next(batches)]))
    synchronize(device)
    assert same(on_cpu(found), expected)
    loader.close()


@pytest.mark.parametrize("device", DEVICES)
def test_opencv_makes_the_same_bits_for_every_device(folders: dict[str, Path], device: str) -> None:
    one, other = make("opencv", folders["jpeg"], device=device), make("opencv", folders["jpeg"])
    assert same(on_cpu(keep(one.epoch(0))), keep(other.epoch(0)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("device", [pytest.param("cuda:0", marks=pytest.mark.cuda)])
def test_a_gpus_memory_stays_flat_over_epochs(folders: dict[str, Path], kind: str, device: str) -> None:
    loader = make(kind, folders["large"], device=device, **LARGE)

    def after(epochs: range) -> int:
        for epoch in epochs:
            for _ in loader.epoch(epoch):
                pass
        gc.collect()
        torch.cuda.synchronize(device)
        free, whole = torch.cuda.mem_get_info(device)
        return whole - free

    before = after(range(4))
    # An epoch makes 2 MB of images: 40 kept ones would show.
    assert after(range(4, 44)) - before < 40e6
    loader.close()


@needs_dali
@pytest.mark.cuda
def test_auto_is_dali_on_a_gpu() -> None:
    for device in ("cuda", "cuda:0"):
        assert dali_setup.why_not(device) is None
        assert loaders.choose("auto", device, pytest.fail) == "dali"


# -------------------------------------------------------------------------------------------------------- --cache gpu


@pytest.mark.parametrize(("device", "compile"), COMPILED)
def test_pixels_far_beyond_two_to_the_31_are_found(device: str, compile: bool) -> None:
    """5 GB on a GPU; on the CPU 2.2 GB of memory that nothing but one image is ever written to."""
    start = 5 * GB if device != "cpu" else 2**31 + 77
    image = torch.randint(0, 256, (512, 512), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    pixels = torch.empty(start + image.numel(), dtype=torch.uint8, device=device)
    pixels[start:] = image.flatten().to(device)
    matrix = np.array([[1.69, -0.17, 60], [0.17, 1.69, 30]])
    warp = torch.from_numpy(np.concatenate([matrix.ravel(), taps(np.array([0.6, 0.6]))]).astype(np.float32))[None]
    expected = gather(image.flatten(), torch.tensor([[0, 512, 512, 512]]), warp, 224)
    sample = torch.compile(gather, dynamic=False) if compile else gather
    place = torch.tensor([[start, 512, 512, 512]]).repeat(8, 1).to(device)
    with torch.no_grad():
        found = sample(pixels, place, warp.repeat(8, 1).to(device), 224).cpu()
    assert (found.int() - expected.int()).abs().max() <= 1


@pytest.mark.parametrize(("device", "compile"), COMPILED)
def test_a_large_cache_with_a_spill_has_opencvs_pixels(tmp_path: Path, device: str, compile: bool) -> None:
    """On a GPU more than 2**31 bytes are kept, and what does not fit is sampled from beyond them."""
    n, levels, given = 40, (128, 64), {"input_size": 56, "resize": 64, "image_size": 128, "batch_size": 4}
    if device != "cpu":
        n, levels, given = 2300, (1024, 512), {"input_size": 448, "resize": 480, "image_size": 1024, "batch_size": 16}
    folder = write_folder(tmp_path, "jpeg", n=n, levels=levels)
    everything = n * sum(level**2 for level in levels)
    made_together = 4 * given["batch_size"]
    room = made_together * levels[0] ** 2
    cache = {"memory_bytes": everything + room - 50 * levels[0] ** 2 if device != "cpu" else everything // 2 + room}
    loader = make("resident", folder, device=device, compile=compile, made_together=made_together, **cache, **given)
    assert device == "cpu" or loader._kept.scratch > 2**31
    assert loader._kept.pixels.numel() <= cache["memory_bytes"]
    missed = [int(loader._kept.locate(planned)[1].sum()) for planned in loader._plan.batches(0)]
    assert sum(missed) > 0
    steps = min(loader.steps, 40)
    values = agreement(
        itertools.islice(loader.epoch(0), steps), itertools.islice(make("opencv", folder, **given).epoch(0), steps)
    )
    assert sum(missed[:steps]) > 0
    assert min(values) >= SAME_DB
    loader.close()


def test_offsets_beyond_any_memory_are_exact(folders: dict[str, Path]) -> None:
    """All 112,120 images at 1024 px take 117.6 GB; offsets travel to the kernel in a table of float64."""
    loader = make("resident", folders["raw"], device="cpu")
    kept = loader._kept
    kept._offset = np.where(kept._offset < 0, -1, kept._offset + 117_566_341_121)
    (planned,) = loader._plan.bundles(0)
    base, missing = kept.locate(planned)
    assert not missing.any()
    left, top, _, _ = planned.window.T
    side = np.array(loader._plan.levels)[planned.level]
    place = loader._start(None, kept, planned).table[:, :4].long()
    expected = base + top * side + left
    assert expected.dtype == np.int64
    assert expected.min() >= 117_566_341_121
    assert place[:, 0].tolist() == expected.tolist()


@pytest.mark.parametrize("device", DEVICES)
def test_cache_gb_is_what_the_pixels_may_take(folders: dict[str, Path], device: str) -> None:
    options = loader_options(RunSettings(cache="gpu", cache_gb=0.005, compile=False), cached=True)
    loader = make("resident", folders["large"], device=device, **LARGE, **options)
    pixels = loader._kept.pixels
    assert pixels.device == torch.device(device)
    assert 4_500_000 < pixels.numel() <= 5_000_000 < 40 * (512**2 + 256**2)
    values = agreement(loader.epoch(0), make("opencv", folders["large"], **LARGE).epoch(0))
    assert min(values) >= SAME_DB
    loader.close()


@pytest.mark.cuda
def test_several_caches_share_a_gpu(folders: dict[str, Path]) -> None:
    """Each takes what it may, and by default a share of what the others have left."""
    options = loader_options(RunSettings(cache="gpu", cache_gb=0.005, compile=False), cached=True)
    several = [make("resident", folders["large"], device="cuda:0", **LARGE, **options) for _ in range(3)]
    expected = on_cpu(keep(several[0].epoch(0)))
    assert all(same(on_cpu(keep(loader.epoch(0))), expected) for loader in several)
    for loader in several:
        loader.close()
