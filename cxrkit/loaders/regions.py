"""Where the boxes of a training image are after its crop, turn and mirror: Batch.region, beside any loader.

A plan is a pure function, so what part of an image a loader delivers is known without it: the boxes go through the same
map as the pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from cxrkit.base.contracts import EVALUATED, IMAGE_SIZE, Batch, Loader
from cxrkit.base.errors import UserError
from cxrkit.base.labels import LabelSet
from cxrkit.loaders.geometry import Crops, matrices
from cxrkit.loaders.plan import Plan

if TYPE_CHECKING:
    from cxrkit.loaders.inputs import Inputs

Boxes = Mapping[int, NDArray[np.float64]]
"""By row of the index: (boxes, 5), the label's place, then left, top, right and bottom as shares of the image."""


def with_regions(loader: Loader, plan: Plan, inputs: Inputs, places: int, device: str) -> Loader:
    """Return `loader`, which executes the training's `plan`, with the boxes of its images in each batch.

    places: P of Batch.region. Raises UserError where no training image has a box: on the official split all boxes are
    of test images, which a training may not look at.
    """
    boxes = inputs.store.boxes().filter(pl.col("label").is_in(inputs.labels.labels))
    trained = inputs.frame["image_id"].gather(plan.rows).to_frame()
    mine = boxes.join(trained, on="image_id", how="semi")
    if mine.is_empty():
        boxed = inputs.split.frame.join(boxes.select("image_id").unique(), on="image_id", how="semi")
        val, test = (boxed.filter(pl.col("subset") == subset).height for subset in EVALUATED)
        raise UserError(
            f"split {inputs.split.name}: none of the {len(trained):,} training images has a box; of {boxed.height:,} "
            f"boxed images {val:,} validate and {test:,} test",
            remedy="train on a fold with boxed training images, --fold 1 to 5: on the official split all boxes of "
            "ChestX-ray14 are of test images"
            if boxed.height
            else "prepare the data set with its box list (BBox_List_2017.csv), or choose a loss without boxes",
        )
    found = boxes_by_row(mine, inputs.frame["image_id"], inputs.labels)
    return WithRegions(loader, plan, found, len(inputs.labels), places, device)


def boxes_by_row(boxes: pl.DataFrame, image_ids: pl.Series, labels: LabelSet) -> Boxes:
    """Return the boxes (contracts.BOX_SCHEMA) of the images that `image_ids` lists, row by row; others are left out."""
    rows = image_ids.to_frame("image_id").with_row_index("row")
    found: dict[int, list[list[float]]] = {}
    for box in boxes.join(rows, on="image_id").iter_rows(named=True):
        left, top = box["x"], box["y"]
        edges = np.array([left, top, left + box["width"], top + box["height"]]) / IMAGE_SIZE
        found.setdefault(box["row"], []).append([labels.labels.index(box["label"]), *edges])
    return {row: np.array(items, dtype=np.float64) for row, items in found.items()}


class WithRegions:
    """A contracts.Loader: another one's batches, with the regions of the boxes of its images."""

    def __init__(self, loader: Loader, plan: Plan, boxes: Boxes, labels: int, places: int, device: str) -> None:
        """Take `loader`, which executes `plan`; places: P of Batch.region."""
        self.steps = loader.steps
        self._loader, self._plan, self._boxes = loader, plan, boxes
        self._labels, self._places, self._device = labels, places, torch.device(device)

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """Yield the batches of `epoch` from `start_step` on."""
        rows = self._plan.rows_of(epoch, start_step)
        for batch, rows_B in zip(self._loader.epoch(epoch, start_step), rows, strict=True):
            region = torch.from_numpy(self.regions(epoch, rows_B))
            if self._device.type == "cuda":  # as in tables.py: from ordinary memory the copy would wait
                region = region.pin_memory().to(self._device, non_blocking=True)
            yield replace(batch, region=region)

    def close(self) -> None:
        """End the loader. Safe to call twice."""
        self._loader.close()

    def regions(self, epoch: int, rows_B: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return (B, L, P, P): 1 where a box touches a place of the images `rows_B` as they are seen in `epoch`."""
        made = np.zeros((len(rows_B), self._labels, self._places, self._places), dtype=np.uint8)
        crops = self._plan.crops(epoch, rows_B)
        for image in (number for number, row in enumerate(rows_B.tolist()) if row in self._boxes):
            crop = Crops(crops.box[image : image + 1], crops.angle[image : image + 1], crops.flip[image : image + 1])
            boxes = self._boxes[int(rows_B[image])]
            seen = seen_boxes(crop, boxes[:, 1:] * self._plan.image_size, self._places)
            for label, (left, top, right, bottom) in zip(boxes[:, 0].astype(int), seen, strict=True):
                made[image, label, top:bottom, left:right] = 1
        return made


def seen_boxes(crop: Crops, boxes: NDArray[np.float64], places: int) -> NDArray[np.int64]:
    """Return (boxes, 4), the first and the end of the columns and rows of `places` that each box touches in one crop.

    boxes: (boxes, 4) left, top, right and bottom in pixels of the full-size image. Of a turned box it is the upright
    one around it; one outside of the crop touches nothing: its end is its first.
    """
    to_image = matrices(crop, np.ones(1), places)[0]  # from the places, as if they were pixels
    inverse = np.linalg.inv(to_image[:, :2])
    corners = boxes[:, [[0, 1], [2, 1], [0, 3], [2, 3]]]  # (boxes, 4, 2)
    seen = (corners - to_image[:, 2]) @ inverse.T
    # Rounding must not let a box touch the place beside its edge.
    first = np.floor(seen.min(axis=1) + 1e-6).clip(0, places)
    end = np.ceil(seen.max(axis=1) - 1e-6).clip(0, places)
    outside = ((end <= first) | (seen.max(axis=1) <= 0) | (seen.min(axis=1) >= places)).any(axis=1)
    end[outside] = first[outside]
    return np.concatenate([first, end], axis=1).astype(np.int64)
