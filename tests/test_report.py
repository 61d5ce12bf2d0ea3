"""The report: what stands in the comparison, what is kept out and why, and how it looks.

Golden files hold whole reports; after a wanted change run `CXRKIT_UPDATE_GOLDEN=1 pytest tests/test_report.py` and read
the difference.
"""

import csv
import io
import math
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from cxrkit import report
from cxrkit.contracts import LABELS, NO_FINDING, PATHOLOGIES
from cxrkit.errors import UserError
from cxrkit.evaluators import results
from cxrkit.evaluators.results import Intervals, LabelScore, MeanScore, Scores, SubsetScores
from cxrkit.report import published
from cxrkit.report.tables import AVERAGE, Cell, Row, bold_best, heading_lines

GOLDEN = Path(__file__).parent / "golden"
OFFICIAL_TEST = published.table5()[1].images_digest
BASE = dict(zip(LABELS, np.linspace(0.92, 0.70, len(LABELS)).tolist(), strict=True))


def label_score(auc: float, positives: int = 500) -> LabelScore:
    return LabelScore(auc, auc - 0.02, auc + 0.015, positives, 25_596 - positives)


def make_scores(model: str, split: str, shift: float = 0.0, **changes) -> Scores:
    """Scores of a complete run on the official test images; `changes` go to Scores or to its test subset."""
    labels = {label: label_score(auc + shift) for label, auc in BASE.items()}
    mean = float(np.mean([labels[label].auc for label in PATHOLOGIES]))
    test = SubsetScores(
        subset="test",
        images=25_596,
        subset_images=25_596,
        images_digest=OFFICIAL_TEST,
        patients=2_797,
        leakage_checked=True,
        mean=MeanScore(mean, mean - 0.01, mean + 0.01, 14),
        labels=labels,
        intervals=Intervals(0.95, 1000, 0),
    )
    of_test = {name: changes.pop(name) for name in list(changes) if hasattr(test, name)}
    scores = Scores(
        model=model,
        split=split,
        split_digest=f"digest of {split}",
        dataset="nih-chestxray14",
        label_release="v2020",
        checkpoint_sha256="c0ffee" * 10 + "abcd",
        input_size=448,
        epoch=12,
        train_images=75_707,
        train_subset_images=75_707,
        subsets={"test": replace(test, **of_test)},
    )
    return replace(scores, **changes)


def undefined(scores: Scores, *labels: str) -> Scores:
    test = scores.subsets["test"]
    none = LabelScore(None, None, None, 0, test.images, "0 positives", "0 positives")
    count = 14 - len(labels)
    mean = replace(test.mean, labels=count, reason=f"over {count} of 14")
    return replace(
        scores, subsets={"test": replace(test, labels={**test.labels, **dict.fromkeys(labels, none)}, mean=mean)}
    )


def save(runs: Path, scores: Scores, folder: str = "") -> None:
    results.write(runs / (folder or scores.model.replace(":", ".")) / scores.split / "scores.json", scores)


def terminal(shown: report.Report, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=False, color_system=None)
    console.print(report.to_rich(shown))
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()) + "\n"


