"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cxrkit.errors import UserError

PART_SUFFIX = ".part"


def remove_parts(folder: Path) -> None:
    """Remove the temporary files that a killed process left in `folder`."""
    for part in folder.glob(f".*{PART_SUFFIX}"):
        part.unlink(missing_ok=True)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success fsync it and rename it to `path`, on failure remove it.

    A full disk, a read-only or a missing folder becomes a UserError; whatever stood at `path` before stays.
    """
    part = part_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        publish(part, path)
    except OSError as error:
        raise output_error(path, error) from error
    except Exception as error:
        # polars and safetensors wrap the operating system's errors in their own types.
        if number := re.search(r"os error (\d+)", str(error)):
            raise output_error(path, OSError(int(number[1]), os.strerror(int(number[1])))) from error
        raise
    finally:
        # Where not even the folder could be made there is nothing to remove, and the first error is the one to tell.
        with suppress(NotADirectoryError):
            part.unlink(missing_ok=True)


def part_of(path: Path) -> Path:
    """Return a new temporary name beside `path`, hidden and ending in PART_SUFFIX."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{PART_SUFFIX}")


def publish(part: Path, path: Path) -> None:
    """Make the finished `part` durable and rename it to `path`. Raises OSError."""
    with open(part, "rb") as written:
        os.fsync(written.fileno())
    part.replace(path)
    _fsync_folder(path.parent)


def output_error(path: Path, error: OSError) -> UserError:
    """Say in the user's terms why `path` could not be written."""
    if error.errno == errno.ENOSPC or "No space left" in str(error):
        return UserError(
            f"{path}: the disk is full; the file was not written, and nothing already finished was touched",
            remedy="free some space or choose another folder, then run the same command again",
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return UserError(
            f"{path}: cannot be written ({error.strerror})",
            remedy="choose an output folder that you may write to",
        )
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return UserError(f"{path}: its folder is not a folder", remedy="choose another output folder")
    return UserError(f"{path}: cannot be written ({error})", remedy="check the output folder and its disk")


def write_text(path: Path, text: str) -> None:
    """Replace `path` by `text` (UTF-8) atomically."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Replace `path` by `value` as indented JSON, atomically. NaN is refused: JSON has none."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path, what: str, remedy: str) -> Any:
    """Return the JSON in `path`; `what` ("the dataset description") and `remedy` go into the UserError otherwise."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: {what} is missing", remedy=remedy) from None
    except OSError as error:
        raise UserError(f"{path}: {what} cannot be read ({error.strerror})", remedy=remedy) from None
    except RecursionError:
        raise UserError(f"{path}: {what} is not valid JSON (nested too deeply)", remedy=remedy) from None
    except ValueError as error:  # no JSON, no UTF-8, or a number of thousands of digits
        raise UserError(f"{path}: {what} is not valid JSON ({error})", remedy=remedy) from None


def digest_lines(lines: Iterable[str]) -> str:
    """Return the SHA-256 (hex) of the lines, each ended by a newline, in the order given."""
    sha = hashlib.sha256()
    for line in lines:
        sha.update(line.encode() + b"\n")
    return sha.hexdigest()


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
