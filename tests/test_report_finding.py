"""Which runs a report is about: found at any depth, chosen by pattern, told apart; and which document is asked for."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from study_runs import Study

from cxrkit import report
from cxrkit.base.errors import UserError
from cxrkit.report.document.tables import Report
from cxrkit.report.everything import DOCUMENTS, everything
from cxrkit.report.evidence.runs import FoundRuns, find_runs
from cxrkit.report.request import FIGURES, TABLES, ReportRequest, answer, document_of
from cxrkit.runs.predictions import read_predictions, write_predictions
from cxrkit.runs.scores import read_scores, write_scores
from cxrkit.runs.search import run_folders


def names(found: FoundRuns) -> list[str]:
    return [f"{run.name}/{run.folder.name}" for run in found.runs]


def make(folder: Path, *marks: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for mark in marks or ("scores.json",):
        (folder / mark).touch()
    return folder


def places(root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in run_folders(root).paths]


# The search


def test_runs_are_found_at_any_depth_and_not_in_a_runs_own_folders(tmp_path: Path) -> None:
    wanted = ["a/official", "deep/er/b/official", "sweep/lr/c/resample-1", "top"]
    for place in wanted:
        make(tmp_path / place)
    make(tmp_path / "unfinished" / "official", "config.toml")
    make(tmp_path / "imported" / "official", "import.json")
    (tmp_path / "predicted" / "official" / "predictions").mkdir(parents=True)
    for hidden in (".trash/x/official", "a/official/checkpoints/x", "a/official/derived/y", "a/official/done/z"):
        make(tmp_path / hidden)
    make(tmp_path / "a" / "official" / "predictions" / "epochs" / "7")
    extra = ["imported/official", "predicted/official", "unfinished/official"]
    assert places(tmp_path) == sorted([*wanted, *extra])


def test_links_are_followed_once_and_circles_end(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    make(root / "z" / "official")
    elsewhere = make(tmp_path / "elsewhere" / "net" / "official")
    (root / "a-link").symlink_to(root / "z")  # sorted before it, and yet the place itself is what counts
    (root / "other").symlink_to(elsewhere.parent)
    (root / "z" / "back").symlink_to(root)
    (elsewhere / "up").symlink_to(tmp_path)
    (root / "broken").symlink_to(tmp_path / "nothing")
    assert places(root) == ["other/official", "z/official"]


def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "a" / "official")
    locked = make(tmp_path / "locked" / "official")
    scan = os.scandir

    def guarded(folder: Path) -> object:
        if Path(folder) == locked:  # permissions do not keep root out
            raise PermissionError(13, "Permission denied", str(folder))
        return scan(folder)

    monkeypatch.setattr("cxrkit.runs.search.os.scandir", guarded)
    found = run_folders(tmp_path)
    assert [path.name for path in found.paths] == ["official"]
    assert found.unreadable == ((locked, "Permission denied"),)


def test_thousands_of_files_cost_no_look_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder is listed once, and of a file nothing is asked."""
    make(tmp_path / "a" / "official", "scores.json", *(f"image-{number}.png" for number in range(2_000)))
    looks = []
    stat = Path.stat

    def counted(path: Path, **options: bool) -> os.stat_result:
        looks.append(path)
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", counted)
    assert len(run_folders(tmp_path).paths) == 1
    assert len(looks) == 3


# The runs of a report


def test_a_study_in_a_folder_of_sweeps_gives_the_same_report(study: Study, tmp_path: Path) -> None:
    before = report.official(study.runs)
    nested = tmp_path / "all" / "sweep" / "one"
    nested.parent.mkdir(parents=True)
    study.runs.rename(nested)
    assert report.official(tmp_path / "all") == before


def test_one_run_folder_is_a_folder_of_runs(study: Study) -> None:
    found = find_runs(study.runs / "resnet38-large-meta" / "official")
    assert names(found) == ["resnet38-large-meta/official"]
    assert names(find_runs(study.runs / "mlp-meta")) == ["mlp-meta/official"]
    shown = report.official(study.runs / "resnet38-large-meta" / "official")
    assert [head.name for head in shown.tables[0].columns if head.own] == ["resnet38-large-meta"]
    with pytest.raises(UserError, match="did you mean resnet38-large-meta"):
        find_runs(study.runs / "resnet38-large-meta" / "official", only=["resnet38-large-mta"])


