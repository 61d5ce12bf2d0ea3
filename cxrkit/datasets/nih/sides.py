"""How large the images at hand are: 1024 pixels a side, or less in a resized copy.

A few images of each folder and archive are looked at, and of these the header alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

from cxrkit.base.contracts import IMAGE_SIZE, Note
from cxrkit.base.errors import UserError, shown
from cxrkit.base.words import few
from cxrkit.datasets.nih.archives import START_BYTES
from cxrkit.sources.pixels import image_size, what_it_is

_OF_EACH = 3  # images looked at in each folder: the first, the middle and the last
_MOST = 200  # images looked at in all


class Place(Protocol):
    """Where an image is."""

    @property
    def path(self) -> str:
        """The image file, or the archive."""
        ...

    @property
    def member(self) -> str | None:
        """Its name in the archive."""
        ...


def common_side(
    raw: Path, places: Iterable[Place], starts: Mapping[tuple[str, str], bytes]
) -> tuple[int, tuple[Note, ...]]:
    """Return the pixels along each side of the images in `places`, and notes on those that are no images at all.

    starts: (archive, member) -> first bytes. The side is IMAGE_SIZE where nothing can be looked at: NIH's archives are
    not opened for this. Raises UserError where the images differ in size, or are not square.
    """
    sizes: dict[tuple[int, int], str] = {}
    odd: dict[str, str] = {}
    looked_at = 0
    for name, start in _sample(places, starts):
        looked_at += 1
        size = image_size(start)
        if size is None:
            odd[name] = what_it_is(start[:512])
        else:
            sizes.setdefault(size, name)
    if len(sizes) > 1:
        examples = ", ".join(f"{shown(name)} has {width} x {height}" for (width, height), name in sizes.items())
        raise UserError(
            f"{raw}: images of different sizes in pixels: {examples}",
            remedy="keep images of one size in the raw folder, and move the others out of it",
        )
    notes: tuple[Note, ...] = ()
    if odd:
        name = min(odd)
        found = f"{raw}: {len(odd)} of {looked_at} images looked at are none: {few(odd)}; the first is {odd[name]}"
        notes = (Note(found, "download them again", serious=len(odd) == looked_at),)
    width, height = next(iter(sizes), (IMAGE_SIZE, IMAGE_SIZE))
    if width != height:
        raise UserError(
            f"{raw}: images of {width} x {height} pixels ({shown(next(iter(sizes.values())))}); those of ChestX-ray14, "
            "and of its resized copies, are square",
            remedy="use the images as NIH published them",
        )
    return width, notes


def _sample(places: Iterable[Place], starts: Mapping[tuple[str, str], bytes]) -> Iterable[tuple[str, bytes]]:
    """Yield (name, first bytes) of images spread over all folders and archives."""
    folders: dict[str, list[str]] = {}
    archives: set[str] = set()
    for place in places:
        if place.member is None:
            folders.setdefault(place.path.rpartition("/")[0], []).append(place.path)
        else:
            archives.add(place.path)
    chosen = [path for folder in sorted(folders) for path in _spread(sorted(folders[folder]), _OF_EACH)]
    for path in _spread(chosen, _MOST):
        try:
            with open(path, "rb", buffering=0) as file:
                yield path, file.read(START_BYTES)
        except OSError:
            continue  # said when it is prepared
    for (archive, member), start in starts.items():
        if archive in archives:
            yield f"{archive}: {member}", start


def _spread(names: list[str], most: int) -> list[str]:
    """Return at most `most` of `names`, evenly spread, the first and the last among them."""
    if len(names) <= most:
        return names
    return [names[number * (len(names) - 1) // (most - 1)] for number in range(most)]
