"""The same predictions against other labels: what is read, which images count, and every number by another way."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from sklearn.metrics import precision_score, recall_score, roc_auc_score
from study_runs import Study

from cxrkit.base.errors import UserError
from cxrkit.base.labels import ADJUDICATED, CHESTXRAY8, CHESTXRAY14, LabelSet
from cxrkit.datasets.nih import adjudicated, roster
from cxrkit.datasets.nih.tables import read_entries
from cxrkit.evaluators import label_sources as sources_of
from cxrkit.evaluators.label_sources import any_of_scores, any_of_truth, both_truths, read_source
from cxrkit.evaluators.truth import read_truth
from cxrkit.report.document.tables import AVERAGE, Report, Table
from cxrkit.report.evidence.opened import Opened
from cxrkit.report.evidence.runs import Run, find_runs
from cxrkit.report.other_labels.held_against import HeldAgainst, held_against, why_not
from cxrkit.report.other_labels.label_agreement import agreement
from cxrkit.report.other_labels.label_sources import label_sources, label_sources_of
from cxrkit.report.rendering.formats import render
from cxrkit.report.rendering.terminal import to_rich
from cxrkit.statistics.intervals import TOO_FEW

GOLDEN = Path(__file__).parent / "golden"
HEADER = "Image Index,Finding Labels,Patient ID,Fracture,Pneumothorax,Airspace opacity,Nodule or mass,Set Id"
ROWS = (
    "00000003_000.png,Hernia,3,NO,YES,NO,NO,test",
    "00000001_001.png,Cardiomegaly,1,NO,NO,YES,NO,val",
    "00000001_000.png,Cardiomegaly,00000001,YES,NO,NO,yes,val",
)
FINDINGS = ("Pneumothorax", "Nodule or Mass", "Airspace opacity")
MADE_OF = {
    "Pneumothorax": ["Pneumothorax"],
    "Nodule or Mass": ["Nodule", "Mass"],
    "Airspace opacity": ["Consolidation", "Infiltration", "Pneumonia", "Edema", "Atelectasis"],
}


# A label set that shares nothing with any source; files find it by its name.
STRANGE = LabelSet("test_label_sources:STRANGE", ("Cough",), ("Cough",))


# Reading


def write_file(folder: Path, *rows: str, header: str = HEADER) -> Path:
    path = folder / adjudicated.FILE
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def test_the_file_is_read(tmp_path: Path) -> None:
    rows = [row.replace("yes", "YES") for row in ROWS]
    found = adjudicated.read(write_file(tmp_path, *rows))
    assert found.columns == ["image_id", "patient_id", "part", *ADJUDICATED.labels]
    assert found.row(0, named=True) == {
        "image_id": "00000001_000.png", "patient_id": "1", "part": "val", "Pneumothorax": False,
        "Nodule or Mass": True, "Airspace opacity": False, "Fracture": True,
    }  # fmt: skip
    assert found["part"].to_list() == ["val", "val", "test"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (ROWS, r"line 4, column 'Nodule or mass': found 'yes', expected YES or NO"),
        ((ROWS[0], ROWS[0]), r"1 image given twice: 00000003_000.png"),
        ((ROWS[0].replace("YES", ""),), "column 'Pneumothorax': found nothing, expected YES or NO"),
        ((ROWS[0].replace("_000.png", "_900.png"),), "found '00000003_900.png', expected an image of ChestX-ray14"),
        ((ROWS[0].replace(",3,", ",4,"),), "column 'Patient ID': found '4', expected the patient of its image"),
        (
            (ROWS[0].replace("test", "val"),),
            "column 'Set Id': found 'val', expected test for images of NIH's test list",
        ),
        ((ROWS[0].replace("test", "train"), ROWS[1]), r"found 'train', expected test or val"),
        ((), "has no rows"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, rows: tuple[str, ...], message: str) -> None:
    path = write_file(tmp_path, *rows)
    with pytest.raises(UserError, match=message) as caught:
        adjudicated.read(path)
    assert str(path) in str(caught.value)


def test_another_table_is_no_adjudicated_one(tmp_path: Path) -> None:
    path = write_file(tmp_path, "a,b", header="Image Index,Finding Labels")
    with pytest.raises(
        UserError, match=r"no column Patient ID, Set Id, Pneumothorax, .*found Image Index, Finding Lab"
    ):
        adjudicated.read(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("google2019", f"no {adjudicated.FILE} here.*\n.*torchxrayvision"),
        ("nih-2017", "no Data_Entry_2017.csv here"),
        ("nih", "those are the labels that every run is evaluated with"),
        ("google", "unknown label source 'google'\n.*did you mean google2019"),
    ],
)
def test_a_source_that_is_not_there(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_source(name, tmp_path)
    with pytest.raises(UserError):
        read_source(name, tmp_path / "nowhere")


# From labels to findings


probability = st.floats(0, 1, width=32)


@given(st.lists(st.lists(probability, min_size=3, max_size=3), min_size=1, max_size=5))
def test_any_of_several_scores(rows: list[list[float]]) -> None:
    score_NK = np.array(rows, np.float32)
    found = any_of_scores(score_NK)
    assert found == pytest.approx(1 - np.prod(1 - score_NK.astype(np.float64), axis=1), abs=1e-12)
    assert ((found >= 0) & (found <= 1)).all()
    assert any_of_scores(score_NK[:, :1]).tolist() == score_NK[:, 0].tolist()


def test_any_of_several_truths() -> None:
    nan = float("nan")
    truth_NK = np.array([[0, 0], [0, 1], [1, nan], [0, nan], [nan, nan]], np.float32)
    assert any_of_truth(truth_NK).tolist()[:3] == [0, 1, 1]
    assert np.isnan(any_of_truth(truth_NK)[3:]).all()


# A study with both sources


def write_sources(raw: Path) -> None:
    """Put an adjudicated file and a table of 2017 beside the study's own: readers disagree with every fifth label."""
    records = read_entries(raw / "Data_Entry_2017_v2020.csv").join(roster.read(), on=["image_id", "patient_id"])
    generator = np.random.default_rng(3)
    lines = []
    for row in records.iter_rows(named=True):
        if generator.random() < (0.25 if row["official"] == "test" else 0.7):
            continue
        said = [any(row[label] for label in labels) ^ (generator.random() < 0.2) for labels in MADE_OF.values()]
        by_column = dict(zip(("Pneumothorax", "Nodule or mass", "Airspace opacity"), said, strict=True))
        cells = [by_column[name] for name in ("Pneumothorax", "Airspace opacity", "Nodule or mass")]
        part = "test" if row["official"] == "test" else "val"
        answers = ",".join("YES" if cell else "NO" for cell in (False, *cells))
        lines.append(f"{row['image_id']},No Finding,{row['patient_id']},{answers},{part}")
    write_file(raw, *lines)
    tested = pl.col("official") == "test"
    fewer = records.with_columns(
        Pneumonia=pl.col("Pneumonia") & ~(tested & (pl.col("Pneumonia") & tested).cum_sum().le(5)),
    )
    entries = pl.read_csv(raw / "Data_Entry_2017_v2020.csv", infer_schema=False)
    findings = fewer.select(
        "image_id",
        text=pl.concat_str(
            *(pl.when(label).then(pl.lit(f"{label}|")).otherwise(pl.lit("")) for label in CHESTXRAY14.averaged)
        ).str.strip_suffix("|"),
    ).with_columns(pl.when(pl.col("text") == "").then(pl.lit("No Finding")).otherwise("text").alias("text"))
    older = entries.join(findings, left_on="Image Index", right_on="image_id", maintain_order="left")
    older = older.with_columns(pl.col("text").alias("Finding Labels")).drop("text")
    older.write_csv(raw / "Data_Entry_2017.csv")


