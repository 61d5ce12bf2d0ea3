"""The workers of a preparation, started before all else: they load while the command loads and reads the tables.

Imports nothing that takes long, so that they can be.
"""

from __future__ import annotations

from pathlib import Path

from cxrkit.base.cores import available_cores
from cxrkit.base.workers import Workers

_TARGET = "cxrkit.prepare.worker:make_shard"
_DESCRIPTION = "dataset.json"  # shards.index.DESCRIPTION, without its imports


def start_workers(data: Path, count: int | None, *, needed: bool = True) -> Workers:
    """Return the pool for a preparation into `data`; count: processes, None for one per core.

    Where a preparation has ended before, there may be nothing left to do: they are then started when there is, as they
    are where they may not be `needed` at all.
    """
    return Workers(count or available_cores(), _TARGET, at_once=needed and not (data / _DESCRIPTION).exists())
