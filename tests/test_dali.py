"""DALI's graph, on the CPU and as it is defined for a GPU; bundles; and DALIs that cannot be used."""

from __future__ import annotations

import itertools
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from conftest import REPOSITORY
from test_loaders import N, keep, make, needs_dali, psnr, same, write_folder
from tiny_cohort import shards, table_of

from cxrkit import doctor, loaders
from cxrkit.base.contracts import Batch
from cxrkit.base.errors import UserError
from cxrkit.loaders import dali_graph, dali_setup
from cxrkit.loaders.tables import cut
from cxrkit.shards import codecs

CODECS = ["raw", "jpeg", "png", "htj2k", "zstd"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {codec: write_folder(tmp_path_factory.mktemp(codec), codec) for codec in CODECS}


@needs_dali
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("how", [{"region": True}, {"region": False}, {"region": False, "tiles": False}], ids=str)
def test_opencv_agrees(folders: dict[str, Path], codec: str, train: bool, how: dict[str, bool]) -> None:
    """`region` off is the graph of a GPU, on the CPU."""
    one, other = make("opencv", folders[codec], train=train), make("dali", folders[codec], train=train, **how)
    for epoch in (0, 1):
        for a, b in itertools.zip_longest(one.epoch(epoch), other.epoch(epoch)):
            assert torch.equal(a.index, b.index)
            assert min(psnr(i, j) for i, j in zip(a.image, b.image, strict=True)) >= 45
    one.close()
    other.close()


@needs_dali
def test_a_window_that_is_cut_out_is_the_one_that_the_decoder_decodes(folders: dict[str, Path]) -> None:
    """PNG and raw are lossless, so not one pixel may differ; a JPEG's region ends in the same blocks."""
    for codec in ("png", "jpeg"):
        one, other = (make("dali", folders[codec], region=region) for region in (True, False))
        assert same(keep(one.epoch(3)), keep(other.epoch(3)))


def operators(**changes: Any) -> list[tuple[str, str]]:
    """Return the operators from the last one back to the decoder, each with where its output lies; nothing is built."""
    given = {"images": 4, "side": 32, "gpu": 0, "threads": 1, "prefetch": 2}
    graph = dali_graph.Graph(**(given | {"pixels": False, "region": False, "hw_decoder_load": 1.0} | changes))
    (node,) = dali_graph.define(graph, lambda info: ())._graph_out
    found = []
    while "ExternalSource" not in node.name:
        found.append((node.name.strip("_").partition("_")[0], node.device))
        node = node.source.inputs[0]
    return found


@needs_dali
def test_on_a_gpu_whole_images_are_decoded_and_the_window_is_cut_out_there() -> None:
    sampled = [("WarpAffine", "gpu"), ("GaussianBlur", "gpu")]
    assert operators() == [*sampled, ("Slice", "gpu"), ("Image", "gpu")]
    assert operators(region=True) == [*sampled, ("ImageSlice", "gpu")]
    assert operators(pixels=True) == sampled
    on_cpu = operators(gpu=None)
    assert on_cpu == [(name, "cpu") for name, _ in operators()], "the same operators"


@needs_dali
@pytest.mark.parametrize("codec", CODECS)
def test_what_the_graph_is_fed_with(folders: dict[str, Path], codec: str) -> None:
    """Windows lie within what is handed over; and each number has the type and shape that the graph asks for."""
    loader = make("dali", folders[codec], batch_size=7)
    (planned, fed), *_ = loader._read_ahead(_Pool(), loader._plan.bundles(0))
    data, matrix, sigma, *window = fed
    assert loader.graph.pixels == (codec in ("raw", "htj2k", "zstd"))
    assert len(data) == len(planned) == N == loader.graph.images
    assert {(item.dtype, item.ndim) for item in data} == {(np.dtype("uint8"), 3 if loader.graph.pixels else 1)}
    assert (matrix.dtype, matrix.shape, sigma.dtype, sigma.shape) == ("float32", (N, 2, 3), "float32", (N, 2))
    left, top, right, bottom = planned.window.T
    if loader.graph.pixels:
        assert not window
        assert [item.shape for item in data] == [(*shape, 1) for shape in zip(bottom - top, right - left, strict=True)]
        return
    start, shape = window
    assert (start.dtype, shape.dtype, start.flags.c_contiguous, shape.flags.c_contiguous) == ("int32", "int32", 1, 1)
    assert np.array_equal(shape, np.stack([bottom - top, right - left], axis=1))
    assert (start >= 0).all()
    assert all(item.flags.owndata for item in data), "in memory, not in the file"


class _Pool:
    """Runs what is submitted at once."""

    def submit(self, function: Any, *arguments: Any) -> Any:
        done: Future[Any] = Future()
        done.set_result(function(*arguments))
        return done


@needs_dali
def test_the_part_that_encoded_bytes_hold_moves_the_window(folders: dict[str, Path]) -> None:
    """A store that hands over a part of a level: here the level, cut and encoded anew without loss."""
    whole = keep(make("dali", folders["png"]).epoch(0))
    loader = make("dali", folders["png"])
    parts = []

    def encoded_window(row: int, level: int, window: list[int]) -> tuple[np.ndarray, tuple[int, int, int, int]]:
        left, top, right, bottom = window
        side = loader._store.levels[level]
        part = max(left - 5, 0), max(top - 2, 0), min(right + 3, side), bottom
        image = loader._store.image(row, level)[part[1] : part[3], part[0] : part[2]]
        parts.append(part)
        return np.frombuffer(codecs.encode("png", image), np.uint8), part

    loader._store.encoded_window = encoded_window
    assert same(keep(loader.epoch(0)), whole)
    assert any(left or top for left, top, _, _ in parts)


# ------------------------------------------------------------------------------------------------------------- bundles


@pytest.mark.parametrize("kind", [pytest.param("dali", marks=needs_dali), "resident"])
@pytest.mark.parametrize("made_together", [1, 8, 11, 1000])
def test_how_many_are_made_together_changes_nothing(folders: dict[str, Path], kind: str, made_together: int) -> None:
    expected = keep(make(kind, folders["raw"], made_together=1, device="cpu").epoch(2))
    loader = make(kind, folders["raw"], made_together=made_together, device="cpu")
    for start in range(loader.steps + 1):
        batches = keep(loader.epoch(2, start))
        assert same(batches, expected[start:]), f"resumed at {start}"
        assert all(len(batch.index) == 4 for batch in batches[:-1])
    for leave_at in range(3):  # inside a bundle, and the next epoch is whole
        assert same(keep(itertools.islice(loader.epoch(2), leave_at)), expected[:leave_at])
        assert same(keep(loader.epoch(2)), expected)
    assert not same(keep(loader.epoch(3)), expected)
    loader.close()
    assert same(keep(loader.epoch(2)), expected)
    loader.close()


@needs_dali
def test_the_pipeline_holds_a_bundle_and_no_more(folders: dict[str, Path]) -> None:
    assert make("dali", folders["raw"]).graph.images == 24, "an epoch of 21 images in batches of 4"
    assert make("dali", folders["raw"], made_together=10).graph.images == 8
    assert make("dali", folders["raw"], batch_size=16, made_together=10).graph.images == 16, "one batch at least"
    plan = make("dali", folders["raw"])._plan
    assert [len(bundle) for bundle in plan.bundles(0, 1, 10)] == [8, 8, 1]


def test_batches_of_a_bundle_are_views_of_it() -> None:
    n = 11
    image = torch.arange(n * 16, dtype=torch.uint8).view(n, 1, 4, 4)
    bundle = Batch(image, torch.rand(n, 15), torch.rand(n, 3), torch.arange(n))
    batches = list(cut(bundle, 4))
    assert [len(batch.index) for batch in batches] == [4, 4, 3]
    for name in ("image", "target", "meta", "index"):
        whole = getattr(bundle, name)
        assert torch.equal(torch.cat([getattr(batch, name) for batch in batches]), whole)
        storages = {getattr(batch, name).untyped_storage().data_ptr() for batch in batches}
        assert storages == {whole.untyped_storage().data_ptr()}
    assert next(cut(bundle, 100)).image.shape == image.shape


@needs_dali
@pytest.mark.parametrize("option", ["prefetch", "made_together", "hw_decoder_load"])
def test_options_that_cannot_be_are_refused(folders: dict[str, Path], option: str) -> None:
    with pytest.raises(UserError, match=f"run.loader_options.{option} is -1") as caught:
        make("dali", folders["raw"], **{option: -1})
    assert "give a " in caught.value.remedy


# ------------------------------------------------------------------------------------------------------ what goes wrong


@needs_dali
def test_the_image_that_cannot_be_decoded_is_named_out_of_the_whole_bundle(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, "jpeg")
    break_image(folder, 17)
    for how in ({"region": True}, {"region": False}):
        loader = make("dali", folder, check_crc=False, train=False, **how)
        with pytest.raises(UserError, match=r"image 00000017_000.png at level 64 is damaged: the jpeg bytes") as caught:
            keep(loader.epoch(0))
        assert "cxrkit verify" in caught.value.remedy
        assert "Error" in str(caught.value.__cause__), "DALI's own words are its cause"
        loader.close()


@needs_dali
def test_what_opencv_can_decode_and_dali_cannot_is_said(folders: dict[str, Path]) -> None:
    loader = make("dali", folders["jpeg"])
    loader._store.encoded_window = lambda row, level, window: (np.zeros(99, np.uint8), (0, 0, 64, 64))
    with pytest.raises(UserError, match=r"DALI on cpu could not decode 000.*, \.\.\., which OpenCV can: ") as caught:
        keep(loader.epoch(0))
    assert "--set run.loader_options.tiles=false" in caught.value.remedy
    assert len(str(caught.value).splitlines()) == 2


def break_image(folder: Path, row: int) -> None:
    """Overwrite the beginning of an image's bytes at each level."""
    table = pl.read_parquet(table_of(folder, "index"))
    path = folder / shards(folder)[0]
    data = bytearray(path.read_bytes())
    for name in table.columns:
        if name.startswith("offset_"):
            data[table[name][row] : table[name][row] + 64] = bytes(64)
    path.write_bytes(bytes(data))


# ------------------------------------------------------------------------------------------- DALIs that cannot be used


@pytest.fixture
def asked_anew() -> Iterator[None]:
    dali_setup.why_not.cache_clear()
    yield
    dali_setup.why_not.cache_clear()


@needs_dali
def test_the_trial_makes_an_image_in_a_process_of_its_own(asked_anew: None) -> None:
    assert dali_setup.why_not("cpu") is None
    assert dali_setup.main("cpu") == 0, "and here"


@needs_dali
def test_auto_does_without_a_dali_that_cannot_start_and_says_so_once(asked_anew: None) -> None:
    """What an installed DALI meets where the driver is of another CUDA: here there is no GPU at all."""
    heard: list[str] = []
    assert [loaders.choose("auto", "cuda:3", heard.append) for _ in range(2)] == ["opencv"] * 2
    (note,) = heard
    assert "DALI cannot be used on cuda:3, so the loader is opencv, which may be slower: " in note
    assert len(note.splitlines()) == 1


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "it ends its process with SIGSEGV"),
        ("import os; os._exit(3)", "it ends its process with status 3"),
        ("raise OSError('libcudart.so.13: wrong ELF class')", "libcudart.so.13: wrong ELF class"),
        ("raise RuntimeError('CUDA driver version is insufficient')", "CUDA driver version is insufficient"),
        ("import time; time.sleep(60)", "it has not made an image within 1 seconds"),
    ],
    ids=["crash", "exit", "import", "driver", "hang"],
)
def test_a_dali_that_fails_or_ends_its_process_costs_a_note(
    tmp_path: Path, code: str, reason: str, monkeypatch: pytest.MonkeyPatch, asked_anew: None
) -> None:
    package = tmp_path / "nvidia" / "dali"
    package.mkdir(parents=True)
    (tmp_path / "nvidia" / "__init__.py").touch()
    (package / "__init__.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "nvidia"]:
        monkeypatch.delitem(sys.modules, name)
    if "sleep" in code:
        monkeypatch.setattr(dali_setup, "PATIENCE_SECONDS", 1.0)
    assert reason in str(dali_setup.why_not("cpu"))


def test_auto_does_without_a_dali_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, asked_anew: None) -> None:
    monkeypatch.setitem(sys.modules, "nvidia.dali", None)
    heard: list[str] = []
    assert loaders.choose("auto", "cuda:4", heard.append) == "opencv"
    assert "it is not installed (" in heard[0]


