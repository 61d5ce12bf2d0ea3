"""How many cores this process may use, and how many of them are free: what workers, threads and reports go by."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path, PurePosixPath

SAMPLE_SECONDS = 0.25  # 25 ticks of a core
STAT = Path("/proc/stat")
_CPU_CONTROLLERS = ("cpu", "cpu,cpuacct", "cpuacct,cpu")  # what the folder of cgroup version 1 is called


def available_cores(cgroup: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """Return how many cores this process may use: its affinity, and what its container, job or service is granted.

    cgroup: where the control groups are mounted; own: the file that names the groups of this process. A group has no
    more than the groups above it, so the least quota counts. A part of a core counts as one.
    """
    return max(1, min([len(_usable_cpus()), *_quotas(cgroup, own)]))


def free_cores(seconds: float = SAMPLE_SECONDS, stat: Path = STAT) -> int:
    """Return how many of the available cores nobody else keeps busy now, at least 1; takes `seconds`.

    By what the system has counted for each core meanwhile, without what this process itself has computed; where it
    counts nothing, by the load of the last minute; all of them, where that is not known either.
    """
    available, cpus = available_cores(), _usable_cpus()
    before, began, own = _read(stat), time.monotonic(), time.process_time()
    time.sleep(seconds)
    after, elapsed, own = _read(stat), time.monotonic() - began, time.process_time() - own
    busy = busy_cores(before, after, cpus)
    busy = _load() if busy is None else busy - own / elapsed
    return max(1, min(available, math.floor(len(cpus) - busy + 0.5)))


def busy_cores(before: str, after: str, cpus: Collection[int]) -> float | None:
    """Return how many of `cpus` were at work, on average, between two readings of /proc/stat; None where it is unknown.

    What another guest of the same host has taken ("steal") is work too.
    """
    first, second = _ticks(before), _ticks(after)
    known = [cpu for cpu in cpus if cpu in first and cpu in second]
    passed = [second[cpu][1] - first[cpu][1] for cpu in known]
    if not known or min(passed) <= 0:
        return None
    worked = (second[cpu][0] - first[cpu][0] for cpu in known)
    return sum(max(0, ticks) / total for ticks, total in zip(worked, passed, strict=True))


def _ticks(stat: str) -> dict[int, tuple[int, int]]:
    """Return (at work, altogether) of each cpu since the start of the system, in ticks of a hundredth of a second."""
    found = {}
    for line in stat.splitlines():
        name, *rest = line.split() or [""]
        if name.startswith("cpu") and name[3:].isdecimal() and len(rest) >= 5 and all(map(str.isdecimal, rest)):
            ticks = [int(word) for word in rest[:8]]  # guests, the two after these, are counted as users already
            idle_and_waiting = ticks[3] + ticks[4]
            found[int(name[3:])] = sum(ticks) - idle_and_waiting, sum(ticks)
    return found


def _usable_cpus() -> set[int]:
    return set(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def _read(stat: Path) -> str:
    try:
        return stat.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def _load() -> float:
    try:
        return os.getloadavg()[0]
    except (OSError, AttributeError):
        return 0.0


def omp_threads(environment: Mapping[str, str] = os.environ) -> int | None:
    """Return what OMP_NUM_THREADS says, the outermost level of a list; None where it is not set, or no such number."""
    said = environment.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(said) if said.isdecimal() and int(said) > 0 else None


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
