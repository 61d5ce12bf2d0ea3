"""Imports point downwards only, and the command line starts without the heavy libraries."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import cxrkit

PACKAGE = Path(cxrkit.__file__).parent
# Bottom to top. A module may import modules of its own row and of those above it in this list, and nothing below.
LAYERS = [
    ["errors", "cores", "labels", "origin", "__init__"],
    ["files", "contracts", "registry", "config", "manifests", "provenance", "progress", "runs", "predictions", "typed"],
    [
        "codecs",
        "mapped",
        "shard_file",
        "shard_index",
        "shards",
        "splits",
        "pixels",
        "archives",
        "workers",
        "checkpoints",
    ],
    ["shard_plan", "shard_check", "shard_worker", "source_queue", "prepare_summary", "prepare_config"],
    ["datasets", "prepare", "verify", "loaders", "models", "evaluators"],
    ["compute", "inputs"],
    ["trainers", "predict", "report"],
    ["pipeline"],
    ["demo", "doctor", "bench"],
    ["cli"],
    ["__main__"],
]
LEVEL = {name: level for level, row in enumerate(LAYERS) for name in row}


def module_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Names below cxrkit that the file imports anywhere, inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "cxrkit":
            names |= {alias.name for alias in node.names if alias.name in LEVEL}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("cxrkit."):
            names.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            names |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("cxrkit.")}
    return names


def test_every_module_has_a_layer() -> None:
    assert {module_of(path) for path in PACKAGE.rglob("*.py")} <= set(LEVEL)


def test_imports_point_downwards() -> None:
    upwards = [
        f"{path.relative_to(PACKAGE)} imports {name}"
        for path in PACKAGE.rglob("*.py")
        for name in imported(path)
        if LEVEL[name] > LEVEL[module_of(path)]
    ]
    assert not upwards


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nsys.argv = ['cxrkit', '--help']\nfrom cxrkit.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'torchvision', 'nvidia', 'h5py', 'matplotlib', 'cv2', 'sklearn', 'polars', 'numpy'}\n"
        "print('LOADED', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "LOADED []" in done.stdout
