"""`cxrkit compare`: against scipy and by hand, whatever the order of the files, and every refusal."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from plain_report import matches_golden, plain, plain_table
from scipy import stats
from study_runs import Study
from tiny_runs import make_records, make_run, make_split
from typer.testing import CliRunner

from cxrkit.base.contracts import PATHOLOGIES
from cxrkit.base.errors import UserError
from cxrkit.base.labels import AGE, CHESTXRAY8, CHESTXRAY14
from cxrkit.cli.app import app
from cxrkit.datasets.splits import Split
from cxrkit.evaluators.scoring import evaluate_run
from cxrkit.evaluators.truth import read_truth
from cxrkit.report.comparing.compare import compare, compared, comparisons
from cxrkit.report.comparing.contenders import contenders, named
from cxrkit.report.comparing.fold_differences import fold_differences
from cxrkit.report.comparing.matrix import by_average, letters, ties_table
from cxrkit.report.comparing.pairing import contests
from cxrkit.report.document.numbers import p_text, p_words, signed
from cxrkit.report.document.tables import AVERAGE, Report, Table
from cxrkit.report.evidence import opened as evidence
from cxrkit.report.evidence.opened import Opened
from cxrkit.report.evidence.runs import Run, find_runs
from cxrkit.runs.predictions import METADATA_KEY, read_predictions, write_predictions
from cxrkit.runs.scores import read_scores, write_scores
from cxrkit.statistics import clustered, comparing


def runs_of(study: Study, *texts: str) -> list[list[Run]]:
    return named(texts, study.runs)


def table(report: Report, key: str) -> Table:
    return next(item for item in report.tables if item.key == key)


def values(item: Table, row: str) -> dict[str, float]:
    """All numbers of a row; those of the second column of AUCs as other_auc."""
    cells = next(line for line in item.rows if line.key == row).cells
    found = {f"other_{name}": value for name, value in cells[1].values.items()}
    return found | {name: value for cell in (cells[0], *cells[2:]) for name, value in cell.values.items()}


def vectors(study: Study, run: str) -> tuple[pl.DataFrame, np.ndarray, np.ndarray]:
    """Scores by label, truth and patients of a run's test images, joined here by name."""
    scores = pl.read_parquet(study.runs / run / "official" / "predictions" / "test.parquet").sort("image_id")
    truth = scores.select("image_id").join(pl.read_parquet(study.labels), on="image_id", how="left")
    clusters = np.unique(scores["patient_id"].to_numpy(), return_inverse=True)[1]
    return scores, truth.sort("image_id"), clusters


# Two runs on the same images


def test_two_runs_are_compared_as_by_hand(study: Study) -> None:
    report = compare(runs_of(study, "resnet38-large-meta", "mlp-meta"), Opened(study.labels))
    one, truth, clusters = vectors(study, "resnet38-large-meta")
    other, _, _ = vectors(study, "mlp-meta")
    gaps, raw = [], {}
    for label in PATHOLOGIES:
        pair = [
            clustered.estimate(scores[label].to_numpy(), truth[label].to_numpy(), clusters) for scores in (one, other)
        ]
        found = values(table(report, "compare"), label)
        assert (found["auc"], found["other_auc"]) == pytest.approx((pair[0].value, pair[1].value), abs=1e-12)
        gaps.append(clustered.difference(*pair))
        t = stats.t(gaps[-1].degrees_of_freedom, loc=gaps[-1].value, scale=gaps[-1].standard_error)
        assert found["difference"] == pytest.approx(gaps[-1].value, abs=1e-12)
        if found["lower"] is not None:
            assert (found["lower"], found["upper"]) == pytest.approx(t.interval(0.95), rel=1e-9)
            assert found["p_value"] == pytest.approx(2 * min(t.cdf(0), t.sf(0)), rel=1e-6)
            raw[label] = found
    assert len(raw) >= 10
    order = sorted(raw, key=lambda label: raw[label]["p_value"])
    largest = 0.0
    for place, label in enumerate(order):  # Holm, step by step
        largest = max(largest, min(1, (len(order) - place) * raw[label]["p_value"]))
        assert raw[label]["p_adjusted"] == pytest.approx(largest)
    mean = values(table(report, "compare"), AVERAGE)
    assert mean["difference"] == pytest.approx(np.mean([gap.value for gap in gaps]), abs=1e-12)
    error = np.sqrt(clustered.covariance(gaps).sum()) / len(gaps)
    assert mean["standard_error"] == pytest.approx(error)
    assert table(report, "compare").rows[0].key == AVERAGE
    assert "p_adjusted" not in mean


