"""Decoding alone, with DALI: what bounds any loader that reads these levels."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.steps import synchronize
from benchmarks.stopwatch import Pass
from cxrkit.shards.store import ShardStore


def decode_pass(data: Path, level: int, device: str, batch: int, hardware: float) -> Pass:
    """Return a pass that decodes every image of a level to whole gray images on `device`.

    hardware: share of JPEGs for the GPU's decoding engines.
    """
    store = ShardStore(data)
    # Copied out beforehand: reading is not what is measured here.
    encoded = [store.encoded(row, level).copy() for row in range(len(store))]
    batches = [encoded[start : start + batch] for start in range(0, len(encoded), batch)]
    on_gpu = device.startswith("cuda")
    pipeline = _pipeline(_Cycle(batches), batch, device, on_gpu, hardware)

    def one_pass() -> Mapping[str, float]:
        for _ in batches:
            pipeline.run()
        synchronize(device)
        return {"images": len(encoded)}

    return one_pass


class _Cycle:
    """Yields the batches without end."""

    def __init__(self, batches: list[list[np.ndarray]]) -> None:
        self.batches, self.position = batches, 0

    def __call__(self, info: object) -> list[np.ndarray]:
        batch = self.batches[self.position % len(self.batches)]
        self.position += 1
        return batch


def _pipeline(source: _Cycle, batch: int, device: str, on_gpu: bool, hardware: float) -> Any:
    import torch

    # By name, as cxrkit's own loader does: half of DALI's attributes are made at run time, and none has a type.
    dali, fn, types = (importlib.import_module(f"nvidia.dali{part}") for part in ("", ".fn", ".types"))
    device_id = (torch.device(device).index or 0) if on_gpu else None
    pipeline = dali.Pipeline(batch, len(os.sched_getaffinity(0)), device_id, prefetch_queue_depth=2)
    with pipeline:
        data = fn.external_source(source=source, batch=True, batch_info=True, dtype=types.UINT8, ndim=1)
        place = "mixed" if on_gpu else "cpu"
        pipeline.set_outputs(fn.decoders.image(data, device=place, output_type=types.GRAY, hw_decoder_load=hardware))
    pipeline.build()
    return pipeline
