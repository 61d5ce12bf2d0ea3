"""A Ray cluster loses the node that trains: STUDY DATA RUNS. Run by test_reproduce_engines."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from ray.cluster_utils import Cluster
from reproduce_parts import request
from rich.console import Console

from cxrkit.reproduce import main
from cxrkit.runs.folder import RunFolder

study, data, runs = map(Path, sys.argv[1:])
run = RunFolder(runs / "mlp-meta" / "official")
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
first = cluster.add_node(num_cpus=1)


def lose_it() -> None:
    """End the node that trains, and as a machine's end would, the training with it; another node is there by then."""
    while not run.metrics.exists() or run.metrics.read_text().count('"kind": "epoch"') < 2:
        time.sleep(0.02)
    cluster.add_node(num_cpus=1)
    cluster.remove_node(first, allow_graceful=False)
    with suppress(OSError):
        os.kill(json.loads((run.path / ".lock").read_text())["pid"], signal.SIGKILL)


threading.Thread(target=lose_it, daemon=True).start()
wanted = request(study, data, runs, engine="ray", engine_options={"address": cluster.address})
well = main.reproduce(wanted, Console())
cluster.shutdown()
sys.exit(0 if well else 1)
