"""One training step, from the batch to the weights; as it is, compiled, or recorded whole as a CUDA graph and replayed.

A step of a ResNet-50 is some 800 kernels, and a GPU is done with a batch of 8 or 16 images before the host has launched
them all. A recorded step is one launch. It computes on the memory that it was recorded with, so every batch is copied
into the same place, and the learning rate lies on the device too.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, fields

import torch

from cxrkit.base.contracts import Batch, Loss
from cxrkit.base.errors import UserError
from cxrkit.base.notes import Say, to_stderr
from cxrkit.base.ranks import ALONE, Ranks
from cxrkit.models.compute import Forward, on_cpu
from cxrkit.trainers import parts
from cxrkit.trainers.averaging import Average
from cxrkit.trainers.snapshot import InPython, Snapshot

MENDED = (2, 12)  # of PyTorch, from which on a failed recording leaves the GPU's memory in order (pytorch #180395)
WARM_UPS = 3  # steps before a recording: they compile, and let cuDNN choose its algorithms

Recorder = Callable[["Step", Batch], tuple[torch.Tensor, Callable[[], object]]]
"""Warms a step up on a batch and records it; returns where its loss will be, and what replays it."""


@dataclass
class Step:
    """A training step, with all that it works on: called with a batch, it takes the step and returns the loss."""

    model: torch.nn.Module
    """The network, on its device."""

    forward: Forward
    """Its forward pass, compiled or not."""

    loss: Loss
    """What is minimised."""

    optimizer: torch.optim.Optimizer
    """Over the parameters that learn."""

    scaler: torch.amp.GradScaler
    """Of the loss; does nothing but in fp16."""

    loss_name: str = "loss"
    """For messages."""

    note: Say = to_stderr
    """Hears what is done without."""

    parts: int = 1
    """How many parts of a batch are computed one after the other, to take less memory."""

    clip_norm: float = 0.0
    """The gradients of all parameters together are shortened to this length; 0: they are left as they are."""

    average: Average | None = None
    """Takes in the weights after the step."""

    graph: WholeStep | None = field(default=None, init=False)
    """The recorded step, for batches of one shape."""

    _odd: bool = field(default=False, init=False)
    """Whether a batch of another shape was told of."""

    def __call__(self, batch: Batch) -> torch.Tensor:
        """Take one step of the optimizer on `batch`; returns the loss, without waiting for the device.

        Raises UserError where batch normalisation is given one value a channel: there is nothing to normalise then.
        """
        if self.graph is None:
            return self.plain(batch)
        if self.graph.fits(batch):
            return self.graph(batch)
        if not self._odd:
            self._odd = True
            self.note(
                f"the loader gives a batch of {_shapes(batch)}, and the training step was recorded for "
                f"{_shapes(self.graph.batch)}: such batches are trained on kernel by kernel"
            )
        return self.plain(batch)

    def plain(self, batch: Batch) -> torch.Tensor:
        """Take one step kernel by kernel; returns the loss, detached: no graph of it outlives the step."""
        self.optimizer.zero_grad(set_to_none=True)
        if self.parts == 1:
            loss = self._backward(batch)
        else:
            shares = parts.split(batch, self.parts)
            # The gradient of the mean over all images: of the parts' means, each by its share of them.
            loss = torch.stack([self._backward(part, len(part.index) / len(batch.index)) for part in shares]).sum()
        if self.clip_norm:
            self.scaler.unscale_(self.optimizer)
            learning = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
            torch.nn.utils.clip_grad_norm_(learning, self.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update()
        return loss

    def _backward(self, batch: Batch, share: float | None = None) -> torch.Tensor:
        """Add the gradients of a batch, or of a part that is a `share` of one; returns its part of the loss."""
        try:
            outputs = self.forward(batch)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise UserError(
                f"a batch of {len(batch.index)} image at {self.forward.spec.input_size} px leaves batch normalisation "
                "one value a channel, and nothing to learn from",
                remedy="train with a larger --batch-size and on more images, or with a larger --input-size",
            ) from None
        loss: torch.Tensor = self.loss(outputs, batch)
        if not loss.requires_grad:
            raise UserError(
                f"loss {self.loss_name!r} of model {self.forward.spec.name!r}: has no gradient, so nothing can be "
                "learned",
                remedy="compute logits and loss from the parameters by differentiable operations, without detach",
            )
        if share is not None:
            loss = loss * share
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def record(self, batch: Batch, recorder: Recorder | None = None) -> None:
        """Record the step for batches like `batch`, and leave everything as it was before.

        To be called while no loader delivers: DALI waits for the whole device from a thread of its own, which breaks a
        recording. Where a step cannot be recorded, `note` hears why, and steps are taken kernel by kernel. recorder:
        default, `cuda_graph`. Raises UserError as a step does.
        """
        before = Snapshot(self)
        batch = Batch(*(tensor.clone() for tensor in tensors(batch)))
        try:
            loss, replay = (recorder or cuda_graph)(self, batch)
            if buffer := before.replaced():
                raise RuntimeError(f"the network replaces its buffer {buffer!r} instead of changing it in place")
            self.graph = WholeStep(batch, loss, replay)
        except UserError:
            raise
        except Exception as error:
            # They may stand in mid-step: the scaler lends the optimizer two tensors while it steps.
            self.scaler = make_scaler(self.forward.device, self.scaler.is_enabled())
            for lent in ("grad_scale", "found_inf"):
                vars(self.optimizer).pop(lent, None)
            reason = _first_line(error)
            remedy = (
                "give --no-graph, a smaller --batch-size or a smaller --cache-gb: a recording keeps the memory it needs"
                if isinstance(error, torch.OutOfMemoryError)
                else "give --no-graph, and it is not tried; or let model and loss wait for nothing that the device "
                "computes (no .item(), no shapes that depend on values), and count in tensors"
            )
            self.note(
                "the training step cannot be recorded as one CUDA graph, so it is taken kernel by kernel, only "
                f"slower: {reason}\n  remedy: {remedy}"
            )
        finally:
            before.restore()

    def rehearse(self, batch: Batch) -> None:
        """Take a step, compiled by now, and raise where a recorded one would do something else or could not be."""
        python = InPython(self)
        with nullcontext() if on_cpu(self.forward.device) else no_waiting():
            self.plain(batch)
        if changed := python.changed():
            raise RuntimeError(f"each step changes {changed}, which a recorded one would not")


class WholeStep:
    """A recorded step, the batch that it reads and the loss that it writes."""

    def __init__(self, batch: Batch, loss: torch.Tensor, replay: Callable[[], object]) -> None:
        self.batch, self._loss, self._replay = batch, loss, replay

    def fits(self, batch: Batch) -> bool:
        """Whether the step was recorded for such batches."""
        if (self.batch.region is None) != (batch.region is None):
            return False
        pairs = zip(tensors(self.batch), tensors(batch), strict=True)
        return all(mine.shape == theirs.shape and mine.dtype == theirs.dtype for mine, theirs in pairs)

    def __call__(self, batch: Batch) -> torch.Tensor:
        """Take the step on `batch`; returns a loss that the next step leaves alone."""
        for mine, theirs in zip(tensors(self.batch), tensors(batch), strict=True):
            mine.copy_(theirs)
        self._replay()
        return self._loss.clone()


def cuda_graph(step: Step, batch: Batch) -> tuple[torch.Tensor, Callable[[], object]]:
    """Record `step` on `batch` as a CUDA graph; see Recorder. A recording computes nothing, the steps before it do.

    Raises whatever keeps it from being recorded: a step that waits for the device is found by a rehearsal, where it
    breaks nothing.
    """
    with torch.cuda.device(step.forward.device):
        torch.cuda.synchronize()  # what a loader that was closed has left to do
        current, aside = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(current)
        # Warmed up where it is recorded: autograd and cuBLAS keep memory of the stream that they were first used on.
        try:
            with torch.cuda.stream(aside):
                for _ in range(WARM_UPS):
                    step.plain(batch)
                step.rehearse(batch)
        finally:
            current.wait_stream(aside)  # also where it fails: what the steps have changed is put back after them
        step.optimizer.zero_grad(set_to_none=True)  # so that the recorded gradients lie in the graph's own memory
        graph = torch.cuda.CUDAGraph()
        try:
            # The outer context: where a recording fails to end, torch leaves its stream the current one.
            recording = torch.cuda.graph(graph, stream=aside, capture_error_mode="thread_local")
            with _no_garbage(), torch.cuda.stream(current), recording:
                loss = step.plain(batch)
        except BaseException as error:
            _renew_generator(step.forward.device)
            if isinstance(error, Exception) and _version() < MENDED:
                raise UserError(
                    f"the training step cannot be recorded as one CUDA graph ({_first_line(error)}), and PyTorch "
                    f"{torch.__version__} keeps no order in the GPU's memory after that",
                    remedy="give --no-graph, or install PyTorch 2.12 or newer, which goes on without",
                ) from error
            raise
    return loss, graph.replay


def _version() -> tuple[int, int]:
    major, minor = torch.__version__.split(".")[:2]
    return int(major), int(minor)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


@contextmanager
def no_waiting() -> Iterator[None]:
    """Raise where an operation on a GPU makes the host wait for it."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "a prototype feature": it finds what it finds
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


