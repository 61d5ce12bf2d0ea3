from __future__ import annotations

import errno
import gc
import json
import os
import socket
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest

from cxrkit.base.errors import UserError
from cxrkit.base.files import claimed, output_error, read_json, replacing, write_json
from cxrkit.shards.mapped import map_file


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def stop_half_way(path: Path) -> None:
    with replacing(path) as part:
        part.write_text("{")
        raise RuntimeError("half-way")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(path, {"a": float("nan")})
    with pytest.raises(RuntimeError, match="half-way"):
        stop_half_way(path)
    assert read_json(path, "the value", "write it") == {"a": 1}
    assert names(tmp_path) == ["value.json"]


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (errno.ENOSPC, r"x.h5: the disk is full; the file was not written(.|\n)*remedy: free some space"),
        (errno.EROFS, r"x.h5: cannot be written(.|\n)*remedy: choose an output folder that you may write to"),
        (errno.EACCES, r"x.h5: cannot be written(.|\n)*remedy: choose an output folder that you may write to"),
    ],
)
def test_errors_of_the_disk(number: int, text: str) -> None:
    with pytest.raises(UserError, match=text):
        raise output_error(Path("x.h5"), OSError(number, os.strerror(number)))


def test_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(UserError, match=r"its folder is not a folder\n  remedy: choose another output folder"):
        write_json(tmp_path / "runs" / "a.json", {})


def test_json_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "dataset.json"
    with pytest.raises(UserError, match=r"dataset.json: the description is missing\n  remedy: prepare"):
        read_json(path, "the description", "prepare")
    path.write_bytes(b'{"a": \xff')
    with pytest.raises(UserError, match=r"dataset.json: the description is not valid JSON"):
        read_json(path, "the description", "prepare")


@pytest.mark.parametrize("text", ["[" * 100_000, "1" * 5000, "", "{"])
def test_json_that_python_gives_up_on(tmp_path: Path, text: str) -> None:
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(UserError, match=r"dataset.json: the description is not valid JSON \(.*\)\n  remedy: prepare"):
        read_json(tmp_path / "dataset.json", "the description", "prepare")


def test_json_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the description cannot be read \(Is a directory\)\n  remedy: prepare"):
        read_json(tmp_path, "the description", "prepare")


# Mapped files


def is_mapped(path: Path) -> bool:
    return str(path) in Path("/proc/self/maps").read_text()


def test_a_mapped_file_is_not_open_and_goes_with_its_last_view(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 100)
    array = map_file(path, 25_600)
    assert (array.shape, array.dtype, array.flags.writeable) == ((25_600,), np.uint8, False)
    view = array[-6:].reshape(2, 3)
    del array
    assert not any(link.exists() and link.samefile(path) for link in Path("/proc/self/fd").iterdir())
    path.rename(tmp_path / "moved")
    (tmp_path / "moved").unlink()
    assert view.tolist() == [[250, 251, 252], [253, 254, 255]]
    assert is_mapped(tmp_path)
    del view
    gc.collect()
    assert not is_mapped(tmp_path)


def test_a_file_that_cannot_be_mapped_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        map_file(tmp_path / "none", 1)
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(OSError, match="Invalid argument"):
        map_file(tmp_path / "empty", 0)


# Claims


def claim(folder: Path) -> AbstractContextManager[None]:
    return claimed(folder / ".lock", f"{folder}: another one is at work", "wait for it")


@pytest.fixture(params=[None, errno.ENOLCK, errno.EOPNOTSUPP, 524, errno.ENOSYS, errno.EINTR, errno.EINVAL])
def locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Run the test on a disk with locks, and on disks that refuse them in each of the known ways."""

    def refuse(*_: object) -> None:
        raise OSError(request.param, "no locks here")

    if request.param is not None:
        monkeypatch.setattr("fcntl.flock", refuse)
        monkeypatch.setattr("cxrkit.base.files._SETTLING_SECONDS", 0.0)
    return request.param is None


def test_a_claim_keeps_others_out_and_leaves_nothing_behind(tmp_path: Path, locks: bool) -> None:
    folder = tmp_path / "new" / "run"
    message = rf"at work \(process {os.getpid()} on .*\)\n  remedy: wait"
    with claim(folder), pytest.raises(UserError, match=message), claim(folder):
        raise AssertionError("claimed twice")
    assert names(folder) == []
    with claim(folder):
        assert names(folder) == [".lock"]


HOLDER = """
import sys, time
from pathlib import Path
from cxrkit.base import files
if sys.argv[2] == "False":
    def refuse(*_): raise OSError(37, "no locks here")
    files.fcntl.flock = refuse
with files.claimed(Path(sys.argv[1]) / ".lock", "busy", "wait"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_kill_lets_go_of_a_claim(tmp_path: Path, locks: bool) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path), str(locks)], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(UserError, match=rf"at work \(process {holder.pid} on "), claim(tmp_path):
        pass
    holder.kill()
    holder.communicate()
    with claim(tmp_path):
        pass
    assert names(tmp_path) == []


def owner(folder: Path, **changes: object) -> Path:
    """Write a lock file as a process on a disk without locks does."""
    about = {"host": socket.gethostname(), "pid": os.getpid(), "started": "another boot 1"} | changes
    (folder / ".lock").write_text(json.dumps(about))
    return folder / ".lock"


@pytest.mark.parametrize("locks", [errno.ENOLCK], indirect=True)
def test_the_owner_on_another_machine_is_believed_while_it_gives_signs(tmp_path: Path, locks: bool) -> None:
    lock = owner(tmp_path, host="elsewhere")
    message = r"\(process \d+ on elsewhere\)\n  remedy: .*; if that process is dead, delete"
    with pytest.raises(UserError, match=message), claim(tmp_path):
        pass
    os.utime(lock, (0, 0))
    with claim(tmp_path):
        pass


@pytest.mark.parametrize("locks", [errno.ENOLCK], indirect=True)
def test_a_claim_is_kept_alive(tmp_path: Path, locks: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cxrkit.base.files._HEARTBEAT_SECONDS", 0.01)
    with claim(tmp_path):
        os.utime(tmp_path / ".lock", (0, 0))
        ends = time.monotonic() + 10
        while (tmp_path / ".lock").stat().st_mtime == 0 and time.monotonic() < ends:
            time.sleep(0.01)
        assert (tmp_path / ".lock").stat().st_mtime > 0


@pytest.mark.parametrize("text", ["", "[]", "{", '{"host": 1}', "[" * 100_000, "\ud800"])
@pytest.mark.parametrize("locks", [errno.ENOLCK], indirect=True)
def test_a_lock_file_that_says_nothing_holds_nothing(tmp_path: Path, locks: bool, text: str) -> None:
    (tmp_path / ".lock").write_bytes(text.encode("utf-8", "surrogatepass"))
    with claim(tmp_path):
        pass


@pytest.mark.parametrize("pid", [0, -1, 10**30, None, 1])
@pytest.mark.parametrize("locks", [errno.ENOLCK], indirect=True)
def test_a_process_of_the_same_number_is_another_one(tmp_path: Path, locks: bool, pid: int | None) -> None:
    owner(tmp_path, pid=os.getpid() if pid is None else pid)
    with claim(tmp_path):
        pass


def test_a_folder_that_cannot_be_claimed_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/.lock: its folder is not a folder"), claim(tmp_path / "file"):
        pass