def check_golden(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("CXRKIT_UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text


@pytest.fixture
def mixed(tmp_path):
    """Two comparable runs, one for every reason to be kept out, a fold, and a training that has not ended."""
    runs = tmp_path / "runs"
    save(runs, make_scores("resnet38-large-meta", "official", 0.005))
    save(runs, make_scores("resnet101-large-meta", "official", -0.012))
    part = make_scores("resnet50-large-meta", "official", images=38, patients=30, images_digest="part")
    save(runs, undefined(part, "Hernia", "Fibrosis"))
    synthetic = {"images": 400, "subset_images": 400, "images_digest": "drawn"}
    save(runs, make_scores("small-meta", "official", dataset="synthetic", label_release="synthetic", **synthetic))
    save(runs, make_scores("resnet50-ots", "official", label_release="2017"))
    save(runs, make_scores("resnet50-ft", "resample-1", images=22_425, subset_images=22_425, images_digest="fold"))
    save(runs, make_scores("my_lab.nets:wide_50", "file-ours_70%"))
    (runs / "mlp-meta" / "official").mkdir(parents=True)
    (runs / "mlp-meta" / "official" / "config.toml").touch()
    return runs


@pytest.fixture
def folds(tmp_path):
    """Five folds of one model, three of another, one of a model that the paper does not have, one partial."""
    runs = tmp_path / "runs"
    for number in range(1, 6):
        save(runs, make_scores("resnet50-large-meta", f"resample-{number}", 0.004 * number))
    for number in (1, 2, 4):
        save(runs, make_scores("resnet50-ots", f"resample-{number}", -0.1 + 0.003 * number))
    save(runs, make_scores("resnet38-large", "resample-3"))
    save(runs, make_scores("resnet50-ft", "resample-2", images=53, images_digest="part"))
    save(runs, make_scores("resnet50-large-meta", "official"))
    return runs


def column(table, name: str) -> dict[str, Cell]:
    (index,) = [index for index, head in enumerate(table.columns) if head.name == name]
    return {row.key: row.cells[index] for row in table.rows}


# Published results


def test_published_means_equal_their_columns_to_rounding():
    for paper in published.table5()[2]:
        assert list(paper.auc)[:14] == list(PATHOLOGIES)
        mean = np.mean([paper.auc[label] for label in PATHOLOGIES])
        assert abs(mean - paper.mean) <= 0.0005, paper.key
    with_no_finding = [paper.key for paper in published.table5()[2] if NO_FINDING in paper.auc]
    assert with_no_finding == [f"baltruschat2019-resnet{depth}-official" for depth in (38, 50, 101)]


def test_published_table3_averages_equal_their_columns_to_rounding():
    _, _, count, columns = published.table3()
    assert count == 5
    assert len(columns) == 8
    for paper in columns.values():
        means, stds = zip(*(paper.folds[label] for label in PATHOLOGIES), strict=True)
        # The printed deviation of the average is the mean of the fourteen, in every column.
        assert abs(np.mean(means) - paper.average[0]) <= 0.0501
        assert abs(np.mean(stds) - paper.average[1]) <= 0.0501


def test_table3_models_are_names_of_the_grammar():
    from cxrkit.models.grammar import SPECS

    assert set(published.table3()[3]) <= set(SPECS)


def test_official_test_digest_is_that_of_the_real_list(nih_raw):
    from cxrkit.files import digest_lines

    listed = (nih_raw / "test_list.txt").read_text().split()
    reference = published.table5()[1]
    assert (len(listed), digest_lines(sorted(listed))) == (reference.images, reference.images_digest)


def test_literature_is_whole_and_its_means_fit_its_values():
    found = published.literature()
    assert len(found) == 131
    assert sum(result["comparable"] for result in found.values()) == 64
    assert all(result["split"] == "official" for result in found.values() if result["comparable"])
    # Their authors' stated mean is 0.847; the values average to 0.8481.
    known_to_differ = {"repro-arnoweng-improved"}
    for key, result in found.items():
        assert result["evidence"] in ("primary", "secondary", "abstract", "none")
        assert result["source"]
        if len(result["auc"]) == 14 and key not in known_to_differ:
            decimals = len(str(result["mean"]).partition(".")[2])
            slack = 0.5 * 10 ** -min(decimals, 3) + 0.0001
            assert abs(np.mean(list(result["auc"].values())) - result["mean"]) <= slack, key
    assert not any(math.isnan(auc) for result in found.values() for auc in result["auc"].values())


def test_literature_agrees_with_table5():
    for paper in published.table5()[2]:
        result = published.literature()[paper.key]
        assert result["mean"] == paper.mean
        assert result["auc"] == {label: paper.auc[label] for label in PATHOLOGIES}


def test_literature_columns_can_be_added(mixed):
    shown = report.official(mixed, also=["swinchex2022", "evax2025-b"])
    cells = column(shown.tables[0], "Taslimi, Taslimi, Fathi, Salehi, Rohban 2022")
    assert cells[AVERAGE].text == "0.810"
    evax = column(shown.tables[0], next(c.name for c in shown.tables[0].columns if c.heading[0] == "evax2025"))
    assert (evax[AVERAGE].text, evax["Mass"].text) == ("0.835", "-")
    assert evax[AVERAGE].bold


def test_literature_columns_must_exist_and_compare(mixed):
    with pytest.raises(UserError, match="unknown published result 'swinchex2023'") as caught:
        report.official(mixed, also=["swinchex2023"])
    assert "swinchex2022" in str(caught.value)
    with pytest.raises(UserError, match="'chexnet2017-v3' was not measured on the official test list"):
        report.official(mixed, also=["chexnet2017-v3"])


# The official table


def test_official_table_holds_the_paper_and_comparable_runs_only(mixed):
    table = report.official(mixed).tables[0]
    assert [" ".join(head.heading) for head in table.columns] == [
        "Wang 2017",
        "Yao 2018",
        "Guendel 2018",
        "ResNet-38 large-meta",
        "ResNet-50 large-meta",
        "ResNet-101 large-meta",
        "resnet38- large-meta",
        "resnet101- large-meta",
    ]
    assert [row.key for row in table.rows] == [*PATHOLOGIES, AVERAGE, NO_FINDING]
    own = column(table, "resnet38-large-meta")
    assert own["Cardiomegaly"].text == "0.925"
    assert own["Cardiomegaly"].values["lower"] == pytest.approx(0.905)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("resnet50-large-meta", "38 of 25,596 test images; AUC undefined for Hernia, Fibrosis"),
        ("small-meta", "synthetic images, not nih-chestxray14"),
        ("resnet50-ots", "labels of release 2017, not v2020"),
        ("resnet50-ft", "another split"),
        ("my_lab.nets:wide_50", "another split"),
    ],
)
def test_runs_that_do_not_compare_are_shown_apart_with_the_reason(mixed, name, reason):
    shown = report.official(mixed)
    assert name not in [head.name for table in shown.tables[:2] for head in table.columns]
    (reasons,) = [table for table in shown.tables if "kept out" in table.title]
    assert [row.cells[-1].text for row in reasons.rows if row.heading == name] == [reason]


