"""TensorBoard: event files in the run's own folder, readable by `tensorboard --logdir RUNS`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cxrkit.trackers.points import Point
from cxrkit.trackers.tracking import TrackedRun


class TensorBoard:
    """Writes RUN/tensorboard: step/loss against steps, epoch/val_auc against epochs, the settings as hyperparameters.

    A resumed training adds an event file to the folder, which TensorBoard reads as one run.
    """

    def __init__(self, run: TrackedRun, *, folder: str = "") -> None:
        """folder: where the event files go; default, RUN/tensorboard."""
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.plugins.hparams import summary_v2
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        path = Path(folder) if folder else run.folder / "tensorboard"
        self.run_id = self.where = str(path)
        self._writer: Any = EventFileWriter(str(path))
        if not run.run_id:
            told = summary_v2.hparams_pb(dict(run.parameters), trial_id=run.name)
            self._writer.add_event(self._event(summary=told, wall_time=time.time(), step=0))
            self._writer.flush()

    def write(self, points: Sequence[Point]) -> None:
        """Add the points and flush the file."""
        for point in points:
            values = [
                self._summary.Value(tag=f"{point.axis}/{name}", simple_value=value)
                for name, value in point.numbers.items()
            ]
            event = self._event(summary=self._summary(value=values), wall_time=time.time(), step=point.at)
            self._writer.add_event(event)
        self._writer.flush()

    def close(self, *, failed: bool) -> None:
        """Close the file; TensorBoard knows nothing of failures."""
        self._writer.close()
