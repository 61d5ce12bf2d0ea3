"""Which images and findings are shown: those that are named, those with boxes, or those with the highest scores."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cxrkit.base.errors import UserError
from cxrkit.base.labels import LabelSet
from cxrkit.base.registry import unknown
from cxrkit.explain.looking import Network
from cxrkit.imports.label_names import label_of

DEFAULT_TOP = 3


@dataclass(frozen=True)
class Wanted:
    """What is to be shown."""

    pathologies: tuple[str, ...] = ()
    """Findings, as a user spells them; () for all that fit."""

    images: tuple[str, ...] = ()
    """Images by their names; () to choose by score."""

    top: int = DEFAULT_TOP
    """How many images of each finding, those with the highest scores first."""

    boxes: bool = False
    """Whether only images with a box of the finding are shown."""

    def __post_init__(self) -> None:
        if self.top < 1:
            raise UserError(f"--top {self.top}: expected at least 1", remedy=f"{DEFAULT_TOP} is the default")
        if self.images and self.boxes:
            raise UserError(
                "--image and --boxes are two ways to choose images",
                remedy="leave out --boxes: boxes of an image that is named are drawn anyway",
            )


@dataclass(frozen=True)
class Pick:
    """One image and the finding that is looked for on it."""

    row: int
    """The image's, in the prepared folder."""

    label: str
    """The finding."""


def picks(wanted: Wanted, network: Network, boxes: pl.DataFrame | None) -> list[Pick]:
    """Return what is shown, finding by finding in the order of the labels.

    boxes: of the data set, where it has any. Raises UserError for a finding or an image that there is not, and where
    nothing fits.
    """
    labels = findings(wanted.pathologies, network.labels)
    if wanted.images:
        rows = [row_of(image, network) for image in dict.fromkeys(wanted.images)]
        if labels:
            return [Pick(row, label) for label in labels for row in rows]
        chosen = [Pick(row, label) for row in rows for label in _of_interest(row, network)]
        return sorted(chosen, key=lambda pick: network.labels.labels.index(pick.label))
    scores = test_scores(network)
    shown = labels or (network.labels.averaged or network.labels.labels)
    chosen = [Pick(row, label) for label in shown for row in _highest(label, wanted, network, scores, boxes)]
    if not chosen:
        what = "with a box of " if wanted.boxes else "for "
        raise UserError(
            f"{network.run.path}: no prepared test image {what}{' or '.join(shown[:3])}",
            remedy="choose another --pathology, or name images with --image",
        )
    return chosen


def findings(names: Sequence[str], labels: LabelSet) -> tuple[str, ...]:
    """Return the labels that a user has named. Raises UserError for one that the network was not trained to see."""
    found = []
    for name in names:
        label = label_of(name, labels)
        if label is None:
            raise unknown("pathology", name, labels.labels, own="")
        found.append(label)
    return tuple(dict.fromkeys(found))


def row_of(image: str, network: Network) -> int:
    """Return the row of an image. Raises UserError where the data set, or what is prepared of it, has none such."""
    frame = network.inputs.frame
    found = frame["image_id"].index_of(image)
    if found is not None:
        return int(found)
    folder = network.inputs.store.folder
    listed = network.inputs.store.records()["image_id"]
    if image in listed:
        raise UserError(
            f"{folder}: image {image} is in the data set, but not prepared",
            remedy="prepare it with the others, or choose another image",
        )
    near = difflib.get_close_matches(image, listed.to_list(), n=1, cutoff=0.8)
    raise UserError(
        f"{folder}: there is no image {image} in this data set",
        remedy=f"did you mean {near[0]}?" if near else f"name one as in its table: {listed[0]}",
    )


def test_scores(network: Network) -> dict[str, NDArray[np.float32]]:
    """Return image names ("image_id") and scores by label of the test images, from the run's predictions."""
    from cxrkit.runs.predictions import read_predictions

    path = network.run.predictions("test")
    if not path.exists():
        raise UserError(
            f"{path}: the run has no scores to choose the highest from",
            remedy=f"run `cxrkit predict {network.run.path}`, or name images with --image",
        )
    return {name: column.to_numpy() for name, column in read_predictions(path).frame.to_dict().items()}


def _highest(
    label: str,
    wanted: Wanted,
    network: Network,
    scores: dict[str, NDArray[Any]],
    boxes: pl.DataFrame | None,
) -> list[int]:
    """Return the rows of the prepared test images with the highest scores of a label."""
    prepared = pl.DataFrame({"image_id": network.inputs.frame["image_id"]}).with_row_index("row")
    ranked = pl.DataFrame({"image_id": scores["image_id"], "score": scores[label]}).join(prepared, on="image_id")
    if wanted.boxes:
        of_label = boxes.filter(pl.col("label") == label) if boxes is not None else ranked.clear()
        ranked = ranked.join(of_label, on="image_id", how="semi")
    return ranked.sort("score", "image_id", descending=[True, False])["row"].head(wanted.top).to_list()


def _of_interest(row: int, network: Network) -> list[str]:
    """Return the findings that an image is labelled with, and the one with the highest score."""
    labels = network.labels.averaged or network.labels.labels
    there = network.inputs.frame.row(row, named=True)
    (seen,) = network.look([row], [0])
    likeliest = max(labels, key=lambda label: seen.scores[network.labels.labels.index(label)])
    return [label for label in labels if there.get(label) or label == likeliest]
