"""From a config and a network to the step that trains it: optimizer, forward pass, loss, scaler and average."""

from __future__ import annotations

import torch

from cxrkit.base import registry
from cxrkit.base.contracts import Loss
from cxrkit.base.notes import Say
from cxrkit.base.ranks import ALONE, Ranks
from cxrkit.models import ModelSpec, compute
from cxrkit.runs.config import TrainConfig
from cxrkit.trainers import optimizers, parts, sharing, stepping
from cxrkit.trainers.averaging import Average
from cxrkit.trainers.stepping import Step


def make_step(
    config: TrainConfig,
    model: torch.nn.Module,
    spec: ModelSpec,
    loss: Loss,
    *,
    images: int,
    device: str,
    precision: str,
    compile: bool,
    note: Say,
    ranks: Ranks = ALONE,
) -> Step:
    """Return the step of a training by `config`, resolved, of `model`, which lies on the device.

    images: of a batch, on this rank. Raises UserError where no parameter learns, and for layers that are not known.
    """
    wanted = config.optimizer
    optimizer = optimizers.build(wanted, model, spec.name, rate_on_device=not compute.on_cpu(device))
    in_parts = parts.count(images, wanted.micro_batch, ranks.world_size)
    at_once = parts.largest(images, in_parts)
    forward = compute.Forward(model, spec, device, precision, compile=compile, images=at_once, note=note)
    scaler = stepping.make_scaler(device, precision == "fp16")
    own_loss = registry.is_foreign("loss", config.loss.name)
    forward, loss = sharing.shared(ranks, forward, loss, images=own_loss)
    return Step(
        model,
        forward,
        loss,
        optimizer,
        scaler,
        config.loss.name,
        note,
        parts=in_parts,
        clip_norm=wanted.clip_norm,
        average=Average(model, wanted.ema) if wanted.ema else None,
    )
