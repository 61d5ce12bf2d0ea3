"""Where the plain-text facts live: `data_manifests/` of a checkout, `cxrkit/data_manifests` of an installed wheel."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import cxrkit

_PACKAGE = Path(cxrkit.__file__).parent  # not by counting folders from here: this file may move
_PACKED = _PACKAGE / "data_manifests"
_CHECKOUT = _PACKAGE.parent / "data_manifests"


def folder() -> Path:
    """Return the manifests' folder: inside an installed wheel, or beside the package in a checkout."""
    return _PACKED if _PACKED.is_dir() else _CHECKOUT


def read(name: str) -> dict[str, Any]:
    """Return one manifest, for instance `read("nih_chestxray14.toml")` or `read("published/table5.toml")`."""
    return read_file(folder() / name)


def read_file(path: Path) -> dict[str, Any]:
    """Return the content of a TOML file that is laid out like a manifest."""
    return tomllib.loads(path.read_text(encoding="utf-8"))
