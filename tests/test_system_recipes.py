"""The recipes of the systems that the paper compares with: what they say, and each from start to end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from small_systems import smaller

from cxrkit import losses, models, pipeline, recipes
from cxrkit.base.contracts import Records
from cxrkit.base.errors import UserError
from cxrkit.base.labels import CHESTXRAY8, CHESTXRAY14
from cxrkit.datasets.nih import chestxray8
from cxrkit.datasets.phantom import cohort as phantoms
from cxrkit.models import grammar
from cxrkit.prepare.stage import PrepareConfig, prepare
from cxrkit.runs.config import settings
from cxrkit.runs.predictions import read_predictions

# The modern ones have tests of their own (test_modern_recipes.py).
SYSTEMS = [
    name
    for name in recipes.names()
    if name not in grammar.SPECS and not recipes.load(name).about.cost.startswith("untested here")
]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def eight(raw: Path, *, allow_missing: bool = False) -> Records:
    """Phantoms with the labels of ChestX-ray8."""
    return chestxray8.eight_of(phantoms.read(raw, allow_missing=allow_missing), "test_system_recipes:eight")


@pytest.fixture(scope="module")
def prepared_eight(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("eight") / "shards"
    prepare(PrepareConfig(cohort, folder, "test_system_recipes:eight", levels=(128, 64), workers=1), eight(cohort))
    return folder


def test_chestxray8_is_eight_labels_of_the_same_films(cohort: Path) -> None:
    whole, found = phantoms.read(cohort), eight(cohort)
    assert found.frame.select("image_id", *CHESTXRAY8.labels).equals(whole.frame.select("image_id", *CHESTXRAY8.labels))
    assert found.boxes is not None
    assert whole.boxes is not None
    assert set(found.boxes["label"]) <= set(CHESTXRAY8.labels)
    assert found.boxes.height < whole.boxes.height
    with pytest.raises(UserError, match="a synthetic cohort"):
        chestxray8.read(cohort)


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_recipe_trains_and_predicts(name: str, prepared: Path, prepared_eight: Path, tmp_path: Path) -> None:
    data = prepared_eight if name.endswith("-8") else prepared
    said, sets = smaller(name)
    said |= {"data": data, "runs": tmp_path, "fold": "1", "batch_size": 16, "limit": 32}
    run = pipeline.train(pipeline.resolve(said, recipe=name, sets=sets), False, Console(quiet=True))
    assert run.path == tmp_path / name / "resample-1"
    found = read_predictions(run.predictions("test"))
    scores = found.frame.select((CHESTXRAY8 if name.endswith("-8") else CHESTXRAY14).averaged).to_numpy()
    assert np.isfinite(scores).all()
    if not name.endswith("-8"):  # an output that none of the systems has
        assert found.about.unscored == ("No Finding",)
    assert scores.std(axis=0).min() > 0
    assert run.state() == "scored"


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_recipe_says_what_is_published_and_what_is_ours(name: str) -> None:
    """Complete in what decides numbers, resolved with its network at its input size, and told apart in docs."""
    text, config = recipes.text(name), recipes.load(name)
    for item in settings():
        optional = item.field.metadata["flag"] is None or item.field.metadata.get("extra")
        if item.field.metadata["decides"] and item.kind is not dict and item.section != "run" and not optional:
            assert f"\n{item.key} = " in text.partition(f"[{item.section}]")[2].partition("\n[")[0], item.path
    about = config.about
    assert all(len(said.strip()) > 10 for said in (about.source, about.leaves_open, about.expected, about.cost))
    assert f"cxrkit train --recipe {name} " in text
    with torch.device("meta"):
        labels = CHESTXRAY8 if name.endswith("-8") else CHESTXRAY14
        spec = models.spec(config.model.name, labels=labels, options=config.model.options).at(config.input.size)
    assert (spec.input_size, spec.resize) == (config.input.size, config.input.size)  # the whole film, no centre crop
    losses.build(config.loss.name, labels=labels, options=config.loss.options)
