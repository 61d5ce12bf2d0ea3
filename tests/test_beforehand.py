"""What other processes work out beforehand: the same bits as this process finds, and nothing for a small study."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from study_runs import Study

from cxrkit.report import beforehand
from cxrkit.report.everything import Material, everything
from cxrkit.report.evidence.opened import Opened
from cxrkit.report.evidence.runs import find_runs
from cxrkit.report.rendering.document import as_json


def material(study: Study) -> Material:
    runs = find_runs(study.runs, only=("mlp-meta", "resnet38-large-meta", "elsewhere"))
    return Material(runs, Opened(study.labels), data=study.labels)


def written(study: Study) -> list[str]:
    return list(map(as_json, everything(material(study)).documents))


def arrays(runs: Path) -> dict[str, dict[str, bytes]]:
    return {
        path.relative_to(runs).as_posix(): {name: array.tobytes() for name, array in np.load(path).items()}
        for path in sorted(runs.glob("*/*/derived/*.npz"))
    }


def test_nothing_is_left_for_the_documents_and_they_are_the_same(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """The documents themselves find nothing more to work out, which shows that the list is whole."""
    expected = written(study)
    found = arrays(study.runs)
    for derived in study.runs.glob("*/*/derived/*.npz"):
        derived.unlink()
    tasks = beforehand.lacking(material(study))
    assert beforehand.work_out(tasks) == 0  # too little for processes
    assert not arrays(study.runs)
    for task in tasks:
        beforehand.work_out_of(task)
    assert arrays(study.runs) == found
    assert beforehand.lacking(material(study)) == []
    monkeypatch.setattr(Opened, "evidence", None)
    assert written(study) == expected


def test_processes_find_the_same_bits(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = beforehand.lacking(material(study))[:2]
    for task in tasks:
        beforehand.work_out_of(task)
    found = arrays(study.runs)
    for derived in study.runs.glob("*/*/derived/*.npz"):
        derived.unlink()
    monkeypatch.setattr(beforehand, "ENOUGH", 1)
    monkeypatch.setattr(beforehand, "available_cores", lambda: 2)
    assert beforehand.work_out(tasks) == len(tasks) == 2
    assert arrays(study.runs) == found


def test_what_cannot_be_worked_out_is_left_to_the_document(study: Study) -> None:
    (study.runs / "mlp-meta" / "official" / "predictions" / "test.parquet").unlink()
    tasks = beforehand.lacking(material(study))
    assert "mlp-meta" not in {task.run.name for task in tasks}
    study.labels.unlink()
    beforehand.work_out_of(tasks[0])
    assert not arrays(study.runs)
