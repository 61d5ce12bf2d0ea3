"""All that a training step changes, kept to be put back in its place."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from types import CellType, FunctionType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cxrkit.models.compute import on_cpu

if TYPE_CHECKING:
    from cxrkit.trainers.stepping import Step

Place = tuple[str, Callable[[], Any], Callable[[Any], None]]
"""Where Python code keeps something: what to call it, what reads it, what writes it."""


class Snapshot:
    """The state of a step: put back in place, since a recorded step goes on with the same memory."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self._buffers = [
            (f"{path}.{name}".lstrip("."), module, name, buffer)
            for path, module in step.model.named_modules()
            for name, buffer in module.named_buffers(recurse=False)
        ]
        self._known = set(step.optimizer.state)
        changing: list[torch.Tensor] = [*step.model.parameters(), *(buffer for *_, buffer in self._buffers)]
        changing += [value for state in step.optimizer.state.values() for value in state.values()]
        changing += [] if step.average is None else step.average.tensors().values()
        self._saved = [(tensor, tensor.detach().clone()) for tensor in changing]
        self._scaler = step.scaler.state_dict()
        self._generators = generator_states(step.forward.device)
        self._in_python = InPython(step)

    def replaced(self) -> str | None:
        """Return the name of a buffer that is another tensor now; None where all are what they were."""
        return next((path for path, module, name, buffer in self._buffers if getattr(module, name) is not buffer), None)

    @torch.no_grad()
    def restore(self) -> None:
        """Put everything back. State that the optimizer has made since is as it makes it: zero."""
        step = self._step
        step.optimizer.zero_grad(set_to_none=True)
        for tensor, saved in self._saved:
            tensor.copy_(saved)
        for _, module, name, buffer in self._buffers:
            setattr(module, name, buffer)
        for parameter, state in step.optimizer.state.items():
            if parameter not in self._known:
                for value in state.values():
                    value.zero_()
        step.scaler.load_state_dict(self._scaler)
        restore_generators(self._generators, step.forward.device)
        self._in_python.restore()


class InPython:
    """What network and loss keep in Python: numbers that they may count in, and random generators."""

    def __init__(self, step: Step) -> None:
        self._kept = [(place, place[1]()) for place in _places(step)]

    def changed(self) -> str | None:
        """Return what has changed since; None for nothing."""
        return next((place[0] for place, value in self._kept if not _same(place[1](), value)), None)

    def restore(self) -> None:
        """Put everything back."""
        for (_, read, write), value in self._kept:
            if not _same(read(), value):
                write(value)


def _same(one: Any, other: Any) -> bool:
    return one is other or bool(one == other)  # a NaN is itself


def _places(step: Step) -> Iterator[Place]:
    yield "the state of Python's random generator", random.getstate, random.setstate
    yield "the state of numpy's random generator", _numpy_state, np.random.set_state
    for path, module in step.model.named_modules():
        yield from _attributes(vars(module), f"the network's {path}.".replace(" .", " "))
    yield from _of_a_function(step.loss, "the loss's ", set())


def _numpy_state() -> tuple[Any, ...]:
    kind, key, *rest = np.random.get_state(legacy=True)
    return (kind, tuple(key.tolist()), *rest)  # type: ignore[union-attr]


def _of_a_function(function: Any, whose: str, seen: set[int]) -> Iterator[Place]:
    """Yield the places in an object that is called, and in what a function remembers of where it was made."""
    if id(function) in seen:
        return
    seen.add(id(function))
    yield from _attributes(getattr(function, "__dict__", {}), whose)
    if not isinstance(function, FunctionType):
        return
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        if _counts(cell.cell_contents):
            yield f"{whose}{name}", *_cell(cell)
        elif callable(cell.cell_contents):
            yield from _of_a_function(cell.cell_contents, whose, seen)


def _attributes(values: MutableMapping[str, Any], whose: str) -> Iterator[Place]:
    for name in [name for name, value in values.items() if _counts(value)]:
        yield f"{whose}{name}", lambda name=name: values[name], lambda value, name=name: values.update({name: value})  # type: ignore[misc]


def _cell(cell: CellType) -> tuple[Callable[[], Any], Callable[[Any], None]]:
    return lambda: cell.cell_contents, lambda value: setattr(cell, "cell_contents", value)


def _counts(value: Any) -> bool:
    return isinstance(value, bool | int | float | str)


def generator_states(device: str) -> dict[str, torch.Tensor]:
    """Return the states of torch's random generators that a training on `device` may draw from."""
    states = {"cpu": torch.get_rng_state()}
    if not on_cpu(device):
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def restore_generators(states: Mapping[str, torch.Tensor], device: str) -> None:
    """Set torch's random generators to `states`, those that it has."""
    if (cpu := states.get("cpu")) is not None:
        torch.set_rng_state(cpu)
    if not on_cpu(device) and (cuda := states.get("cuda")) is not None:
        torch.cuda.set_rng_state(cuda, device)