def test_undefined_auc_is_printed_with_its_reason_and_never_as_a_number(mixed):
    (numbers,) = [table for table in report.official(mixed).tables if "their numbers" in table.title]
    name = next(head.name for head in numbers.columns if "38 of 25,596" in head.name)
    cells = column(numbers, name)
    assert cells["Hernia"].text == "n/a (0 positives)"
    assert cells["Hernia"].values["auc"] is None
    assert cells["Mass"].text == "0.826 [0.806, 0.841]"
    assert "(over 12 of 14)" in cells[AVERAGE].text
    assert not any(cell.bold for cell in cells.values())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"images_digest": "other"}, "its 25,596 test images are not the 25,596 of the official list"),
        ({"leakage_checked": False}, r"not checked against its training images \(no split.parquet\)"),
        ({"dataset": "chexpert", "label_release": "unknown"}, "data set chexpert, not nih-chestxray14"),
    ],
)
def test_further_reasons_to_keep_a_run_out(tmp_path, changes, reason):
    save(tmp_path, make_scores("resnet50-large-meta", "official", **changes))
    shown = report.official(tmp_path)
    assert re.search(reason, report.render(shown, "md"))
    assert not any(head.own for head in shown.tables[0].columns)
    assert "None of your runs compares with these columns" in shown.tables[0].notes[-1]


def test_many_undefined_labels_are_counted(tmp_path):
    save(tmp_path, undefined(make_scores("resnet50-large-meta", "official"), "Hernia", "Edema", "Mass"))
    assert "AUC undefined for 3 of 14 pathologies" in report.render(report.official(tmp_path), "md")


def test_best_is_bold_with_ties_as_printed():
    cells = [0.8446, 0.8454, 0.845, 0.85]
    row = Row("Mass", "Mass", tuple(Cell(f"{value:.3f}", {"auc": value}) for value in cells))
    (bold,) = bold_best([row], "auc", 3, {0, 1, 2})
    assert [cell.bold for cell in bold.cells] == [True, True, True, False]
    (empty,) = bold_best([Row("Mass", "Mass", (Cell("-"),))], "auc", 3, {0})
    assert not empty.cells[0].bold


def test_two_runs_of_one_model_are_told_apart(tmp_path):
    save(tmp_path, make_scores("resnet50-large-meta", "official"))
    save(tmp_path, make_scores("resnet50-large-meta", "official", 0.01), folder="second-try")
    names = [head.name for head in report.official(tmp_path).tables[0].columns if head.own]
    assert names == ["resnet50-large-meta/official", "second-try/official"]


@pytest.mark.parametrize(("build", "split"), [(report.official, "official"), (report.resampled, "resample-2")])
def test_mixed_digests_are_refused(tmp_path, build, split):
    save(tmp_path, make_scores("resnet50-large", split))
    save(tmp_path, make_scores("resnet50-ots", split, split_digest="0123456789abcdef"))
    with pytest.raises(UserError, match=f"split '{split}' is not the same in all runs") as caught:
        build(tmp_path)
    assert "digest 0123456789ab: " in str(caught.value)
    assert "--runs" in str(caught.value)


