"""ROC, precision-recall and training curves: exact, thinned without visible error, and what their captions say."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import chestxray14_facts
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve
from tiny_runs import make_records, make_run, make_split

from cxrkit.evaluators.scoring import evaluate_run
from cxrkit.evaluators.truth import read_truth
from cxrkit.report.document.figures import Axis, Figure, Line
from cxrkit.report.each_run.curves import IN_ALL, POINTS, TOLERANCE, WRONG, curves
from cxrkit.report.each_run.training_curves import training_curves
from cxrkit.report.evidence.opened import Opened
from cxrkit.report.evidence.reference import known_preparations
from cxrkit.report.evidence.run_names import run_names
from cxrkit.report.evidence.runs import Run, find_runs
from cxrkit.statistics import curves as exact

PREPARED = sorted(known_preparations())[0]
TRUTHS = st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=2, max_size=60)


# Exact curves


@settings(deadline=None)
@given(TRUTHS)
def test_the_curves_are_sklearns_with_ties_too(rows: list[tuple[int, bool]]) -> None:
    score, truth = (np.array(column) for column in zip(*rows, strict=True))
    found = exact.curves(score / 7, truth)
    if truth.all() or not truth.any():
        assert found is None
        return
    fpr, tpr, _ = roc_curve(truth, score / 7, drop_intermediate=False)
    np.testing.assert_allclose(found.false_positive_rate, fpr, atol=1e-15)
    np.testing.assert_allclose(found.true_positive_rate, tpr, atol=1e-15)
    precision, recall, _ = precision_recall_curve(truth, score / 7)
    np.testing.assert_allclose(found.precision, precision[:-1][::-1], atol=1e-15)
    np.testing.assert_allclose(found.true_positive_rate[1:], recall[:-1][::-1], atol=1e-15)
    assert found.average_precision == pytest.approx(average_precision_score(truth, score / 7), abs=1e-12)
    assert np.trapezoid(found.true_positive_rate, found.false_positive_rate) == pytest.approx(
        roc_auc_score(truth, score / 7), abs=1e-12
    )


# Thinned curves


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=80),
    st.integers(2, 40),
    st.sampled_from([0.0, 0.01, 0.1]),
)
def test_both_ends_stay_and_nothing_is_farther_than_it_may_be(
    points: list[tuple[float, float]], count: int, tolerance: float
) -> None:
    x, y = np.array(points).T
    order = exact.by_importance(x, y, count, tolerance)
    assert set(order[:2]) == {0, len(x) - 1}
    assert len(set(order)) == len(order) <= count
    if len(order) < count:
        assert _farthest(x, y, np.sort(order)) <= tolerance + 1e-9
    fewer = exact.by_importance(x, y, 2 + count // 3, tolerance)
    assert order[: len(fewer)].tolist() == fewer.tolist(), "the first ones are those that fewer would be"


def _farthest(x: np.ndarray, y: np.ndarray, kept: np.ndarray) -> float:
    """Return how far a point lies from the polyline of those that are kept: from the nearest of all its pieces."""
    nearest = np.full(len(x), np.inf)
    for one, other in zip(kept, [*kept[1:], kept[-1]], strict=True):
        along_x, along_y = x[other] - x[one], y[other] - y[one]
        square = max(along_x**2 + along_y**2, 1e-300)
        at = np.clip(((x - x[one]) * along_x + (y - y[one]) * along_y) / square, 0, 1)
        nearest = np.minimum(nearest, np.hypot(x - x[one] - at * along_x, y - y[one] - at * along_y))
    return float(nearest.max())


def _most_above_or_below(x: np.ndarray, y: np.ndarray, kept: np.ndarray) -> float:
    """Return how far a point lies above or below the piece of the polyline that it was left out of."""
    most = 0.0
    for one, other in pairwise(kept):
        if x[other] > x[one]:
            part = slice(one, other + 1)
            line = y[one] + (y[other] - y[one]) * (x[part] - x[one]) / (x[other] - x[one])
            most = max(most, float(np.abs(y[part] - line).max()))
    return most


@pytest.mark.parametrize("label", ["Hernia", "Pneumonia", "Effusion", "No Finding"])
def test_curves_of_the_official_test_set_are_thinned_without_visible_error(label: str) -> None:
    truth = chestxray14_facts.records().filter(official="test")[label].to_numpy()
    score = np.random.default_rng(4).normal(size=len(truth)) + 1.2 * truth
    found = exact.curves(score, truth)
    fpr, tpr, precision = found.false_positive_rate, found.true_positive_rate, found.precision
    bends = found.bends()
    assert len(bends) <= 2 * truth.sum() + 2
    from_zero = np.append(0, bends)
    assert np.trapezoid(tpr[from_zero], fpr[from_zero]) == pytest.approx(roc_auc_score(truth, score), abs=1e-12)
    left_out = np.setdiff1d(np.arange(1, len(fpr)), bends)
    after = np.searchsorted(bends, left_out)
    assert (tpr[bends[after - 1]] == tpr[bends[after]]).all(), "only where no image with the label is found"
    kept = np.sort(from_zero[exact.by_importance(fpr[from_zero], tpr[from_zero], POINTS[0], WRONG, vertical=True)])
    assert (kept[0], kept[-1]) == (0, len(fpr) - 1)
    assert len(kept) <= POINTS[0]
    assert _most_above_or_below(fpr, tpr, kept) <= 0.002
    assert np.trapezoid(tpr[kept], fpr[kept]) == pytest.approx(roc_auc_score(truth, score), abs=0.0003)
    kept = np.sort(bends[exact.by_importance(tpr[bends], precision[bends - 1], POINTS[1], TOLERANCE)])
    assert _farthest(tpr[1:], precision, kept - 1) < 0.003


# Figures


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return labels.parquet and two runs, whose predictions are the same."""
    folder = tmp_path_factory.mktemp("curves")
    records = make_records()
    records.write_parquet(folder / "labels.parquet")
    for name in ("net", "other"):
        path = folder / "runs" / name / "official"
        make_run(path, records, make_split(records), info={"name": name}, preparation_digest=PREPARED)
        evaluate_run(path, read_truth(folder / "labels.parquet"), options={"replicates": 5})
    return folder


