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
