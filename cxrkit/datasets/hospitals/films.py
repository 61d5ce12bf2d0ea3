"""Where the films of a published table lie, and how large a square they are fitted into."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import polars as pl

from cxrkit.base.contracts import IMAGE_SIZE
from cxrkit.datasets.nih.folders import IMAGE_ENDINGS, look_into
from cxrkit.sources import dicom
from cxrkit.sources.pixels import DamagedImage, image_size

_CANVASES = (256, 512, IMAGE_SIZE)  # each with halves that are levels, too
_LOOKED_AT = 24  # films whose header says how large they are
_HEADER = 1 << 16  # bytes; the size stands before the pixels
_AT_ONCE = 2000  # paths that one thread asks for before it takes more
DICOM_ENDINGS = ("dcm", "dicom")


def at_paths(paths: Sequence[str]) -> pl.Series:
    """Return the paths as String, null where there is no such file. 377,110 of them take some seconds."""

    def there(some: Sequence[str]) -> list[str | None]:
        return [path if os.path.exists(path) else None for path in some]  # noqa: PTH110 - so many times

    shares = [paths[start : start + _AT_ONCE] for start in range(0, len(paths), _AT_ONCE)]
    with ThreadPoolExecutor(8) as pool:  # waiting for the disk, not computing
        return pl.Series("path", [path for found in pool.map(there, shares) for path in found], pl.String)


def by_stem(raw: Path, key: Callable[[str], str] = lambda stem: stem, *, dicom: bool = False) -> dict[str, str]:
    """Return stem -> path of every PNG and JPEG in and below `raw`, and with `dicom` of every such file.

    Of several of one stem, the first in path order; a DICOM last, since who has made a PNG of it wants that.
    """
    endings = (*IMAGE_ENDINGS, *DICOM_ENDINGS) if dicom else IMAGE_ENDINGS
    paths = [f"{folder.path}/{name}" for folder in look_into(raw, endings).folders for name in folder.names]
    found: dict[str, str] = {}
    for path in sorted(paths, key=is_dicom):  # keeps their order otherwise
        found.setdefault(key(path.rpartition("/")[2].rpartition(".")[0]), path)
    return found


def is_dicom(path: str) -> bool:
    """Whether a file is called like a DICOM file."""
    return path.lower().endswith(tuple(f".{ending}" for ending in DICOM_ENDINGS))


def sizes(paths: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Return path -> (width, height) in pixels, by the header alone, of those that have one.

    Raises UserError where one is a DICOM file and pydicom is missing.
    """

    def size(path: str) -> tuple[int, int] | None:
        try:
            with open(path, "rb", buffering=0) as file:
                return (dicom.size if is_dicom(path) else image_size)(file.read(_HEADER))
        except (OSError, DamagedImage):
            return None

    wanted = list(paths)
    with ThreadPoolExecutor(8) as pool:
        return {path: found for path, found in zip(wanted, pool.map(size, wanted), strict=True) if found}


def canvas_side(paths: Sequence[str]) -> int:
    """Return the side of the square: the smallest of 256, 512 and 1024 that half of the films' longer sides fit into.

    A few films, evenly spread, are looked at. IMAGE_SIZE, ChestX-ray14's own, where nothing can be.
    """
    spread = [paths[number * len(paths) // _LOOKED_AT] for number in range(_LOOKED_AT)] if paths else []
    longer = [max(size) for size in sizes(dict.fromkeys(spread)).values()]
    if not longer:
        return IMAGE_SIZE
    return next((side for side in _CANVASES if side >= median(longer)), IMAGE_SIZE)


def dicoms(raw: Path) -> int:
    """Return how many files in and just below `raw` are called like DICOM files."""
    folders: Mapping[Path, None] = dict.fromkeys([raw, *(path for path in raw.iterdir() if path.is_dir())])
    return sum(is_dicom(path.name) for folder in folders for path in folder.iterdir())
