"""Learning from boxes: the loss of Li et al. 2018, and where a box is after crop, turn and mirror."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from small_systems import SMALL, batch_of

from cxrkit import losses, models, recipes
from cxrkit.base.contracts import Outputs
from cxrkit.base.errors import UserError
from cxrkit.base.labels import CHESTXRAY14
from cxrkit.datasets.splits import Split
from cxrkit.loaders import regions
from cxrkit.loaders.geometry import Augmentation, Crops
from cxrkit.loaders.inputs import Inputs
from cxrkit.loaders.plan import Plan
from cxrkit.trainers import masking, parts, stepping


def test_mil_box_by_hand() -> None:
    """Two images, two labels: (0, 0) boxed, (0, 1) absent, (1, 0) present without a box, (1, 1) not known."""
    maps = torch.randn(2, 2, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    target = torch.tensor([[1.0, 0.0], [1.0, float("nan")]], dtype=torch.float64)
    region = torch.zeros(2, 2, 2, 2, dtype=torch.uint8)
    region[0, 0, 0] = 1  # the upper row
    region[0, 1, 0, 0] = 1  # of a label that the image has not: no box of it can be

    p = maps.sigmoid()
    yes, no = 0.98 + 0.02 * p, 0.98 + 0.02 * (1 - p)
    boxed = yes[0, 0, 0].prod() * no[0, 0, 1].prod()
    any_place = 1 - no.flatten(2).prod(dim=2)
    expected = (-5 * boxed.log() - (1 - any_place[0, 1]).log() - any_place[1, 0].log()) / 3

    loss = losses.build("mil-box", options={"places": 2})
    logits = torch.logit(any_place)
    torch.testing.assert_close(
        loss(Outputs(logits, maps), batch_of(target, region)), expected, rtol=1e-6, atol=1e-6, check_dtype=False
    )
    alone = losses.build("bce-mean")(Outputs(logits), batch_of(target))
    torch.testing.assert_close(loss(Outputs(logits, maps), batch_of(target)), alone)
    with pytest.raises(UserError, match="expected maps of 2 x 2 places, found maps of 3 x 3 places"):
        loss(Outputs(logits, torch.zeros(2, 2, 3, 3)), batch_of(target, region))
    with pytest.raises(UserError, match="found no maps"):
        loss(Outputs(logits), batch_of(target, region))


def test_mil_box_teaches_where() -> None:
    """Its gradient raises the places in the box and lowers the others."""
    maps = torch.zeros(1, 1, 4, 4, requires_grad=True)
    region = torch.zeros(1, 1, 4, 4, dtype=torch.uint8)
    region[..., 1:3, 1:3] = 1
    losses.build("mil-box", options={"places": 4})(
        Outputs(torch.zeros(1, 1), maps), batch_of(torch.ones(1, 1), region)
    ).backward()
    assert ((maps.grad < 0) == (region > 0)).all()


def crop(box: list[float], angle: float = 0.0, flip: bool = False) -> Crops:
    return Crops(np.array([box], dtype=float), np.deg2rad([angle]), np.array([flip]))


@pytest.mark.parametrize(
    ("seen", "box", "expected"),
    [
        (crop([0, 0, 1024, 1024]), [256, 512, 512, 768], [1, 2, 2, 3]),
        (crop([0, 0, 1024, 1024]), [255, 512, 513, 768], [0, 2, 3, 3]),  # it touches the places beside
        (crop([0, 0, 1024, 1024], flip=True), [256, 512, 512, 768], [2, 2, 3, 3]),
        (crop([256, 512, 512, 512]), [256, 512, 512, 768], [0, 0, 2, 2]),
        (crop([384, 512, 512, 512]), [256, 512, 512, 768], [0, 0, 1, 2]),  # half of it is cut off
        (crop([0, 0, 1024, 1024], angle=90), [256, 512, 512, 768], [2, 2, 3, 3]),
    ],
)
def test_a_box_goes_where_its_pixels_go(seen: Crops, box: list[int], expected: list[int]) -> None:
    """Left, top, right, bottom in places of 4 x 4: once as it is computed, once by a picture that is sampled."""
    assert regions.seen_boxes(seen, np.array([box], dtype=float), 4)[0].tolist() == expected


def test_a_box_outside_of_the_crop_is_nowhere() -> None:
    left, top, right, bottom = regions.seen_boxes(crop([512, 512, 512, 512]), np.array([[0.0, 0, 512, 1024]]), 4)[0]
    assert left == right or top == bottom


def test_regions_follow_the_pixels_of_any_plan() -> None:
    """A film that is white in its box is sampled by the plan: the places that turn white are those of the region."""
    import cv2

    film = np.zeros((1024, 1024), dtype=np.uint8)
    film[300:700, 100:500] = 255
    place = {"x": [100.0], "y": [300.0], "width": [400.0], "height": [400.0]}
    boxes = pl.DataFrame({"image_id": ["a"], "label": ["Mass"], **place})
    plan = Plan(
        rows=np.array([0]), train=True, seed=0, batch_size=1, input_size=64, resize=64, levels=(1024,), image_size=1024,
        augmentation=Augmentation(area=(0.3, 1.0), angle_degrees=0.0),
    )  # fmt: skip
    found = regions.boxes_by_row(boxes, pl.Series("image_id", ["a"]), CHESTXRAY14)

    class Nothing:
        steps = 1

        def close(self) -> None:
            """Nothing is open."""

    beside = regions.WithRegions(Nothing(), plan, found, 15, 8, "cpu")  # type: ignore[arg-type]
    for epoch in range(12):
        planned = plan.batch(epoch, 0)
        matrix = planned.matrix[0].copy()
        matrix[:, 2] += matrix[:, :2].sum(axis=1) / 2 - 0.5
        seen = cv2.warpAffine(film, matrix, (64, 64), flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP)
        white = seen.reshape(8, 8, 8, 8).max(axis=(1, 3)) > 0
        region = beside.regions(epoch, planned.rows)
        assert region[0, [place for place in range(15) if place != CHESTXRAY14.labels.index("Mass")]].sum() == 0
        touched = region[0, CHESTXRAY14.labels.index("Mass")] > 0
        assert (touched | ~white).all()  # every white place is in the region
        # A box may touch a place by less than half a pixel, of which no sample is white: one row or column more.
        assert (touched.any(axis=0).sum() - white.any(axis=0).sum()) in (0, 1, 2)
        assert (touched.any(axis=1).sum() - white.any(axis=1).sum()) in (0, 1, 2)


def test_boxes_of_test_images_are_not_trained_on(prepared: Path) -> None:
    """As on NIH's official split: where no training image has a box, it is refused; elsewhere their own are used."""
    inputs = Inputs.of(prepared, "1", None)
    frame, boxed = inputs.split.frame, inputs.store.boxes()["image_id"].unique()
    inputs.close()
    config = recipes.load("li2018-box").with_values({"optimizer.batch_size": 4})
    spec = models.spec("li2018", options=SMALL["li2018"]).at(64)
    for split in (Split("mine", frame), Split("as NIH's", _with_boxed_in_test(frame, boxed))):
        tried = Inputs.of(prepared, split, None)
        plan = tried.train_plan(config, spec)
        loader = tried.loader(plan, "opencv", "cpu", 1)
        if split.name == "mine":
            batch = next(iter(regions.with_regions(loader, plan, tried, 4, "cpu").epoch(0)))
            assert batch.region is not None
            assert batch.region.shape == (4, 15, 4, 4)
            assert batch.region.any()
            # Of phantoms every finding has its box, and the whole film is seen.
            assert torch.equal(batch.region.flatten(2).any(dim=2)[:, :14], batch.target[:, :14] > 0)
        else:
            wanted = r"split as NIH's: none of the \d+ training images has a box; of \d+ boxed images 0 validate and"
            with pytest.raises(UserError, match=wanted):
                regions.with_regions(loader, plan, tried, 4, "cpu")
        tried.close()