def test_dali_that_is_not_installed_is_said(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nvidia.dali", None)
    with pytest.raises(UserError, match="needs NVIDIA DALI, which cannot be imported") as caught:
        make("dali", folders["raw"])
    assert "--loader opencv" in caught.value.remedy


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return what makes a machine: builds of DALI in a folder of packages, a driver's CUDA and a PyTorch's."""

    def make_machine(*builds: str, driver: tuple[int, int] | None, torch_cuda: str | None) -> None:
        for package in builds:
            about = tmp_path / f"{package.replace('-', '_')}-2.4.0.dist-info"
            about.mkdir()
            (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 2.4.0\n")
        monkeypatch.setattr(sys, "path", [str(tmp_path)])  # where metadata is looked for
        monkeypatch.setattr(sys, "platform", "linux")
        monkeypatch.setattr(dali_setup, "driver_cuda", lambda: driver)
        monkeypatch.setattr(torch.version, "cuda", torch_cuda)

    return make_machine


OLD, NEW = "nvidia-dali-cuda120", "nvidia-dali-cuda130"


@pytest.mark.parametrize(
    ("builds", "driver", "torch_cuda", "state", "found", "remedy"),
    [
        ([], None, None, "ok", "not installed", ""),
        ([], (13, 0), "13.0", "note", "not installed; the driver runs CUDA 13.0", "pip install 'cxrkit[gpu]'; without"),
        ([], (12, 4), "12.6", "note", "not installed; the driver", "pip install 'cxrkit[gpu-cuda12]'; without it"),
        ([], (12, 4), "13.0", "note", "not installed", "pip install 'cxrkit[gpu-cuda12]'"),
        ([NEW], (13, 0), "13.0", "ok", f"{NEW} 2.4.0; the driver runs CUDA 13.0", ""),
        ([NEW], None, "13.0", "ok", f"{NEW} 2.4.0", ""),
        ([OLD], (12, 8), "12.8", "ok", f"{OLD} 2.4.0", ""),
        (
            [NEW], (12, 8), "12.8", "problem", f"{NEW} is for CUDA 13, and the driver runs CUDA 12.8 at most",
            f"pip uninstall {NEW}, then pip install 'cxrkit[gpu-cuda12]'",
        ),
        (
            [OLD], (13, 0), "13.0", "note", f"{OLD} 2.4.0 is for CUDA 12, torch for CUDA 13",
            f"pip uninstall {OLD}, then pip install 'cxrkit[gpu]'",
        ),
        (
            [NEW, OLD], (13, 0), "13.0", "problem", "two builds overwrite each other",
            f"pip uninstall {NEW} {OLD}, then pip install 'cxrkit[gpu]'",
        ),
    ],
)  # fmt: skip
def test_doctor_says_which_build_is_missing(
    machine: Callable[..., None],
    builds: list[str],
    driver: tuple[int, int] | None,
    torch_cuda: str | None,
    state: str,
    found: str,
    remedy: str,
) -> None:
    machine(*builds, driver=driver, torch_cuda=torch_cuda)
    (finding,) = doctor.gpu.dali()
    assert (finding.state, finding.found.startswith(found)) == (state, True), finding
    assert remedy in finding.remedy
    assert bool(finding.remedy) == (state != "ok")


def test_a_build_of_a_newer_cuda_than_the_drivers_is_not_even_tried(
    machine: Callable[..., None], monkeypatch: pytest.MonkeyPatch, asked_anew: None
) -> None:
    monkeypatch.setattr(dali_setup.importlib.util, "find_spec", lambda name: object())
    machine(NEW, driver=(12, 2), torch_cuda="12.1")
    assert dali_setup.why_not("cuda") == (
        f"{NEW} is for CUDA 13, and the driver runs CUDA 12.2 at most "
        f"(pip uninstall {NEW}, then pip install 'cxrkit[gpu-cuda12]')"
    )


@pytest.mark.skipif(sys.platform != "linux" or shutil.which("make") is None, reason="needs Linux and make")
@pytest.mark.parametrize(
    ("smi", "given", "extras"),
    [
        ("CUDA Version: 12.4", [], "dev,gpu-cuda12"),
        ("CUDA Version: 13.0", [], "dev,gpu"),
        ("NVIDIA-SMI has failed", [], "dev,gpu"),
        ("CUDA Version: 13.0", ["GPU=gpu-cuda12"], "dev,gpu-cuda12"),
        ("CUDA Version: 12.4", ["GPU="], "dev"),
    ],
)
def test_make_installs_the_build_of_the_driver(tmp_path: Path, smi: str, given: list[str], extras: str) -> None:
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\necho '| {smi} |'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    venv = tmp_path / "venv"
    command = ["make", "--dry-run", "-C", str(REPOSITORY), f"VENV={venv}", *given, str(venv / "installed")]
    environment = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}

    def printed() -> str:
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    if os.confstr("CS_GNU_LIBC_VERSION") is None or platform.machine() not in ("x86_64", "aarch64"):
        extras = extras if given else "dev"
    assert f"--editable '.[{extras}]'" in printed()
    other = {"dev,gpu-cuda12": NEW}.get(extras, OLD)
    assert f"pip uninstall --quiet --quiet --quiet --yes {other}" in printed()
    venv.mkdir()
    (venv / "installed").write_text(extras)
    assert "pip" not in printed(), "not twice"
    (venv / "installed").write_text("dev,gpu-cuda11")
    assert "pip" in printed(), "again with other extras"
