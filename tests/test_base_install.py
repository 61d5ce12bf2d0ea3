"""Without the extra `train`: everything that needs no network works, and the rest says what to install."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from conftest import REPOSITORY
from tiny_tables import small_cohort, write_raw

from cxrkit.base.contracts import PATHOLOGIES
from cxrkit.runs.config import TrainConfig, to_toml

# A process in which importing the libraries of the extra fails as it does where they are not installed.
WITHOUT = """
import sys
class Without:
    def find_spec(self, name, path=None, target=None):
        if name in ("torch", "torchvision", "sklearn"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Without())
"""
COMMANDS = """
from typer.testing import CliRunner
from cxrkit.cli.app import app
for line in open("commands.txt"):
    done = CliRunner().invoke(app, line.split())
    assert done.exit_code == 0, (line, done.output, done.exception)
"""


def python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT + code], cwd=folder, capture_output=True, text=True, timeout=120
    )


def test_tables_and_judgement_need_no_torch(tmp_path: Path) -> None:
    frame = small_cohort()
    write_raw(tmp_path / "nih", frame)
    test = frame.filter(official="test")["image_id"]
    for name in ("a", "b"):
        score_NL = np.random.default_rng(ord(name)).random((len(test), len(PATHOLOGIES)))
        pl.DataFrame(score_NL, schema=list(PATHOLOGIES)).with_columns(test).write_csv(tmp_path / f"{name}.csv")
    (tmp_path / "commands.txt").write_text(
        "prepare --raw nih --data tables --tables-only\n"
        "stats --data tables\n"
        "splits list\n"
        "literature --split official\n"
        "import a.csv --name a --raw nih\n"
        "import b.csv --name b --raw nih\n"
        "evaluate runs/a/official --data tables --evaluator auc,calibration,thresholds,subgroups\n"
        "report --official-split --apart\n"
        "report --all --out report\n"
        "compare runs/a/official runs/b/official\n"
    )
    done = python(COMMANDS, tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "report" / "index.html").is_file()


@pytest.mark.parametrize("command", ["train --model mlp-meta --data nowhere", "explain a"])
def test_what_needs_it_names_the_extra(command: str, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "a" / "official"
    run.mkdir(parents=True)
    (run / "config.toml").write_text(to_toml(TrainConfig()))
    code = f"sys.argv = ['cxrkit', *{command.split()}]\nfrom cxrkit.__main__ import main\nmain()"
    done = python(code, tmp_path)
    assert done.returncode == 2
    assert "error: this needs PyTorch, which is not installed" in done.stderr
    assert "remedy: pip install 'cxrkit[train]'" in done.stderr


def test_what_can_be_told_without_it_is(tmp_path: Path) -> None:
    """A run that is there, a fold that is not, a slip in a run's name: none waits for PyTorch, seconds of it."""
    run = tmp_path / "runs" / "mlp-meta" / "official"
    run.mkdir(parents=True)
    (run / "config.toml").write_text(to_toml(TrainConfig()))
    code = """
from typer.testing import CliRunner
from cxrkit.cli.app import app
train = "train --model mlp-meta --data nowhere --fold"
for line in (f"{train} official", f"{train} 9", "explain mlp", "export mlp --out a.onnx", "export mlp-meta --out a.b"):
    done = CliRunner().invoke(app, line.split())
    print(done.exception)
"""
    done = python(code, tmp_path)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stdout.splitlines() if not line.startswith("  remedy")]
    assert said == [
        "runs/mlp-meta/official: already holds a training of this name on this split",
        "--fold 9: there is no such fold",
        "mlp: not a run folder (no config.toml)",
        "mlp: not a run folder (no config.toml)",
        "--out a.b: not a format of a network",
    ]
    assert not list(run.glob(".*")), "the claim is let go of"


def test_so_do_the_library_and_doctor(tmp_path: Path) -> None:
    code = """
import cxrkit, cxrkit.base.errors
try:
    cxrkit.open("shards", subset="train", size=224, batch_size=8)
except cxrkit.base.errors.UserError as error:
    print(error)
from cxrkit.doctor import gpu
print(*gpu.torch())
"""
    done = python(code, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("pip install 'cxrkit[train]'") == 2
    assert "torch is not installed: nothing that needs a network works" in done.stdout


def test_extras_of_networks_bring_it() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert not {"torch", "torchvision", "scikit-learn"} & {name.split(">")[0] for name in project["dependencies"]}
    extras = project["optional-dependencies"]
    for name in ("gpu", "gpu-cuda12", "backbones", "explain", "export", "bench", "dev"):
        assert "cxrkit[train]" in extras[name]
    assert "train" in extras["all"][0]
