"""What a user asks of `cxrkit import`, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cxrkit.base.contracts import Subset
from cxrkit.evaluators.truth import Truth
from cxrkit.imports import cohort
from cxrkit.runs.folder import RunFolder


@dataclass(frozen=True)
class ImportRequest:
    """What a user says of a file of predictions."""

    file: Path
    """CSV, parquet or NPZ."""

    name: str
    """Name of the run."""

    split: str
    """official, resample-K, or a file of test images."""

    raw: Path | None = None
    """Raw folder, or NIH's CSV alone: where labels and patients come from."""

    data: Path | None = None
    """Prepared folder, of tables alone too; one of both."""

    dataset: str = cohort.NIH
    """Name of the data set in the raw folder."""

    columns: str | None = None
    """Pattern of the columns of scores, with {label} in it."""

    logits: bool = False
    """Whether the scores are outputs before the sigmoid."""

    trained_on: Path | None = None
    """List of the images that the model was trained on."""

    about: Path | None = None
    """TOML file of `AboutModel`."""

    val: Path | None = None
    """Predictions of the validation images, in a file of their own."""

    subsets: tuple[Subset, ...] = ()
    """Which subsets of the split to import; (): test, and the validation images of a table of subsets."""

    runs: Path = Path("runs")
    """Where run folders go."""


@dataclass(frozen=True)
class ImportedRun:
    """What an import has made."""

    run: RunFolder
    """The run folder: predictions without scores yet."""

    truth: Truth
    """The labels to evaluate with."""

    notes: tuple[str, ...]
    """What its reader should know."""