def test_runs_of_one_name_are_told_apart_by_what_leads_to_them(study: Study) -> None:
    run = study.runs / "mlp-meta" / "official"
    for place in ("first/mlp-meta", "second/mlp-meta", "third/other"):
        shutil.copytree(run, study.runs / place / "official")
    found = find_runs(study.runs, only=["*mlp-meta*", "other"])
    assert sorted(names(found)) == [
        "first/mlp-meta/official",
        "mlp-meta/official",
        "other/official",
        "second/mlp-meta/official",
    ]
    assert len({run.name for run in found.runs}) == 4


@pytest.mark.parametrize(
    ("only", "hide", "left"),
    [
        (["mlp*"], [], ["mlp-meta/official"]),
        (["mlp-meta", "elsewhere/*"], [], ["elsewhere/official", "mlp-meta/official"]),
        (["resnet50-large"], ["*/resample-*"], ["resnet50-large/official", "resnet50-large/official-seed-1"]),
        ([], ["resnet*", "partial"], ["elsewhere/official", "mlp-meta/official"]),
        (["*/resample-[13]"], ["*-meta/*"], ["resnet50-large/resample-1", "resnet50-large/resample-3"]),
    ],
)
def test_patterns_choose_runs(study: Study, only: list[str], hide: list[str], left: list[str]) -> None:
    assert sorted(names(find_runs(study.runs, only, hide))) == left


