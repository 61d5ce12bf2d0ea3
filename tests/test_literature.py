"""Published results: what the file may say, how it is listed, and where a run stands among them."""

from __future__ import annotations

import io
import os
import re
import tomllib
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.console import Console
from study_runs import Study
from typer.testing import CliRunner

from cxrkit import report
from cxrkit.base import manifests
from cxrkit.base.contracts import PATHOLOGIES
from cxrkit.base.errors import UserError
from cxrkit.base.pretraining import Pretraining
from cxrkit.cli.app import app
from cxrkit.evaluators.scoring import evaluate_run
from cxrkit.imports.importing import ImportRequest, import_predictions
from cxrkit.report.document.tables import AVERAGE, Report, Table
from cxrkit.report.evidence.runs import find_runs
from cxrkit.report.literature import published, works
from cxrkit.report.literature.listing import SORTS, SPLITS, literature_report, work_report
from cxrkit.report.literature.marks import marks_of, shown
from cxrkit.report.literature.works import Work
from cxrkit.report.paper import rank

GOLDEN = Path(__file__).parent / "golden"
WORKS = list(works.literature().values())
FILE = manifests.folder() / works.FILE


def terminal(shown: report.Report, width: int = 80) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=False, color_system=None)
    console.print(report.to_rich(shown))
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()) + "\n"


