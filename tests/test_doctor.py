from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import pytest
from rich.console import Console
from tiny_cohort import picture, png
from tiny_download import ALL, make_images, make_tables, make_tar

from cxrkit import doctor
from cxrkit.base.errors import UserError
from cxrkit.datasets.nih.chestxray14 import read
from cxrkit.prepare.stage import PrepareConfig, prepare


def text(findings: list[doctor.Finding]) -> str:
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(doctor.to_rich(findings))
    console.file.close()
    return console.export_text()


def test_machine(tmp_path: Path) -> None:
    findings = {finding.what: finding for finding in doctor.examine(None, tmp_path)}
    assert {"Python", "torch", "CUDA", "DALI", "processor", "cores", "disk"} <= set(findings)
    assert not [finding for finding in findings.values() if finding.state == "problem"]
    assert all(finding.remedy for finding in findings.values() if finding.state != "ok")


@pytest.mark.parametrize(
    ("cores", "free", "omp", "state", "text"),
    [
        (2, 2, None, "ok", "2 of 2 free now; threads of a training on the CPU: 2 compute (--compute-threads changes"),
        (4, 1, None, "note", "1 of 4 free now; threads of a training on the CPU: 1 compute"),
        (4, 1, 4, "note", "4 compute (OMP_NUM_THREADS says so), 1 load"),
        (4, 4, 4, "ok", "4 compute (OMP_NUM_THREADS says so), 1 load"),
    ],
)
def test_free_cores(
    monkeypatch: pytest.MonkeyPatch, cores: int, free: int, omp: int | None, state: str, text: str
) -> None:
    monkeypatch.setattr("cxrkit.trainers.threads.torch_default", lambda: 64)
    finding = doctor._cores(cores, free, omp)
    assert (finding.what, finding.state) == ("cores", state)
    assert text in finding.found
    assert bool(finding.remedy) == (state != "ok")


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
    assert "differences" in labels[0].found


def test_real_download(nih_raw: Path, tmp_path: Path) -> None:
    findings = {finding.what: finding for finding in doctor.examine(nih_raw, tmp_path)}
    assert findings["labels"].state == "ok"
    assert "of 112,120 images, labels v2020" in findings["download"].found


# ------------------------------------------------------------------------------------- what prepare would say, no less


def examined(raw: Path) -> dict[str, list[doctor.Finding]]:
    """Return the findings on the download and what is in it."""
    found: dict[str, list[doctor.Finding]] = {}
    for finding in doctor._raw(raw):
        found.setdefault(finding.what, []).append(finding)
        assert finding.remedy or finding.state == "ok"
    return found


def prepared(raw: Path, data: Path, *, allow_missing: bool = False) -> int:
    records = read(raw, allow_missing=allow_missing)
    config = PrepareConfig(raw=raw, data=data, levels=(256,), workers=1, allow_missing=allow_missing)
    return prepare(config, records).images


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    raw = make_tables(tmp_path / "data[1]")
    for number, name in enumerate(ALL):
        make_images(raw / "images", [])
        (raw / "images" / name).write_bytes(png(picture(number)))
    return raw


def test_a_download_that_is_ok_can_be_prepared(raw: Path, tmp_path: Path) -> None:
    assert [finding.state for finding in examined(raw)["download"]] == ["ok"]
    assert prepared(raw, tmp_path / "data") == 4


def test_files_that_are_no_images_are_a_problem(raw: Path) -> None:
    for name in ALL:
        (raw / "images" / name).write_text("version https://git-lfs.github.com/spec/v1\n")
    problem = examined(raw)["download"][1]
    assert (problem.state, problem.remedy) == ("problem", "download them again")
    assert "the first is a Git LFS pointer" in problem.found
    (raw / "images" / ALL[0]).write_bytes(png(picture(0)))
    assert [finding.state for finding in examined(raw)["download"]] == ["ok", "note"]


