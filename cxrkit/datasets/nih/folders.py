"""What lies in a raw folder: its images, its archives, and what only looks like either.

Looked into is every folder below it, `DEEPEST` deep, each one once however many links lead there. Hidden files are
left alone, and so are the `._NAME` and `__MACOSX` that a Mac leaves beside what it packs. Names and kinds alone are
read, no file is opened: 112,120 images take less than a second.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict, deque
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from cxrkit.base.contracts import Note
from cxrkit.base.errors import UserError, shown
from cxrkit.base.words import count, few

IMAGE_ENDINGS = ("png", "jpg", "jpeg")  # the first is preferred where an image is there in several
DEEPEST = 8  # folders below the raw one

_TAR_ENDINGS = re.compile(r"\.(tar|tar\.(gz|bz2|xz)|tgz|tbz2?|txz|zip)$", re.IGNORECASE)
_MAYBE_TAR = re.compile(r"\.(gz|bz2|xz)$", re.IGNORECASE)
# Files that somebody may take for images or archives of images, by their ending.
_NOT_READ = {
    **dict.fromkeys(("bmp", "gif", "tif", "tiff", "webp", "jp2", "dcm", "dicom", "npy"), "convert them to PNG"),
    **dict.fromkeys(("h5", "hdf5", "npz", "parquet", "arrow", "tfrecord", "tfrecords"), "write their images as PNGs"),
    **dict.fromkeys(("7z", "rar", "zst", "tzst", "lz4", "lzma", "z"), "unpack them yourself"),
    **dict.fromkeys(("001", "z01"), "join the parts and unpack them yourself"),
    **dict.fromkeys(("part", "partial", "crdownload", "download", "aria2", "opdownload"), "finish the download"),
}
# Pictures of the images, under the images' own names.
_NOT_FILMS = re.compile(
    r"(lung[_-]?)?(masks?|segmentations?|segs?)|(grad[_-]?)?cams?|(heat|attention|saliency)[_-]?maps?|figures?|overlays?",
    re.IGNORECASE,
)
_NIH_STEM = re.compile(r"[0-9]{8}_[0-9]{3}")
_OFFICIAL_NAME = re.compile(r"images?(_0?(0[0-9]|1[0-2]))?(\.(tar|tar\.gz|tgz|zip))?", re.IGNORECASE)


@dataclass(frozen=True)
class ImageFolder:
    """A folder with images in it."""

    path: str
    """Where it is."""
    names: list[str]
    """Its files that end like images, sorted, PNGs first."""
    inside: tuple[str, ...]
    """The names of the folders that lead to it from the raw folder; () for that one itself."""


@dataclass
class Contents:
    """What `look_into` found in a raw folder."""

    folders: list[ImageFolder] = field(default_factory=list)
    """The official names first, then in the order of their paths."""
    archives: list[Path] = field(default_factory=list)
    """Files called like archives, in the same order."""
    doubtful: list[Path] = field(default_factory=list)
    """Compressed files that are archives only if there is a tar inside."""
    notes: list[Note] = field(default_factory=list)
    """What is not read, one note for each remedy."""


def look_into(raw: Path, endings: tuple[str, ...] = IMAGE_ENDINGS) -> Contents:
    """Return what lies in and below `raw`; endings: of images.

    Raises PermissionError where it, or a folder of images, may not be read.
    """
    found = Contents()
    passed_over: defaultdict[str, list[str]] = defaultdict(list)  # remedy -> names
    seen: set[tuple[int, int]] = set()
    waiting: deque[tuple[Path, tuple[str, ...]]] = deque([(raw, ())])
    while waiting:
        folder, inside = waiting.popleft()
        try:
            about = folder.stat()
            if (about.st_dev, about.st_ino) in seen:
                continue
            seen.add((about.st_dev, about.st_ino))
            below = _look_into_one(folder, inside, endings, found, passed_over)
        except OSError as error:
            if not inside or (isinstance(error, PermissionError) and named_like_images(inside[-1])):
                raise
            passed_over[f"see why it cannot be read ({error.strerror})"].append("/".join(inside))
            continue
        if len(inside) < DEEPEST:
            waiting.extend((folder / name, (*inside, name)) for name in below)
        elif below:
            passed_over[f"move them up: folders more than {DEEPEST} deep are not looked into"].append("/".join(inside))
    found.folders.sort(key=lambda folder: (not _official(folder.inside), folder.path))
    found.archives.sort(key=lambda path: (not _official((path.name,)), path))
    found.notes += [
        Note(f"{raw}: {few(names)}: passed over, {'is' if len(names) == 1 else 'are'} not read", remedy)
        for remedy, names in sorted(passed_over.items())
    ]
    return found


def named_like_images(name: str) -> bool:
    """Whether a folder or archive of this name must be meant for the images: images, images_001, images-224."""
    return name.lower().startswith("image")


def named_like_nih(stem: str) -> bool:
    """Whether a file of this stem is called like NIH's: 00000001_000."""
    return _NIH_STEM.fullmatch(stem) is not None


def image_stem(name: str) -> str | None:
    """Return 00000001_000 for folder/00000001_000.PNG; None for a hidden file and for what does not end like images."""
    if "__MACOSX" in name:
        return None
    file = PurePosixPath(name.replace("\\", "/")).name  # some Windows tools write backslashes into a zip
    stem, _, ending = file.rpartition(".")
    return stem if ending.lower() in IMAGE_ENDINGS and not file.startswith(".") else None


def refuse_unlisted(where: str, names: list[str]) -> None:
    """Raise a UserError if `names`, images that no row of the CSV lists, is not empty."""
    if names:
        raise UserError(
            f"{shown(where)}: {count(len(names), 'image')} in no row of the CSV: {few(names)}",
            remedy="move them out of the raw folder, or use the CSV that lists them",
        )


def _look_into_one(
    folder: Path,
    inside: tuple[str, ...],
    endings: tuple[str, ...],
    found: Contents,
    passed_over: dict[str, list[str]],
) -> list[str]:
    """Sort the files of one folder into `found` and `passed_over`; return the folders in it, real ones before links."""
    images: list[str] = []
    below: list[tuple[bool, str]] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            if name.startswith(".") or name == "__MACOSX":
                continue
            ending = name.rpartition(".")[2].lower()
            if ending in endings and _is_file(entry):
                images.append(name)
            elif _is_folder(entry):
                below.append((entry.is_symlink(), name))
            elif _TAR_ENDINGS.search(name) and _is_file(entry):
                found.archives.append(folder / name)
            elif _MAYBE_TAR.search(name) and _is_file(entry):
                found.doubtful.append(folder / name)
            elif ending in _NOT_READ and _is_file(entry):
                passed_over[_NOT_READ[ending]].append("/".join((*inside, name)))
    if images and (apart := [name for name in inside if _NOT_FILMS.fullmatch(name)]):
        passed_over[f"rename {shown(apart[0])}/ if it holds films"] += ["/".join((*inside, name)) for name in images]
    elif images:
        images.sort(key=lambda name: (not name.endswith(".png"), name))
        found.folders.append(ImageFolder(str(folder), images, inside))
    return [name for _, name in sorted(below)]


def _official(names: tuple[str, ...]) -> bool:
    """Whether a path has NIH's own names, so that it comes before resized and other copies."""
    return all(_OFFICIAL_NAME.fullmatch(name) for name in names if named_like_images(name)) and (
        not names or any(named_like_images(name) for name in names)
    )


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Whether it is a file or a link to one. No pipe, nothing that is gone."""
    try:
        return entry.is_file()
    except OSError:
        return False


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False
