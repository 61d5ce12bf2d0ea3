"""The engines of `cxrkit reproduce`: Slurm by submitit's local executor, Ray as a cluster of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from conftest import REPOSITORY
from reproduce_parts import write_study

from cxrkit.base.contracts import Job, Share
from cxrkit.base.errors import UserError
from cxrkit.prepare.stage import PrepareConfig, prepare_raw
from cxrkit.reproduce import local, process
from cxrkit.runs.folder import RunFolder

TIMEOUT_SECONDS = 240


@pytest.fixture(scope="module")
def tables(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("tables") / "tables"
    prepare_raw(PrepareConfig(raw=cohort, data=data, dataset="synthetic", tables_only=True))
    return data


def reproduce(study: Path, data: Path, runs: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Start the command as a user does, in a process that has submitit for itself: it warns of this and that."""
    command = [sys.executable, "-m", "cxrkit", "reproduce", str(study), "--data", str(data), "--runs", str(runs), *more]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(REPOSITORY), str(REPOSITORY / "tests")))}
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=TIMEOUT_SECONDS, env=environment
    )


def job(folder: Path, code: str, name: str = "job") -> Job:
    """A job that runs some Python."""
    return Job(name, (sys.executable, "-c", textwrap.dedent(code)), folder, folder / "logs" / f"{name}.log")


def everything(executor: local.LocalExecutor, count: int) -> dict[str, int]:
    ends: dict[str, int] = {}
    while len(ends) < count:
        ends |= {end.name: end.code for end in executor.ended()}
    return ends


# Local


@pytest.mark.parametrize(("said", "threads"), [(None, 4), ("1", 1), ("6", 4)])
def test_cores_are_shared_out_and_the_log_says_so(
    said: str | None, threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", said) if said else monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(process, "free_cores", lambda: 8)
    executor = local.LocalExecutor(Share(jobs=2))
    assert executor.places == 2
    assert process.computing_threads(2) == threads
    shown = "import os, sys; print(os.environ['OMP_NUM_THREADS'], sys.argv[1:])"
    executor.submit(job(tmp_path, shown))
    executor.submit(job(tmp_path, "raise SystemExit(7)", "other"))
    assert everything(executor, 2) == {"job": 0, "other": 7}
    assert process.last_lines(tmp_path / "logs" / "job.log") == [f"{threads} []"]
    (first, *_) = (tmp_path / "logs" / "job.log").read_text().splitlines()
    assert first.startswith("--- 2")
    assert sys.executable in first


@pytest.mark.parametrize(
    ("gpus", "share", "places"),
    [
        ("0,1", Share(), ["0", "1"]),
        ("0,1", Share(per_gpu=2), ["0", "1", "0", "1"]),
        ("0,1", Share(per_gpu=2, jobs=3), ["0", "1", "0"]),
        ("3", Share(jobs=5), ["3"]),
        ("", Share(per_gpu=2, jobs=3), ["", "", ""]),
        ("", Share(), [""]),
    ],
)
def test_every_job_has_its_gpu(
    gpus: str, share: Share, places: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)
    monkeypatch.setattr(local, "available_cores", lambda: 8)
    executor = local.LocalExecutor(share)
    assert executor.places == len(places)
    for number in range(len(places)):
        wanted = job(
            tmp_path, "import os, sys; print('GPU', os.environ['CUDA_VISIBLE_DEVICES'], *sys.argv[1:])", f"job-{number}"
        )
        executor.submit(Job(wanted.name, wanted.command, wanted.folder, wanted.log, gpu=True))
    everything(executor, len(places))
    logs = [process.last_lines(tmp_path / "logs" / f"job-{number}.log") for number in range(len(places))]
    loading = f" --threads {max(1, 8 // len(places))}" if gpus else ""
    assert logs == [[f"GPU {place}{loading}".strip()] for place in places]


def test_what_cannot_be_started_has_ended(tmp_path: Path) -> None:
    executor = local.LocalExecutor(Share())
    executor.submit(Job("job", (str(tmp_path / "no program"),), tmp_path, tmp_path / "job.log"))
    (end,) = executor.ended()
    assert end.code == 1
    assert "could not be started: [Errno 2]" in end.reason
    executor.submit(job(tmp_path, "pass"))
    assert everything(executor, 1) == {"job": 0}, "its place is free again"


def test_closing_ends_whatever_will_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "PATIENCE_SECONDS", 0.1)
    stubborn = """
        import signal, time
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        print("ready", flush=True)
        time.sleep(600)
    """
    executor = local.LocalExecutor(Share())
    executor.submit(job(tmp_path, stubborn))
    while process.last_lines(tmp_path / "logs" / "job.log") != ["ready"]:
        assert not list(executor.ended())
    ((child, _),) = executor._running.values()
    executor.close()
    assert child.returncode == -signal.SIGTERM


