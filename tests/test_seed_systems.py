"""The small systems: their studies are the recipes at a small size, and few training films keep their boxes."""

from __future__ import annotations

import shutil
from pathlib import Path

import polars as pl
import pytest
from small_modern import MODERN

from benchmarks.seed_systems import boxed, eight
from cxrkit import models, recipes
from cxrkit.base.labels import CHESTXRAY8
from cxrkit.datasets import splits
from cxrkit.datasets.phantom import cohort as phantoms
from cxrkit.models import grammar
from cxrkit.reproduce import study

FOLDER = Path(boxed.__file__).parent
RUNS = {
    run.recipe: dict(run.settings)
    for name in ("systems", "eight")
    for run in study.read(str(FOLDER / f"{name}.toml")).runs
}
SIZES = ("input.size", "schedule.epochs", "run.precision", "model.name", "model.options", "loss.options.places")


def test_every_system_is_in_a_study_once_on_the_first_fold() -> None:
    runs = [run for name in ("systems", "eight") for run in study.read(str(FOLDER / f"{name}.toml")).runs]
    assert sorted(run.recipe for run in runs) == sorted(
        name for name in recipes.names() if name not in {*grammar.SPECS, *MODERN}
    )
    assert {(run.fold, run.seed) for run in runs} == {("1", 0)}


@pytest.mark.parametrize("recipe", RUNS)
def test_a_study_changes_sizes_and_little_else(recipe: str) -> None:
    """What is not a size is listed here, with its reason in the study."""
    else_ = {
        "li2018-mil": {"optimizer.lr"},
        "li2018-box": {"optimizer.lr", "loss.options.floor"},
        "wang2017-resnet50": {"optimizer.lr", "optimizer.batch_size"},
        "wang2017-resnet50-8": {"optimizer.lr", "optimizer.batch_size"},
        "guendel2018-noloc": {"schedule.patience"},
    }
    assert {path for path in RUNS[recipe] if not path.startswith(SIZES)} == else_.get(recipe, set())


def test_the_cap_of_a_small_map_is_that_of_the_papers() -> None:
    """As many places as there are, to the power of them: what 16 x 16 places at 0.98 can say."""
    for recipe in ("li2018-mil", "li2018-box"):
        options = {path.rpartition(".")[2]: value for path, value in RUNS[recipe].items() if "options" in path}
        assert options["floor"] ** options["places"] ** 2 == pytest.approx(0.98**256, rel=0.05)
        small = {name: value for name, value in options.items() if name != "pretrained"}
        assert models.build("li2018", options=small | {"input_size": 64}).places == 8


@pytest.fixture(scope="module")
def raw(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the tables of a cohort, without its films, of which few keep their boxes."""
    folder = tmp_path_factory.mktemp("few") / "raw"
    shutil.copytree(cohort, folder, ignore=shutil.ignore_patterns("*.png"))
    for film in (cohort / "images").iterdir():
        (folder / "images" / film.name).symlink_to(film)
    boxed.leave_few(folder)
    return folder


def test_few_training_films_keep_their_boxes_and_all_others_do(cohort: Path, raw: Path) -> None:
    before, after = phantoms.read(cohort), phantoms.read(raw)
    assert before.boxes is not None
    assert after.boxes is not None
    assert after.frame.drop("path").equals(before.frame.drop("path"))
    split = splits.make(before.frame, boxed.FOLD).frame
    place = before.boxes.join(split, on="image_id")
    trains, fifth = pl.col("subset") == "train", pl.col("patient_id").cast(pl.Int64) % boxed.ONE_IN == 0
    assert set(after.boxes["image_id"]) == set(place.filter(~trains | fifth)["image_id"])
    assert 0 < place.filter(trains & fifth).height < place.filter(trains).height / 2
    boxed.leave_few(raw)
    assert phantoms.read(raw).boxes.equals(after.boxes)  # type: ignore[union-attr]


def test_the_same_films_have_eight_labels(raw: Path) -> None:
    found = eight.read(raw)
    assert (found.labels, found.dataset) == (CHESTXRAY8, "benchmarks.seed_systems.eight:read")
    assert found.frame.height == phantoms.read(raw).frame.height
