"""examples/plugin, installed into an environment of its own: from its data set to a report with its metric."""

from __future__ import annotations

import csv
import importlib.metadata
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from conftest import REPOSITORY
from test_loaders import write_folder
from tiny_cohort import write_images

PACKAGE = REPOSITORY / "examples" / "plugin"
# What pip writes for the entry point of pyproject.toml; the current folder is not on its path.
SCRIPT = "import sys\nfrom cxrkit.__main__ import main\nif __name__ == '__main__':\n    sys.exit(main())\n"


def words(text: str) -> list[str]:
    return text.split()


def run(command: list[str], folder: Path, *, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY), "COLUMNS": "80"} | environment
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=300)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def fresh_environment(folder: Path) -> Path:
    """Return the Python of a new environment that finds what is installed here: torch is not downloaded again."""
    pip = [] if not list(importlib.metadata.distributions(name="pip")) else ["--without-pip"]
    subprocess.run([sys.executable, "-m", "venv", *pip, str(folder)], check=True)
    python = folder / "bin" / "python"
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "parent.pth").write_text(
        "\n".join(dict.fromkeys(sysconfig.get_paths()[key] for key in ("purelib", "platlib")))
    )
    # This environment may itself look into another one.
    more = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    (site / "others.pth").write_text("\n".join(more))
    return python


def test_the_package_is_installed_and_trains(tmp_path: Path) -> None:
    python = str(fresh_environment(tmp_path / "env"))
    source = tmp_path / "source"  # a build leaves nothing in the repository
    subprocess.run(["cp", "-r", str(PACKAGE), str(source)], check=True)
    offline = ["--no-index", "--no-build-isolation", "--no-deps", "--no-cache-dir", "--disable-pip-version-check"]
    run([python, "-m", "pip", "install", "--quiet", *offline, str(source)], tmp_path)

    run([python, "-m", "cxrkit_shapes.toy", "raw"], tmp_path)
    cxrkit = [python, "-m", "cxrkit"]
    done = run([*cxrkit, "prepare", *words("--dataset shapes --raw raw --data shards --resized --workers 1")], tmp_path)
    assert "96 images" in done.stdout
    parts = "--model shapes-net --loss shapes-smooth-bce --trainer shapes-cosine --evaluator auc,shapes-brier"
    options = "--set model.options.width=8 --set loss.options.smoothing=0.1"
    command = [*cxrkit, "train", *words(f"--data shards --fold 1 --epochs 2 --device cpu {parts} {options}")]
    assert "epoch   2/2  val loss" in run(command, tmp_path).stdout

    from cxrkit.base import labels as label_sets
    from cxrkit.base.typed import read_typed
    from cxrkit.runs.scores import Scores

    path = tmp_path / "runs" / "shapes-net" / "resample-1" / "scores.json"
    scores: Scores = read_typed(Scores, path, "the scores", "")
    assert scores.origin.label_set == "cxrkit_shapes.dataset:SHAPES" not in label_sets.LABEL_SETS
    assert scores.evaluator == "auc,shapes-brier"
    test = scores.subsets["test"]
    assert test.names == ("auc", "brier")
    found = {metric.label: metric for metric in test.metrics if metric.name == "brier"}
    assert list(found) == ["Disc", "Bar", "Empty", None]
    disc = found["Disc"]
    assert disc.value is not None
    assert disc.lower is not None
    assert disc.upper is not None
    assert 0 < disc.lower < disc.value < disc.upper < 1

    shown = run([*cxrkit, "report", "--out", "table.csv"], tmp_path).stdout
    assert "Brier on the test set" in shown
    assert f"{disc.value:.3f} [{disc.lower:.3f}, {disc.upper:.3f}]" in shown
    assert "By shapes-brier, not by cxrkit" in shown
    rows = list(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))
    (row,) = [row for row in rows if (row["label"], row["metric"]) == ("Disc", "brier")]
    assert float(row["value"]) == pytest.approx(disc.value, rel=1e-5)


def test_every_part_of_the_package_is_listed_once() -> None:
    """The README's names are the entry points'."""
    import tomllib

    points = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]["entry-points"]
    readme = (PACKAGE / "README.md").read_text()
    for names in points.values():
        for name, target in names.items():
            assert name in readme
            module = target.partition(":")[0].replace(".", "/")
            assert (PACKAGE / "src" / f"{module}.py").is_file()
    assert len(points) == 5


# The current folder

NET = """
import torch
from cxrkit.base.contracts import Outputs
from cxrkit.models import ModelSpec
from cxrkit.losses.cross_entropy import bce_sum as loss
from cxrkit.loaders.opencv import OpenCVLoader as Loader
from cxrkit.trainers.supervised import train
from cxrkit.evaluators.auc import evaluate

class Net(torch.nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.spec = ModelSpec(name="mine", input_size=32, resize=36, learning_rate=0.01, batch_size=4)
        self.dense = torch.nn.Linear(3, outputs)
    def forward(self, image, meta):
        return Outputs(self.dense(meta))
def build(labels):
    return Net(len(labels))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with modules in it, and with files that have the names of others' modules."""
    (tmp_path / "mynet.py").write_text(NET)
    (tmp_path / "mydata.py").write_text(
        f"import sys\nsys.path.append({str(REPOSITORY / 'tests')!r})\nimport tiny_cohort\n"
        "def read(raw, *, allow_missing=False):\n    return tiny_cohort.records(raw.resolve(), 8)\n"
    )
    for name in ("torch", "numpy", "polars", "typing", "h5py"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('a file of the current folder')\n")
    return tmp_path


def test_the_script_finds_modules_of_the_current_folder(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    script = tmp_path_factory.mktemp("bin") / "cxrkit"
    script.write_text(SCRIPT)
    write_folder(folder / "shards", "raw", 30, (64,))
    parts = "--model mynet:build --loss mynet:loss --loader mynet:Loader --trainer mynet:train"
    options = "--evaluator mynet:evaluate --data shards --fold 1 --epochs 1 --limit 4 --device cpu --threads 1"
    run([sys.executable, str(script), "train", *words(parts), *words(options)], folder)
    assert (folder / "runs" / "mynet.build" / "resample-1" / "scores.json").is_file()


def test_it_is_searched_last_by_python_m_too(folder: Path) -> None:
    write_images(folder / "raw" / "images", 8)
    options = words("--raw raw --data shards --codec raw --levels 64 --workers 1 --dataset mydata:read")
    assert "8 images" in run([sys.executable, "-m", "cxrkit", "prepare", *options], folder).stdout


@pytest.mark.parametrize(("safe", "found"), [("", True), ("1", False)])
def test_a_safe_path_stays_safe(safe: str, found: bool, folder: Path) -> None:
    code = "from cxrkit.base import current_folder as c; c.search_last(); import sys; print(sys.path[-1])"
    command = [sys.executable, *["-P"] * bool(safe), "-c", f"import sys; del sys.path[:1 - {len(safe)}]; {code}"]
    assert (run(command, folder).stdout.strip() == str(folder)) is found


def test_a_current_folder_that_is_gone_is_not_searched(folder: Path) -> None:
    code = (
        "import os; os.rmdir(os.getcwd()); from cxrkit.base import current_folder as c; c.search_last(); c.not_first()"
    )
    (folder / "gone").mkdir()
    run([sys.executable, "-c", code], folder / "gone")
