"""The plan: what is drawn, and that nothing but (seed, epoch, row) decides it."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional

from cxrkit.base.contracts import LABELS
from cxrkit.base.errors import UserError
from cxrkit.base.labels import CHESTXRAY8, CHESTXRAY14, LABEL_SETS, LabelSet
from cxrkit.loaders import geometry, opencv, targets
from cxrkit.loaders.philox import philox4x32, uniform
from cxrkit.loaders.plan import Augmentation, Plan, PlannedBatch, default_resize

LEVELS = (1024, 512, 256)


def make(n: int = 100, *, train: bool = True, size: int = 224, **changes: Any) -> Plan:
    settings = {
        "seed": 7,
        "batch_size": 8,
        "resize": default_resize(size),
        "levels": LEVELS,
        "image_size": 1024,
    } | changes
    return Plan(np.arange(n) * 3 + 1, train, input_size=size, **settings)


def by_row(batches: list[PlannedBatch]) -> dict[int, tuple[Any, ...]]:
    """Return what was planned for each row; fails when a row comes twice."""
    planned = {}
    for batch in batches:
        for i, row in enumerate(batch.rows.tolist()):
            assert row not in planned
            planned[row] = (int(batch.level[i]), *batch.matrix[i].ravel(), *batch.sigma[i], *batch.window[i])
    return planned


# Philox


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0, 0, 0), 0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, 0xFFFFFFFF_FFFFFFFF, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            0x299F31D0_A4093822,
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_the_published_answers(counter: tuple[int, ...], key: int, expected: tuple[int, ...]) -> None:
    # Random123, tests/kat_vectors, philox4x32 with 10 rounds.
    assert philox4x32(counter, key).tolist() == list(expected)


def test_philox_broadcasts_and_is_uniform() -> None:
    words = philox4x32((np.arange(1000)[None, :], np.arange(20)[:, None], 0, 0), 5)
    assert words.shape == (4, 20, 1000)
    assert words[:, 3, 17].tolist() == philox4x32((17, 3, 0, 0), 5).tolist()
    numbers = uniform(words).ravel()
    assert numbers.min() >= 0
    assert numbers.max() < 1
    counts = np.histogram(numbers, bins=16, range=(0, 1))[0]
    expected = len(numbers) / 16
    assert ((counts - expected) ** 2 / expected).sum() < 37.7  # chi-squared, 15 degrees of freedom, p = 0.001


# Order


def test_every_image_comes_once_per_epoch_in_another_order() -> None:
    plan = make(100)
    first, second = ([row for batch in plan.batches(epoch) for row in batch.rows] for epoch in (0, 1))
    assert sorted(first) == sorted(second) == plan.rows.tolist()
    assert first != second
    assert first != plan.rows.tolist()
    assert [row for batch in plan.batches(0) for row in batch.rows] == first, "asking again changes nothing"


def test_the_order_is_a_fair_shuffle() -> None:
    plan = make(4, batch_size=4)
    orders = Counter(tuple(plan.order(epoch).tolist()) for epoch in range(2400))
    assert len(orders) == 24
    assert sum((count - 100) ** 2 / 100 for count in orders.values()) < 49.7  # chi-squared, 23 d.f., p = 0.001


@given(
    n=st.integers(1, 70),
    batch_size=st.integers(1, 20),
    other_size=st.integers(1, 20),
    epoch=st.integers(0, 2**31),
    seed=st.integers(0, 2**64 - 1),
)
@settings(max_examples=30, deadline=None)
def test_batch_size_changes_nothing_about_an_image(
    n: int, batch_size: int, other_size: int, epoch: int, seed: int
) -> None:
    one = by_row(list(make(n, batch_size=batch_size, seed=seed).batches(epoch)))
    other = by_row(list(make(n, batch_size=other_size, seed=seed).batches(epoch)))
    assert one == other
    assert list(one) == list(other)
    assert len(one) == n


@given(n=st.integers(12, 90), start=st.integers(0, 12), train=st.booleans())
@settings(max_examples=30, deadline=None)
def test_resuming_anywhere_gives_the_same_batches(n: int, start: int, train: bool) -> None:
    plan = make(n, train=train)
    whole = [by_row([batch]) for batch in plan.batches(3)]
    assert [by_row([batch]) for batch in plan.batches(3, start)] == whole[start:]
    assert [by_row([plan.batch(3, step)]) for step in range(plan.steps)] == whole


@given(st.integers(1, 60), st.integers(0, 7), st.integers(1, 100), st.booleans())
@settings(max_examples=50, deadline=None)
def test_bundles_are_the_same_batches(n: int, start: int, images: int, train: bool) -> None:
    plan = make(n, train=train)
    bundles = list(plan.bundles(3, start, images))
    cut = [by_row([batch]) for bundle in bundles for batch in plan.cut(bundle)]
    assert cut == [by_row([batch]) for batch in plan.batches(3, start)]
    assert all(len(bundle) == plan.bundled(images) * plan.batch_size for bundle in bundles[:-1])
    assert plan.bundled(images) == max(1, images // 8)


@given(n=st.integers(24, 100), world_size=st.sampled_from([1, 2, 3, 4, 6]), train=st.booleans())
@settings(max_examples=30, deadline=None)
def test_ranks_share_the_same_global_batches(n: int, world_size: int, train: bool) -> None:
    alone = make(n, batch_size=12, train=train, drop_last=train)
    ranks = [
        make(n, batch_size=12 // world_size, train=train, drop_last=train, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    for step in range(alone.steps):
        together = by_row([rank.batch(1, step) for rank in ranks if step < rank.steps])
        assert together == by_row([alone.batch(1, step)])
    assert sum(len(batch) for rank in ranks for batch in rank.batches(1)) == n - alone.dropped
    if train:
        assert len({rank.steps for rank in ranks}) == 1


def test_a_subset_keeps_its_images_augmentation() -> None:
    whole = by_row(list(make(60).batches(2)))
    part = by_row(list(Plan(np.arange(20) * 3 + 1, True, 7, 8, 224, 256, LEVELS, 1024).batches(2)))
    assert part == {row: whole[row] for row in part}


def test_seed_and_epoch_change_the_augmentation() -> None:
    plans = [
        make(20).crops(0, make(20).rows),
        make(20).crops(1, make(20).rows),
        make(20, seed=8).crops(0, make(20).rows),
    ]
    boxes = [crops.box[:20] for crops in plans]
    assert all((a != b).any(axis=1).mean() > 0.9 for a, b in [boxes[:2], boxes[1:], boxes[::2]])


def test_evaluation_neither_pads_nor_drops_nor_repeats() -> None:
    plan = make(21, train=False, batch_size=8)
    assert plan.steps == 3
    assert [len(batch) for batch in plan.batches(0)] == [8, 8, 5]
    assert np.concatenate([batch.rows for batch in plan.batches(0)]).tolist() == plan.rows.tolist()
    assert make(0, train=False).steps == 0


def test_drop_last_says_how_many() -> None:
    plan = make(21, drop_last=True)
    assert (plan.steps, plan.dropped) == (2, 5)
    left_out = [set(plan.order(epoch)[16:].tolist()) for epoch in (0, 1)]
    assert left_out[0] != left_out[1], "others every epoch"
    with pytest.raises(IndexError):
        plan.batch(0, 2)


# Geometry


def many_crops(**changes: Any) -> geometry.Crops:
    return geometry.random_crops(Augmentation(**changes), 11, 0, np.arange(40_000), 1024)


def corners(crops: geometry.Crops) -> np.ndarray:
    """Return (B, 4, 2): the corners of the turned boxes, in pixels of the image."""
    matrix = geometry.matrices(crops, np.ones(len(crops.box)), 100)
    ends = np.array([[0, 0, 1], [100, 0, 1], [0, 100, 1], [100, 100, 1]])
    return np.einsum("bij,nj->bni", matrix, ends)


def test_crops_are_whole_pixels_inside_the_image() -> None:
    crops = many_crops(angle_degrees=0)
    left, top, width, height = crops.box.T
    assert (crops.box == np.rint(crops.box)).all()
    assert min(left.min(), top.min()) == 0
    assert (left + width).max() == (top + height).max() == 1024
    area, aspect = width * height / 1024**2, width / height
    assert area.min() == pytest.approx(0.08, abs=0.002)
    assert area.max() <= 1
    assert aspect.min() == pytest.approx(3 / 4, abs=0.003)
    assert aspect.max() == pytest.approx(4 / 3, abs=0.004)


def test_turned_crops_stay_inside_the_image_where_they_fit() -> None:
    crops = many_crops()
    width, height = crops.box[:, 2:].T
    sine, cosine = np.abs(np.sin(crops.angle)), np.cos(crops.angle)
    fits = np.maximum(width * cosine + height * sine, height * cosine + width * sine) <= 1023
    assert 0.6 < fits.mean() < 0.9
    ends = corners(crops)[fits]
    assert ends.min() > -1e-9
    assert ends.max() < 1024 + 1e-9
    outside = np.clip(np.maximum(-corners(crops), corners(crops) - 1024), 0, None).max(axis=(1, 2))
    assert outside.max() < 0.12 * 1024 / 2 + 8, "the others are centred: only their tips stick out"


@given(angle_degrees=st.floats(0, 180), image_size=st.sampled_from([1024, 512, 224]), seed=st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_whatever_the_angle_a_crop_stays_inside_the_image_where_it_fits(
    angle_degrees: float, image_size: int, seed: int
) -> None:
    crops = geometry.random_crops(Augmentation(angle_degrees=angle_degrees), seed, 0, np.arange(500), image_size)
    ends = corners(crops)
    extent = ends.max(axis=1) - ends.min(axis=1)  # (B, 2): of the turned box, along x and y
    inside = (ends.min(axis=1) > -1e-6) & (ends.max(axis=1) < image_size + 1e-6)
    assert inside[extent <= image_size].all()
    # Along an axis on which it does not fit it is centred, so that as little as can be sticks out.
    centre = ends.mean(axis=1)
    assert centre[extent > image_size] == pytest.approx(image_size / 2)


def test_order_and_crops_are_those_of_the_versions_before() -> None:
    """An epoch that was begun with an older version goes on with the same crops. Digests of version 0.1's."""
    for angle_degrees, expected in [(7.0, "3a1fb91880218453"), (90.0, "4a40e7b3523d837a")]:
        crops = geometry.random_crops(Augmentation(angle_degrees=angle_degrees), 11, 3, np.arange(5000), 1024)
        found = hashlib.sha256(crops.box.tobytes() + crops.flip.tobytes()).hexdigest()
        assert found[:16] == expected
    order = make(5000).order(3)
    assert hashlib.sha256(order.tobytes()).hexdigest()[:16] == "0282d9a74db1cd5c"


