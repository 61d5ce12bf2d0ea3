"""The command line as a user meets it: exit codes, messages, and that nothing is half-written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import cxrkit
from cxrkit import cli

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "120"}


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cxrkit", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=240)


def test_version_and_help() -> None:
    assert run("--version").stdout == f"cxrkit {cxrkit.__version__}\n"
    done = run("--help")
    assert done.returncode == 0
    for command in ("prepare", "verify", "train", "predict", "evaluate", "report", "models", "synth", "demo", "doctor"):
        assert f" {command} " in done.stdout


def test_every_setting_is_a_flag() -> None:
    from cxrkit.runs.config import settings

    shown = re.findall(r"--[\w-]+", run("train", "--help").stdout)
    missing = [item.flag for item in settings() if item.is_flag and item.flag not in shown]
    assert not missing
    assert {"--recipe", "--set", "--resume", "--name"} <= set(shown)
    assert "--lr-factor" in shown  # and so --lr must be found as a word of its own


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["train", "--model", "resnet50-lage-meta"], "unknown model 'resnet50-lage-meta'\n  remedy: did you mean resnet50-large"),
        (["train", "--fold", "7"], "--fold 7: there is no such fold\n  remedy: choose 1 to 5"),
        (["train", "--model", "mlp-meta", "--data", "nowhere"], "dataset.json: the description of a prepared folder is miss"),
        (["train", "--epochs", "0"], "--epochs 0: out of range"),
        (["train", "--device", "tpu"], "--device tpu: unknown"),
        (["train", "--loader", "opencvv", "--data", "{prepared}", "--model", "mlp-meta"], "unknown loader 'opencvv'"),
        (["train", "--trainer", "no.such:thing", "--data", "{prepared}", "--model", "mlp-meta"], "there is no module 'no.such'"),
        (["train", "--config", "nowhere.toml"], "nowhere.toml: there is no such file"),
        (["prepare", "--raw", "nowhere"], "nowhere"),
        (["prepare", "--raw", "{cohort}"], "a synthetic cohort (SYNTHETIC.json), not ChestX-ray14\n  remedy: add --dataset syn"),
        (["prepare", "--raw", "{cohort}", "--dataset", "nih"], "unknown dataset 'nih'\n  remedy: did you mean nih-chestxray14"),
        (["prepare", "--raw", "{cohort}", "--dataset", "synthetic", "--codec", "gif"], "unknown codec 'gif'"),
        (["prepare", "--raw", "{cohort}", "--dataset", "synthetic", "--levels", "256,512"], "--levels 256,512"),
        (["verify", "--data", "nowhere"], "nowhere"),
        (["predict", "nowhere"], "not a run folder (no config.toml)"),
        (["report", "--runs", "nowhere"], "nowhere"),
        (["synth", "{cohort}/images", "--images", "40"], "images"),
        (["synth", "few", "--images", "3"], "needs at least 20"),
    ],
)  # fmt: skip
def test_mistakes(arguments: list[str], text: str, prepared: Path, cohort: Path, tmp_path: Path) -> None:
    """Exit code 2, one message with its remedy, no traceback, and nothing written."""
    filled = [item.format(prepared=prepared, cohort=cohort) for item in arguments]
    command = [sys.executable, "-m", "cxrkit", *filled]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, cwd=tmp_path, timeout=240)
    assert done.returncode == 2, done.stderr
    assert text in done.stderr
    assert "remedy:" in done.stderr
    assert "Traceback" not in done.stderr
    leftovers = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert not [name for name in leftovers if name.endswith((".part", ".h5", ".safetensors", ".json"))]


def test_debug_shows_the_traceback() -> None:
    done = run("train", "--fold", "7", "--debug")
    assert "Traceback" in done.stderr
    assert "there is no such fold" in done.stderr


def test_own_model_and_loader_without_registering(prepared: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "from cxrkit.base.contracts import Outputs\n"
        "from cxrkit.models import ModelSpec\n"
        "from cxrkit.loaders.opencv import OpenCVLoader as Loader\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.dense = torch.nn.Linear(3, 15)\n"
        "        self.spec = ModelSpec(name='mine', input_size=32, resize=32, learning_rate=0.1, batch_size=8)\n"
        "    def forward(self, image, meta):\n"
        "        return Outputs(self.dense(meta) + image.mean())\n"
        "def net():\n"
        "    return Net()\n"
    )
    command = [
        sys.executable,
        "-m",
        "cxrkit",
        "train",
        "--model",
        "mine:net",
        "--loader",
        "mine:Loader",
        "--epochs",
        "1",
    ]
    command += ["--data", str(prepared), "--runs", str(tmp_path / "runs"), "--fold", "2", "--limit", "16"]
    path = os.pathsep.join([str(tmp_path), *filter(None, [ENVIRONMENT.get("PYTHONPATH")])])
    environment = ENVIRONMENT | {"PYTHONPATH": path}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=240)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "mine.net" / "resample-2" / "scores.json").is_file()


def test_the_three_commands(cohort: Path, tmp_path: Path) -> None:
    """Raw download to table: prepare, train, report."""
    data, runs = tmp_path / "shards", tmp_path / "runs"
    done = run(
        "prepare", "--raw", cohort, "--data", data, "--dataset", "synthetic", "--levels", "256,128", "--workers", 1
    )
    assert done.returncode == 0, done.stderr
    assert "80 images" in done.stdout
    done = run(
        "train", "--model", "resnet14-small-meta", "--data", data, "--runs", runs, "--epochs", 1, "--input-size", 32
    )
    assert done.returncode == 0, done.stderr
    out = tmp_path / "table5.md"
    done = run("report", "--official-split", "--runs", runs, "--out", out)
    assert done.returncode == 0, done.stderr
    assert "synthetic images" in out.read_text()
    assert "0.806" in done.stdout  # the paper's ResNet-38 stands beside it
    assert run("verify", "--data", data).returncode == 0


PLUG_INS = """
import torch
from cxrkit.base.contracts import Outputs
from cxrkit.models import ModelSpec

