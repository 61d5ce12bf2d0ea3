"""The floors: what single steps cost on one core.

No arrangement of threads and buffers can make a loader, or a writer, faster than the steps it cannot do without.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.stopwatch import Pass
from cxrkit.base.contracts import IMAGE_SIZE
from cxrkit.loaders.plan import Plan, default_resize
from cxrkit.prepare.worker import pyramid
from cxrkit.shards import codecs, tiles
from cxrkit.shards.store import ShardStore
from cxrkit.sources.pixels import read_png

IMAGES = 121  # a pass: enough for the mean, and little memory


def decode_png(folder: str, library: str) -> Pass:
    """Return a pass that decodes PNGs, already in memory, to gray pixels."""
    files = [path.read_bytes() for path in sorted(Path(folder).iterdir())[:IMAGES]]
    return _over(files, {"kornia-rs": read_png, "OpenCV": _with_opencv, "Pillow": _with_pillow}[library])


def encode_levels(folder: str, levels: Sequence[int], quality: int = 95) -> Pass:
    """Return a pass that scales decoded images to `levels` and encodes each as JPEG in tiles."""
    images = [read_png(path.read_bytes()).image for path in sorted(Path(folder).iterdir())[:IMAGES]]

    def encode(image: Any) -> None:
        for level in pyramid(image, tuple(levels)):
            codecs.encode("jpeg", level, quality, tiles.RESTART)

    return _over(images, encode)


def warp(data: str, size: int, blur: bool) -> Pass:
    """Return a pass over one epoch's crops: only the sampling of raw levels, with or without the blur before it.

    A window that is not blurred is copied first, as the loader does: so far it is the fastest way.
    """
    from cxrkit.loaders.geometry import NO_SIGMA
    from cxrkit.loaders.opencv import copied, opencv_matrix, sample

    store, plan = _plan(Path(data), size)
    jobs = []
    for batch in plan.batches(0):
        matrices = opencv_matrix(batch.window_matrix)
        for i in range(len(batch)):
            left, top, right, bottom = batch.window[i].tolist()
            part = store.window(int(batch.rows[i]), int(batch.level[i]), (left, top, right, bottom))
            sigma_x, sigma_y = batch.sigma[i].tolist() if blur else (NO_SIGMA, NO_SIGMA)
            jobs.append((part, matrices[i], (sigma_x, sigma_y)))
    out_HW = np.empty((size, size), np.uint8)

    def one(job: tuple[NDArray[np.uint8], NDArray[np.float64], tuple[float, float]]) -> None:
        part, matrix, sigma = job
        sample(part if max(sigma) > NO_SIGMA else copied(part), matrix, sigma, out_HW)

    return _over(jobs, one)


def decode_levels(data: str, size: int) -> Pass:
    """Return a pass over one epoch's images: only the decoding of what the crops need of their levels."""
    store, plan = _plan(Path(data), size)
    wanted = [
        crop
        for batch in plan.batches(0)
        for crop in zip(batch.rows.tolist(), batch.level.tolist(), batch.window.tolist(), strict=True)
    ]
    return _over(wanted, lambda crop: store.window(*crop))


def _plan(data: Path, size: int) -> tuple[ShardStore, Plan]:
    store = ShardStore(data)
    rows, resize = np.arange(len(store)), default_resize(size)
    return store, Plan(rows, True, 0, min(64, len(rows)), size, resize, store.levels, IMAGE_SIZE)


def _over(items: Sequence[Any], work: Callable[[Any], Any]) -> Pass:
    import cv2

    cv2.setNumThreads(0)

    def one_pass() -> Mapping[str, float]:
        for item in items:
            work(item)
        return {"images": len(items)}

    return one_pass


def _with_opencv(data: bytes) -> Any:
    import cv2

    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)


def _with_pillow(data: bytes) -> Any:
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("L"))