def test_area_aspect_angle_and_flip_are_drawn_as_the_paper_says() -> None:
    crops = many_crops()
    area = crops.box[:, 2] * crops.box[:, 3] / 1024**2
    aspect = crops.box[:, 2] / crops.box[:, 3]
    # Pairs that fit the square whatever the other value: there the draw is uniform and untouched by redrawing.
    small, upright = area < 0.7, np.abs(np.log(aspect)) < 0.02
    for values, low, high in [
        (area[small], 0.08, 0.7),
        (aspect[small], 3 / 4, 4 / 3),
        (area[upright], 0.08, 0.97),
        (crops.angle, *np.deg2rad([-7, 7])),
    ]:
        counts, _ = np.histogram(values, bins=10, range=(low, high))
        assert counts.sum() > 0.99 * len(values) or high == 0.97
        expected = counts.sum() / 10
        assert ((counts - expected) ** 2 / expected).sum() < 27.9  # chi-squared, 9 degrees of freedom, p = 0.001
    assert crops.flip.mean() == pytest.approx(0.5, abs=0.01)
    drawn = np.stack([area, aspect, crops.angle, crops.flip])[:, small]
    assert np.abs(np.corrcoef(drawn) - np.eye(4)).max() < 0.03


def test_what_never_fits_becomes_the_largest_allowed_box() -> None:
    box = geometry.random_crops(Augmentation(area=(1, 1), aspect=(1.5, 2), angle_degrees=0), 1, 0, np.arange(5), 1024)
    assert box.box.tolist() == [[0, 170.5, 1024, 683]] * 5 or box.box[:, 2:].tolist() == [[1024, 683]] * 5
    assert (many_crops(area=(1, 1), angle_degrees=0).box[:, 2:] <= 1024).all()


