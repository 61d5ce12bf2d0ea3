"""A file as an array, without holding it open."""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (*(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64),)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_FAILED = ctypes.c_void_p(-1).value


def map_file(path: Path, size: int) -> np.ndarray:
    """Return the first `size` bytes (at least 1) of the file, (size,) uint8, read-only and not copied. Raises OSError.

    Python's own mmap keeps a descriptor per map: a thousand shards are more than many systems allow a process. Here
    the file is closed at once; its bytes stay, even when it is deleted, until the last view of the array is gone.
    """
    with open(path, "rb") as file:
        address = _libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, file.fileno(), 0)
    if address == _FAILED:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(path))
    return np.asarray(_Map(address, size))


class _Map:
    """Owns a map. numpy keeps it alive as the base of every view."""

    def __init__(self, address: int, size: int) -> None:
        self._where = (address, size)
        self.__array_interface__ = {"shape": (size,), "typestr": "|u1", "data": (address, True), "version": 3}

    # At the end of the process, module globals may be gone before the last array.
    def __del__(self, munmap: Any = _libc.munmap) -> None:
        munmap(*self._where)
