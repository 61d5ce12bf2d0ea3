"""What was tried for speed, measured again beside what is there; tried.md says what came of it.

python benchmarks/tried.py --raw DIR                 about five minutes on one core
python benchmarks/tried.py --raw DIR --only kernel   a compiled kernel (needs numba)
python benchmarks/tried.py --raw DIR --only codecs   the codecs beside one another (needs zstandard)

Processor time of one thread, since others on the machine disturb that least; the candidates take turns.
"""

# ruff: noqa: E402 - the imports follow the line that lets this run as a script

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path[0] = str(ROOT)

import cv2
import numpy as np
from numpy.typing import NDArray

from cxrkit.base.contracts import IMAGE_SIZE
from cxrkit.base.errors import UserError
from cxrkit.loaders.opencv import opencv_matrix, sample
from cxrkit.loaders.plan import Plan, default_resize
from cxrkit.prepare.stage import PrepareConfig, parse_levels, prepare_raw
from cxrkit.shards.store import ShardStore

SIZES = (224, 448)

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Crop:
    """One crop of the plan."""

    row: int
    """Of the image in the store."""

    level: int
    """Number of the level that it is taken from."""

    window: tuple[int, int, int, int]
    """Left, top, right and bottom of what it needs of the level."""

    matrix: NDArray[np.float64]
    """(2, 3), from the crop's pixels to the window's, as OpenCV counts."""

    sigma: tuple[float, float]
    """Of the blur before it, x and y."""


def crops(store: ShardStore, size: int) -> list[Crop]:
    """Return one epoch of the paper's crops at `size`."""
    rows = np.arange(len(store))
    plan = Plan(rows, True, 0, min(64, len(rows)), size, default_resize(size), store.levels, IMAGE_SIZE)
    found = []
    for batch in plan.batches(0):
        matrices = opencv_matrix(batch.window_matrix)
        for i in range(len(batch)):
            left, top, right, bottom = batch.window[i].tolist()
            sigma_x, sigma_y = batch.sigma[i].tolist()
            where = (left, top, right, bottom)
            found.append(Crop(int(batch.rows[i]), int(batch.level[i]), where, matrices[i], (sigma_x, sigma_y)))
    return found


def race(work: Mapping[str, Callable[[Any], Any]], items: Sequence[Any], turns: int = 5) -> dict[str, float]:
    """Return the milliseconds of processor time that each takes an item: the median of `turns` after a warm-up."""
    taken: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(turns + 1):
        for name, one in work.items():
            began = time.process_time()
            for item in items:
                one(item)
            if turn:
                taken[name].append(1000 * (time.process_time() - began) / len(items))
    return {name: statistics.median(values) for name, values in taken.items()}


def psnr(one: Image, other: Image) -> float:
    """Return the peak signal-to-noise ratio in dB; infinite where no pixel differs."""
    error = float(np.mean((one.astype(np.float64) - other) ** 2))
    return 10 * float(np.log10(255**2 / error)) if error else float("inf")


def kernel(store: ShardStore) -> None:
    """Race OpenCV against a kernel that numba compiles, on crops of raw levels: blur and bilinear sampling."""
    _needs("numba")
    began = time.perf_counter()
    from benchmarks import tried_kernel

    compiled = tried_kernel.sample
    small = np.zeros((64, 64), np.uint8)
    compiled(small, np.eye(2, 3), (0.5, 0.5), np.empty((8, 8), np.uint8))
    compiled(small, np.eye(2, 3), (0.0, 0.0), np.empty((8, 8), np.uint8))
    print(f"numba: loaded and compiled, or taken from its cache, in {time.perf_counter() - began:.2f} s")
    for size in SIZES:
        jobs = crops(store, size)
        out_HW = np.empty((size, size), np.uint8)

        def with_opencv(job: Crop, out_HW: Image = out_HW) -> None:
            sample(store.window(job.row, job.level, job.window), job.matrix, job.sigma, out_HW)

        def with_numba(job: Crop, out_HW: Image = out_HW) -> None:
            compiled(store.window(job.row, job.level, job.window), job.matrix, job.sigma, out_HW)

        found = race({"OpenCV": with_opencv, "numba": with_numba}, jobs)
        ratios, differing = [], 0
        for job in jobs:
            with_opencv(job)
            expected = out_HW.copy()
            with_numba(job)
            ratios.append(psnr(out_HW, expected))
            differing += int((out_HW != expected).sum())
        share = differing / len(jobs) / size**2
        print(
            f"{size}: OpenCV {found['OpenCV']:.3f} ms, numba {found['numba']:.3f} ms; numba against OpenCV: "
            f"worst {min(ratios):.1f} dB, median {statistics.median(ratios):.1f}, {share:.1%} of the pixels differ"
        )