class Net(torch.nn.Module):
    def __init__(self, labels, fault, learns=True):
        super().__init__()
        self.fault, self.dense = fault, torch.nn.Linear(3, len(labels)).requires_grad_(learns)
        self.spec = ModelSpec(name="mine", input_size=32, resize=32, learning_rate=0.1, batch_size=8)

    def forward(self, image, meta):
        if self.fault == "forward":
            raise RuntimeError("my own fault")
        if self.fault == "library":
            return Outputs(torch.cat([meta, meta[:1]], dim=1))
        logits = self.dense(meta)
        return Outputs(logits.detach() if self.fault == "detached" else logits)

def whole(labels): return Net(labels, "")
def forward(labels): return Net(labels, "forward")
def library(labels): return Net(labels, "library")
def detached(labels): return Net(labels, "detached")
def frozen(labels): return Net(labels, "", learns=False)
def build(labels): raise RuntimeError("my own fault")
def loss(labels):
    def failing(outputs, batch): raise KeyError("my own fault")
    return failing
def trainer(task): raise OSError("my own fault")
def idle(task): pass
def two(task, more): pass
number = 3
"""


@pytest.mark.parametrize(
    ("flag", "name", "message"),
    [
        ("--model", "mine:build", "plug-in mine failed: RuntimeError: my own fault"),
        ("--model", "mine:forward", "plug-in mine failed: RuntimeError: my own fault"),
        ("--model", "mine:library", "plug-in mine failed: RuntimeError: Sizes of tensors must match"),
        ("--model", "mine:detached", "loss 'bce-mean' of model 'mine:detached': has no gradient"),
        ("--model", "mine:frozen", "model 'mine:frozen': none of its parameters requires a gradient"),
        ("--model", "broken:build", "broken.py failed: SyntaxError"),
        ("--model", "needy:build", "plug-in needy failed: ModuleNotFoundError: No module named 'absent_package'"),
        ("--loss", "mine:loss", "plug-in mine failed: KeyError: 'my own fault'"),
        ("--trainer", "mine:trainer", "plug-in mine failed: OSError: my own fault"),
        ("--trainer", "mine:idle", "best.safetensors: trainer 'mine:idle' has left no checkpoint there"),
        ("--trainer", "mine:two", "trainer 'mine:two': cannot be called as (task): missing a required argument"),
        ("--trainer", "mine:number", "trainer 'mine:number': cannot be called as (task): 3 is not a callable"),
        ("--loader", "mine:number", "loader 'mine:number': cannot be called as (store, plan, "),
    ],
)
def test_what_fails_in_a_plug_in_is_told_as_its_own(
    flag: str, name: str, message: str, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (tmp_path / "mine.py").write_text(PLUG_INS)
    (tmp_path / "broken.py").write_text("def build(:")
    (tmp_path / "needy.py").write_text("import absent_package")
    monkeypatch.syspath_prepend(str(tmp_path))
    for module in ("mine", "broken", "needy"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    said = {"--model": "mine:whole", "--data": prepared, "--runs": tmp_path / "runs", "--limit": 8, "--threads": 1}
    said |= {"--epochs": 1, "--device": "cpu", flag: name}
    arguments = [str(word) for pair in said.items() for word in pair]
    monkeypatch.setattr(sys, "argv", ["cxrkit", "train", *arguments])
    with pytest.raises(SystemExit) as exit:
        cli.main()
    shown = capsys.readouterr().err
    assert exit.value.code == 2
    assert message in shown
    assert "remedy: " in shown


def test_what_stands_between_colons_is_printed_as_it_is(tmp_path: Path) -> None:
    done = run("predict", tmp_path / "a:b:c")
    assert done.returncode == 2
    assert "a:b:c: not a run folder" in done.stderr


# Ctrl-C at awkward moments: while Python loads the command line, reads the arguments, or makes a class.
WHILE_LOADING = "import sys; sys.path.insert(0, sys.argv.pop(1)); from cxrkit.__main__ import main; main()"
WHILE_PARSING = """
from typer.core import TyperGroup
def interrupt(*_): raise KeyboardInterrupt
TyperGroup.parse_args = interrupt
from cxrkit.__main__ import main
main()
"""
INSIDE_A_CLASS = """
def read(raw, *, allow_missing=False):
    class Field:
        def __set_name__(self, *_):
            raise KeyboardInterrupt  # Python 3.11 turns it into a RuntimeError
    class Table:
        field = Field()
