"""The machine without its GPU: Python, processor, memory, open files, compiler, disk."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from cxrkit.base import provenance
from cxrkit.base.cores import available_cores, free_cores, omp_threads
from cxrkit.doctor.findings import Finding
from cxrkit.models.compute import cpu_has_bf16

# Measured on real images: three JPEG levels of quality 95 take about 262 kB an image.
PREPARED_GB = 112_120 * 262e3 / 1e9
# Measured: 184 MB a process that prepares JPEG levels (--codec raw holds 70 MB more), 1.0 GB a training of
# resnet14-small-meta; networks that look at more pixels take more.
WORKER_GB = 0.3
TRAINING_GB = 2.0
_FILES_AT_LEAST = 64  # of a process that has no workers
_FILES_A_WORKER = 8  # pipes and the shared buffer
_CGROUPS = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/memory"))
_LIMITS = ("memory.max", "memory.limit_in_bytes")  # version 2, version 1
_USED = ("memory.current", "memory.usage_in_bytes")


def python() -> Iterator[Finding]:
    """Say which Python it is. Older ones never get here: the package does not install on them."""
    yield Finding("Python", "ok", ".".join(map(str, sys.version_info[:3])))


def processor() -> Iterator[Finding]:
    """Say what the processor is, and how much of it is free."""
    cores, free = available_cores(), free_cores()
    bf16 = "computes in bfloat16" if cpu_has_bf16() else "no bfloat16: CPU training runs in fp32"
    yield Finding("processor", "ok", f"{provenance.processor()}, {cores} cores usable, {bf16}")
    yield cores_and_threads(cores, free, omp_threads())
    if cores < 2:
        remedy = "allow this process more cores (taskset, cgroup or job limits)"
        yield Finding("processor", "note", "a single core loads and trains in turns", remedy)


def cores_and_threads(cores: int, free: int, omp: int | None) -> Finding:
    """Say how many cores nobody else keeps busy, and what a training on the CPU would do with them."""
    from cxrkit.trainers import threads

    try:
        number = omp or min(free, threads.torch_default())
    except (ImportError, RuntimeError):  # said of torch already
        number = omp or free
    loading = threads.for_loading(None, number)
    by = "OMP_NUM_THREADS says so" if omp else "--compute-threads changes it"
    found = f"{free} of {cores} free now; threads of a training on the CPU: {number} compute ({by}), {loading} load"
    if number > free:
        remedy = "all threads wait for the slowest: set OMP_NUM_THREADS to the cores that are free, or unset it"
        return Finding("cores", "note", found, remedy)
    if free < cores:
        return Finding("cores", "note", found, "wait for what keeps the others busy, or train on a GPU")
    return Finding("cores", "ok", found)


def memory(meminfo: Path = Path("/proc/meminfo")) -> Iterator[Finding]:
    """Say how much memory is free for this process, and whether preparing with all cores fits in it."""
    known = _memory(meminfo)
    if known is None:
        return
    total, free = known
    needed = max(TRAINING_GB, WORKER_GB * (available_cores() + 1))
    found = f"{free:,.1f} of {total:,.1f} GB free"
    if free >= needed:
        yield Finding("memory", "ok", found)
        return
    fitting = max(1, int(free / WORKER_GB) - 1)
    remedy = f"end other programs, or: prepare --workers {fitting}, train --batch-size 4"
    yield Finding(
        "memory", "note", f"{found}; a training wants {TRAINING_GB:g}, a worker of prepare {WORKER_GB:g}", remedy
    )


def _memory(meminfo: Path) -> tuple[float, float] | None:
    """Return (total, free) GB, of the control group where that has less; None where the system does not say."""
    try:
        lines = [line.split() for line in meminfo.read_text(encoding="ascii", errors="replace").splitlines()]
        says = {words[0]: int(words[1]) * 1024 / 1e9 for words in lines if len(words) > 1 and words[1].isdecimal()}
        total, free = says["MemTotal:"], says["MemAvailable:"]
    except (OSError, KeyError):
        return None
    for folder in _CGROUPS:
        for limit, used in zip(_LIMITS, _USED, strict=True):
            try:
                granted, taken = (int((folder / name).read_text()) / 1e9 for name in (limit, used))
            except (OSError, ValueError):  # no such file, or "max"
                continue
            if granted < total:
                total, free = granted, min(free, max(0.0, granted - taken))
    return total, free


def open_files() -> Iterator[Finding]:
    """Say how many files a process may have open: shards take none, pipes to the workers do."""
    try:
        import resource
    except ImportError:  # no such limit on this system
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = _FILES_AT_LEAST + _FILES_A_WORKER * available_cores()
    if soft == resource.RLIM_INFINITY or soft >= needed:
        many = "any number" if soft == resource.RLIM_INFINITY else f"{soft:,}"
        yield Finding("files", "ok", f"{many} may be open at a time")
        return
    able = hard == resource.RLIM_INFINITY or hard >= needed
    remedy = (
        f"ulimit -n {needed}" if able else f"ask for a higher limit (the hard one is {hard:,}), or use fewer --workers"
    )
    yield Finding(
        "files",
        "note",
        f"{soft:,} may be open at a time, {needed:,} are wanted for {available_cores()} workers",
        remedy,
    )


def compiler() -> Iterator[Finding]:
    """Say whether torch.compile has what it needs: it is used on GPUs, and on CPUs with --compile."""
    named = os.environ.get("CXX", "").split()
    found = next((path for name in (*named[:1], "g++", "clang++", "c++") if (path := shutil.which(name))), None)
    headers = (Path(sysconfig.get_path("include")) / "Python.h").is_file()
    if found and headers:
        yield Finding("compiler", "ok", f"{found}, with Python's header files (for torch.compile)")
        return
    missing = " and ".join(
        name for name, there in (("no C++ compiler", found), ("no header files of Python", headers)) if not there
    )
    remedy = "install g++ and python3-dev; without them a training is not compiled, only slower"
    yield Finding("compiler", "note", f"{missing}: torch.compile will not work", remedy)


def disk(data: Path) -> Iterator[Finding]:
    """Say whether the prepared images fit under `data`."""
    folder = next(parent for parent in [data.absolute(), *data.absolute().parents] if parent.exists())
    free = shutil.disk_usage(folder).free / 1e9
    found = f"{free:,.0f} GB free under {folder}"
    if free > PREPARED_GB * 1.1:
        yield Finding("disk", "ok", found)
    else:
        remedy = f"all of ChestX-ray14 takes {PREPARED_GB:.0f} GB prepared; choose --data elsewhere or fewer --levels"
        yield Finding("disk", "note", found, remedy)
