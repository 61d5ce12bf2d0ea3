"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def nih_raw() -> Path:
    """Return a raw ChestX-ray14 folder with at least some real images, or skip."""
    folder = Path(os.environ.get("CXRKIT_NIH", REPOSITORY.parent / "shared" / "nih"))
    if not (folder / "images").is_dir():
        pytest.skip("no real ChestX-ray14 images here (set CXRKIT_NIH to a raw folder)")
    return folder


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a raw folder with a small phantom cohort in NIH's layout. Read-only: copy it before changing it."""
    from cxrkit.datasets.phantom.cohort import generate

    folder = tmp_path_factory.mktemp("cohort") / "raw"
    generate(folder, 80, seed=1, workers=1)
    return folder


@pytest.fixture(scope="session")
def prepared(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the cohort prepared at levels 256 and 128. Read-only: copy it before changing it."""
    from cxrkit.datasets.phantom.cohort import read
    from cxrkit.prepare.stage import PrepareConfig, prepare

    folder = tmp_path_factory.mktemp("prepared") / "shards"
    prepare(PrepareConfig(raw=cohort, data=folder, dataset="synthetic", levels=(256, 128), workers=1), read(cohort))
    return folder
