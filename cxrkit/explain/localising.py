"""A run's network held against the boxes of its test images, beside two controls that know nothing of the image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from rich.console import Console

from cxrkit.base.contracts import SUBSETS, Subset
from cxrkit.base.errors import UserError
from cxrkit.base.files import digest_lines, file_digest
from cxrkit.base.labels import LabelSet
from cxrkit.base.progress import progress_bar
from cxrkit.base.words import count
from cxrkit.explain import cases
from cxrkit.explain.attribution import AUTO
from cxrkit.explain.cases import Boxed, Found
from cxrkit.explain.looking import Network, Weights, open_network
from cxrkit.explain.measures import Measures, measures
from cxrkit.report.evidence.keeping import keep, kept
from cxrkit.runs.checkpoints import CheckpointInfo
from cxrkit.runs.folder import RunFolder
from cxrkit.statistics.intervals import MIN_PATIENTS

VERSION = 1  # of what is kept in derived/; raised whenever the same maps would give other boxes
NETWORK, CENTRE, RANDOM = "network", "centre prior", "random weights"
BOX_LOSSES = ("mil-box",)  # losses that are given boxes to learn from


@dataclass(frozen=True)
class Localised:
    """Everything that the report of a run's localisation is made of."""

    run: RunFolder
    """The run."""

    info: CheckpointInfo
    """What its checkpoint says of itself."""

    labels: LabelSet
    """What the network was trained to see."""

    method: str
    """How its maps are made, in words."""

    input_size: int
    """Pixels along each side of the network's input."""

    map_size: tuple[int, int]
    """Height and width of its maps, in cells."""

    cases: tuple[Boxed, ...]
    """The boxed findings of the test images."""

    patients: tuple[str, ...]
    """Whose images these are, sorted."""

    measures: Mapping[str, Mapping[str, Measures]]
    """By NETWORK, CENTRE and RANDOM, then by finding."""

    boxed_images: Mapping[Subset, int]
    """How many images with boxes each subset of the run's split has, prepared or not."""

    prepared: int
    """How many of those of the test subset are prepared, and counted."""

    learned_boxes: bool
    """Whether the network was trained on boxes, those of its own training images."""

    @property
    def findings(self) -> tuple[str, ...]:
        """The findings with boxes, in the order of the labels."""
        return tuple(label for label in self.labels.labels if label in self.measures[NETWORK])

    @property
    def averaged(self) -> tuple[str, ...]:
        """Those of at least ten patients: rates of fewer say little, and a mean would hang on them."""
        whose: dict[str, set[str]] = {}
        for case in self.cases:
            whose.setdefault(case.label, set()).add(case.patient_id)
        return tuple(label for label in self.findings if len(whose[label]) >= MIN_PATIENTS)


def localise(
    run: RunFolder,
    data: Path | None = None,
    *,
    method: str = AUTO,
    device: str = "auto",
    console: Console | None = None,
) -> Localised:
    """Return how a run's network, and both controls, do on the boxes of the run's test images.

    method: see attribution.choose. What was found is kept in the run's derived/ for the next time. Raises UserError as
    `open_network` does, and where there is no box to hold a map against.
    """
    from cxrkit.runs.opening import run_config

    network = open_network(run, data, method=method, device=device)
    try:
        boxes = boxes_of(network)
        asked = cases.boxed(network.inputs.frame, boxes, network.inputs.rows["test"].tolist(), network.labels.labels)
        images = _boxed_images(network, boxes)
        if not asked:
            total = sum(images.values())
            folder = network.inputs.store.folder
            raise UserError(
                f"{folder}: of {count(total, 'image')} with boxes, "
                f"{images['test']:,} are test images of split {network.inputs.split.name}, "
                "and none of these is prepared",
                remedy="prepare more images, or name a run on another split: all boxed images of ChestX-ray14 are in "
                "the official test list",
            )
        found = {
            NETWORK: _found(network, asked, method, "trained", console),
            CENTRE: cases.by_centre(asked),
            RANDOM: _found(network, asked, method, "random", console),
        }
        patients = tuple(sorted({case.patient_id for case in asked}))
        (one,) = network.look([asked[0].row], [0])
        return Localised(
            run,
            network.info,
            network.labels,
            network.attribution.words,
            network.spec.input_size,
            (one.maps.shape[1], one.maps.shape[2]),
            tuple(asked),
            patients,
            {who: measures(asked, items, patients) for who, items in found.items()},
            images,
            len({case.row for case in asked}),
            run_config(run).loss.name in BOX_LOSSES,
        )
    finally:
        network.close()


def boxes_of(network: Network) -> pl.DataFrame:
    """Return the boxes of the network's data set. Raises UserError where it has none."""
    boxes = network.inputs.store.boxes()
    if boxes.is_empty():
        raise UserError(
            f"{network.inputs.store.folder}: the data set was prepared without boxes",
            remedy="put BBox_List_2017.csv beside the data set's CSV, and run `cxrkit prepare` again: it makes the "
            "tables anew, and keeps the images",
        )
    return boxes


def _boxed_images(network: Network, boxes: pl.DataFrame) -> dict[Subset, int]:
    """Return how many images of each subset have a box, prepared or not."""
    with_box = boxes.select("image_id").unique()
    subset = network.inputs.split.frame.join(with_box, on="image_id", how="semi")["subset"]
    return {name: int((subset == name).sum()) for name in SUBSETS}


def _found(
    network: Network, asked: Sequence[Boxed], method: str, weights: Weights, console: Console | None
) -> list[Found]:
    """Return what a network finds, from the run's folder where that is there; random: of the same one, untrained."""
    path = network.run.derived(f"localisation-{network.attribution.name}-{weights}")
    made_of = _made_of(network, asked, weights)
    if (arrays := kept(path, made_of)) is not None:
        return cases.unpacked(arrays)
    if weights == "trained":
        found = _ask(network, asked, "maps of the network", console)
    else:
        untrained = open_network(
            network.run, network.inputs.store.folder, method=method, device=network.device, weights="random"
        )
        try:
            found = _ask(untrained, asked, "maps of random weights", console)
        finally:
            untrained.close()
    keep(path, made_of, cases.packed(found))
    return found


def _ask(network: Network, asked: Sequence[Boxed], what: str, console: Console | None) -> list[Found]:
    with progress_bar(what, len(asked), console=console, unit="findings") as bar:
        advance: Callable[[int], None] = bar.advance
        return cases.by_network(network, asked, advance)


def _made_of(network: Network, asked: Sequence[Boxed], weights: Weights) -> str:
    """Return a digest of all that decides what a network finds."""
    store = network.inputs.store
    trained = file_digest(network.run.best) if weights == "trained" else f"{network.info.model} {network.info.seed}"
    pixels = store.pixels_digest + store.settings_digest
    about = [f"{VERSION}", trained, f"{network.spec}", network.attribution.words, pixels]
    lines = (f"{case.image_id} {case.label} {case.boxes.tolist()}" for case in asked)
    return digest_lines([*about, *lines])