def test_a_partial_run_of_another_digest_does_not_stop_the_report(tmp_path):
    save(tmp_path, make_scores("resnet50-large", "official"))
    save(tmp_path, make_scores("resnet50-ots", "official", split_digest="other", images=38))
    assert len(report.official(tmp_path).tables) == 4


# The resampling table


def test_resampling_mean_and_deviation(folds):
    table = report.resampled(folds).tables[0]
    names = [head.name for head in table.columns]
    assert names == [
        "resnet38-large",
        "resnet50-large-meta",
        "Baltruschat 2019, large, with non-image features",
        "resnet50-ots",
        "Baltruschat 2019, OTS, without non-image features",
    ]
    own = column(table, "resnet50-large-meta")
    aucs = [100 * (BASE["Mass"] + 0.004 * number) for number in range(1, 6)]
    assert own["Mass"].values["mean_x100"] == pytest.approx(np.mean(aucs))
    assert own["Mass"].values["std_x100"] == pytest.approx(np.std(aucs, ddof=1))
    deviations = [own[label].values["std_x100"] for label in PATHOLOGIES]
    assert own[AVERAGE].values["std_x100"] == pytest.approx(np.mean(deviations))
    paper = column(table, names[2])
    assert (paper["Hernia"].text, paper[AVERAGE].text) == ("89.6 ± 4.4", "82.2 ± 1.1")


def test_resampling_counts_folds_and_names_the_missing_ones(folds):
    table = report.resampled(folds).tables[0]
    assert [cell.text for cell in table.rows[-1].cells] == ["1 of 5", "5 of 5", "5 of 5", "3 of 5", "5 of 5"]
    notes = "\n".join(table.notes)
    assert (
        "resnet50-ots: average by fold 72.1 (1), 72.4 (2), 73.0 (4), standard deviation 0.46; missing: folds 3, 5"
        in notes
    )
    assert "resnet38-large: average by fold 81.8 (3); missing: folds 1, 2, 4, 5" in notes
    single = column(table, "resnet38-large")["Mass"]
    assert (single.text, single.values["std_x100"]) == ("82.6", None)


def test_only_models_with_all_folds_can_be_best(folds):
    save(folds, make_scores("resnet38-large", "resample-3", 0.06))
    table = report.resampled(folds).tables[0]
    assert not any(cell.bold for cell in column(table, "resnet38-large").values())
    assert column(table, "resnet50-large-meta")["Emphysema"].bold


def test_partial_and_official_runs_are_apart_from_the_folds(folds):
    shown = report.resampled(folds)
    (reasons,) = [table for table in shown.tables if "kept out" in table.title]
    assert [(row.heading, row.cells[-1].text) for row in reasons.rows] == [
        ("resnet50-ft", "53 of 25,596 test images"),
        ("resnet50-large-meta", "another split"),
    ]
    assert "`cxrkit report --official-split`" in shown.notes[-1]


def test_without_comparable_folds_there_is_no_empty_table(tmp_path):
    save(tmp_path, make_scores("small-meta", "resample-1", dataset="synthetic", label_release="synthetic"))
    shown = report.resampled(tmp_path)
    assert [table.title for table in shown.tables] == [
        "Not comparable: runs kept out of the comparison",
        "Not comparable: their numbers",
    ]
    assert shown.notes[0].startswith("No run compares with the paper's Table 3 yet")


# Nothing to report


@pytest.mark.parametrize("build", [report.official, report.resampled])
def test_no_runs(tmp_path, build):
    with pytest.raises(UserError, match="there is no such folder of runs") as caught:
        build(tmp_path / "runs")
    assert "cxrkit train" in str(caught.value)
    (tmp_path / "runs" / "resnet50-ots" / "official" / "predictions").mkdir(parents=True)
    with pytest.raises(UserError, match="no evaluated run") as caught:
        build(tmp_path / "runs")
    assert "resnet50-ots/official: not evaluated yet (no scores.json)" in str(caught.value)
    assert "cxrkit evaluate" in str(caught.value)


def test_a_run_with_validation_scores_only_is_unfinished(tmp_path):
    scores = make_scores("resnet50-ots", "official")
    save(tmp_path, replace(scores, subsets={"val": replace(scores.subsets["test"], subset="val")}))
    with pytest.raises(UserError, match="resnet50-ots/official: no test scores, only val"):
        report.official(tmp_path)