@pytest.fixture
def run_of(study: Study) -> dict[str, Run]:
    write_sources(study.raw)
    return {f"{run.name} {run.split} {run.scores.seed}": run for run in find_runs(study.runs).runs}


OFFICIAL = "resnet50-large-meta official 0"


def arrays(run: Run, study: Study) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return predictions and adjudicated labels of the test images, joined by hand, and NIH's labels of the same."""
    predictions = pl.read_parquet(run.folder / "predictions" / "test.parquet")
    readers = adjudicated.read(study.raw / adjudicated.FILE).filter(pl.col("part") == "test").drop("patient_id")
    joined = predictions.join(readers, on="image_id", suffix=" by readers").sort("image_id")
    nih = joined.select("image_id").join(pl.read_parquet(study.labels), on="image_id", maintain_order="left")
    return joined, nih


def test_aucs_against_both_labels_are_those_of_sklearn(study: Study, run_of: dict[str, Run]) -> None:
    run = run_of[OFFICIAL]
    found = held_against(run, read_source("google2019", study.raw), Opened())
    joined, nih = arrays(run, study)
    assert found.images == len(joined) > 200
    assert found.patients == joined["patient_id"].n_unique()
    assert list(found.nih) == list(found.source) == list(FINDINGS)
    for finding, labels in MADE_OF.items():
        scores = 1 - np.prod(1 - joined.select(labels).to_numpy().astype(np.float64), axis=1)
        readers = joined["Pneumothorax by readers" if finding == "Pneumothorax" else finding]
        by_nih = nih.select(pl.any_horizontal(labels)).to_series()
        assert found.source[finding].value == pytest.approx(roc_auc_score(readers, scores), abs=1e-9)
        assert found.nih[finding].value == pytest.approx(roc_auc_score(by_nih, scores), abs=1e-9)
        assert found.source[finding].positives == readers.sum()
        difference = found.difference[finding]
        expected = roc_auc_score(readers, scores) - roc_auc_score(by_nih, scores)
        assert difference.difference == pytest.approx(expected, abs=1e-9)
        assert difference.lower < difference.difference < difference.upper


