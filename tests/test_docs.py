"""The pages: the site builds, links lead somewhere, and what stands in a code block is what the program takes."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY
from pages import LANGUAGES, PAGES, blocks, commands, languages
from typer.main import get_command
from typer.testing import CliRunner

import cxrkit
from cxrkit import cli
from cxrkit.base.pretraining import read_declared
from cxrkit.cli.app import app
from cxrkit.recipes import catalog
from cxrkit.reproduce import study
from cxrkit.runs.imported import read_about


def parse(words: list[str]) -> None:
    """Let the command line read `words` and do nothing. Raises click's UsageError where it would refuse them."""
    command: Any = get_command(app)
    context = command.make_context("cxrkit", list(words))
    while hasattr(command, "resolve_command"):
        rest = [*context._protected_args, *context.args]
        if not rest:
            return
        name, command, rest = command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)


@pytest.mark.parametrize("page", PAGES)
def test_every_block_says_what_it_is_in(page: str) -> None:
    assert languages(page) <= LANGUAGES.keys(), "fence it, with one of LANGUAGES"


def test_a_page_that_shows_a_whole_file_shows_that_file() -> None:
    shown = 0
    for page in PAGES:
        files = re.findall(r"^The whole file, \[(\S+\.py)\]", (REPOSITORY / page).read_text(), re.MULTILINE)
        for name, code in zip(files, blocks(page, "python"), strict=False):
            assert code == (REPOSITORY / name).read_text(), f"{page}: not what is in {name}"
            shown += 1
    assert shown == 5


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_is_one_that_the_program_takes(page: str) -> None:
    assert cli.app
    for words in commands(page):
        try:
            parse(words)
        except SystemExit:
            pass
        except Exception as error:
            if type(error).__name__ == "Exit":  # --help, --version
                continue
            pytest.fail(f"{page}: cxrkit {shlex.join(words)}: {error}")


def test_a_command_that_is_wrong_would_be_found() -> None:
    with pytest.raises(Exception, match="No such option"):
        parse(["train", "--no-such-option", "1"])
    assert sum(len(list(commands(page))) for page in PAGES) > 80


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "toml")])
def test_every_file_of_a_page_can_be_read(page: str, tmp_path: Path) -> None:
    """A study, what is declared of a model or of weights, or a recipe."""
    for number, code in enumerate(blocks(page, "toml")):
        path = tmp_path / f"{number}.toml"
        path.write_text(code)
        if "[[runs]]" in code:
            assert len(study.read(str(path)).runs) > 1
        elif "pretrained = " in code:
            weights = path.with_suffix("")
            about = read_about(path) if code.startswith("model") else read_declared(weights)
            assert about is not None
            assert about.pretrained.seen == "images"
        else:
            assert catalog.load(str(path)).about.source


@pytest.mark.parametrize(
    "page", [page for page in PAGES if any("import cxrkit\n" in code for code in blocks(page, "python"))]
)
def test_python_of_a_page_runs(page: str, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a prepared folder where the pages say that it lies; other code is of files that test_examples runs."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "shards").symlink_to(prepared)
    monkeypatch.chdir(tmp_path)
    steps: list[tuple[int, ...]] = []
    for code in blocks(page, "python"):
        exec(compile(code, page, "exec"), {"step": lambda image, label: steps.append(tuple(image.shape))})
    assert steps
    assert all(shape[1:] == (1, 224, 224) for shape in steps)


def test_no_python_of_a_page_is_left_out() -> None:
    files = {path.read_text() for path in (REPOSITORY / "examples").glob("*.py")}  # test_examples.py
    left = {
        page for page in PAGES for code in blocks(page, "python") if "import cxrkit\n" not in code and code not in files
    }
    assert left == {"docs/standards.md", "docs/own-images.md"}, "test_standards.py and test_docs_run.py run these"


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cell by cell in one namespace, as a kernel does; lines that begin with ! are commands of this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    notebook = json.loads((REPOSITORY / "examples" / "first_look.ipynb").read_text())
    names: dict[str, Any] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            lines = "".join(cell["source"]).splitlines()
            for line in lines:
                if line.startswith("!"):
                    done = CliRunner().invoke(app, shlex.split(line)[1:])
                    assert done.exit_code == 0, f"{line}: {done.output}"
            exec("\n".join(line for line in lines if not line.startswith("!")), names)
    assert (tmp_path / "report" / "index.html").is_file()
    names["plt"].close("all")


def test_scripts_and_targets_that_pages_name_are_there() -> None:
    targets = set(re.findall(r"^([\w-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        for code in blocks(page, "sh"):
            for script in re.findall(r"python ((?:benchmarks|docs|examples)/[\w/]+\.py)", code):
                assert (REPOSITORY / script).is_file(), f"{page}: {script}"
            for line in re.findall(r"^\s*make ([a-z][\w -]*?)(?:\s\s|#|$)", code, re.MULTILINE):
                assert set(line.split()) <= targets, f"{page}: make {line}"


def test_the_site_builds_without_a_warning_and_fetches_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("material")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    monkeypatch.setenv("NO_MKDOCS_2_WARNING", "1")
    monkeypatch.chdir(REPOSITORY)  # the pages include files of the repository by their paths in it
    config = load_config(str(REPOSITORY / "mkdocs.yml"), site_dir=str(tmp_path), strict=True)
    config.plugins.on_startup(command="build", dirty=False)
    build(config)
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 25
    for path in pages:
        text = path.read_text()
        assert not re.search(r"<(?:script|img|iframe)[^>]+src=\"(?:https?:)?//", text), path
        assert not re.search(r"<link[^>]+(?:stylesheet|preconnect)[^>]+href=\"(?:https?:)?//", text), path


def test_the_page_of_formats_is_that_of_the_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(REPOSITORY / "docs" / "site")
    import formats  # type: ignore[import-not-found]

    assert formats.PAGE.read_text() == formats.page(), "run python docs/site/formats.py"


def test_the_citation_is_of_this_version() -> None:
    assert f"version: {cxrkit.__version__}" in (REPOSITORY / "CITATION.cff").read_text()
    import yaml

    assert yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())["license"] == "Apache-2.0"
