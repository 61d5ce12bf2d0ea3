"""The small study is what real runs are to a report: comparable by the rules, with one run that is not."""

from __future__ import annotations

import pytest
from study_runs import Study

from cxrkit import report
from cxrkit.base.errors import UserError
from cxrkit.report.evidence.opened import Opened
from cxrkit.report.evidence.reference import known_splits
from cxrkit.report.evidence.runs import find_runs


def test_its_runs_are_comparable(study: Study) -> None:
    text = report.render(report.official(study.runs, apart=True), "md")
    assert "elsewhere" in text
    assert text.count("60 of 391 test images") == 1
    assert "| partial | official |" in text
    assert "3 of 5" in report.render(report.resampled(study.runs), "md")


def test_its_predictions_can_be_asked_again(study: Study) -> None:
    opened = Opened()
    for run in find_runs(study.runs).runs:
        evidence = opened.evidence(run)
        assert evidence.estimates()[0].value == pytest.approx(run.auc("Cardiomegaly").value, abs=1e-12)


def test_outside_of_it_the_manifests_are_the_real_ones(built_study: object) -> None:
    assert known_splits()["official"].test == 25_596
    with pytest.raises(UserError, match="there is no such folder of runs"):
        find_runs(built_study / "nothing")