def test_the_standard_error_of_a_difference_is_that_of_a_bootstrap_over_patients(
    study: Study, run_of: dict[str, Run]
) -> None:
    run = run_of[OFFICIAL]
    found = held_against(run, read_source("google2019", study.raw), Opened()).difference["Pneumothorax"]
    joined, nih = arrays(run, study)
    scores, readers = joined["Pneumothorax"].to_numpy(), joined["Pneumothorax by readers"].to_numpy()
    by_nih = nih["Pneumothorax"].to_numpy()
    rows_K = [np.flatnonzero(joined["patient_id"] == patient) for patient in joined["patient_id"].unique().sort()]
    generator = np.random.default_rng(0)
    drawn = []
    for _ in range(150):
        rows = np.concatenate([rows_K[place] for place in generator.integers(0, len(rows_K), len(rows_K))])
        drawn.append(roc_auc_score(readers[rows], scores[rows]) - roc_auc_score(by_nih[rows], scores[rows]))
    assert found.standard_error == pytest.approx(np.std(drawn, ddof=1), rel=0.2)
    single = held_against(run, read_source("google2019", study.raw), Opened()).source["Pneumothorax"]
    assert found.standard_error < single.upper - single.lower  # paired: not the sum of both


def test_over_all_images_nihs_side_is_that_of_the_scores(study: Study, run_of: dict[str, Run]) -> None:
    run = run_of[OFFICIAL]
    found = held_against(run, read_source("nih-2017", study.raw), Opened())
    assert found.images == run.test.images
    for label in (*CHESTXRAY14.labels, None):
        metric, again = run.auc(label), found.nih[label or AVERAGE]
        assert again.value == pytest.approx(metric.value, abs=1e-12)
        assert again.positives == metric.positives
    changed = set(CHESTXRAY14.labels) - found.same
    assert "Pneumonia" in changed <= {"Pneumonia", "No Finding"}
    assert found.nih["Pneumonia"].positives - found.source["Pneumonia"].positives == 5
    assert found.difference["Hernia"].difference == 0
    mean = np.mean([found.source[label].value - found.nih[label].value for label in CHESTXRAY14.averaged])
    assert found.difference[AVERAGE].difference == pytest.approx(mean, abs=1e-12)


def test_only_the_images_that_a_run_was_tested_on_count(study: Study, run_of: dict[str, Run]) -> None:
    source = read_source("google2019", study.raw)
    tested = set(source.scored["image_id"])
    for name in ("resnet50-large-meta resample-1 0", "partial official 0"):
        run = run_of[name]
        own = set(pl.read_parquet(run.folder / "predictions" / "test.parquet")["image_id"])
        found = held_against(run, source, Opened())
        assert found.images == len(own & tested) < min(len(own), len(tested))


def test_too_few_patients_have_no_interval(study: Study, run_of: dict[str, Run]) -> None:
    kept = pl.read_csv(study.raw / adjudicated.FILE, infer_schema=False)
    few = pl.concat([kept.filter(pl.col("Pneumothorax") == said).head(60) for said in ("YES", "NO")])
    rare = few.filter((pl.col("Set Id") == "test") & ((pl.col("Pneumothorax") == "NO") | (pl.int_range(pl.len()) < 12)))
    rare.write_csv(study.raw / adjudicated.FILE)
    found = held_against(run_of[OFFICIAL], read_source("google2019", study.raw), Opened())
    metric, difference = found.source["Pneumothorax"], found.difference["Pneumothorax"]
    assert metric.mark == difference.mark == TOO_FEW
    assert metric.lower is None
    assert np.isnan(difference.lower)
    text = render(label_sources_of(run_of[OFFICIAL].folder, ["google2019"], study.raw), "md")
    assert f"({metric.positive_patients} patients)" in text
    assert f"({TOO_FEW})" in text


