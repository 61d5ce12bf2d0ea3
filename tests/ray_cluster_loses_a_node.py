"""A Ray cluster loses the node that trains: STUDY DATA RUNS. Run by test_reproduce_engines."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import psutil
from ray.cluster_utils import Cluster

from cxrkit.base.contracts import Share
from cxrkit.reproduce import planning, study
from cxrkit.reproduce.grid import Grid
from cxrkit.reproduce.on_ray import RayExecutor
from cxrkit.reproduce.planning import Places

path, data, runs = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
found = study.read(path)
(item,) = planning.check(planning.plan(found, Places(data, runs)))
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
nodes = [cluster.add_node(num_cpus=1)]


def lose_it() -> None:
    """End the node that trains, and as a machine's end would, the training with it; another node is there by then.

    The training stands still meanwhile, or it might be through before.
    """
    if not nodes or not item.run.metrics.exists() or item.run.metrics.read_text().count('"kind": "epoch"') < 2:
        return
    training = json.loads((item.run.path / ".lock").read_text())["pid"]
    worker = psutil.Process(training).ppid()
    os.kill(training, signal.SIGSTOP)
    try:
        cluster.add_node(num_cpus=1)
        os.kill(worker, signal.SIGKILL)
        cluster.remove_node(nodes.pop(), allow_graceful=False)
    finally:
        os.kill(training, signal.SIGKILL)


executor = RayExecutor(Share(), address=cluster.address)
grid = Grid([item], executor, planning.own_folder(runs, found))
grid.run(lose_it)
cluster.shutdown()
print(grid.status, grid.failures)
