"""MLflow: the server of MLFLOW_TRACKING_URI, else a database beside the runs."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

from cxrkit.trackers.points import Point
from cxrkit.trackers.tracking import TrackedRun

_TOGETHER = 100  # parameters that a server takes at once
_LONGEST = 500  # characters of one


class MLflow:
    """One MLflow run for each run; its id is kept, so that a resumed training goes on in it."""

    def __init__(self, run: TrackedRun, *, uri: str = "", experiment: str = "cxrkit") -> None:
        """uri: of the tracking server; default, MLFLOW_TRACKING_URI, else RUNS/mlflow.db."""
        from mlflow.entities import Metric, Param
        from mlflow.tracking import MlflowClient

        database = run.folder.absolute().parent.parent / "mlflow.db"
        self._uri = uri or os.environ.get("MLFLOW_TRACKING_URI", "") or f"sqlite:///{database}"
        self._metric, self._client = Metric, MlflowClient(tracking_uri=self._uri)
        self.run_id = run.run_id or self._new(run, experiment, Param)
        self.where = f"{self._uri}, run {self.run_id}"
        if run.run_id:
            self._client.update_run(self.run_id, status="RUNNING")

    def _new(self, run: TrackedRun, experiment: str, param: Any) -> str:
        known = self._client.get_experiment_by_name(experiment)
        number = self._client.create_experiment(experiment) if known is None else known.experiment_id
        made = str(self._client.create_run(number, run_name=run.name).info.run_id)
        told = [param(key, str(value)[:_LONGEST]) for key, value in run.parameters.items()]
        for start in range(0, len(told), _TOGETHER):
            self._client.log_batch(made, params=told[start : start + _TOGETHER])
        return made

    def write(self, points: Sequence[Point]) -> None:
        """Send the points, each batch in one request."""
        now = int(time.time() * 1000)
        metrics = [
            self._metric(f"{point.axis}/{name}", value, now, point.at)
            for point in points
            for name, value in point.numbers.items()
        ]
        for start in range(0, len(metrics), 10 * _TOGETHER):
            self._client.log_batch(self.run_id, metrics=metrics[start : start + 10 * _TOGETHER])

    def close(self, *, failed: bool) -> None:
        """Say how the training ended."""
        self._client.set_terminated(self.run_id, "FAILED" if failed else "FINISHED")
