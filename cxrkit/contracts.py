"""What the stages hand to one another: names, schemas and small protocols. Nothing here computes.

Shape letters used throughout: N images of a data set, B images of a batch, L labels (15), C channels, H and W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import polars as pl

if TYPE_CHECKING:
    import torch

# The 14 pathologies in the order of Baltruschat et al. 2019, Table 5, then "No Finding" as an explicit 15th label.
PATHOLOGIES = (
    "Cardiomegaly",
    "Emphysema",
    "Edema",
    "Hernia",
    "Pneumothorax",
    "Effusion",
    "Mass",
    "Fibrosis",
    "Atelectasis",
    "Consolidation",
    "Pleural_Thickening",
    "Nodule",
    "Pneumonia",
    "Infiltration",
)
NO_FINDING = "No Finding"
LABELS = (*PATHOLOGIES, NO_FINDING)

# One row per image, sorted by image_id. The whole data set is listed, also images whose pixels are not at hand:
# splits are a property of the data set, not of what somebody happened to download.
RECORD_SCHEMA: dict[str, pl.DataType] = {
    "image_id": pl.String(),  # the file name, 00000001_000.png
    "patient_id": pl.String(),  # a name, never a number: "1" and "01" may be two people elsewhere
    "follow_up": pl.Int32(),  # the CSV's column; not the number in the file name
    "age_years": pl.Int32(),
    "sex": pl.String(),  # M or F
    "view": pl.String(),  # PA or AP
    **{label: pl.Boolean() for label in LABELS},
    "official": pl.String(),  # train_val, test, or null where the data set has no official split
}
# Where the pixels are; null path: not at hand.
PIXEL_SCHEMA: dict[str, pl.DataType] = {
    "path": pl.String(),  # an image file, or the archive that holds `member`
    "member": pl.String(),  # null for a plain file
}
BOX_SCHEMA: dict[str, pl.DataType] = {
    "image_id": pl.String(),
    "label": pl.String(),
    "x": pl.Float64(),  # pixels of the 1024 x 1024 image, left edge
    "y": pl.Float64(),  # top edge
    "width": pl.Float64(),
    "height": pl.Float64(),
}

IMAGE_SIZE = 1024  # pixels along each side of every ChestX-ray14 image


@dataclass(frozen=True)
class Note:
    """Something in a raw folder that was passed over, or that its owner should know. It stops nobody."""

    found: str
    """What was found, and where."""
    remedy: str
    """What to do about it, one imperative sentence."""


@dataclass(frozen=True)
class Records:
    """A data set's table, before any pixel was read."""

    dataset: str
    """The registered name of the data set."""
    frame: pl.DataFrame
    """RECORD_SCHEMA + PIXEL_SCHEMA, sorted by image_id, every image of the data set once."""
    label_release: str
    """Printed beside every result: "v2020", "2017", "synthetic" or "unknown"."""
    boxes: pl.DataFrame | None = None
    """BOX_SCHEMA, or None where the raw folder has no box list."""
    side: int = IMAGE_SIZE
    """Pixels along each side of the images at hand: less than IMAGE_SIZE in a resized copy."""
    notes: tuple[Note, ...] = ()
    """What of the raw folder was passed over."""

    @property
    def missing(self) -> int:
        """Number of listed images whose pixels are not at hand."""
        return self.frame["path"].null_count()


class Dataset(Protocol):
    """A registered data set: a function from a raw folder to its records.

    Raises UserError when the folder is not of this data set or contradicts itself. With `allow_missing` false, an
    absent image is an error too.
    """

    def __call__(self, raw: Path, *, allow_missing: bool = False) -> Records:
        """Return the records of the raw folder."""
        ...


@dataclass(frozen=True)
class Batch:
    """One step's input, on the loader's device.

    image: (B, 1, H, W) uint8, not yet normalised; target: (B, L) float32 of 0 and 1; meta: (B, 3) float32 of
    age scaled to [0, 1], sex (M = 1) and view (AP = 1); index: (B,) int64, rows of index.parquet.
    A loader may reuse the memory after the next batch is asked for: copy what is to be kept.
    """

    image: torch.Tensor
    target: torch.Tensor
    meta: torch.Tensor
    index: torch.Tensor


class Loader(Protocol):
    """Executes a plan. `steps` is the number of batches of one epoch, on this rank."""

    steps: int

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """Yield the batches of `epoch` from `start_step` on, in the plan's order."""
        ...

    def close(self) -> None:
        """Stop threads and free buffers. Safe to call twice."""
        ...


Subset = Literal["train", "val", "test"]
SUBSETS: tuple[Subset, ...] = ("train", "val", "test")
