"""torch.compile where the machine can, and the function as it is where it cannot.

Compiling takes a C++ or a CUDA toolchain, Python's header files and a folder for what was compiled, none of which
PyTorch brings along. They are an optional service: without them a training goes on, only slower.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cxrkit.notes import Note, to_stderr


def compiled(function: Callable[..., Any], device: str, note: Note = to_stderr) -> Callable[..., Any]:
    """Return `function` (a module, or a function of tensors on `device`) compiled for each shape it meets.

    Where that is not possible, `note` hears why, and `function` itself is called. What is wrong with the function is
    raised by the function itself then.
    """
    import torch

    if (reason := why_not(device)) is not None:
        note(_text(reason))
        return function
    fast = torch.compile(function, dynamic=False)
    proven = False

    def call(*arguments: Any) -> Any:
        nonlocal fast, proven
        if proven:
            return fast(*arguments)
        try:
            result = fast(*arguments)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            # Nothing was computed yet: the first call compiles before it computes.
            note(_text(error))
            fast = function
            result = fast(*arguments)
        proven = True
        return result

    return call


def why_not(device: str) -> Exception | None:
    """Return what keeps a small function, and its gradient, from being compiled for `device`; None where nothing does.

    Asked beforehand because gradients are compiled in the first backward pass only, where it would be too late.
    """
    import torch

    try:
        with torch.enable_grad():
            x = torch.ones(8, device=device, requires_grad=True)
            torch.compile(_small, dynamic=False)(x).backward()
    except Exception as error:
        return error
    return None


def _small(x: Any) -> Any:
    return (x.sin() * x.exp()).sum()


def _text(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = lines[0] if lines else type(error).__name__
    return (
        f"torch.compile does not work here, so the computation goes on without it, only slower: {reason}\n"
        "  remedy: install a C++ compiler and Python's header files, and give a writable folder in "
        "TORCHINDUCTOR_CACHE_DIR; or do without with --no-compile"
    )