def check_golden(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("CXRKIT_UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text


def table_of(shown: report.Report, key: str) -> Table:
    (found,) = [table for table in shown.tables if table.key == key]
    return found


# What the file may say


def test_it_holds_131_results_of_which_55_compare() -> None:
    assert len(WORKS) == len({work.key for work in WORKS}) == 131
    assert len(works.comparable()) == 55


def test_a_mean_is_that_of_its_list_to_rounding() -> None:
    for work in WORKS:
        if len(work.auc) < 14:
            continue
        stated = max(3, len(str(work.mean).partition(".")[2]))
        listed = min(max(len(str(auc).partition(".")[2]) for _, auc in work.auc), 4)
        slack = 0.5 * 10.0**-stated + (0 if work.mean_is_computed else 0.5 * 10.0**-listed)
        assert work.mean == pytest.approx(np.mean([auc for _, auc in work.auc]), abs=slack + 1e-9), work.key


def test_what_was_read_in_an_abstract_is_no_primary_source() -> None:
    for work in WORKS:
        if re.match(r"(the )?abstract\b", work.source):
            assert work.evidence in ("abstract", "none"), work.key
        else:
            assert work.evidence != "abstract", work.key


def test_what_compares_is_on_a_named_official_split_and_has_a_number() -> None:
    for work in WORKS:
        if work.comparable:
            assert (work.split, work.reason) == ("official", "")
            assert work.split_source, work.key
            assert work.mean is not None
            assert not any(re.search("not name the split|split not", note) for note in work.notes), work.key
        elif work.split == "official":
            assert work.reason, work.key
            assert "official" not in work.reason, "its split is the official one: that is no reason"


def test_pretraining_agrees_with_the_words_beside_it() -> None:
    for work in WORKS:
        words, seen = work.extra_data, work.pretrained
        if words.startswith("none"):
            assert seen == Pretraining("none"), work.key
        if "ImageNet" in words:
            assert seen.seen == ("images" if re.search("MAE|MoCo|BYOL|SwAV|SimMIM", words) else "labels"), work.key
        if "ChestX-ray14" in words:
            assert seen.of_data_set, work.key
        if seen.of_data_set:
            assert "ChestX-ray14" in words, work.key
        if not words:
            assert not seen.known, work.key


def test_what_the_released_code_selects_on_the_test_set_is_marked() -> None:
    marked = {work.key for work in WORKS if "S" in marks_of(work)}
    families = {key for key in works.literature() if re.match(r"xiao2023-|evax2025-(?!cited)|goel2024-", key)}
    assert marked == families
    assert len(marked) == 21


@pytest.mark.parametrize(
    ("key", "corrected"),
    [
        ("repro-arnoweng-improved", "average 0.8481"),
        ("arkplus-2025", "without a number"),
        ("repro-resnet18-224-official", "labels of 2017"),
        ("liu2022-acpl", "refused because it is not identified"),
        ("bestcnn2022-unnamed", "refused because it is not identified"),
        *((key, "is an abstract") for key in ("li2022-cnnvit", "synthensemble2023-ensemble", "dannynet2025")),
        ("synthensemble2023-coatnet", "is an abstract"),
        *((work.key, "never names it") for work in WORKS if work.key.startswith("peac2023-")),
    ],
)
def test_corrections_are_noted(key: str, corrected: str) -> None:
    assert corrected in works.get(key).corrected


def test_there_are_18_corrections_and_each_is_tested() -> None:
    assert sum(bool(work.corrected) for work in WORKS) == 9 + 8


def test_it_agrees_with_table_5() -> None:
    for paper in published.table5().columns:
        work = works.get(paper.key)
        assert work.comparable
        assert work.mean == paper.mean
        assert work.by_label == {label: paper.auc[label] for label in PATHOLOGIES}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('key = "yao2018-official"', 'key = "wang2017-official"', "two results are called wang2017-official"),
        ("year = 2017", 'year = "2017"', r"wang2017-official\.year is '2017' \(str\), expected a whole number"),
        ("mean = 0.745", "mean = nan", r"wang2017-official\.mean is nan \(float\), expected a finite number"),
        ("mean = 0.745\n", "", "wang2017-official is comparable without the official split, a split_source or a mean"),
        ('split_source = "Baltruschat et al. 2019, Table 5"\n', "", "is comparable without .* a split_source"),
        ('split = "official"', 'split = "offical"', r"wang2017-official\.split is 'offical' .*, expected one of offic"),
        ("backbone", "backbon", r"wang2017-official\.backbon is not a known field"),
        ("auc = [0.810, ", "auc = [", "wang2017-official.auc is not a list of one AUC for each of the pathologies"),
        ('seen = "labels", this_data_set = "none"', 'seen = "images", this_data_set = "labels"',
         "wang2017-official.pretrained: this_data_set is 'labels', which is more than seen, 'images'"),
        ("reason = ", "# reason = ", "is on the official split and not comparable, without a reason"),
        ("[[result]]", "[[result", "cannot be read as TOML"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = FILE.read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "literature.toml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(UserError, match=message) as caught:
        works.read(path)
    assert str(path) in str(caught.value)


# How it is listed


def test_golden_list() -> None:
    check_golden("literature_80.txt", terminal(literature_report()))
    check_golden("literature_show_80.txt", terminal(work_report(works.get("repro-arnoweng-improved"))))


def test_every_result_stands_in_one_table() -> None:
    whole = literature_report()
    assert sorted(row.key for table in whole.tables for row in table.rows) == sorted(works.literature())
    by_split = [row.key for split in SPLITS for table in literature_report(split).tables for row in table.rows]
    assert sorted(by_split) == sorted(works.literature())
    assert {row.key for row in table_of(whole, "literature-official").rows} == {w.key for w in works.comparable()}


@pytest.mark.parametrize("width", [80, 100, 160])
def test_a_line_is_never_too_long_and_no_number_is_cut(width: int) -> None:
    text = terminal(literature_report(), width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert all(work.key in text for work in WORKS)
    if width == 80:
        assert "(continued)" not in text, "at 80 columns all columns stand side by side"


@pytest.mark.parametrize("sort", SORTS)
def test_the_order_is_the_one_asked_for(sort: str) -> None:
    found = [works.get(row.key) for row in literature_report("official", sort).tables[0].rows]
    value = {
        "mean": lambda work: -work.mean,
        "year": lambda work: -work.year,
        "key": lambda work: work.key,
        "input": lambda work: -work.input_size,
    }[sort]
    assert found == sorted(found, key=lambda work: (value(work), work.key))


def test_a_mean_has_the_digits_of_its_source() -> None:
    rows = {row.key: row.cells[0].text for table in literature_report().tables for row in table.rows}
    assert rows["swinchex2022"] == "0.810"
    assert rows["ark6-2023"] == "0.8305"
    assert rows["synthensemble2023-ensemble"] == "0.85433"
    assert rows["arkplus-2025"] == "-"


def test_each_can_be_shown_whole() -> None:
    for work in WORKS:
        text = terminal(work_report(work), 400)
        assert work.title in text
        assert work.source in text
        assert all(note in text for note in work.notes)
        if work.mean is not None:
            assert f"{work.mean:.6g}" in text


def test_the_command(tmp_path: Path) -> None:
    out = tmp_path / "literature.csv"
    done = CliRunner().invoke(app, ["literature", "--split", "official", "--sort", "year", "--out", str(out)])
    assert done.exit_code == 0
    assert "58, of which 55 compare" in done.output
    frame = pl.read_csv(out)
    means = frame.filter(pl.col("metric") == "auc")
    assert len(set(means["run"])) == len(means) == 57, "one has no number"
    (ark,) = means.filter(pl.col("run") == "ark6-2023").rows(named=True)
    assert (ark["label"], ark["value"], ark["std_seeds"], ark["source"]) == ("Average", 0.8305, 0.0009, "published")
    shown = CliRunner().invoke(app, ["literature", "show", "peac2023-peac-swinb"])
    assert shown.exit_code == 0
    assert "Corrected: the split was given as official" in shown.output
    wrong = CliRunner().invoke(app, ["literature", "show", "swinchex2023"])
    assert isinstance(wrong.exception, UserError)
    assert "did you mean swinchex2022" in str(wrong.exception)
    with pytest.raises(UserError, match=r"--out .*the ending '\.doc' names no format") as caught:
        CliRunner().invoke(app, ["literature", "--out", "x.doc"], catch_exceptions=False)
    assert "--format" not in str(caught.value), "this command has none"
    with pytest.raises(UserError, match="or choose with --format md"):
        CliRunner().invoke(app, ["report", "--out", "x.doc"], catch_exceptions=False)


def test_list_is_a_word_for_the_list() -> None:
    plain = CliRunner().invoke(app, ["literature", "--split", "chestmnist", "--sort", "key"])
    listed = CliRunner().invoke(app, ["literature", "list", "--split", "chestmnist", "--sort", "key"])
    assert (listed.exit_code, listed.output) == (0, plain.output)
    assert "ChestMNIST" in listed.output


def test_notes_end_where_their_words_end() -> None:
    console = Console(width=100, file=io.StringIO(), force_terminal=False, color_system=None)
    console.print(report.to_rich(Report("Title", (), ("a note of many words " * 8, "short"))))
    lines = console.file.getvalue().splitlines()
    notes = lines[lines.index("Notes") + 1 :]
    assert notes[-1] == "· short"
    assert len(notes) == 3
    assert [line for line in notes if line != line.rstrip()] == []
    assert notes[1].startswith("  "), "behind its bullet"


def test_words_of_the_report_that_do_not_exist() -> None:
    with pytest.raises(UserError, match="unknown split of published results 'offical'") as caught:
        literature_report("offical")
    assert "did you mean official" in str(caught.value)
    with pytest.raises(UserError, match="--sort size: there is no such order"):
        literature_report("all", "size")


# Which stand beside a run


def test_what_also_names() -> None:
    assert works.resolve_also("swinchex2022, ark6-2023,swinchex2022") == ("swinchex2022", "ark6-2023")
    top = works.resolve_also("top10")
    assert len(top) == 10
    assert min(works.get(key).mean for key in top) >= max(w.mean for w in works.comparable() if w.key not in top)
    primary = works.resolve_also("primary")
    assert set(primary) == {work.key for work in works.comparable() if work.evidence == "primary"}
    assert works.resolve_also("top3,primary")[:3] == works.resolve_also("top3")


@pytest.mark.parametrize(
    ("text", "message", "remedy"),
    [
        ("swinchex2023", "unknown published result 'swinchex2023'", "did you mean swinchex2022"),
        ("primry", "unknown published result 'primry'", "did you mean primary"),
        ("top0", "unknown published result 'top0'", "did you mean top10"),
        ("zzzz", "unknown published result 'zzzz'", "`cxrkit literature` lists what is known"),
        (" , ", "--also names no published result", "cxrkit literature"),
        (
            "chexnet2017-v3",
            r"was not measured on the official test list \(split: random patient-wise\)",
            "--split offic",
        ),
        ("peac2023-peac-swinb", "does not compare: its split is not known", "cxrkit literature"),
        ("liu2022-acpl", "does not compare: who measured it is not certain", "cxrkit literature"),
        ("arkplus-2025", "does not compare: its number on this data set was not found", "cxrkit literature"),
    ],
)
def test_what_also_cannot_name(text: str, message: str, remedy: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        works.resolve_also(text)
    assert remedy in caught.value.remedy
    if "liu2022" in text:
        assert "official" not in caught.value.what


def test_columns_are_added_with_their_marks(study: Study) -> None:
    found = report.official(study.runs, also=["swinchex2022", "repro-resnet18-224-official", "wang2017-official"])
    table = table_of(found, "table5")
    heads = {head.name.split(" ")[0]: (index, head) for index, head in enumerate(table.columns)}
    for key, mark in (("swinchex2022", ""), ("repro-resnet18-224-official", "(L)")):
        index, head = heads[key]
        assert (head.heading[-1] == mark) is bool(mark)
        assert {row.key: row for row in table.rows}[AVERAGE].cells[index].text == f"{works.get(key).mean:.3f}"
        assert any(note.startswith(f"{key}: from ") for note in table.notes)
    assert any(note.startswith("L: ") for note in table.notes)
    assert sum(head.name.startswith("Wang et al.") for head in table.columns) == 1, "it stands there already"
    assert any("repro-resnet18-224-official on 2017" in note for note in table.notes)
    row = table.rows[-1]
    assert row.heading == "Pretraining"
    seen = [cell.text for cell in row.cells]
    assert seen[:6] == ["labels", "none", "unknown", "none", "none", "none"]
    assert seen[6:8] == ["labels", "labels"]
    assert len({head.name for head in table.columns}) == len(table.columns)


def test_a_work_that_gives_an_average_alone_stands_among_the_ranks_and_in_a_note(study: Study) -> None:
    keys = works.resolve_also("top10")
    found = report.official(study.runs, also=["top10"])
    own_and_paper = [head.name for head in table_of(found, "table5").columns]
    assert own_and_paper == [head.name for head in table_of(report.official(study.runs), "table5").columns]
    ranks = table_of(found, "rank")
    assert set(keys) <= {row.key for row in ranks.rows}
    averages = [float(row.cells[1].text) for row in ranks.rows]
    assert averages == sorted(averages, reverse=True)
    marks = {row.key: row.cells[-1].text for row in ranks.rows}
    assert (marks["evax2025-b"], marks["ark6-2023"]) == ("S", "P")
    said = f"Of the pathologies {len(keys)} of the results that were asked for give the average alone: in the table of"
    assert [note for note in found.notes if "average alone" in note] == [f"{said} ranks"]


# Where a run stands


def on_paper(mean: float) -> str:
    """Three decimals of what the shortest digits say, a half rounded up."""
    thousandths = int(Decimal(repr(mean)) * 1000 + Decimal("0.5"))
    return f"0.{thousandths:03d}"


@settings(max_examples=60, deadline=None)
@given(st.floats(0.5, 0.95))
@example(0.8125)
def test_a_place_is_what_counting_gives(mean: float) -> None:
    found = rank.place(mean, works.comparable())
    printed = sorted((on_paper(work.mean) for work in works.comparable()), reverse=True)
    own = on_paper(mean)
    assert found.rank == 1 + sum(other > own for other in printed)
    assert len(found.level) == printed.count(own)
    assert [on_paper(w.mean) for w in found.above] == [other for other in printed if other > own][-1:]
    assert [on_paper(w.mean) for w in found.below] == [other for other in printed if other < own][:1]


def test_the_best_has_nobody_above_and_equal_ones_share_a_rank() -> None:
    best = rank.place(0.9, works.comparable())
    assert (best.rank, best.above, best.level) == (1, (), ())
    assert [work.key for work in best.below] == ["chexworld2025-raddino"]
    tied = rank.place(0.8304, works.comparable())
    assert [work.key for work in tied.level] == [
        "jliang2022-swinb-simmim-in-cxr926k",
        "xiao2023-vitb-mae-cxr05m",
    ]
    assert rank.place(0.5, works.comparable()).rank == len(works.comparable()) + 1


def test_each_run_that_compares_has_a_rank(study: Study) -> None:
    found = report.official(study.runs)
    table = table_of(found, "rank")
    compared = [run for run in find_runs(study.runs).runs if run.split == "official" and run.name != "partial"]
    assert table.columns[2].heading == ("Rank", "of 56")
    own = [row for row in table.rows if row.cells[0].text == "this work"]
    others = [row.heading for row in table.rows if row.cells[0].text == "published"]
    assert len(own) == len({row.heading for row in own}) == len(compared)
    near = set()
    for row in own:
        mean, place, within = row.cells[1:4]
        (run,) = [run for run in compared if run.auc().value == mean.values["auc"]]
        assert run.name in row.heading
        where = rank.place(run.auc().value, works.comparable())
        near |= {work.key for work in (*where.above, *where.level, *where.below)}
        assert (place.values["rank"], "=" in place.text) == (where.rank, bool(where.level))
        lower, upper = run.auc().lower, run.auc().upper
        means = [work.mean for work in works.comparable()]
        assert within.values == {
            "above": sum(value > upper for value in means),
            "within": sum(lower <= value <= upper for value in means),
            "below": sum(value < lower for value in means),
        }
    assert sorted(others) == sorted(near)
    printed = [row.cells[1].text for row in table.rows]
    assert printed == sorted(printed, reverse=True)
    ruled = [row.heading for row in table.rows if row.rule_above]
    ordered = [work.key for work in works.comparable()]
    gaps = [now for before, now in pairwise(others) if ordered.index(now) > ordered.index(before) + 1]
    assert [key for key in ruled if key in others] == gaps
    text = " ".join(table.notes)
    assert "among the 55 published results" in text
    assert (
        "selected on the test set by their released code (S): 21; pretrained on this data set's images (P): 8" in text
    )
    assert "Those of published results are not known" in text
    check_golden("rank_80.txt", terminal(report.Report("Rank", (table,))))


# What a run had seen


def import_about(study: Study, tmp_path: Path, name: str, text: str) -> None:
    about = tmp_path / f"{name}.toml"
    about.write_text(text, encoding="utf-8")
    request = ImportRequest(
        study.folder / "elsewhere.csv", name, "official", raw=study.raw, runs=study.runs, about=about
    )
    made = import_predictions(request)
    evaluate_run(made.run.path, made.truth, options={"replicates": 2})


def test_a_run_that_saw_this_data_set_is_marked(study: Study, tmp_path: Path) -> None:
    import_about(
        study,
        tmp_path,
        "knowing",
        'pretraining = "SimMIM on ChestX-ray14"\npretrained = { seen = "images", this_data_set = "images" }\n',
    )
    found = report.official(study.runs)
    table = table_of(found, "table5")
    (index,) = [index for index, head in enumerate(table.columns) if head.name.startswith("knowing")]
    assert table.columns[index].heading[-1] == "(P)"
    words = "pretrained on images of this data set, perhaps its test images among them"
    assert words in table.columns[index].doubts, "a CSV has no notes"
    assert any(note.startswith("* knowing") and words in note for note in table.notes)
    assert table.rows[-1].cells[index].text == "images"
    (row,) = [row for row in table_of(found, "rank").rows if row.heading == "knowing"]
    assert row.cells[-1].text == "P"
    (run,) = [run for run in find_runs(study.runs).runs if run.name == "knowing"]
    assert run.origin.saw == Pretraining("images", "images")
    assert run.origin.basis.pretraining == "declared"


def test_a_run_that_saw_test_labels_does_not_compare(study: Study, tmp_path: Path) -> None:
    import_about(
        study,
        tmp_path,
        "leaked",
        'pretrained = { seen = "labels", this_data_set = "labels", test_images = "labels" }\n',
    )
    found = report.official(study.runs, apart=True)
    assert not any("leaked" in head.name for head in table_of(found, "table5").columns)
    (reasons,) = [table for table in found.tables if "kept out" in table.title]
    (why,) = [row.cells[-1].text for row in reasons.rows if row.heading == "leaked"]
    assert why.startswith("its pretraining saw labels of its test images")


def test_marks_stand_in_brackets() -> None:
    assert shown(("S", "P")) == "(S, P)"
    assert shown(()) == ""
    both = replace(works.get("ark6-2023"), selected_on="test, by the released code", label_release="2017")
    assert marks_of(both) == ("S", "P", "L")
    assert marks_of(both, "2017") == ("S", "P")


def test_the_file_has_no_field_that_is_not_read() -> None:
    written = {name for result in tomllib.loads(FILE.read_text(encoding="utf-8"))["result"] for name in result}
    assert written <= set(Work.__dataclass_fields__)


def test_the_page_counts_as_the_file_does() -> None:
    text = (Path(__file__).parent.parent / "docs" / "predictions.md").read_text(encoding="utf-8")
    compared = works.comparable()
    for mark in ("S", "P", "L"):
        assert f"| {mark} | {sum(mark in marks_of(work) for work in compared)} | " in text
    unknown = sum(work.pretrained.this_data_set == "unknown" for work in compared)
    assert f"of {unknown} others it is not known" in text
    assert f"# {len(compared)} results that compare, 3 that do not; without --split all {len(WORKS)}" in text
