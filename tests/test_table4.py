"""Table 4: Spearman's correlation of predictions, against scipy; beside the paper, over the folds that there are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_report import matches_golden, plain
from scipy import stats
from study_runs import Study

from cxrkit.base.contracts import PATHOLOGIES
from cxrkit.evaluators.scoring import evaluate_run
from cxrkit.evaluators.truth import read_truth
from cxrkit.report.evidence.opened import Opened
from cxrkit.report.evidence.runs import Run, find_runs
from cxrkit.report.literature import published
from cxrkit.report.paper.table4 import published as published_table4
from cxrkit.report.paper.table4 import table4
from cxrkit.runs.predictions import METADATA_KEY, read_predictions, write_predictions
from cxrkit.statistics import rank_correlation


def scores(study: Study, run: str) -> pl.DataFrame:
    return pl.read_parquet(study.runs / run / "predictions" / "test.parquet").sort("image_id")


def by_scipy(one: pl.DataFrame, other: pl.DataFrame) -> float:
    """The mean over the pathologies of scipy's correlation, rows joined by image."""
    both = one.join(other, on="image_id", suffix=" of other")
    return float(np.mean([stats.spearmanr(both[label], both[f"{label} of other"]).statistic for label in PATHOLOGIES]))


def runs_of(study: Study) -> tuple[Run, ...]:
    return find_runs(study.runs).runs


# The statistic


@given(seed=st.integers(0, 999))
@settings(deadline=None, max_examples=25)
def test_rank_correlation_equals_scipy_with_ties(seed: int) -> None:
    one_NL, other_NL = np.round(np.random.default_rng(seed).normal(size=(2, 40, 3)), 0)
    expected = [stats.spearmanr(one_NL[:, label], other_NL[:, label]).statistic for label in range(3)]
    found = rank_correlation.rank_correlation
    assert found(one_NL, other_NL) == pytest.approx(expected, abs=1e-12)
    assert found(np.exp(one_NL), other_NL**3) == pytest.approx(expected, abs=1e-12)
    order = np.random.default_rng(seed).permutation(40)
    assert found(one_NL[order], other_NL[order]) == pytest.approx(expected, abs=1e-12)


def test_rank_correlation_of_a_constant_is_undefined() -> None:
    one_NL, other_NL = np.array([[1.0, 1], [1, 2], [1, 3]]), np.array([[1.0, 3], [2, 2], [3, 1]])
    found = rank_correlation.rank_correlation(one_NL, other_NL)
    assert np.isnan(found[0])
    assert found[1] == pytest.approx(-1)


def test_many_models_at_once_equal_each_two() -> None:
    score_QNL = np.random.default_rng(1).normal(size=(4, 50, 2))
    found_LQQ = rank_correlation.correlations([rank_correlation.ranks(score_NL) for score_NL in score_QNL])
    assert found_LQQ.shape == (2, 4, 4)
    for one in range(4):
        for other in range(4):
            expected = rank_correlation.rank_correlation(score_QNL[one], score_QNL[other])
            assert found_LQQ[:, one, other] == pytest.approx(expected)


# What is published


def test_the_papers_table_is_symmetric_and_of_its_networks() -> None:
    paper = published_table4()
    assert paper.models == tuple(published.table3().columns)
    assert len(paper.correlation) == 8 * 7
    for (one, other), value in paper.correlation.items():
        assert paper.correlation[other, one] == value
    assert paper.correlation["resnet50-1channel", "resnet50-large"] == 0.93  # the highest, as section 3 says
    assert max(paper.correlation.values()) == 0.93
    assert min(paper.correlation.values()) == 0.32


# The table


def test_folds_are_averaged_and_stand_beside_the_paper(study: Study) -> None:
    report = table4(runs_of(study), Opened(study.labels))
    assert report.key == "table4"
    table = report.tables[0]
    pairs = [
        [scores(study, f"{name}/resample-{fold}") for name in ("resnet50-large", "resnet50-large-meta")]
        for fold in (1, 2, 3)
    ]
    expected = np.mean([by_scipy(*pair) for pair in pairs])
    own, paper = table.rows[0].cells[1], table.rows[1].cells[0]
    assert own.values["correlation"] == pytest.approx(expected, abs=1e-9)
    assert own.values["folds"] == 3
    assert own.text == f"{expected:.2f}"
    assert paper.text == "0.71"
    assert paper.values == own.values
    assert "In each cell: folds 1 to 3" in table.notes


