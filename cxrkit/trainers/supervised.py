"""The paper's training: class-averaged binary cross-entropy, Adam, halving at plateaus, best epoch by validation loss.

Reads top to bottom: `train` is the whole of it. The order of images and their augmentation are functions of
(seed, epoch, image), so the state of a training is its tensors and a Progress, and a killed one that resumes takes
the same steps as one that ran through.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch

from cxrkit import checkpoints, compiling, compute, losses, notes
from cxrkit.contracts import PATHOLOGIES, Batch
from cxrkit.errors import UserError
from cxrkit.evaluators.ranking import auc
from cxrkit.files import remove_parts
from cxrkit.runs import MetricsFile
from cxrkit.trainers import TrainTask

LOSS = losses.build()  # the paper's


@dataclass
class Progress:
    """Where a training stands; written into every last.safetensors.

    epoch, step: the next step to take. loss_sum, images: of this epoch so far. lr: the current learning rate.
    best_loss, best_epoch: of the epochs finished (epochs count from 1). bad_epochs: since the last improvement or
    halving. metrics_bytes: how much of metrics.jsonl belongs to the steps taken. scaler: the fp16 loss scaler's state.
    """

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    images: int = 0
    lr: float = 0.0
    best_loss: float | None = None
    best_epoch: int = 0
    bad_epochs: int = 0
    metrics_bytes: int = 0
    scaler: dict[str, Any] = field(default_factory=dict)


def train(task: TrainTask) -> None:
    """Train until `config.epochs`; leaves last and best checkpoints and metrics.jsonl in the run folder.

    Raises UserError when the loss is no longer a number.
    """
    compiling.ensure_cache_folder(notes.through(task.display.console))
    model = task.model.to(task.device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimizer = make_optimizer(task, model)
    scaler = torch.amp.GradScaler(torch.device(task.device).type, enabled=task.precision == "fp16")
    progress = start(task, model, optimizer, scaler)
    forward = model
    if task.config.compile:
        forward = compute.compiled(model, task.device, notes.through(task.display.console))
    metrics = MetricsFile(task.run.metrics, progress.metrics_bytes)
    try:
        while progress.epoch < task.config.epochs:
            train_epoch(task, model, forward, optimizer, scaler, progress, metrics)
            finish_epoch(task, model, optimizer, scaler, progress, metrics)
    finally:
        metrics.close()


def make_optimizer(task: TrainTask, model: torch.nn.Module) -> torch.optim.Optimizer:
    """Return Adam over the parameters that learn (paper, section 3)."""
    config = task.config
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert config.lr is not None
    return torch.optim.Adam(
        learning, lr=config.lr, betas=(config.beta1, config.beta2), weight_decay=config.weight_decay, fused=True
    )


def start(task: TrainTask, model: Any, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler) -> Progress:
    """Return the progress to go on from; with `resume`, the last checkpoint's, its tensors loaded."""
    assert task.config.lr is not None
    if task.resume:
        remove_parts(task.run.last.parent)
    if not (task.resume and task.run.last.exists()):
        return Progress(lr=task.config.lr)
    tensors, info = checkpoints.read(task.run.last)
    checkpoints.load_model(task.run.last, tensors, model, task.spec.name)
    checkpoints.load_optimizer(tensors, optimizer)
    progress = Progress(**info.progress)
    set_lr(optimizer, progress.lr)
    scaler.load_state_dict(progress.scaler)
    if progress.step == 0 and progress.best_epoch == progress.epoch > 0:
        # The kill may have come between the two files; the last model is the best one here, so write it again.
        save_best(task, model, progress)
    return progress


