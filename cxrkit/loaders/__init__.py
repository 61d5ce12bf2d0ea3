"""Loaders: one plan, several backends that execute it.

`plan.py` decides which image a batch holds and how each is cropped, turned and mirrored: numpy only, pure functions
of (seed, epoch, row). A backend samples those affine maps: `opencv` on CPU threads, `dali` on a GPU, or on the CPU
where there is none. Both make the same pixels but for the rounding of their resamplers.
"""

from __future__ import annotations

from cxrkit.base.notes import Say, to_stderr

AUTO = "auto"
PIXELLESS = "pixelless"  # the loader of a network that looks at no image


def choose(name: str, device: str, note: Say = to_stderr) -> str:
    """Return the loader to use on `device` ("cpu", "cuda", "cuda:1"): `name` itself unless it is "auto".

    "auto" is DALI on a GPU, where it is installed and starts, and OpenCV's threads otherwise: those are the faster on a
    CPU. Where DALI cannot be had on a GPU, `note` hears why, once.
    """
    if name != AUTO:
        return name
    if not device.startswith("cuda"):
        return "opencv"
    from cxrkit.loaders.dali import why_not

    if (reason := why_not(device)) is None:
        return "dali"
    if device not in _noted:
        _noted.add(device)
        note(f"DALI cannot be used on {device}, so the loader is opencv, which may be slower: {reason}")
    return "opencv"


_noted: set[str] = set()  # devices: every loader of a training asks, but the user need not hear it each time
