"""A file of predictions that was understood: which image has which probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from cxrkit.imports import checking, reading
from cxrkit.imports.cohort import Cohort
from cxrkit.imports.reading import Chosen, Read
from cxrkit.imports.request import ImportRequest


@dataclass(frozen=True)
class ScoredFile:
    """Predictions of images that the data set has, each once."""

    read: Read
    """The file as it is."""

    chosen: Chosen
    """Which of its columns hold what."""

    frame: pl.DataFrame
    """image_id, patient_id and a probability for each label of the set, null where it has no column."""

    @property
    def path(self) -> Path:
        """The file."""
        return self.read.path


def read_scored(path: Path, request: ImportRequest, cohort: Cohort) -> ScoredFile:
    """Return a file of predictions in the columns and the scale that are asked for. Raises UserError."""
    read = reading.read_table(path)
    chosen = reading.choose_columns(read, cohort.frame["image_id"], cohort.labels, request.columns)
    frame = checking.scores_of(read, chosen, cohort.frame, cohort.labels, logits=request.logits)
    checking.refuse_truth(read, chosen, frame, cohort.frame)
    return ScoredFile(read, chosen, frame)