def test_matrix_of_a_plain_crop() -> None:
    crops = geometry.Crops(np.array([[10.0, 20, 200, 100]] * 2), np.zeros(2), np.array([False, True]))
    plain, mirrored = geometry.matrices(crops, np.full(2, 0.5), 50)
    assert plain @ [0, 0, 1] == pytest.approx([5, 10])
    assert plain @ [50, 50, 1] == pytest.approx([105, 60])
    assert mirrored @ [0, 0, 1] == pytest.approx([105, 10])


def test_a_positive_angle_turns_about_the_centre_of_the_crop() -> None:
    crops = geometry.Crops(np.array([[100.0, 100, 200, 200]]), np.array([np.pi / 2]), np.array([False]))
    (matrix,) = geometry.matrices(crops, np.ones(1), 100)
    assert matrix @ [50, 50, 1] == pytest.approx([200, 200])
    assert matrix @ [100, 50, 1] == pytest.approx([200, 300])  # the right edge comes from below


@pytest.mark.parametrize(("size", "resize"), [(224, 256), (448, 480)])
def test_evaluation_is_the_centre_crop_of_the_paper(size: int, resize: int) -> None:
    batch = make(3, train=False, size=size).batch(0, 0)
    level = LEVELS[batch.level[0]]
    assert level == {224: 256, 448: 512}[size]
    edge = (resize - size) / 2 * level / resize
    assert batch.matrix[0] @ [0, 0, 1] == pytest.approx([edge, edge])
    assert batch.matrix[0] @ [size, size, 1] == pytest.approx([level - edge, level - edge])
    assert default_resize(size) == resize