def test_some_missing_images_are_a_note_whose_remedy_helps(raw: Path, tmp_path: Path) -> None:
    (raw / "images" / ALL[0]).unlink()
    finding = examined(raw)["download"][0]
    assert (finding.state, finding.found) == ("note", "3 of 4 images, labels unknown")
    assert "--allow-missing" in finding.remedy
    with pytest.raises(UserError, match="1 of 4 images are missing"):
        prepared(raw, tmp_path / "data")
    assert read(raw, allow_missing=True).missing == 1


def test_no_image_at_all_is_a_problem_and_allow_missing_no_remedy(raw: Path, tmp_path: Path) -> None:
    (raw / "images").rename(raw / "masks")
    findings = examined(raw)["download"]
    assert [finding.state for finding in findings] == ["problem", "note"]
    assert "--allow-missing" not in findings[0].remedy
    assert findings[1].remedy == "rename masks/ if it holds films"
    with pytest.raises(UserError):
        prepared(raw, tmp_path / "data", allow_missing=True)
    (raw / "masks").rename(raw / "films")
    assert read(raw).missing == 0


def test_what_prepare_refuses_is_a_problem_with_its_words_and_remedy(raw: Path, tmp_path: Path) -> None:
    (raw / "images" / ALL[3]).unlink()
    (raw / "archives").mkdir()
    (raw / "archives" / "images_001.zip").write_bytes(b"PK\x03\x04")
    (finding,) = examined(raw)["download"]
    assert finding.state == "problem"
    with pytest.raises(UserError) as refused:
        prepared(raw, tmp_path / "data", allow_missing=True)
    assert str(refused.value) == f"{finding.found}\n  remedy: {finding.remedy}"
    (raw / "archives" / "images_001.zip").unlink()  # one of the remedies: move it out
    assert read(raw, allow_missing=True).missing == 1


def test_resized_copies_and_jpegs_are_named(raw: Path) -> None:
    small = cv2.imencode(".jpg", cv2.resize(picture(0), (224, 224)))[1].tobytes()
    for name in ALL:
        (raw / "images" / name).unlink()
        (raw / "images" / name.replace(".png", ".jpg")).write_bytes(small)
    found = examined(raw)
    assert [finding.state for finding in found["download"]] == ["ok"]
    sizes, kinds = found["images"]
    assert sizes.found == "resized copies, 224 px: not the 1024 px of the published images"
    assert "prepare them with --resized" in sizes.remedy
    assert kinds.found == "4 are JPEGs: recompressed, not the published PNGs"


def test_archives_are_compared_in_every_folder_and_spelling(raw: Path) -> None:
    for name in ("images_001.tar.gz", "deep/er/Images_02.TGZ", "images/images_12.tar.gz"):
        (raw / name).parent.mkdir(parents=True, exist_ok=True)
        make_tar(raw / name, [f"images/{ALL[0]}"], data=png(picture(0)))
    found = [finding.found.partition(":")[0] for finding in examined(raw)["archive"]]
    assert sorted(found) == ["deep/er/Images_02.TGZ", "images/images_12.tar.gz", "images_001.tar.gz"]


def test_a_synthetic_cohort_is_read_as_one(cohort: Path) -> None:
    found = examined(cohort)
    assert [finding.state for finding in found["download"]] == ["ok"]
    assert [finding.remedy for finding in found["labels"]] == ["prepare it with --dataset synthetic"]


def test_a_partial_table_says_how_it_differs(raw: Path) -> None:
    (finding,) = examined(raw)["labels"]
    assert finding.state == "note"
    assert "label release 'unknown' is none of v2020, 2017, and " in finding.found
    assert "; the first: all, images: 4 found, 112,120 expected" in finding.found


def test_brackets_and_control_characters_survive_the_terminal() -> None:
    finding = doctor.Finding("download", "note", "/data [1]/[bold]x[/bold]\x1b[2J", "see [/] and [red]")
    shown = text([finding])
    assert r"/data [1]/[bold]x[/bold]\x1b[2J" in shown
    assert "see [/] and [red]" in shown