def rewritten(path: Path, order: np.ndarray) -> None:
    """Write a prediction file anew with its rows in another order, as other tools may."""
    metadata = pl.read_parquet_metadata(path)[METADATA_KEY]
    pl.read_parquet(path)[order].write_parquet(path, metadata={METADATA_KEY: metadata})


def test_the_order_of_the_files_changes_nothing(study: Study) -> None:
    before = compare(runs_of(study, "resnet38-large-meta", "elsewhere"), Opened(study.labels))
    run = study.runs / "elsewhere" / "official"
    path = run / "predictions" / "test.parquet"
    images = len(pl.read_parquet(path))
    rewritten(path, np.random.default_rng(0).permutation(images))
    assert not pl.read_parquet(path)["image_id"].is_sorted()
    evaluate_run(run, read_truth(study.labels), options={"replicates": 20})
    after = compare(runs_of(study, "resnet38-large-meta", "elsewhere"), Opened(study.labels))
    assert plain(after) == plain(before)
    for row in table(before, "compare").rows:
        assert values(table(after, "compare"), row.key) == values(table(before, "compare"), row.key)


def test_a_run_does_not_differ_from_its_copy(study: Study) -> None:
    shutil.copytree(study.runs / "mlp-meta", study.runs / "copy")
    report = compare(runs_of(study, "mlp-meta", "copy"), Opened(study.labels))
    assert report.title == "mlp-meta/official against copy/official"
    mean = values(table(report, "compare"), AVERAGE)
    assert (mean["difference"], mean["p_value"], mean["upper"]) == (0, 1, 0)
    notes = table(report, "compare").notes
    assert report.text[0].startswith(
        "The mean AUCs of mlp-meta/official and copy/official did not differ significantly"
    )
    assert "none of 14 labels differs" in report.text[0]
    expected = "mlp-meta/official and copy/official order the test images alike in every label: they are copies, "
    assert any(note.startswith(expected) for note in notes)


@pytest.mark.parametrize("turned", [False, True])
def test_the_numbers_of_a_sentence_go_with_its_direction(study: Study, turned: bool) -> None:
    names = ["resnet50-large-meta", "mlp-meta"]
    report = compare(runs_of(study, *(names[::-1] if turned else names)), Opened(study.labels))
    mean = values(table(report, "compare"), AVERAGE)
    sign = -1 if mean["difference"] < 0 else 1
    lower, upper = sorted((sign * mean["lower"], sign * mean["upper"]))
    assert lower > 0
    said = f"by {abs(mean['difference']):.3f} (95 % CI {lower:.3f} to {upper:.3f}; p < 0.001; paired by image, "
    first, second = report.title.split(" against ")
    higher, other = (first, second) if sign == 1 else (second, first)
    assert report.text[0].startswith(f"The mean AUC of {higher} exceeded that of {other} by ")
    assert said in report.text[0]
    adjusted = [row for row in table(report, "compare").rows if row.key != AVERAGE]
    differ = [row.heading for row in adjusted if (p := row.cells[4].values.get("p_adjusted")) is not None and p <= 0.05]
    assert f"After Holm's correction, {len(differ)} of 14 labels differ" in report.text[0]
    assert all(heading in report.text[0] for heading in differ)
    assert not any(row.heading in report.text[0] for row in adjusted if row.heading not in differ)


