"""Test-time views: each is the crop that it says, an image is decoded once, and predictions say how they were made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from test_loaders import has_dali, keep, make, write_folder
from torchvision.transforms.functional import ten_crop
from typer.testing import CliRunner

from cxrkit import models, pipeline
from cxrkit.base.contracts import Batch
from cxrkit.base.errors import UserError
from cxrkit.cli.app import app
from cxrkit.loaders.plan import Plan
from cxrkit.loaders.views import VIEWS, View, resize_for
from cxrkit.models import compute, prepare_input
from cxrkit.runs import sections
from cxrkit.runs.epochs import predictions_of
from cxrkit.runs.folder import RunFolder
from cxrkit.runs.predictions import read_prediction_info, read_predictions
from cxrkit.shards.store import ShardStore

N, SIZE, LEVEL = 7, 56, 64  # the level is the size that crops are cut from: they are whole pixels of it
# Ours in torchvision's: it names the centre last, and cuts its corners out of the mirrored image again.
ORDER = [4, 0, 1, 2, 3, 9, 6, 5, 8, 7]
needs_dali = pytest.mark.skipif(not has_dali, reason="NVIDIA DALI is not installed (the extras gpu and gpu-cuda12)")
BACKENDS = ["opencv", pytest.param("dali", marks=needs_dali), "resident"]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("views"), "png", N)


def seen(backend: str, folder: Path, views: tuple[View, ...], images: int = 2, **options: Any) -> list[Batch]:
    """The batches of an evaluation, `images` of the folder in each."""
    loader = make(backend, folder, train=False, batch_size=images * len(views), views=views, device="cpu", **options)
    try:
        return keep(loader.epoch(0))
    finally:
        loader.close()


def films(folder: Path, backend: str = "opencv", **options: Any) -> torch.Tensor:
    """(N, 1, LEVEL, LEVEL), the whole films at the size that crops are cut from."""
    whole = seen(backend, folder, VIEWS["none"], input_size=LEVEL, **options)
    return torch.cat([batch.image.cpu() for batch in whole])


# The plan


def test_names_are_those_that_a_recipe_takes() -> None:
    assert tuple(VIEWS) == sections.VIEWS
    assert all(views[0] == View() for views in VIEWS.values())


def test_ten_crops_of_a_network_that_sees_the_whole_film_are_cut_from_a_larger_one() -> None:
    assert resize_for("ten-crop", 224, 224) == resize_for("ten-crop", 224, 256) == 256
    assert resize_for("ten-crop", 448, 480) == 480
    assert resize_for("flip", 224, 224) == resize_for("none", 224, 224) == 224


def plan(views: str, images: int = 3, **changes: Any) -> Plan:
    given = {"input_size": SIZE, "resize": LEVEL, "levels": (128, 64), "image_size": 128} | changes
    return Plan(np.arange(N), False, 0, images * len(VIEWS[views]), views=VIEWS[views], **given)


@pytest.mark.parametrize("views", VIEWS)
def test_a_batch_has_whole_images_and_the_last_may_be_short(views: str) -> None:
    number = len(VIEWS[views])
    made = plan(views)
    assert made.steps == 3
    rows = [batch.rows.tolist() for batch in made.batches(0)]
    assert rows == [np.repeat(part, number).tolist() for part in ([0, 1, 2], [3, 4, 5], [6])]
    assert [part.tolist() for part in made.rows_of(0)] == rows
    for batch in made.batches(0):
        of_image = batch.window.reshape(-1, number, 4)
        assert (of_image == of_image[:, :1]).all(), "an image's views are sampled from one window"
        centre = plan("none", N).batch(0, 0)
        assert (batch[::number].matrix == centre.matrix[batch.rows[::number]]).all()


# The loaders


@pytest.mark.parametrize("backend", BACKENDS)
def test_ten_crops_are_those_of_torchvision(backend: str, folder: Path) -> None:
    expected = torch.stack(ten_crop(films(folder, backend), [SIZE, SIZE]), dim=1)
    found = seen(backend, folder, VIEWS["ten-crop"])
    assert [len(batch.index) for batch in found] == [20, 20, 20, 10]
    image = torch.cat([batch.image for batch in found]).reshape(N, 10, 1, SIZE, SIZE)
    assert torch.equal(image, expected[:, ORDER])
    assert torch.cat([batch.index for batch in found]).tolist() == np.repeat(np.arange(N), 10).tolist()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_view_does_not_know_the_others(backend: str, folder: Path) -> None:
    """Between pixels too, where the film is blurred before it is sampled."""
    size = {"input_size": 40, "resize": 50}
    alone = [torch.cat([batch.image for batch in seen(backend, folder, (view,), **size)]) for view in VIEWS["ten-crop"]]
    together = torch.cat([batch.image for batch in seen(backend, folder, VIEWS["ten-crop"], **size)])
    assert (together.unflatten(0, (N, 10)).int() - torch.stack(alone, dim=1).int()).abs().max() <= 1


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("images", [1, 3])
def test_an_image_is_decoded_once(backend: str, images: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time it is, its bytes are asked for."""
    asked: list[int] = []
    original = ShardStore.encoded_window

    def counted(self: ShardStore, row: int, *given: Any) -> Any:
        asked.append(row)
        return original(self, row, *given)

    monkeypatch.setattr(ShardStore, "encoded_window", counted)
    # So little memory that the films are read for each batch.
    options = {"memory_bytes": LEVEL**2 * images, "made_together": 1} if backend == "resident" else {}
    found = seen(backend, folder, VIEWS["ten-crop"], images, **options)
    assert sum(len(batch.index) for batch in found) == 10 * N
    assert sorted(asked) == list(range(N))


