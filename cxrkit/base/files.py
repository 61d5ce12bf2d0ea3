"""Writing files so that a reader never sees half of one, and folders so that no two processes write in one."""

from __future__ import annotations

import codecs
import errno
import fcntl
import hashlib
import json
import os
import re
import socket
import stat
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cxrkit.base.errors import DISK_FULL, DiskFull, UserError

PART_SUFFIX = ".part"
# The longer marks first: UTF-32's begins with UTF-16's.
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# What a new file may be read and written by; asking for it means to set it, for a moment, to something safe.
_UMASK = os.umask(0o077)
os.umask(_UMASK)
_HEARTBEAT_SECONDS = 30.0
_SETTLING_SECONDS = 0.2
_SILENT_AFTER_SECONDS = 600.0  # long enough for a network disk that shows times late and clocks that disagree a little


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
    """Make the finished `part` durable, as readable as other files, and rename it to `path`. Raises OSError."""
    mode = 0o666 & ~_UMASK
    if stat.S_IMODE(part.stat().st_mode) != mode:
        with suppress(PermissionError):  # a disk that knows no modes
            part.chmod(mode)  # safetensors makes its files readable by their owner alone
    with open(part, "rb") as written:
        os.fsync(written.fileno())
    part.replace(path)
    _fsync_folder(path.parent)


def output_error(path: Path, error: OSError) -> UserError:
    """Say in the user's terms why `path` could not be written."""
    if error.errno == errno.ENOSPC or "No space left" in str(error):
        return DiskFull(
            f"{path}: {DISK_FULL}; the file was not written, and nothing already finished was touched",
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


def is_text(path: str | Path) -> bool:
    """Whether a path can be written down: the bytes of a file name may be no UTF-8, all that text files can hold."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def decoded(data: bytes) -> str:
    """Return the text of a table or list in UTF-8, or in UTF-16 or UTF-32 with a byte order mark.

    Raises ValueError ("not a text file ...") for anything else.
    """
    encoding = next((name for mark, name in _MARKS.items() if data.startswith(mark)), "utf-8-sig")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        name = encoding.upper().removesuffix("-SIG")
        raise ValueError(f"not a text file in {name} ({error.reason})") from None
    if "\0" in text:
        raise ValueError("not a text file, it has NUL bytes (UTF-16 without a byte order mark, or a damaged download)")
    return text


def file_digest(path: Path) -> str:
    """Return the SHA-256 (hex) of a file. Raises OSError."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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


@contextmanager
def claimed(lock: Path, busy: str, remedy: str) -> Iterator[None]:
    """Hold the file `lock` (RUN/.lock) for this process; make its folder if need be, remove the file in the end.

    Raises UserError(`busy`, and who it is) when another live process holds it; a kill lets go of it.

    The claim is a lock of the operating system. Where the disk has none (some network and cluster disks), it is the
    file itself, which then names its owner. One of this machine is believed while that process runs; one of another
    machine while it has touched the file within the last ten minutes, which it does twice a minute.
    """
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        held = _lock_by_system(lock)
    except BlockingIOError:
        raise UserError(f"{busy}{_named(_owner_of(lock))}", remedy=remedy) from None
    except OSError as error:
        raise output_error(lock, error) from error
    if held is None:
        with _owned(lock, busy, remedy):
            yield
        return
    try:
        yield
    finally:
        with suppress(OSError):
            lock.unlink()  # before it is let go of: nobody else can have it yet
        os.close(held)


def is_claimed(lock: Path) -> bool:
    """Whether a living process holds `lock` (see `claimed`), without disturbing whoever is about to claim it.

    A process of this machine is believed while it runs; of another machine's claim the lock itself is asked, or where
    the disk has none, the time of the file.
    """
    owner = _owner_of(lock)
    if owner is None:  # no file, or one that is being written
        return False
    if owner["host"] == socket.gethostname():
        return _is_alive(owner, lock)
    try:
        with open(lock, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    except OSError:
        return _is_alive(owner, lock)
    return False


def _lock_by_system(lock: Path) -> int | None:
    """Return the descriptor that holds the lock, or None on a disk without locks. Raises BlockingIOError if held."""
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if isinstance(error, BlockingIOError):
                raise
            return None  # ENOLCK, EOPNOTSUPP, ENOSYS, 524 and whatever else a disk may say
        # Whoever had it before may have removed the file between our two calls: then another one counts.
        with suppress(FileNotFoundError):
            if os.path.samestat(lock.stat(), os.fstat(descriptor)):
                with suppress(OSError):  # for a message only
                    os.truncate(descriptor, 0)
                    os.write(descriptor, _myself().encode())
                return descriptor
        os.close(descriptor)


@contextmanager
def _owned(lock: Path, busy: str, remedy: str) -> Iterator[None]:
    """Hold `lock` by what it says: see `claimed`."""
    owner = _owner_of(lock)
    if owner is not None and _is_alive(owner, lock):
        if owner["host"] != socket.gethostname():
            remedy += f"; if that process is dead, delete {lock}"
        raise UserError(f"{busy}{_named(owner)}", remedy=remedy)
    write_text(lock, _myself())
    time.sleep(_SETTLING_SECONDS)  # whoever saw the file absent when we did has written it by now; the last one has it
    if (owner := _owner_of(lock)) != json.loads(_myself()):
        raise UserError(f"{busy}{_named(owner)}", remedy=remedy)
    stop = threading.Event()
    beat = threading.Thread(target=_keep_touching, args=(lock, stop), daemon=True)
    beat.start()
    try:
        yield
    finally:
        stop.set()
        beat.join()
        with suppress(OSError):
            lock.unlink()


def _keep_touching(path: Path, stop: threading.Event) -> None:
    while not stop.wait(_HEARTBEAT_SECONDS):
        with suppress(OSError):
            os.utime(path)


def _myself() -> str:
    return json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "started": _started(os.getpid())}) + "\n"


def _owner_of(lock: Path) -> dict[str, Any] | None:
    """Return the process that the file names, or None: it is gone, or says nothing that can be understood."""
    try:
        owner = json.loads(lock.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    kinds = {"host": str, "pid": int, "started": str}
    whole = isinstance(owner, dict) and all(type(owner.get(name)) is kind for name, kind in kinds.items())
    return owner if whole else None


def _named(owner: dict[str, Any] | None) -> str:
    return f" (process {owner['pid']} on {owner['host']})" if owner else ""


def _is_alive(owner: dict[str, Any], lock: Path) -> bool:
    if owner["host"] != socket.gethostname():
        with suppress(OSError):
            return time.time() - lock.stat().st_mtime < _SILENT_AFTER_SECONDS
        return False
    if owner["pid"] == os.getpid() or not 0 < owner["pid"] < 2**31:
        return bool(owner["pid"] == os.getpid() and owner["started"] == _started(os.getpid()))
    try:
        os.kill(owner["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is somebody else's, but alive
        pass
    return bool(owner["started"] == _started(owner["pid"]))


def _started(pid: int) -> str:
    """Return what tells a process from a later one of the same number: boot and start, as Linux counts them.

    Empty elsewhere: there the number alone must do.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        # The name, in brackets, may hold spaces; the start is the 20th field after it.
        start = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
    return f"{boot} {start}"
