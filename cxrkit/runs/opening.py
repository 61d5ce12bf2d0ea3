"""What a run folder says of itself: the config of a training, and where the labels are that it is scored with."""

from __future__ import annotations

from pathlib import Path

from cxrkit.base.errors import UserError
from cxrkit.runs.config import TrainConfig, read_run_config
from cxrkit.runs.folder import RunFolder, claimed
from cxrkit.runs.imported import read_imported


def run_config(run: RunFolder) -> TrainConfig:
    """Return the config of a run folder. Raises UserError when it is none."""
    if run.imported.exists():
        raise UserError(
            f"{run.path}: holds predictions that were imported; there is no network to ask",
            remedy="import what else was predicted under another --name",
        )
    if not run.config.exists():
        raise UserError(
            f"{run.path}: not a run folder (no config.toml)",
            remedy="name a folder that `cxrkit train` made, such as runs/resnet50-large-meta/official",
        )
    return read_run_config(run.config)


def refuse_taken(run: RunFolder) -> None:
    """Raise a UserError where no training can begin: the folder holds one, or predictions that were imported."""
    if run.imported.exists():
        raise UserError(
            f"{run.path}: holds predictions that were imported; there is no training to go on with",
            remedy="choose another --name or --runs folder",
        )
    if run.config.exists():
        raise UserError(
            f"{run.path}: already holds a training of this name on this split",
            remedy="add --resume to go on with it, or choose another --name or --runs folder",
        )


def refuse_taken_or_busy(run: RunFolder) -> None:
    """Do as `refuse_taken`, from outside: of a run in which another process works that is told first."""
    if run.imported.exists() or run.config.exists():
        with claimed(run):
            refuse_taken(run)


def evaluated_with(run: RunFolder, data: Path | None = None) -> tuple[Path, str]:
    """Return where a run's labels are, `data` where that is given, and its evaluator."""
    if not run.imported.exists():
        config = run_config(run)
        return data or config.run.data, config.test.evaluator
    labels = data or read_imported(run.imported).truth
    if labels is None:
        raise UserError(
            f"{run.path}: was imported with the labels of a raw folder", remedy="name a prepared folder with --data"
        )
    return labels, "auc"
