"""The learning rate of a step: a pure function of the schedule, the step and what the plateaus have left of the rate.

plateau: what trainers/plateau.py says after every epoch. cosine: half a cosine from the rate to `min_lr`, from the end
of the warm-up to the last epoch (Loshchilov and Hutter 2017, SGDR, equation 5, without restarts), step by step as in
the code of MAE (He et al. 2022). constant: the rate. Before any of them, the warm-up: a straight line from
`warmup_from`, which is the rate of the very first step.
"""

from __future__ import annotations

import math

from cxrkit.base.errors import UserError
from cxrkit.runs.config import TrainConfig
from cxrkit.runs.sections import ScheduleSettings
from cxrkit.trainers.plateau import Best


def rate(schedule: ScheduleSettings, lr: float, step: int, steps: int) -> float:
    """Return the learning rate of a step.

    lr: the highest rate; with plateaus, what they have left of it. step: how many were taken before, in all epochs.
    steps: in an epoch.
    """
    warmup = schedule.warmup_epochs * steps
    if step < warmup:
        return schedule.warmup_from + (lr - schedule.warmup_from) * step / warmup
    if schedule.name != "cosine":
        return lr
    share = (step - warmup) / (schedule.epochs * steps - warmup)
    return schedule.min_lr + (lr - schedule.min_lr) * (1 + math.cos(math.pi * share)) / 2


def stops(schedule: ScheduleSettings, best: Best, epoch: int) -> bool:
    """Whether a training ends after `epoch` epochs: all are taken, or none of the last ones was better than `best`."""
    patience = schedule.stop_patience
    return epoch >= schedule.epochs or (patience > 0 and best.epoch > 0 and epoch - best.epoch >= patience)


def check(config: TrainConfig) -> None:
    """Refuse a schedule whose parts do not fit each other, with a UserError."""
    schedule, lr = config.schedule, config.optimizer.lr
    if schedule.warmup_epochs >= schedule.epochs and schedule.warmup_epochs > 0:
        raise UserError(
            f"--warmup-epochs {schedule.warmup_epochs:g}: the training has --epochs {schedule.epochs}, and would end "
            "before the learning rate has risen",
            remedy=f"give less than {schedule.epochs}, or more epochs",
        )
    highest = {"min_lr": schedule.min_lr, "warmup_from": schedule.warmup_from}
    for name, value in highest.items():
        if lr is not None and value > lr:
            raise UserError(
                f"--set schedule.{name}={value:g}: above the learning rate, --lr {lr:g}",
                remedy=f"give {name} a value of at most {lr:g}",
            )
