"""What train, evaluate and import print at their end: the numbers of scores.json, and the rules of the tables.

The golden file holds the panels of one run of every kind; after a wanted change run `CXRKIT_UPDATE_GOLDEN=1 pytest
tests/test_panel.py` and read the difference.
"""

from __future__ import annotations

import io
import os
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from study_runs import REPLICATES, Study

from cxrkit import pipeline
from cxrkit.base.contracts import Metric
from cxrkit.base.labels import AGE, CHEXPERT, SEX
from cxrkit.report.panel import Panel, judged, missing_folds, next_command, tell
from cxrkit.runs.folder import RunFolder
from cxrkit.runs.scores import Scores, read_scores
from cxrkit.statistics.intervals import APPROXIMATE, TOO_FEW

GOLDEN = Path(__file__).parent / "golden" / "panels_80.txt"


def printed(shown: object, *, width: int = 80, encoding: str = "utf-8") -> str:
    bytes_out = io.BytesIO()
    file = io.TextIOWrapper(bytes_out, encoding=encoding, newline="\n")
    Console(width=width, file=file, force_terminal=False, color_system=None).print(shown)
    file.flush()
    return "\n".join(line.rstrip() for line in bytes_out.getvalue().decode(encoding).splitlines()) + "\n"


def panel_of(run: RunFolder, changed: Scores | None = None) -> Panel:
    scores = changed or read_scores(run.scores)
    verdict = judged(run, scores)
    if changed is not None and verdict is not None:  # its predictions were not changed with it, which is seen
        kept = tuple(reason for reason in verdict.reasons if not reason.startswith("its scores.json says"))
        verdict = replace(verdict, reasons=kept)
    return Panel(scores, verdict, missing_folds(run, scores))


def with_test(scores: Scores, *metrics: Metric, label_set: str = "", evaluator: str = "auc") -> Scores:
    """Return scores of other metrics, of another label set."""
    origin = replace(scores.origin, label_set=label_set or scores.origin.label_set)
    test = replace(scores.subsets["test"], metrics=metrics)
    return replace(scores, origin=origin, evaluator=evaluator, subsets={"test": test})


HOW = "95 % logit-t with effective patients, bootstrap over patients, 50 replicates, seed 0"


def kinds(study: Study) -> Iterator[tuple[str, Panel]]:
    """Yield a panel for every kind of run there is."""
    run = RunFolder(study.runs / "resnet50-large-meta" / "official")
    scores = read_scores(run.scores)
    yield "complete, official split", panel_of(run)
    yield "second seed", panel_of(RunFolder(study.runs / "resnet50-large" / "official-seed-1"))
    yield "three of five folds", panel_of(RunFolder(study.runs / "resnet50-large" / "resample-2"))
    yield "part of the test images", panel_of(RunFolder(study.runs / "partial" / "official"))
    yield "from elsewhere", panel_of(RunFolder(study.runs / "elsewhere" / "official"))
    yield "validation images alone", panel_of(run, replace(scores, subsets={"val": scores.subsets["val"]}))
    phantoms = replace(scores, origin=replace(scores.origin, dataset="synthetic", label_release="synthetic"))
    yield "phantoms", panel_of(run, phantoms)
    age = (
        Metric("mae", 9.125, "age_years", 8.5, 9.75, interval="95 % percentiles, bootstrap over patients"),
        Metric("mae_sd", 7.25, "age_years"),
        Metric("mae_of_median", None, "age_years", reason="no validation images"),
    )
    yield "age from features", panel_of(run, with_test(scores, *age, label_set=AGE.name, evaluator="mae"))
    sex = (
        Metric("auc", 0.98, "Male", 0.97, 0.99, 200, 191, interval=HOW, positive_patients=60),
        Metric("auc", 0.98, None, 0.97, 0.99, labels=1, interval=HOW),
        Metric("threshold", 0.5, "Male", reason="chosen on val by Youden's index"),
        Metric("sensitivity", 0.9, "Male", 0.85, 0.94, 200, interval=HOW, mark=APPROXIMATE),
    )
    yield "sex from features", panel_of(run, with_test(scores, *sex, label_set=SEX.name, evaluator="youden"))
    own = (Metric("brier", 0.08, None, labels=14), Metric("f1", 0.25, "Hernia"), Metric("f1", 0.5, "Mass"))
    yield "an evaluator of one's own, without AUC", panel_of(run, with_test(scores, *own, evaluator="mine:brier"))
    marked = (
        Metric("auc", 0.7, "Lung Opacity", 0.6, 0.8, 30, 40, interval=HOW, mark=APPROXIMATE, positive_patients=20),
        Metric("auc", 0.7, "Fracture", None, None, 9, 90, mark=TOO_FEW, positive_patients=8),
        Metric("auc", 0.5, "Pleural Effusion", 0.5, 0.5, 50, 50, interval=HOW, constant=True, positive_patients=40),
        Metric("auc", None, "Edema", positives=0, negatives=99, reason="0 positives"),
        Metric("auc", 0.6, None, 0.5, 0.7, labels=4, reason="over 4 of 5", interval=HOW),
    )
    yield "another label set, with every mark", panel_of(run, with_test(scores, *marked, label_set=CHEXPERT.name))


