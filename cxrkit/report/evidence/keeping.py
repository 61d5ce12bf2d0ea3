"""Arrays that were worked out once, in a file that says what they were made of, and whether it is whole."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxrkit.base.errors import UserError
from cxrkit.base.files import replacing

Arrays = dict[str, NDArray[np.generic]]

_MADE_OF, _CONTENT = "made_of", "content"  # the file's own entries, beside the arrays


def keep(path: Path, made_of: str, found: Arrays) -> None:
    """Keep arrays for the next time, with a digest of what they were made of; a folder that is read-only stays so."""
    own = {_MADE_OF: np.array(made_of), _CONTENT: np.array(_digest(found))}
    try:
        with replacing(path) as part, open(part, "wb") as file:
            np.savez(file, **own, **found)  # type: ignore[arg-type]
    except UserError:
        pass  # they are worked out again next time


def kept(path: Path, made_of: str) -> Arrays | None:
    """Return the arrays that were kept in `path`; None where there are none, or not these.

    Not these: they were made of something else, or the file is damaged, lacks some of them, or is of somebody else.
    """
    try:
        with _opened(path) as file:
            if str(file[_MADE_OF]) != made_of:
                return None
            found = {name: file[name] for name in file.files if name not in (_MADE_OF, _CONTENT)}
            return found if str(file[_CONTENT]) == _digest(found) else None
    except Exception:  # what a damaged file raises depends on where it is damaged: zip, zlib, struct, ast, numpy
        return None


def is_kept(path: Path, made_of: str) -> bool:
    """Return whether `path` says that it holds these arrays, without reading them."""
    try:
        with _opened(path) as file:
            return str(file[_MADE_OF]) == made_of
    except Exception:  # see `kept`
        return False


@contextmanager
def _opened(path: Path) -> Iterator[np.lib.npyio.NpzFile]:
    with open(path, "rb") as opened:
        file = np.load(opened, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ValueError("one array alone")
        with file:
            yield file


def _digest(found: Arrays) -> str:
    """Return the SHA-256 of arrays with their names, types and shapes."""
    sha = hashlib.sha256()
    for name, array in sorted(found.items()):
        sha.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        sha.update(np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()
