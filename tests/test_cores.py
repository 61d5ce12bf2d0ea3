from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxrkit.base.cores import available_cores


@pytest.fixture
def all_cores(monkeypatch: pytest.MonkeyPatch) -> int:
    """Let the process have 64 cores, so that a quota shows on any machine."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    return 64


def quota(folder: Path, text: str, period: str | None = None) -> None:
    """Write the limit of one group: version 2 in one file, version 1 in two."""
    folder.mkdir(parents=True, exist_ok=True)
    if period is None:
        (folder / "cpu.max").write_text(text)
    else:
        (folder / "cpu.cfs_quota_us").write_text(text)
        (folder / "cpu.cfs_period_us").write_text(period)


def test_a_quota_of_a_nested_group_counts(tmp_path: Path, all_cores: int) -> None:
    own = tmp_path / "own"
    own.write_text("0::/user.slice/job.scope/step\n")
    root = tmp_path / "cgroup"
    quota(root / "user.slice" / "job.scope" / "step", "max 100000\n")
    assert available_cores(root, own) == all_cores
    quota(root / "user.slice" / "job.scope" / "step", "700000 100000\n")
    assert available_cores(root, own) == 7
    quota(root / "user.slice", "250000 100000\n")  # 2.5 cores, above the others
    assert available_cores(root, own) == 3
    quota(root / "other.slice", "100000 100000\n")
    assert available_cores(root, own) == 3
    quota(root, "100000 100000\n")
    assert available_cores(root, own) == 1


@pytest.mark.parametrize("mount", ["cpu", "cpu,cpuacct", "cpuacct,cpu"])
@pytest.mark.parametrize("group", ["docker/0123", ""])
def test_a_quota_of_version_1_counts(tmp_path: Path, all_cores: int, mount: str, group: str) -> None:
    own = tmp_path / "own"
    own.write_text(f"12:memory:/elsewhere\n4:{mount}:/{group}\n0::/\n")
    root = tmp_path / "cgroup"
    quota(root / mount / group, "-1\n", "100000\n")
    quota(root / "memory" / "elsewhere", "100000\n", "100000\n")
    assert available_cores(root, own) == all_cores
    quota(root / mount / group, "400000\n", "100000\n")
    assert available_cores(root, own) == 4


@pytest.mark.parametrize("line", ["4:cpu:/docker/on-the-host", "4:cpu:/../../docker"])
def test_inside_a_container_the_mount_is_the_group(tmp_path: Path, all_cores: int, line: str) -> None:
    (tmp_path / "own").write_text(f"{line}\n")
    quota(tmp_path / "cgroup" / "cpu", "200000", "100000")
    assert available_cores(tmp_path / "cgroup", tmp_path / "own") == 2
    assert all_cores == 64


def test_a_mixture_of_both_versions(tmp_path: Path, all_cores: int) -> None:
    (tmp_path / "own").write_text("1:cpu:/job\n0::/job\n")
    quota(tmp_path / "cgroup" / "unified" / "job", "500000 100000")
    assert available_cores(tmp_path / "cgroup", tmp_path / "own") == 5
    assert all_cores == 64


def test_without_groups_there_is_no_quota(tmp_path: Path, all_cores: int) -> None:
    assert available_cores(tmp_path / "none", tmp_path / "none either") == all_cores


@settings(max_examples=60, deadline=None)
@given(own=st.binary(max_size=40), first=st.binary(max_size=12), second=st.binary(max_size=12))
def test_whatever_the_files_say_there_is_a_core(
    tmp_path_factory: pytest.TempPathFactory, own: bytes, first: bytes, second: bytes
) -> None:
    folder = tmp_path_factory.mktemp("cgroup")
    (folder / "own").write_bytes(b"0::/job\n" + own)
    for place in (folder / "job", folder / "cpu"):
        place.mkdir()
        (place / "cpu.max").write_bytes(first)
        (place / "cpu.cfs_quota_us").write_bytes(first)
        (place / "cpu.cfs_period_us").write_bytes(second)
    assert available_cores(folder, folder / "own") >= 1
