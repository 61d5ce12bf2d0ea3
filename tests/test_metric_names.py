"""One name for each metric, wherever people read it, and one sentence for what has no value."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from tiny_runs import make_records, make_run, make_split

from cxrkit.base import registry
from cxrkit.base.contracts import IMAGE_SCHEMA, Metric, Validation
from cxrkit.base.labels import AGE, CHESTXRAY14
from cxrkit.evaluators import net_benefit
from cxrkit.evaluators.scoring import evaluate_run
from cxrkit.evaluators.truth import Truth
from cxrkit.report.evidence.metric_names import metric_name, metric_words, metrics_listed
from cxrkit.report.evidence.undefined import defined_names, undefined_words
from cxrkit.runs.scores import SubsetScores

IMAGES = 40


def found_by(name: str) -> Iterator[Metric]:
    """All that one of cxrkit's evaluators finds in images that are made up."""
    function = registry.load("evaluator", name)
    labels = AGE if name == "mae" else CHESTXRAY14
    generator = np.random.default_rng(0)
    scores_NL = generator.random((IMAGES, len(labels)), np.float32)
    truth_NL = (generator.random((IMAGES, len(labels))) < 0.4).astype(np.float32)
    clusters_N = np.arange(IMAGES)
    options: dict[str, object] = {}
    names = function.__code__.co_varnames[: function.__code__.co_argcount + function.__code__.co_kwonlyargcount]
    if "validation" in names:
        options["validation"] = Validation(scores_NL, truth_NL, clusters_N)
    if "images" in names:
        known = {"sex": ["F", "M"] * (IMAGES // 2), "age_years": [50] * IMAGES, "view": ["PA", "AP"] * (IMAGES // 2)}
        ids = list(map(str, range(IMAGES)))
        options["images"] = pl.DataFrame({"image_id": ids, "patient_id": ids, **known}, schema=IMAGE_SCHEMA)
    if "replicates" in names:
        options["replicates"] = 2
    yield from function(scores_NL, truth_NL, clusters_N, labels, **options)


@pytest.mark.parametrize("evaluator", sorted(registry.BUILT_IN["evaluator"].keys() - {"net-benefit"}))
def test_each_metric_of_cxrkits_has_a_name(evaluator: str) -> None:
    names = {metric.name for metric in found_by(evaluator)}
    assert names
    for name in names:
        assert metric_name(name) != name
        assert "_" not in metric_name(name)


def test_net_benefit_says_at_which_threshold() -> None:
    assert metric_name(f"{net_benefit.NAME}@0.05") == "Net benefit at 0.05"
    assert metric_name(f"{net_benefit.OF_ALL}@0.05") == "Net benefit of all at 0.05"


def test_names_differ_and_those_of_others_stay() -> None:
    known = ["auc", "brier", "brier_tempered", "brier_shifted", "ece", "ece_tempered", "ece_shifted", "mae", "mae_sd"]
    assert len(set(map(metric_name, known))) == len(known)
    assert metric_name("count_of_<all>") == metric_words("count_of_<all>") == "count_of_<all>"
    assert (metric_words("sensitivity"), metric_words("ppv"), metric_words("auc")) == ("sensitivity", "PPV", "AUC")
    assert metrics_listed(["auc", "sensitivity", "ppv"]) == "AUC, sensitivity and PPV"
    assert metrics_listed(["auc"]) == "AUC"
    assert metrics_listed(["auc", "brier_shifted"]) == "AUC; Brier, prior"


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory) -> SubsetScores:
    records = make_records()
    run = make_run(tmp_path_factory.mktemp("runs") / "one" / "official", records, make_split(records))
    (run / "predictions" / "val.parquet").unlink()
    truth = Truth(run / "labels.parquet", records)
    return evaluate_run(run, truth, "auc,calibration,thresholds", {"replicates": 2}).subsets["test"]


def test_what_has_no_value_is_named_with_the_reason(part: SubsetScores) -> None:
    assert defined_names(part) == ("auc", "brier", "ece")
    (words,) = undefined_words(part)
    assert words.startswith("temperature; Brier, tempered; ")
    assert words.endswith("; sensitivity; specificity; PPV; NPV (no validation predictions)")
    without = replace(part, metrics=tuple(replace(metric, reason="") for metric in part.metrics))
    assert undefined_words(without)[0].endswith("(no reason given)")
    assert undefined_words(replace(part, metrics=part.metrics[:15])) == []