def codecs_beside_one_another(stores: Mapping[str, ShardStore]) -> None:
    """Print the bytes an image takes at each level, and race what a crop costs: its window alone, and with the warp."""
    for number, side in enumerate(stores["raw"].levels):
        sizes = {
            name: statistics.fmean(store.size(row, number) for row in range(len(store))) / 1000
            for name, store in stores.items()
        }
        print(f"{side}, kB: " + ", ".join(f"{name} {size:,.1f}" for name, size in sizes.items()))

    def window(store: ShardStore, whole: bool, job: Crop) -> Image:
        left, top, right, bottom = job.window
        if whole:
            return store.image(job.row, job.level)[top:bottom, left:right]
        return store.window(job.row, job.level, job.window)

    sources: dict[str, Callable[[Crop], Image]] = {}
    for name, store in stores.items():
        sources[name] = partial(window, store, False)
        if name in ("jpeg", "zstd"):
            sources[f"{name}, whole levels"] = partial(window, store, True)
    for size in SIZES:
        jobs = crops(stores["raw"], size)
        out_HW = np.empty((size, size), np.uint8)

        def warped(source: Callable[[Crop], Image], job: Crop, out_HW: Image = out_HW) -> None:
            sample(source(job), job.matrix, job.sigma, out_HW)

        with_warp = {name: partial(warped, source) for name, source in sources.items()}
        print(f"{size}, ms a window: " + ", ".join(f"{name} {ms:.3f}" for name, ms in race(sources, jobs).items()))
        print(f"{size}, ms a crop: " + ", ".join(f"{name} {ms:.3f}" for name, ms in race(with_warp, jobs).items()))


def _needs(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError:
        raise UserError(
            f"this needs the package {package}, which is not installed",
            remedy=f"pip install {package}, or leave it out with --only",
        ) from None


def main(given: Sequence[str] | None = None) -> None:
    """Prepare the images twice, raw and as JPEG, and measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--raw", type=Path, required=True, help="folder with real images, in NIH's layout")
    parser.add_argument("--work", type=Path, help="scratch folder, kept (default: a temporary one)")
    parser.add_argument("--only", choices=("kernel", "codecs"), help="measure this alone")
    parser.add_argument("--limit", type=int, help="only the first images")
    parser.add_argument("--levels", type=parse_levels, help="side lengths, as of `cxrkit prepare`")
    options = parser.parse_args(given)
    cv2.setNumThreads(0)
    wanted = ("raw",) if options.only == "kernel" else ("raw", "zstd", "jpeg", "png")
    with tempfile.TemporaryDirectory(prefix="cxrkit-tried-") as temporary:
        stores = {}
        for codec in wanted:
            data = (options.work or Path(temporary)) / codec
            how = {"levels": options.levels, "limit": options.limit}
            summary = prepare_raw(PrepareConfig(options.raw, data, codec=codec, allow_missing=True, **how))
            if made := summary.images - summary.reused:
                busy, encoding = 1000 * sum(summary.stage_seconds.values()), 1000 * summary.stage_seconds["encode"]
                print(f"{codec}: prepared in {busy / made:.2f} ms an image, {encoding / made:.2f} of it encoding")
            stores[codec] = ShardStore(data)
        if options.only != "codecs":
            kernel(stores["raw"])
        if options.only != "kernel":
            codecs_beside_one_another(stores)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
