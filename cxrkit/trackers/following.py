"""Send a run's metrics to trackers: while it is trained, from a thread that watches the file, or afterwards.

A training knows nothing of its trackers. What they have is remembered (tracking.Sent) by the place of the last line,
and a training that goes on takes the same steps to the same numbers: so what it writes again is not sent again. A
tracker that fails is told of once, and left alone.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from cxrkit.base.errors import UserError
from cxrkit.base.notes import Say
from cxrkit.runs.config import TrainConfig
from cxrkit.runs.folder import RunFolder
from cxrkit.runs.metrics import read_metrics
from cxrkit.runs.opening import run_config
from cxrkit.trackers import tracking
from cxrkit.trackers.points import points, steps_per_epoch
from cxrkit.trackers.tracking import Sent, Tracker

EVERY_SECONDS = 2.0
PATIENCE_SECONDS = 60.0  # for what is not sent yet when a training has ended


@dataclass(frozen=True)
class Logged:
    """What became of a tracker's run."""

    where: str
    """Where to look at it."""

    lines: int
    """How many were sent now."""


@contextmanager
def follow(run: RunFolder, config: TrainConfig, note: Say, *, resumed: bool = True) -> Iterator[None]:
    """Within it, send what is added to the run's metrics to the trackers of `config.run.log`.

    note: hears of trackers that fail. resumed: whether the training goes on; a new one is a new run of the trackers,
    where one of before was taken away, too. Nothing that they do ends the training, or holds it up for longer than
    PATIENCE_SECONDS at its end.
    """
    chosen = tracking.names(config.run.log)
    if not chosen:
        yield
        return
    if not resumed:
        for name in chosen:
            tracking.forget(run, name)
    ended, outcome = threading.Event(), {"failed": True}
    threads = [
        threading.Thread(target=_watch, args=(name, run, config, ended, outcome, note), daemon=True, name=f"log {name}")
        for name in chosen
    ]
    for thread in threads:
        thread.start()
    try:
        yield
        outcome["failed"] = False
    finally:
        ended.set()
        for name, thread in zip(chosen, threads, strict=True):
            thread.join(PATIENCE_SECONDS)
            if thread.is_alive():
                note(f"--log {name}: has not taken everything in {PATIENCE_SECONDS:.0f} s\n"
                     f"  remedy: send the rest with `cxrkit log {run.path} --to {name}`")  # fmt: skip


def _watch(
    name: str, run: RunFolder, config: TrainConfig, ended: threading.Event, outcome: dict[str, bool], note: Say
) -> None:
    """Send until the training has ended, then what is left."""
    tracker: Tracker | None = None
    seen = -1
    try:
        while True:
            last = ended.wait(EVERY_SECONDS if tracker is not None else 0)
            size = run.metrics.stat().st_size if run.metrics.exists() else -1
            if tracker is None:
                tracker = tracking.make(name, run, config)
            if size != seen or last:
                _send(name, tracker, run, config)
                seen = size
            if last:
                tracker.close(failed=outcome["failed"])
                return
    except Exception as error:  # whatever a library or a network does, the training goes on
        line = (str(error).splitlines() or [""])[0]
        note(f"--log {name}: failed ({type(error).__name__}: {line:.200}); the training goes on without it\n"
             f"  remedy: send its numbers with `cxrkit log {run.path} --to {name}`")  # fmt: skip


def send(run: RunFolder, name: str, options: dict[str, Any] | None = None) -> Logged:
    """Send what a tracker does not have yet of a run that was trained, or is being trained.

    options: of the tracker, beside those that the run's config has. Raises UserError for a run without metrics, a
    tracker that is not installed, and one that fails.
    """
    config = run_config(run)
    config = config.with_values({"run.log": name, "run.log_options": config.run.log_options | (options or {})})
    tracking.check(name, options or {})
    if not run.metrics.exists():
        raise UserError(f"{run.metrics}: the run has no metrics", remedy="name a run that `cxrkit train` made")
    try:
        tracker = tracking.make(name, run, config)
        lines = _send(name, tracker, run, config)
        tracker.close(failed=False)
    except UserError:
        raise
    except Exception as error:
        line = (str(error).splitlines() or [""])[0]
        raise UserError(
            f"{name}: failed ({type(error).__name__}: {line:.200})", remedy="see that it can be reached, then try again"
        ) from error
    return Logged(tracker.where, lines)


def _send(name: str, tracker: Tracker, run: RunFolder, config: TrainConfig) -> int:
    """Send the whole lines that are new, and remember it; returns how many."""
    if not run.metrics.exists():
        return 0
    lines = [line for line in read_metrics(run.metrics) if isinstance(line, dict)]
    sent = tracking.read_sent(run, name)
    per_epoch = steps_per_epoch(lines, config.optimizer.batch_size or 1)
    new = list(points(lines, sent.after, per_epoch))
    if new:
        tracker.write(new)
    if new or sent.run != tracker.run_id:
        place = max([sent.after, *(point.place for point in new)])
        tracking.write_sent(run, name, Sent(tracker.run_id, list(place)))
    return len(new)
