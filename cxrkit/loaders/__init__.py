"""Loaders: one plan, several backends that execute it.

`plan.py` decides which image a batch holds and how each is cropped, turned and mirrored: numpy only, pure functions
of (seed, epoch, row). A backend samples those affine maps: `opencv` on CPU threads, `dali` on a GPU, or on the CPU
where there is none. Both make the same pixels but for the rounding of their resamplers.
"""

from __future__ import annotations

import importlib.util

AUTO = "auto"


def choose(name: str, device: str) -> str:
    """Return the loader to use on `device` ("cpu", "cuda", "cuda:1"): `name` itself unless it is "auto".

    "auto" is DALI on a GPU, where it is installed, and OpenCV's threads otherwise: those are the faster on a CPU.
    """
    if name != AUTO:
        return name
    on_gpu = device.startswith("cuda")
    return "dali" if on_gpu and _dali_is_installed() else "opencv"


def _dali_is_installed() -> bool:
    try:
        return importlib.util.find_spec("nvidia.dali") is not None
    except ModuleNotFoundError:  # no package named nvidia at all
        return False