def test_golden_panels(study: Study) -> None:
    text = "\n".join(f"# {kind}\n{printed(shown)}" for kind, shown in kinds(study))
    assert max(map(len, text.splitlines())) <= 80
    if os.environ.get("CXRKIT_UPDATE_GOLDEN"):
        GOLDEN.write_text(text, encoding="utf-8")
    assert GOLDEN.read_text(encoding="utf-8") == text


def test_a_plain_console_gets_plain_signs(study: Study) -> None:
    for _, shown in kinds(study):
        assert printed(shown, encoding="ascii").isascii()
    narrow = printed(panel_of(RunFolder(study.runs / "mlp-meta" / "official")), width=44)
    assert max(map(len, narrow.splitlines())) <= 44
    assert narrow.count("[") >= 15  # one column, nothing lost


def test_each_number_is_that_of_the_scores(study: Study) -> None:
    run = RunFolder(study.runs / "mlp-meta" / "official")
    scores = read_scores(run.scores)
    text = printed(panel_of(run))
    for metric in scores.subsets["test"].metrics:
        label = "Mean AUC on test:" if metric.label is None else scores.labels.heading(metric.label)
        (line,) = [line for line in text.splitlines() if label in line and not line.startswith("Mean: ")]
        assert f"{metric.value:.3f}" in line.partition(label)[2]
        assert f"[{metric.lower:.3f}, {metric.upper:.3f}]" in line.partition(label)[2]


def test_the_panel_keeps_to_the_rules_of_the_table(study: Study) -> None:
    complete = RunFolder(study.runs / "mlp-meta" / "official")
    assert "May stand beside published results on the official split" in printed(panel_of(complete))
    shutil.copy(study.runs / "elsewhere" / "official" / "predictions" / "test.parquet", complete.predictions("test"))
    assert "Not beside published results: its predictions/test.parquet was replaced" in printed(panel_of(complete))


def test_missing_folds_are_counted_for_the_seed(study: Study) -> None:
    run = RunFolder(study.runs / "resnet50-large" / "resample-2")
    assert missing_folds(run, read_scores(run.scores)) == (4, 5)
    other = run.path.with_name("resample-2-seed-1")
    shutil.copytree(run.path, other)
    assert missing_folds(RunFolder(other), read_scores(run.scores)) == (1, 3, 4, 5)
    official = RunFolder(study.runs / "resnet50-large" / "official")
    assert missing_folds(official, read_scores(official.scores)) == ()


@pytest.mark.parametrize(
    ("name", "split", "option"),
    [("mlp-meta", "official", ["--official-split"]), ("resnet50-large", "resample-2", [])],
)
def test_the_next_command_can_be_typed(study: Study, name: str, split: str, option: list[str]) -> None:
    runs = study.folder / "my [runs] of 'today'"
    shutil.copytree(study.runs, runs)
    run = RunFolder(runs / name / split)
    command = next_command(run, read_scores(run.scores))
    assert shlex.split(command) == ["cxrkit", "report", *option, "--runs", str(runs)]


def test_the_next_command_of_other_runs(study: Study) -> None:
    run = RunFolder(study.runs / "mlp-meta" / "official")
    scores = read_scores(run.scores)
    probe = replace(scores, origin=replace(scores.origin, label_set=AGE.name))
    assert next_command(run, probe) == f"cxrkit report --probes --runs {study.runs}"
    val_only = replace(scores, subsets={"val": scores.subsets["val"]})
    assert next_command(run, val_only).startswith(f"cxrkit predict {run.path} --subset test && cxrkit evaluate")
    own = replace(scores, origin=replace(scores.origin, split="file-mine"))
    assert next_command(run, own) == f"cxrkit report --apart --runs {study.runs}"
    partial = RunFolder(study.runs / "partial" / "official")  # which the table does not show otherwise
    command = next_command(partial, read_scores(partial.scores))
    assert command == f"cxrkit report --official-split --apart --runs {study.runs}"


