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

    All but one are started, since this process has a core's worth of loading to do as well; `start_last` starts that
    one. Where a preparation has ended before, there may be nothing left to do: they are then started when there is, as
    they are where they may not be `needed` at all.
    """
    pool = Workers(count or available_cores(), _TARGET, at_once=False)
    try:
        if needed and not _may_be_done(data):
            pool.start(max(1, pool.count - 1))
    except BaseException:
        pool.close()
        raise
    return pool


def start_last(pool: Workers, data: Path) -> None:
    """Start the worker that was left, unless there may be nothing to do."""
    if not _may_be_done(data):
        pool.start()


def _may_be_done(data: Path) -> bool:
    return (data / _DESCRIPTION).exists()
