"""How much memory processes use, from /proc (Linux). Standard library only."""

from __future__ import annotations

import threading
import time
from pathlib import Path

INTERVAL_SECONDS = 0.02


def of_process(process_id: int) -> dict[str, float]:
    """Return a process's memory in MB: "resident", "private" (without mapped files: these the system may drop), "peak".

    Empty where the system does not tell.
    """
    try:
        lines = Path(f"/proc/{process_id}/status").read_text().splitlines()
    except OSError:
        return {}
    kb = {
        key: int(value.split()[0]) for key, _, value in (line.partition(":") for line in lines) if value.endswith("kB")
    }
    if "VmRSS" not in kb:  # a zombie has none
        return {}
    return {
        "resident": kb["VmRSS"] / 1000,
        "private": (kb["RssAnon"] + kb["RssShmem"]) / 1000,
        "peak": kb["VmHWM"] / 1000,
    }


def of_tree(process_id: int) -> float:
    """Return the private memory in MB of a process and all that it started."""
    total = of_process(process_id).get("private", 0.0)
    try:
        children = [
            child
            for task in Path(f"/proc/{process_id}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
    except OSError:
        return total
    return total + sum(of_tree(int(child)) for child in children)


class Watch:
    """Context manager that samples a process tree's private memory; `peak_mb` is the largest sum seen."""

    def __init__(self, process_id: int) -> None:
        self.peak_mb = 0.0
        self._process_id = process_id
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stop.is_set():
            self.peak_mb = max(self.peak_mb, of_tree(self._process_id))
            time.sleep(INTERVAL_SECONDS)
