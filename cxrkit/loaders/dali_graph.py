"""The graph of operators that DALI runs, on a GPU or on the CPU: the same one but for where each operator works.

From encoded bytes: decode, cut the window out, blur it, sample it. From pixels: blur and sample. Nothing here needs
PyTorch or a prepared folder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrkit.loaders.dali_setup import modules
from cxrkit.loaders.plan import PlannedBatch

Arrays = tuple[list[NDArray[np.uint8]] | NDArray[Any], ...]
"""What the graph is fed with for one bundle of images: see `inputs`."""


@dataclass(frozen=True)
class Graph:
    """What a pipeline is built from."""

    images: int
    """The most images that are decoded at a time."""

    side: int
    """Pixels along each side of an image that is made."""

    gpu: int | None
    """Number of the GPU; None: everything runs on the CPU."""

    threads: int
    """CPU threads."""

    prefetch: int
    """Bundles of images that are made ahead."""

    pixels: bool
    """Whether it is fed with the pixels of the windows; otherwise with encoded images, which windows are cut from."""

    region: bool
    """Whether the decoder decodes the window alone; otherwise everything, and the window is cut out afterwards."""

    hw_decoder_load: float
    """Share of JPEGs for a GPU's decoding engines."""

    views: int = 1
    """How often each image is sampled, once it is decoded."""


def build(graph: Graph, source: Callable[[Any], Arrays]) -> Any:
    """Return a built pipeline that asks `source` for `inputs`; its one output is (images, side, side, 1) uint8.

    With several views it is (images, views, side, side, 1).

    Raises RuntimeError where DALI does not fit the machine, its CUDA driver above all.
    """
    pipeline = define(graph, source)
    pipeline.build()
    return pipeline


def define(graph: Graph, source: Callable[[Any], Arrays]) -> Any:
    """Return the pipeline, not yet built: DALI defines one for a GPU on any machine."""
    dali, fn, types = modules()
    on_gpu = graph.gpu is not None
    pipeline = dali.Pipeline(graph.images, graph.threads, graph.gpu, prefetch_queue_depth=graph.prefetch)
    # data, matrix, sigma; what is encoded has a window to cut out, too.
    kinds = [types.UINT8, types.FLOAT, types.FLOAT, *([] if graph.pixels else [types.INT32, types.INT32])]
    of_views = int(graph.views > 1)  # matrices and sigmas then have the views first
    dimensions = [3 if graph.pixels else 1, 2 + of_views, 1 + of_views, *([] if graph.pixels else [1, 1])]
    with pipeline:
        data, matrix, sigma, *window = fn.external_source(
            source=source,
            num_outputs=len(kinds),
            batch=True,
            batch_info=True,
            dtype=kinds,
            ndim=dimensions,
            layout=["HWC" if graph.pixels else "", *[""] * (len(kinds) - 1)],
        )
        image = _decoded(graph, data, *window) if window else data
        image = image.gpu() if on_gpu else image
        if graph.views == 1:
            pipeline.set_outputs(_sampled(graph, image, matrix, sigma))
        else:
            seen = [_sampled(graph, image, matrix[view], sigma[view]) for view in range(graph.views)]
            pipeline.set_outputs(fn.stack(*seen))
    return pipeline


def _sampled(graph: Graph, image: Any, matrix: Any, sigma: Any) -> Any:
    """Return the image blurred and sampled."""
    _, fn, _ = modules()
    blurred = fn.gaussian_blur(image, sigma=sigma, window_size=3)
    # No fill_value: outside the image its edge is repeated.
    return fn.warp_affine(blurred, matrix=matrix, size=(graph.side, graph.side), inverse_map=True)


def _decoded(graph: Graph, data: Any, start: Any, shape: Any) -> Any:
    """Return the windows of the encoded images.

    A window that is cut out, and not its offset in the matrix: the blur then stops at its edges, as the other loaders'
    does, and blurs no pixel that nobody samples.
    """
    _, fn, types = modules()
    how = {
        "device": "cpu" if graph.gpu is None else "mixed",
        "hw_decoder_load": graph.hw_decoder_load,
        "output_type": types.GRAY,  # with ANY_DATA a gray JPEG ends the process on a CPU
    }
    window = {"start": start, "shape": shape, "axis_names": "HW"}
    if graph.region:
        return fn.decoders.image_slice(data, **window, **how)
    return fn.slice(fn.decoders.image(data, **how), **window)


def inputs(
    planned: PlannedBatch, data: list[NDArray[np.uint8]], origin: NDArray[np.int64] | None = None, views: int = 1
) -> Arrays:
    """Return what the graph takes: images, matrices, sigmas (y, x), and starts and sizes (y, x) of the windows.

    data: with `origin`, encoded images, and (B, 2) where in its level, (x, y), each of them begins; without, the
    pixels of the windows. views: how many of those that `planned` names are of one image; it is given once.
    """
    matrix = planned.window_matrix.astype(np.float32)
    sigma = np.ascontiguousarray(planned.sigma[:, ::-1], dtype=np.float32)  # DALI counts rows first
    if views > 1:
        matrix, sigma = matrix.reshape(-1, views, 2, 3), sigma.reshape(-1, views, 2)
        planned = planned[::views]  # they share their window
    if origin is None:
        return data, matrix, sigma
    # A window is (left, top, right, bottom): [1::-1] takes (top, left), [:1:-1] takes (bottom, right).
    start, stop = planned.window[:, 1::-1], planned.window[:, :1:-1]
    # DALI takes contiguous arrays only.
    window = np.ascontiguousarray([start - origin[:, ::-1], stop - start], dtype=np.int32)
    return data, matrix, sigma, window[0], window[1]
