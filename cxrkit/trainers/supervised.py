"""The training: by default the paper's, cross-entropy, Adam, halving at plateaus, best epoch by validation loss.

Reads top to bottom: `train` is the whole of it. The order of images and their augmentation are functions of
(seed, epoch, image), so the state of a training is its tensors, torch's random generators and a Progress, and a killed
one that resumes takes the same steps as one that ran through.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch

from cxrkit.base import compiling, notes, typed
from cxrkit.base.contracts import Batch
from cxrkit.base.errors import UserError
from cxrkit.base.words import count
from cxrkit.models import compute
from cxrkit.runs import checkpoints
from cxrkit.runs.metrics import MetricsFile, NoMetrics
from cxrkit.statistics.ranking import auc
from cxrkit.trainers import TrainTask, epochs, making, optimizers, rates, settling, sharing, stepping
from cxrkit.trainers.averaging import Average, averaged
from cxrkit.trainers.plateau import Best, Plateau, after_epoch, better
from cxrkit.trainers.snapshot import generator_states, restore_generators
from cxrkit.trainers.stepping import Step


@dataclass
class Progress:
    """Where a training stands; written into every last.safetensors."""

    plateau: Plateau
    """The learning rate, and what decides when it falls."""

    epoch: int = 0
    """Epochs finished, so the next step to take is in epoch `epoch`, counted from 0."""

    step: int = 0
    """Steps of this epoch that were taken."""

    loss_sum: float = 0.0
    """Of this epoch so far, over its images."""

    images: int = 0
    """Images of this epoch that were trained on."""

    best: Best = field(default_factory=Best)
    """The epoch whose network is kept."""

    metrics_bytes: int = 0
    """How much of metrics.jsonl belongs to the steps taken."""

    scaler: dict[str, Any] = field(default_factory=dict)
    """State of the fp16 loss scaler."""


@dataclass
class Training:
    """What the epochs of a training work on, together."""

    task: TrainTask
    """What is trained, on what."""

    model: Any
    """The network on its device."""

    step: Step
    """Takes the steps; holds optimizer and scaler."""

    evaluate: compute.Forward
    """The network as it is called for the validation."""

    progress: Progress
    """Where it stands."""

    metrics: MetricsFile | NoMetrics
    """Takes a line now and then."""

    rate: float | None = None
    """Learning rate of the last step; None before the first one of this process."""


def train(task: TrainTask) -> None:
    """Train until the schedule ends; leaves last and best checkpoints and metrics.jsonl in the run folder.

    Raises UserError when the loss is no longer a number, or a file cannot be written.
    """
    note = notes.through(task.display.console)
    compiling.ensure_cache_folder(note)
    compute.set_switches(task.device, task.precision)
    torch.manual_seed(task.config.run.seed)  # dropout and the like; a resumed training takes up where they stood
    model = task.model.to(task.device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    model = sharing.synchronised(model, task.ranks, task.device, note)
    step = making.make_step(
        task.config,
        model,
        task.spec,
        task.loss,
        images=task.batch_size,
        device=task.device,
        precision=task.precision,
        compile=bool(task.config.run.compile),
        note=note,
        ranks=task.ranks,
    )
    progress = start(task, model, step)
    epochs.begin(task, progress.epoch)
    record(task, step)
    evaluate = compute.Forward(
        model, task.spec, task.device, task.precision, compile=bool(task.config.run.compile), note=note
    )
    metrics = MetricsFile(task.run.metrics, progress.metrics_bytes) if task.ranks.first else NoMetrics()
    training = Training(task, model, step, evaluate, progress, metrics)
    try:
        while not rates.stops(task.config.schedule, progress.best, progress.epoch):
            train_epoch(training)
            finish_epoch(training)
        if progress.epoch < task.config.schedule.epochs:
            taken = count(progress.epoch, "epoch")
            note(f"the training has ended after {taken}: none since {progress.best.epoch} was better")
    finally:
        metrics.close()


def record(task: TrainTask, step: Step) -> None:
    """Record the step as a CUDA graph where that is wanted; the state of the training is there, no batch is yet."""
    if stepping.records(task.config.run.graph, task.device, task.ranks):
        labels, side = len(task.labels.labels), task.spec.input_size if task.spec.image else 0
        meta = task.spec.features_in or 3
        places = getattr(task.loss, "region_places", 0)
        step.record(stepping.fixed_batch(task.batch_size, side, labels, task.device, meta, places))
    elif task.config.run.graph:
        why = "a CPU has no CUDA graphs" if compute.on_cpu(task.device) else "several processes train together"
        step.note(f"--graph: {why}, so the steps are taken without\n  remedy: leave out --graph")


def start(task: TrainTask, model: Any, step: Step) -> Progress:
    """Return the progress to go on from; with `resume`, the last checkpoint's, its tensors loaded."""
    assert task.config.optimizer.lr is not None
    if not task.ranks.once(lambda: task.resume and task.run.last.exists()):
        return Progress(Plateau(task.config.optimizer.lr))
    tensors, info = task.ranks.once(lambda: checkpoints.read(task.run.last))
    checkpoints.load_model(task.run.last, tensors, model, task.spec.name)
    checkpoints.load_optimizer(tensors, step.optimizer)
    if step.average is not None:
        step.average.load(task.run.last, checkpoints.part(tensors, "average"))
    restore_generators(checkpoints.part(tensors, "generator"), task.device)
    try:
        progress: Progress = typed.build(Progress, info.progress)
    except typed.FieldError as error:
        raise UserError(
            f"{task.run.last}: its progress is not one of this trainer: {error}",
            remedy="resume with the --trainer that it was trained with, or choose another --runs folder",
        ) from None
    step.scaler.load_state_dict(progress.scaler)
    if progress.step == 0 and progress.best.epoch == progress.epoch > 0:
        # The kill may have come between the two files; the last model is the best one here, so write it again.
        save_best(task, model, progress, step.average)
    return progress


