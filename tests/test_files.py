from __future__ import annotations

import errno
from pathlib import Path

import pytest

from cxrkit.errors import UserError
from cxrkit.files import output_error, read_json, replacing, write_json


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
    import os

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
