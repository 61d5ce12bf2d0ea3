"""What `cxrkit prepare` is asked for: every setting, checked."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from cxrkit.base.contracts import IMAGE_SIZE
from cxrkit.base.errors import UserError
from cxrkit.shards import codecs

MIN_LEVEL = 32  # pixels
_SMALLEST_DEFAULT_LEVEL = 160  # pixels


@dataclass(frozen=True)
class PrepareConfig:
    """What to prepare and how. Raises UserError when it makes no sense."""

    raw: Path
    """The downloaded folder."""

    data: Path
    """The folder to write."""

    dataset: str = "nih-chestxray14"
    """A registered name, or package.module:function."""

    levels: tuple[int, ...] | None = None
    """Side lengths in pixels, descending; None: `default_levels` of the images at hand."""

    codec: str = "jpeg"
    """One of codecs.CODECS."""

    quality: int = 95
    """Of JPEG, 1 to 100."""

    workers: int | None = None
    """Processes; None: one per core."""

    allow_missing: bool = False
    """Prepare the images that are there."""

    skip_damaged: bool = False
    """Leave damaged images out."""

    limit: int | None = None
    """Only the first images at hand."""

    reread: bool = False
    """Compare the bytes of every source with those that were prepared, whatever its size and time."""

    resized: bool = False
    """Accept a copy of the data set whose images are of another size than the original ones."""

    tables_only: bool = False
    """Prepare the records and lists alone, no image: enough for a network that looks at none, and for evaluation."""

    tiles: bool = True
    """Write JPEGs in tiles, so that a window decodes alone; a folder that was begun without goes on without."""

    policy: str = ""
    """How doubtful labels are read, as "uncertain=positive,blank=unknown"; "": as the data set's reader does."""

    def __post_init__(self) -> None:
        """Check every field."""
        codecs.check(self.codec)
        if self.levels is not None and not self.resized:
            check_levels(self.levels, IMAGE_SIZE)
        if not 1 <= self.quality <= 100:
            raise UserError(f"--quality {self.quality}: not a JPEG quality", remedy="choose 1 to 100")
        if self.workers is not None and self.workers < 1:
            raise UserError(f"--workers {self.workers}: there must be at least one", remedy="choose 1 or more")
        if self.limit is not None and self.limit < 1:
            raise UserError(f"--limit {self.limit}: leaves no image", remedy="choose 1 or more")
        if self.tables_only and self.limit is not None:
            raise UserError("--tables-only --limit: no image is prepared", remedy="leave out --limit")
        if not self.raw.is_dir():
            found = "is not a folder" if self.raw.exists() else "does not exist"
            raise UserError(
                f"--raw {self.raw}: {found}",
                remedy="name the folder that holds the download; `cxrkit download` makes one of ChestX-ray14",
            )
        if self.data.resolve().is_relative_to(self.raw.resolve()):
            raise UserError(
                f"--data {self.data}: lies inside the raw folder {self.raw}, which is only ever read",
                remedy="choose a --data folder beside it",
            )
        if self.data.exists() and not self.data.is_dir():
            raise UserError(f"--data {self.data}: is a file, expected a folder", remedy="choose another --data folder")


def parse_levels(text: str) -> tuple[int, ...]:
    """Return the levels in "1024,512,256". Raises UserError for anything but whole numbers."""
    try:
        return tuple(int(level) for level in text.split(","))
    except ValueError:
        raise UserError(
            f"--levels {text!r}: not a list of side lengths", remedy="write them like 1024,512,256"
        ) from None


def default_levels(side: int) -> tuple[int, ...]:
    """Return `side` and its halves down to 160 pixels: 1024, 512, 256; or 320, 160; or 224 alone."""
    levels = [side]
    while levels[-1] % 2 == 0 and levels[-1] // 2 >= _SMALLEST_DEFAULT_LEVEL:
        levels.append(levels[-1] // 2)
    return tuple(levels)


def check_levels(levels: tuple[int, ...], side: int) -> None:
    """Raise a UserError unless `levels` can be made from images of `side` pixels, each from the one before."""
    shown = ",".join(map(str, levels))
    remedy = f"write them like {','.join(map(str, default_levels(side)))}"
    if not levels:
        raise UserError("--levels: there must be at least one", remedy=remedy)
    for level in levels:
        if not MIN_LEVEL <= level <= side or side % level:
            raise UserError(
                f"--levels {shown}: {level} does not divide {side} or is not within {MIN_LEVEL} to {side}",
                remedy=remedy,
            )
    if list(levels) != sorted(set(levels), reverse=True):
        raise UserError(f"--levels {shown}: not in descending order", remedy=remedy)
    for larger, smaller in pairwise(levels):
        if larger % smaller:
            raise UserError(f"--levels {shown}: {smaller} does not divide {larger}", remedy=remedy)
