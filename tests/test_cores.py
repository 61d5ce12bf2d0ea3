from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from cxrkit import pipeline
from cxrkit.base import cores
from cxrkit.base.cores import available_cores, busy_cores, omp_threads
from cxrkit.runs.config import read_config
from cxrkit.trainers import threads


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


# ---------------------------------------------------------------------------------------------- what others leave free

# cpu, user nice system idle iowait irq softirq steal guest guest_nice
BEFORE = "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 100 0 10 500 5 0 0 0 0 0\ncpu1 200 5 10 400 5 1 1 0 70 0\nintr 7\n"


def later(*worked: tuple[int, int, int, int]) -> str:
    """Return /proc/stat where each core has been (user, steal, idle, iowait) more ticks."""
    lines = BEFORE.splitlines()
    for cpu, (user, steal, idle, iowait) in enumerate(worked):
        name, *words = lines[1 + cpu].split()
        ticks = [int(word) for word in words]
        for place, more in ((0, user), (7, steal), (3, idle), (4, iowait), (8, user)):
            ticks[place] += more
        lines[1 + cpu] = " ".join([name, *map(str, ticks)])
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("worked", "cpus", "busy"),
    [
        ([(0, 0, 25, 0), (0, 0, 20, 5)], {0, 1}, 0.0),
        ([(25, 0, 0, 0), (25, 0, 0, 0)], {0, 1}, 2.0),
        ([(5, 0, 20, 0), (0, 10, 15, 0)], {0, 1}, 0.6),  # what another guest took is not free either
        ([(25, 0, 0, 0), (0, 0, 25, 0)], {1}, 0.0),  # the other core is not ours
        ([(25, 0, 0, 0), (0, 0, 25, 0)], {0, 7}, 1.0),  # a core that is not listed
    ],
)
def test_busy_cores(worked: list[tuple[int, int, int, int]], cpus: set[int], busy: float) -> None:
    assert busy_cores(BEFORE, later(*worked), cpus) == pytest.approx(busy)


@pytest.mark.parametrize(("before", "after"), [("", ""), (BEFORE, ""), (BEFORE, BEFORE), ("cpu0 a b c d e", BEFORE)])
def test_where_nothing_is_counted_nothing_is_known(before: str, after: str) -> None:
    assert busy_cores(before, after, {0, 1}) is None


@settings(max_examples=60, deadline=None)
@given(before=st.text(max_size=60), after=st.text(max_size=60))
def test_whatever_the_system_counts_is_read(before: str, after: str) -> None:
    found = busy_cores("cpu0 1 1 1 1 1\n" + before, "cpu0 2 2 2 2 2\n" + after, {0})
    assert found is None or found >= 0


def free_with(monkeypatch: pytest.MonkeyPatch, readings: list[str], load: float = 0.0) -> int:
    """Return what is free of two cores where /proc/stat and the load say this."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0), raising=False)
    monkeypatch.setattr(cores, "_read", lambda _: readings.pop(0))
    return cores.free_cores(0.0)


@pytest.mark.parametrize(
    ("worked", "free"),
    [
        ([(0, 0, 25, 0), (0, 0, 25, 0)], 2),
        ([(10, 0, 15, 0), (0, 0, 25, 0)], 2),
        ([(25, 0, 0, 0), (0, 0, 25, 0)], 1),
        ([(25, 0, 0, 0), (25, 0, 0, 0)], 1),  # never none
    ],
)
def test_free_cores(monkeypatch: pytest.MonkeyPatch, worked: list[tuple[int, int, int, int]], free: int) -> None:
    monkeypatch.setattr(time, "process_time", lambda: 0.0)
    assert free_with(monkeypatch, [BEFORE, later(*worked)]) == free


def test_what_this_process_computes_leaves_the_cores_free(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, own = iter([0.0, 0.25]), iter([0.0, 0.25])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(time, "process_time", lambda: next(own))
    assert free_with(monkeypatch, [BEFORE, later((25, 0, 0, 0), (0, 0, 25, 0))]) == 2


def test_without_counters_the_load_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    assert free_with(monkeypatch, ["", ""], load=1.2) == 1
    assert free_with(monkeypatch, ["", ""], load=0.1) == 2
    assert free_with(monkeypatch, ["", ""], load=9.0) == 1


def test_on_this_machine_some_cores_are_free() -> None:
    assert 1 <= cores.free_cores(0.01) <= available_cores()


# -------------------------------------------------------------------------------------------- how many threads compute


@pytest.mark.parametrize(
    ("said", "threads"), [("3", 3), ("4,2", 4), (" 2 ", 2), ("", None), ("0", None), ("-1", None), ("many", None)]
)
def test_omp_num_threads(said: str, threads: int | None) -> None:
    assert omp_threads({"OMP_NUM_THREADS": said}) == threads
    assert omp_threads({}) is None


@pytest.fixture
def sixteen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let 16 cores be available, 6 of them free, and torch take 8 by itself."""
    monkeypatch.setattr(threads, "available_cores", lambda: 16)
    monkeypatch.setattr(threads, "free_cores", lambda: 6)
    monkeypatch.setattr(threads, "torch_default", lambda: 8)


