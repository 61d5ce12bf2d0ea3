"""What is found of each boxed finding: by a network, and by a centre prior that looks at no image.

The protocol of Wang et al. 2017 (arXiv 1705.02315v5, supplement): a map is scaled to [0, 255], cut at 60 and at 180,
and a box is put round every region of either. What they leave open is settled here: the map is carried back to the
1024 x 1024 film before it is cut, bilinearly; each map has a scale of its own; pixels of a region touch at a side or at
a corner; what lies outside the network's crop is 0; only findings that have a box on an image are looked for on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cxrkit.explain import regions
from cxrkit.explain.looking import Network
from cxrkit.explain.placing import Placement

CUTS = (60.0, 180.0)  # of [0, 255]
HALF = regions.TOP / 2  # the mask is what lies above half of a map's range


@dataclass(frozen=True)
class Boxed:
    """A finding that has boxes on an image."""

    row: int
    """The image's, in the prepared folder."""

    image_id: str
    """Its name."""

    patient_id: str
    """Whose it is."""

    label: str
    """The finding."""

    boxes: NDArray[np.float64]
    """(Q, 4): x, y, width and height on the 1024 x 1024 film."""


@dataclass(frozen=True)
class Found:
    """Where somebody thinks that such a finding is."""

    boxes: NDArray[np.float64]
    """(P, 4) boxes; (0, 4) for nowhere."""

    point: tuple[float, float] | None
    """The likeliest point; None for nowhere."""

    mask_iou: float
    """Of the likeliest area with the true boxes, taken together."""


def boxed(frame: pl.DataFrame, boxes: pl.DataFrame, rows: Sequence[int], labels: Sequence[str]) -> list[Boxed]:
    """Return the findings among `labels` that have a box on the images in `rows` of `frame`, by image and label."""
    chosen = frame.with_row_index("row").filter(pl.col("row").is_in(list(rows))).select("row", "image_id", "patient_id")
    joined = boxes.filter(pl.col("label").is_in(list(labels))).join(chosen, on="image_id", how="inner")
    joined = joined.sort("image_id", "label", "x", "y", "width", "height")
    found = []
    for _, group in joined.group_by("image_id", "label", maintain_order=True):
        first = group.row(0, named=True)
        sides = group.select("x", "y", "width", "height").to_numpy()
        found.append(Boxed(first["row"], first["image_id"], first["patient_id"], first["label"], sides))
    return found


def by_network(network: Network, cases: Sequence[Boxed], progress: Callable[[int], None]) -> list[Found]:
    """Return what the network's maps say of each case; progress: called with the number of cases after each image."""
    labels = sorted({case.label for case in cases}, key=network.labels.labels.index)
    numbers = [network.labels.labels.index(label) for label in labels]
    by_row = [(row, list(group)) for row, group in groupby(cases, key=lambda case: case.row)]
    found: list[Found] = []
    for seen, (row, group) in zip(network.look([row for row, _ in by_row], numbers), by_row, strict=True):
        assert seen.row == row, "images come in the order in which they are asked for"
        found += [of_map(seen.maps[labels.index(case.label)], network.placement, case.boxes) for case in group]
        progress(len(group))
    return found


def of_map(map_hw: NDArray[np.floating], placement: Placement, true_Q4: NDArray[np.float64]) -> Found:
    """Return what a map says of where a finding is."""
    film_YX = regions.scaled(placement.to_film(map_hw))
    if not film_YX.any():
        return Found(np.zeros((0, 4)), None, 0.0)
    boxes = np.concatenate([regions.boxes_round(film_YX >= cut) for cut in CUTS])
    overlap = regions.mask_iou(film_YX >= HALF, regions.mask_of(true_Q4))
    return Found(boxes, placement.point(map_hw), overlap)


def by_centre(cases: Sequence[Boxed]) -> list[Found]:
    """Return the mean box of each case's finding over the boxes of all other patients: what needs no image.

    Nowhere, where no other patient has the finding.
    """
    sums: dict[str, tuple[NDArray[np.float64], int]] = {}
    of_patient: dict[tuple[str, str], tuple[NDArray[np.float64], int]] = {}
    for case in cases:
        centre = _centred(case.boxes).sum(axis=0)
        _add(sums, case.label, centre, len(case.boxes))
        _add(of_patient, (case.label, case.patient_id), centre, len(case.boxes))
    found = []
    for case in cases:
        (total, count), (own, of_own) = sums[case.label], of_patient[case.label, case.patient_id]
        if count == of_own:
            found.append(Found(np.zeros((0, 4)), None, 0.0))
            continue
        x, y, width, height = (total - own) / (count - of_own)
        box = np.array([[x - width / 2, y - height / 2, width, height]])
        overlap = regions.mask_iou(regions.mask_of(box), regions.mask_of(case.boxes))
        found.append(Found(box, (float(x), float(y)), overlap))
    return found


def _centred(boxes_Q4: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (Q, 4): the centre's x and y, width and height."""
    return np.concatenate([boxes_Q4[:, :2] + boxes_Q4[:, 2:] / 2, boxes_Q4[:, 2:]], axis=1)


def _add(sums: dict, key: object, values: NDArray[np.float64], count: int) -> None:  # type: ignore[type-arg]
    total, before = sums.get(key, (np.zeros(4), 0))
    sums[key] = (total + values, before + count)


def packed(found: Iterable[Found]) -> dict[str, NDArray[np.generic]]:
    """Return what was found as arrays, to be kept in a file."""
    found = list(found)
    points = [(np.nan, np.nan) if item.point is None else item.point for item in found]
    return {
        "counts": np.array([len(item.boxes) for item in found], np.int64),
        "boxes": np.concatenate([np.zeros((0, 4)), *(item.boxes for item in found)]),
        "points": np.array(points, np.float64).reshape(-1, 2),
        "mask_iou": np.array([item.mask_iou for item in found], np.float64),
    }


def unpacked(arrays: dict[str, NDArray[np.generic]]) -> list[Found]:
    """Undo `packed`."""
    boxes = np.split(arrays["boxes"], np.cumsum(arrays["counts"])[:-1]) if len(arrays["counts"]) else []
    points = [None if np.isnan(x) else (float(x), float(y)) for x, y in arrays["points"]]
    return [
        Found(box.astype(np.float64), point, float(overlap))
        for box, point, overlap in zip(boxes, points, arrays["mask_iou"], strict=True)
    ]