@given(side=st.floats(100, 1024), levels=st.sampled_from([LEVELS, (1024,), (512, 128), (1024, 724, 512, 362, 256)]))
def test_the_smallest_level_that_is_sharp_enough_is_chosen(side: float, levels: tuple[int, ...]) -> None:
    box = np.array([[0, 0, side, side]])
    chosen = int(geometry.choose_levels(box, 1024, 224, levels, 0.85)[0])
    scales = [side * level / 1024 / 224 for level in levels]
    enough = [number for number, scale in enumerate(scales) if scale >= 0.85]
    assert chosen == max(enough, default=0)


def test_blur_makes_up_for_what_bilinear_sampling_misses() -> None:
    scale = np.array([0.9, 1.1, 1.3, 1.7, 2.0, 3.0])
    crops = geometry.Crops(np.stack([0 * scale, 0 * scale, 100 * scale, 110 * scale], axis=1), 0 * scale, scale > 1.5)
    sigma = geometry.sigmas(geometry.matrices(crops, np.ones(6), 100))
    tap = np.exp(-0.5 / sigma**2)
    variance = 2 * tap / (1 + 2 * tap) + 1 / 6
    assert variance[:2, 0] == pytest.approx([1 / 6] * 2, abs=1e-9)
    assert variance[2:5] == pytest.approx(np.minimum(np.outer(scale[2:5], [1, 1.1]), 2) ** 2 / 6)
    assert variance[5] == pytest.approx(4 / 6)


def test_blur_where_every_sample_falls_on_a_pixel() -> None:
    shift = np.array([0, 0.5, 3])
    matrix = np.array([[[1.0, 0, x], [0, -1, 50 + x]] for x in shift])
    tap = np.exp(-0.5 / geometry.sigmas(matrix) ** 2)
    assert 2 * tap / (1 + 2 * tap) == pytest.approx(np.array([[1 / 6] * 2, [0, 0], [1 / 6] * 2]), abs=1e-9)


