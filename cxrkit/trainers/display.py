"""What a training shows while it runs: one live line in a terminal, one line an epoch elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from cxrkit.base.labels import LabelSet


class TrainDisplay:
    """Keeps the clocks of a training and prints them.

    The images/s are of the training steps alone, waiting for the loader included, validation and checkpoints left
    out. `waited` is the share of that time spent waiting for the loader.
    """

    def __init__(self, console: Console, epochs: int, val_images: int, labels: LabelSet) -> None:
        self.console = console
        self.averaged = len(labels.averaged)
        self.epochs = epochs
        self.val_images = val_images
        self.best = ""
        self._live: Progress | None = None
        self._began = time.perf_counter()
        self._at_start: float | None = None  # epochs, and parts of one, that were done before this process

    def __enter__(self) -> TrainDisplay:
        if self.console.is_terminal:
            self._live = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[text]}"),
                console=self.console,
                transient=True,
            )
            self._live.start()
            self._bar = self._live.add_task("", total=None, text="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def epoch(self, epoch: int, step: int, steps: int) -> None:
        """Begin `epoch` (from 1) at `step` of `steps`."""
        self._epoch, self._steps, self._step = epoch, steps, step
        if self._at_start is None:
            self._at_start = epoch - 1 + step / steps
        self._images, self._wait, self._loss = 0, 0.0, float("nan")
        self._start = self._now = self._shown = time.perf_counter()
        self._show(f"epoch {epoch}/{self.epochs}", step, steps)

    def waited(self, seconds: float) -> None:
        """Count time spent waiting for the loader."""
        self._wait += seconds

    def step(self, images: int) -> None:
        """Count one training step."""
        self._step += 1
        self._images += images
        self._now = time.perf_counter()
        if self._now - self._shown > 0.2:
            self._shown = self._now
            self._show(f"epoch {self._epoch}/{self.epochs}", self._step, self._steps)

    def loss(self, mean: float) -> None:
        """Take the epoch's mean loss so far."""
        self._loss = mean

    def validating(self) -> None:
        """Begin the validation; the training clock has stopped with the last step."""
        self._validated = 0
        self._show("validating", 0, self.val_images)

    def validated(self, images: int) -> None:
        """Count validated images."""
        self._validated += images
        self._show("validating", self._validated, self.val_images)

    def rates(self) -> dict[str, float]:
        """Return the epoch's images/s, seconds and share of waiting for the loader."""
        seconds = max(self._now - self._start, 1e-9)
        return {
            "images_per_second": round(self._images / seconds, 1),
            "train_seconds": round(seconds, 3),
            "waiting_share": round(min(self._wait / seconds, 1.0), 4),
        }

    def finished(self, line: dict[str, Any], improved: bool) -> None:
        """Print the epoch's line and keep it as the best one if it `improved`."""
        auc = "n/a" if line["val_auc"] is None else f"{line['val_auc']:.4f}"
        defined = line["val_auc_labels"]
        over = "" if defined == self.averaged else f" (over {defined} of {self.averaged})"
        quality = f"AUC {auc}"
        if "val_mae" in line:  # an amount has no AUC
            quality = f"MAE {line['val_mae']:.2f} {line['val_unit']}"
        if improved:
            self.best = f"best epoch {quality}"
        self.console.print(
            f"epoch {line['epoch']:>3}/{self.epochs}  loss {line['train_loss']:.4f}  val loss {line['val_loss']:.4f}  "
            f"val {quality}{over}  lr {line['lr']:.2g}  {line['images_per_second']:,.0f} images/s"
            f"{'  [green]best[/green]' if improved else ''}",
            highlight=False,
        )

    def _show(self, what: str, done: int, total: int) -> None:
        if self._live is None:
            return
        rate = self._images / max(self._now - self._start, 1e-9)
        loss = "" if self._loss != self._loss else f"  loss {self._loss:.4f}"
        best = f"  {self.best}" if self.best else ""
        text = f"{done:,}/{total:,}{loss}  {rate:,.0f} images/s{best}  ETA {self._eta()}"
        self._live.update(self._bar, description=what, completed=done, total=total, text=text)

    def _eta(self) -> str:
        """Return the time left to the end of the training, from the pace so far, validation included."""
        reached = self._epoch - 1 + self._step / self._steps
        done = reached - (self._at_start or 0.0)
        if done <= 0:
            return "-"
        left = (self.epochs - reached) * (time.perf_counter() - self._began) / done
        minutes, seconds = divmod(int(max(left, 0)), 60)
        return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