def test_agreement_is_recall_and_precision(study: Study, run_of: dict[str, Run]) -> None:
    source = read_source("google2019", study.raw)
    records = read_truth(study.labels).records(CHESTXRAY14)
    for everywhere in (True, False):
        truths = both_truths(records, source, everywhere=everywhere)
        assert len(truths.clusters) == (source.images if everywhere else source.scored).height
        for place, one in enumerate(agreement(records, source, everywhere=everywhere)):
            readers, nih = truths.source[:, place], truths.nih[:, place]
            assert one.sensitivity.value == pytest.approx(recall_score(readers, nih))
            assert one.positive_predictive_value.value == pytest.approx(precision_score(readers, nih))
            assert one.sensitivity.interval.lower < one.sensitivity.value < one.sensitivity.interval.upper


def test_a_label_that_is_not_known_counts_nowhere(study: Study, run_of: dict[str, Run]) -> None:
    """Where NIH's labels are empty the image has no truth of NIH's, and is left out of both counts."""
    source = read_source("google2019", study.raw)
    records = read_truth(study.labels).records(CHESTXRAY14)
    first = source.images["image_id"][0]
    blind = records.with_columns(
        pl.when(pl.col("image_id") != first).then(pl.col("Pneumothorax")).alias("Pneumothorax")
    )
    assert agreement(blind, source)[0].images == agreement(records, source)[0].images - 1


# Which runs


def test_runs_that_cannot_be_held_against_a_source(study: Study, run_of: dict[str, Run]) -> None:
    run, source = run_of[OFFICIAL], read_source("google2019", study.raw)
    assert why_not(run, source) == ""

    def with_origin(**changes: str) -> Run:
        return replace(run, scores=replace(run.scores, origin=replace(run.origin, **changes)))

    assert why_not(with_origin(dataset="synthetic"), source) == "images of data set synthetic, not nih-chestxray14"
    assert why_not(with_origin(label_set="age"), source) == "predicts age, sex or view"
    assert "has none of the findings" in why_not(with_origin(label_set=STRANGE.name), source)
    (run.folder / "predictions" / "test.parquet").write_bytes(b"")
    assert "its predictions/test.parquet cannot be read" in why_not(run, source)


def test_a_model_of_fewer_labels_is_scored_in_what_it_knows(study: Study, run_of: dict[str, Run]) -> None:
    evidence = Opened().evidence(run_of[OFFICIAL])
    places = [evidence.labels.labels.index(label) for label in CHESTXRAY8.labels]
    aligned = sources_of.align(
        evidence.images,
        evidence.scores[:, places],
        evidence.truth[:, places],
        CHESTXRAY8,
        read_source("google2019", study.raw),
    )
    assert aligned.findings.labels == ("Pneumothorax", "Nodule or Mass")  # no Consolidation, no Edema
    assert aligned.scores.shape[1] == aligned.truths.nih.shape[1] == aligned.truths.source.shape[1] == 2
    older = sources_of.align(
        evidence.images,
        evidence.scores[:, places],
        evidence.truth[:, places],
        CHESTXRAY8,
        read_source("nih-2017", study.raw),
    )
    assert set(older.findings.labels) == set(CHESTXRAY8.labels)
    assert older.findings.averaged == ()


def test_the_table_of_2017_is_told_by_its_counts(study: Study, run_of: dict[str, Run]) -> None:
    assert read_source("nih-2017", study.raw).release == "unknown"  # five of Pneumonia fewer is no release
    newer = study.raw / "Data_Entry_2017_v2020.csv"
    (study.raw / "Data_Entry_2017.csv").write_bytes(newer.read_bytes())
    with pytest.raises(UserError, match="holds the labels of release v2020, not those of 2017"):
        read_source("nih-2017", study.raw)


# The document


def table(report: Report, key: str) -> Table:
    (found,) = [one for one in report.tables if one.key == key]
    return found


def document(study: Study, *names: str) -> Report:
    return label_sources(find_runs(study.runs).runs, names, study.raw, Opened())


