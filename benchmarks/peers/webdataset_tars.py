"""webdataset: tar files of 512-pixel JPEGs, shuffled in a buffer, with torchvision's transforms."""

from __future__ import annotations

import io
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import webdataset
from PIL import Image

from benchmarks.peers.torchvision_files import epochs, transform
from benchmarks.stopwatch import Pass


def write(folder: str, labels: str, out: str, shards: int, limit: int | None = None) -> Pass:
    """Return a pass that packs the first `limit` of a folder's JPEGs and their labels into `shards` tar files."""
    paths, target = sorted(Path(folder).iterdir())[:limit], np.load(labels)

    def one_pass() -> Mapping[str, float]:
        part = Path(out + ".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        for shard in range(shards):
            with webdataset.TarWriter(str(part / f"{shard:04d}.tar")) as tar:
                for index in range(shard, len(paths), shards):
                    label = io.BytesIO()
                    np.save(label, target[index])
                    tar.write({"__key__": paths[index].stem, "jpg": paths[index].read_bytes(), "npy": label.getvalue()})
        part.rename(out)
        return {"images": len(paths)}

    return one_pass


def load(folder: str, size: int, batch: int, workers: int) -> Pass:
    """Return a pass over one epoch, batches made in the workers as its documentation advises."""
    augment = transform(size)

    def decode(sample: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        label = torch.from_numpy(np.load(io.BytesIO(sample["npy"])))
        return augment(Image.open(io.BytesIO(sample["jpg"])).convert("L")), label

    urls = [str(path) for path in sorted(Path(folder).glob("*.tar"))]
    dataset = webdataset.WebDataset(urls, shardshuffle=len(urls), nodesplitter=None).shuffle(1000).map(decode)
    if workers:
        return epochs(dataset.batched(batch, partial=True), None, workers, shuffle=False)
    return epochs(dataset, batch, 0, shuffle=False)
