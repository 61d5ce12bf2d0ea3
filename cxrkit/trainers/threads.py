"""How many threads torch computes with on a CPU: as many as cores are free; in a resumed training, as before.

All of them wait for the slowest after each operation, so one thread more than cores are free costs more than it brings:
every operation then takes as long as the system makes that thread wait for its turn. The number is part of what a
training was, since sums of parts depend on how many parts there are, in their last digit.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

from cxrkit.base.cores import available_cores, free_cores, omp_threads
from cxrkit.base.notes import Say


@functools.cache
def torch_default() -> int:
    """Return how many threads torch itself would take: asked before `use` has changed it."""
    import torch

    return torch.get_num_threads()


def use(threads: int | None) -> None:
    """Let torch compute with so many threads from now on; None: leave it as it is."""
    import torch

    torch_default()
    if threads is not None and threads != torch.get_num_threads():
        torch.set_num_threads(threads)


def chosen(
    said: int | None, before: int | None, note: Say, *, processes: int = 1, environment: Mapping[str, str] | None = None
) -> int:
    """Return how many threads a training on a CPU shall compute with.

    said: by the user, or by the run's config. before: what the run was trained with so far. processes: that share this
    machine's cores. What was said now wins, then OMP_NUM_THREADS, then the number of before, then what is free. `note`
    hears what makes a resumed training differ from one that ran through (by last digits in fp32, by more in
    bf16), or slow.
    """
    if said is not None and said != before:
        return said
    omp = omp_threads() if environment is None else omp_threads(environment)
    if before is None:
        return omp or by_default(processes)
    if omp is not None and omp != before:
        note(
            f"OMP_NUM_THREADS={omp}, and this run was trained with {before} threads: its numbers may come out "
            f"otherwise\n  remedy: set OMP_NUM_THREADS={before}, or unset it"
        )
        return omp
    if before > (cores := available_cores()):
        note(
            f"this run was trained with {before} threads, and {cores} cores can be used here: it goes on with {cores}, "
            "and its numbers may come out otherwise"
        )
        return cores
    return before


def by_default(processes: int = 1) -> int:
    """Return how many threads a new training on a CPU computes with: the free cores, and no more than torch takes."""
    most = torch_default()
    return 1 if most == 1 else max(1, min(most, free_cores() // processes))


def for_loading(said: int | None, computing: int | None, processes: int = 1) -> int | None:
    """Return how many threads load images; None: the loader's own choice, one for each core.

    computing: threads that compute on the CPU; None where a GPU does. A CPU computes an image many times as long as it
    loads one, and threads that load take turns with those that compute, which wait for each other: one for every four
    is enough. The processes of a machine share its cores.
    """
    if said is not None:
        return said
    if computing is not None:
        return max(1, computing // 4)
    return None if processes == 1 else max(1, available_cores() // processes)
