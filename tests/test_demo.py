"""`cxrkit demo` with fewer films and one epoch: the same steps, and the same words at the end."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from cxrkit import demo
from cxrkit.base.errors import UserError
from cxrkit.runs.folder import RunFolder


def test_the_whole_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "IMAGES", 60)
    monkeypatch.setattr(demo, "TRAINING", demo.TRAINING | {"epochs": 1, "input_size": 32})
    monkeypatch.setattr(demo, "GOAL", 2.0)  # which nothing reaches
    monkeypatch.setattr(demo, "which", lambda name: None)
    console = Console(file=io.StringIO(), width=100)
    with pytest.raises(UserError, match=r"no model reached a mean test AUC of 2\.00"):
        demo.run(tmp_path / "demo", console)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    for model in demo.MODELS:
        assert RunFolder.of(tmp_path / "demo" / "runs", model, "official").state() == "scored"
        assert f"{model}: mean test AUC 0." in said
    assert (tmp_path / "demo" / "report" / "index.html").is_file()
    assert "/activate\n  cxrkit doctor --raw DIR && " in said  # where cxrkit is not on the PATH
