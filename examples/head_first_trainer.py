"""A trainer: only the last layer learns, whatever the network; the rest is the supervised training."""

from __future__ import annotations

from typing import Any

from torch import nn

from cxrkit.base.errors import UserError
from cxrkit.trainers import supervised


def train(task: Any) -> None:
    """Train the dense layer that comes last, with everything before it as it was initialised."""
    dense = [module for module in task.model.modules() if isinstance(module, nn.Linear)]
    if not dense:
        raise UserError(f"model {task.spec.name!r} has no dense layer", remedy="choose another --trainer")
    task.model.requires_grad_(False)
    dense[-1].requires_grad_(True)
    supervised.train(task)