@pytest.mark.parametrize("degrees", [0, 45, 90, 135, 180])
def test_a_turned_crop_is_blurred_along_the_right_axes_of_the_level(degrees: int) -> None:
    """Noise, seen at 1.9 source pixels per output pixel along one axis and 1.1 along the other, against sampling it 8
    times finer along each axis and averaging."""
    image = np.random.default_rng(0).integers(0, 256, (400, 400), np.uint8)
    box, flip = np.array([[150.3, 140.2, 64 * 1.9, 64 * 1.1]]), np.array([False])
    maps = [geometry.matrices(geometry.Crops(box, np.deg2rad([angle]), flip), np.ones(1), 64) for angle in (degrees, 0)]
    finer = sampled(image, maps[0][0] * [[1 / 8, 1 / 8, 1]], (0.05, 0.05), 512)
    expected = functional.resize(torch.from_numpy(finer)[None], [64, 64], antialias=True)[0].numpy()

    def error(sigma: Any) -> float:
        return float(np.mean((sampled(image, maps[0][0], tuple(sigma), 64).astype(float) - expected) ** 2))

    found = error(geometry.sigmas(maps[0])[0])
    along_the_output = geometry.sigmas(maps[1])[0]
    others = error(along_the_output), error(along_the_output[::-1])
    assert found <= min(others) * 1.01
    assert found < 0.7 * max(others)


def sampled(image: np.ndarray, matrix: np.ndarray, sigma: Any, size: int) -> np.ndarray:
    out = np.empty((size, size), np.uint8)
    opencv.sample(image, opencv.opencv_matrix(matrix), sigma, out)
    return out


def test_the_window_holds_every_pixel_that_is_read() -> None:
    plan = make(500, size=64, resize=73)
    for batch in plan.batches(0):
        ends = np.einsum("bij,nj->bni", batch.matrix, np.array([[x, y, 1] for x in (0.5, 63.5) for y in (0.5, 63.5)]))
        sides = np.array(LEVELS)[batch.level][:, None, None]
        read = np.clip(ends, 0, sides)
        left_top, right_bottom = batch.window[:, None, :2], batch.window[:, None, 2:]
        assert ((left_top == 0) | (read >= left_top + 2)).all()
        assert ((right_bottom == sides) | (read <= right_bottom - 2)).all()
        assert np.allclose(
            batch.window_matrix @ [3, 5, 1] + batch.window[:, :2], batch.matrix @ [3, 5, 1], rtol=0, atol=1e-9
        )


# Mistakes


def test_too_small_levels_are_refused_with_the_remedy() -> None:
    with pytest.raises(UserError, match=r"largest prepared level has 256 pixels.*448 x 448.*480 x 480") as caught:
        make(size=448, levels=(256, 128))
    assert "--levels" in caught.value.remedy
    make(size=448, levels=(512, 256))
    make(size=448, levels=(408,))


def test_less_than_one_batch_is_refused() -> None:
    with pytest.raises(UserError, match="7 training images do not fill one batch of 8"):
        make(7, drop_last=True)
    assert make(7).steps == 1


@pytest.mark.parametrize(
    "change", [{"area": (0, 1)}, {"area": (0.5, 1.2)}, {"aspect": (2, 1)}, {"flip": 1.5}, {"angle_degrees": 181}]
)
def test_impossible_augmentation_is_refused(change: dict[str, Any]) -> None:
    (name,) = change
    with pytest.raises(UserError, match=f"augmentation {name}"):
        dataclasses.replace(Augmentation(), **change)


# Targets and metadata


def records(ages: list[int]) -> pl.DataFrame:
    n = len(ages)
    labels = {label: [(i + k) % 4 == 0 for i in range(n)] for k, label in enumerate(LABELS)}
    sex, view = (["M", "F"] * n)[:n], (["AP", "AP", "PA"] * n)[:n]
    return pl.DataFrame({"age_years": ages, "sex": sex, "view": view, **labels})


