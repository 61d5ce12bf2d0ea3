"""Runs on another data set: nothing published stands beside them, but they stand beside each other."""

from __future__ import annotations

from dataclasses import replace

import pytest
from test_report import make_scores, own_columns, reasons, save
from test_report_epochs import keep

from cxrkit import report
from cxrkit.report.document.tables import AVERAGE, Table
from cxrkit.runs.epochs import predictions_of

PHANTOM = {"dataset": "synthetic", "label_release": "synthetic", "labels_digest": "aa" * 32, "image_side": 256}
FOLDS = [f"resample-{number}" for number in range(1, 6)]


def row(table: Table, key: str) -> list[str]:
    return next([cell.text for cell in row.cells] for row in table.rows if row.key == key)


def test_networks_on_phantoms_are_pooled_over_folds_in_the_papers_order(tmp_path):
    changes = ("model.options.width=16", "input.size=32")
    for shift, name in ((0.03, "resnet50-large"), (0.0, "resnet50-ots"), (0.02, "resnet50-ft"), (0.0, "mine")):
        for number, split in enumerate(FOLDS):
            save(tmp_path, make_scores(name, split, shift + number / 1000, changes=changes, **PHANTOM))
    shown = report.resampled(tmp_path, apart=True)
    assert [table.title for table in shown.tables] == [
        "AUC x 100, mean ± standard deviation over the resampling folds: synthetic",
        "Differences of all pairs, 5 resampling folds: average AUC x 100",
    ]
    table = shown.tables[0]
    # What all of them were trained with is no detail of one: the notes have it.
    assert [column.name for column in table.columns] == ["resnet50-ots", "resnet50-ft", "resnet50-large", "mine"]
    assert row(table, AVERAGE) == ["82.0 ± 0.2", "84.0 ± 0.2", "85.0 ± 0.2", "82.0 ± 0.2"]
    assert [cell.bold for cell in table.rows[0].cells] == [False, False, True, False]
    assert table.notes[0] == "Another data set than that of published results: none may stand beside these numbers"
    assert any("resnet50-ft: average by fold" in note and "model.options.width=16" in note for note in table.notes)
    assert shown.notes[0].startswith("No run compares with Table 3 of Baltruschat et al. 2019 yet")
    for kind in ("md", "csv", "latex"):
        assert "resnet50-ots" in report.render(shown, kind)


def test_a_common_epoch_is_held_to_what_any_is_held_to(tmp_path):
    """One fold stays at its own best epoch; the other moves, and is apart where what it kept was replaced."""
    for split, losses in zip(FOLDS, ({1: 0.1, 2: 0.2}, {1: 0.25, 2: 0.2}), strict=False):
        scores = make_scores("mine", split, epoch=min(losses, key=losses.__getitem__), **PHANTOM)
        run = keep(save(tmp_path, scores), scores, losses)
    (table,) = report.resampled(tmp_path, epoch="common", apart=True).tables
    assert [column.name for column in table.columns] == ["mine, epoch 1"]
    assert table.rows[-1].cells[0].text == "2 of 5"
    predictions_of(run, 1, "test").write_bytes(predictions_of(run, 2, "test").read_bytes())
    found = reasons(report.resampled(tmp_path, epoch="common", apart=True))
    assert found["mine"].endswith("its predictions/epochs/001-test.parquet was replaced after it was scored")


def test_one_name_on_two_terms_is_two_columns_that_say_which(tmp_path):
    for size in (32, 64):
        scores = make_scores("small", "resample-1", recipe_digest=f"{size}" * 32, input_size=size, **PHANTOM)
        save(tmp_path, scores, folder=f"small-{size}")
    (table,) = report.resampled(tmp_path, apart=True).tables
    assert sorted(column.name for column in table.columns) == ["small, at 32 px", "small, at 64 px"]


@pytest.mark.parametrize("field", ["labels_digest", "pixels_digest", "metadata_digest"])
def test_another_cohort_has_a_table_of_its_own(tmp_path, field):
    save(tmp_path, make_scores("one", "resample-1", **PHANTOM))
    save(tmp_path, make_scores("other", "resample-1", **PHANTOM | {field: "bb" * 32}))
    tables = report.resampled(tmp_path, apart=True).tables
    assert [[column.name for column in table.columns] for table in tables] == [["one"], ["other"]]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"images": 500}, "test images"),
        ({"train_images": 100}, "trained on 100"),
        ({"leakage_checked": False}, "not checked against its training images"),
    ],
)
def test_what_else_speaks_against_a_run_keeps_it_out(tmp_path, changes, reason):
    save(tmp_path, make_scores("whole", "resample-1", **PHANTOM))
    save(tmp_path, make_scores("part", "resample-1", **PHANTOM, **changes))
    shown = report.resampled(tmp_path, apart=True)
    assert [column.name for column in shown.tables[0].columns] == ["whole"]
    assert reason in reasons(shown)["part"]


def test_they_do_not_stand_beside_comparable_ones(tmp_path):
    save(tmp_path, make_scores("resnet50-large", "resample-1"))
    save(tmp_path, make_scores("phantom-net", "resample-1", **PHANTOM))
    shown = report.resampled(tmp_path, apart=True)
    assert own_columns(shown) == ["resnet50-large"]
    assert [column.name for column in shown.tables[1].columns] == ["phantom-net"]


def test_other_labels_are_named_and_averaged_as_their_set_says(tmp_path):
    scores = make_scores("eight", "resample-1", label_set="chestxray8", labels_digest="aa" * 32)
    eight = scores.labels.labels
    test = scores.subsets["test"]
    kept = tuple(metric for metric in test.metrics if metric.label is None or metric.label in eight)
    save(tmp_path, replace(scores, subsets={"test": replace(test, metrics=kept)}))
    (table,) = report.resampled(tmp_path, apart=True).tables
    assert table.title.endswith(": nih-chestxray14, labels chestxray8")
    assert {row.key for row in table.rows} == {*eight, AVERAGE, ""}
    assert any("the mean of the 8 above it" in note for note in table.notes)


def test_their_common_epoch_is_chosen_as_any(tmp_path):
    for number, split in enumerate(FOLDS[:2]):
        scores = make_scores("small", split, **PHANTOM)
        keep(save(tmp_path, scores), scores, {1: 0.3 - number / 10, 2: 0.21, 3: 0.9})
    (table,) = report.resampled(tmp_path, epoch="common", apart=True).tables
    assert [column.name for column in table.columns] == ["small, epoch 2"]
    save(tmp_path, make_scores("unkept", "resample-1", **PHANTOM))
    save(tmp_path, make_scores("unkept", "resample-2", **PHANTOM))
    shown = report.resampled(tmp_path, epoch="common", apart=True)
    assert [column.name for column in shown.tables[0].columns] == ["small, epoch 2"]
    assert "were not kept" in reasons(shown)["unkept"]
