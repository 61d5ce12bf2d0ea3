"""What a foreign network, loss or loader does wrong is found before the first step, and before a run folder is there.

A rehearsal takes one step on a few images of noise, some of whose labels are not known, with a network and a loss that
are built for it alone, and lets a loader execute a plan of five images. The training's own parts and random generators
are as they were, so that its numbers are the same with and without. cxrkit's own parts are not rehearsed, and pay
nothing. Evaluators are tried by evaluators/scoring.py, data sets by prepare/records.py.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from cxrkit import losses, models
from cxrkit.base import registry
from cxrkit.base.contracts import Batch, Loss, Outputs
from cxrkit.base.errors import UserError
from cxrkit.base.words import count
from cxrkit.loaders.inputs import Inputs
from cxrkit.models import ModelSpec, compute
from cxrkit.runs.config import TrainConfig
from cxrkit.runs.folder import RunFolder
from cxrkit.trainers import TrainTask, loading, optimizers, stepping
from cxrkit.trainers.snapshot import generator_states, restore_generators

IMAGES = 4
_LARGEST = 64  # pixels of a rehearsal of cxrkit's own networks, with a foreign loss
_FORWARD = "return cxrkit.base.contracts.Outputs(logits) from forward(image_BCHW, meta_B3); see examples/dropout_net.py"
_MASK = "leave entries of batch.target that are NaN out of the loss and its gradient: cxrkit.losses.cross_entropy does"


def rehearse(task: TrainTask, inputs: Inputs) -> None:
    """Try the foreign parts of a training that is about to begin. Raises UserError for what they do wrong."""
    with generators_put_back(task.device):
        loading.rehearse(task, inputs)
        if task.spec.source == "own" or registry.is_foreign("loss", task.config.loss.name):
            _Rehearsal.of(task).run()


def foreign(config: TrainConfig, spec: ModelSpec) -> bool:
    """Return whether a part that takes part in the training's steps is not cxrkit's own."""
    named = {"loss": config.loss.name, "trainer": config.run.trainer}.items()
    return spec.source == "own" or loading.is_foreign(config) or any(registry.is_foreign(*part) for part in named)


@contextmanager
def no_trace_of_a_failure(run: RunFolder, config: TrainConfig, spec: ModelSpec) -> Iterator[None]:
    """Where a new training with a foreign part fails before its first checkpoint, take away what cxrkit has written.

    So the same command works when the part is corrected. Files that the part has written are left.
    """
    new = not run.config.exists()
    try:
        yield
    except Exception:
        if new and foreign(config, spec) and not run.last.exists() and not run.best.exists():
            with suppress(OSError):
                for path in (run.config, run.provenance, run.split, run.metrics):  # the config first: it makes a run
                    path.unlink(missing_ok=True)
                run.remove_parts()
                for folder in (run.last.parent, run.done("train").parent):
                    if folder.is_dir() and not any(folder.iterdir()):
                        folder.rmdir()
        raise


@contextmanager
def generators_put_back(device: str) -> Iterator[None]:
    """Give torch, numpy and Python the states of their random generators back."""
    python, numpy, kept = random.getstate(), np.random.get_state(), generator_states(device)
    try:
        yield
    finally:
        if not compute.on_cpu(device):
            torch.cuda.empty_cache()  # a loader may be about to measure how much is free
        random.setstate(python)
        np.random.set_state(numpy)
        restore_generators(kept, device)


@dataclass(frozen=True)
class _Rehearsal:
    """A network and a loss that nobody else uses."""

    task: TrainTask
    model: torch.nn.Module
    loss: Loss
    spec: ModelSpec
    own_model: bool
    own_loss: bool
    trains: bool

    @classmethod
    def of(cls, task: TrainTask) -> _Rehearsal:
        """Build network and loss anew, as a prediction will."""
        config, own_model = task.config, task.spec.source == "own"
        wanted, labels = config.model, task.labels
        model = models.build(wanted.name, labels=labels, options=wanted.options, pretrained=False, seed=config.run.seed)
        learning = any(parameter.requires_grad for parameter in model.parameters())
        return cls(
            task,
            model,
            losses.build(config.loss.name, labels=labels, options=config.loss.options),
            # A loss shows its faults on small images of a network that is known to work, at less cost.
            task.spec if own_model else task.spec.at(min(_LARGEST, task.spec.input_size)),
            own_model,
            registry.is_foreign("loss", config.loss.name),
            # A trainer of one's own may let parameters learn that do not yet.
            learning or not registry.is_foreign("trainer", config.run.trainer),
        )

    def run(self) -> None:
        """Train, validate, and take a step after it: as a training does, on very little."""
        if self.own_model:
            self._check_network()
        device, precision = self.task.device, self.task.precision
        with self._blamed("model", f"moved to {device}"):
            self.model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        known = stepping.fixed_batch(IMAGES, self._side, len(self.task.labels), device)
        batch = with_unknown(known)
        forward = compute.Forward(self.model, self.spec, device, precision)
        self.model.train()
        outputs = self._outputs(forward, batch, "in training")
        self._check_values(outputs, known, batch)
        if self.trains:
            self._check_gradient(outputs, batch)
        self._validate(known, batch)
        if self.trains:
            self._step(forward, batch)

    @property
    def _side(self) -> int:
        return self.spec.input_size if self.spec.image else 0

    @contextmanager
    def _blamed(self, kind: str, doing: str) -> Iterator[None]:
        """Tell an error as the foreign part's that it comes from: what cxrkit's own parts do is told as it is."""
        config = self.task.config
        name, own = (config.model.name, self.own_model) if kind == "model" else (config.loss.name, self.own_loss)
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            if not own:
                raise
            raise registry.failed(kind, name, error, doing) from error

    def _check_network(self) -> None:
        """Refuse what can be seen of a network without calling it."""
        name = f"model {self.task.config.model.name!r}"
        if wrong := _wrong_with_call(self.model.forward):
            raise UserError(f"{name}: its forward cannot be called as (image_BCHW, meta_B3): {wrong}", remedy=_FORWARD)
        for path, parameter in self.model.named_parameters():
            if parameter.requires_grad and parameter.dtype != torch.float32:
                raise UserError(
                    f"{name}: its parameter {path!r} is {parameter.dtype}, expected torch.float32",
                    remedy="keep what learns in float32 (model.float()); --precision chooses what is computed in",
                )
        if not self.trains:
            return
        if not any(parameter.requires_grad for parameter in self.model.parameters()):
            raise UserError(
                f"{name}: none of its parameters requires a gradient, so there is nothing to train",
                remedy="let some parameters learn (requires_grad), or choose another --model",
            )

    def _check_state(self) -> None:
        """Refuse a network that a checkpoint cannot hold, or that a prediction could not build again."""
        name, wanted = f"model {self.task.config.model.name!r}", self.task.model.state_dict()
        for path, value in wanted.items():
            if not isinstance(value, torch.Tensor):
                raise UserError(
                    f"{name}: its state_dict holds {path!r}, a {type(value).__name__}, and a checkpoint tensors alone",
                    remedy="keep it as a buffer, or outside of the state",
                )
        state = self.model.state_dict()
        differing = [key for key in wanted if key not in state or state[key].shape != wanted[key].shape]
        if differing := differing + sorted(state.keys() - wanted.keys()):
            raise UserError(
                f"{name}: built twice with equal options it has other parameters, the first {differing[0]!r}",
                remedy="let layers and shapes depend on the labels and the options alone",
            )

    def _outputs(self, forward: compute.Forward, batch: Batch, when: str) -> Outputs:
        shapes = f"image {tuple(batch.image.shape)}, meta {tuple(batch.meta.shape)}"
        with self._blamed("model", f"in its forward pass {when}, tried before on noise: {shapes}"):
            outputs = forward(batch)
        if self.own_model and not outputs.logits.isfinite().all():
            wrong = int((~outputs.logits.isfinite()).sum())
            raise UserError(
                f"model {self.task.config.model.name!r}: {wrong} of {outputs.logits.numel()} logits are not finite "
                f"numbers {when}, on a plain batch of noise",
                remedy="correct its forward: a logit is any finite number; its sigmoid is the score",
            )
        return outputs

    def _value(self, outputs: Outputs, batch: Batch, what: str) -> torch.Tensor:
        target = batch.target.clone()
        with self._blamed(
            "loss", f"of {count(len(batch.target), 'image')} and {count(len(self.task.labels), 'label')}, {what}"
        ):
            value: torch.Tensor = self.loss(outputs, batch)
        if self.own_loss and not torch.allclose(batch.target, target, rtol=0, atol=0, equal_nan=True):
            raise UserError(
                f"loss {self.task.config.loss.name!r}: changes batch.target, {what}",
                remedy="work on a copy: batch.target.clone(), or nan_to_num without the underscore",
            )
        if self.own_loss and not value.isfinite():
            raise UserError(
                f"loss {self.task.config.loss.name!r}: is {value.item()} on a plain batch of noise, {what}",
                remedy=_MASK if batch.target.isnan().any() else "correct it: it is a finite number for finite logits",
            )
        return value

    def _check_values(self, outputs: Outputs, known: Batch, batch: Batch) -> None:
        self._value(outputs, known, "with all labels known")
        value = self._value(outputs, batch, "where some labels are not known")
        if not self.own_loss or not outputs.logits.requires_grad or not value.requires_grad:
            return
        gradients: Any = (None,)
        with self._blamed("loss", "in its backward pass, where some labels are not known"):
            gradients = torch.autograd.grad(value, outputs.logits, retain_graph=True, allow_unused=True)
        if (gradient := gradients[0]) is None:  # a loss of something else than the logits
            return
        unknown = batch.target.isnan()
        if not gradient.isfinite().all():
            raise UserError(
                f"loss {self.task.config.loss.name!r}: its gradient is not finite where some labels are not known",
                remedy=f"{_MASK}. Choosing by torch.where alone keeps the NaN in the gradient",
            )
        for filled, word in ((0.0, "absent"), (1.0, "present")):
            other = self.loss(outputs, replace(batch, target=batch.target.nan_to_num(filled)))
            if gradient[unknown].any() and torch.isclose(other, value, rtol=1e-6, atol=0):
                raise UserError(
                    f"loss {self.task.config.loss.name!r}: counts labels that are not known as {word}", remedy=_MASK
                )

    def _check_gradient(self, outputs: Outputs, batch: Batch) -> None:
        value = self._value(outputs, batch, "where some labels are not known")
        if not value.requires_grad:
            raise UserError(
                f"loss {self.task.config.loss.name!r} of model {self.spec.name!r}: has no gradient, so nothing can be "
                "learned",
                remedy="compute logits and loss from the parameters by differentiable operations, without detach",
            )
        with self._blamed("model" if self.own_model else "loss", "in the backward pass, tried before the training"):
            value.backward()  # type: ignore[no-untyped-call]
        if self.task.precision == "fp16":  # a loss scaler takes care of those
            return
        for path, parameter in self.model.named_parameters():
            if self.own_model and parameter.grad is not None and not parameter.grad.isfinite().all():
                raise UserError(
                    f"model {self.spec.name!r}: the gradient of {path!r} is not finite on a plain batch of noise",
                    remedy="correct its forward: a root or a logarithm of 0, for instance, has no finite gradient",
                )

    def _validate(self, known: Batch, batch: Batch) -> None:
        """Evaluate one image, as the last batch of a subset may be, and the batch: in evaluation mode."""
        # The statistics of a network that has learned nothing may be large: too large for fp16.
        precision = "fp32" if self.task.precision == "fp16" else self.task.precision
        forward = compute.Forward(self.model, self.spec, self.task.device, precision)
        self.model.eval()
        with torch.inference_mode():
            for part, what in ((_first(known), "of one image"), (batch, "where some labels are not known")):
                outputs = self._outputs(forward, part, "in evaluation mode")
                self._value(outputs, part, f"{what}, in evaluation mode")
        self.model.train()
        if self.own_model:
            self._check_state()

    def _step(self, forward: compute.Forward, batch: Batch) -> None:
        settings = replace(self.task.config.optimizer, lr=1e-6)
        optimizer = optimizers.build(settings, self.model, self.spec.name, rate_on_device=False)
        scaler = stepping.make_scaler(self.task.device, enabled=False)
        step = stepping.Step(self.model, forward, self.loss, optimizer, scaler, self.task.config.loss.name)
        with self._blamed("model" if self.own_model else "loss", "in a step after a validation"):
            step.plain(batch)


def _wrong_with_call(forward: Callable[..., Any]) -> str:
    """Return why a function does not take two arguments; "" where it does, or does not tell: the call will."""
    try:
        signature = inspect.signature(forward)
    except (TypeError, ValueError):
        return ""
    try:
        signature.bind(None, None)
    except TypeError as error:
        return str(error)
    return ""


def with_unknown(batch: Batch) -> Batch:
    """Return the batch with targets that are not known: one alone, and all of the second image's."""
    target = batch.target.clone()
    target[0, 0] = target[1] = float("nan")
    return replace(batch, target=target)


def _first(batch: Batch) -> Batch:
    return Batch(*(tensor[:1] for tensor in stepping.tensors(batch)))