def test_targets_are_in_the_order_of_the_labels() -> None:
    frame = records([20, 30, 40])
    target = targets.targets(frame.select(*reversed(LABELS)))
    assert (target.shape, target.dtype) == ((3, 15), np.float32)
    for number, label in enumerate(LABELS):
        assert target[:, number].tolist() == frame[label].to_list()


@given(data=st.data(), labels=st.sampled_from(sorted(LABEL_SETS.values(), key=lambda labels: labels.name)))
@settings(max_examples=30, deadline=None)
def test_a_label_that_is_not_known_is_nan(data: st.DataObject, labels: LabelSet) -> None:
    answer = st.sampled_from([True, False, None])
    rows = data.draw(st.lists(st.tuples(*[answer] * len(labels)), max_size=4))
    frame = pl.DataFrame(rows, schema=dict.fromkeys(labels.labels, pl.Boolean), orient="row")
    target = targets.targets(frame, labels)
    assert (target.shape, target.dtype) == ((len(rows), len(labels)), np.float32)
    found = [tuple(None if value != value else value == 1 for value in row) for row in target.tolist()]
    assert found == rows


def test_a_label_set_takes_its_own_columns() -> None:
    frame = records([20, 30, 40])
    fourteen, eight = targets.targets(frame, CHESTXRAY14), targets.targets(frame, CHESTXRAY8)
    columns = [CHESTXRAY14.labels.index(label) for label in CHESTXRAY8.labels]
    assert (eight == fourteen[:, columns]).all()


@given(
    age=st.none() | st.integers(0, 120),
    sex=st.sampled_from(["M", "F", "O", "", None]),
    view=st.sampled_from(["PA", "AP", "LATERAL", None]),
)
def test_metadata_that_is_not_known_is_neutral(age: int | None, sex: str | None, view: str | None) -> None:
    frame = pl.DataFrame(
        {"age_years": [age], "sex": [sex], "view": [view]},
        schema={"age_years": pl.Int32, "sex": pl.String, "view": pl.String},
    )
    ((found_age, found_sex, found_view),) = targets.metadata(frame, (20, 70)).tolist()
    assert found_age == pytest.approx(0.5 if age is None else min(max((age - 20) / 50, 0), 1))
    assert found_sex == {"M": 1, "F": 0}.get(sex or "", 0.5)
    assert found_view == {"AP": 1, "PA": 0}.get(view or "", 0.5)


def test_metadata_is_scaled_by_the_training_ages() -> None:
    frame = records([20, 60, 95, 10, 414])
    ages = targets.age_range(frame["age_years"].head(3))
    assert ages == (20, 95)
    meta = targets.metadata(frame, ages)
    assert (meta.shape, meta.dtype) == ((5, 3), np.float32)
    assert meta[:, 0] == pytest.approx([0, 40 / 75, 1, 0, 1])
    assert meta[:, 1].tolist() == [1, 0, 1, 0, 1]
    assert meta[:, 2].tolist() == [1, 1, 0, 1, 1]


def test_one_impossible_age_does_not_squash_the_others() -> None:
    assert targets.age_range(pl.Series([3, 414, 50])) == (3, 99)
    assert targets.age_range(pl.Series([], dtype=pl.Int32)) == (0, 99)
    assert np.isfinite(targets.metadata(records([40, 40]), (40, 40))).all()


def test_order_and_crops_belong_to_the_image_not_to_its_row() -> None:
    """The same images, at other rows because others are prepared beside them, take the same turns and crops."""
    numbers = np.array([3, 7, 8, 20, 41, 42, 60, 77], dtype=np.int64)
    few = make(8, batch_size=3, numbers=numbers)
    many = dataclasses.replace(few, rows=numbers + 5)
    for step in range(few.steps):
        one, other = few.batch(2, step), many.batch(2, step)
        assert (few.rows.searchsorted(one.rows) == many.rows.searchsorted(other.rows)).all()
        assert (one.matrix == other.matrix).all()