def test_equal_runs_share_a_rank_and_no_zero_is_negative(tmp_path: Path) -> None:
    """Scores that are scaled have equal AUCs, whose last digits may still differ."""
    records = make_records()
    split = make_split(records)
    for name, scale in (("b", 1.0), ("a", 0.5), ("c", 0.25)):
        run = tiny(tmp_path, name, records, split)
        path = run / "predictions" / "test.parquet"
        frame = read_predictions(path).frame
        scaled = frame.with_columns(pl.col(label) * scale for label in frame.columns[2:])
        write_predictions(path, scaled, read_predictions(path).about)
        evaluate_run(run, read_truth(tmp_path / "b.parquet"), options={"replicates": 2})
    found = compare(named(["a", "b", "c"], tmp_path / "runs"), Opened(tmp_path / "b.parquet"))
    rows = [(row.heading, row.cells[0].text) for row in table(found, "ties").rows]
    assert rows == [("1 a", "1="), ("2 b", "1="), ("3 c", "1=")]
    assert [cell.text for cell in table(found, "matrix").rows[0].cells] == ["-", "0.000", "0.000"]
    two_of_them = compare(named(["a", "b"], tmp_path / "runs"), Opened(tmp_path / "b.parquet"))
    text = "\n".join(map(plain_table, (*found.tables, *two_of_them.tables)))
    assert "| 0.000 " in text
    assert not re.search(r"[-+]0\.0+(?!\d)", text)


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [(-0.0004, 3, "0.000"), (0.0004, 3, "0.000"), (-0.0, 1, "0.0"), (0.0006, 3, "+0.001"), (-1.25, 2, "-1.25")],
)
def test_a_difference_has_a_sign_unless_it_is_printed_as_zero(value: float, decimals: int, text: str) -> None:
    assert signed(value, decimals) == text


def test_p_values_are_printed_in_one_way() -> None:
    assert [p_text(value) for value in (0.00049, 0.0005, 0.05, float("nan"))] == ["<0.001", "0.001", "0.050", "-"]
    assert [p_words(value) for value in (0.0001, 0.5)] == ["p <0.001", "p = 0.500"]


def test_seeds_add_their_variance_and_are_shown_apart(study: Study) -> None:
    seeds, single = runs_of(study, "resnet50-large", "resnet38-large-meta")
    official = [run for run in seeds if run.split == "official"]
    report = compare([official, single], Opened(study.labels))
    opened = Opened(study.labels)
    sides = [[clustered.mean(opened.evidence(run).estimates()[:14]) for run in group] for group in (official, single)]
    expected = comparing.compare_seeds(*sides)
    mean = values(table(report, "compare"), AVERAGE)
    assert mean["p_value"] == pytest.approx(expected.p_value)
    assert mean["degrees_of_freedom"] == pytest.approx(expected.degrees_of_freedom)
    spread = np.std([seed.value for seed in sides[0]], ddof=1)
    assert mean["std_seeds"] == pytest.approx(spread)
    notes = "\n".join(table(report, "compare").notes)
    assert f"Standard deviation of the average over the seeds (n - 1): resnet50-large {spread:.4f}" in notes


def test_only_shared_images_are_compared_and_it_is_said(study: Study) -> None:
    report = compare(runs_of(study, "resnet38-large-meta", "partial"), Opened(study.labels))
    one, truth, clusters = vectors(study, "resnet38-large-meta")
    kept = one["image_id"].is_in(vectors(study, "partial")[0]["image_id"].implode()).to_numpy()
    assert kept.sum() == 60
    label = "Infiltration"
    expected = clustered.estimate(one[label].to_numpy()[kept], truth[label].to_numpy()[kept], clusters[kept])
    assert values(table(report, "compare"), label)["auc"] == pytest.approx(expected.value, abs=1e-12)
    assert table(report, "compare").title.endswith("official split, partial")
    notes = "\n".join(table(report, "compare").notes)
    assert "Partial: only the 60 test images that all of them have are compared" in notes
    assert "cannot be said" in report.text[0]
    assert "Holm's method over the 1 of them that has one" in notes
    assert "Patients in brackets" in notes


def test_labels_without_scores_are_left_out_and_named(study: Study) -> None:
    report = compare(runs_of(study, "resnet38-large-meta", "elsewhere"), Opened(study.labels), only=["Hernia"])
    notes = "\n".join(table(report, "compare").notes)
    assert "Not compared: No Finding (no scores by elsewhere)" in notes
    assert "elsewhere: what it was trained on is not known" in notes
    assert [row.key for row in table(report, "compare").rows] == [AVERAGE, "Hernia"]


# Folds