# Scores


def network(name: str) -> tuple[torch.nn.Module, models.ModelSpec]:
    model = models.build(name, options={"width": 4}, seed=2).eval()
    return model, replace(model.spec, input_size=SIZE, resize=LEVEL)


@pytest.mark.parametrize("name", ["resnet14-small", "resnet14-small-meta"])
@pytest.mark.parametrize("views", ["flip", "ten-crop"])
def test_scores_are_the_mean_of_the_probabilities_by_hand(name: str, views: str, folder: Path) -> None:
    model, spec = network(name)
    loader = make("opencv", folder, train=False, batch_size=2 * len(VIEWS[views]), views=VIEWS[views])
    found = compute.score(model, loader, spec, "cpu", "fp32", views=len(VIEWS[views]))
    assert found.index.tolist() == list(range(N))
    assert found.target.shape == found.score.shape == (N, 15)
    whole, edge = films(folder), (LEVEL - SIZE) // 2
    centre = whole[:, :, edge : edge + SIZE, edge : edge + SIZE]
    crops = [centre, centre.flip(3)] if views == "flip" else list(ten_crop(whole, [SIZE, SIZE]))
    meta = torch.cat([batch.meta for batch in seen("opencv", folder, VIEWS["none"])])
    with torch.inference_mode():
        said = [model(prepare_input(crop, spec), meta).logits.sigmoid() for crop in crops]
    np.testing.assert_allclose(found.score, torch.stack(said).mean(dim=0), atol=1e-6)
    assert np.abs(found.score - said[0].numpy()).max() > 1e-4, "the views differ"


def test_the_order_of_the_views_and_the_batch_change_nothing(folder: Path) -> None:
    model, spec = network("resnet14-small-meta")
    scores = []
    for views, images in ((VIEWS["ten-crop"], 3), (VIEWS["ten-crop"][::-1], 1)):
        loader = make("opencv", folder, train=False, batch_size=10 * images, views=views)
        scores.append(compute.score(model, loader, spec, "cpu", "fp32", views=10).score)
    np.testing.assert_allclose(*scores, atol=1e-6)


