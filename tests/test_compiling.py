"""torch.compile where the machine can, and the same training without it where it cannot. In processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CODE = """
import torch
from cxrkit import models
from cxrkit.models import compute
torch.set_num_threads(1)
image, meta = torch.zeros(4, 1, 32, 32), torch.rand(4, 3, generator=torch.Generator().manual_seed(0))

def trained(forward):
    model = models.build("mlp-meta", seed=1)
    call = forward(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        call(image, meta).logits.square().mean().backward()
        optimizer.step()
    return model.state_dict()

notes = []
found = trained(lambda model: compute.compiled(model, "cpu", notes.append))
expected = trained(lambda model: model)
for name, value in found.items():
    torch.testing.assert_close(value, expected[name])
print("NOTES", len(notes), *notes)
"""


def run(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | environment, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def failing_compiler(folder: Path) -> str:
    """Return a compiler that is there, but does not find Python's header files."""
    path = folder / "g++"
    path.write_text(
        "#!/bin/sh\ncase \"$*\" in *--version*|*-v*) echo 'g++ (GCC) 13.2.0'; exit 0;; esac\n"
        "echo 'fatal error: Python.h: No such file or directory' >&2; exit 1\n"
    )
    path.chmod(0o755)
    return str(path)


def test_what_is_missing_is_said_and_done_without(tmp_path: Path) -> None:
    environment = {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache"), "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}
    output = run(CODE, **environment, CXX=failing_compiler(tmp_path))
    assert output.startswith("NOTES 1 torch.compile does not work here, so the computation goes on without it")
    assert "remedy: install a C++ compiler and Python's header files, or" in output


def test_a_model_that_cannot_be_compiled_is_called_as_it_is() -> None:
    """Where compiling works: what fails for this model alone is said; what the model does wrong is its own error."""
    code = """
import torch
from cxrkit.base.compiling import compiled, why_not

def fail(graph):
    raise RuntimeError("not this graph")

def broken(x):
    raise KeyError("of the model")

assert why_not("cpu") is None
torch._inductor.config.pre_grad_custom_pass = fail
notes = []
call = compiled(lambda x: x.sin() + 1, "cpu", notes.append)
print([call(torch.zeros(2)).tolist() for _ in range(2)], len(notes), "not this graph" in notes[0])
try:
    compiled(broken, "cpu", notes.append)(torch.ones(2))
except KeyError as error:
    print(error)
"""
    assert run(code) == "[[1.0, 1.0], [1.0, 1.0]] 1 True\n'of the model'\n"


def unwritable(folder: Path) -> str:
    """Return a folder that even root cannot make: below a file."""
    (folder / "file").touch()
    return str(folder / "file" / "cache")


def test_another_folder_is_used_where_pytorchs_cannot_be_written(tmp_path: Path) -> None:
    """And compiling works there: it is the only note."""
    output = run(CODE, TORCHINDUCTOR_CACHE_DIR=unwritable(tmp_path), TMPDIR=str(tmp_path))
    assert output.startswith(f"NOTES 1 {tmp_path}/file/cache, where PyTorch keeps what it compiles, cannot be written")
    assert not list(tmp_path.glob("cxrkit-compiled-*")), "it is removed at the end"


def test_without_compiling_too(prepared: Path, tmp_path: Path) -> None:
    """PyTorch makes its folder with the first optimizer."""
    command = ["train", "--model", "mlp-meta", "--data", str(prepared), "--runs", str(tmp_path), "--epochs", "1"]
    environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": unwritable(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "cxrkit", *command, "--no-compile"], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_training_without_a_compiler_is_one_without_compile(prepared: Path, tmp_path: Path) -> None:
    """The same losses to the last digit, and the note where the epochs are printed."""
    metrics = {}
    for flag in ("--compile", "--no-compile"):
        runs = tmp_path / flag.strip("-")
        command = ["train", "--model", "mlp-meta", "--data", str(prepared), "--runs", str(runs), "--epochs", "1"]
        command += ["--precision", "fp32", "--threads", "1", "--log-steps", "1", flag]
        done = subprocess.run(
            [sys.executable, "-m", "cxrkit", *command],
            capture_output=True,
            text=True,
            env=os.environ | {"CXX": str(tmp_path / "none"), "OMP_NUM_THREADS": "1", "COLUMNS": "400"},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert ("torch.compile does not work here" in done.stdout + done.stderr) == (flag == "--compile")
        (path,) = runs.rglob("metrics.jsonl")
        metrics[flag] = [line.partition("images_per_second")[0] for line in path.read_text().splitlines()]
    assert metrics["--compile"] == metrics["--no-compile"]


def test_the_kernel_of_the_resident_loader_does_without_it_too(prepared: Path, tmp_path: Path) -> None:
    code = f"""
import numpy as np, torch
from pathlib import Path
from cxrkit.loaders import targets
from cxrkit.loaders.plan import Plan
from cxrkit.loaders.resident import ResidentLoader
from cxrkit.shards.store import ShardStore
store = ShardStore(Path({str(prepared)!r}))
plan = Plan(np.arange(8), True, 0, 4, 112, 128, store.levels, 1024)
tables = np.zeros((len(store), 15), np.float32), np.zeros((len(store), 3), np.float32)
made = [
    [batch.image.clone() for batch in ResidentLoader(store, plan, *tables, device="cpu", compile=flag).epoch(0)]
    for flag in (True, False)
]
print(all(torch.equal(one, other) for one, other in zip(*made, strict=True)))
"""
    assert run(code, CXX=str(tmp_path / "none")) == "True\n"