@pytest.fixture
def runs(folder: Path, tmp_path: Path) -> list[Run]:
    shutil.copytree(folder / "runs", tmp_path / "runs")
    return list(find_runs(tmp_path / "runs").runs)


def lines_of(figure: Figure, panel: int) -> list[Line]:
    return [mark for mark in figure.panels[panel].marks if isinstance(mark, Line) and mark.name]


def test_a_panel_a_label_and_a_line_a_run(runs: list[Run], folder: Path) -> None:
    roc, precision_recall = curves(runs, Opened(folder / "labels.parquet"))
    assert [roc.key, precision_recall.key] == ["roc", "precision-recall"]
    assert len(roc.panels) == len(precision_recall.panels) == 15
    assert [line.name for line in lines_of(roc, 0)] == ["net, resnet50-large-meta", "other, resnet50-large-meta"]
    evidence = Opened(folder / "labels.parquet").evidence(runs[0])
    for number, label in enumerate(evidence.labels.labels):
        line = lines_of(roc, number)[0]
        assert (line.x[0], line.y[0], line.x[-1], line.y[-1]) == (0, 0, 1, 1)
        auc = runs[0].auc(label).value
        assert np.trapezoid(line.y, line.x) == pytest.approx(auc, abs=1e-3)
        assert roc.panels[number].title == f"{runs[0].scores.labels.heading(label)}  {auc:.3f}  {auc:.3f}"
        truth, scores = evidence.truth[:, number], evidence.scores[:, number]
        average = average_precision_score(truth, scores)
        assert precision_recall.panels[number].title.endswith(f"  {average:.3f}  {average:.3f}")
        chance = [mark for mark in precision_recall.panels[number].marks if not mark.name]
        assert [mark.y for mark in chance] == [pytest.approx((truth.mean(),) * 2, abs=1e-4)]
    assert f"on the same {runs[0].test.images} test images." in roc.caption
    assert roc.caption.endswith("Above each panel: the AUC, in the order of the legend.")


def test_what_was_worked_out_is_kept_in_the_run_folder(runs: list[Run], folder: Path) -> None:
    labels = folder / "labels.parquet"
    made = curves(runs, Opened(labels))
    kept = {run.folder: (run.folder / "derived" / "curves-test.npz").read_bytes() for run in runs}
    assert curves(runs, Opened(labels)) == made
    assert kept == {run.folder: (run.folder / "derived" / "curves-test.npz").read_bytes() for run in runs}
    assert curves(runs, Opened(folder / "no such file")) == [], "labels that are named are not passed over"


def test_a_run_without_predictions_is_left_out_and_named(runs: list[Run], folder: Path) -> None:
    (runs[1].folder / "predictions" / "test.parquet").unlink()
    roc, _ = curves(runs, Opened(folder / "labels.parquet"), {runs[0].folder: "one", runs[1].folder: "two"})
    assert [line.name for line in lines_of(roc, 0)] == ["one"]
    assert "Left out: two (" in roc.caption
    assert "test.parquet" in roc.caption
    assert roc.caption.endswith("Above each panel: the AUC.")
    assert curves(runs[1:], Opened(folder / "labels.parquet")) == []


