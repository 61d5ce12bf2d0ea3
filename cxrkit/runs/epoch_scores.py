"""`epochs.json`: what an evaluation found of every epoch whose predictions are kept, typed and versioned."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cxrkit.base import typed
from cxrkit.base.errors import UserError
from cxrkit.base.files import read_json, write_json
from cxrkit.base.labels import LabelSet
from cxrkit.runs.scores import SubsetScores, check_metrics

SCHEMA_VERSION = 1
_AGAIN = "write it again with `cxrkit evaluate`"


@dataclass(frozen=True)
class EpochScores:
    """One epoch of a training."""

    epoch: int
    """From 1."""

    val_loss: float
    """The mean validation loss, as the training found it."""

    val_auc: float | None
    """The mean AUC over the averaged labels of the validation images; None where no label has one."""

    val_sha256: str
    """Of the kept predictions of the validation images."""

    test: SubsetScores
    """The metrics of the test images, without intervals."""


@dataclass(frozen=True)
class RunEpochs:
    """The content of `epochs.json`."""

    evaluator: str
    """That of the run's scores.json."""

    test_sha256: str
    """Of the run's predictions/test.parquet when the epochs were scored: the same run as that of scores.json."""

    epochs: tuple[EpochScores, ...]
    """In their order; those that can be used."""

    unusable: dict[str, str] = field(default_factory=dict)
    """The others, by number, each with the reason."""

    schema_version: int = SCHEMA_VERSION
    """Of this file; another one is refused."""

    def get(self, epoch: int) -> EpochScores | None:
        """Return an epoch's scores; None where it was not kept, or cannot be used."""
        return next((item for item in self.epochs if item.epoch == epoch), None)


def write_epoch_scores(path: Path, found: RunEpochs) -> None:
    """Write `epochs.json` atomically."""
    write_json(path, asdict(found))


def read_epoch_scores(path: Path, labels: LabelSet) -> RunEpochs:
    """Return what `path` holds of a run with these labels. Raises UserError when it is not of this schema."""
    value: Any = read_json(path, "the scores of the epochs", _AGAIN)
    version = value.get("schema_version") if isinstance(value, dict) else None
    if type(version) is not int or version != SCHEMA_VERSION:
        raise UserError(
            f"{path}: scores of epochs in schema version {typed.describe(version)}; this cxrkit reads version "
            f"{SCHEMA_VERSION}",
            remedy=_AGAIN,
        )
    try:
        found: RunEpochs = typed.build(RunEpochs, value)
        for item in found.epochs:
            check_metrics(item.test.metrics, labels)
    except ValueError as error:  # a FieldError is one
        raise UserError(f"{path}: {error}", remedy=_AGAIN) from None
    return found
