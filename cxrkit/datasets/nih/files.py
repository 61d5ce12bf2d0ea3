"""Find the pixels of ChestX-ray14 in whichever way they were downloaded: loose images, archives, any mixture.

A file is an image of the data set if its stem is that of a listed one, 00000001_000, in whatever folder it lies, as
PNG or as JPEG. A loose file wins over an archive unless it is cut off, NIH's own folder names win over others, and
among equals the one that sorts first wins.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import polars as pl

from cxrkit.base.contracts import PIXEL_SCHEMA, Note
from cxrkit.base.errors import UserError, shown
from cxrkit.base.files import is_text
from cxrkit.base.words import count, few
from cxrkit.datasets.nih.archives import ArchiveFact, Listing, archive_facts, is_tar, list_archive
from cxrkit.datasets.nih.folders import (
    Contents,
    ImageFolder,
    look_into,
    named_like_images,
    named_like_nih,
    refuse_unlisted,
)
from cxrkit.datasets.nih.sides import common_side

_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
_JPEG_END = b"\xff\xd9"
_ENDING = ".png"  # of all image ids, whatever the files are called
_AT_ONCE = 1000  # images that one thread looks at before it takes more


@dataclass(frozen=True)
class FoundImages:
    """Where the pixels are."""

    frame: pl.DataFrame
    """image_id + PIXEL_SCHEMA, one row per image found, sorted by image_id."""
    side: int
    """Pixels along each side of the images."""
    notes: tuple[Note, ...]
    """What was passed over."""


class _Place(NamedTuple):  # a dataclass takes three times as long to make
    """One of the places where an image is."""

    path: str
    """The image file, or the archive."""
    member: str | None = None
    """Its name in the archive."""
    size: int | None = None
    """Its bytes; None for a loose file, and where the archive was not listed."""


@dataclass
class _Search:
    """What is known while the places of a raw folder are gone through, the better ones first."""

    raw: Path
    ids: frozenset[str]
    """Every listed image: its stem and _ENDING."""
    first: dict[str, _Place] = field(default_factory=dict)
    """Image id -> the first place where it was found."""
    again: dict[str, list[_Place]] = field(default_factory=dict)
    """Image id -> the further ones."""
    starts: dict[tuple[str, str], bytes] = field(default_factory=dict)
    """(archive, member) -> the first bytes of some images in archives."""
    notes: list[Note] = field(default_factory=list)
    broken: list[UserError] = field(default_factory=list)
    """Archives that cannot be read, and may hold what is missing."""
    strays: list[str] = field(default_factory=list)
    """Images that the CSV does not list, where nobody would take them for the data set's."""
    useless: list[str] = field(default_factory=list)
    """Folders and archives that hold nothing new."""
    empty: list[str] = field(default_factory=list)
    """Archives that hold no image at all."""

    def lists(self, stem: str) -> bool:
        """Whether that is the stem of a listed image."""
        return stem + _ENDING in self.ids

    def add(self, stem: str, place: _Place) -> bool:
        """Note that the image is in `place`; return whether that is the first place."""
        image_id = stem + _ENDING
        if image_id not in self.first:
            self.first[image_id] = place
            return True
        self.again.setdefault(image_id, []).append(place)
        return False


def find_images(raw: Path, image_ids: pl.Series, facts: Sequence[ArchiveFact] | None = None) -> FoundImages:
    """Return where the pixels of `image_ids` are.

    `facts` are the archives that need no listing (default: the official ones). Raises UserError for an archive with
    unsafe members or, while images are missing, a damaged one; for images that are not among `image_ids` where the
    data set's lie; and for images of different sizes.
    """
    ids = sorted(image_ids.to_list())
    search = _Search(raw, frozenset(ids))
    contents = look_into(raw)
    for folder in contents.folders:
        _add_folder(search, folder)
    _add_archives(search, contents, ids, archive_facts() if facts is None else facts)
    missing = len(ids) - len(search.first)
    if search.broken and missing:
        raise _together(search.broken)
    places = _choose(search)
    side, odd = common_side(raw, places.values(), search.starts)
    return FoundImages(_frame(places), side, (*contents.notes, *_notes(search), *odd))


def _add_folder(search: _Search, folder: ImageFolder) -> None:
    listed, unlisted, new = [], [], 0
    for name in folder.names:
        stem = name.rpartition(".")[0]
        if search.lists(stem):
            listed.append(name)
            new += search.add(stem, _Place(f"{folder.path}/{name}"))
        else:
            unlisted.append(name)
    if not folder.inside:  # beside the CSV somebody may well keep a figure of their own
        refused = [name for name in unlisted if named_like_nih(name.rpartition(".")[0])]
    else:
        refused = unlisted if listed or named_like_images(folder.inside[-1]) else []
    refuse_unlisted(folder.path, refused)
    search.strays += ["/".join((*folder.inside, name)) for name in unlisted]
    if listed and not new:
        search.useless.append("/".join(folder.inside))


def _add_archives(search: _Search, contents: Contents, ids: list[str], facts: Sequence[ArchiveFact]) -> None:
    archives = contents.archives + [path for path in sorted(contents.doubtful) if _worth_listing(path)]

    def listed(path: Path) -> Listing | UserError:
        try:
            return list_archive(path, ids, facts)
        except UserError as error:
            return error

    # Listing an unknown archive is the decompressor's work, which lets other threads run.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for path, listing in zip(archives, pool.map(listed, archives), strict=True):
            if isinstance(listing, UserError):
                search.broken.append(listing)
            else:
                _add_archive(search, path, listing)


