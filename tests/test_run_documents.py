"""Calibration, operating points and subgroups of runs, as documents: from predictions alone, and kept.

Golden files hold whole documents; after a wanted change run `CXRKIT_UPDATE_GOLDEN=1 pytest tests/test_run_documents.py`
and read the difference.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score
from study_runs import Study

from cxrkit import report
from cxrkit.base.errors import UserError
from cxrkit.evaluators.truth import read_truth
from cxrkit.report.document.tables import AVERAGE, Report, Table
from cxrkit.report.each_run.calibration import calibration
from cxrkit.report.each_run.operating_points import operating_points
from cxrkit.report.each_run.subgroups import subgroups
from cxrkit.report.each_run.training_curves import training_curves
from cxrkit.report.everything import Material
from cxrkit.report.evidence import opened as evidence
from cxrkit.report.evidence.measured import by_key, measured
from cxrkit.report.evidence.opened import Opened
from cxrkit.report.evidence.runs import Run, find_runs
from cxrkit.runs.predictions import read_predictions, write_predictions
from cxrkit.runs.scores import read_scores

GOLDEN = Path(__file__).parent / "golden"
DOCUMENTS = {"calibration": calibration, "operating_points": operating_points, "subgroups": subgroups}


def official(study: Study) -> dict[str, Run]:
    found = find_runs(study.runs).runs
    return {run.folder.relative_to(study.runs).as_posix(): run for run in found if run.split == "official"}


@pytest.fixture
def one(study: Study) -> Run:
    return official(study)["resnet50-large-meta/official"]


def table(tables: list[Table], key: str) -> Table:
    return next(table for table in tables if table.key == key)


def cells(one: Table, column: int = 0) -> dict[str, str]:
    return {row.key or row.heading: row.cells[column].text for row in one.rows}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents_of_two_runs(study: Study, name: str) -> None:
    runs = official(study)
    tables, figures = DOCUMENTS[name]([runs["resnet50-large-meta/official"], runs["mlp-meta/official"]], Opened())
    text = report.render(Report(name, tuple(tables), figures=tuple(figures)), "md")
    path = GOLDEN / f"runs_{name}.md"
    if os.environ.get("CXRKIT_UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()
    keys = [item.key for item in (*tables, *figures)]
    assert all(keys)
    assert len({table.key for table in tables}) == len(tables)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_second_time_no_prediction_is_opened(
    study: Study, one: Run, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = DOCUMENTS[name]([one], Opened())
    monkeypatch.delattr(evidence, "read_predictions")
    monkeypatch.setattr(evidence, "read_truth", lambda path: read_truth(path / "gone"))
    assert DOCUMENTS[name]([one], Opened()) == first


@pytest.mark.parametrize("subset", ["test", "val"])
def test_predictions_that_were_replaced_are_refused_although_something_is_kept(
    study: Study, one: Run, subset: str
) -> None:
    first = calibration([one], Opened())
    path = one.folder / "predictions" / f"{subset}.parquet"
    scored = path.read_bytes()
    found = read_predictions(path)
    squared = found.frame.with_columns((pl.col(label) ** 2).cast(pl.Float32) for label in found.about.labels.labels)
    write_predictions(path, squared, found.about)
    for _ in ("with what is kept", "without it"):
        with pytest.raises(UserError, match=f"{subset}.parquet: was replaced after it was scored"):
            measured(one, Opened(), "calibration", replicates=1)
        with pytest.raises(
            UserError, match=f"{subset}.parquet: was replaced after it was scored .*resnet50-large-meta"
        ):
            calibration([one], Opened())
        shutil.rmtree(one.folder / "derived", ignore_errors=True)
    path.write_bytes(scored)
    assert calibration([one], Opened()) == first


def test_subgroups_are_by_the_metadata_that_is_asked(study: Study, one: Run) -> None:
    def mean_of_women(data: Path | None) -> float | None:
        return by_key(measured(one, Opened(data), "subgroups"))["auc", None, "sex F"].value

    turned = study.folder / "turned.parquet"
    other_sex = pl.when(pl.col("sex") == "M").then(pl.lit("F")).otherwise(pl.lit("M"))
    pl.read_parquet(study.labels).with_columns(sex=other_sex).write_parquet(turned)
    first = mean_of_women(None)
    assert mean_of_women(turned) != first
    assert mean_of_women(None) == first


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_run_that_cannot_be_read_is_left_out_with_the_reason(study: Study, one: Run, name: str) -> None:
    broken = official(study)["mlp-meta/official"]
    (broken.folder / "predictions" / "test.parquet").unlink()
    tables, _ = DOCUMENTS[name]([one, broken], Opened())
    notes = [note for table in tables for note in table.notes]
    assert any(note.startswith("Left out: mlp-meta (") and "test.parquet" in note for note in notes)
    with pytest.raises(UserError, match=r"test\.parquet.*\(mlp-meta"):
        DOCUMENTS[name]([broken], Opened())


def test_numbers_are_those_of_scikit_learn(study: Study, one: Run) -> None:
    opened = Opened()
    own = opened.evidence(one)
    mass = own.labels.labels.index("Mass")
    found = {(metric.name, metric.label, metric.group): metric.value for metric in measured(one, opened, "calibration")}
    expected = brier_score_loss(own.truth[:, mass], own.scores[:, mass])
    assert found["brier", "Mass", ""] == pytest.approx(expected, abs=1e-7)
    women_N = (own.images["sex"] == "F").to_numpy()
    expected = roc_auc_score(own.truth[women_N, mass], own.scores[women_N, mass])
    by_sex = table(subgroups([one], opened)[0], "subgroups-sex")
    row = next(row for row in by_sex.rows if row.key == "Mass")
    assert row.cells[0].values["auc"] == pytest.approx(expected, abs=1e-12)
    assert by_sex.columns[0].heading == ("Sex F",)
    assert f"{expected:.3f}" in row.cells[0].text


def test_what_is_kept_is_of_the_options_and_of_val(study: Study, one: Run) -> None:
    opened = Opened()
    fifteen, ten = (measured(one, opened, "calibration", bins=bins, replicates=1) for bins in (15, 10))
    assert [metric.value for metric in fifteen] != [metric.value for metric in ten]
    assert measured(one, Opened(), "calibration", bins=10, replicates=1) == ten


def test_a_run_without_val_has_no_thresholds_and_no_temperature(study: Study) -> None:
    runs = official(study)
    alone, other = runs["elsewhere/official"], runs["mlp-meta/official"]
    with pytest.raises(UserError, match=r"no validation predictions \(elsewhere\)"):
        operating_points([alone], Opened())
    tables, _ = operating_points([alone, other], Opened())
    assert [table.key for table in tables] == ["thresholds"]
    assert "Left out: elsewhere (no validation predictions)" in tables[0].notes
    tables, figures = calibration([alone], Opened())
    means = table(tables, "calibration")
    assert [column.name for column in means.columns] == ["Brier", "ECE"]
    assert [note for note in means.notes if "emperature" in note] == [
        "Temperature, and what is mended by it: left out, no validation predictions"
    ]
    both, _ = calibration([alone, other], Opened())
    means = table(both, "calibration")
    assert [cell.text for cell in means.rows[0].cells][2:] == ["-"] * 5
    assert "elsewhere: no validation predictions" in means.notes
    assert "→" not in cells(table(tables, "calibration-labels"))[AVERAGE]
    assert figures[0].panels[0].marks[1].name == "elsewhere"


def test_many_runs_stand_side_by_side_without_tables_of_their_own(study: Study) -> None:
    runs = [run for run in official(study).values() if run.test.complete]
    assert len(runs) == 6
    opened = Opened()
    assert [table.key for table in subgroups(runs, opened)[0]] == ["subgroups"]
    tables, _ = operating_points(runs, opened)
    assert [table.key for table in tables] == ["thresholds"]
    assert tables[0].columns[0].fields == ("threshold", "sensitivity", "specificity", "ppv", "npv")


def test_a_model_has_one_name_in_all_figures_and_no_split_where_there_is_but_one(study: Study) -> None:
    material = Material(find_runs(study.runs, hide=("partial",)), Opened(study.labels))
    assert len({run.split for run in material.findings}) > 1
    of_tested = {material.names[run.folder] for run in material.tested}
    assert not [name for name in of_tested if "official" in name]
    (training,) = training_curves(material.findings)
    drawn = {line.of or line.name for panel in training.panels for line in panel.marks}
    assert drawn <= set(material.names.values())
    assert {"resnet50-large-meta, resample-1", "resnet50-large-meta, official"} <= {
        line.name for panel in training.panels for line in panel.marks
    }


def test_the_reliability_figure_has_every_image_in_a_bin(study: Study, one: Run) -> None:
    opened = Opened()
    _, (figure,) = calibration([one], opened)
    evidence = opened.evidence(one)
    assert len(figure.panels) == len(evidence.labels)
    for panel, label in zip(figure.panels, evidence.labels.labels, strict=True):
        diagonal, line = panel.marks
        assert diagonal.x == diagonal.y == (0.0, panel.x.high)
        number = evidence.labels.labels.index(label)
        # Bins of equally many images: the mean of the points is about that of the images.
        assert np.mean(line.y) == pytest.approx(evidence.positive[:, number].mean(), abs=0.02)
        assert max(*line.x, *line.y) <= panel.x.high == panel.y.high


def test_without_metadata_there_are_no_subgroups(study: Study, one: Run) -> None:
    labels = study.folder / "bare.parquet"
    pl.read_parquet(study.labels).drop("age_years", "sex", "view").write_parquet(labels)
    with pytest.raises(UserError, match="sex and age and view are not known of any image"):
        subgroups([one], Opened(labels))


def test_only_groups_with_a_mean_are_drawn(study: Study, one: Run) -> None:
    tables, (figure,) = subgroups([one], Opened())
    assert [panel.title for panel in figure.panels] == ["Sex", "View"]
    means = cells(table(tables, "subgroups"))
    assert means["age 0-19"] == "n/a"
    sex = figure.panels[0]
    assert (sex.categories, sex.across) == (("F", "M"), "y")
    (ranges,) = sex.marks
    assert means["sex F"] == f"{ranges.values[0]:.3f} ~[{ranges.lower[0]:.3f}, {ranges.upper[0]:.3f}]"


def test_scores_by_these_evaluators_stand_in_the_report_apart_from_groups(study: Study, one: Run) -> None:
    from cxrkit.evaluators.scoring import evaluate_run
    from cxrkit.evaluators.truth import read_truth

    options = {"replicates": 20, "bins": 10}
    evaluate_run(one.folder, read_truth(study.labels), "auc,calibration,subgroups,average-precision", options)
    found = report.official(study.runs)
    titles = [table.title for table in found.tables]
    assert "ECE on the test set of split official" in titles
    assert not any("sex" in title or "auc_difference" in title for title in titles)
    notes = next(table.notes for table in found.tables if table.title.startswith("ECE "))
    assert notes[0].startswith("By calibration of cxrkit: ")
    precision = next(table for table in found.tables if table.title.startswith("Average precision "))
    assert precision.notes[0].startswith("By average-precision of cxrkit: ")
    assert {column.fields[0] for column in precision.columns} == {"average_precision"}
    assert "resnet50-large-meta, official: calibration with bins=10" in notes
    assert read_scores(one.folder / "scores.json").options["calibration"]["bins"] == 10
