"""What every loader does alike: it knows which of its epochs are under way, and ends them when it is closed.

And the checks of the options that loaders have in common.
"""

from __future__ import annotations

import weakref
from collections.abc import Generator

from cxrkit.base.contracts import Batch
from cxrkit.base.cores import available_cores
from cxrkit.base.errors import UserError

Batches = Generator[Batch, None, None]


class Running:
    """The epochs of one loader that are under way. One that nobody holds any more ends by itself."""

    def __init__(self) -> None:
        self._epochs: weakref.WeakSet[Batches] = weakref.WeakSet()

    def started(self, batches: Batches) -> Batches:
        """Return `batches`, which from now on is under way."""
        self._epochs.add(batches)
        return batches

    def end(self) -> None:
        """End all epochs, and with them their threads. Safe to call twice."""
        for batches in list(self._epochs):
            batches.close()
        self._epochs.clear()


def threads_or_default(threads: int | None) -> int:
    """Return `threads`; by default one for each core that this process may use."""
    return threads or available_cores()


def at_least_one(option: str, value: int) -> None:
    """Raise a UserError for a loader's option that is below 1."""
    if value < 1:
        raise UserError(f"run.loader_options.{option} is {value}", remedy="give a whole number of at least 1")


def share(option: str, value: float) -> None:
    """Raise a UserError for a loader's option that is not from 0 to 1."""
    if not 0 <= value <= 1:
        raise UserError(f"run.loader_options.{option} is {value}", remedy="give a number from 0 to 1")
