from __future__ import annotations

import io
import re
import resource
import shutil
from pathlib import Path

import cv2
import pytest
from rich.console import Console
from tiny_cohort import picture, png
from tiny_download import ALL, make_images, make_tables, make_tar

from cxrkit import doctor, recipes
from cxrkit.base.errors import UserError
from cxrkit.base.files import write_json
from cxrkit.base.labels import CHESTXRAY14
from cxrkit.datasets.nih.chestxray14 import read
from cxrkit.prepare.stage import PrepareConfig, prepare
from cxrkit.reproduce import calibration, process
from cxrkit.reproduce.costs import Kind
from cxrkit.reproduce.planning import Planned
from cxrkit.runs.folder import RunFolder


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
    finding = doctor.machine.cores_and_threads(cores, free, omp)
    assert (finding.what, finding.state) == ("cores", state)
    assert text in finding.found
    assert bool(finding.remedy) == (state != "ok")


def test_download_that_is_none(tmp_path: Path) -> None:
    problems = [finding for finding in doctor.examine(tmp_path, tmp_path) if finding.state == "problem"]
    assert [finding.what for finding in problems] == ["download"]
    assert problems[0].remedy
    assert problems[0].remedy in " ".join(text(problems).split())  # it is broken between words


def test_changed_labels_and_archive(cohort: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    shutil.copytree(cohort, raw, ignore=shutil.ignore_patterns("SYNTHETIC.json"))
    (raw / "images_002.tar.gz").write_bytes(b"")
    findings = list(doctor.raw_folder.archives(raw))
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
    for finding in doctor.raw_folder.look(raw):
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


# --------------------------------------------------------------------------------------------- the machine and the time


def printed(findings: list[doctor.Finding], width: int) -> list[str]:
    console = Console(width=width, file=io.StringIO())
    console.print(doctor.to_rich(findings), soft_wrap=True)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_lines_break_between_words_and_no_name_is_cut() -> None:
    name = "/data/" + "a-long-folder" * 6
    lines = printed([doctor.Finding("download", "note", f"{name}: 3 of 4 images", f"look into {name} first")], 80)
    assert lines == [
        f"note     download   {name}:",
        "                    3 of 4 images",
        "                    -> look into",
        f"                    {name}",
        "                    first",
    ]
    for width in (80, 120, 200):
        found = "what was found has many words, each of them short " * 4
        assert max(map(len, printed([doctor.Finding("time", "ok", found)], width))) <= width


@pytest.mark.parametrize(
    ("total", "free", "state", "text"),
    [
        (16_000_000, 12_000_000, "ok", "12.3 of 16.4 GB free"),
        (16_000_000, 500_000, "note", "0.5 of 16.4 GB free; a training wants 2, a worker of prepare 0.3"),
    ],
)
def test_memory(tmp_path: Path, total: int, free: int, state: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.machine, "_CGROUPS", (tmp_path,))
    (tmp_path / "meminfo").write_text(f"MemTotal: {total} kB\nMemAvailable: {free} kB\nHugePages: 0\n")
    (finding,) = doctor.machine.memory(tmp_path / "meminfo")
    assert (finding.state, finding.found) == (state, text)
    assert ("--workers" in finding.remedy) == (state == "note")


def test_memory_is_what_the_container_grants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.machine, "_CGROUPS", (tmp_path,))
    (tmp_path / "meminfo").write_text("MemTotal: 16000000 kB\nMemAvailable: 12000000 kB\n")
    (tmp_path / "memory.max").write_text("4000000000\n")
    (tmp_path / "memory.current").write_text("3000000000\n")
    (finding,) = doctor.machine.memory(tmp_path / "meminfo")
    assert finding.found.startswith("1.0 of 4.0 GB free")
    (tmp_path / "memory.max").write_text("max\n")
    (finding,) = doctor.machine.memory(tmp_path / "meminfo")
    assert finding.found == "12.3 of 16.4 GB free"
    assert list(doctor.machine.memory(tmp_path / "nowhere")) == []


