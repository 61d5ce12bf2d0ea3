from __future__ import annotations

import shutil
from pathlib import Path

from rich.console import Console

from cxrkit import doctor


def text(findings: list[doctor.Finding]) -> str:
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(doctor.to_rich(findings))
    console.file.close()
    return console.export_text()


def test_machine(tmp_path: Path) -> None:
    findings = {finding.what: finding for finding in doctor.examine(None, tmp_path)}
    assert {"Python", "torch", "CUDA", "DALI", "processor", "disk"} <= set(findings)
    assert not [finding for finding in findings.values() if finding.state == "problem"]
    assert all(finding.remedy for finding in findings.values() if finding.state != "ok")


def test_download_that_is_none(tmp_path: Path) -> None:
    problems = [finding for finding in doctor.examine(tmp_path, tmp_path) if finding.state == "problem"]
    assert [finding.what for finding in problems] == ["download"]
    assert problems[0].remedy
    assert problems[0].remedy in text(problems)


def test_changed_labels_and_archive(cohort: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    shutil.copytree(cohort, raw, ignore=shutil.ignore_patterns("SYNTHETIC.json"))
    (raw / "images_002.tar.gz").write_bytes(b"")
    findings = list(doctor._archives(raw))
    assert findings[0].found == "images_002.tar.gz: 0 bytes, NIH's has 3,952,623,504"
    (raw / "images_002.tar.gz").unlink()
    labels = [finding for finding in doctor.examine(raw, tmp_path) if finding.what == "labels"]
    assert len(labels) == 1
    assert "more differences" in labels[0].found


def test_real_download(nih_raw: Path, tmp_path: Path) -> None:
    findings = {finding.what: finding for finding in doctor.examine(nih_raw, tmp_path)}
    assert findings["labels"].state == "ok"
    assert "of 112,120 images, labels v2020" in findings["download"].found
