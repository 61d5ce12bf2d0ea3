"""An evaluation beside an earlier one: what stays, what is replaced, and what is said of what cannot stay."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from tiny_runs import make_records, make_run, make_split

from cxrkit import pipeline
from cxrkit.base.contracts import Metric
from cxrkit.evaluators import keeping, scoring
from cxrkit.runs.folder import RunFolder
from cxrkit.runs.predictions import read_predictions, write_predictions
from cxrkit.runs.scores import Scores, read_scores

QUICK = ("replicates=5",)


def accuracy(score_NL: Any, truth_NL: Any, cluster_N: Any, labels: Any) -> Iterator[Metric]:
    yield Metric("accuracy", float(((score_NL > 0.5) == truth_NL).mean()), evaluator="somebody else")


def brier_of_mine(score_NL: Any, truth_NL: Any, cluster_N: Any, labels: Any) -> Iterator[Metric]:
    yield Metric("brier", float(np.square(score_NL - truth_NL).mean()), "Mass")


ACCURACY, BRIER = f"{__name__}:accuracy", f"{__name__}:brier_of_mine"


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    records = make_records()
    folder = RunFolder(make_run(tmp_path / "runs" / "one" / "official", records, make_split(records)))
    folder.config.write_text("")
    records.write_parquet(tmp_path / "labels.parquet")
    return folder


def evaluate(run: RunFolder, by: str | None, *options: str) -> tuple[Scores, str]:
    """Return the scores, and what was printed."""
    console = Console(width=200, file=io.StringIO(), force_terminal=False, color_system=None)
    labels = run.path.parents[2] / "labels.parquet"
    found = pipeline.evaluate(run, labels, console, evaluator=by, options=options)
    assert read_scores(run.scores) == found
    return found, console.file.getvalue()


def of(scores: Scores, evaluator: str) -> list[Metric]:
    return [metric for metric in scores.subsets["test"].metrics if metric.evaluator == evaluator]


def test_other_evaluators_results_stay_and_those_named_are_replaced(run: RunFolder) -> None:
    before, _ = evaluate(run, "auc,calibration,average-precision", *QUICK)
    after, said = evaluate(run, "calibration", "bins=4", "replicates=7")
    assert after.evaluators == ("auc", "calibration", "average-precision")
    assert of(after, "auc") == of(before, "auc")
    assert of(after, "average-precision") == of(before, "average-precision")
    assert of(after, "calibration") != of(before, "calibration")
    assert after.options["calibration"] == {"bins": 4, "replicates": 7}
    assert after.options["auc"] == before.options["auc"] == {"replicates": 5}
    assert "no longer in the scores" not in said
    more, _ = evaluate(run, ACCURACY)
    assert more.evaluators == (*after.evaluators, ACCURACY)
    assert [metric.name for metric in of(more, ACCURACY)] == ["accuracy"]  # whatever it says of who found it
    assert more.subsets["val"].metrics[: len(after.subsets["val"].metrics)] == after.subsets["val"].metrics


def test_the_run_is_as_it_would_be_if_all_were_asked_at_once(run: RunFolder) -> None:
    evaluate(run, "auc", *QUICK)
    evaluate(run, "average-precision", *QUICK)
    apart, _ = evaluate(run, "thresholds")
    run.scores.unlink()
    at_once, _ = evaluate(run, "auc,average-precision,thresholds", *QUICK)
    assert apart == at_once


def test_results_of_other_predictions_are_dropped_and_named(run: RunFolder) -> None:
    evaluate(run, "auc,calibration,average-precision", *QUICK)
    file = read_predictions(run.predictions("val"))
    write_predictions(run.predictions("val"), file.frame.with_columns(Mass=1 - file.frame["Mass"]), file.about)
    after, said = evaluate(run, "average-precision", *QUICK)
    assert after.evaluators == ("auc", "average-precision")  # the AUCs are made again
    assert "no longer in the scores: what calibration found (the predictions have changed since)" in said


def test_a_metric_has_one_evaluator(run: RunFolder) -> None:
    evaluate(run, "auc,calibration", *QUICK)
    after, said = evaluate(run, BRIER)
    assert after.evaluators == ("auc", BRIER)
    assert f"no longer in the scores: what calibration found ({BRIER} gives a metric of the same name)" in said


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        ({"cxrkit_version": "0.0.1"}, "they are by cxrkit 0.0.1"),
        ({"evaluator_of_metrics": ""}, "their file does not say which evaluator found what"),
    ],
)
def test_what_does_not_hold_is_not_kept(run: RunFolder, spoil: dict[str, str], why: str) -> None:
    evaluate(run, "auc,average-precision", *QUICK)
    written = json.loads(run.scores.read_text())
    if "evaluator_of_metrics" in spoil:
        for part in written["subsets"].values():
            for metric in part["metrics"]:
                del metric["evaluator"]
    else:
        written |= spoil
    run.scores.write_text(json.dumps(written))
    after, said = evaluate(run, "calibration", *QUICK)
    assert after.evaluators == ("auc", "calibration")
    assert f"no longer in the scores: what average-precision found ({why}" in said


def test_scores_that_cannot_be_read_are_none(run: RunFolder) -> None:
    assert keeping.earlier(run.path) == keeping.Earlier()
    run.scores.write_text("{")
    assert keeping.earlier(run.path) == keeping.Earlier()


def test_a_resumed_training_leaves_what_was_asked_by_hand(run: RunFolder) -> None:
    evaluate(run, "auc,average-precision", *QUICK)
    assert scoring.is_by(run.path, "auc")
    assert scoring.is_by(run.path, "average-precision")
    assert not scoring.is_by(run.path, "calibration")


def test_earlier_scores_of_another_file_are_not_put_beside(run: RunFolder) -> None:
    first, _ = evaluate(run, "auc", *QUICK)
    part = replace(first.subsets["test"], predictions_sha256="0" * 64)
    assert not keeping.same_predictions(first, replace(first, subsets=first.subsets | {"test": part}))
    assert keeping.same_predictions(first, first)
