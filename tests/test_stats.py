"""`cxrkit stats`: Table 2 and Figure 3 of the paper, counted on the real tables, and the same for any data set."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import chestxray14_facts
import numpy as np
import polars as pl
import pytest
from tiny_tables import small_cohort, write_raw
from typer.testing import CliRunner

from cxrkit import report as reports
from cxrkit.base.errors import UserError
from cxrkit.base.labels import CHESTXRAY14, PATHOLOGIES
from cxrkit.cli.app import app
from cxrkit.imports import cohort
from cxrkit.imports.cohort import NIH, Cohort
from cxrkit.prepare.stage import PrepareConfig, prepare_raw
from cxrkit.report.data import cohort_counts
from cxrkit.report.data.data_statistics import data_statistics
from cxrkit.report.document.figures import Bars, Grid, Line
from cxrkit.report.document.tables import Report, Table
from cxrkit.report.literature.paper_tables import table2


@pytest.fixture(scope="module")
def records() -> pl.DataFrame:
    return chestxray14_facts.records()


@pytest.fixture(scope="module")
def real(records: pl.DataFrame) -> Report:
    return data_statistics(Cohort(Path("facts"), NIH, "v2020", CHESTXRAY14, records))


def table_of(report: Report, key: str) -> Table:
    return next(table for table in report.tables if table.key == key)


def texts(table: Table) -> dict[str, list[str]]:
    return {row.heading: [cell.text for cell in row.cells] for row in table.rows}


# The paper's Table 2, on the real data


def test_what_the_paper_prints_agrees_with_itself() -> None:
    printed = table2()
    assert set(printed.labels) == set(PATHOLOGIES)
    for found in printed.labels.values():
        assert found.positive + found.negative == 112_120
        assert f"{100 * found.positive / 112_120:.2f}" == f"{found.prevalence:.2f}"
    assert sum(printed.sex.values()) == sum(printed.view.values()) == 112_120
    assert f"{printed.sex['F'] / printed.sex['M']:.2f}" == f"{printed.sex_ratio:.2f}"
    assert f"{printed.view['PA'] / printed.view['AP']:.2f}" == f"{printed.view_ratio:.2f}"


def test_all_fourteen_counts_equal_the_papers(real: Report) -> None:
    table = table_of(real, "table2a")
    shown = texts(table)
    for label, printed in table2().labels.items():
        positive, negative, prevalence, _, paper, paper_prevalence = shown[CHESTXRAY14.heading(label)]
        assert positive == paper == f"{printed.positive:,}"
        assert negative == f"{printed.negative:,}"
        assert prevalence == paper_prevalence
    assert shown["No Finding"][:2] == ["60,361", "51,759"]
    assert shown["No Finding"][4:] == ["-", "-"]
    assert "The number of images of every label equals the printed one" in table.notes


def test_the_counts_of_the_real_csv_are_the_papers(nih_raw: Path) -> None:
    report = data_statistics(cohort.read(nih_raw / "Data_Entry_2017_v2020.csv", None))
    assert "The number of images of every label equals the printed one" in table_of(report, "table2a").notes
    assert texts(table_of(report, "subsets"))["Images"] == ["75,707", "10,817", "25,596", "112,120"]


def test_the_sexes_are_swapped_in_the_paper_and_the_mean_age_is_of_another_release(real: Report) -> None:
    table = table_of(real, "table2b")
    shown = texts(table)
    assert shown["Male"] == ["63,340", "48,780"]
    assert shown["Female"] == ["48,780", "63,340"]
    assert shown["PA"] == ["67,310"] * 2
    assert shown["AP"] == ["44,810"] * 2
    assert shown["Age, mean"] == ["46.63", "46.87"]
    assert shown["Age, SD"] == ["16.60", "16.60"]
    assert "The paper's Table 2b has the sexes swapped: 63,340 images are of men, 48,780 of women" in table.notes
    assert any(note.startswith("The paper's mean age of 46.87 is that of NIH's table of 2017") for note in table.notes)


def test_labels_of_another_release_are_said(records: pl.DataFrame) -> None:
    tested = pl.col("Pneumonia") & (pl.col("official") == "test")
    older = records.with_columns(Pneumonia=pl.col("Pneumonia") & ~(tested & (tested.cum_sum() <= 78)))
    report = data_statistics(Cohort(Path("x"), NIH, "unknown", CHESTXRAY14, older))
    assert (
        "Not as many images as in the paper have Pneumonia: these are labels unknown, and the paper counted those of "
        "v2020"
    ) in table_of(report, "table2a").notes


# Subsets


def test_the_official_split_is_a_shift(real: Report) -> None:
    shown = texts(table_of(real, "prevalence"))
    assert shown["Pneumothorax"] == ["3.09", "2.76", "10.41", "3.77"]
    assert shown["No Finding"] == ["58.46", "57.72", "38.53", "0.67"]
    assert texts(table_of(real, "positives"))["Hernia"] == ["123 (88)", "18 (14)", "86 (32)"]
    subsets = texts(table_of(real, "subsets"))
    assert subsets["Patients"] == ["24,316", "3,692", "2,797", "30,805"]
    assert subsets["Images a patient, most"][2:] == ["184", "184"]
    assert subsets["Images a patient, mean"][2] == "9.15"


def test_another_split_may_be_named(records: pl.DataFrame) -> None:
    found = Cohort(Path("facts"), NIH, "v2020", CHESTXRAY14, records)
    report = data_statistics(found, "2")
    assert table_of(report, "subsets").title == "Subsets of split resample-2"
    assert not table_of(report, "subsets").notes
    with pytest.raises(UserError, match=r"--fold 9: there is no such fold"):
        data_statistics(found, "9")


# What comes together


def test_counts_are_those_of_plain_loops() -> None:
    frame = small_cohort()
    both = cohort_counts.together(frame, PATHOLOGIES)
    rows = frame.select(PATHOLOGIES).to_numpy()
    for one in range(14):
        for other in range(14):
            assert both[one, other] == sum(bool(row[one] and row[other]) for row in rows)
    an_image = cohort_counts.labels_an_image(frame, PATHOLOGIES)
    assert an_image.tolist() == [sum(row.sum() == number for row in rows) for number in range(len(an_image))]
    patients, images = cohort_counts.images_a_patient(frame)
    assert (patients.sum(), images.sum()) == (60, len(frame))
    assert patients[:3].tolist() == [15, 15, 30]  # 1, 2, and 3 or 4 images
    ages = cohort_counts.age_histogram(frame, 30, 90)
    assert ages.sum() == len(frame)
    assert ages[0] == frame["age_years"].is_between(30, 31).sum()


def test_tables_add_up(real: Report) -> None:
    by_labels = table_of(real, "labels-an-image")
    assert sum(row.cells[0].values["images"] for row in by_labels.rows) == 112_120
    by_images = table_of(real, "images-a-patient")
    assert sum(row.cells[3].values["patients"] for row in by_images.rows) == 30_805
    assert sum(row.cells[4].values["images"] for row in by_images.rows) == 112_120
    together = {row.key: row for row in table_of(real, "co-occurrence").rows}
    edema, pneumonia = PATHOLOGIES.index("Edema"), PATHOLOGIES.index("Pneumonia")
    assert together["Edema"].cells[pneumonia].values["images"] == together["Pneumonia"].cells[edema].values["images"]
    assert together["Pneumonia"].cells[edema].text == "24"


# Figures


def test_figure_3_has_bins_of_two_years(real: Report, records: pl.DataFrame) -> None:
    figure = next(figure for figure in real.figures if figure.key == "figure3")
    lines = {mark.name: mark for mark in figure.panels[0].marks if isinstance(mark, Line)}
    assert set(lines) == {"All", "Male", "Female"}
    counts = np.histogram(records["age_years"].to_numpy(), np.arange(0, 98, 2))[0]
    assert lines["All"].x == tuple(range(0, 98, 2))
    assert lines["All"].y[:-1] == tuple(counts)
    assert sum(lines["Male"].y[:-1]) == 63_340
    assert "mean 46.63 years, standard deviation 16.60" in figure.caption


def test_the_other_figures_are_of_the_tables(real: Report) -> None:
    figures = {figure.key: figure.panels[0] for figure in real.figures}
    bars = {mark.name: mark for mark in figures["prevalence"].marks if isinstance(mark, Bars)}
    assert bars["test"].values[4] == pytest.approx(100 * 2665 / 25596)
    (grid,) = figures["co-occurrence"].marks
    assert isinstance(grid, Grid)
    assert grid.values[12][2] == pytest.approx(100 * 340 / 1431, abs=2)
    assert grid.texts[12][2] == "24"
    assert figures["co-occurrence"].categories == tuple(map(CHESTXRAY14.heading, PATHOLOGIES))


# Other data sets, and what is not known


def test_phantoms_have_no_column_of_the_paper(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", small_cohort(), synthetic=True)
    report = data_statistics(cohort.read(raw, None, "synthetic"))
    assert report.title == "Statistics of synthetic"
    for table in report.tables:
        assert not any("paper" in column.name for column in table.columns)
        assert "paper" not in table.title
    assert len(table_of(report, "table2b").columns) == 1


def test_what_is_not_known_is_counted_apart() -> None:
    frame = small_cohort().with_columns(
        Mass=pl.when(pl.col("view") == "AP").then(None).otherwise("Mass"),
        age_years=pl.when(pl.col("sex") == "M").then(None).otherwise("age_years"),
        sex=pl.lit(None, pl.String),
        official=pl.lit(None, pl.String),
    )
    unknown = int((frame["view"] == "AP").sum())
    report = data_statistics(Cohort(Path("x"), "own", "unknown", CHESTXRAY14, frame))
    columns = [column.name for column in table_of(report, "table2a").columns]
    mass = texts(table_of(report, "table2a"))["Mass"]
    assert mass[columns.index("not known")] == f"{unknown}"
    people = texts(table_of(report, "table2b"))
    assert people["Sex not known"] == [f"{len(frame)}"]
    assert people["Male / Female"] == ["-"]
    assert int(people["Age not known"][0]) == frame["age_years"].null_count()
    assert "No official split: name another by --fold to see its subsets" in report.notes
    assert not any(table.key == "subsets" for table in report.tables)
    assert data_statistics(Cohort(Path("x"), "own", "unknown", CHESTXRAY14, frame), "1").tables[2].key == "subsets"


def test_nothing_known_of_ages_is_said() -> None:
    frame = small_cohort().with_columns(age_years=pl.lit(None, pl.Int32))
    report = data_statistics(Cohort(Path("x"), "own", "unknown", CHESTXRAY14, frame))
    assert report.figures[0].caption == "No age is known."
    assert texts(table_of(report, "table2b"))["Age, mean"] == ["-"]


# The command


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["stats", *map(str, arguments)], catch_exceptions=False)
    return result.output


def test_the_command_reads_a_prepared_folder_and_a_csv_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = write_raw(tmp_path / "raw", small_cohort(), synthetic=True)
    monkeypatch.chdir(tmp_path)
    prepare_raw(PrepareConfig(raw=raw, data=Path("data/shards"), dataset="synthetic", tables_only=True))
    by_csv = run("--raw", raw, "--dataset", "synthetic", "--out", "stats.csv")
    assert "written: stats.csv" in by_csv
    assert by_csv.replace("written: stats.csv\n", "") == run()  # data/shards
    rows = list(csv.reader(io.StringIO((tmp_path / "stats.csv").read_text())))
    assert any("Hernia" in row for row in rows)


def test_what_is_not_there_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"data/shards/dataset\.json"):
        run()
    with pytest.raises(UserError, match=r"--raw and --data: both are given"):
        run("--raw", ".", "--data", ".")
    with pytest.raises(UserError, match=r"--out stats\.doc: the ending '\.doc' names no format"):
        run("--raw", ".", "--out", "stats.doc")


def test_every_format_takes_the_report(real: Report) -> None:
    for name in ("md", "csv", "latex"):
        assert "Pneumothorax" in reports.render(real, name)
