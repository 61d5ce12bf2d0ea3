"""Which DALI is installed, which one this machine wants, and whether it starts.

DALI comes in one build for each major version of CUDA. A build of a newer CUDA than the driver's cannot work, and two
builds in one environment overwrite each other.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import importlib.util
import os
import signal
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from cxrkit.base.errors import UserError

BUILDS = {"nvidia-dali-cuda130": 13, "nvidia-dali-cuda120": 12}  # package -> major version of CUDA
EXTRAS = {13: "gpu", 12: "gpu-cuda12"}  # major version of CUDA -> what installs DALI for it
PATIENCE_SECONDS = 120.0  # a first start reads 800 MB off the disk


def modules() -> tuple[Any, Any, Any]:
    """Return nvidia.dali and its modules fn and types. Raises UserError where they cannot be imported."""
    try:
        dali, fn, types = (importlib.import_module(f"nvidia.dali{part}") for part in ("", ".fn", ".types"))
    except (ImportError, OSError, RuntimeError) as error:
        raise UserError(
            f"the loader 'dali' needs NVIDIA DALI, which cannot be imported here ({_first_line(error)})",
            remedy=f"{how_to_install()}, or use --loader opencv",
        ) from None
    return dali, fn, types


def installed() -> dict[str, str]:
    """Return the installed builds: package name -> version. More than one is one too many."""
    found = {}
    for package in BUILDS:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@functools.cache
def driver_cuda() -> tuple[int, int] | None:
    """Return the newest CUDA that the NVIDIA driver runs, as (major, minor); None where there is no driver."""
    try:
        number = ctypes.c_int()
        if ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(number)) or not number.value:
            return None
    except (OSError, AttributeError):
        return None
    return number.value // 1000, number.value % 1000 // 10


def torch_cuda() -> int | None:
    """Return the major version of CUDA that PyTorch is built for; None for a PyTorch without CUDA."""
    import torch

    return int(torch.version.cuda.partition(".")[0]) if torch.version.cuda else None


def wanted() -> int:
    """Return the major version of CUDA whose DALI belongs here: the driver's, or an older one that PyTorch uses."""
    driver = driver_cuda()
    try:
        known = [driver[0] if driver else None, torch_cuda()]
    except (ImportError, RuntimeError):
        known = [driver[0] if driver else None]
    return min((major for major in EXTRAS if major in known), default=max(EXTRAS))


def how_to_install() -> str:
    """Return what to do for a DALI that fits this machine."""
    if sys.platform != "linux":
        return "there is DALI for Linux only"
    found, driver = installed(), driver_cuda()
    if driver is not None and driver[0] < min(EXTRAS):
        return f"update the NVIDIA driver, which runs CUDA {driver[0]}.{driver[1]} at most"
    # Of two builds in one folder neither is whole: both have to go.
    remove = [package for package in found if len(found) > 1 or BUILDS[package] != wanted()]
    return (f"pip uninstall {' '.join(remove)}, then " if remove else "") + f"pip install 'cxrkit[{EXTRAS[wanted()]}]'"


def misfit() -> str | None:
    """Return why the builds that are installed cannot work with the driver; None where that is not known beforehand."""
    found, driver = installed(), driver_cuda()
    if len(found) > 1:
        return f"two builds overwrite each other: {', '.join(found)}"
    for package in found:
        if driver is not None and BUILDS[package] > driver[0]:
            return f"{package} is for CUDA {BUILDS[package]}, and the driver runs CUDA {driver[0]}.{driver[1]} at most"
    return None


@functools.cache
def why_not(device: str) -> str | None:
    """Return why DALI cannot work on `device` ("cpu", "cuda", "cuda:1"); None where it can.

    It makes one image there, in a process of its own: a DALI that does not fit may end the process that loads it. That
    takes some seconds; asked again, it knows.
    """
    if importlib.util.find_spec("nvidia") is None or importlib.util.find_spec("nvidia.dali") is None:
        return f"it is not installed ({how_to_install()})"
    if device != "cpu" and (reason := misfit()) is not None:
        return f"{reason} ({how_to_install()})"
    reason = _tried_elsewhere(device)
    if reason is not None and "busy or unavailable" in reason:
        # A GPU that takes one process at a time, and this is the one that has it.
        reason = _tried_here(device)
    return reason


def _tried_elsewhere(device: str) -> str | None:
    code = f"import sys; from cxrkit.loaders.dali_setup import main; sys.exit(main({device!r}))"
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return f"it has not made an image within {PATIENCE_SECONDS:.0f} seconds"
    if done.returncode == 0:
        return None
    if done.returncode < 0:
        return f"it ends its process with {signal.Signals(-done.returncode).name}"
    lines = (done.stdout.strip() or done.stderr.strip()).splitlines()
    return lines[-1] if lines else f"it ends its process with status {done.returncode}"


def main(device: str) -> int:
    """Make one image on `device`: 0 where that goes well, else 1, with the reason as the last line of stdout."""
    reason = _tried_here(device)
    if reason is not None:
        print(reason)
    return 0 if reason is None else 1


def _tried_here(device: str) -> str | None:
    try:
        _make_one(device)
    except (UserError, RuntimeError, OSError) as error:
        return _first_line(error)
    return None


def _make_one(device: str) -> None:
    """Decode a JPEG and sample a window of it, as the loader does."""
    import numpy as np

    from cxrkit.loaders.dali_graph import Graph, build
    from cxrkit.shards import codecs

    on_cpu = device == "cpu"
    graph = Graph(
        images=1, side=32, gpu=None if on_cpu else int(device.partition(":")[2] or 0), threads=1, prefetch=1,
        pixels=False, region=on_cpu, hw_decoder_load=1.0,
    )  # fmt: skip
    data = np.frombuffer(codecs.encode("jpeg", np.zeros((256, 256), np.uint8)), np.uint8)
    start, shape = np.array([[16, 16]], np.int32), np.array([[64, 64]], np.int32)
    fed = [data], np.array([[[2, 0, 0], [0, 2, 0]]], np.float32), np.full((1, 2), 0.5, np.float32), start, shape
    build(graph, lambda info: fed).run()


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