def _worth_listing(path: Path) -> bool:
    return named_like_images(path.name) or is_tar(path)


def _add_archive(search: _Search, path: Path, listing: Listing) -> None:
    listed = [stem for stem in listing.images if search.lists(stem)]
    if not listing.images:
        search.empty.append(str(path.relative_to(search.raw)))
    if not listed and not named_like_images(path.name):
        search.strays += [f"{path.name}/{image.member}" for image in listing.images.values()]
        return
    if listing.unsafe:
        raise UserError(
            f"{path}: {listing.unsafe}; an archive of ChestX-ray14 holds plain files under images/ only",
            remedy="do not unpack this archive; download the original from NIH",
        )
    refuse_unlisted(str(path), [f"{stem}.png" for stem in listing.images if not search.lists(stem)])
    if listing.locked:
        search.broken.append(UserError(f"{path}: {listing.locked}", remedy="unpack it yourself into the raw folder"))
        return
    search.starts |= {(str(path), member): start for member, start in listing.starts.items()}
    new = 0
    for stem in listed:
        image = listing.images[stem]
        new += search.add(stem, _Place(str(path), image.member, image.size))
    if listed and not new:
        search.useless.append(str(path.relative_to(search.raw)))


def _choose(search: _Search) -> dict[str, _Place]:
    """Return image id -> place: the first one, or where that is a file cut off, as by a full disk, the next whole one.

    Only files that are elsewhere, too, are looked at: what else is damaged is said when it is prepared.
    """
    twice = list(search.again)
    shares = [twice[start : start + _AT_ONCE] for start in range(0, len(twice), _AT_ONCE)]

    def better(some: list[str]) -> list[tuple[str, _Place]]:
        return [
            (image_id, whole)
            for image_id in some
            if (whole := _first_whole([search.first[image_id], *search.again[image_id]])) is not search.first[image_id]
        ]

    with ThreadPoolExecutor(8) as pool:  # waiting for the disk, not computing
        replaced = dict(pair for pairs in pool.map(better, shares) for pair in pairs)
    if replaced:
        cut = [search.first[image_id].path for image_id in replaced]
        search.notes.append(
            Note(
                f"{search.raw}: {count(len(cut), 'file')} cut off, taken from elsewhere instead: {few(cut)}",
                "delete them, or unpack the archive again",
            )
        )
    return search.first | replaced


def _first_whole(places: list[_Place]) -> _Place:
    size = next((place.size for place in places if place.size is not None), None)
    return next((place for place in places if place.member is not None or _is_whole(place.path, size)), places[0])


def _is_whole(path: str, size: int | None) -> bool:
    """Whether a loose file is as large as the one in the archive (`size`), or else ends as its kind does.

    A smaller file with a proper end is whole: another program has packed it tighter.
    """
    try:
        if size is not None and os.stat(path).st_size >= size:  # noqa: PTH116 - 112,120 times
            return True
        with open(path, "rb", buffering=0) as file:
            file.seek(-min(len(_PNG_END), os.fstat(file.fileno()).st_size), os.SEEK_END)
            end = file.read()
    except OSError:
        return False
    return end == _PNG_END or end.rstrip(b"\0").endswith(_JPEG_END)


def _together(broken: list[UserError]) -> UserError:
    """Return one error that names every archive that cannot be read."""
    if len(broken) == 1:
        return broken[0]
    lines = [f"{_first_line(error)} -> {error.remedy}" for error in broken]
    return UserError("\n  ".join(lines), remedy=f"do so for each of these {len(broken)} archives")


def _first_line(error: UserError) -> str:
    return str(error).partition("\n")[0]


def _frame(places: dict[str, _Place]) -> pl.DataFrame:
    rows = [(image_id, place.path, place.member) for image_id, place in places.items()]
    try:
        return pl.DataFrame(rows, schema={"image_id": pl.String(), **PIXEL_SCHEMA}, orient="row").sort("image_id")
    except UnicodeEncodeError:
        path, member = next(row[1:] for row in rows if not is_text("".join(filter(None, row[1:]))))
        raise UserError(
            f"{path}{f': member {shown(member)}' if member else ''}: this name is not valid UTF-8",
            remedy="rename the folder, or unpack the archive and rename what is in it",
        ) from None


def _notes(search: _Search) -> Iterable[Note]:
    yield from search.notes
    yield from (Note(_first_line(error), error.remedy) for error in search.broken)
    if search.strays:
        strays = count(len(search.strays), "image")
        found = f"{search.raw}: {strays} in no row of the CSV, passed over: {few(search.strays)}"
        yield Note(found, "move them out of the raw folder if they are not meant for it")
    if search.useless:
        found = f"{search.raw}: only images that are there already in {few(search.useless)}"
        yield Note(found, "delete the copy that is not needed, if its space is")
    if search.empty and len(search.first) < len(search.ids):  # what is missing may be in an archive inside of one
        found = f"{search.raw}: no image in {few(search.empty)}"
        yield Note(found, "unpack what holds archives of its own, one level")
