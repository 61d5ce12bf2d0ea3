"""Where a result comes from: versions, code state, machine. Written beside every run."""

from __future__ import annotations

import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import cxrkit
from cxrkit import __version__
from cxrkit.base.cores import available_cores

PACKAGES = (
    "torch",
    "torchvision",
    "nvidia-dali-cuda130",
    "nvidia-dali-cuda120",
    "opencv-python-headless",
    "kornia-rs",
    "h5py",
    "numpy",
    "polars",
    "scikit-learn",
    "safetensors",
)


def collect() -> dict[str, Any]:
    """Return versions, git state of the code, processor, cores, time (UTC). Nothing that identifies a person."""
    return {
        "cxrkit": __version__,
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "git": _git_state(),
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "cores": available_cores(),
        "command": " ".join(sys.argv[1:]),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def processor() -> str:
    """Return the processor's name as the system gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_state() -> str | None:
    """Return the commit of a development checkout, "+changes" when it is not clean; None for an installed package."""
    folder = Path(cxrkit.__file__).parent.parent
    if not (folder / ".git").exists():
        return None
    try:
        commit = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()
        dirty = subprocess.run(
            ["git", "-C", str(folder), "status", "--porcelain", "--untracked-files=no"],
            capture_output=True, text=True, timeout=10, check=True,
        ).stdout.strip()  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("+changes" if dirty else "")