def _with_boxed_in_test(frame: pl.DataFrame, boxed: pl.Series) -> pl.DataFrame:
    testing = pl.col("image_id").is_in(boxed.to_list())
    return frame.with_columns(subset=pl.when(testing).then(pl.lit("test")).otherwise(pl.col("subset")))


def test_regions_go_wherever_a_batch_goes() -> None:
    """In parts of a batch and through a loss without some labels; a batch without regions stays one."""
    region = torch.arange(4, dtype=torch.uint8)[:, None, None, None].expand(4, 15, 2, 2)
    first, second = parts.split(batch_of(torch.zeros(4, 15), region), 2)
    assert first.region is not None
    assert second.region is not None
    assert [first.region[:, 0, 0, 0].tolist(), second.region[:, 0, 0, 0].tolist()] == [[0, 1], [2, 3]]
    assert all(part.region is None for part in parts.split(batch_of(torch.zeros(4, 15)), 2))
    loss = masking.masked(losses.build("mil-box", options={"places": 4}), CHESTXRAY14, ("No Finding",), "cpu")
    assert loss.region_places == 4  # by which the loaders know
    recorded = stepping.fixed_batch(2, 8, 15, "cpu", places=4)
    assert len(stepping.tensors(recorded)) == 5
    whole = stepping.WholeStep(recorded, torch.zeros(()), lambda: None)
    assert whole.fits(stepping.fixed_batch(2, 8, 15, "cpu", places=4))
    assert not whole.fits(stepping.fixed_batch(2, 8, 15, "cpu"))
