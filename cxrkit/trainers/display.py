"""What a training shows while it runs: one live line in a terminal, one line an epoch elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from cxrkit.base.labels import LabelSet

WIDTH = 80  # columns that a line may take
WORDS = {"val_loss": "lowest", "val_auc": "highest"}  # of the number that an epoch is the best by


class TrainDisplay:
    """Keeps the clocks of a training and prints them.

    The images/s are of the training steps alone, waiting for the loader included, validation and checkpoints left
    out. `waited` is the share of that time spent waiting for the loader.
    """

    def __init__(
        self, console: Console, epochs: int, val_images: int, labels: LabelSet, metric: str = "val_loss"
    ) -> None:
        """metric: by which the best epoch is chosen, val_loss or val_auc."""
        self.console = console
        self.metric = metric
        self.averaged = len(labels.averaged)
        self.epochs = epochs
        self.val_images = val_images
        self._best: dict[str, Any] | None = None  # the line of the best epoch that this process has seen
        self._told = False
        self._live: Progress | None = None
        self._began = time.perf_counter()
        self._at_start: float | None = None  # epochs, and parts of one, that were done before this process

    def __enter__(self) -> TrainDisplay:
        if self.console.is_terminal:
            self._live = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=16),
                TextColumn("{task.fields[text]}"),
                console=self.console,
                transient=True,
            )
            self._live.start()
            self._bar = self._live.add_task("getting ready", total=None, text="")
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
            if self._at_start:
                done = f"epoch {epoch}, step {step:,} of {steps:,}" if step else f"epoch {epoch}"
                self.console.print(f"resumed from the last checkpoint: at {done}", highlight=False)
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
        self._look("validating", self.val_images)

    def testing(self, images: int) -> None:
        """Begin to ask an epoch's network about the test images, whose predictions are kept."""
        self._look("keeping", images)

    def _look(self, what: str, images: int) -> None:
        self._what, self._validated, self._to_validate = what, 0, images
        self._show(what, 0, images)

    def validated(self, images: int) -> None:
        """Count images that were looked at."""
        self._validated += images
        self._show(self._what, self._validated, self._to_validate)

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
        if improved:
            self._best = line
        if line["val_auc_labels"] != self.averaged and not self._told and "val_mae" not in line:
            self._told = True
            some = f"{line['val_auc_labels']} of {self.averaged} labels"
            self.console.print(f"AUC: over the {some} that have one in the validation images", highlight=False)
        by = f"({WORDS[self.metric]})"
        mark = f" [green]{by}[/green]" if improved else " " * (1 + len(by))
        after_loss, after_auc = (mark, "") if self.metric == "val_loss" else ("", mark)
        text = (
            f"{line['epoch']:>{len(str(self.epochs))}}/{self.epochs}  loss {_loss(line['train_loss'])}, "
            f"val {_loss(line['val_loss'])}{after_loss}  {_quality(line)}{after_auc}  "
            f"lr {_rate(line['lr'])}  {line['images_per_second']:,.0f}/s"
        )
        fits = len(Text.from_markup(f"epoch {text}")) <= WIDTH
        self.console.print(f"epoch {text}" if fits else text, highlight=False)

    def best(self) -> str:
        """Return which epoch is the best so far, by what, and its AUC; "" before the first."""
        if self._best is None:
            return ""
        loss, auc = f"val loss {_loss(self._best['val_loss'])}", _quality(self._best)
        first, second = (loss, auc) if self.metric == "val_loss" else (auc, loss)
        return f"{WORDS[self.metric]} {first} in epoch {self._best['epoch']}, its {second}"

    def _show(self, what: str, done: int, total: int) -> None:
        if self._live is None:
            return
        rate = self._images / max(self._now - self._start, 1e-9)
        loss = "" if self._loss != self._loss else f"  loss {_loss(self._loss)}"
        best = f"\n{self.best()}" if self._best else ""
        text = f"{done:,}/{total:,}{loss}  {rate:,.0f}/s  ETA {self._eta()}{best}"
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


def _loss(value: float) -> str:
    """Return a loss in at most seven characters, whatever its size."""
    return f"{value:.4f}" if value < 100 else f"{value:.1e}".replace("e+0", "e+")


def _quality(line: Mapping[str, Any]) -> str:
    """Return the validation AUC of an epoch; an amount has none, but a mean absolute error."""
    if "val_mae" in line:
        return f"MAE {line['val_mae']:.2f} {line['val_unit']}"
    return "AUC n/a" if line["val_auc"] is None else f"AUC {line['val_auc']:.4f}"


def _rate(value: float) -> str:
    return f"{value:.2g}".replace("e-0", "e-")
