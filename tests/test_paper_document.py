"""What goes into a paper: the table of AUCs with intervals, references.bib, one table on one page, names in figures."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import REPOSITORY
from study_runs import Study
from typer.testing import CliRunner

from cxrkit import report
from cxrkit.base.errors import UserError
from cxrkit.cli.app import app
from cxrkit.report.document.tables import AVERAGE, Cell, Column, Report, Row, Table
from cxrkit.report.everything import DOCUMENTS
from cxrkit.report.literature import references, works
from cxrkit.report.rendering import latex_layout
from cxrkit.report.rendering.marks import SHORT, shortened
from cxrkit.report.rendering.page_views import table_view
from cxrkit.report.request import ReportRequest, answer, cited

# The table


def journal(study: Study, **options) -> Report:
    return answer(ReportRequest(study.runs, "paper", **options))


def test_each_cell_is_an_auc_with_its_interval_and_the_best_is_bold(study: Study) -> None:
    (table,) = journal(study).tables
    runs = ReportRequest(study.runs).material().tested
    assert len(table.columns) == len(runs) > 2
    assert [row.key for row in table.rows[:15]][-1] == AVERAGE
    for row in table.rows:
        label = None if row.key == AVERAGE else row.key
        for run, cell in zip(runs, row.cells, strict=True):
            metric = run.auc(label)
            if metric is None or metric.lower is None:
                continue
            assert re.sub("~", "", cell.text) == f"{metric.value:.3f} [{metric.lower:.3f}, {metric.upper:.3f}]"
        printed = [float(cell.text[:5]) for cell in row.cells if cell.values]
        assert [float(cell.text[:5]) for cell in row.cells if cell.bold] == [max(printed)] * printed.count(max(printed))


def test_its_words_are_those_of_a_paper(study: Study) -> None:
    (table,) = journal(study).tables
    text = " ".join((table.title, *table.notes, *(column.name for column in table.columns)))
    assert "[95 % confidence interval] on the official test set of ChestX-ray14" in table.title
    assert "Test set: official split, 391 images of 100 patients" in table.notes[0]
    assert "released by the NIH in 2020 (Data_Entry_2017_v2020.csv)" in table.notes[0]
    assert "unweighted mean over the 14 pathologies" in text
    assert "* Not verified (elsewhere): pixels, training images, pretraining unknown" in table.notes
    assert not re.search(r"\byour?\b|the paper|imported|cxrkit", text)
    tex = report.render(journal(study), "latex")
    assert r"\toprule" in tex
    assert r"\label{tab:paper}" in tex


def test_one_run_alone_has_nothing_in_bold(study: Study) -> None:
    (table,) = journal(study, only=("mlp-meta",)).tables
    assert [column.name for column in table.columns] == ["mlp-meta"]
    assert not any(cell.bold for row in table.rows for cell in row.cells)
    assert not any("bold" in note for note in table.notes)


def test_the_command_knows_it_by_name(study: Study) -> None:
    found = CliRunner().invoke(app, ["report", "--table", "paper", "--runs", str(study.runs), "--format", "md"])
    assert found.exit_code == 0, found.output
    assert "confidence interval" in found.output
    wrong = CliRunner().invoke(app, ["report", "--table", "papers", "--runs", str(study.runs)])
    assert "--table papers: is not built here" in str(wrong.exception)


def test_what_is_left_out_of_all_documents_has_a_reason(study: Study) -> None:
    with pytest.raises(UserError, match=r"no validation predictions \(elsewhere\)"):
        DOCUMENTS["thresholds"].build(ReportRequest(study.runs, only=("elsewhere",)).material())


# Names


def test_a_name_says_imported_only_where_a_training_has_the_same(study: Study) -> None:
    names = [column.name for table in report.official(study.runs).tables for column in table.columns]
    assert "elsewhere" in names
    assert not any("imported" in name for name in names)


def test_no_caption_leaves_open_which_paper_is_meant(study: Study) -> None:
    for shown in (report.official(study.runs), report.resampled(study.runs)):
        text = report.render(shown, "md")
        assert "the paper's Table" not in text
        assert "of Baltruschat et al. 2019)" in text
        assert "our runs" not in text


# References


def test_every_result_has_an_entry_of_what_is_known_of_it() -> None:
    text = references.bibtex(works.literature())
    keys = re.findall(r"^@\w+\{([^,]+),$", text, re.M)
    assert len(keys) == len(set(keys))
    assert set(references.cite_keys()) == set(works.literature())
    assert set(references.cite_keys().values()) <= set(keys)
    entries = dict(zip(keys, re.split(r"^@", text, flags=re.M)[1:], strict=True))
    for key, work in works.literature().items():
        entry = entries[references.cite_keys()[key]]
        for number in re.findall(r"arXiv:(\d{4}\.\d{5})", work.ref):
            assert number in entry
        for doi in re.findall(r"doi:(\S+?)(?=;|$)", work.ref):
            assert doi.split()[0].lower() in entry.lower()
    assert all(line.isascii() for line in text.splitlines())


def test_results_of_one_work_share_an_entry_and_only_those_that_are_named_are_there() -> None:
    assert (
        references.cite_keys()["xiao2023-r50-swav"] == references.cite_keys()["xiao2023-dn121-imagenet"] == "xiao2023"
    )
    text = references.bibtex(["ma2019-can", "jliang2022-vitb-sup"])
    assert set(re.findall(r"@\w+\{([^,]+),", text)) == {*references.ALWAYS, "ma2019-can", "jliang2022"}
    assert "author = {Ma, C. and Wang, H. and Hoi, S.C.H.}" in text
    assert "author = {Ma, D. and {Hosseinzadeh Taher} and Pang" in text


def test_cxrkit_its_paper_and_its_data_are_cited_as_in_citation_cff() -> None:
    cff = (REPOSITORY / "CITATION.cff").read_text()
    text = references.bibtex([])
    for doi in re.findall(r"doi: (\S+)", cff):
        assert f"doi = {{{doi}}}" in text
    for title in re.findall(r'title: "?([^"\n]+)', cff):
        assert f"title = {{{{{title}}}}}" in text
    given = re.findall(r"family-names: ([^,]+), given-names: ([^}]+)\}", cff)
    assert len(given) == 11
    assert all(f"{family}, {name}" in text for family, name in given)


def test_what_a_report_shows_is_what_it_cites(study: Study) -> None:
    shown = report.official(study.runs, also=["swinchex2022"])
    keys = cited([shown])
    assert {"wang2017-official", "baltruschat2019-resnet38-official", "swinchex2022"} <= keys
    ranks = next(table for table in shown.tables if table.key == "rank")
    assert {row.key for row in ranks.rows if not row.own} <= keys
    assert keys <= works.literature().keys()
    assert "baltruschat2019-5fold" in cited([report.resampled(study.runs)])


# LaTeX


def wide(count: int) -> Table:
    heads = [
        Column(f"n{place}", (f"ResNet-{place}", "large-meta"), ("auc",), cite="xiao2023-r50-swav")
        for place in range(count)
    ]
    rows = [Row(label, label, tuple(Cell("0.800") for _ in heads)) for label in ("Consolidation", AVERAGE)]
    return Table("T", "Pathology", tuple(heads), tuple(rows), ("One note",), "wide")


def test_a_table_is_narrowed_before_it_is_set_in_parts_and_each_part_has_the_notes() -> None:
    eight, parts = latex_layout.laid_out(wide(8))
    assert len(parts) == 1
    assert eight.columns[0].heading == ("ResNet-", "0", "large-", "meta")
    same, parts = latex_layout.laid_out(wide(2))
    assert (same, len(parts)) == (wide(2), 1)
    text = report.render(Report("R", (wide(16),)), "latex")
    assert text.count(r"\begin{table}") == text.count("One note") > 1


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="TeX is not installed: there is no pdflatex")
def test_citations_print_nothing_until_an_article_says_how(tmp_path: Path) -> None:
    (tmp_path / "t.tex").write_text(report.render(Report("R", (wide(2),)), "latex"))
    article = "\\documentclass{article}\\usepackage{booktabs}%s\\begin{document}\\input{t}\\end{document}"
    how = "\\newcommand{\\cxrkitcite}[1]{~\\cite{#1}}"
    for name, preamble in (("without", ""), ("with", how)):
        (tmp_path / f"{name}.tex").write_text(article % preamble)
        done = subprocess.run(
            ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", name],
            cwd=tmp_path, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        assert ("Citation `xiao2023'" in done.stdout) == (name == "with")


# Figures and the page


def test_a_name_that_is_too_long_is_cut_between_words() -> None:
    name = "colleague of another hospital, second training with other seeds, imported without a network"
    short = shortened(name)
    assert len(short) <= SHORT
    before, after = short.split("…")
    assert name.startswith(f"{before} ")
    assert name.endswith(f" {after}")
    assert shortened("a" * 60) == f"{'a' * 21}…{'a' * 20}"


def test_a_wide_table_has_ones_own_runs_first_on_a_screen() -> None:
    table = wide(8)
    own_last = replace(table, columns=(*table.columns[:6], *(replace(item, own=True) for item in table.columns[6:])))
    assert table_view(own_last, "a").on_screen == (6, 7, 0, 1, 2, 3, 4, 5)
    mixed = replace(table, columns=(*own_last.columns[6:], *table.columns[:6]))
    assert table_view(mixed, "a").on_screen == tuple(range(8))
    assert table_view(wide(3), "a").on_screen == (0, 1, 2)