@pytest.mark.parametrize(
    ("limits", "state", "text", "remedy"),
    [
        ((20_000, 20_000), "ok", "20,000 may be open at a time", ""),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), "ok", "any number may be open at a time", ""),
        ((50, 4096), "note", "50 may be open at a time, 80 are wanted for 2 workers", "ulimit -n 80"),
        ((50, 60), "note", "50 may be open at a time", "ask for a higher limit (the hard one is 60)"),
    ],
)
def test_open_files(
    limits: tuple[int, int], state: str, text: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: limits)
    monkeypatch.setattr(doctor.machine, "available_cores", lambda: 2)
    (finding,) = doctor.machine.open_files()
    assert finding.state == state
    assert finding.found.startswith(text)
    assert finding.remedy.startswith(remedy)


def test_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    (finding,) = doctor.machine.compiler()
    assert (finding.state, "no C++ compiler" in finding.found) == ("note", True)
    (tmp_path / "clang++").write_text("#!/bin/sh\n")
    (tmp_path / "clang++").chmod(0o755)
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    (finding,) = doctor.machine.compiler()
    assert finding.found == "no header files of Python: torch.compile will not work"
    (tmp_path / "Python.h").touch()
    (finding,) = doctor.machine.compiler()
    assert (finding.state, finding.found.startswith(f"{tmp_path}/clang++")) == ("ok", True)


@pytest.mark.parametrize(
    ("driver", "built", "state"), [((12, 4), 13, "problem"), ((13, 0), 13, "ok"), ((13, 0), 12, "ok"), (None, 13, "")]
)
def test_driver_against_torch(
    driver: tuple[int, int] | None, built: int, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cxrkit.loaders.dali_setup.driver_cuda", lambda: driver)
    monkeypatch.setattr("cxrkit.loaders.dali_setup.torch_cuda", lambda: built)
    findings = list(doctor.gpu.driver())
    assert [finding.state for finding in findings] == ([state] if state else [])
    assert all("update the NVIDIA driver" in finding.remedy for finding in findings if finding.state != "ok")


def test_pixels_that_are_as_expected_and_not(raw: Path) -> None:
    (finding,) = examined(raw)["pixels"]
    assert (finding.state, finding.found) == ("ok", "4 images looked at: 1024 x 1024, 8 bits, gray")
    deep = cv2.imencode(".png", picture(0).astype("uint16") * 257)[1].tobytes()
    (raw / "images" / ALL[1]).write_bytes(deep)
    (finding,) = examined(raw)["pixels"]
    assert finding.state == "problem"
    assert finding.found == f"{raw}/images/{ALL[1]}: 16 bits per gray sample, expected 8"


def test_how_long_preparing_takes(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.times, "_SECONDS", 0.0)
    monkeypatch.setattr(doctor.times, "free_cores", lambda: 1)
    (finding,) = doctor.times.preparing(raw, read(raw))
    assert re.fullmatch(
        r"preparing 4 images: about 0 s with 1 free core, \d+ ms an image, measured on 2 of yours; .*", finding.found
    )
    (finding,) = doctor.times.preparing(None, None)
    assert "preparing 112,120 images: about " in finding.found
    assert "measured on 1 drawn" in finding.found


def test_how_long_a_training_takes_is_recalled(tmp_path: Path) -> None:
    """What `cxrkit doctor --time`, or reproduce, has measured is in a file; nothing is trained here."""
    (finding,) = doctor.times.training(tmp_path)
    assert "not measured here yet; `cxrkit doctor --time`" in finding.found
    config = recipes.load(doctor.times.RECIPE)
    item = Planned("a", config, RunFolder(tmp_path), labels=CHESTXRAY14)
    threads = process.computing_threads(1)
    stored = {calibration._machine(threads): {calibration._key(Kind.of(item)): 0.01}}
    write_json(tmp_path / ".reproduce" / "calibration.json", stored)
    (finding,) = doctor.times.training(tmp_path)
    # 0.01 s for each of 75,708 training images and a share of the 10,815 that validate
    assert finding.found.startswith("training resnet50-large-meta on the official split, 30 epochs: about 6 h ")
    assert "(100.0 images/s, measured here, on noise (the loader is not counted))" in finding.found
    stored[calibration._machine(threads)][calibration._key(Kind.of(item))] = 10.0
    write_json(tmp_path / ".reproduce" / "calibration.json", stored)
    (finding,) = doctor.times.training(tmp_path)
    assert (finding.state, finding.remedy.startswith("train on a GPU")) == ("note", True)
