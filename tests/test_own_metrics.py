"""Metrics of one's own in the report: a table for each, in every format."""

from __future__ import annotations

import csv
import io
import statistics
from pathlib import Path

import pytest
from rich.console import Console
from tiny_runs import make_records, make_run, make_split

from cxrkit import report
from cxrkit.base.labels import CHESTXRAY14
from cxrkit.evaluators.scoring import evaluate_run
from cxrkit.evaluators.truth import Truth
from cxrkit.report.document.tables import Report, Table
from cxrkit.runs.scores import read_scores

SOURCE = """
import numpy as np
from cxrkit.base.contracts import Metric

def both(scores, truth, clusters, labels):
    for number, label in enumerate(labels.labels):
        value = float(np.nanmean((scores[:, number] - truth[:, number]) ** 2))
        if label == "Hernia":
            yield Metric("brier", None, label, reason="too rare")
        else:
            yield Metric("brier", value, label, value / 2, value * 2, interval="by halving")
    yield Metric("brier", 0.25)
    yield Metric("count_of_<all>", float(len(scores) * 1000))
"""
MODULE = "own_metrics_of_test"
EVALUATOR = f"{MODULE}:both"


@pytest.fixture(autouse=True)
def _importable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / f"{MODULE}.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)


def scored(runs: Path, name: str, split_name: str, evaluator: str, seed: int = 0, **changes: object) -> Path:
    records = make_records(seed)
    split = make_split(records, split_name)
    about = {"name": name, "model": name, "recipe": name}
    run = make_run(runs / name / split_name, records, split, info=about, **{"preparation_digest": ""} | changes)
    truth = Truth(Path("labels"), records, "nih-chestxray14", "v2020")
    evaluate_run(run, truth, evaluator, {"replicates": 5} if "auc" in evaluator else {})
    return run


def table_of(found: Report, title: str) -> Table:
    (table,) = [table for table in found.tables if table.title.startswith(title)]
    return table


def cells(table: Table) -> dict[str, list[str]]:
    return {row.key: [cell.text for cell in row.cells] for row in table.rows}


def test_one_run_shows_its_intervals(tmp_path: Path) -> None:
    run = scored(tmp_path / "runs", "mine", "official", f"auc,{EVALUATOR}")
    metric = read_scores(run / "scores.json").subsets["test"].metric("brier", "Mass")
    assert metric is not None
    assert metric.value is not None
    found = report.official(tmp_path / "runs", apart=True)
    brier = table_of(found, "Brier on the test set of split official")
    value = metric.value
    assert cells(brier)["Mass"] == [f"{value:.3f} [{value / 2:.3f}, {value * 2:.3f}]"]
    assert cells(brier)["Hernia"] == ["n/a (too rare)"]
    assert cells(brier)["Average"] == ["0.250"]
    assert brier.columns[0].heading == ("mine",)
    assert brier.columns[0].name == "mine"
    assert f"By {EVALUATOR}, not by cxrkit" in brier.notes[0]
    assert "Intervals: by halving" in brier.notes
    assert not any("cxrkit evaluate" in note for note in brier.notes), "it has its AUC"
    images = read_scores(run / "scores.json").subsets["test"].images
    count = table_of(found, "count_of_<all>")
    assert cells(count) == {"Average": [f"{images * 1000:.3g}"]}, "no rows of labels that it is not of"
    assert "not by cxrkit" not in str(table_of(found, "Not comparable: runs").rows), "its AUC is cxrkit's own"


def test_folds_are_pooled_where_they_were_trained_on_equal_terms(tmp_path: Path) -> None:
    values = []
    for fold in (1, 2, 3):
        run = scored(tmp_path / "runs", "mine", f"resample-{fold}", EVALUATOR, seed=0, pixels_digest=f"{fold}" * 64)
        metric = read_scores(run / "scores.json").subsets["test"].metric("brier", "Mass")
        assert metric is not None
        assert metric.value is not None
        values.append(metric.value)
    scored(tmp_path / "runs", "other", "resample-1", EVALUATOR, train_images=3)
    brier = table_of(report.resampled(tmp_path / "runs"), "Brier on the test sets")
    assert [column.heading for column in brier.columns] == [("mine", "3 splits"), ("other *", "resample-1")]
    spread = f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"
    assert cells(brier)["Mass"] == [spread, cells(brier)["Mass"][1]]
    assert cells(brier)["Hernia"] == ["n/a", "n/a (too rare)"]
    assert any(note.startswith("* other, resample-1: trained on 3 of ") for note in brier.notes)
    assert any(f"`cxrkit evaluate RUN --evaluator auc,{EVALUATOR}`" in note for note in brier.notes)
    assert "±: sample standard deviation over the splits (n - 1)" in brier.notes