@pytest.mark.parametrize(
    ("only", "hide", "message", "remedy"),
    [
        (["resnet38-large-mta"], [], "--only resnet38-large-mta: none of the 13 runs", "resnet38-large-meta"),
        ([], ["*RESNET38*"], "--hide \\*RESNET38\\*: none of the 13 runs", "did you mean resnet38-large-meta"),
        (["zzz"], [], "--only zzz: none of the 13 runs", "names are elsewhere"),
        (["mlp-meta"], ["mlp*"], "no evaluated run that --only and --hide leave", "choose other patterns"),
    ],
)
def test_a_pattern_that_matches_nothing_is_named(
    study: Study, only: list[str], hide: list[str], message: str, remedy: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        find_runs(study.runs, only, hide)
    assert remedy in caught.value.remedy


def test_brackets_in_a_name_are_found_literally(study: Study) -> None:
    (study.runs / "mlp-meta").rename(study.runs / "mlp [1]")
    assert names(find_runs(study.runs, only=["mlp [1]"])) == ["mlp-meta/official"]


def test_unusable_runs_of_one_reason_share_a_line(study: Study) -> None:
    for number in range(7):
        make(study.runs / f"new-{number}" / "official", "config.toml")
    (study.runs / "partial" / "official" / "scores.json").write_text("{")
    found = find_runs(study.runs)
    grouped, broken = sorted(found.unusable)
    assert grouped == (
        "7 runs: not evaluated yet (no scores.json) (new-0/official, new-1/official, new-2/official, new-3/official "
        "and 3 more)"
    )
    assert broken.startswith("partial/official/scores.json: the scores file is not valid JSON")
    assert find_runs(study.runs, hide=["new-*", "partial"]).unusable == ()


def test_a_config_above_the_runs_is_no_run(study: Study) -> None:
    make(study.runs, "config.toml")
    assert find_runs(study.runs).unusable == ()


# What was kept apart


def test_runs_kept_apart_are_a_short_table_until_asked_for(study: Study) -> None:
    for name in ("part-2", "part-3"):
        shutil.copytree(study.runs / "partial", study.runs / name)
    (study.runs / "mlp-meta" / "official" / "predictions" / "test.parquet").unlink()
    shown = report.official(study.runs)
    (table,) = [table for table in shown.tables if table.key == "apart"]
    assert table.title == "Kept out of the comparison: 4 runs"
    first, second = table.rows
    assert (first.heading, [cell.text for cell in first.cells]) == (
        "3",
        ["60 of 391 test images", "part-2 (official), part-3 (official), partial (official)"],
    )
    assert [cell.text for cell in second.cells] == ["its predictions/test.parquet is missing", "mlp-meta (official)"]
    assert table.notes == ("`--apart` shows each of them, with its numbers",)  # no network predicts what is missing
    detailed = report.official(study.runs, apart=True)
    titles = [table.title for table in detailed.tables]
    assert "Not comparable: runs kept out of the comparison" in titles
    assert "Not comparable: their numbers" in titles
    assert len(detailed.tables) == len(shown.tables) + 1


def test_what_mends_it_is_named(study: Study) -> None:
    one, other = (study.runs / name / "official" for name in ("mlp-meta", "resnet38-large-meta"))
    predictions = one / "predictions" / "test.parquet"
    found = read_predictions(predictions)
    write_predictions(predictions, found.frame.with_columns(Hernia=1 - pl.col("Hernia")), found.about)
    scores = read_scores(other / "scores.json")
    test = scores.subsets["test"]
    named = replace(test, metrics=tuple(replace(metric, name="mine") for metric in test.metrics))
    write_scores(other / "scores.json", replace(scores, evaluator="mine:brier", subsets={"test": named}))
    for apart in (False, True):
        table = next(item for item in report.official(study.runs, apart=apart).tables if item.key == "apart")
        assert table.notes[-1] == (
            f"What mends it: `cxrkit evaluate {one}`, `cxrkit evaluate {other} --evaluator auc,mine:brier`"
        )


# What is asked for


@pytest.mark.parametrize(
    ("flags", "table", "figure", "name"),
    [
        ({}, None, None, "resampled"),
        ({"--official-split": True}, None, None, "official"),
        ({"--official-split": True}, 5, None, "official"),
        ({"--probes": True}, None, None, "probes"),
        ({}, 3, None, "resampled"),
        ({}, 4, None, "table4"),
        ({}, 5, None, "official"),
        ({"--all": True}, None, None, ""),
    ],
)
def test_a_document_has_a_name(flags: dict[str, bool], table: int | None, figure: int | None, name: str) -> None:
    assert document_of(flags, table, figure) == name


@pytest.mark.parametrize(
    ("flags", "table", "figure", "message"),
    [
        ({"--official-split": True, "--probes": True}, None, None, "--official-split and --probes are two reports"),
        ({"--probes": True}, 3, None, "--probes and --table 3 are two reports"),
        ({"--all": True}, 5, None, "--all and --table 5 are two reports"),
        ({"--all": True, "--probes": True}, 5, None, "are 3 reports"),
        ({}, 9, None, "--table 9: is not built here"),
        ({}, None, 1, "--figure 1: is not built here"),
    ],
)
def test_two_documents_at_once_and_unknown_numbers_are_refused(
    flags: dict[str, bool], table: int | None, figure: int | None, message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        document_of(flags, table, figure)
    assert caught.value.remedy


def test_every_number_leads_to_a_document_and_its_key_is_its_name(study: Study) -> None:
    assert {*TABLES.values(), *FIGURES.values()} <= DOCUMENTS.keys()
    of_other_commands = {"localisation", "audit", "external"}  # what they have left in a run
    for name in DOCUMENTS.keys() - {"labels"} - of_other_commands:
        assert answer(ReportRequest(study.runs, name, raw=study.raw)).key == name


def test_all_documents_that_the_runs_allow(study: Study) -> None:
    made = everything(ReportRequest(study.runs).material())
    assert [item.key for item in made.documents][:3] == ["paper", "official", "resampled"]
    assert "probes" not in [item.key for item in made.documents]
    one = everything(ReportRequest(study.runs, only=("mlp-meta",), raw=study.raw).material())
    keys = [item.key for item in one.documents]
    assert keys[:2] == ["paper", "official"]
    assert {"curves", "stats", "provenance"} <= set(keys)
    assert "table1" not in keys  # no network of the paper is in the study
    assert not {"resampled", "probes", "compare", "table4", "labels"} & set(keys)


def test_a_document_on_the_data_set_asks_for_one(study: Study) -> None:
    with pytest.raises(UserError, match="Table 2 and Figure 3 are of the data set, and none is named") as caught:
        ReportRequest(study.runs, document_of({}, 2, None))
    assert "--data" in caught.value.remedy
    assert "--raw" in caught.value.remedy


def test_published_results_stand_beside_the_official_split_alone(study: Study) -> None:
    with pytest.raises(UserError, match="--also: published results are of the official split"):
        ReportRequest(study.runs, "resampled", also=("top10",))
    shown = answer(ReportRequest(study.runs, "official", also=("swinchex2022",)))
    published = [head for head in shown.tables[0].columns if not head.own]
    assert len(published) > len([head for head in report.official(study.runs).tables[0].columns if not head.own])


def test_what_is_of_no_run_asks_for_none(study: Study) -> None:
    assert answer(ReportRequest(study.folder / "nothing", "table1")).key == "table1"
    with pytest.raises(UserError, match="Table 2 and Figure 3 are of the data set, and none is named"):
        answer(ReportRequest(study.folder / "nothing", "stats"))


def test_a_document_that_cannot_be_made_is_named_and_the_others_are_built(study: Study) -> None:
    made = everything(ReportRequest(study.runs, "", labels=("google2019",), raw=study.raw).material())
    assert made.documents[0].key == "paper"
    (reason,) = made.left_out
    assert reason.startswith("labels: ")
    assert "no google2019_nih-chest-xray-labels.csv here" in reason
    with pytest.raises(UserError, match="unknown published result 'nobody2099'"):
        ReportRequest(study.runs, "", also=("nobody2099",))


# The command


def command(*arguments: object, width: int = 80) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cxrkit", "report", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": f"{width}"},
        timeout=120,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--all",), "no folder is named for them"),
        (("--all", "--out", "x", "--format", "md"), "--all writes every format"),
    ],
)
def test_the_command_refuses_before_it_looks_at_runs(arguments: tuple[str, ...], message: str) -> None:
    done = command(*arguments, "--runs", "nothing")
    assert done.returncode == 2
    assert message in done.stderr