@pytest.mark.parametrize(("name", "golden"), [("google2019", "labels_google2019"), ("nih-2017", "labels_nih2017")])
def test_golden_documents(study: Study, run_of: dict[str, Run], name: str, golden: str) -> None:
    report = label_sources_of(run_of[OFFICIAL].folder, ["nih", name], study.raw)
    check_golden(f"{golden}.md", render(report, "md"))
    console = Console(width=80, file=io.StringIO(), force_terminal=False, color_system=None)
    console.print(to_rich(report))
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]
    check_golden(f"{golden}_80.txt", "\n".join(lines) + "\n")


def check_golden(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("CXRKIT_UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text


def test_a_document_of_several_runs(study: Study, run_of: dict[str, Run]) -> None:
    report = document(study, "nih", "google2019")
    assert report.key == "labels"
    overview = table(report, "labels-google2019-runs")
    assert len(overview.rows) == len(run_of)
    assert len({row.heading for row in overview.rows}) == len(run_of)  # seeds are told apart
    assert len({one.key for one in report.tables}) == len(report.tables)
    (figure,) = report.figures
    assert [panel.title for panel in figure.panels] == list(FINDINGS)
    nih, readers = figure.panels[0].marks
    assert len(nih.values) == len(readers.lower) == len(figure.panels[0].categories) == len(run_of)
    partial = next(one for one in report.tables if one.title.startswith("partial"))
    assert any("60 of 391 test images" in note for note in partial.notes)
    rows = pl.read_csv(io.StringIO(render(report, "csv")), infer_schema=False)
    assert set(rows["label"]) >= set(FINDINGS)


def test_a_run_that_is_left_out_is_named(study: Study, run_of: dict[str, Run]) -> None:
    (run_of["partial official 0"].folder / "predictions" / "test.parquet").unlink()
    report = document(study, "google2019")
    assert report.notes == ("Left out: 1 run (partial, official): its predictions/test.parquet is missing",)


def test_no_run_at_all(study: Study, run_of: dict[str, Run]) -> None:
    run = run_of["partial official 0"]
    (run.folder / "predictions" / "test.parquet").unlink()
    with pytest.raises(
        UserError, match=r"no run can be held against the adjudicated labels\n.*test.parquet is missing"
    ):
        label_sources([run], ["google2019"], study.raw, Opened())


def test_the_second_time_nothing_is_computed(study: Study, run_of: dict[str, Run]) -> None:
    run, source = run_of[OFFICIAL], read_source("google2019", study.raw)
    first = held_against(run, source, Opened())

    class Blind(Opened):
        def evidence(self, *_: object, **__: object) -> object:  # type: ignore[override]
            raise AssertionError("asked again")

    assert same(held_against(run, source, Blind()), first)
    table = pl.read_csv(study.raw / adjudicated.FILE, infer_schema=False)
    table.head(len(table) - 40).write_csv(study.raw / adjudicated.FILE)
    other = held_against(run, read_source("google2019", study.raw), Opened())
    assert other.images < first.images


def same(one: HeldAgainst, other: HeldAgainst) -> bool:
    return (one.images, one.nih, one.source, one.same) == (other.images, other.nih, other.source, other.same)


# The real files


def test_the_real_file_counts_to_what_is_known(nih_raw: Path) -> None:
    source = read_source("google2019", nih_raw)
    assert source.images.height == 4_376
    assert (source.scored.height, source.scored["patient_id"].n_unique()) == (1_962, 860)
    expected = {"Pneumothorax": (195, 121), "Nodule or Mass": (295, 195)}
    for finding, counts in expected.items():
        ill = source.scored.filter(pl.col(finding))
        assert (ill.height, ill["patient_id"].n_unique()) == counts
    records = read_entries(nih_raw / "Data_Entry_2017_v2020.csv")
    found = {one.finding: one for one in agreement(records, source)}
    printed = {
        finding: (f"{one.sensitivity.value:.3f}", f"{one.positive_predictive_value.value:.3f}")
        for finding, one in found.items()
    }
    assert printed == {
        "Pneumothorax": ("0.458", "0.458"),
        "Nodule or Mass": ("0.423", "0.563"),
        "Airspace opacity": ("0.509", "0.720"),
    }
    assert {one.images for one in found.values()} == {4_376}


def test_the_real_table_is_not_that_of_2017(nih_raw: Path, tmp_path: Path) -> None:
    (tmp_path / "Data_Entry_2017.csv").symlink_to(nih_raw / "Data_Entry_2017_v2020.csv")
    with pytest.raises(UserError, match="holds the labels of release v2020"):
        read_source("nih-2017", tmp_path)