def test_other_labels_stand_in_another_table(tmp_path: Path) -> None:
    scored(tmp_path / "runs", "mine", "resample-1", EVALUATOR)
    scored(tmp_path / "runs", "other", "resample-1", EVALUATOR, seed=1)
    found = report.resampled(tmp_path / "runs")
    titles = [table.title for table in found.tables if table.title.startswith("Brier")]
    assert titles == ["Brier on the test set of split resample-1, nih-chestxray14"] * 2


def test_every_format_has_it(tmp_path: Path) -> None:
    scored(tmp_path / "runs", "mine", "official", f"auc,{EVALUATOR}")
    found = report.official(tmp_path / "runs")
    assert "## count\\_of\\_\\<all> on the test set of split official" in report.render(found, "md")
    assert "\\caption{count\\_of\\_$<$all$>$ on the test set of split official}" in report.render(found, "latex")
    rows = [row for row in csv.DictReader(report.render(found, "csv").splitlines()) if row["metric"] == "brier"]
    of = {row["label"]: row for row in rows if row["run"].startswith("mine")}
    value, lower, upper = (float(of["Mass"][name]) for name in ("value", "lower", "upper"))
    assert (lower, upper) == (pytest.approx(value / 2, rel=1e-5), pytest.approx(value * 2, rel=1e-5))
    assert [of["Hernia"][name] for name in ("value", "lower", "upper")] == [""] * 3
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(report.to_rich(found))
    shown = console.export_text()
    assert "Brier on the test set of split official" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_runs_without_one_have_no_table(tmp_path: Path) -> None:
    scored(tmp_path / "runs", "mine", "official", "auc")
    assert not [table for table in report.official(tmp_path / "runs").tables if "the test set" in table.title]


def test_metrics_of_cxrkits_own_evaluators_are_said_to_be(tmp_path: Path) -> None:
    scored(tmp_path / "runs", "mine", "official", "youden")
    table = table_of(report.official(tmp_path / "runs"), "Sensitivity on the test set")
    assert table.notes[0].startswith("By youden of cxrkit: nothing published")


NOTHING = """
from cxrkit.base.contracts import Metric

def no_val(scores, truth, clusters, labels):
    for label in labels.labels:
        yield Metric("tempered", None, label, reason="no validation predictions")
    yield Metric("tempered", None, reason="over 0 of 14")

def some(scores, truth, clusters, labels):
    yield Metric("tempered", 0.5, "Mass")
    yield Metric("zeta", -0.0001, "Mass")
    yield Metric("alpha", 0.25, "Mass")
"""


def test_a_metric_without_any_number_has_no_table_and_a_run_without_one_no_column(tmp_path: Path) -> None:
    (tmp_path / "nothing_of_test.py").write_text(NOTHING)
    scored(tmp_path / "runs", "none", "official", "auc,nothing_of_test:no_val")
    assert not [table for table in report.official(tmp_path / "runs").tables if table.title.startswith("tempered")]
    scored(tmp_path / "runs", "mine", "official", "auc,nothing_of_test:some")
    found = report.official(tmp_path / "runs")
    tempered = table_of(found, "tempered")
    assert [column.name for column in tempered.columns] == ["mine"]
    assert "Without a number: none (no validation predictions)" in tempered.notes
    own = [table.title.partition(" ")[0] for table in found.tables if table.key.startswith("metric-")]
    assert own == ["tempered", "zeta", "alpha"], "as the evaluator gives them"
    assert cells(table_of(found, "zeta"))["Mass"] == ["-0.0001"]


def test_labels_stand_in_the_order_and_spelling_of_their_set(tmp_path: Path) -> None:
    scored(tmp_path / "runs", "mine", "official", f"auc,{EVALUATOR}")
    rows = table_of(report.official(tmp_path / "runs"), "Brier").rows
    order = (*CHESTXRAY14.averaged, *CHESTXRAY14.beside)
    assert [row.heading for row in rows if row.key != "Average"] == [CHESTXRAY14.heading(label) for label in order]
