"""ChestX-ray8, the first publication of ChestX-ray14 (Wang et al., CVPR 2017): its eight labels of the same films.

Read from a ChestX-ray14 download. The first release had 108,948 of its 112,120 images, and which is not published; all
are listed here. An image that has only labels of the other six has none of these.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl

from cxrkit.base.contracts import PIXEL_SCHEMA, Records, record_schema
from cxrkit.base.labels import CHESTXRAY8
from cxrkit.datasets.nih import chestxray14

NAME = "nih-chestxray8"


def read(raw: Path, *, allow_missing: bool = False) -> Records:
    """Return the records of the ChestX-ray14 download in `raw` with eight labels. Raises what its own reader does."""
    return eight_of(chestxray14.read(raw, allow_missing=allow_missing), NAME)


def eight_of(records: Records, dataset: str) -> Records:
    """Return records of ChestX-ray14's labels with ChestX-ray8's alone, and the boxes of these; dataset: its name."""
    boxes = records.boxes
    return replace(
        records,
        dataset=dataset,
        frame=records.frame.select(*record_schema(CHESTXRAY8), *PIXEL_SCHEMA),
        boxes=None if boxes is None else boxes.filter(pl.col("label").is_in(CHESTXRAY8.labels)),
        labels=CHESTXRAY8,
    )