"""


def interrupted(*arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, env=ENVIRONMENT, timeout=60
    )
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
    assert "internal error" not in done.stderr
    return done.stderr


def test_ctrl_c_is_heard_from_the_first_moment(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt")
    assert interrupted("-c", WHILE_LOADING, tmp_path) == "interrupted: nothing was begun\n"
    assert interrupted("-c", WHILE_PARSING).startswith("interrupted: ")


def test_ctrl_c_that_became_another_error_is_no_bug(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(INSIDE_A_CLASS)
    (tmp_path / "raw").mkdir()
    command = ["prepare", "--raw", tmp_path / "raw", "--data", tmp_path / "data", "--dataset", "mine:read"]
    script = "import sys; sys.path.insert(0, sys.argv.pop(1)); from cxrkit.cli import main; main()"
    assert "shards that are finished are kept" in interrupted("-c", script, tmp_path, *command)


def test_what_a_path_holds_moves_no_cursor(tmp_path: Path, cohort: Path) -> None:
    data = tmp_path / "\x1b[31mred"
    done = run("prepare", "--raw", cohort, "--data", data, "--dataset", "synthetic", "--levels", 64, "--limit", 8)
    assert f"\n8 images in 1 shard in {tmp_path}/\\x1b[31mred\n" in done.stdout


def test_the_help_of_train_is_in_groups_and_fits_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    from cxrkit.cli import help
    from cxrkit.cli.app import app

    command: Any = get_command(app)
    context = command.make_context("cxrkit", ["train"])
    train = command.commands["train"]
    lines = [line.plain for text in help.page(train, context, 80) for line in text.split()]
    assert max(map(len, lines)) < 80
    assert len(lines) < 130
    titles = [line for line in lines if line and line[0].isalpha() and " " not in line]
    assert titles == ["Model", "Data", "Protocol", "Augmentation", "Machine", "Output", "Options"]
    assert "  --epochs N              Passes over the training images. [30]" in lines
    assert "  --precision TEXT        fp32, bf16, fp16, tf32, or auto: bf16 where the" in lines
    assert "  --compile, --no-compile" in lines  # longer than its column: on a line of its own
    assert not any("False" in line for line in lines)


def test_every_command_stands_under_a_title() -> None:
    from cxrkit.cli import help
    from cxrkit.cli.app import app

    command: Any = get_command(app)
    context = command.make_context("cxrkit", ["models"])
    lines = [line.plain for text in help.group_page(command, context, 80, command.titles) for line in text.split()]
    assert "Other" not in lines
    assert max(map(len, lines)) < 80
    assert all(any(line.startswith(f"  {name} ") for line in lines) for name in command.commands)


def test_every_command_says_help_for_h(capsys: pytest.CaptureFixture[str]) -> None:
    from cxrkit.cli.app import app

    command: Any = get_command(app)
    context = command.make_context("cxrkit", ["models"])
    for name, one in command.commands.items():
        with pytest.raises(Exception) as ended:  # noqa: PT011 - click's Exit, of whichever click typer brings
            one.make_context(name, ["-h"], parent=context)
        assert type(ended.value).__name__ == "Exit"
        assert "Usage:" in capsys.readouterr().out