def train_epoch(training: Training) -> None:
    """Take the steps of one epoch from `progress.step` on."""
    task, progress = training.task, training.progress
    loss_sum = torch.tensor(progress.loss_sum, dtype=torch.float64, device=task.device)
    settings, saved_at = task.config.run, time.monotonic()
    task.display.epoch(progress.epoch + 1, progress.step, task.train.steps)
    for batch in timed(task.train.epoch(progress.epoch, progress.step), task.display):
        sharing.sow(task.ranks, settings.seed, progress.epoch, progress.step)
        rate = set_rate(training)
        loss, images = training.step(batch), len(batch.index) * task.ranks.world_size
        loss_sum += loss.double() * images
        progress.step += 1
        progress.images += images
        task.display.step(images)
        due = time.monotonic() - saved_at >= 60 * settings.checkpoint_minutes
        # Reading the loss waits for the device, so it is done only where it is needed.
        if progress.step % settings.log_steps == 0 or progress.step == task.train.steps or due:
            value = check_finite(task, loss.item(), progress)
            if progress.step % settings.log_steps == 0:
                line = {"kind": "step", "epoch": progress.epoch + 1, "step": progress.step, "loss": value}
                training.metrics.write(line | {"lr": rate})
            task.display.loss(loss_sum.item() / progress.images)
        if due and progress.step < task.train.steps:
            progress.loss_sum = loss_sum.item()
            save_last(training)
            saved_at = time.monotonic()
    progress.loss_sum = loss_sum.item()


def set_rate(training: Training) -> float:
    """Give the optimizer the learning rate of the step that comes next, where it is another one; returns it."""
    task, progress = training.task, training.progress
    taken = progress.epoch * task.train.steps + progress.step
    rate = rates.rate(task.config.schedule, progress.plateau.lr, taken, task.train.steps)
    if rate != training.rate:
        optimizers.set_rate(training.step.optimizer, rate)
        training.rate = rate
    return rate


def timed(batches: Iterator[Batch], display: Any) -> Iterator[Batch]:
    """Yield the batches and tell the display how long each was waited for."""
    while True:
        began = time.perf_counter()
        batch = next(batches, None)
        display.waited(time.perf_counter() - began)
        if batch is None:
            return
        yield batch