def train_epoch(
    task: TrainTask,
    model: torch.nn.Module,
    forward: Any,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    progress: Progress,
    metrics: MetricsFile,
) -> None:
    """Take the steps of one epoch from `progress.step` on."""
    loss_sum = torch.tensor(progress.loss_sum, dtype=torch.float64, device=task.device)
    log_steps, saved_at = task.config.log_steps, time.monotonic()
    task.display.epoch(progress.epoch + 1, progress.step, task.train.steps)
    for batch in timed(task.train.epoch(progress.epoch, progress.step), task.display):
        loss = take_step(task, forward, optimizer, scaler, batch)
        loss_sum += loss.detach().double() * len(batch.index)
        progress.step += 1
        progress.images += len(batch.index)
        task.display.step(len(batch.index))
        due = time.monotonic() - saved_at >= 60 * task.config.checkpoint_minutes
        # Reading the loss waits for the device, so it is done only where it is needed.
        if progress.step % log_steps == 0 or progress.step == task.train.steps or due:
            value = check_finite(task, loss.item(), progress)
            if progress.step % log_steps == 0:
                line = {"kind": "step", "epoch": progress.epoch + 1, "step": progress.step, "loss": value}
                metrics.write(line | {"lr": progress.lr})
            task.display.loss(loss_sum.item() / progress.images)
        if due and progress.step < task.train.steps:
            progress.loss_sum = loss_sum.item()
            save_last(task, model, optimizer, scaler, progress, metrics)
            saved_at = time.monotonic()
    progress.loss_sum = loss_sum.item()


def take_step(
    task: TrainTask, forward: Any, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, batch: Batch
) -> torch.Tensor:
    """Return the loss (paper, equation 1: the mean over labels, and over the batch) of one step of the optimizer."""
    loss = LOSS(compute.forward(forward, batch, task.spec, task.device, task.precision), batch)
    optimizer.zero_grad(set_to_none=True)
    scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
    scaler.step(optimizer)
    scaler.update()
    return loss


def timed(batches: Iterator[Batch], display: Any) -> Iterator[Batch]:
    """Yield the batches and tell the display how long each was waited for."""
    while True:
        began = time.perf_counter()
        batch = next(batches, None)
        display.waited(time.perf_counter() - began)
        if batch is None:
            return
        yield batch


def finish_epoch(
    task: TrainTask,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    progress: Progress,
    metrics: MetricsFile,
) -> None:
    """Validate, halve the rate at a plateau, and write the checkpoints and the epoch's line."""
    task.display.validating()
    scored = compute.score(model, task.val, task.spec, task.device, task.precision, LOSS, task.display.validated)
    check_finite(task, scored.loss, progress, "validation")
    aucs = [auc(scored.score[:, number], scored.target[:, number] > 0.5) for number in range(len(PATHOLOGIES))]
    defined = [value for value in aucs if value == value]
    line = {
        "kind": "epoch",
        "epoch": progress.epoch + 1,
        "lr": progress.lr,
        "train_loss": progress.loss_sum / progress.images,
        "val_loss": scored.loss,
        "val_auc": sum(defined) / len(defined) if defined else None,
        "val_auc_labels": len(defined),
        "train_images": progress.images,
        **task.display.rates(),
    }
    improved = progress.best_loss is None or scored.loss < progress.best_loss
    progress.epoch += 1
    progress.step, progress.images, progress.loss_sum = 0, 0, 0.0
    if improved:
        progress.best_loss, progress.best_epoch, progress.bad_epochs = scored.loss, progress.epoch, 0
    else:
        progress.bad_epochs += 1
        if progress.bad_epochs > task.config.patience:
            progress.lr *= task.config.lr_factor
            progress.bad_epochs = 0
            set_lr(optimizer, progress.lr)
    metrics.write(line)
    save_last(task, model, optimizer, scaler, progress, metrics)
    if improved:
        save_best(task, model, progress)
    task.display.finished(line, improved)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def save_last(
    task: TrainTask,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    progress: Progress,
    metrics: MetricsFile,
) -> None:
    """Write last.safetensors: everything that resuming needs."""
    progress.metrics_bytes = metrics.sync()
    progress.scaler = scaler.state_dict()
    checkpoints.save(
        task.run.last, model, replace(task.info, epoch=progress.epoch, progress=asdict(progress)), optimizer
    )


def save_best(task: TrainTask, model: torch.nn.Module, progress: Progress) -> None:
    """Write best.safetensors: the model alone."""
    checkpoints.save(task.run.best, model, replace(task.info, epoch=progress.epoch))


def check_finite(task: TrainTask, loss: float, progress: Progress, what: str = "training") -> float:
    """Return `loss`; raise a UserError when it is NaN or infinite."""
    if loss - loss != 0:
        kept = f"; {task.run.last} keeps the state before it" if task.run.last.exists() else ""
        raise UserError(
            f"the {what} loss is {loss} at epoch {progress.epoch + 1}, step {progress.step}{kept}",
            remedy=f"train with a smaller --lr than {progress.lr:g} or with --precision fp32, in another --runs folder",
        )
    return loss