def test_the_last_lines_name_the_files_however_long(study: Study) -> None:
    console = Console(width=60, file=io.StringIO(), force_terminal=False, color_system=None)
    deep = study.runs / ("long-" * 12)
    shutil.copytree(study.runs / "mlp-meta", deep)
    run = RunFolder(deep / "official")
    tell(run, read_scores(run.scores), console)
    *_, command, files = console.file.getvalue().splitlines()
    assert command == f"next: cxrkit report --official-split --runs {study.runs}"
    assert files == f"scores in {run.scores}"


def test_the_next_fold_is_trained_on_the_same_terms(study: Study) -> None:
    console = Console(width=60, file=io.StringIO(), force_terminal=False, color_system=None)
    run = RunFolder(study.runs / "resnet50-large" / "resample-2")
    tell(run, read_scores(run.scores), console)
    fold, command, _ = console.file.getvalue().splitlines()[-3:]
    assert fold == f"fold 4: cxrkit train --recipe {run.config} --fold 4"
    assert command == f"next: cxrkit report --runs {study.runs}"
    config = pipeline.resolve({"fold": "4", "runs": study.runs}, recipe=str(run.config))
    assert pipeline.folder_of(config).path == run.path.with_name("resample-4")


def test_evaluate_ends_with_the_panel(study: Study) -> None:
    console = Console(width=80, file=io.StringIO(), force_terminal=False, color_system=None)
    run = RunFolder(study.runs / "mlp-meta" / "official")
    pipeline.evaluate(run, study.labels, console, replicates=5)
    text = console.file.getvalue()
    assert text.startswith("mlp-meta on split official ")
    assert text.count("Mean AUC on test: ") == 1
    assert text.endswith(f"scores in {run.scores}\n")


def mean_score(scores: Any, truth: Any, clusters: Any, labels: Any) -> Iterator[Metric]:
    yield Metric("mean_score", float(scores.mean()))


def test_scores_without_aucs_say_how_to_have_them_again(study: Study) -> None:
    console = Console(width=80, file=io.StringIO(), force_terminal=False, color_system=None)
    run = RunFolder(study.runs / "mlp-meta" / "official")
    own = f"{__name__}:mean_score"
    run.scores.unlink()  # what was found before would stay
    pipeline.evaluate(run, study.labels, console, evaluator=own)
    again = f"with the AUCs of the paper: cxrkit evaluate {run.path} --evaluator auc,{own}"
    assert again in console.file.getvalue().splitlines()
    pipeline.evaluate(run, study.labels, console, replicates=5, evaluator=f"auc,{own}")
    assert console.file.getvalue().count("with the AUCs of the paper") == 1


def test_the_aucs_stay_beside_what_else_is_asked(study: Study) -> None:
    console = Console(width=80, file=io.StringIO(), force_terminal=False, color_system=None)
    run = RunFolder(study.runs / "mlp-meta" / "official")
    before = read_scores(run.scores).subsets["test"].metric("auc", "Effusion")
    scores = pipeline.evaluate(run, study.labels, console, replicates=REPLICATES, evaluator="average-precision")
    assert scores.evaluators == ("auc", "average-precision")
    assert scores.subsets["test"].metric("auc", "Effusion") == before
    assert "with the AUCs of the paper" not in console.file.getvalue()


def test_a_finished_training_that_is_resumed_shows_its_panel(prepared: Path, tmp_path: Path) -> None:
    said = {"model": "mlp-meta", "data": prepared, "runs": tmp_path, "epochs": 1, "device": "cpu", "batch_size": 8}
    said |= {"limit": 24, "precision": "fp32", "threads": 1}
    for resume in (False, True):
        console = Console(width=80, file=io.StringIO(), force_terminal=False, color_system=None)
        run = pipeline.train(pipeline.resolve(said, resume=resume), resume, console)
        text = console.file.getvalue()
        assert text.count("AUC on test: ") == 1
        assert "Not beside published results: synthetic images, not nih-chestxray14" in text
        assert f"scores in {run.scores}" in text