@pytest.mark.cuda
@pytest.mark.parametrize("backend", ["opencv", pytest.param("dali", marks=needs_dali), "resident"])
def test_ten_crops_on_a_gpu_are_those_of_torchvision(backend: str, folder: Path) -> None:
    expected = torch.stack(ten_crop(films(folder, backend), [SIZE, SIZE]), dim=1)[:, ORDER]
    loader = make(backend, folder, train=False, batch_size=20, views=VIEWS["ten-crop"], device="cuda")
    image = torch.cat([batch.image.cpu() for batch in keep(loader.epoch(0))])
    loader.close()
    assert (image.reshape(N, 10, 1, SIZE, SIZE).int() - expected.int()).abs().max() <= 1
    model, spec = network("resnet14-small-meta")
    on_gpu = make(backend, folder, train=False, batch_size=20, views=VIEWS["ten-crop"], device="cuda")
    found = compute.score(model.cuda(), on_gpu, spec, "cuda", "fp32", views=10)
    cpu = make("opencv", folder, train=False, batch_size=20, views=VIEWS["ten-crop"])
    expected_NL = compute.score(model.cpu(), cpu, spec, "cpu", "fp32", views=10).score
    np.testing.assert_allclose(found.score, expected_NL, atol=1e-3)


# Whole runs


@pytest.fixture(scope="module")
def run(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A training whose recipe says flip, with its epoch kept."""
    said = {
        "model": "resnet14-small-meta", "input_size": 32, "batch_size": 8, "precision": "fp32", "threads": 1,
        "limit": 16, "epochs": 1, "views": "flip", "keep_epochs": True, "data": prepared,
        "runs": tmp_path_factory.mktemp("flip"),
    }  # fmt: skip
    return pipeline.train(pipeline.resolve(said), False, Console(quiet=True))


def test_predictions_say_how_images_were_looked_at(run: RunFolder) -> None:
    about = {subset: read_prediction_info(run.predictions(subset))[0] for subset in ("val", "test")}
    assert {item.views for item in about.values()} == {"flip"}
    assert "test.views=flip" in about["test"].changes
    for subset in ("val", "test"):
        kept, own = read_predictions(predictions_of(run, 1, subset)), read_predictions(run.predictions(subset))
        assert kept.frame.equals(own.frame)
        assert kept.about.views == "flip"


def test_views_that_are_asked_for_later_are_of_another_recipe(run: RunFolder, tmp_path: Path) -> None:
    before = read_predictions(run.predictions("test"))
    call = CliRunner().invoke(app, ["predict", str(run.path), "--views", "none", "--subset", "test", "--threads", "1"])
    assert call.exit_code == 0, call.output
    after = read_predictions(run.predictions("test"))
    assert (after.about.views, after.about.epoch) == ("none", before.about.epoch)
    assert after.about.recipe_digest != before.about.recipe_digest
    assert not any("views" in change for change in after.about.changes)
    assert np.abs(after.frame["Mass"] - before.frame["Mass"]).max() > 0
    with pytest.raises(UserError, match=r"test\.views=flip[^\0]*predict both subsets again"):
        pipeline.evaluate(run, None, Console(quiet=True))
    pipeline.predict(run, Console(quiet=True), threads=1)
    assert read_predictions(run.predictions("test")).frame.equals(before.frame)
    assert read_predictions(run.predictions("test")).about == before.about
    pipeline.evaluate(run, None, Console(quiet=True), replicates=10)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"views": "twice"}, r"--views twice: unknown\n  remedy: choose one of none, flip, ten-crop"),
        ({"views": "flip", "model": "mlp-meta"}, r"--views flip: mlp-meta looks at no image[^\0]*leave out --views"),
        ({"views": "ten-crop", "model": "torchvision:resnet18"}, "the largest prepared level has 256 pixels a side"),
    ],
)
def test_what_cannot_be_is_told_before_a_training(
    said: dict[str, Any], message: str, prepared: Path, tmp_path: Path
) -> None:
    """256 pixels would do for 288, but not for the 329 that ten crops of 288 are cut from."""
    given = {"model": "resnet14-small", "limit": 8, "batch_size": 4, "data": prepared, "runs": tmp_path, "threads": 1}
    sets = ["model.options.input_size=288", "model.options.resize=288"] if "torch" in str(said) else []
    with pytest.raises(UserError, match=message):
        pipeline.train(pipeline.resolve(given | said, sets=sets), False, Console(quiet=True))
    assert not list(tmp_path.iterdir())