def test_a_broken_scores_file_is_named(mixed):
    path = mixed / "resnet50-ots" / "official" / "scores.json"
    path.write_text(path.read_text()[:200])
    with pytest.raises(UserError, match=r"resnet50-ots/official/scores\.json: the scores file is not valid JSON"):
        report.official(mixed)


# How it looks


@pytest.mark.parametrize(("format", "ending"), [("md", "md"), ("csv", "csv"), ("latex", "tex")])
def test_golden_official(mixed, format, ending):
    check_golden(f"report_official.{ending}", report.render(report.official(mixed), format))


@pytest.mark.parametrize(("format", "ending"), [("md", "md"), ("csv", "csv"), ("latex", "tex")])
def test_golden_resampled(folds, format, ending):
    check_golden(f"report_resampled.{ending}", report.render(report.resampled(folds), format))


@pytest.mark.parametrize("width", [80, 100])
def test_golden_terminal(mixed, width):
    check_golden(f"report_official_{width}.txt", terminal(report.official(mixed), width))


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_no_number_is_cut_at_any_width(mixed, folds, width):
    for shown in (report.official(mixed), report.resampled(folds)):
        text = terminal(shown, width)
        assert "…" not in text
        for table in shown.tables:
            for row in table.rows:
                for head, cell in zip(table.columns, row.cells, strict=True):
                    assert head.left or cell.text in text
        assert max(map(len, text.splitlines())) <= width


def test_csv_has_one_row_per_label_and_plain_numbers(mixed):
    table = list(csv.DictReader(io.StringIO(report.render(report.official(mixed), "csv"))))
    assert [row["label"] for row in table] == [*PATHOLOGIES, AVERAGE, NO_FINDING]
    first = table[0]
    assert float(first["resnet38-large-meta: upper"]) == pytest.approx(0.94)
    assert first["resnet38-large-meta: positives"] == "500"
    for row in table:
        assert all(text == "" or math.isfinite(float(text)) for name, text in row.items() if name != "label")
    apart = [name for name in first if "not comparable (38 of 25,596 test images" in name]
    assert len(apart) == 4


def test_latex_escapes_and_balances(mixed, folds):
    save(mixed, make_scores("my_lab.nets:wide_50", "official", 0.001))
    for shown in (report.official(mixed), report.resampled(folds)):
        text = report.render(shown, "latex")
        code = [re.sub(r"(?<!\\)%.*", "", line) for line in text.splitlines()]
        body = "\n".join(code)
        assert body.count("\\begin{table}") == body.count("\\end{table}") == len(shown.tables)
        unescaped = re.sub(r"\\.", "", body)
        assert unescaped.count("{") == unescaped.count("}")
        assert "_" not in unescaped
        assert "#" not in unescaped
        assert "±" not in body
        for table in re.findall(r"\\begin{tabular}{(.*?)}\n(.*?)\\end{tabular}", body, re.DOTALL):
            columns = len(re.sub(r"p\{.*", "p", table[0]))
            lines = [line for line in table[1].splitlines() if line.endswith("\\\\")]
            assert {len(re.findall(r"(?<!\\)&", line)) for line in lines} == {columns - 1}
    assert "my\\_lab." in report.render(report.official(mixed), "latex")


def test_markdown_escapes_names(mixed):
    text = report.render(report.official(mixed), "md")
    assert "my\\_lab.nets:wide\\_50" in text
    rows = [line for line in text.splitlines() if line.startswith("| Mass")]
    assert len(rows) == 3  # comparison, intervals, numbers of the runs kept out


def test_write_is_atomic_and_follows_the_format(mixed, tmp_path):
    shown = report.official(mixed)
    out = tmp_path / "new" / "table.md"
    report.write(shown, out, report.format_of(out))
    assert out.read_text(encoding="utf-8") == report.render(shown, "md")
    assert report.format_of(Path("a.tex")) == "latex"
    with pytest.raises(UserError, match=r"the ending '\.docx' names no format"):
        report.format_of(Path("a.docx"))
    with pytest.raises(UserError, match="--format html: there is no such format"):
        report.write(shown, out, "html")
    assert [path.name for path in out.parent.iterdir()] == ["table.md"]


def test_headings_break_after_hyphens():
    assert heading_lines("resnet50-large-meta") == ("resnet50-", "large-meta")
    assert "".join(heading_lines("package.module:function")) == "package.module:function"
    assert all(len(line) <= 11 for line in heading_lines("resnet101-1channel-meta"))
