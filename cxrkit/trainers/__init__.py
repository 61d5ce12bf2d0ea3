"""Trainers: a function that takes a TrainTask and leaves checkpoints and metrics in its run folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cxrkit.base.contracts import Loader
from cxrkit.base.labels import LabelSet
from cxrkit.base.ranks import ALONE, Ranks
from cxrkit.models import ModelSpec
from cxrkit.runs.checkpoints import CheckpointInfo
from cxrkit.runs.config import TrainConfig
from cxrkit.runs.folder import RunFolder

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class TrainTask:
    """Everything a trainer needs, decided and opened."""

    config: TrainConfig
    """Resolved: no None where the model has a value."""

    run: RunFolder
    """Where checkpoints and metrics go."""

    model: torch.nn.Module
    """On the CPU."""

    spec: ModelSpec
    """Of the model, at the config's input size."""

    loss: Any
    """(outputs, batch) -> scalar tensor."""

    labels: LabelSet
    """What is learned."""

    train: Loader
    """Delivers training batches to `device`."""

    val: Loader
    """Delivers validation batches to `device`."""

    batch_size: int
    """Images in each of the training batches, on this rank."""

    device: str
    """A torch device."""

    precision: str
    """fp32, bf16, fp16 or tf32."""

    info: CheckpointInfo
    """What the checkpoints say they belong to."""

    resume: bool
    """Go on from last.safetensors if there is one."""

    display: Any
    """See cxrkit.trainers.display."""

    ranks: Ranks = ALONE
    """This process among those that train together. `train` and `val` deliver its share (compute.score puts the scores
    of all in order); the first alone may write, and all must take the same gradients: see trainers/sharing.py."""

    keep: Any = None
    """See cxrkit.trainers.epochs; None where the predictions of the epochs are not kept."""
