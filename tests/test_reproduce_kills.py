"""`cxrkit reproduce` as processes: a run is killed, the planner is killed or interrupted, and started again."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from reproduce_parts import write_study

from cxrkit.prepare.stage import PrepareConfig, prepare_raw
from cxrkit.runs.folder import RunFolder

LONG_SECONDS = 120.0  # for what must happen at last, on however busy a machine


@pytest.fixture(scope="module")
def tables(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("tables") / "tables"
    prepare_raw(PrepareConfig(raw=cohort, data=data, dataset="synthetic", tables_only=True))
    return data


@pytest.fixture
def children() -> Iterator[list[subprocess.Popen[str]]]:
    """Collect planners; whatever happens, none outlives the test."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def planner(study: Path, data: Path, runs: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "cxrkit", "reproduce", str(study), "--data", str(data), "--runs", str(runs), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(happened: Callable[[], bool]) -> None:
    until = time.monotonic() + LONG_SECONDS
    while not happened():
        assert time.monotonic() < until, "it has not happened"
        time.sleep(0.02)


def epochs(run: RunFolder) -> int:
    return run.metrics.read_text().count('"kind": "epoch"') if run.metrics.exists() else 0


def owner(run: RunFolder) -> int:
    """Return the process that works in the run."""
    return int(json.loads((run.path / ".lock").read_text())["pid"])


def starts(runs: Path) -> dict[str, int]:
    """Return how often each run was started, by its log."""
    return {
        log.stem: len(re.findall(r"^--- ", log.read_text(), re.MULTILINE)) for log in runs.glob(".reproduce/*/*.log")
    }


# A checkpoint every step, and so many epochs that a kill comes in the middle of them.
SLOW = {"schedule__epochs": "30", "run__checkpoint_minutes": "0"}


def test_a_run_is_killed_and_the_next_command_goes_on(
    tables: Path, tmp_path: Path, children: list[subprocess.Popen[str]]
) -> None:
    study = write_study(tmp_path / "s.toml", 'recipes = ["mlp-meta"]', "seeds = [0, 1]", **SLOW)
    runs = tmp_path / "runs"
    killed, other = (RunFolder.of(runs, "mlp-meta", "official", seed) for seed in (0, 1))
    children.append(planner(study, tables, runs, "--jobs", "2"))
    wait_for(lambda: epochs(killed) >= 2)
    os.kill(owner(killed), signal.SIGKILL)
    said, _ = children[0].communicate(timeout=LONG_SECONDS)
    assert children[0].returncode == 1
    assert other.state() == "scored", "the other one goes on"
    assert killed.state() == "training"
    assert "failed: mlp-meta/official: was killed; perhaps the machine ran out of memory" in said
    children.append(planner(study, tables, runs))
    said, _ = children[1].communicate(timeout=LONG_SECONDS)
    assert children[1].returncode == 0, said
    provenance = json.loads(killed.provenance.read_text())
    assert len(provenance["resumed"]) == 1, "it went on, and did not begin again"
    assert starts(runs) == {"mlp-meta--official": 2, "mlp-meta--official-seed-1": 1}


def test_the_planner_is_killed_twice_and_its_runs_are_waited_for(
    tables: Path, tmp_path: Path, children: list[subprocess.Popen[str]]
) -> None:
    study = write_study(tmp_path / "s.toml", 'recipes = ["mlp-meta"]', "seeds = [0, 1]", **SLOW)
    runs = tmp_path / "runs"
    one, two = (RunFolder.of(runs, "mlp-meta", "official", seed) for seed in (0, 1))
    children.append(planner(study, tables, runs))
    wait_for(lambda: epochs(one) >= 1)
    children[0].kill()
    children.append(planner(study, tables, runs))
    wait_for(two.config.exists)
    children[1].kill()
    children.append(planner(study, tables, runs))
    said, _ = children[2].communicate(timeout=LONG_SECONDS)
    assert children[2].returncode == 0, said
    assert (one.state(), two.state()) == ("scored", "scored")
    assert starts(runs) == {"mlp-meta--official": 1, "mlp-meta--official-seed-1": 1}, "nothing is done twice"
    assert all("resumed" not in json.loads(run.provenance.read_text()) for run in (one, two))


def test_an_interrupted_planner_ends_its_runs_and_says_how_to_go_on(
    tables: Path, tmp_path: Path, children: list[subprocess.Popen[str]]
) -> None:
    study = write_study(tmp_path / "s.toml", 'recipes = ["mlp-meta"]', **SLOW)
    run = RunFolder.of(tmp_path / "runs", "mlp-meta", "official")
    children.append(planner(study, tables, tmp_path / "runs"))
    wait_for(lambda: epochs(run) >= 1)
    children[0].send_signal(signal.SIGTERM)
    said, _ = children[0].communicate(timeout=LONG_SECONDS)
    assert children[0].returncode == 130
    assert "keep their last checkpoint; `cxrkit reproduce" in said
    assert not (run.path / ".lock").exists(), "the training has let go of its run"
    assert "the training was interrupted; go on with --resume" in "".join(
        log.read_text() for log in (tmp_path / "runs").glob(".reproduce/*/*.log")
    )