# Others


def test_ones_own_executor(tables: Path, tmp_path: Path) -> None:
    study = write_study(tmp_path / "s.toml", 'recipes = ["mlp-meta"]')
    engine = ("--engine", "examples.serial_executor:SerialExecutor", "--engine-set", "nice=1")
    done = reproduce(study, tables, tmp_path / "runs", *engine)
    assert done.returncode == 0, done.stdout + done.stderr
    assert RunFolder(tmp_path / "runs" / "mlp-meta" / "official").state() == "scored"


def test_slurm(tables: Path, tmp_path: Path) -> None:
    pytest.importorskip("submitit", reason="submitit is not installed (pip install 'cxrkit[slurm]')")
    study = write_study(
        tmp_path / "s.toml",
        'recipes = ["mlp-meta"]',
        *("[[runs]]", 'recipe = "mlp-meta"', 'name = "bad"', 'settings = {loss.name = "reproduce_parts:broken_loss"}'),
    )
    engine = ("--engine", "slurm", "--engine-set", "cluster=local", "--engine-set", "gpus=0")
    done = reproduce(study, tables, tmp_path / "runs", *engine)
    assert done.returncode == 1, done.stdout + done.stderr
    assert RunFolder(tmp_path / "runs" / "mlp-meta" / "official").state() == "scored"
    assert "failed: bad/official: ended with exit status 2\n" in done.stdout
    assert "error: the loss is broken" in done.stdout
    assert "mlp-meta/official: done" in done.stdout


def test_slurm_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit", reason="submitit is not installed (pip install 'cxrkit[slurm]')")
    from cxrkit.reproduce.on_slurm import SlurmExecutor

    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"--engine slurm: .*srun.*\n  remedy: start it on a machine that has sbatch"):
        SlurmExecutor(Share(folder=tmp_path))
    with pytest.raises(UserError, match="--per-gpu 2: Slurm gives each job GPUs of its own"):
        SlurmExecutor(Share(folder=tmp_path, per_gpu=2))


def test_a_machine_of_a_ray_cluster_goes_away(tables: Path, tmp_path: Path) -> None:
    """Its run goes on, on the other one, from the last checkpoint."""
    pytest.importorskip("ray", reason="Ray is not installed (pip install 'cxrkit[ray]')")
    study = write_study(
        tmp_path / "s.toml", 'recipes = ["mlp-meta"]', schedule__epochs="40", run__checkpoint_minutes="0"
    )
    script = Path(__file__).with_name("ray_cluster_loses_a_node.py")
    command = [sys.executable, str(script), str(study), str(tables), str(tmp_path / "runs")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(REPOSITORY), str(REPOSITORY / "tests")))}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=TIMEOUT_SECONDS, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    run = RunFolder(tmp_path / "runs" / "mlp-meta" / "official")
    assert run.state() == "scored"
    assert len(json.loads(run.provenance.read_text())["resumed"]) == 1
    assert "{'mlp-meta/official': 'done'} {}" in done.stdout
