"""torch.compile where the machine can, and the function as it is where it cannot.

Compiling takes a C++ or a CUDA toolchain, Python's header files and a folder for what was compiled, none of which
PyTorch brings along. They are an optional service: without them a training goes on, only slower.
"""

from __future__ import annotations

import atexit
import functools
import getpass
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cxrkit.base.errors import UserError
from cxrkit.base.notes import Say, to_stderr

CACHE_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"
DONE_WITHOUT = "torch.compile does not work here, so the computation goes on without it, only slower"


def ensure_cache_folder(note: Say = to_stderr) -> None:
    """See to it that PyTorch has a folder for what it compiles: one of this process alone where its own is unwritable.

    To be called before the first optimizer is made: PyTorch makes its folder then, compiling or not, and fails where it
    cannot. Raises UserError where there is no place for temporary files at all.
    """
    try:
        given = os.environ.get(CACHE_VARIABLE)
        folder = Path(given) if given else Path(tempfile.gettempdir()) / f"torchinductor_{_user()}"  # as PyTorch does
        if _is_writable(folder):
            return
        instead = tempfile.mkdtemp(prefix="cxrkit-compiled-")
    except OSError as error:
        raise UserError(
            f"there is no folder for temporary files ({error})", remedy="set TMPDIR to a folder that can be written"
        ) from error
    atexit.register(shutil.rmtree, instead, ignore_errors=True)
    os.environ[CACHE_VARIABLE] = instead
    note(
        f"{folder}, where PyTorch keeps what it compiles, cannot be written; this process uses {instead}\n"
        f"  remedy: set {CACHE_VARIABLE} to a folder that can be written, and nothing is compiled twice"
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user has a number only
        return f"uid_{os.getuid()}"


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True


def compiled(function: Callable[..., Any], device: str, note: Say = to_stderr) -> Callable[..., Any]:
    """Return `function` (a module, or a function of tensors on `device`) compiled for each shape it meets.

    Where that is not possible, `note` hears why, and `function` itself is called. What is wrong with the function is
    raised by the function itself then.
    """
    import torch

    ensure_cache_folder(note)
    if (reason := why_not(device)) is not None:
        remedy = "install a C++ compiler and Python's header files, or give --no-compile"
        note(f"{DONE_WITHOUT}: {reason}\n  remedy: {remedy}")
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
            # The first call compiles before it computes anything that could not be computed again.
            note(f"{DONE_WITHOUT}: {_first_line(error)}\n  remedy: change the model, or give --no-compile")
            fast = function
            result = fast(*arguments)
        proven = True
        return result

    return call


@functools.cache
def why_not(device: str) -> str | None:
    """Return what keeps a small function, and its gradient, from being compiled for `device`; None where nothing does.

    Asked beforehand because gradients are compiled in the first backward pass only, where it would be too late.
    """
    import torch

    try:
        with torch.enable_grad():
            x = torch.ones(8, device=device, requires_grad=True)
            torch.compile(_small, dynamic=False)(x).backward()
    except Exception as error:
        return _first_line(error)
    return None


def _small(x: Any) -> Any:
    return (x.sin() * x.exp()).sum()


def _first_line(error: Exception) -> str:
    cause = getattr(error, "inner_exception", error)  # what the compiler's own exceptions wrap
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return lines[0] if lines else type(cause).__name__
