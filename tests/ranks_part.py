"""Two processes part after a step that they have taken together, started by torchrun from test_ranks.py."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import torch
from torch.nn.parallel import DistributedDataParallel

from cxrkit.base.ranks import joined


def threads_of_gloo() -> int:
    names = ((task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir())
    return Counter(names)["pt_gloo_runloop"]


def main() -> None:
    with joined() as ranks:
        DistributedDataParallel(torch.nn.Linear(2, 2))(torch.ones(2, 2)).sum().backward()
        assert ranks.once(lambda: 5) == 5
        ranks.wait()
        before = threads_of_gloo()
    # Those that have carried the last objects: one that is not done with them when Python ends aborts the process.
    assert threads_of_gloo() <= before - 2


if __name__ == "__main__":
    main()
