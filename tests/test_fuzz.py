"""The fuzzer sees what it is there to see."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from benchmarks import fuzz
from cxrkit.base.errors import UserError


@pytest.fixture
def root(prepared: Path, tmp_path: Path) -> Path:
    shutil.copytree(prepared, tmp_path / "files" / "data")
    return tmp_path / "files"


def test_damage_is_damage_and_can_be_made_again() -> None:
    valid = bytes(range(256)) * 20
    made = [fuzz.damaged(valid, random.Random(seed)) for seed in range(100)]
    assert made == [fuzz.damaged(valid, random.Random(seed)) for seed in range(100)]
    assert sum(one != valid for one in made) > 95
    assert fuzz.damaged(b"", random.Random(1)) is not None


def test_what_a_reader_does_is_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name: path.read_bytes() for path in (root / "data").iterdir()}

    def answer(error: Exception | None) -> str:
        def read(path: Path, _: Path) -> None:
            assert path.read_bytes() != before[path.name]
            if error:
                raise error

        monkeypatch.setitem(fuzz.READERS, "fake", fuzz.Reader("data/dataset.json", read))
        return fuzz.read_one("fake", root, 3)

    assert answer(None) == "taken"
    assert answer(UserError("wrong", remedy="mend it")) == "refused"
    assert "ZeroDivisionError: ours" in answer(ZeroDivisionError("ours"))
    assert {path.name: path.read_bytes() for path in (root / "data").iterdir()} == before


def test_a_reader_is_fuzzed_in_a_process_of_its_own(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tally = fuzz.fuzz("shard", root, 1.0, 0)
    assert tally.refused > 0
    assert tally.wrong == []
    shutil.rmtree(root / "data")
    (root / "data").mkdir()
    dead = fuzz.fuzz("shard", root, 0.5, 0)
    assert "the process died with status 1" in dead.wrong[0]
    monkeypatch.setattr(fuzz, "HANG_SECONDS", 0.001)
    assert "no answer within" in fuzz.fuzz("shard", root, 0.5, 0).wrong[0]