def test_folds_are_compared_by_nadeau_and_bengio(study: Study) -> None:
    report = compare(runs_of(study, "resnet50-large", "resnet50-large-meta"), Opened(study.labels))
    assert [item.key for item in report.tables] == ["compare", "compare-2"]
    assert [item.key for item in report.figures] == ["differences", "differences-2"]
    gaps = []
    for number in (1, 2, 3):
        one, other = (
            read_scores(study.runs / name / f"resample-{number}" / "scores.json").subsets["test"].metric("auc").value
            for name in ("resnet50-large", "resnet50-large-meta")
        )
        gaps.append(one - other)
    naive = stats.ttest_1samp(gaps, 0)
    t = naive.statistic * np.sqrt((1 / 3) / (1 / 3 + 2 / 7))
    mean = values(table(report, "compare-2"), AVERAGE)
    assert mean["difference"] == pytest.approx(np.mean(gaps), abs=1e-12)
    assert mean["p_value"] == pytest.approx(2 * stats.t.sf(abs(t), 2), rel=1e-6)
    assert mean["degrees_of_freedom"] == 2
    assert "too small by a factor of 1.36" in "\n".join(table(report, "compare-2").notes)


def test_set_ups_of_table_3_are_compared_over_their_folds(study: Study) -> None:
    setups: dict[str, dict[int, list[Run]]] = {}
    for run in find_runs(study.runs).runs:
        if run.split.startswith("resample-"):
            setups.setdefault(run.name, {})[int(run.split[-1])] = [run]
    setups["unfinished"] = {1: setups["resnet50-large"][1]}
    (found,) = fold_differences(setups, CHESTXRAY14)
    report = compare(runs_of(study, "resnet50-large", "resnet50-large-meta"), Opened(study.labels))
    mean = values(table(report, "compare-2"), AVERAGE)
    upper, lower = found.rows[0].cells[1], found.rows[1].cells[0]
    assert upper.values["difference"] == pytest.approx(-100 * mean["difference"])
    assert lower.values["difference"] == -upper.values["difference"]
    assert upper.values["p_adjusted"] == pytest.approx(mean["p_value"])
    assert found.notes[-1] == "Not compared: unfinished, which has 1 fold of 3"
    assert fold_differences({"alone": setups["resnet50-large"]}, CHESTXRAY14) == []


def test_one_common_fold_is_a_split_like_any_other(study: Study) -> None:
    one, other = runs_of(study, "resnet50-large/resample-2", "resnet50-large-meta")
    report = compare([one, other], Opened(study.labels))
    assert table(report, "compare").title.endswith("resample-2 split")
    notes = "\n".join(table(report, "compare").notes)
    assert "Left out: resnet50-large-meta on official, resample-1, resample-3" in notes


# Many runs


def test_many_runs_stand_in_a_matrix_with_their_ties(study: Study) -> None:
    texts = ("mlp-meta", "resnet38-large-meta", "resnet50-large-meta/official", "elsewhere")
    groups = runs_of(study, *texts)
    opened = Opened(study.labels)
    report = compare(groups, opened)
    models = [clustered.mean(opened.evidence(runs[0]).estimates()[:14]) for runs in groups]
    expected = comparing.pairwise([[model] for model in models])
    order = sorted(range(4), key=lambda place: -models[place].value)
    matrix = table(report, "matrix")
    for row, one in enumerate(order):
        for column, other in enumerate(order):
            if one == other:
                assert matrix.rows[row].cells[column].text == "-"
                continue
            cell = matrix.rows[row].cells[column]
            assert cell.values["difference"] == pytest.approx(models[one].value - models[other].value, abs=1e-12)
            adjusted = expected.adjusted[min(one, other), max(one, other)]
            assert cell.values["p_adjusted"] == pytest.approx(adjusted)
            assert cell.bold == (adjusted <= 0.05)
    ties = table(report, "ties")
    assert [row.cells[0].values["auc"] for row in ties.rows] == pytest.approx([models[place].value for place in order])
    for one, other in ((0, 1), (0, 3), (2, 3)):
        shared = set(ties.rows[one].cells[1].text) & set(ties.rows[other].cells[1].text)
        assert bool(shared) == (matrix.rows[one].cells[other].values["p_adjusted"] > 0.05)
    assert [figure.key for figure in report.figures] == ["differences", "matrix"]