def test_a_figure_is_not_silently_missing_in_a_terminal(study: Study) -> None:
    done = command("--figure", 5, "--runs", study.runs)
    assert done.returncode == 0, done.stderr
    assert "A terminal shows no figure: --out FILE.html draws it" in done.stdout


def test_the_command_writes_all(study: Study, tmp_path: Path) -> None:
    """Outside of the study's world its runs are of another split: there is a report all the same."""
    done = command("--all", "--runs", study.runs, "--out", tmp_path / "report", "--hide", "elsewhere", "--apart")
    assert done.returncode == 0, done.stderr
    assert f"written: {tmp_path / 'report'}" in done.stdout
    assert {"official.md", "official.tex", "official.csv", "official.json"} <= {
        path.name for path in (tmp_path / "report").iterdir()
    }
    shown: Report = report.read_report_json(tmp_path / "report" / "official.json")
    assert "elsewhere" not in {column.name for table in shown.tables for column in table.columns}


def of_imports_alone(study: Study, folder: Path) -> Path:
    """Return a folder of the study's imported run and no other."""
    shutil.copytree(study.runs / "elsewhere", folder / "elsewhere")
    return folder


def test_whatever_is_left_out_has_a_reason(study: Study, tmp_path: Path) -> None:
    """A study of imports alone lacks the most: each document is made of it, or says why not."""
    runs = of_imports_alone(study, tmp_path / "imports")
    material = ReportRequest(runs, labels=("google2019",), raw=study.raw).material()
    made = everything(material)
    assert all(re.fullmatch(r"[a-z0-9]+: \S.*", reason, re.DOTALL) for reason in made.left_out), made.left_out
    assert "thresholds: no validation predictions (elsewhere)" in made.left_out
    keys = {item.key for item in made.documents}
    assert "table1" not in keys  # no network of the paper was built here
    for name in DOCUMENTS.keys() - keys:
        with suppress(UserError):  # says why
            report = DOCUMENTS[name].build(material)
            assert report.tables or report.figures or report.text or all(report.notes), name
    assert all(item.tables or item.figures or item.text for item in made.documents)


def test_the_paper_networks_are_shown_where_one_was_trained(study: Study) -> None:
    made = everything(ReportRequest(study.runs, only=("resnet50-large-meta",)).material())
    assert "table1" in {item.key for item in made.documents}
