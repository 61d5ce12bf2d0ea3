"""A report in every format: what each one keeps, whether others can read it, and the folder with all of them.

Golden files hold the small study's documents; after a wanted change run `CXRKIT_UPDATE_GOLDEN=1 pytest` on this file
and read the difference.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from study_runs import Study

from cxrkit import report
from cxrkit.base.errors import UserError
from cxrkit.report.document.figures import Axis, Bars, Figure, Grid, Line, Panel, Ranges
from cxrkit.report.document.tables import EMPTY, Cell, Column, Report, Row, Table
from cxrkit.report.rendering import document, latex_text, tidy
from cxrkit.report.rendering.folder import LIST, PAGE, steps, write_folder
from cxrkit.report.rendering.formats import FORMATS, format_of

GOLDEN = Path(__file__).parent / "golden" / "report"
SCHEMA = Path(__file__).parent.parent / "docs" / "report.schema.json"
BUILDERS = {"official": report.official, "resampled": report.resampled, "probes": report.probes}
NAN = math.nan
LONG = "a long text " * 20 + "runs/sweep/a_name_of_a_run_that_nobody_would_choose/official " + "deadbeef" * 8
ODD_SIGNS = 'naïve Łódź 漢字 ≤ 5 % & #1 ~ ^ \\ {x} $5 _ | " “q” ± × † … α `--code_with --dashes` <a>'  # noqa: RUF001

FIGURE = Figure(
    "all",
    "Every kind of mark",
    "What is shown, of 3 images & 2 patients.",
    (
        Panel("lines", (Line("a", (0.0, 1.0), (0.25, 0.5), (0.1, 0.2), (0.3, 0.7), steps=True),), square=True),
        Panel("bars", (Bars("a", (1.0, 2.0)),), x=Axis("label"), y=Axis("images", 1, 10, True), categories=("A", "B")),
        Panel("ranges", (Ranges("a", (1.0,), (0.5,), (1.5,), hollow=True),), categories=("A",), across="y"),
        Panel(
            "grid", (Grid(((0.0, 1.0), (2.0, 3.0)), (("a", "b"), ("c", "d")), diverging=True),), categories=("A", "B")
        ),
    ),
    columns=2,
)

LINE = Figure("line", "One line", "Quickly drawn.", (Panel("", (Line("a", (0.0, 1.0), (0.25, 0.5)),)),))


def odd_report() -> Report:
    """Return what tests a typesetter: wide, high, long, and full of signs that mean something to it."""
    texts = (Column("text", ("Text_1", "#2"), left=True), Column("short", ("S",), left=True), Column("n", ("n",)))
    prose = [Row("", f"row {i} {ODD_SIGNS[:12]}", (Cell(LONG), Cell(ODD_SIGNS), Cell("-0.123"))) for i in range(9)]
    numbers = tuple(Column(f"net{i}", (f"resnet{i}-", "large-meta *"), ("auc",)) for i in range(40))
    cells = tuple(Cell(f"0.{i:03d} ± 0.01", {"auc": i / 1000}, bold=i % 3 == 0) for i in range(40))
    wide = tuple(Row(name, name, cells) for name in ("[Mass]", "*Nodule", "Hernia"))
    high = tuple(Row(f"{i}", f"row {i}", (Cell(f"{i:,}"),)) for i in range(120))
    return Report(
        "Odd & 100 % odd",
        (
            Table(LONG, ODD_SIGNS, texts, tuple(prose), (LONG, ODD_SIGNS, "* star", "[bracket]"), "odd signs"),
            Table("Wide", "Pathology", numbers, wide, ("[a] note", "* another"), "wide"),
            Table("High", "Row", (Column("n", ("n",), ("n",)),), high, key="high"),
            Table("High again", "Row", (Column("n", ("n",), ("n",)),), high[:3], key="high"),
        ),
        (ODD_SIGNS, "* star"),
        text=(LONG, ODD_SIGNS),
        key="odd",
    )


def check_golden(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("CXRKIT_UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text


def rows_of(shown: Report) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(report.render(shown, "csv"))))


@pytest.mark.parametrize("name", BUILDERS)
def test_golden(study: Study, name: str) -> None:
    shown = BUILDERS[name](study.runs)
    for format in ("md", "latex", "csv", "json"):
        check_golden(f"{name}{FORMATS[format].ending}", report.render(shown, format))


# JSON


def strict(text: str) -> Any:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("name", BUILDERS)
def test_json_gives_the_document_back(study: Study, tmp_path: Path, name: str) -> None:
    shown = replace(BUILDERS[name](study.runs, apart=True), figures=(FIGURE,), text=("A paragraph.",))
    report.write(shown, tmp_path / "report.json", "json")
    assert report.read_report_json(tmp_path / "report.json") == shown
    value = strict((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert (value["schema"], value["schema_version"]) == ("cxrkit-report", 1)
    jsonschema.validate(value, json.loads(SCHEMA.read_text(encoding="utf-8")))


def test_what_json_has_no_number_for_is_null_and_comes_back_as_nan(tmp_path: Path) -> None:
    panel = Panel("", (Bars("a", (NAN, 2.0)), Grid(((NAN, 1.0),)), Line("b", (math.inf, 0.0), (0.0, 1.0))))
    cells = (Cell("n/a", {"auc": NAN, "lower": None, "positives": 3}),)
    table = Table("t", "s", (Column("c", ("c",), ("auc",)),), (Row("Mass", "Mass", cells),))
    shown = Report("r", (table,), figures=(Figure("f", "f", "f", (panel,)),))
    report.write(shown, tmp_path / "report.json", "json")
    value = strict((tmp_path / "report.json").read_text())
    jsonschema.validate(value, json.loads(SCHEMA.read_text(encoding="utf-8")))
    assert value["figures"][0]["panels"][0]["marks"][0]["values"] == [None, 2.0]
    found = report.read_report_json(tmp_path / "report.json")
    assert found.tables[0].rows[0].cells[0].values == {"auc": None, "lower": None, "positives": 3}
    bars, grid, line = found.figures[0].panels[0].marks
    assert isinstance(bars, Bars)
    assert isinstance(grid, Grid)
    assert isinstance(line, Line)
    assert math.isnan(bars.values[0])
    assert math.isnan(grid.values[0][0])
    assert math.isnan(line.x[0])
    assert report.render(found, "json") == report.render(shown, "json")


TOO_MANY_CELLS = {
    "title": "t",
    "stub": "s",
    "columns": [],
    "rows": [{"key": "", "heading": "h", "cells": [{"text": ""}]}],
}


def broken(change: Any) -> str:
    value = json.loads(report.render(Report("r", (), figures=(FIGURE,)), "json"))
    return json.dumps(change(value) or value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", 'no report of cxrkit \\(no "schema": "cxrkit-report"\\)'),
        ("{", "the report is not valid JSON"),
        (broken(lambda value: value | {"schema_version": 2}), "version 2 \\(int\\); this cxrkit reads version 1"),
        (broken(lambda value: value | {"title": 1}), "title is 1 \\(int\\), expected text"),
        (
            broken(lambda value: value["figures"][0]["panels"][0]["marks"][0].pop("y") and None),
            "figures\\[0\\].panels\\[0\\].marks\\[0\\].y is missing",
        ),
        (
            broken(lambda value: value["figures"][0]["panels"][1]["marks"][0].update(kind="pie")),
            "figures\\[0\\].panels\\[1\\].marks\\[0\\].kind is 'pie', expected one of line, bars, ranges, grid",
        ),
        (
            broken(lambda value: value["figures"][0]["panels"][1]["marks"][0].update(values=["1"])),
            "marks\\[0\\].values\\[0\\] is '1' \\(str\\), expected a number",
        ),
        (
            broken(lambda value: value | {"tables": [TOO_MANY_CELLS]}),
            "row 'h' of table 't' has 1 cells for 0 columns",
        ),
    ],
)  # fmt: skip
def test_a_file_that_is_no_report_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        report.read_report_json(path)
    assert str(path) in str(caught.value)
    assert "cxrkit report --out" in caught.value.remedy


# CSV


@pytest.mark.parametrize("name", BUILDERS)
def test_csv_loses_no_number(study: Study, name: str) -> None:
    shown = BUILDERS[name](study.runs, apart=True)
    rows = rows_of(shown)
    found = {(row["table"], row["run"], row["label"], row["metric"]): row for row in rows}
    assert len(found) == len(rows)
    expected = 0
    for table in shown.tables:
        for line in table.rows:
            for column, cell in zip(table.columns, line.cells, strict=True):
                if not (column.fields and line.key) or cell == EMPTY:
                    continue
                expected += 1
                run, label = (line.key, column.name) if table.rows_are_runs else (column.name, line.key)
                row = found[table.key, run, label, column.fields[0]]
                assert row["text"] == cell.text
                for field, value in cell.values.items():
                    # Another metric of the same cell has a row of its own.
                    other = found.get((table.key, run, label, field))
                    written = other["value"] if other else row["value" if field == column.fields[0] else field]
                    assert (value is None) == (written == "")
                    assert value is None or float(written) == pytest.approx(value, rel=1e-5)
    assert 0 < expected <= sum(row["run"] != "" for row in rows)


def test_csv_names_what_is_said_of_a_metric_once() -> None:
    values = {"mae": 9.0, "mae lower": 8.0, "p": 0.5, "n_eff": 3}
    columns = (Column("run", ("run",), ("mae", "mae lower", "p")), Column("words", ("words",)))
    table = Table("t", "s", columns, (Row("age", "Age", (Cell("9", values), Cell("x"))),), key="k")
    mae, p = rows_of(Report("r", (table,), key="r"))
    assert (mae["metric"], mae["value"], mae["lower"], mae["n_eff"]) == ("mae", "9", "8", "3")
    assert (p["metric"], p["value"], p["lower"]) == ("p", "0.5", "")
    assert tuple(mae) == tidy.COLUMNS


def test_csv_gives_an_interval_and_its_mark_to_the_first_metric_alone() -> None:
    values = {"difference": 0.1, "lower": -0.1, "upper": 0.3, "approximate": 1, "p_value": 0.2, "images": 9}
    columns = (Column("a less b", ("a",), ("difference", "p_value"), own=True),)
    table = Table("t", "s", columns, (Row("Mass", "Mass", (Cell("+0.1", values),)),), key="k")
    difference, p = rows_of(Report("r", (table,), key="r"))
    assert (difference["lower"], difference["approximate"], difference["images"]) == ("-0.1", "1", "9")
    assert (p["metric"], p["value"], p["lower"], p["approximate"], p["images"]) == ("p_value", "0.2", "", "", "9")


def test_csv_has_counts_that_nothing_else_is_said_with() -> None:
    columns = (Column("images", ("Images",), ("images", "ratio"), own=True),)
    rows = (Row("PA", "PA", (Cell("1,500", {"images": 1500}),)), Row("PA / AP", "", (Cell("1.5", {"ratio": 1.5}),)))
    count, ratio = rows_of(Report("r", (Table("t", "s", columns, rows, key="k"),), key="r"))
    assert (count["metric"], count["value"], ratio["metric"], ratio["value"]) == ("images", "1500", "ratio", "1.5")


def test_csv_has_the_cells_of_rows_without_keys() -> None:
    columns = (Column("recipe", ("Recipe",), left=True), Column("epoch", ("Epoch",)))
    row = Row("", "net, official", (Cell("resnet50-large"), Cell("1,500", {"epoch": 1500})))
    found = rows_of(Report("r", (Table("t", "Run", columns, (row,), key="k"),), key="r"))
    assert [(line["label"], line["metric"], line["text"]) for line in found] == [
        ("net, official", "recipe", "resnet50-large"),
        ("net, official", "epoch", "1,500"),
    ]


def test_csv_of_a_table_without_numbers_has_its_texts() -> None:
    table = Table("t", "s", (Column("why", ("Why",), left=True),), (Row("", "3", (Cell("because"),)),), key="apart")
    (row,) = rows_of(Report("r", (table,), key="r"))
    assert {name: value for name, value in row.items() if value} == {
        "report": "r", "table": "apart", "label": "3", "metric": "why", "text": "because",
    }  # fmt: skip


# LaTeX


def compiled(folder: Path, *texts: str) -> str:
    """Return the log of an article with these texts, a page for each. Fails where TeX does."""
    body = "\n\\clearpage\n".join(texts)
    packages = "\\usepackage{booktabs,array,longtable,graphicx}"
    article = f"\\documentclass{{article}}\n{packages}\n\\begin{{document}}\n{body}\n\\end{{document}}\n"
    (folder / "article.tex").write_text(article, encoding="utf-8")
    for _ in range(2):  # the second time for the references
        done = subprocess.run(
            ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "article.tex"],
            cwd=folder,
            capture_output=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
    return (folder / "article.log").read_text(encoding="utf-8", errors="replace")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="TeX is not installed: there is no pdflatex")
def test_latex_compiles_and_fits_the_page(study: Study, tmp_path: Path) -> None:
    reports = [build(study.runs, apart=True) for build in BUILDERS.values()]
    golden = [(GOLDEN.parent / f"report_{name}.tex").read_text() for name in ("official", "official_seeds")]
    log = compiled(tmp_path, *(report.render(shown, "latex") for shown in (*reports, odd_report())), *golden)
    over = [float(points) for points in re.findall(r"Overfull \\[hv]box \(([\d.]+)pt too", log)]
    assert max(over, default=0.0) <= 3, log
    assert "Float too large" not in log
    undefined = set(re.findall(r"Reference `(.*?)' on page", log))
    assert undefined == set()


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="TeX is not installed: there is no pdflatex")
def test_latex_includes_the_figures(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from cxrkit.report.rendering.drawing import draw

    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "all.pdf").write_bytes(draw(FIGURE, "pdf"))
    text = report.render(Report("r", (), figures=(FIGURE,)), "latex", figures="figures")
    assert "\\label{fig:all}" in text
    assert "of 3 images \\& 2 patients" in text
    assert "Overfull" not in compiled(tmp_path, text)
    assert "includegraphics" not in report.render(Report("r", (), figures=(FIGURE,)), "latex")


def test_latex_labels_every_table_once() -> None:
    text = report.render(odd_report(), "latex")
    labels = re.findall(r"\\label{(.*?)}", text)
    assert len(set(labels)) == len(labels) == text.count("\\caption{")
    assert {"tab:odd-signs", "tab:wide", "tab:wide-part2", "tab:high", "tab:high-2"} <= set(labels)
    assert "\\usepackage{booktabs,array,longtable}" in text.splitlines()[1]
    assert report.render(Report("r", odd_report().tables[-1:]), "latex").splitlines()[1].endswith("{booktabs}")


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a_b & 5 %", "a\\_b \\& 5 \\%"),
        ("`--out x`", "\\texttt{-{}-out x}"),
        ("漢 é Ł", "? é Ł"),
        ("0.8 ± 0.1 ~[0, 1]", "0.8 $\\pm$ 0.1 \\textasciitilde{}[0, 1]"),
    ],
)
def test_latex_escapes(text: str, written: str) -> None:
    assert latex_text.escaped(text) == written


def test_a_minus_is_one_and_a_name_keeps_its_hyphen() -> None:
    assert latex_text.number_or_text("-0.01 [-0.02, .5]") == "$-$0.01 [$-$0.02, .5]"
    assert latex_text.number_or_text("resample-1") == "resample-1"
    assert latex_text.number_or_text("-") == "--"


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="TeX is not installed: there is no pdflatex")
def test_widths_are_those_of_the_font(tmp_path: Path) -> None:
    """A table is split by these widths: they must be right, and never much too small."""
    lines = ["Pleural Thicken.", "0.123 [0.456, 0.789]", "resnet101-1channel-meta", "WMQ wmq ±", "The quick fox; 1,500"]
    measure = "".join(f"\\setbox0\\hbox{{{latex_text.escaped(line)}}}\\typeout{{WIDTH \\the\\wd0}}\n" for line in lines)
    found = [float(points) for points in re.findall(r"WIDTH ([\d.]+)pt", compiled(tmp_path, measure + "x"))]
    for line, points in zip(lines, found[: len(lines)], strict=True):
        assert latex_text.width_of(line, 10) == pytest.approx(points, rel=0.05), line


# The folder with all of them


def write(folder: Path, *documents: Report) -> tuple[set[str], tuple[str, ...]]:
    written = write_folder(documents, folder, title="t", made="m")
    return {path.relative_to(folder).as_posix() for path in written.files}, written.left_out


@pytest.fixture
def drawn() -> Report:
    pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    return Report("Drawn", (), ("a note",), (LINE,), key="drawn")


def test_a_file_without_an_ending_may_be_meant_for_a_folder() -> None:
    for folders in (False, True):
        with pytest.raises(UserError, match="--out report: has no ending that names a format") as caught:
            format_of(Path("report"), folders=folders)
        assert ("a folder of all documents is written with --all --out report" in str(caught.value)) == folders


def test_what_all_documents_say_stands_once_on_their_page(tmp_path: Path, drawn: Report) -> None:
    documents = [replace(drawn, key=key, notes=("All runs: lr 0.5", "mine")) for key in ("one", "two")]
    write_folder(documents, tmp_path, title="t", made="m", said_once=("All runs: lr 0.5",))
    page = (tmp_path / "index.html").read_text()
    assert (page.count("All runs: lr 0.5"), page.count(">mine<")) == (1, 2)
    assert "- All runs: lr 0.5" in (tmp_path / "two.md").read_text()


def test_a_folder_has_every_format_and_the_page(tmp_path: Path, drawn: Report) -> None:
    calls: list[None] = []
    documents = (drawn, replace(odd_report(), figures=(replace(LINE, caption="another"),)))
    written = write_folder(documents, tmp_path, title="t", made="m", done=lambda: calls.append(None))
    names = {path.relative_to(tmp_path).as_posix() for path in written.files}
    figures = {f"figures/{key}.{ending}" for key in ("line", "odd-line") for ending in ("svg", "pdf")}
    texts = {f"{name}.{ending}" for name in ("drawn", "odd") for ending in ("md", "tex", "csv", "json")}
    assert names == {PAGE, LIST} | figures | texts
    assert names == {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert written.left_out == ()
    assert len(calls) == steps(documents)
    assert "![One line](figures/odd-line.svg)" in (tmp_path / "odd.md").read_text()
    assert report.read_report_json(tmp_path / "drawn.json") == drawn


def test_a_folder_keeps_what_is_of_others_and_replaces_its_own(tmp_path: Path, drawn: Report) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "mine.svg").write_text("mine")
    first, _ = write(tmp_path, drawn, odd_report())
    (tmp_path / "drawn.md").write_text("old")
    second, _ = write(tmp_path, drawn)
    assert first - second == {f"odd.{ending}" for ending in ("md", "tex", "csv", "json")}
    there = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert there == second | {"notes.txt", "figures/mine.svg"}
    assert (tmp_path / "drawn.md").read_text() != "old"


def test_a_file_of_somebody_else_is_in_the_way_and_nothing_is_written(tmp_path: Path, drawn: Report) -> None:
    (tmp_path / "drawn.md").write_text("mine")
    with pytest.raises(UserError, match=r"drawn\.md: is not of an earlier report") as caught:
        write(tmp_path, odd_report(), drawn)
    assert "another folder with --out" in caught.value.remedy
    assert [path.name for path in tmp_path.iterdir()] == ["drawn.md"]
    assert (tmp_path / "drawn.md").read_text() == "mine"


def test_a_list_of_files_leads_nowhere_else(tmp_path: Path, drawn: Report) -> None:
    outside = tmp_path / "precious.txt"
    outside.write_text("mine")
    folder = tmp_path / "report"
    write(folder, drawn)
    value = json.loads((folder / LIST).read_text())
    (folder / LIST).write_text(json.dumps(value | {"files": [*value["files"], "../precious.txt", str(outside)]}))
    write(folder, drawn)
    assert outside.read_text() == "mine"


def test_a_report_that_was_interrupted_is_no_stranger(tmp_path: Path, drawn: Report) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_folder((drawn,), tmp_path, title="t", made="m", done=stop)
    assert (tmp_path / "figures" / "line.svg").exists()
    assert write(tmp_path, drawn)[1] == ()


def test_a_figure_is_drawn_again_when_it_changed(tmp_path: Path, drawn: Report) -> None:
    write(tmp_path, drawn)
    svg = tmp_path / "figures" / "line.svg"
    before = svg.stat().st_mtime_ns
    write(tmp_path, replace(drawn, title="other words"))
    assert svg.stat().st_mtime_ns == before
    panel = replace(LINE.panels[0], title="another")
    write(tmp_path, replace(drawn, figures=(replace(LINE, panels=(panel,)),)))
    assert svg.stat().st_mtime_ns > before
    svg.unlink()
    write(tmp_path, replace(drawn, figures=(replace(LINE, panels=(panel,)),)))
    assert svg.exists()


def test_what_a_missing_library_is_needed_for_is_left_out(
    tmp_path: Path, drawn: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, drawn)
    for name in ("matplotlib", "matplotlib.figure", "jinja2"):
        monkeypatch.setitem(sys.modules, name, None)
    names, left_out = write(tmp_path, replace(drawn, figures=(replace(LINE, title="changed"),)))
    assert names == {LIST, "drawn.md", "drawn.tex", "drawn.csv", "drawn.json"}
    assert [line.partition(":")[0] for line in left_out] == ["the figures", PAGE]
    assert all("pip install 'cxrkit[report]'" in line for line in left_out)
    assert not (tmp_path / "figures" / "line.svg").exists()  # it was of other data
    assert "figures/" not in (tmp_path / "drawn.md").read_text()


def test_documents_name_their_version() -> None:
    assert document.SCHEMA_VERSION == 1
    assert json.loads(SCHEMA.read_text(encoding="utf-8"))["properties"]["schema_version"] == {"const": 1}
