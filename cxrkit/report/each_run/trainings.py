"""The trainings that `cxrkit plot` shows: of run folders, evaluated or not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cxrkit.base.errors import UserError
from cxrkit.report.document.figures import Figure
from cxrkit.report.each_run.training_curves import Training, curves_of
from cxrkit.runs import checkpoints
from cxrkit.runs.folder import RunFolder
from cxrkit.runs.search import run_folders

_REMEDY = "name run folders that `cxrkit train` made, or folders of them"


def trainings_in(folders: Sequence[Path]) -> list[Training]:
    """Return the trainings in folders: each a run folder, or one that holds some.

    Runs are called NAME where all are of one split, and NAME/SPLIT where not. Raises UserError where a folder is
    missing, or holds none.
    """
    found: dict[Path, None] = {}
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder}: there is no such folder", remedy=_REMEDY)
        paths = run_folders(folder).paths
        trained = [path for path in paths if RunFolder(path).metrics.exists()]
        if not trained:
            raise UserError(f"{folder}: holds no training (NAME/SPLIT/metrics.jsonl)", remedy=_REMEDY)
        found |= dict.fromkeys(trained)
    names = _names([path.absolute() for path in found])
    return [Training(name, path, _chosen(RunFolder(path))) for name, path in zip(names, found, strict=True)]


def _names(paths: Sequence[Path]) -> list[str]:
    """Return as much of each path as tells the runs apart."""
    several = len({path.name for path in paths}) > 1
    names = ["/".join(path.parts[-2:]) if several else path.parent.name for path in paths]
    return names if len(set(names)) == len(names) else [str(path) for path in paths]


def _chosen(run: RunFolder) -> int | None:
    """Return the best epoch so far; None where there is none yet."""
    try:
        return checkpoints.read_info(run.best).epoch if run.best.exists() else None
    except UserError:  # it is shown without the mark
        return None


def training_figure(trainings: Sequence[Training]) -> Figure:
    """Return the curves of trainings. Raises UserError where none has finished an epoch."""
    figures = curves_of(trainings)
    if not figures:
        which = ", ".join(str(item.folder) for item in trainings[:3])
        raise UserError(f"{which}: no epoch is finished yet", remedy="wait for the first one")
    return figures[0]