def test_runs_of_which_too_little_is_known_are_not_called_tied_without_a_word(study: Study) -> None:
    report = compare(runs_of(study, "partial", "elsewhere", "mlp-meta"), Opened(study.labels))
    ties = table(report, "ties")
    # What cannot be said is not said anywhere.
    assert {row.cells[-2].text for row in ties.rows} == {"unknown"}
    assert {row.cells[-1].text for row in ties.rows} == {"0 of 1", "1 of 1"}, "of the one label that has p-values"
    assert any(note.startswith("Best or tied in: of the 1 pathology with p-values") for note in ties.notes)
    contest = contests(contenders(runs_of(study, "partial", "elsewhere", "mlp-meta")), Opened(study.labels))[0]
    hernia_alone = {label: contest.pairwise("Hernia") for label in contest.labels.averaged}
    unknown = ties_table(contest, contest.pairwise(), by_average(contest), hernia_alone)
    assert {tuple(cell.text for cell in row.cells[-2:]) for row in unknown.rows} == {("unknown", "unknown")}
    assert ties.notes[0] == (
        "Tied: not known of any runs, for no pair has a p-value (1 patient with the finding, fewer than 10)"
    )
    hernia = next(row for row in table(report, "best").rows if row.key == "Hernia")
    assert hernia.cells[2].text == "unknown: 1 patient with the finding, fewer than 10"


def test_letters_go_on_behind_z() -> None:
    groups = [(place, place + 1) for place in range(28)]
    assert letters(groups, 0) == "a"
    assert letters(groups, 26) == "za2"
    assert letters(groups, 28) == "b2"


def test_a_report_compares_all_that_can_be_compared(study: Study) -> None:
    tables, figures = comparisons(find_runs(study.runs).runs, Opened(study.labels))
    assert [item.key for item in tables] == ["ties", "matrix", "best", "compare"]
    assert [item.key for item in figures] == ["differences", "matrix", "differences-2"]
    names = [row.key for row in tables[0].rows]
    assert "resnet50-large" in names  # both seeds
    assert not any("partial" in name for name in names)
    assert comparisons([], Opened()) == ([], [])


def test_models_with_other_numbers_of_folds_are_compared_over_those_in_common(study: Study) -> None:
    over = [run for run in find_runs(study.runs).runs if run.split.startswith("resample-")]
    third = [replace(run, name="third") for run in over if run.name == "resnet50-large-meta"]
    third = [run for run in third if run.split != "resample-2"]
    tables, _ = comparisons([*over, *third], Opened(study.labels))
    two, three = table(Report("", tuple(tables)), "compare"), table(Report("", tuple(tables)), "ties")
    assert two.title.endswith("3 resampling folds")
    assert three.title.endswith("2 resampling folds")
    assert {row.key for row in three.rows} == {"resnet50-large", "resnet50-large-meta", "third, resnet50-large-meta"}
    assert "Left out: resnet50-large on resample-2, which not all of them have" in "\n".join(three.notes)
    one = [run for run in over if (run.name, run.split) != ("resnet50-large", "resample-1")]
    assert {run.folder for run in compared(one)} == {run.folder for run in one}
    setups: dict[str, dict[int, list[Run]]] = {}
    for run in [*over, *third]:
        setups.setdefault(run.name, {})[int(run.split[-1])] = [run]
    most, common = fold_differences(setups, CHESTXRAY14)
    assert [len(item.rows) for item in (most, common)] == [2, 3]
    assert (most.key, common.key) == ("fold-differences", "fold-differences-common")


