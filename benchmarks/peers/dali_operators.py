"""NVIDIA DALI on the CPU with an operator for each step: crop while decoding, resize, rotate, flip."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.stopwatch import Pass


def _module(part: str) -> Any:
    """Return a module of DALI, by name: half of its attributes are made at run time, and few have a type."""
    return importlib.import_module(f"nvidia.dali{part}")


def _graph(files: list[str], size: int) -> tuple[Any, Any]:
    fn, types = _module(".fn"), _module(".types")
    encoded, index = fn.readers.file(files=files, labels=list(range(len(files))), random_shuffle=True, name="files")
    image = fn.decoders.image_random_crop(
        encoded, output_type=types.GRAY, random_area=[0.08, 1.0], random_aspect_ratio=[3 / 4, 4 / 3]
    )
    image = fn.resize(image, size=[size, size])
    image = fn.rotate(image, angle=fn.random.uniform(range=[-7.0, 7.0]), size=[size, size], fill_value=0)
    image = fn.flip(image, horizontal=fn.random.coin_flip())
    return fn.transpose(image, perm=[2, 0, 1]), index


def load(folder: str, labels: str, size: int, batch: int, threads: int, limit: int | None = None) -> Pass:
    """Return a pass over one epoch."""
    files = [str(path) for path in sorted(Path(folder).iterdir())[:limit]]
    target = np.load(labels)
    dali, torch_plugin = _module(""), _module(".plugin.pytorch")
    pipeline = dali.pipeline_def(_graph)(files, size, batch_size=batch, num_threads=threads, device_id=None, seed=0)
    loader = torch_plugin.DALIGenericIterator(
        pipeline,
        ["image", "index"],
        reader_name="files",
        last_batch_policy=torch_plugin.LastBatchPolicy.PARTIAL,
        auto_reset=True,
    )

    def one_pass() -> Mapping[str, float]:
        images = 0
        for (step,) in loader:
            images += len(target[step["index"].numpy()[:, 0]])
        return {"images": images}

    return one_pass
