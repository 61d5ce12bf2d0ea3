"""What was tried for speed, measured again beside what is there; tried.md says what came of it.

python benchmarks/tried.py --raw DIR                 about five minutes on one core
python benchmarks/tried.py --raw DIR --only kernel   a compiled kernel (needs numba)
python benchmarks/tried.py --raw DIR --only bands    bands of vertical differences under zstd (needs zstandard)

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
from cxrkit.prepare.stage import PrepareConfig, prepare_raw
from cxrkit.shards import codecs
from cxrkit.shards.store import ShardStore

SIZES = (224, 448)
BAND = 64  # rows that are packed together
ZSTD_LEVELS = (1, 3, 9)

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


def pack(image_HW: Image, compress: Callable[[bytes], bytes], band: int = BAND) -> list[bytes]:
    """Return the bands of an image: each one's first row, then differences from the row above, compressed."""
    packed = []
    for top in range(0, len(image_HW), band):
        rows = image_HW[top : top + band]
        packed.append(compress(np.concatenate([rows[:1], np.diff(rows, axis=0)]).tobytes()))
    return packed


def unpack(packed: Sequence[bytes], side: int, top: int, bottom: int, expand: Callable[..., bytes]) -> Image:
    """Return the rows `top` to `bottom` of the image in the bands of `pack`."""
    first, last = top // BAND, (bottom - 1) // BAND
    rows_HW = np.empty((min((last + 1) * BAND, side) - first * BAND, side), np.uint8)
    for number in range(first, last + 1):
        into = rows_HW[(number - first) * BAND : (number - first + 1) * BAND]
        data = expand(packed[number], max_output_size=into.size)
        into[:] = np.frombuffer(data, np.uint8).reshape(into.shape)
        # The running sum in log2 steps of whole rows, 15 times as fast as np.cumsum down the columns.
        step = 1
        while step < len(into):
            into[step:] += into[:-step].copy()
            step *= 2
    return rows_HW[top - first * BAND : bottom - first * BAND]


def bands(raw: ShardStore, jpeg: ShardStore) -> None:
    """Measure the size of bands of vertical differences under zstd, and what a crop from them costs."""
    zstandard = _needs("zstandard")
    images = {(row, n): raw.image(row, n) for row in range(len(raw)) for n in range(len(raw.levels))}
    packed: dict[tuple[int, int], list[bytes]] = {}
    for number, side in enumerate(raw.levels):
        some = [image for (_, level), image in images.items() if level == number]
        line = [f"{side}: raw {side * side / 1000:,.1f} kB"]
        line += [f"jpeg {statistics.fmean(jpeg.size(row, number) for row in range(len(jpeg))) / 1000:,.1f} kB"]
        line += [f"png {statistics.fmean(len(codecs.encode('png', image)) for image in some) / 1000:,.1f} kB"]
        for level in ZSTD_LEVELS:
            compress = zstandard.ZstdCompressor(level=level, write_content_size=False, write_checksum=False).compress
            began = time.process_time()
            made = [pack(image, compress) for image in some]
            milliseconds = 1000 * (time.process_time() - began) / len(some)
            size = statistics.fmean(sum(map(len, one)) for one in made)
            line.append(f"zstd -{level} {size / 1000:,.1f} kB ({size / side**2:.2f} of raw, {milliseconds:.1f} ms)")
            if level == ZSTD_LEVELS[0]:
                packed |= {(row, number): one for row, one in enumerate(made)}
        print(", ".join(line))
    expand = zstandard.ZstdDecompressor().decompress
    for (row, number), one in packed.items():
        side = raw.levels[number]
        assert np.array_equal(unpack(one, side, 0, side, expand), images[row, number]), "lossless"

    def from_bands(job: Crop) -> Image:
        left, top, right, bottom = job.window
        return unpack(packed[job.row, job.level], raw.levels[job.level], top, bottom, expand)[:, left:right]

    def whole_jpeg(job: Crop) -> Image:
        left, top, right, bottom = job.window
        return jpeg.image(job.row, job.level)[top:bottom, left:right]

    sources: dict[str, Callable[[Crop], Image]] = {
        "raw": lambda job: raw.window(job.row, job.level, job.window),
        "bands under zstd -1": from_bands,
        "jpeg, whole levels": whole_jpeg,
        "jpeg, as the loader reads it": lambda job: jpeg.window(job.row, job.level, job.window),
    }
    for size in SIZES:
        jobs = crops(raw, size)
        out_HW = np.empty((size, size), np.uint8)
        whole = {
            name: lambda job, source=source, out_HW=out_HW: sample(source(job), job.matrix, job.sigma, out_HW)
            for name, source in sources.items()
        }
        print(f"{size}, ms a window:   " + ", ".join(f"{name} {ms:.3f}" for name, ms in race(sources, jobs).items()))
        print(f"{size}, ms with a warp: " + ", ".join(f"{name} {ms:.3f}" for name, ms in race(whole, jobs).items()))


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
    parser.add_argument("--only", choices=("kernel", "bands"), help="measure this alone")
    parser.add_argument("--limit", type=int, help="only the first images")
    options = parser.parse_args(given)
    cv2.setNumThreads(0)
    with tempfile.TemporaryDirectory(prefix="cxrkit-tried-") as temporary:
        work = options.work or Path(temporary)
        for codec in ("raw", "jpeg"):
            prepare_raw(
                PrepareConfig(options.raw, work / codec, codec=codec, allow_missing=True, limit=options.limit),
            )
        raw, jpeg = ShardStore(work / "raw"), ShardStore(work / "jpeg")
        if options.only != "bands":
            kernel(raw)
        if options.only != "kernel":
            bands(raw, jpeg)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
