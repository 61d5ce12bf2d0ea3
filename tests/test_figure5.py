"""Figure 5: our mean with its extremes over the folds, beside what others published."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace

import pytest
from study_runs import Study

from cxrkit.base.labels import CHESTXRAY14
from cxrkit.report.document.figures import Ranges
from cxrkit.report.evidence.comparability import judge
from cxrkit.report.evidence.epochs import AtEpochs, at_epochs
from cxrkit.report.evidence.runs import Run, find_runs, is_probe
from cxrkit.report.literature import published, works
from cxrkit.report.paper.figure5 import OTHERS, figure5

TABLE = published.table3()  # of the real manifests: the study has the same


def columns_of(runs: list[Run]) -> AtEpochs:
    splits = tuple(f"resample-{number}" for number in range(1, 6))
    verdicts = judge(runs, splits, TABLE.label_release)
    return at_epochs([verdict for verdict in verdicts if verdict.comparable], "own", lambda run: verdicts[0])


@pytest.fixture
def runs(study: Study) -> list[Run]:
    return [run for run in find_runs(study.runs).runs if run.split != "official" and not is_probe(run)]


def test_the_best_set_up_stands_beside_the_published_ones(runs: list[Run]) -> None:
    (figure,) = figure5(columns_of(runs), TABLE)
    assert figure.key == "figure5"
    (panel,) = figure.panels
    own, *others = panel.marks
    assert isinstance(own, Ranges)
    assert own.name.startswith("resnet50-large-meta")  # 0.66 against 0.55 in study_runs
    assert [mark.name for mark in others] == list(OTHERS.values())
    assert all(mark.hollow and math.isnan(mark.lower[0]) for mark in others)
    best = [run for run in runs if run.name == "resnet50-large-meta"]
    for label in CHESTXRAY14.averaged:
        place = panel.categories.index(CHESTXRAY14.heading(label))
        values = [run.auc(label).value for run in best]
        assert own.values[place] == pytest.approx(statistics.mean(values), abs=1e-12)
        assert (own.lower[place], own.upper[place]) == (min(values), max(values))
        chexnet = works.get("chexnet2017-v3").by_label[label]
        assert others[2].values[place] == chexnet
    averages = [statistics.mean(mark.values[place] for mark in panel.marks) for place in range(14)]
    assert averages == sorted(averages)
    assert "the best of 2 set-ups: mean test AUC, from the lowest to the highest of 3 folds of 5." in figure.caption


def test_the_papers_own_points_are_those_of_its_table_3() -> None:
    printed = TABLE.columns["resnet50-large-meta"].folds
    own = works.get("baltruschat2019-5fold").by_label
    assert {label: round(100 * auc, 1) for label, auc in own.items()} == {
        label: mean for label, (mean, _) in printed.items() if label in own
    }


def test_the_paper_ranks_its_means_first_for_effusion_and_consolidation() -> None:
    """Section 3.1; it says so of these two alone, and by our columns of Edema too (0.889 against 0.8878)."""
    auc = {key: works.get(key).by_label for key in OTHERS}
    first = {
        label
        for label in CHESTXRAY14.averaged
        if auc["baltruschat2019-5fold"][label] == max(of[label] for of in auc.values())
    }
    assert first == {"Effusion", "Consolidation", "Edema"}


def test_a_set_up_with_all_folds_comes_before_a_better_one_without(runs: list[Run]) -> None:
    whole = [run for run in runs if run.name == "resnet50-large"]
    few = [run for run in runs if run.name == "resnet50-large-meta" and run.split == "resample-1"]
    at = columns_of([*whole, *few])
    three = replace(TABLE, folds=3)
    assert figure5(at, three)[0].panels[0].marks[0].name.startswith("resnet50-large")
    assert not figure5(at, three)[0].panels[0].marks[0].name.startswith("resnet50-large-meta")
    assert figure5(at, TABLE)[0].panels[0].marks[0].name.startswith("resnet50-large-meta")


def test_one_fold_has_no_extremes_and_no_run_no_figure(runs: list[Run]) -> None:
    assert figure5(columns_of([]), TABLE) == []
    (figure,) = figure5(columns_of([run for run in runs if run.split == "resample-1"]), TABLE)
    own = figure.panels[0].marks[0]
    assert all(math.isnan(value) for value in (*own.lower, *own.upper))
    assert "mean test AUC, one fold alone, so without extremes." in figure.caption