@pytest.mark.usefixtures("sixteen")
@pytest.mark.parametrize(
    ("said", "before", "omp", "expected", "text"),
    [
        (None, None, "", 6, ""),
        (None, None, "3", 3, ""),
        (2, None, "3", 2, ""),  # the flag
        (4, 4, "", 4, ""),  # a resumed run's own number, whatever is free
        (9, 9, "", 9, ""),
        (2, 4, "3", 2, ""),  # the flag, for a run with another number
        (
            4,
            4,
            "3",
            3,
            "OMP_NUM_THREADS=3, and this run was trained with 4 threads: its numbers may come out",
        ),
        (4, 4, "4", 4, ""),
        (20, 20, "", 16, "this run was trained with 20 threads, and 16 cores can be used here: it goes on with 16"),
    ],
)
def test_threads_that_compute(said: int | None, before: int | None, omp: str, expected: int, text: str) -> None:
    notes: list[str] = []
    assert threads.chosen(said, before, notes.append, environment={"OMP_NUM_THREADS": omp}) == expected
    assert len(notes) == bool(text)
    assert not text or text in notes[0]


@pytest.mark.usefixtures("sixteen")
def test_processes_share_the_free_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [threads.by_default(processes) for processes in (1, 2, 3, 20)] == [6, 3, 2, 1]
    monkeypatch.setattr(threads, "free_cores", lambda: 12)
    assert threads.by_default() == 8  # no more than torch takes


@pytest.mark.usefixtures("sixteen")
def test_threads_that_load() -> None:
    assert threads.for_loading(5, 2) == 5
    assert [threads.for_loading(None, computing) for computing in (1, 2, 4, 8, 16)] == [1, 1, 1, 2, 4]
    assert threads.for_loading(None, None) is None
    assert [threads.for_loading(None, None, processes) for processes in (2, 8, 40)] == [8, 2, 1]


def test_the_number_stands_in_the_runs_config_and_is_kept(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    before = torch.get_num_threads()
    try:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        monkeypatch.setattr(threads, "free_cores", lambda: 2)
        monkeypatch.setattr(threads, "available_cores", lambda: 4)
        monkeypatch.setattr(threads, "torch_default", lambda: 4)
        said = {"model": "mlp-meta", "data": prepared, "runs": tmp_path, "epochs": 1, "device": "cpu"}
        run = pipeline.train(pipeline.resolve(said), False, Console(quiet=True))
        assert read_config(run.config).run.compute_threads == torch.get_num_threads() == 2
        monkeypatch.setattr(threads, "free_cores", lambda: 1)
        torch.set_num_threads(1)
        pipeline.predict(run, Console(quiet=True), device="cpu")
        assert torch.get_num_threads() == 2
        torch.set_num_threads(1)
        pipeline.train(pipeline.resolve(said | {"epochs": 2}, resume=True), True, Console(quiet=True))
        assert read_config(run.config).run.compute_threads == torch.get_num_threads() == 2
        pipeline.train(
            pipeline.resolve(said | {"epochs": 3, "compute_threads": 3}, resume=True), True, Console(quiet=True)
        )
        assert read_config(run.config).run.compute_threads == torch.get_num_threads() == 3
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        other = pipeline.train(pipeline.resolve(said | {"name": "other"}), False, Console(quiet=True))
        assert read_config(other.config).run.compute_threads == torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