def test_a_second_comparison_reads_what_was_kept(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    first = compare(runs_of(study, "resnet38-large-meta", "mlp-meta"), Opened(study.labels))
    assert (study.runs / "mlp-meta" / "official" / "derived" / "influences-test.npz").exists()
    monkeypatch.delattr(evidence, "read_predictions")
    again = compare(runs_of(study, "resnet38-large-meta", "mlp-meta"), Opened())
    assert plain(again) == plain(first)


def test_golden_documents(study: Study) -> None:
    opened = Opened(study.labels)
    matches_golden(plain(compare(runs_of(study, "resnet50-large", "resnet50-large-meta"), opened)), "compare_two.txt")
    texts = ("mlp-meta", "resnet38-large-meta", "resnet50-large", "elsewhere")
    matches_golden(plain(compare(runs_of(study, *texts), opened)), "compare_many.txt")


# The command


def test_the_command_prints_and_writes(study: Study, tmp_path: Path) -> None:
    arguments = ["compare", "mlp-meta", str(study.runs / "elsewhere"), "--runs", str(study.runs)]
    arguments += ["--data", str(study.labels), "--label", "Hernia", "--out", str(tmp_path / "found.md")]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    assert "mlp-meta against elsewhere" in done.output
    written = (tmp_path / "found.md").read_text()
    assert "Hernia" in written
    assert "Effusion" not in written
    assert written.index("The mean AUC") < written.index("| Pathology"), "the sentence stands above the table"


# Refusals


def tiny(folder: Path, name: str, records: pl.DataFrame, split: Split, **changes) -> Path:
    info = {"name": name} | changes.pop("info", {})
    run = make_run(folder / "runs" / name / split.name, records, split, info=info, **changes)
    labels = folder / f"{name}.parquet"
    records.write_parquet(labels)
    evaluate_run(run, read_truth(labels), options={"replicates": 2})
    return run


def refused(folder: Path, *texts: str) -> str:
    with pytest.raises(UserError) as caught:
        compare(named(texts, folder / "runs"), Opened())
    assert caught.value.remedy
    return str(caught.value).replace(f"{folder}/runs/", "")


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """Two runs on one split, a and b."""
    records = make_records()
    for name in ("a", "b"):
        tiny(tmp_path, name, records, make_split(records))
    return tmp_path


def test_what_is_named_must_be_there(two: Path) -> None:
    assert refused(two, "a").startswith("compare: fewer than two runs are named")
    message = refused(two, "a", "c")
    assert "c: there is no such run, neither here nor in" in message
    assert "there are a, b" in message
    assert re.match("a/official: named twice, by a and by a/official", refused(two, "a", "a/official"))
    (two / "runs" / "empty").mkdir()
    assert refused(two, "a", "empty").startswith("empty: holds no run")
    (two / "runs" / "b" / "official" / "scores.json").unlink()
    assert "b/official: not evaluated yet (no scores.json)" in refused(two, "a", "b")


def test_a_run_without_test_scores_is_refused(two: Path) -> None:
    path = two / "runs" / "b" / "official" / "scores.json"
    scores = read_scores(path)
    write_scores(path, replace(scores, subsets={"val": scores.subsets["val"]}))
    assert "b/official: has no test scores, only val" in refused(two, "a", "b")


def test_an_unknown_label_is_refused(two: Path) -> None:
    with pytest.raises(UserError, match=r"unknown label 'Hernja'\n.*did you mean Hernia"):
        compare(named(["a", "b"], two / "runs"), Opened(two / "a.parquet"), only=["Hernja"])


def test_scores_of_other_files_are_refused(two: Path) -> None:
    rewritten(two / "runs" / "b" / "official" / "predictions" / "test.parquet", np.arange(10))
    message = refused(two, "a", "b")
    assert "b/official: its predictions/test.parquet was replaced after it was scored" in message


def test_an_amount_has_no_auc(two: Path) -> None:
    (a,), (b,) = named(["a", "b"], two / "runs")
    of_age = replace(b, scores=replace(b.scores, origin=replace(b.origin, label_set=AGE.name)))
    with pytest.raises(UserError, match="b/official: predicts age_years in years, which has no AUC to compare"):
        compare([[a], [of_age]], Opened())


def test_runs_on_unequal_terms_are_not_pooled(two: Path) -> None:
    records = make_records()
    split = make_split(records, "resample-1")
    run = make_run(two / "runs" / "b" / "resample-1", records, split, info={"name": "b", "recipe_digest": "11" * 32})
    evaluate_run(run, read_truth(two / "b.parquet"), options={"replicates": 2})
    message = refused(two, "a", "b")
    assert (
        "b: its runs official and resample-1 were not trained on equal terms (settings eeeeeeee and 11111111)"
        in message
    )


def test_a_copy_is_no_second_seed(two: Path) -> None:
    shutil.copytree(two / "runs" / "b" / "official", two / "runs" / "b" / "official-again")
    message = refused(two, "a", "b")
    assert "b: its runs official and official-again are both of seed 0 on split official; a copy is no" in message


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"dataset": "other"}, "a/official and c/official: of different data sets, nih-chestxray14 and other"),
        (
            {"label_release": "2017"},
            "evaluated on different labels, labels of release v2020 and labels of release 2017",
        ),
    ],
)
def test_other_data_and_other_labels_are_refused(two: Path, changes: dict, expected: str) -> None:
    records = make_records(seed=5 if "label_release" in changes else 0)
    tiny(two, "c", records, make_split(records), **changes)
    assert expected in refused(two, "a", "c")


