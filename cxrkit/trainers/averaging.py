"""An average of a network's weights over the steps of its training, which is validated and kept in their place.

After step n the average moves towards the weights by 1 - d, d = min(decay, (1 + n) / (10 + n)): an exponential moving
average whose first steps count less, so that it does not remember the weights of before the training for ten thousand
steps (TensorFlow's ExponentialMovingAverage with num_updates; Polyak and Juditsky 1992 for averaging as such). It is of
the parameters that learn and of the buffers of floating-point numbers, such as batch normalisation's averages.

All of it lies on the device and changes in place: a recorded step averages too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from cxrkit.base.errors import UserError

COUNT = ".steps"  # of its own tensors; no parameter's name begins with a dot


class Average:
    """The average of a network's weights. It begins as the network is."""

    def __init__(self, model: torch.nn.Module, decay: float) -> None:
        self._current = _averaged(model)
        self._average = {name: value.detach().clone() for name, value in self._current.items()}
        device = next(iter(self._current.values())).device
        self._steps = torch.zeros((), dtype=torch.float32, device=device)
        self._decay = torch.full((), decay, dtype=torch.float32, device=device)

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they are after a step; the host waits for nothing."""
        self._steps += 1
        distance = 1 - torch.minimum(self._decay, (1 + self._steps) / (10 + self._steps))
        average, current = list(self._average.values()), [value.detach() for value in self._current.values()]
        moved = torch._foreach_sub(current, average)
        torch._foreach_mul_(moved, distance)
        torch._foreach_add_(average, moved)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return all that it consists of, by name: what a checkpoint holds and a recording puts back."""
        return {**self._average, COUNT: self._steps}

    @torch.no_grad()
    def load(self, path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
        """Go on from what `tensors` returned before, read from `path`. Raises UserError where it does not fit."""
        own = self.tensors()
        differing = sorted(own.keys() ^ tensors.keys())
        differing += [name for name in own if name in tensors and own[name].shape != tensors[name].shape]
        if differing:
            raise UserError(
                f"{path}: not the average of this network's weights: {len(differing)} of its tensors differ, the first "
                f"{differing[0]}",
                remedy="resume with a copy of the file that this training has written, or train again",
            )
        for name, value in own.items():
            value.copy_(tensors[name])

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Give the network the averaged weights, and its own ones back afterwards; all stays where it lies."""
        own = {name: value.detach().clone() for name, value in self._current.items()}
        self._put(self._average)
        try:
            yield
        finally:
            self._put(own)

    @torch.no_grad()
    def _put(self, values: Mapping[str, torch.Tensor]) -> None:
        for name, value in self._current.items():
            value.copy_(values[name])


@contextmanager
def averaged(average: Average | None) -> Iterator[None]:
    """Look at a network with the averaged weights, where there is an average."""
    if average is None:
        yield
        return
    with average.in_place():
        yield


def _averaged(model: Any) -> dict[str, torch.Tensor]:
    """Return the parameters that learn and the floating-point buffers of a network's state, by name, tied ones once."""
    found = {name: value for name, value in model.named_parameters() if value.requires_grad}
    kept = model.state_dict().keys()
    buffers = {name: value for name, value in model.named_buffers() if name in kept}
    return found | {name: value for name, value in buffers.items() if value.is_floating_point()}
