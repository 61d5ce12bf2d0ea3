"""What `cxrkit audit` is asked for, with its defaults; imports nothing heavy, for the command line asks at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

PERMUTATIONS = 5
BORDER = 0.1


@dataclass(frozen=True)
class AuditRequest:
    """The options of an audit."""

    run: Path
    """Run folder."""

    data: Path | None = None
    """Prepared folder; None: the run's."""

    drains: Path | None = None
    """A list of films with and without a drain."""

    border: float = BORDER
    """Share of the film's side, at each edge, that is its border."""

    permutations: int = PERMUTATIONS
    """How often the metadata are permuted."""

    fit: Literal["val", "train"] = "val"
    """Whose images the probes are fitted on."""

    device: str = "auto"
    """auto, cpu, cuda, ..."""
