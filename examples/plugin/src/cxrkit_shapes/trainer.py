"""A trainer with a loop of its own: `cxrkit train --trainer shapes-cosine`. It may do as it likes.

To change a detail of cxrkit's training, call that instead: examples/head_first_trainer.py freezes layers, and then does
`supervised.train(task)`, which resumes, records CUDA graphs and writes metrics.jsonl. This one does not.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from cxrkit.models import compute
from cxrkit.runs import checkpoints
from cxrkit.trainers import TrainTask


def train(task: TrainTask) -> None:
    """Train by SGD with momentum, the rate falling along a cosine; the lowest validation loss is kept."""
    epochs, rate = task.config.schedule.epochs, task.config.optimizer.lr
    assert rate is not None  # resolved: the model's own, or what was asked for
    torch.manual_seed(task.config.run.seed)
    model = task.model.to(task.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    # Normalises the images, calls the network in the precision asked for, and checks what it returns.
    forward = compute.Forward(model, task.spec, task.device, task.precision)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, nesterov=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs * task.train.steps)
    lowest = float("inf")
    for epoch in range(epochs):
        model.train()
        task.display.epoch(epoch + 1, 0, task.train.steps)
        for batch in task.train.epoch(epoch):  # the same order and crops for every trainer: they go by seed and epoch
            loss = task.loss(forward(batch), batch)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            task.display.step(len(batch.index))
        task.display.validating()
        scored = compute.score(
            model, task.val, task.spec, task.device, task.precision, task.loss, task.display.validated
        )
        task.display.console.print(f"epoch {epoch + 1:>3}/{epochs}  val loss {scored.loss:.4f}", highlight=False)
        if scored.loss < lowest:
            lowest = scored.loss
            # The one thing that cxrkit asks for: it predicts with this file.
            checkpoints.save(task.run.best, model, replace(task.info, epoch=epoch + 1))
