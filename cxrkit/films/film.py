"""A film of one's own, as it was read."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxrkit.sources.dicom import Header


@dataclass(frozen=True)
class Film:
    """One film, decoded as those of the data set were."""

    name: str
    """The file's name; within a folder that was asked for, its path in it."""

    path: Path
    """The file."""

    image: NDArray[np.uint8]
    """(side, side) gray levels: the canvas of the data set."""

    width: int
    """Pixels of the file."""

    height: int
    """Pixels of the file."""

    header: Header = field(default_factory=Header)
    """What the file says."""

    notes: tuple[str, ...] = ()
    """What was done to it that could change what is seen: "colours mixed", "no window: ..."."""
