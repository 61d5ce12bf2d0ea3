"""A folder of 512-pixel JPEGs written by Pillow in a multiprocessing pool: the preparation most people write."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from functools import partial
from multiprocessing import Pool
from pathlib import Path

from PIL import Image

from benchmarks.stopwatch import Pass

SIDE = 512


def write(folder: str, out: str, workers: int, quality: int = 95) -> Pass:
    """Return a pass that writes one JPEG per PNG."""
    paths = sorted(Path(folder).iterdir())

    def one_pass() -> Mapping[str, float]:
        shutil.rmtree(out, ignore_errors=True)
        Path(out).mkdir(parents=True)
        with Pool(workers) as pool:
            sizes = pool.map(partial(_convert, out=Path(out), quality=quality), paths, chunksize=8)
        return {"images": len(sizes), "bytes": sum(sizes) / len(sizes)}

    return one_pass


def _convert(path: Path, out: Path, quality: int) -> int:
    target = out / f"{path.stem}.jpg"
    with Image.open(path) as image:
        small = image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    small.save(target, quality=quality)
    return target.stat().st_size