def finish_epoch(training: Training) -> None:
    """Validate, reduce the rate at a plateau, and write the checkpoints and the epoch's line."""
    task, progress = training.task, training.progress
    task.display.validating()
    with averaged(training.step.average):
        statistics = settling.settle(task, training.model, progress.epoch + 1, training.step.note)
        sharing.same_buffers(task.ranks, training.model)
        scored = compute.score(
            training.model,
            task.val,
            task.spec,
            task.device,
            task.precision,
            task.loss,
            task.ranks.counting(task.display.validated, task.display.val_images),
            forward=training.evaluate,
            ranks=task.ranks,
        )
        check_finite(task, scored.loss, progress, "validation")
        epochs.keep(task, training.model, progress.epoch + 1, scored)
        statistics.restore()
    mean_auc, defined = validation_auc(task, scored)
    line = {
        "kind": "epoch",
        "epoch": progress.epoch + 1,
        "lr": progress.plateau.lr if training.rate is None else training.rate,
        "train_loss": progress.loss_sum / progress.images,
        "val_loss": scored.loss,
        "val_auc": mean_auc,
        "val_auc_labels": defined,
        "train_images": progress.images,
        **validation_error(task, scored),
        **task.display.rates(),
    }
    progress.epoch += 1
    progress.step, progress.images, progress.loss_sum = 0, 0, 0.0
    metric, schedule = task.config.selection.metric, task.config.schedule
    before = progress.best
    progress.best = better(before, progress.epoch, line[metric], highest=metric == "val_auc")
    if schedule.name == "plateau":
        patience, factor = schedule.patience, schedule.factor
        progress.plateau = after_epoch(progress.plateau, scored.loss, patience=patience, factor=factor)
    training.metrics.write(line)
    save_last(training)
    improved = progress.best != before
    if improved:
        save_best(task, training.model, progress, training.step.average)
    task.display.finished(line, improved)


def validation_auc(task: TrainTask, scored: compute.Scored) -> tuple[float | None, int]:
    """Return the mean AUC over the averaged labels that have one, and how many these are."""
    values = []
    for number, label in enumerate(task.labels.labels):
        known = ~np.isnan(scored.target[:, number])
        if label in task.labels.averaged:
            values.append(auc(scored.score[known, number], scored.target[known, number] > 0.5))
    defined = [value for value in values if value == value]
    return (sum(defined) / len(defined) if defined else None), len(defined)


def validation_error(task: TrainTask, scored: compute.Scored) -> dict[str, float | str]:
    """Return the mean absolute error where labels have a unit, over all that are known, and the unit; else nothing."""
    if not task.labels.unit:
        return {}
    return {"val_mae": float(np.nanmean(np.abs(scored.score - scored.target))), "val_unit": task.labels.unit}


def save_last(training: Training) -> None:
    """Write last.safetensors: everything that resuming needs."""
    task, progress = training.task, training.progress
    if not task.ranks.first:
        return
    progress.metrics_bytes = training.metrics.sync()
    progress.scaler = training.step.scaler.state_dict()
    info = replace(task.info, epoch=progress.epoch, progress=asdict(progress))
    generators = generator_states(task.device)
    average = {} if training.step.average is None else training.step.average.tensors()
    checkpoints.save(task.run.last, training.model, info, training.step.optimizer, generators, average)


def save_best(task: TrainTask, model: torch.nn.Module, progress: Progress, average: Average | None) -> None:
    """Write best.safetensors: the model alone, as it was validated."""
    with averaged(average):
        statistics = settling.settle(task, model, progress.epoch)  # on every rank: they measure together
        if task.ranks.first:
            checkpoints.save(task.run.best, model, replace(task.info, epoch=progress.epoch))
        statistics.restore()


def check_finite(task: TrainTask, loss: float, progress: Progress, what: str = "training") -> float:
    """Return `loss`; raise a UserError when it is NaN or infinite."""
    if loss - loss != 0:
        kept = f"; {task.run.last} keeps the state before it" if task.run.last.exists() else ""
        raise UserError(
            f"the {what} loss is {loss} at epoch {progress.epoch + 1}, step {progress.step}{kept}",
            remedy=f"train with a smaller --lr than {progress.plateau.lr:g} or with --precision fp32, "
            "in another --runs folder",
        )
    return loss
