"""Decoding alone, with DALI: what bounds any loader that reads these levels."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ours import plan_for
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
    return _decode_all(encoded, device, batch, hardware)


def windows_pass(data: Path, size: int, device: str, batch: int, hardware: float, joined: bool) -> Pass:
    """Return a pass that decodes what an epoch's crops to `size` need, one image each, of the levels planned for them.

    joined: the tiles that the crop's window meets, joined into a JPEG of their own; otherwise the whole level.
    """
    store = ShardStore(data)
    encoded = []
    for planned in plan_for(store, size, batch).batches(0, 0):
        for row, level, window in zip(planned.rows.tolist(), planned.level.tolist(), planned.window, strict=True):
            whole = store.encoded(row, level)
            encoded.append((store.encoded_window(row, level, window.tolist())[0] if joined else whole).copy())
    return _decode_all(encoded, device, batch, hardware)


def _decode_all(encoded: list[np.ndarray], device: str, batch: int, hardware: float) -> Pass:
    size = float(np.mean([len(one) for one in encoded]))
    batches = [encoded[start : start + batch] for start in range(0, len(encoded), batch)]
    on_gpu = device.startswith("cuda")
    pipeline = _pipeline(_Cycle(batches), batch, device, on_gpu, hardware)

    def one_pass() -> Mapping[str, float]:
        for _ in batches:
            pipeline.run()
        synchronize(device)
        return {"images": len(encoded), "bytes": size}

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
