"""A training step that several processes take together: the same gradients, to rounding, as one process would find.

Each computes its share of a batch. The loss is of the whole batch, on every rank: outputs and labels are exchanged
before it is computed, so it is what a single process finds also where some labels are not known, or where a loss
compares images with each other. The gradients are then averaged by DistributedDataParallel.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from cxrkit.base.contracts import Batch, Loss, Outputs
from cxrkit.base.errors import UserError
from cxrkit.base.notes import Say
from cxrkit.base.ranks import Ranks
from cxrkit.models.compute import Forward, on_cpu

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def synchronised(model: Any, ranks: Ranks, device: str, note: Say) -> Any:
    """Return the network with batch normalisation over the whole batch, where there are several ranks on GPUs.

    Its parameters and the names of its tensors stay. On a CPU, where torch cannot, each rank normalises by its own
    share; the running statistics of the first one's are everybody's, and `note` hears of it.
    """
    learning = [path for path, module in model.named_modules() if type(module) in _NORMS and module.training]
    if not ranks.several or not learning:
        return model
    if on_cpu(device):
        note(
            f"{ranks.world_size} processes on a CPU: batch normalisation is over each one's share of a batch, and the "
            "running statistics are those of the first one's shares; results differ from a single process's"
        )
        return model
    for path in learning:
        # By itself: torch would convert the classes derived from these too, whatever they compute.
        parent, _, name = path.rpartition(".")
        owner = model.get_submodule(parent)
        setattr(owner, name, nn.SyncBatchNorm.convert_sync_batchnorm(getattr(owner, name)))  # type: ignore[no-untyped-call]
    return model


def shared(ranks: Ranks, forward: Forward, loss: Loss, *, images: bool) -> tuple[Any, Loss]:
    """Return forward pass and loss for the training steps of `ranks`; for one alone, those given.

    images: whether the loss looks at the images themselves, which are then exchanged too.
    """
    return (Shared(forward), loss_of_all(ranks, loss, images=images)) if ranks.several else (forward, loss)


class Shared:
    """A compute.Forward whose backward pass averages the gradients over all ranks."""

    def __init__(self, forward: Forward) -> None:
        self.spec, self.device = forward.spec, forward.device
        self._network = DistributedDataParallel(_Called(forward))

    def __call__(self, batch: Batch) -> Outputs:
        """Return the outputs for this rank's share of a batch. Raises UserError for a parameter without a gradient."""
        try:
            outputs: Outputs = self._network(batch)
        except RuntimeError as error:
            if "Expected to have finished reduction" not in str(error):
                raise
            raise UserError(
                f"model {self.spec.name!r}: some of its parameters require a gradient and got none in the last step, "
                "which several processes cannot train together",
                remedy="use each parameter in every step, or set its requires_grad to False; or train with one process",
            ) from None
        return outputs


class _Called(nn.Module):
    """A forward pass as a module: what DistributedDataParallel takes."""

    def __init__(self, forward: Forward) -> None:
        super().__init__()
        self.network, self._called = forward.model, forward

    def forward(self, batch: Batch) -> Outputs:
        return self._called(batch)


def loss_of_all(ranks: Ranks, loss: Loss, *, images: bool) -> Loss:
    """Return the loss of the whole batch, as a function of this rank's share of it."""

    def of_all(outputs: Outputs, batch: Batch) -> torch.Tensor:
        return loss(_outputs_of_all(ranks, outputs), _batch_of_all(ranks, batch, images=images))

    return of_all


def _outputs_of_all(ranks: Ranks, outputs: Outputs) -> Outputs:
    def of_all(value: torch.Tensor) -> torch.Tensor:
        # What is not one thing an image (a penalty, say) stays: its gradients are averaged like all others.
        return _Gathered.apply(value, ranks) if value.shape[:1] == outputs.logits.shape[:1] else value

    maps = None if outputs.maps is None else of_all(outputs.maps)
    return Outputs(of_all(outputs.logits), maps, {name: of_all(value) for name, value in outputs.extra.items()})


def _batch_of_all(ranks: Ranks, batch: Batch, *, images: bool) -> Batch:
    names = [item.name for item in fields(batch) if images or item.name != "image"]
    names = [name for name in names if getattr(batch, name) is not None]
    return replace(batch, **{name: _gathered(getattr(batch, name), ranks) for name in names})


def _gathered(own: torch.Tensor, ranks: Ranks) -> torch.Tensor:
    """Return everybody's rows in the order of a single process: ranks take turns in a batch (loaders/plan.py)."""
    own = own.contiguous()
    parts = [torch.empty_like(own) for _ in range(ranks.world_size)]
    dist.all_gather(parts, own)
    return torch.stack(parts, dim=1).flatten(0, 1)


class _Gathered(torch.autograd.Function):
    """`_gathered`, whose gradient goes to one's own rows, times the ranks: the average over them divides it again."""

    @staticmethod
    def forward(ctx: Any, own: torch.Tensor, ranks: Ranks) -> torch.Tensor:
        ctx.ranks = ranks
        return _gathered(own, ranks)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        ranks: Ranks = ctx.ranks
        return gradient[ranks.rank :: ranks.world_size] * ranks.world_size, None


def same_buffers(ranks: Ranks, model: nn.Module) -> None:
    """Give every rank the first one's buffers: running statistics may be of each one's own share."""
    if ranks.several:
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)


def sow(ranks: Ranks, seed: int, epoch: int, step: int) -> None:
    """Seed torch's generators for one step of one rank of several: dropout must differ between them.

    The state of a training then need not hold them, and may go on with another number of processes.
    """
    if ranks.several:
        torch.manual_seed(int(np.random.SeedSequence([seed, epoch, step, ranks.rank]).generate_state(1)[0]))
