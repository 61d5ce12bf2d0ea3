"""What the workers of test_workers.py run: each function takes (task, buffer)."""

from __future__ import annotations

import os
import signal
from typing import Any

from cxrkit.base.errors import UserError


def read(task: int, buffer: int) -> bytes:
    return os.pread(buffer, task, 0)


def fail(task: Any, buffer: int) -> None:
    if task == "user":
        raise UserError("the user's mistake", remedy="mend it")
    if task == "abort":
        os.kill(os.getpid(), signal.SIGABRT)
    raise ZeroDivisionError("ours")
