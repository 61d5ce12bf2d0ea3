"""Losses: what a training minimises, built from a name, a label set and options.

Importing this package imports no torch; the losses do.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cxrkit.base import registry
from cxrkit.base.contracts import Batch, Loss, Outputs
from cxrkit.base.errors import UserError
from cxrkit.base.labels import CHESTXRAY14, LabelSet

if TYPE_CHECKING:
    from torch import Tensor

DEFAULT = "bce-mean"  # the paper's


def build(
    name: str = DEFAULT,
    *,
    labels: LabelSet = CHESTXRAY14,
    options: Mapping[str, Any] | None = None,
    prevalence: Sequence[float] | None = None,
) -> Loss:
    """Return the loss `name`, registered or `package.module:function`, for networks with an output for each label.

    prevalence: the share of training images that have each label, for a loss with an option of this name that `options`
    leaves open; None where nothing is learned (a rehearsal, a timing): a half then. Raises UserError for an unknown
    name or option, and for an own function that returns nothing that can be called.
    """
    factory, options = registry.load("loss", name), dict(options or {})
    if "prevalence" not in options and _asks_for_prevalence(factory):
        options["prevalence"] = [0.5] * len(labels) if prevalence is None else list(prevalence)
    loss: Loss = registry.construct("loss", name, factory, labels, options)
    if not callable(loss):
        raise UserError(
            f"loss {name!r}: expected a function (outputs, batch) -> scalar, found {loss!r}",
            remedy="in the function that you named, return the loss as a function",
        )
    return loss if name in registry.BUILT_IN["loss"] else _checked(name, loss)


def _asks_for_prevalence(factory: Any) -> bool:
    try:
        return "prevalence" in inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return False


def _checked(name: str, loss: Loss) -> Loss:
    """Return an own loss that says so when it is no scalar, before the backward pass stumbles over it."""

    def checked(outputs: Outputs, batch: Batch) -> Tensor:
        value = loss(outputs, batch)
        shape = getattr(value, "shape", None)
        if shape is None or len(shape):
            what = f"a {type(value).__name__}" if shape is None else f"a tensor of shape {tuple(shape)}"
            raise UserError(
                f"loss {name!r}: expected a scalar, found {what}",
                remedy="return one number for the batch, as a tensor: the mean over its images",
            )
        return value

    return checked