def test_another_split_is_refused_with_what_the_other_was_trained_on(two: Path) -> None:
    records = make_records()
    number = pl.col("patient_id").cast(pl.Int32)
    subset = (
        pl.when(number <= 20).then(pl.lit("test")).when(number <= 30).then(pl.lit("val")).otherwise(pl.lit("train"))
    )
    other = Split("own", records.select("image_id", "patient_id", subset=subset))
    run = tiny(two, "c", records, other)
    for folder in (run, two / "runs" / "a" / "official"):
        path = folder / "split.parquet"
        frame = pl.read_parquet(path)
        columns = {"used": pl.lit(True), "source_crc32": pl.lit(None, pl.UInt32)}
        frame.with_columns(**columns).write_parquet(path)
    message = refused(two, "a", "c")
    assert "a/official and c/own: tested on different images, split official with digest" in message
    images = records.filter(number > 40).height
    assert f"c was trained on {images} of the {images} test images of a" in message
    assert "a was trained on" in message


def test_runs_without_a_common_split_are_refused(two: Path) -> None:
    records = make_records()
    tiny(two, "c", records, make_split(records, "resample-1"))
    tiny_split = make_split(records, "resample-2")
    run = make_run(two / "runs" / "c" / "resample-2", records, tiny_split, info={"name": "c"})
    evaluate_run(run, read_truth(two / "c.parquet"), options={"replicates": 2})
    message = refused(two, "a", "c")
    assert message.startswith("no split in common: a has official; c has resample-1, resample-2")


def cut(run: Path, rows: slice, truth: Path) -> None:
    """Leave only some of a run's test predictions, and score them."""
    path = run / "predictions" / "test.parquet"
    predictions = read_predictions(path)
    write_predictions(path, predictions.frame[rows], predictions.about)
    evaluate_run(run, read_truth(truth), options={"replicates": 2})


def test_runs_that_share_no_image_are_refused(two: Path) -> None:
    cut(two / "runs" / "a" / "official", slice(0, 20), two / "a.parquet")
    cut(two / "runs" / "b" / "official", slice(20, None), two / "b.parquet")
    with pytest.raises(UserError, match="share no test image"):
        compare(named(["a", "b"], two / "runs"), Opened(two / "a.parquet"))


def test_label_sets_are_compared_in_what_both_score(two: Path) -> None:
    records = make_records()
    run = make_run(two / "runs" / "c" / "official", records, make_split(records), CHESTXRAY8, info={"name": "c"})
    evaluate_run(run, read_truth(two / "a.parquet"), options={"replicates": 2})
    report = compare(named(["a", "c"], two / "runs"), Opened(two / "a.parquet"))
    assert len(table(report, "compare").rows) == 1 + len(CHESTXRAY8)
    notes = "\n".join(table(report, "compare").notes)
    assert "unweighted mean over the 8 pathologies" in notes
    assert "Emphysema" in next(note for note in table(report, "compare").notes if note.startswith("Not compared"))


def test_labels_with_other_truth_are_not_compared(two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = make_records(seed=9)  # other labels of the same images, in a label set of another name
    run = make_run(two / "runs" / "c" / "official", records, make_split(records), CHESTXRAY8, info={"name": "c"})
    records.write_parquet(two / "c.parquet")
    evaluate_run(run, read_truth(two / "c.parquet"), options={"replicates": 2})
    monkeypatch.setattr(Opened, "truth", lambda _, run: read_truth(two / f"{run.name}.parquet"))  # each run's own
    opened = Opened()
    (a,), (c,) = named(["a", "c"], two / "runs")
    with pytest.raises(UserError, match=r"no label to compare; .*their truth differs between the runs"):
        compare([[a], [c]], opened)
