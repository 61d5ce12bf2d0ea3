"""What every loader does alike: it knows which of its epochs are under way, and ends them when it is closed."""

from __future__ import annotations

import weakref
from collections.abc import Generator

from cxrkit.base.contracts import Batch
from cxrkit.base.cores import available_cores

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
