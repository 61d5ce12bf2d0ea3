"""Several processes that train one network together, started by torchrun: which one is this, what do they exchange.

One process alone is the simplest case of it: every call then does what it says at once, and imports nothing.

They end together. The process that fails says why, and its end ends the others: torchrun stops them, or what they wait
for breaks off. A key in the store through which they met sees to it that the first one alone speaks.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, TypeVar

from cxrkit.base.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

T = TypeVar("T")
VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # what torchrun sets for each of its processes


@dataclass(frozen=True)
class Ranks:
    """One process, the one that asks, among those that train together."""

    rank: int = 0
    """Its number; the first, 0, alone writes and speaks."""

    world_size: int = 1
    """How many they are, on all machines."""

    local_rank: int = 0
    """Its number among those of its machine, which is the number of its GPU."""

    local_world_size: int = 1
    """How many they are on its machine."""

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Ranks:
        """Return what torchrun says; one process alone where it says nothing. Raises UserError for no numbers."""
        if not all(environment.get(name) for name in VARIABLES):
            return cls()
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        given = [environment.get(name) or default for name, default in zip(names, ("", "", "0", "1"), strict=True)]
        try:
            ranks = cls(*(int(text) for text in given))
        except ValueError:
            ranks = cls(0, 0)
        if not (0 <= ranks.rank < ranks.world_size and 0 <= ranks.local_rank < ranks.local_world_size):
            said = ", ".join(f"{name}={text}" for name, text in zip(names, given, strict=True))
            raise UserError(
                f"{said}: not the numbers of one of several processes",
                remedy="start them by torchrun, or unset RANK and WORLD_SIZE to train with one process",
            )
        return ranks

    @property
    def first(self) -> bool:
        """Whether this process writes and speaks."""
        return self.rank == 0

    @property
    def several(self) -> bool:
        """Whether there are others."""
        return self.world_size > 1

    def first_holds(self, context: AbstractContextManager[Any]) -> AbstractContextManager[Any]:
        """Return `context` for the first process, and one that does nothing for the others."""
        return context if self.first else nullcontext()

    def gather(self, value: T) -> list[T]:
        """Return everybody's value, by rank. It is pickled, and goes through the main memory."""
        if not self.several:
            return [value]
        import torch.distributed as dist

        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value, group=_meeting.get("objects"))
        return values

    def wait(self) -> None:
        """Wait until all have come this far."""
        self.gather(None)

    def once(self, function: Callable[[], T]) -> T:
        """Let the first process call `function` when all have come this far; returns its result, to everybody."""
        if not self.several:
            return function()
        import torch.distributed as dist

        self.wait()
        result: list[Any] = [function() if self.first else None]
        dist.broadcast_object_list(result, src=0, group=_meeting.get("objects"))
        return result[0]  # type: ignore[no-any-return]

    def share(self, batch_size: int) -> int:
        """Return each one's share of a batch. Raises UserError where it cannot be shared equally."""
        if batch_size % self.world_size:
            multiple = -(-batch_size // self.world_size) * self.world_size
            fewer = _largest_divisor(batch_size, self.world_size)
            other = f"start {fewer} processes" if fewer > 1 else "start one without torchrun"
            raise UserError(
                f"a batch of {batch_size} images cannot be shared equally by {self.world_size} processes",
                remedy=f"{other}, or give --batch-size {multiple}, and at least as many training images",
            )
        return batch_size // self.world_size

    def own_batches(self, rows: NDArray[np.int64], batch_size: int) -> NDArray[np.int64]:
        """Return this one's part of `rows`, which are evaluated in their order: every `world_size`-th batch, whole.

        Each batch is then that of a single process, and so is all that comes of it; `in_turn` puts it in order.
        """
        import numpy as np

        own: NDArray[np.int64] = rows[np.arange(len(rows)) // batch_size % self.world_size == self.rank]
        return own

    def in_turn(self, own: Sequence[T]) -> list[T]:
        """Return what everybody has found of its `own_batches`, a thing for each batch, in a single process's order."""
        turns = zip_longest(*self.gather([(item,) for item in own]))
        return [item for turn in turns for held in turn if held for item in held]

    def counting(self, advance: Callable[[int], object], total: int) -> Callable[[int], object]:
        """Return what counts everybody's images by one's own: others have done as many, up to `total`."""
        done = 0

        def advanced(images: int) -> None:
            nonlocal done
            more = min(images * self.world_size, total - done)
            done += more
            advance(more)

        return advanced if self.several else advance

    def device(self, name: str) -> str:
        """Return this one's device for what `--device` says: the GPU of its number.

        Raises UserError where there is none, for one GPU by its number, and where others have another kind of device.
        """
        if not self.several:
            return name
        device = self._device(name)
        kinds = [kind.partition(":")[0] for kind in self.gather(device)]
        if other := [rank for rank, kind in enumerate(kinds) if kind != kinds[0]]:
            raise UserError(
                f"--device {name}: {kinds[0]} on rank 0, {kinds[other[0]]} on rank {other[0]}",
                remedy="give --device cpu, or leave out the machines without a GPU",
            )
        return device

    def _device(self, name: str) -> str:
        if name == "cpu":
            return name
        if name not in ("auto", "cuda"):
            raise UserError(
                f"--device {name}: one device for {self.world_size} processes",
                remedy="give --device cuda, and CUDA_VISIBLE_DEVICES for some GPUs of many",
            )
        import torch

        there = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if name == "auto" and not there:
            return "cpu"
        if self.local_rank >= there:
            raise UserError(
                f"{self.local_world_size} processes on a machine where torch sees {there} CUDA devices",
                remedy=f"give torchrun --nproc-per-node {there}" if there else "give --device cpu",
            )
        return f"cuda:{self.local_rank}"


ALONE = Ranks()
# Objects are exchanged in a group of their own, "objects", for a group's threads end with it, and the first group does
# not end where DistributedDataParallel has used it. A thread that still holds a tensor when Python ends aborts the
# process, and torchrun then ends the others: the first one in the middle of the evaluation.
_meeting: dict[str, Any] = {}
_BROKEN = ("onnection closed", "onnection reset", "roken pipe", "imed out")  # what gloo says of a peer that is gone


def _largest_divisor(number: int, limit: int) -> int:
    return next(divisor for divisor in range(min(limit, number), 0, -1) if number % divisor == 0)


@contextmanager
def joined(environment: Mapping[str, str] = os.environ) -> Iterator[Ranks]:
    """Join the processes that torchrun has started, if it has; they part at the end, and fail together.

    Of those that fail the first raises what it has to say. The others leave with exit code 2 and without a word.
    """
    ranks = Ranks.of(environment)
    if not ranks.several:
        yield ranks
        return
    import torch
    import torch.distributed as dist

    store, _, _ = next(iter(dist.rendezvous("env://")))  # type: ignore[attr-defined]
    try:
        on_gpus = torch.cuda.is_available() and ranks.local_rank < torch.cuda.device_count()
        if on_gpus:
            torch.cuda.set_device(ranks.local_rank)
        # Objects, and trainings on the CPU, go through gloo; what lies on a GPU through NCCL.
        backend = "cpu:gloo,cuda:nccl" if on_gpus else "gloo"
        meeting = dist.PrefixStore("cxrkit", store)  # type: ignore[attr-defined]
        dist.init_process_group(backend, store=meeting, rank=ranks.rank, world_size=ranks.world_size)
        _meeting["objects"] = dist.new_group(backend="gloo")
        yield ranks
    except SystemExit:
        raise
    except BaseException as error:
        # The group is left as it is: to part from others that wait for something else may take forever.
        if not _is_first_to_fail(store):
            raise SystemExit(2) from error
        if lost := _of_the_others(error):
            raise UserError(
                f"rank {ranks.rank} of {ranks.world_size} has lost the other processes of this training: {lost}",
                remedy="look for the one that ended first (torchrun names it); the same command with --resume goes on "
                "from the last checkpoint",
            ) from error
        raise
    dist.destroy_process_group(_meeting.pop("objects"))
    dist.destroy_process_group()


def _is_first_to_fail(store: Any) -> bool:
    try:
        return bool(store.add("cxrkit/failed", 1) == 1)
    except Exception:  # the process that kept the store is gone, so it was the first
        return False


def _of_the_others(error: BaseException) -> str | None:
    """Return what an error says of a connection between the processes; None where it is none of it."""
    import torch.distributed as dist

    text = next(iter(str(error).strip().splitlines()), "")
    said = re.sub(r"^\[\S+:\d+\] ", "", text).partition(". ")[0]  # without the line of its source, and its advice
    of_gloo = isinstance(error, RuntimeError) and "gloo" in text and any(sign in text for sign in _BROKEN)
    return (said or type(error).__name__) if of_gloo or isinstance(error, dist.DistError) else None
