"""From a run to a gallery: choose images, ask the network, draw what it looks at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.console import Console

from cxrkit.base.progress import progress_bar, waiting
from cxrkit.explain import gallery
from cxrkit.explain.attribution import AUTO
from cxrkit.explain.choosing import Pick, Wanted, picks
from cxrkit.explain.gallery import Exhibit
from cxrkit.explain.localising import boxes_of
from cxrkit.explain.looking import Network, open_network
from cxrkit.explain.panels import Panel, draw
from cxrkit.runs.folder import RunFolder


@dataclass(frozen=True)
class Gallery:
    """What was made."""

    page: Path
    """The page of HTML."""

    panels: int
    """How many panels it has, each a PNG beside it."""

    method: str
    """How the maps are made, in words."""


def explain(
    run: RunFolder,
    wanted: Wanted,
    out: Path,
    data: Path | None = None,
    *,
    method: str = AUTO,
    device: str = "auto",
    console: Console | None = None,
) -> Gallery:
    """Write a gallery of what a run's network looks at into `out`.

    method: see attribution.choose. Raises UserError as `open_network` and `picks` do, and for --boxes where the data
    set has none.
    """
    network = open_network(run, data, method=method, device=device)
    try:
        boxes = boxes_of(network) if wanted.boxes else network.inputs.store.boxes()
        chosen = picks(wanted, network, boxes)
        with progress_bar("explain", len(chosen), console=console, unit="panels") as bar:
            exhibits = []
            for exhibit in _exhibits(network, chosen, boxes):
                exhibits.append(exhibit)
                bar.advance()
        order = {label: place for place, label in enumerate(network.labels.labels)}
        headings = {network.labels.heading(label): order[label] for label in order}
        exhibits.sort(key=lambda exhibit: headings[exhibit.heading])  # stable: within a finding as chosen
        title = f"Where {network.info.name} looks"
        with waiting("writing the pictures and their page", console):
            page = gallery.write(out, exhibits, title=title, about=_about(network))
        return Gallery(page, len(exhibits), network.attribution.words)
    finally:
        network.close()


def _exhibits(network: Network, chosen: list[Pick], boxes: pl.DataFrame | None) -> Iterator[Exhibit]:
    """Yield the panels, finding by finding: an image's maps of one label at a time."""
    for label, group in groupby(chosen, key=lambda pick: pick.label):
        number = network.labels.labels.index(label)
        rows = [pick.row for pick in group]
        for seen in network.look(rows, [number]):
            panel = _panel(network, seen.row, label, seen.maps[0], float(seen.scores[number]), boxes)
            yield Exhibit(
                panel.label, panel.image_id, panel.score, _caption(network, seen.row, panel), panel.words, draw(panel)
            )


def _panel(
    network: Network, row: int, label: str, map_hw: NDArray[np.float32], score: float, boxes: pl.DataFrame | None
) -> Panel:
    record = network.inputs.frame.row(row, named=True)
    name, there = record["image_id"], record.get(label)
    truth = "label not known" if there is None else "labelled with it" if there else "not labelled with it"
    sides = np.zeros((0, 4))
    if boxes is not None:
        own = boxes.filter((pl.col("image_id") == name) & (pl.col("label") == label))
        sides = own.select("x", "y", "width", "height").to_numpy()
    heading = network.labels.heading(label)
    return Panel(name, heading, network.film(row), map_hw, network.placement, sides, score, truth)


def _caption(network: Network, row: int, panel: Panel) -> str:
    subset = network.subset_of(row)
    where = f"{subset} image" if subset else "in no subset"
    pointed = {True: "; highest inside the box", False: "; highest outside the box", None: ""}[panel.points_inside]
    return f"{panel.image_id}, {where}: score {panel.score:.3f}, {panel.truth}{pointed}"


def _about(network: Network) -> list[str]:
    origin, spec = network.info.origin, network.spec
    lines = [
        f"Run {network.info.name} ({network.info.model}), epoch {network.info.epoch}, split {origin.split} of "
        f"{origin.dataset}, input of {spec.input_size} pixels.",
        f"Maps: {network.attribution.words}. Colours go from the lowest to the highest value of each map; maps of two "
        "images, or of two findings, cannot be compared by them. What the network does not see is darker.",
        "Left the film, right the map over it; yellow: boxes of the finding, where the data set has any; cross: the "
        "map's highest place.",
        "A map shows what spoke for the score, not where the finding is: cxrkit localise measures how far these agree.",
    ]
    return lines
