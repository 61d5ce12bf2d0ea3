"""The command lines of README and of the pages run, one after the other, in the world of docs_world.py."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docs_world
import numpy as np
import polars as pl
import pytest
from conftest import REPOSITORY
from pages import PAGES, blocks, lines
from typer.testing import CliRunner

from cxrkit.cli.app import app

# What is not run here: the beginning of its lines, and where it is run instead, or why it cannot be.
ELSEWHERE = {
    "make": "`make test` is what runs this; lint, types and docs are CI's; test_docs.py knows the targets",
    "python3 -m venv": "the Makefile does it, for CI too",
    ".venv/bin/pip": "the Makefile does it, for CI too",
    ". .venv/bin/activate": "a shell's",
    "pip install": "needs a network; tests/test_plugin_package.py installs examples/plugin",
    "cxrkit demo": "tests/test_demo.py",
    ".venv/bin/cxrkit demo": "tests/test_demo.py",
    "cxrkit reproduce table3 --engine": "tests/test_reproduce_engines.py tries ray and slurm",
    "torchrun": "tests/test_ranks.py",
    "python -m cxrkit_shapes.toy": "tests/test_plugin_package.py",
    "cxrkit prepare --dataset shapes": "tests/test_plugin_package.py",
    "cxrkit train --data shards --fold 1 --epochs 2 --model shapes-net": "tests/test_plugin_package.py",
}
RUN = re.compile(r"^runs/([^/]+)/official$")
WITH_COMMANDS = [page for page in PAGES if not page.startswith("benchmarks/") and any(lines(page))]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    docs_world.build(folder)
    return folder


@pytest.fixture
def world(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a world of one's own, in which this process works."""
    shutil.copytree(built, tmp_path / "world", symlinks=True)
    monkeypatch.chdir(tmp_path / "world")
    return tmp_path / "world"


@pytest.fixture
def address(world: Path) -> Iterator[str]:
    with docs_world.served(world) as address:
        yield address


@pytest.mark.parametrize("page", WITH_COMMANDS)
def test_the_command_lines_of_a_page_run(page: str, world: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = {after for words in lines(page) for word, after in itertools.pairwise(words) if word == "--name"}
    for name in sorted({name for words in lines(page) for word in words for name in RUN.findall(word)} - made):
        shutil.copytree(docs_world.TRAINED, Path("runs") / name / "official")
    for words in lines(page):
        text = shlex.join(words)
        if any(shlex.split(text)[: len(start.split())] == start.split() for start in ELSEWHERE):
            continue
        settings = dict(word.split("=", 1) for word in itertools.takewhile(lambda word: "=" in word, words))
        command = words[len(settings) :]
        assert command[0] == "cxrkit", f"{page}: {text}: run it, or say in ELSEWHERE where it is run"
        with monkeypatch.context() as patch:
            for name, value in settings.items():
                patch.setenv(name, value)
            done = CliRunner().invoke(app, docs_world.at_a_small_size(command[1:], address))
        assert done.exit_code == 0, f"{page}: {text}\n{done.output}\n{done.exception}"
    if page == "docs/own-images.md":
        the_exported_network_says_what_predict_says(page)


def the_exported_network_says_what_predict_says(page: str) -> None:
    """Run the page's code, on what its commands have written."""
    names: dict[str, Any] = {}
    (code,) = blocks(page, "python")
    exec(compile(code, page, "exec"), names)
    labels, film = names["about"]["outputs"]["labels"], names["film"].relative_to("films").as_posix()
    (expected,) = pl.read_csv("scores.csv").filter(image=film).select(labels).rows()
    assert np.ptp(expected) > 1e-3
    assert names["scores"].tolist() == pytest.approx(expected, abs=1e-5)


def test_where_else_lines_are_run_is_there() -> None:
    starts = {start for start in ELSEWHERE for page in WITH_COMMANDS for words in lines(page)
              if words[: len(start.split())] == start.split()}  # fmt: skip
    assert starts == ELSEWHERE.keys()
    for why in ELSEWHERE.values():
        for word in why.split():
            if word.startswith("tests/"):
                assert (REPOSITORY / word).is_file()
    assert os.environ["OMP_NUM_THREADS"]
