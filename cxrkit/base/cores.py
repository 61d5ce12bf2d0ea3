"""How many cores this process may use: the one count that workers, threads and reports go by."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_CPU_CONTROLLERS = ("cpu", "cpu,cpuacct", "cpuacct,cpu")  # what the folder of cgroup version 1 is called


def available_cores(cgroup: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """Return how many cores this process may use: its affinity, and what its container, job or service is granted.

    cgroup: where the control groups are mounted; own: the file that names the groups of this process. A group has no
    more than the groups above it, so the least quota counts. A part of a core counts as one.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cores, *_quotas(cgroup, own)]))


def _quotas(cgroup: Path, own: Path) -> Iterator[int]:
    """Yield the cores that each group above this process grants, where it grants a number."""
    for controllers, group in {("", ""), ("cpu", ""), *_own_groups(own)}:
        mounts = [cgroup / name for name in _CPU_CONTROLLERS] if controllers else [cgroup, cgroup / "unified"]
        for mount in mounts:
            # Inside a container the path may be the host's, of which only the mount itself is there.
            for folder in (mount / group, *(mount / group).parents):
                if not folder.is_relative_to(mount):
                    break
                if cores := _granted(folder):
                    yield cores


def _own_groups(own: Path) -> Iterator[tuple[str, str]]:
    """Yield (controllers, path below the mount) of each group that may limit the processor; version 2 names none."""
    try:
        lines = own.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers or "cpu" in controllers.split(","):
            parts = [part for part in PurePosixPath(path).parts if part not in ("/", "..")]
            yield controllers, "/".join(parts)


def _granted(folder: Path) -> int:
    """Return the cores that one group grants; 0 where it sets no limit."""
    for files in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):  # version 2, version 1
        try:
            quota, period = (int(word) for name in files for word in (folder / name).read_text().split())
        except (OSError, ValueError):  # no such file, or no limit ("max")
            continue
        if quota > 0 and period > 0:  # version 1 says -1 for no limit
            return -(-quota // period)
    return 0
