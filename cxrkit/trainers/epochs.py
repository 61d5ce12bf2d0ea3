"""Keeping the predictions of every epoch while a training runs (`--keep-epochs`); the files are runs/epochs.py's.

The validation has been computed, so it costs a file; the test images take one more pass. The network is asked as
`predict` asks the best checkpoint: the same precision, batches and loader, so that what is kept of the best epoch is
equal, to the last bit, to predictions/test.parquet. (The validation's batches are those of the training where they are
larger.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from cxrkit.base import notes
from cxrkit.base.contracts import Loader, Subset
from cxrkit.base.ranks import Ranks
from cxrkit.base.words import count
from cxrkit.loaders import views as test_time
from cxrkit.loaders.inputs import Inputs
from cxrkit.models import ModelSpec, compute
from cxrkit.predict import identity, table
from cxrkit.runs import epochs
from cxrkit.runs.config import TrainConfig
from cxrkit.runs.epochs import KeptEpoch
from cxrkit.runs.predictions import write_predictions
from cxrkit.trainers import TrainTask


@dataclass
class Keeper:
    """What it takes to ask a network about the test images after every epoch."""

    inputs: Inputs
    """Whose images they are."""

    test: Loader
    """Delivers them."""

    compile: bool
    """Whether the network is compiled for it."""

    val: Loader | None = None
    """Delivers the validation images in the recipe's views (`test.views`); None where the validation's own will do."""

    views: str = "none"
    """How images are looked at."""

    _forward: compute.Forward | None = field(default=None, init=False)

    def forward(self, task: TrainTask, model: Any) -> compute.Forward:
        """Return the network as it is called, the same one every time."""
        if self._forward is None:
            note = notes.through(task.display.console)
            self._forward = compute.Forward(
                model, task.spec, task.device, task.precision, compile=self.compile, note=note
            )
        return self._forward


def keeper(
    config: TrainConfig, spec: ModelSpec, inputs: Inputs, device: str, threads: int | None, ranks: Ranks
) -> Keeper | None:
    """Return what keeps the epochs of a training; None where that is not asked for. threads: that load images."""
    if not config.run.keep_epochs:
        return None
    together = compute.batch_size(device, spec.input_size)
    options: Mapping[str, Any] = config.run.loader_options
    views = config.test.views

    def loader(subset: Subset) -> Loader:
        plan = inputs.eval_plan(subset, spec, together, ranks, views)
        return inputs.loader(plan, config.run.loader, device, threads, options=options, known_only=True)

    compile = bool(config.run.compile) and not compute.on_cpu(device)
    return Keeper(inputs, loader("test"), compile, loader("val") if views != "none" else None, views)


def begin(task: TrainTask, taken: int) -> None:
    """Remove what a killed process kept of later epochs than the `taken` ones, and say which of these are missing."""
    task.ranks.once(lambda: epochs.forget_after(task.run, taken))
    if task.keep is not None:
        tell_missing(task, taken)


def tell_missing(task: TrainTask, taken: int) -> None:
    """Say which of the epochs that were taken are not kept, where some are not."""
    absent = epochs.missing(task.run, taken)
    if absent:
        task.display.console.print(
            f"--keep-epochs: of the {count(taken, 'epoch')} taken so far, {epochs.ranges(absent)} "
            f"{'are' if len(absent) > 1 else 'is'} not kept: their networks are gone, and a common epoch cannot be one "
            "of them",
            highlight=False,
            markup=False,
        )


def keep(task: TrainTask, model: torch.nn.Module, epoch: int, scored: compute.Scored) -> None:
    """Write what the network of `epoch`, from 1, says of the validation images (`scored`) and of the test images.

    In views of its own the validation is asked once more: `scored`, whose loss chooses epochs, is of the centre crop.
    """
    if task.keep is None:
        return
    loss, val = scored.loss, task.keep.val
    found: dict[Subset, compute.Scored] = {"val": scored if val is None else _asked(task, model, "val", val)}
    found["test"] = _asked(task, model, "test", task.keep.test)
    if not task.ranks.first:
        return
    for subset, said in found.items():
        views = task.keep.views
        about = identity(task.info, task.keep.inputs, subset, epoch=epoch, checkpoint_sha256="", views=views)
        write_predictions(
            epochs.predictions_of(task.run, epoch, subset), table(said, task.keep.inputs, task.info), about
        )
    epochs.commit(task.run, KeptEpoch(epoch, loss))


def _asked(task: TrainTask, model: torch.nn.Module, subset: Subset, loader: Loader) -> compute.Scored:
    """Return what the network says of the images of a subset."""
    assert task.keep is not None, "who keeps epochs has what it takes"
    images = len(task.keep.inputs.rows[subset])
    task.display.testing(images)
    return compute.score(
        model,
        loader,
        task.spec,
        task.device,
        task.precision,
        progress=task.ranks.counting(task.display.validated, images),
        forward=task.keep.forward(task, model),
        ranks=task.ranks,
        views=len(test_time.VIEWS[task.keep.views]),
    )


def finish(task: TrainTask) -> None:
    """Make what is kept say the terms of the training that has ended; say where a trainer has kept nothing."""
    epochs.restate(task.run, task.info)
    if task.keep is not None and not epochs.kept(task.run):
        task.display.console.print(
            f"--keep-epochs: trainer {task.config.run.trainer!r} has kept the predictions of no epoch; one of your own "
            "calls cxrkit.trainers.epochs.keep after each",
            highlight=False,
            markup=False,
        )