@contextmanager
def _no_garbage() -> Iterator[None]:
    """Keep Python from collecting garbage: what a forgotten object does to the GPU would be recorded, or forbidden."""
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _renew_generator(device: str) -> None:
    """Give the device's random generator a state that no failed recording holds."""
    index = torch.device(device).index
    generator = torch.cuda.default_generators[torch.cuda.current_device() if index is None else index]
    generator.graphsafe_set_state(torch.Generator(generator.device).graphsafe_get_state())


def make_scaler(device: str, enabled: bool) -> torch.amp.GradScaler:
    """Return a scaler of the loss; one that is not enabled does nothing."""
    return torch.amp.GradScaler(torch.device(device).type, enabled=enabled)


def records(graph: bool | None, device: str, ranks: Ranks = ALONE) -> bool:
    """Whether to record the steps of a training, by what was said: by default, on CUDA.

    Not where several processes take them together: what they send each other would have to be recorded too, after more
    warm-up steps, and a failed recording of one would leave the others waiting.
    """
    return graph is not False and not on_cpu(device) and not ranks.several


def mode_name(compile: bool | None, recorded: bool) -> str:
    """Return what to call a way of taking steps."""
    return ", ".join(["compiled"] * bool(compile) + ["a CUDA graph a step"] * recorded) or "eager"


def fixed_batch(images: int, size: int, labels: int, device: str, meta: int = 3, places: int = 0) -> Batch:
    """Return a batch of noise that lies on `device`. It draws nothing from torch's own generators.

    meta: length of `Batch.meta`, where it is not age, sex and view. places: P of `Batch.region`; 0: without it.
    """
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (images, 1, size, size), dtype=torch.uint8, generator=generator)
    target = torch.randint(0, 2, (images, labels), generator=generator).float()
    meta_BF = torch.rand((images, meta), generator=generator)
    region = torch.zeros((images, labels, places, places), dtype=torch.uint8, device=device) if places else None
    index = torch.arange(images, device=device)
    return Batch(image.to(device), target.to(device), meta_BF.to(device), index, region)


def tensors(batch: Batch) -> tuple[torch.Tensor, ...]:
    """Return the tensors of a batch; without the regions where nobody asked for them."""
    return tuple(value for item in fields(batch) if (value := getattr(batch, item.name)) is not None)


def _shapes(batch: Batch) -> str:
    return ", ".join(f"{item.name} {tuple(getattr(batch, item.name).shape)}" for item in fields(batch)[:3])
