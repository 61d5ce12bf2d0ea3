"""Trainers: a function that takes a TrainTask and leaves checkpoints and metrics in its run folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cxrkit.checkpoints import CheckpointInfo
from cxrkit.config import TrainConfig
from cxrkit.contracts import Loader
from cxrkit.models import ModelSpec
from cxrkit.runs import RunFolder

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class TrainTask:
    """Everything a trainer needs, decided and opened.

    config: resolved (no None where the model has a value); model: on the CPU; train, val: loaders that deliver to
    `device`; precision: fp32, bf16 or fp16; info: what the checkpoints say they belong to; resume: go on from
    last.safetensors if there is one; display: see cxrkit.trainers.display.
    """

    config: TrainConfig
    run: RunFolder
    model: torch.nn.Module
    spec: ModelSpec
    train: Loader
    val: Loader
    device: str
    precision: str
    info: CheckpointInfo
    resume: bool
    display: Any
