"""Fixtures shared by all tests, and which tests see a GPU.

Only `pytest -m cuda` does. All others compute on the CPU, on a machine with a GPU too: they ask for equal bits, and
turn every warning into an error. In tests marked `cuda` warnings are shown and fail nothing: what compilers and drivers
say on somebody's machine is not ours to mend.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import study_runs

REPOSITORY = Path(__file__).resolve().parent.parent


def sees_gpu(markers: str) -> bool:
    """Return whether `-m markers` asks for the tests marked `cuda`."""
    return re.search(r"(?<!not )\bcuda\b", markers) is not None


def pytest_configure(config: pytest.Config) -> None:
    # Before anything imports torch; processes that tests start, and those of xdist, inherit it.
    if not sees_gpu(config.option.markexpr):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        # Sums by another number of threads have other last digits, and by default a training looks what is free.
        os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("cuda"):
            item.add_marker(pytest.mark.filterwarnings("default"))
            item.add_marker(pytest.mark.xdist_group("cuda"))  # they measure the memory of one and the same GPU


def pytest_runtest_setup(item: pytest.Item) -> None:
    if not item.get_closest_marker("cuda"):
        return
    if not sees_gpu(item.config.option.markexpr):
        pytest.skip("a GPU is hidden from all but `pytest -m cuda`")
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")


@pytest.fixture(scope="session")
def nih_raw() -> Path:
    """Return a raw ChestX-ray14 folder with at least some real images, or skip."""
    folder = Path(os.environ.get("CXRKIT_NIH", REPOSITORY.parent / "shared" / "nih"))
    if not (folder / "images").is_dir():
        pytest.skip("no real ChestX-ray14 images here (set CXRKIT_NIH to a raw folder)")
    return folder


@contextmanager
def nobody_changes(folder: Path) -> Iterator[None]:
    """Raise at the end where a file of the folder came, went or changed: the next test would see it, or not see it."""

    def files() -> dict[str, tuple[int, int]]:
        found = {path.relative_to(folder).as_posix(): path.stat() for path in folder.rglob("*") if path.is_file()}
        return {name: (stat.st_size, stat.st_mtime_ns) for name, stat in found.items()}

    before = files()
    yield
    changed = sorted(name for name, _ in before.items() ^ files().items())
    assert not changed, f"tests share {folder.name}, and one has changed {changed[:3]} ...: let it take a copy"


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a raw folder with a small phantom cohort in NIH's layout. Read-only: copy it before changing it."""
    from cxrkit.datasets.phantom.cohort import generate

    folder = tmp_path_factory.mktemp("cohort") / "raw"
    generate(folder, 80, seed=1, workers=1)
    with nobody_changes(folder):
        yield folder


@pytest.fixture(scope="session")
def prepared(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return the cohort prepared at levels 256 and 128. Read-only: copy it before changing it."""
    from cxrkit.datasets.phantom.cohort import read
    from cxrkit.prepare.stage import PrepareConfig, prepare

    folder = tmp_path_factory.mktemp("prepared") / "shards"
    prepare(PrepareConfig(raw=cohort, data=folder, dataset="synthetic", levels=(256, 128), workers=1), read(cohort))
    with nobody_changes(folder):
        yield folder


@pytest.fixture(scope="session")
def built_study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return the folder of a study (study_runs.py) that nobody changes, with its manifests beside it."""
    import study_runs

    folder = tmp_path_factory.mktemp("built-study")
    with study_runs.known(folder / "manifests"):
        study_runs.build(folder / "study")
    with nobody_changes(folder):
        yield folder


@pytest.fixture
def study(built_study: Path, tmp_path: Path) -> Iterator[study_runs.Study]:
    """Return a study of one's own, with the toolkit taking its cohort for ChestX-ray14 during the test."""
    import study_runs

    shutil.copytree(built_study / "study", tmp_path / "study")
    with study_runs.known(built_study / "manifests"):
        yield study_runs.Study(tmp_path / "study")