def test_a_label_that_no_test_image_has_has_no_panel(tmp_path: Path) -> None:
    records = make_records().with_columns(Hernia=pl.lit(False), Mass=pl.lit(None, pl.Boolean))
    records.write_parquet(tmp_path / "labels.parquet")
    path = make_run(tmp_path / "runs" / "net" / "official", records, make_split(records))
    evaluate_run(path, read_truth(tmp_path / "labels.parquet"), options={"replicates": 5})
    roc, _ = curves(find_runs(tmp_path / "runs").runs, Opened(tmp_path / "labels.parquet"))
    assert len(roc.panels) == 13
    assert not any(panel.title.startswith(("Hernia", "Mass")) for panel in roc.panels)


def test_other_test_images_are_said(runs: list[Run], folder: Path) -> None:
    part = replace(runs[1].test, images=12, images_digest="00" * 32)
    runs[1] = replace(runs[1], scores=replace(runs[1].scores, subsets={"test": part}))
    roc, _ = curves(runs, Opened(folder / "labels.parquet"))
    assert f"on 12 to {runs[0].test.images} test images, not the same ones." in roc.caption


def test_forty_runs_have_fewer_points_each(runs: list[Run], folder: Path) -> None:
    opened = Opened(folder / "labels.parquet")
    curves(runs, opened)
    many = []
    for number in range(40):
        path = runs[0].folder.parent / f"copy-{number}"
        shutil.copytree(runs[0].folder, path)
        many.append(replace(runs[0], folder=path, name=f"net {number}"))
    for figure, in_all in zip(curves(many, opened), IN_ALL, strict=True):
        drawn = [line for panel in range(15) for line in lines_of(figure, panel)]
        assert len(drawn) == 600
        assert sum(len(line.x) for line in drawn) <= in_all
        assert figure.panels[3].title == "Hernia"
        assert "Above" not in figure.caption


def test_runs_are_told_apart(runs: list[Run]) -> None:
    same = [replace(run, name="net", scores=replace(run.scores, name="net")) for run in runs]
    assert list(run_names(same).values()) == ["net/official", "other/official"]
    other_seed = replace(same[1], scores=replace(same[1].scores, seed=3))
    assert list(run_names([same[0], other_seed]).values()) == [
        "net, resnet50-large-meta, seed 0",
        "net, resnet50-large-meta, seed 3",
    ]


# Training curves


def write_metrics(run: Run, epochs: int, **more: float) -> None:
    lines = [{"kind": "step", "epoch": 1, "step": 1, "loss": 0.5, "lr": 0.01}]
    lines += [
        {
            "kind": "epoch", "epoch": epoch, "lr": 0.01 / 2 ** (epoch // 3), "train_loss": 1 / epoch,
            "val_loss": 1.1 / epoch, "val_auc": None if epoch == 1 else 0.8 - 0.2 / epoch, **more,
        }
        for epoch in range(1, epochs + 1)
    ]  # fmt: skip
    (run.folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"kind": "epo')


def test_a_network_without_images_does_not_flatten_the_speed_of_others(runs: list[Run]) -> None:
    for fast, logarithmic in ((2500.0, False), (150_000.0, True)):
        write_metrics(runs[0], 3, images_per_second=250.0)
        write_metrics(runs[1], 3, images_per_second=fast)
        (figure,) = training_curves(runs[:2])
        assert figure.panels[-1].y == Axis("images/s", logarithmic=logarithmic)


def test_training_curves(runs: list[Run]) -> None:
    assert training_curves(runs) == []
    write_metrics(runs[0], 9, images_per_second=250.5)
    (figure,) = training_curves(runs)
    assert figure.key == "training"
    titles = [panel.title for panel in figure.panels]
    assert titles == ["Training loss", "Validation loss", "Validation mean AUC", "Learning rate", "Training speed"]
    loss, chosen = lines_of(figure, 1)
    assert (loss.x, loss.y) == (tuple(range(1, 10)), tuple(1.1 / epoch for epoch in range(1, 10)))
    assert (chosen.x, chosen.y, chosen.name) == ((7,), (1.1 / 7,), loss.name)  # the tested epoch of make_info
    assert lines_of(figure, 2)[0].x == tuple(range(2, 10)), "an epoch without an AUC has no point"
    assert figure.panels[3].y.logarithmic
    assert lines_of(figure, 3)[0].steps
    assert figure.caption.endswith("Without a record of their training: other, resnet50-large-meta.")


def test_a_long_training_is_thinned_and_a_rate_of_zero_is_shown(runs: list[Run]) -> None:
    write_metrics(runs[0], 500, lr=0.0, val_mae=8.5)
    (figure,) = training_curves(runs[:1])
    by_title = {panel.title: number for number, panel in enumerate(figure.panels)}
    for number in range(len(figure.panels)):
        line = lines_of(figure, number)[0]
        assert len(line.x) <= 120
        assert line.x[-1] == 500
    assert not figure.panels[by_title["Learning rate"]].y.logarithmic
    assert "Validation mean absolute error" in by_title
    assert "Without" not in figure.caption
