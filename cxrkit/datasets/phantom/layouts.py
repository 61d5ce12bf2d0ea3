"""Phantom cohorts in the layouts of other hospitals' data sets: `cxrkit synth OUT --layout chexpert`.

The same films of the same stream as `synthetic`'s, under the hospital's names, in its tables and file formats, with
its quirks: films that are no squares, lateral ones among them, labels that hedge, readers who disagree, 16 bits. Films
are drawn on a square and then given the proportions of a real one, as those of ChestX-ray14 were made square.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from cxrkit.base.contracts import IMAGE_SIZE
from cxrkit.base.cores import available_cores
from cxrkit.base.errors import UserError
from cxrkit.base.files import output_error, read_json, write_json, write_text
from cxrkit.base.registry import unknown
from cxrkit.datasets.phantom import layout_tables
from cxrkit.datasets.phantom.anatomy import stream
from cxrkit.datasets.phantom.cohort import MARKER, Row, cohort
from cxrkit.datasets.phantom.film import PHANTOM_VERSION, draw, warm_up
from cxrkit.datasets.phantom.layout_tables import Drawn

MIN_IMAGES = 8
_SIDEWAYS = 9  # purpose of the random stream that a layout's quirks are drawn from, behind anatomy's five
_SIXTEEN_BITS = 4095  # of 65,535: the brightest pixel of a film of 12 bits


@dataclass(frozen=True)
class Layout:
    """How a hospital's films are written."""

    tables: Callable[[list[Drawn], np.random.Generator], dict[str, str]]
    """From the films to the tables: name in the raw folder -> text."""

    place: Callable[[Row], str]
    """Where a film's file goes in the raw folder."""

    shorter: int
    """Pixels of a film's shorter side: small, to be quick; only CheXpert-v1.0-small's are as published."""

    sixteen_bits: bool = False
    """Whether films have 12 of 16 bits."""


LAYOUTS = {
    "chexpert": Layout(layout_tables.chexpert, layout_tables.chexpert_place, 320),
    "mimic-cxr-jpg": Layout(layout_tables.mimic, layout_tables.mimic_place, 400),
    "padchest": Layout(layout_tables.padchest, layout_tables.padchest_place, 400, sixteen_bits=True),
    "vindr-cxr": Layout(layout_tables.vindr, layout_tables.vindr_place, 400),
}


def generate(
    out: Path,
    layout: str,
    images: int,
    seed: int = 0,
    *,
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Draw `images` films into the new folder `out` in a hospital's layout, calling `progress(1)` after each.

    The same seed and number give the same bytes whatever the workers (threads; default: one a core). A cohort that is
    there already, whole and the same, is left as it is. Raises UserError for an unknown layout, fewer than 8 images,
    and a folder that holds anything else.
    """
    if layout not in LAYOUTS:
        raise unknown("layout", layout, LAYOUTS, own="")
    if images < MIN_IMAGES:
        raise UserError(
            f"{images} synthetic images were asked for, expected {MIN_IMAGES} at least",
            remedy=f"ask for {MIN_IMAGES} images or more",
        )
    how = LAYOUTS[layout]
    about = {"layout": layout, "seed": seed, "version": PHANTOM_VERSION, "images": images}
    if _there(out, about):
        if progress:
            progress(images)
        return
    rows = list(islice(cohort(seed), images))
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / MARKER, about | {"complete": False})
        for folder in {(out / how.place(row)).parent for row in rows}:
            folder.mkdir(parents=True, exist_ok=True)
        warm_up()
        with ThreadPoolExecutor(workers or available_cores()) as pool:
            films = []
            for film in pool.map(lambda row: _draw_one(out, how, row), rows):
                films.append(film)
                if progress:
                    progress(1)
        for name, text in how.tables(films, stream(seed, _SIDEWAYS, 0)).items():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            write_text(out / name, text)
        write_json(out / MARKER, about | {"complete": True})
    except OSError as error:
        raise output_error(out, error) from error


def _there(out: Path, about: dict[str, Any]) -> bool:
    """Return whether the very cohort is there. Raises UserError where something else is."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    remedy = "choose an empty folder or a new one"
    if not (out / MARKER).is_file():
        raise UserError(f"{out}: is no new folder; nothing was written", remedy=remedy)
    found = read_json(out / MARKER, "the synthetic cohort's marker", remedy)
    if found == about | {"complete": True}:
        return True
    if isinstance(found, dict) and found == about | {"complete": False}:
        return False
    raise UserError(f"{out}: holds another synthetic cohort; nothing was written", remedy=remedy)


def _size(row: Row, shorter: int) -> tuple[int, int]:
    """Return width and height of a film: upright, lying or square, by its number."""
    longer = round(shorter * (1.0, 1.22, 1.1)[row.film.index % 3])
    return (longer, shorter) if row.film.index % 2 else (shorter, longer)


def _draw_one(out: Path, how: Layout, row: Row) -> Drawn:
    import cv2

    drawing = draw(row.film)
    width, height = _size(row, how.shorter)
    image = np.asarray(cv2.resize(drawing.image, (width, height), interpolation=cv2.INTER_AREA))
    path = out / how.place(row)
    if how.sixteen_bits:
        image = ((image.astype(np.uint32) * _SIXTEEN_BITS + 127) // 255).astype(np.uint16)
    done, data = cv2.imencode(path.suffix, image)
    assert done
    path.write_bytes(bytes(data))
    across, down = width / IMAGE_SIZE, height / IMAGE_SIZE
    boxes = {
        label: (x * across, y * down, (x + wide) * across, (y + high) * down)
        for label, (x, y, wide, high) in drawing.boxes.items()
    }
    return Drawn(row, width, height, boxes)
