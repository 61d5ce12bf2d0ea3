"""Batch normalisation's statistics for a look at a network that has taken a few steps only.

A network in evaluation mode normalises with running statistics, averages over the batches of the last steps and their
weights. In the first steps of a training from scratch the weights move by as much as they are large, so that these
averages are of other networks: the validation loss of a ResNet-50 after five steps is 2e10, where statistics of its own
give 1.2 (docs/protocol.md). No average over the past mends that, neither a cumulative one nor one without its initial
value.

So a validation after fewer than SETTLED / momentum steps, a hundred, measures the statistics anew, with the weights as
they are, on the first batches of the epoch. The network that is validated is the one that is kept as the best, and the
training goes on with its own averages. After more steps nothing is done at all: a training whose first epoch is longer
is the same to the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from cxrkit.base.notes import Say
from cxrkit.base.words import count
from cxrkit.models import compute
from cxrkit.trainers import TrainTask

# In units of 1 / momentum. After ten of them the beginning weighs 3 in 100,000 in an average.
SETTLED = 10
BATCHES = 10  # to measure on; four would do


@dataclass(frozen=True)
class Statistics:
    """The averages of a training, to be put back after the look at its network."""

    saved: tuple[tuple[torch.Tensor, torch.Tensor], ...]
    """Buffers of the network, and copies of what they held; none where nothing was measured."""

    def restore(self) -> None:
        """Put the training's averages back, in place: a recorded step goes on with the same memory."""
        with torch.no_grad():
            for buffer, before in self.saved:
                buffer.copy_(before)


def settle(task: TrainTask, model: Any, epochs: int, say: Say | None = None) -> Statistics:
    """Give `model` the statistics that it is to be looked at with after `epochs` epochs; returns what to put back.

    A function of the weights and of the epoch's plan: a resumed training measures the same. Nothing is drawn from a
    random generator, and dropout is off. say: hears of it after the first epoch.
    """
    unsettled = [layer for layer in model.modules() if _is_unsettled(layer, epochs * task.train.steps)]
    if not unsettled:
        return Statistics(())
    buffers = [buffer for layer in unsettled for buffer in layer.buffers(recurse=False)]
    statistics = Statistics(tuple((buffer, buffer.clone()) for buffer in buffers))
    momenta = [layer.momentum for layer in unsettled]
    model.eval()
    try:
        for layer in unsettled:
            layer.train()
            layer.reset_running_stats()
            layer.momentum = None  # a plain average over the batches
        with torch.no_grad():
            for batch in islice(task.train.epoch(epochs - 1), BATCHES):
                compute.forward(model, batch, task.spec, task.device, task.precision)
    finally:
        for layer, momentum in zip(unsettled, momenta, strict=True):
            layer.momentum = momentum
        model.train()
    if say is not None and epochs == 1:
        say(
            f"after {count(task.train.steps, 'step')} batch normalisation's averages have not "
            "settled: until they have, they are measured anew for the validation and for the network that is kept"
        )
    return statistics


def _is_unsettled(layer: torch.nn.Module, steps: int) -> bool:
    """Whether a layer keeps averages that `steps` steps are too few for; frozen ones are not in training mode."""
    if not isinstance(layer, _BatchNorm) or not layer.training or layer.running_mean is None:
        return False
    return layer.momentum is not None and 0 < steps * layer.momentum < SETTLED
