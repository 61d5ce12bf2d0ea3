"""NVIDIA DALI on the CPU with an operator for each step: crop while decoding, resize, rotate, flip."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from nvidia.dali import fn, pipeline_def, types
from nvidia.dali.plugin.pytorch import DALIGenericIterator, LastBatchPolicy

from benchmarks.stopwatch import Pass


@pipeline_def
def _pipeline(files: list[str], size: int):  # type: ignore[no-untyped-def]
    encoded, index = fn.readers.file(files=files, labels=list(range(len(files))), random_shuffle=True, name="files")
    image = fn.decoders.image_random_crop(
        encoded, output_type=types.GRAY, random_area=[0.08, 1.0], random_aspect_ratio=[3 / 4, 4 / 3]
    )
    image = fn.resize(image, size=[size, size])
    image = fn.rotate(image, angle=fn.random.uniform(range=[-7.0, 7.0]), size=[size, size], fill_value=0)
    image = fn.flip(image, horizontal=fn.random.coin_flip())
    return fn.transpose(image, perm=[2, 0, 1]), index


def load(folder: str, labels: str, size: int, batch: int, threads: int) -> Pass:
    """Return a pass over one epoch."""
    files = [str(path) for path in sorted(Path(folder).iterdir())]
    target = np.load(labels)
    pipeline = _pipeline(files, size, batch_size=batch, num_threads=threads, device_id=None, seed=0)
    loader = DALIGenericIterator(
        pipeline, ["image", "index"], reader_name="files", last_batch_policy=LastBatchPolicy.PARTIAL, auto_reset=True
    )

    def one_pass() -> Mapping[str, float]:
        images = 0
        for (step,) in loader:
            images += len(target[step["index"].numpy()[:, 0]])
        return {"images": images}

    return one_pass
