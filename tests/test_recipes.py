"""Recipes: the files that ship, and how a config comes of a recipe, flags and --set."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from conftest import REPOSITORY
from rich.console import Console

from cxrkit import recipes
from cxrkit.base import manifests
from cxrkit.base.errors import UserError
from cxrkit.models import grammar
from cxrkit.recipes.catalog import table
from cxrkit.recipes.figures import with_figures
from cxrkit.report.literature.works import repeated_by
from cxrkit.runs.config import TrainConfig, recipe_digest, settings, to_toml


def test_every_network_of_the_grammar_has_its_recipe() -> None:
    assert set(grammar.SPECS) <= set(recipes.names())


@pytest.mark.parametrize("name", [name for name in recipes.names() if name in grammar.SPECS])
def test_a_recipe_is_complete_and_says_the_papers_values(name: str) -> None:
    """Nothing of the protocol is left to a default, and it agrees with the network's own figures."""
    text, config, spec = recipes.text(name), recipes.load(name), grammar.parse(name)
    for item in settings():
        filled_in = item.field.metadata["flag"] is None  # from the run that a probe starts from
        if item.field.metadata["extra"]:
            assert item.of(config) == item.field.default, "beyond the paper's protocol"
        elif item.field.metadata["decides"] and item.kind is not dict and item.section != "run" and not filled_in:
            assert f"\n{item.key} = " in text.partition(f"[{item.section}]")[2].partition("\n[")[0], item.path
    assert (config.optimizer.lr, config.optimizer.batch_size) == (spec.learning_rate, spec.batch_size)
    assert (config.model.name, config.input.size, config.recipe) == (name, spec.input_size, name)
    about = config.about
    assert all(len(said.strip()) > 10 for said in (about.source, about.leaves_open, about.expected, about.cost))
    assert f"cxrkit train --recipe {name} " in text


FOLDER = Path(recipes.__file__).parent
RECIPES = {name: recipes.load(name) for name in recipes.names()}


@pytest.mark.parametrize("width", [80, 160])
def test_the_list_says_source_expected_result_and_cost(width: int) -> None:
    out = io.StringIO()
    Console(file=out, width=width).print(table())
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    words = " ".join(out.getvalue().split())
    for name, config in RECIPES.items():
        line = next(line for line in lines if line.startswith(f"{name} "))
        about = config.about
        # The first words of each stand beside its name, whatever is wrapped.
        assert " ".join(about.expected.split()[:2]) in line
        assert about.source in words
        below = words[words.index(f" {name} {about.expected.split()[0]}") :]
        assert any(start + " ".join(about.cost.split()[:2]) in below for start in ("cost: ", "cost of each: ", ""))
    assert "expected" in words
    assert "cost" in words


def test_a_published_figure_has_its_home_in_the_manifests() -> None:
    """A recipe names it, and what is printed is the manifest's; no recipe has a copy of its own."""
    assert RECIPES["wang2017-resnet50"].about.expected.startswith("mean AUC 0.745 on the official split")
    assert RECIPES["chexnet"].about.expected.startswith("mean AUC 0.8414 on its own random split")
    assert RECIPES["resnet50-large-meta"].about.expected.startswith("mean AUC 0.822 over five resampling folds")
    assert RECIPES["resnet50-large-vp"].about.expected.startswith("AUC 0.9983 ± 0.0002, sensitivity 0.993,")
    assert 'expected = "mean absolute error 9.13 ± 7.05 years' in recipes.text("resnet50-large-age")
    for name in RECIPES:
        (line,) = re.findall(r"^expected = (.*)$", (FOLDER / f"{name}.toml").read_text(), re.M)
        for work in repeated_by(name):
            assert work.mean is None or f"{work.mean:.3f}" not in line, name
        assert "{" not in RECIPES[name].about.expected
    for column in manifests.read("published/table3.toml")["column"]:
        assert f"{column['average'][0] / 100:.3f} over five" in RECIPES[column["recipe"]].about.expected
    with pytest.raises(KeyError, match="wang2018"):
        with_figures("mean AUC {wang2018}", "wang2017-resnet50")


def test_every_recipe_of_the_paper_is_in_the_protocol() -> None:
    """Whatever a recipe says is left open is collected in docs/protocol.md, with the choice."""
    protocol = (REPOSITORY / "docs" / "protocol.md").read_text()
    words = {
        "number of epochs": "**Epochs: 30.**",
        "counts as no improvement": "**What is no improvement",
        "distribution of the aspect": "**Aspect ratio",
        "stride's place": "**Where a stage halves",
        "which epoch is kept": "**Selection",
        "batch size (16": "**Batches of the -1channel",
        "pre-activation": "**Order of normalisation",
        "initialisation": "**Initialisation",
        "extra pooling": '**"After the first bottleneck block"**',
        "how blocks are counted": "**ResNet-38 and -101",
        "batch normalisation does": "**Off-the-shelf",
        "scale the age": "**Ages.**",
        "which standard deviation": "**Which standard deviation**",
        "its sizes": "**mlp-meta**",
        "Youden's threshold": "**Youden's threshold",
        "no augmentation": "**Probes: the training setup",
        "squared error": "**Probes: age",
    }
    used = set()
    for name, config in RECIPES.items():
        if "Baltruschat" in config.about.source:
            said = " ".join(config.about.leaves_open.split())
            named = {word for word in words if word in said}
            assert {"counts as no improvement", "training setup"} & {*named, *re.findall("training setup", said)}, name
            assert all(words[word] in protocol for word in named), name
            used |= named
    assert used == words.keys()


def test_a_model_is_the_recipe_of_the_paper_for_it() -> None:
    assert recipes.resolve({"model": "resnet50-meta"}) == recipes.load("resnet50-1channel-meta")
    assert recipes.resolve({}) == recipes.load("resnet50-large-meta")


def test_flags_and_set_go_before_the_recipe() -> None:
    config = recipes.resolve(
        {"epochs": 3, "lr": None, "input_size": 64, "name": "mine"},
        recipe="resnet38-large",
        sets=["schedule.patience=2", "model.options.width=16"],
    )
    assert (config.schedule.epochs, config.schedule.patience, config.input.size) == (3, 2, 64)
    assert (config.optimizer.lr, config.model.options, config.name) == (0.01, {"width": 16}, "mine")
    assert config.recipe == "resnet38-large"


def test_a_file_of_ones_own_says_only_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "trial [2].toml"
    path.write_text("[model]\nname = 'mlp-meta'\n[schedule]\nepochs = 2\n")
    config = recipes.resolve({"seed": 3}, recipe=str(path))
    assert (config.name, config.model.name, config.schedule.epochs, config.run.seed) == ("trial [2]", "mlp-meta", 2, 3)
    assert config.augmentation == TrainConfig().augmentation


def test_a_runs_config_is_a_recipe_that_runs_again(tmp_path: Path) -> None:
    config = recipes.resolve({"model": "mlp-meta", "epochs": 2, "fold": "2"})
    (tmp_path / "config.toml").write_text(to_toml(config))
    again = recipes.resolve({}, recipe=str(tmp_path / "config.toml"))
    assert again == config
    assert recipe_digest(again) == recipe_digest(config)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("resnet50-lage", "unknown recipe 'resnet50-lage'\n  remedy: did you mean resnet50-large"),
        ("nowhere/x.toml", "nowhere/x.toml: there is no such file"),
    ],
)
def test_unknown_recipe(recipe: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        recipes.resolve({}, recipe=recipe)
    assert message in str(caught.value)
