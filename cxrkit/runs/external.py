"""What a run is worth on another hospital's images: RUN/external/NAME/validity.json, beside scores.parquet.

Never mixed with the run's own test scores: other files, another Origin. scores.parquet is a prediction file
(predictions.py) of every label that the network knows, validity.json what follows of it over the labels that both data
sets share. Neither has a name by which folders of runs are searched for runs.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from cxrkit.base import typed
from cxrkit.base.contracts import Metric
from cxrkit.base.errors import UserError
from cxrkit.base.files import write_json
from cxrkit.base.origin import Origin

FORMAT_VERSION = 1
FOLDER, SCORES, VALIDITY = "external", "scores.parquet", "validity.json"
AGAIN = "evaluate it again with `cxrkit evaluate RUN --on FOLDER`"


@dataclass(frozen=True)
class SharedLabel:
    """A label on both sides, or the mean over all that are shared and averaged."""

    ours: str
    """What the run calls it; "" for the mean."""

    theirs: str
    """What the other data set calls it; "" for the mean."""

    internal: Metric
    """The AUC on the run's own test images."""

    external: Metric
    """The AUC on the other data set's images."""

    difference: float | None
    """External less internal; None where either is not defined."""

    lower: float | None
    """Lower bound of the difference's interval; None where there is none."""

    upper: float | None
    """Upper bound of the difference's interval; None where there is none."""

    mark: str = ""
    """How far that interval can be trusted, as Metric.mark says it."""

    reason: str = ""
    """Why there is no interval, or why it is approximate."""

    caveat: str = ""
    """In what the two labels differ."""


@dataclass(frozen=True)
class Validity:
    """The content of validity.json."""

    run: str
    """The run's name."""

    model: str
    """The network's name."""

    checkpoint_sha256: str
    """Of the checkpoint that was asked."""

    scores_sha256: str
    """Of scores.parquet."""

    internal_sha256: str
    """Of the run's own predictions/test.parquet."""

    dataset: str
    """Registered name of the other data set."""

    part: str
    """Which of its films were taken: "test" (its official test part) or "all"."""

    listed: int
    """How many films that part lists, at hand or not."""

    images: int
    """How many were predicted."""

    patients: int
    """How many patients they are of."""

    by_image: bool
    """Whether the other data set has no patient ids, so that its intervals are by image."""

    internal_images: int
    """Test images of the run."""

    internal_patients: int
    """Patients that these are of."""

    origin: Origin
    """What the external numbers were made of."""

    internal_origin: Origin
    """What the run's own numbers were made of."""

    labels: tuple[SharedLabel, ...]
    """What both share, in the run's order."""

    mean: SharedLabel | None
    """Over the shared labels that the run averages and that have an AUC on both sides; None where there is none."""

    mean_labels: tuple[str, ...]
    """Those labels, as the run calls them."""

    notes: tuple[str, ...]
    """What a reader must know, in sentences."""

    format_version: int = FORMAT_VERSION
    """Of this file; another one is refused."""


def folder_of(run: Path, name: str) -> Path:
    """Return where a run keeps what it is worth on the data set `name`."""
    return run / FOLDER / name.replace(":", ".").replace("/", ".")


def write_validity(folder: Path, validity: Validity) -> None:
    """Write validity.json into `folder`, atomically."""
    write_json(folder / VALIDITY, asdict(validity))


def read_validity(path: Path) -> Validity:
    """Return the content of a validity.json. Raises UserError when it is missing, or is something else."""
    found: Validity = typed.read_typed(Validity, path, "what a run is worth elsewhere", AGAIN)
    if found.format_version != FORMAT_VERSION:
        raise UserError(
            f"{path}: format version {found.format_version}; this cxrkit reads version {FORMAT_VERSION}", remedy=AGAIN
        )
    return found


def validities(run: Path) -> list[Path]:
    """Return the validity.json files of a run folder, sorted by the name of the data set."""
    return sorted((run / FOLDER).glob(f"*/{VALIDITY}"))
