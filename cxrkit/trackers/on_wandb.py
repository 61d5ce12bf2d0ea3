"""Weights & Biases: online where a key is known, else offline in the run's folder, for `wandb sync`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cxrkit.trackers.points import Point
from cxrkit.trackers.tracking import TrackedRun


class WeightsAndBiases:
    """One W&B run for each run, its id kept, so that a resumed training goes on in it.

    Offline each session is a folder under RUN/wandb with that id; `wandb sync --append` joins them.
    """

    def __init__(
        self, run: TrackedRun, *, project: str = "cxrkit", entity: str = "", mode: str = "", folder: str = ""
    ) -> None:
        """mode: online, offline or disabled; default, WANDB_MODE, or whether a key is known. folder: for its files."""
        import wandb

        # It would ask for a key on the terminal, and wait.
        mode = mode or os.environ.get("WANDB_MODE", "") or ("online" if wandb.api.api_key else "offline")
        place = Path(folder) if folder else run.folder
        place.mkdir(parents=True, exist_ok=True)
        told: dict[str, Any] = {"id": run.run_id} if run.run_id else {}
        if run.run_id and mode == "online":
            told["resume"] = "allow"
        self._run: Any = wandb.init(
            project=project,
            entity=entity or None,
            name=run.name,
            mode=mode,
            dir=str(place),
            config=dict(run.parameters),
            settings=wandb.Settings(silent=True, console="off", disable_git=True, disable_code=True),
            **told,
        )
        for axis in ("step", "epoch"):
            self._run.define_metric(f"{axis}/at")
            self._run.define_metric(f"{axis}/*", step_metric=f"{axis}/at")
        self.run_id = str(self._run.id)
        self.where = str(self._run.url or Path(self._run.dir).parent)

    def write(self, points: Sequence[Point]) -> None:
        """Hand the points to W&B's own process, which sends them in its own time and keeps them until then."""
        for point in points:
            numbers = {f"{point.axis}/{name}": value for name, value in point.numbers.items()}
            self._run.log({f"{point.axis}/at": point.at} | numbers)

    def close(self, *, failed: bool) -> None:
        """Finish the run; W&B marks one with an exit code other than 0 as crashed."""
        self._run.finish(exit_code=int(failed))
