"""The predictions of every epoch of a training, where `--keep-epochs` asks for them: RUN/predictions/epochs.

`003-val.parquet` and `003-test.parquet` are prediction files as predictions.py describes, of the network after the
third epoch; `003.json`, written last, says that both are whole, and holds the validation loss that the training found.
An epoch without it is not kept. They take 2.1 MB an epoch of the official split, where a checkpoint takes 94 MB, and
allow one epoch to be chosen for several runs afterwards: the paper selects by "the average validation loss over all
re-samples".

`checkpoint_sha256` is "" in these files. An epoch's checkpoint is overwritten by the next one's, so there is no file
that a digest could be compared with.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from cxrkit.base import typed
from cxrkit.base.contracts import EVALUATED, Subset
from cxrkit.base.errors import UserError
from cxrkit.base.files import output_error, write_json
from cxrkit.runs.checkpoints import CheckpointInfo
from cxrkit.runs.folder import RunFolder
from cxrkit.runs.predictions import read_predictions, write_predictions

FORMAT_VERSION = 1


@dataclass(frozen=True)
class KeptEpoch:
    """What the training found of an epoch whose predictions are kept: 003.json."""

    epoch: int
    """From 1."""

    val_loss: float
    """The mean validation loss, of the training's own loss."""

    format_version: int = FORMAT_VERSION
    """Of this file; another one is refused."""


def predictions_of(run: RunFolder, epoch: int, subset: Subset) -> Path:
    """Return where the predictions of an epoch are."""
    return run.epochs / f"{epoch:03}-{subset}.parquet"


def _record_of(run: RunFolder, epoch: int) -> Path:
    return run.epochs / f"{epoch:03}.json"


def kept(run: RunFolder) -> tuple[int, ...]:
    """Return the epochs that are kept, from small files alone."""
    names = (path.stem for path in run.epochs.glob("*.json"))
    return tuple(sorted(int(name) for name in names if name.isdecimal()))


def missing(run: RunFolder, epochs: int) -> tuple[int, ...]:
    """Return which of the first `epochs` epochs are not kept."""
    return tuple(sorted(set(range(1, epochs + 1)) - set(kept(run))))


def commit(run: RunFolder, record: KeptEpoch) -> None:
    """Say that an epoch is kept; its predictions must have been written."""
    write_json(_record_of(run, record.epoch), asdict(record))


def read(run: RunFolder, epoch: int) -> KeptEpoch:
    """Return the record of an epoch that is kept. Raises UserError when it cannot be read."""
    path, remedy = _record_of(run, epoch), "remove it: the epoch then counts as not kept"
    record: KeptEpoch = typed.read_typed(KeptEpoch, path, "the record of an epoch", remedy)
    if (record.epoch, record.format_version) != (epoch, FORMAT_VERSION):
        raise UserError(
            f"{path}: of epoch {record.epoch} in format {record.format_version}, expected epoch {epoch} in format "
            f"{FORMAT_VERSION}",
            remedy=remedy,
        )
    return record


def forget_after(run: RunFolder, epoch: int) -> None:
    """Remove what is kept of later epochs than `epoch`: they will be trained again. Records go first."""
    for pattern in ("*.json", "*.parquet"):
        for path in run.epochs.glob(pattern):
            number = path.stem.partition("-")[0]
            if number.isdecimal() and int(number) > epoch:
                try:
                    path.unlink(missing_ok=True)
                except OSError as error:
                    raise output_error(path, error) from error


def restate(run: RunFolder, info: CheckpointInfo) -> None:
    """Make all kept predictions say the terms of the training as it ended, as `checkpoints.restate_best` does."""
    for epoch in kept(run):
        for subset in EVALUATED:
            path = predictions_of(run, epoch, subset)
            found = read_predictions(path)
            stated = replace(
                found.about, name=info.name, recipe=info.recipe, recipe_digest=info.recipe_digest, changes=info.changes
            )
            if stated != found.about:
                write_predictions(path, found.frame, stated)


def ranges(epochs: Iterable[int]) -> str:
    """Return "1 to 3, 7" of 1, 2, 3, 7: two that follow each other are named each."""
    runs: list[list[int]] = []
    for number in sorted(epochs):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    words = [f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs]
    return ", ".join(words)
