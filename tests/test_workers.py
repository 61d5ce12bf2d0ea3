from __future__ import annotations

import io
import os
import signal
from contextlib import closing
from pathlib import Path

import pytest
from rich.console import Console

from cxrkit.base.cores import available_cores
from cxrkit.base.errors import UserError
from cxrkit.base.progress import duration, progress_bar
from cxrkit.base.workers import Worker, Workers


@pytest.fixture(autouse=True)
def tasks_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


def answers(target: str, tasks: list[object], count: int = 1) -> list[object]:
    pending = iter(tasks)
    with Workers(count, f"worker_tasks:{target}") as pool, closing(pool.run(lambda _: next(pending, None))) as results:
        return list(results)


def test_the_buffer_is_the_same_memory_on_both_sides() -> None:
    texts = [b"first", b"the second", b"3"]

    def take(worker: Worker) -> int | None:
        return os.pwrite(worker.buffer, texts.pop(0), 0) if texts else None

    with Workers(1, "worker_tasks:read") as pool:
        assert list(pool.run(take, bytes.upper)) == [b"FIRST", b"THE SECOND", b"3"]


def test_a_users_mistake_stays_one() -> None:
    with pytest.raises(UserError, match="the user's mistake\n  remedy: mend it") as caught:
        answers("fail", ["user"])
    assert caught.value.remedy == "mend it"


def test_our_own_mistake_comes_with_the_workers_traceback() -> None:
    with pytest.raises(RuntimeError, match=r"in a worker process:\nTraceback(.|\n)*ZeroDivisionError: ours"):
        answers("fail", ["bug"], count=2)


def test_a_worker_that_dies_is_reported_and_is_not_waited_for() -> None:
    with pytest.raises(RuntimeError, match=r"a worker process \(pid \d+\) ended by signal SIGABRT before it answered"):
        answers("fail", ["abort"])


def test_what_is_under_way_is_finished_before_an_error_is_raised() -> None:
    finished: list[bytes] = []

    def take(worker: Worker) -> int:
        if finished_tasks:
            raise UserError("no more to be had")
        finished_tasks.append(1)
        return os.pwrite(worker.buffer, b"kept", 0)

    finished_tasks: list[int] = []
    with Workers(1, "worker_tasks:read") as pool, pytest.raises(UserError, match="no more to be had"):
        list(pool.run(take, finished.append))
    assert finished == [b"kept"]


def test_a_worker_is_started_for_its_first_task_and_ended_at_once_without_one() -> None:
    with Workers(2, "worker_tasks:read", at_once=False) as pool:
        assert [worker.process_id for worker in pool._workers] == [None, None]
        assert list(pool.run(lambda _: None)) == []
        assert [worker.process_id for worker in pool._workers] == [None, None]
        left = [0]
        assert list(pool.run(lambda _: left.pop() if left else None)) == [b""]
        assert sum(worker.process_id is not None for worker in pool._workers) == 1
        pool.start()
        assert all(worker.process_id is not None for worker in pool._workers)
    with Workers(1, "worker_tasks:read") as pool:
        process = pool._workers[0]._process
    assert process is not None
    assert process.returncode == -signal.SIGKILL  # it was loading still, and was not waited for


def test_cores_follow_the_containers_quota(tmp_path: Path) -> None:
    everything = available_cores(tmp_path)
    assert everything >= 1
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert available_cores(tmp_path) == everything
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert available_cores(tmp_path) == 1


def test_a_terminal_gets_a_live_bar() -> None:
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    with progress_bar("prepare", 20, console=console) as bar:
        bar.advance(8)
        bar.advance(12)
    shown = console.file.getvalue()
    assert "prepare" in shown
    assert "20/20" in shown
    assert "images/s" in shown


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 s"), (99, "99 s"), (100, "2 min"), (5940, "99 min"), (12_000, "3 h 20 min"), (1_080_000, "12.5 days"),
        (1.728e8, "2,000.0 days"),
    ],
)  # fmt: skip
def test_durations_read_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text