def test_the_official_split_has_a_table_of_its_own(study: Study) -> None:
    table = table4(runs_of(study), Opened(study.labels)).tables[1]
    assert table.key == "table4-2"
    names = [row.key for row in table.rows]
    assert names[0] == "resnet50-large, seeds 0, 1"
    assert not any("partial" in name for name in names)
    one, other = names.index("mlp-meta"), names.index("resnet38-large-meta")
    expected = by_scipy(scores(study, "mlp-meta/official"), scores(study, "resnet38-large-meta/official"))
    for row, column in ((one, other), (other, one)):
        assert table.rows[row].cells[column].values["correlation"] == pytest.approx(expected, abs=1e-9)
    seeds = [
        by_scipy(scores(study, f"resnet50-large/{seed}"), scores(study, "mlp-meta/official"))
        for seed in ("official", "official-seed-1")
    ]
    assert table.rows[0].cells[one].values["correlation"] == pytest.approx(np.mean(seeds), abs=1e-9)


def test_the_order_of_the_rows_in_a_file_plays_no_part(study: Study) -> None:
    before = table4(runs_of(study), Opened(study.labels))
    run = study.runs / "mlp-meta" / "official"
    path = run / "predictions" / "test.parquet"
    metadata = pl.read_parquet_metadata(path)[METADATA_KEY]
    frame = pl.read_parquet(path)
    frame[np.random.default_rng(0).permutation(len(frame))].write_parquet(path, metadata={METADATA_KEY: metadata})
    evaluate_run(run, read_truth(study.labels), options={"replicates": 20})
    assert plain(table4(runs_of(study), Opened(study.labels))) == plain(before)


def test_a_fold_that_one_model_lacks_is_named(study: Study) -> None:
    runs = [run for run in runs_of(study) if (run.name, run.split) != ("resnet50-large", "resample-2")]
    table = table4(runs, Opened(study.labels)).tables[0]
    assert table.rows[0].cells[1].values["folds"] == 2
    assert "In each cell: folds 1, 3" in table.notes


def test_scores_that_are_all_equal_have_no_rank(study: Study) -> None:
    run = study.runs / "mlp-meta" / "official"
    path = run / "predictions" / "test.parquet"
    predictions = read_predictions(path)
    frame = predictions.frame.with_columns(Hernia=pl.lit(0.5, pl.Float32))
    write_predictions(path, frame, predictions.about)
    evaluate_run(run, read_truth(study.labels), options={"replicates": 2})
    table = table4(runs_of(study), Opened(study.labels)).tables[1]
    place = [row.key for row in table.rows].index("mlp-meta")
    assert {cell.text for cell in table.rows[place].cells} == {"-"}
    assert any("has the same score for every image in some label" in note for note in table.notes)


def test_runs_of_another_data_set_stand_by_themselves(study: Study) -> None:
    before = table4(runs_of(study), Opened(study.labels)).tables[0].rows[0].cells[1].values
    for run in (run for run in runs_of(study) if run.split.startswith("resample-")):
        for path in (run.folder / "predictions").glob("*.parquet"):
            predictions = read_predictions(path)
            origin = replace(predictions.about.origin, dataset="synthetic")
            write_predictions(path, predictions.frame, replace(predictions.about, origin=origin))
        evaluate_run(run.folder, read_truth(study.labels), options={"replicates": 2})
    found = table4(runs_of(study), Opened(study.labels)).tables
    assert [table.key for table in found] == ["table4", "table4-2"]
    assert found[1].title == "Spearman's rank correlation between predictions, resampling folds, synthetic"
    own = found[1].rows[0].cells[1].values
    assert own["paper"] is None
    assert own["correlation"] == before["correlation"]


def test_fewer_than_two_models_make_no_table(study: Study) -> None:
    report = table4(runs_of(study)[:1], Opened(study.labels))
    assert report.tables == ()
    assert report.notes == (
        "Table 4 takes two models or more that compare: on the official split, or on the same resampling folds",
    )


def test_golden_table(study: Study) -> None:
    matches_golden(plain(table4(runs_of(study), Opened(study.labels))), "table4.txt")
