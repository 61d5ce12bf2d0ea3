"""benchmarks/gpu.py: its rows and their order, and that a row which ends its process costs nothing else."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gpu, gpu_cases, gpu_rows, gpu_targets, isolated, pages, record, steps, tables
from benchmarks.gpu_rows import DALI, FIXED, MODES, RESIDENT, Row, Sizes, parts, rows
from benchmarks.isolated import Work
from benchmarks.material import Material, link_cohort
from benchmarks.record import Entry, Record
from benchmarks.stopwatch import ContenderFailed, Pass
from cxrkit.base import compiling
from cxrkit.base.errors import UserError
from cxrkit.datasets.phantom import cohort as synthetic

TINY = Sizes("cpu", tiny=True, threads=1)
FULL = Sizes("cuda", tiny=False, threads=None)
HERE = "tests.test_gpu_benchmark"


def quick(pace: float = 1.0) -> Pass:
    """A pass over ten images that says what it is told to."""
    return lambda: {"images": 10, "pace": pace}


def dying(by: int) -> Pass:
    """A pass that ends its process by a signal, with a word on the way."""

    def one_pass() -> dict[str, float]:
        print("about to decode a region", file=sys.stderr, flush=True)
        os.kill(os.getpid(), by)
        return {}

    return one_pass


def leaving(code: int) -> Pass:
    """A pass that ends its process without a word."""

    def one_pass() -> dict[str, float]:
        os._exit(code)

    return one_pass


def waiting() -> Pass:
    """A pass that never ends."""

    def one_pass() -> dict[str, float]:
        signal.pause()
        return {}

    return one_pass


def lingering() -> Pass:
    """A pass whose process does not end by itself, once the work is done."""
    threading.Thread(target=time.sleep, args=(600,)).start()
    return lambda: {"images": 10}


def work(target: str, **job: Any) -> Work:
    return Work(f"{HERE}:{target}", job, runs=2, warm_up=1, seconds=0.0, environment={"CXRKIT_TEST_ROW": "1"})


def test_a_row_runs_in_a_process_of_its_own() -> None:
    (done,) = isolated.measure(work("quick", pace=2.5), 60)
    assert [lap.images for lap in done.laps] == [10, 10]
    assert len(done.before) == 1
    assert done.laps[0].figures["pace"] == 2.5
    assert "CPU ms an image" in done.laps[0].figures
    assert "CXRKIT_TEST_ROW" not in os.environ


def test_several_processes_do_the_same_at_once() -> None:
    done = isolated.measure(work("quick"), 60, at_once=3)
    assert [len(one.laps) for one in done] == [2, 2, 2]


@pytest.mark.parametrize(
    ("target", "job", "limit", "reason"),
    [
        ("dying", {"by": int(signal.SIGSEGV)}, 60, "^ended by SIGSEGV; last words: about to decode a region$"),
        ("leaving", {"code": 3}, 60, "^ended with exit code 3$"),
        ("waiting", {}, 0.5, "^took longer than 0 s"),
        ("quick", {"speed": 1}, 60, "^TypeError: .*unexpected keyword argument 'speed'"),
        ("no_such_case", {}, 60, "^AttributeError: .*no_such_case"),
    ],
)
def test_a_row_that_does_not_end_well_says_how(target: str, job: dict[str, Any], limit: float, reason: str) -> None:
    with pytest.raises(ContenderFailed, match=reason):
        isolated.measure(work(target, **job), limit)
    with pytest.raises(ContenderFailed):  # one of two is enough, and the other is not waited for
        isolated.measure(work(target, **job), limit, at_once=2)


def test_a_process_that_hangs_at_its_end_has_done_its_work() -> None:
    for at_once in (1, 2):
        done = isolated.measure(work("lingering"), 6, at_once)
        assert [[lap.images for lap in one.laps] for one in done] == [[10, 10]] * at_once


def test_a_rate_is_of_the_mode_that_it_is_said_to_be() -> None:
    """A step that is not compiled or recorded as it was asked to be fails its row: its rate is that of another mode."""
    with pytest.raises(ContenderFailed, match=r"^the training step cannot be recorded as one CUDA graph"):
        steps.not_instead("the training step cannot be recorded as one CUDA graph, so ...\n  remedy: give --no-graph")
    with pytest.raises(ContenderFailed, match=r"^torch\.compile does not work here"):
        steps.not_instead(f"{compiling.DONE_WITHOUT}: no compiler\n  remedy: install one")
    steps.not_instead(f"cannot be written\n  remedy: set {compiling.CACHE_VARIABLE} to a folder that can be written")


def test_what_goes_wrong_beside_a_row_costs_that_row_alone(
    material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = [replace(case("a", "quick"), codec="jpeg"), case("b", "quick")]
    made = bench(material, tmp_path, cases)

    def full(*_: object) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Material, "many_times", full)
    assert made.run(cases) == []
    assert state(tmp_path)["a"] == "OSError: [Errno 28] No space left on device"
    assert state(tmp_path)["b"] == "measured"


@pytest.fixture(scope="module")
def material(cohort: Path, prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Material:
    """Return the cohort, and its prepared folder in place of those of all codecs."""
    folder = tmp_path_factory.mktemp("gpu")
    distinct = link_cohort(cohort, synthetic.read(cohort), folder / "cohort", 24)
    for codec in ("jpeg", "raw", "htj2k", "png"):
        (folder / f"prepared-{codec}-1024-512-256").symlink_to(prepared)
    return Material(folder, folder / "cohort", "synthetic", 24, distinct)


def case(name: str, target: str, seconds: float = 1.0, **job: Any) -> Row:
    return Row("load", "loading alone, to 224", name, f"{HERE}:{target}", job, gpu_rows.FIRST, seconds)


def bench(material: Material, out: Path, cases: list[Row], *more: str) -> gpu.Bench:
    """Return a benchmark of the CPU whose rows, after the first, are `cases`."""
    options = gpu.arguments(["--device", "cpu", "--tiny", "--out", str(out), *more])
    made = gpu.Bench(options, material)
    made.plan = [made.plan[0], *cases]
    made.begin()
    return made


def state(out: Path) -> dict[str, str]:
    """Return what the record on the disk says of each row."""
    found = record.read(out / "gpu.json")
    return {entry.name: entry.unavailable or "measured" for entry in found.entries}


def test_a_crash_costs_one_row_and_is_not_tried_again(material: Material, tmp_path: Path) -> None:
    segfault = "ended by SIGSEGV; last words: about to decode a region"
    cases = [case("a", "quick"), case("b", "dying", by=int(signal.SIGSEGV)), case("c", "quick", pace=3.0)]
    first = bench(material, tmp_path, cases)
    assert first.run(cases) == []
    assert state(tmp_path) == {"what there is": "measured", "a": "measured", "b": segfault, "c": "measured"}
    assert f"| b | not available: {segfault} |" in (tmp_path / "gpu.md").read_text()
    before = record.read(tmp_path / "gpu.json").entry("loading alone, to 224", "a")

    mended = [cases[0], case("b", "quick"), cases[2], case("d", "quick")]
    again = bench(material, tmp_path, mended)
    again.run(mended)
    assert state(tmp_path)["b"] == segfault
    assert state(tmp_path)["d"] == "measured"
    assert record.read(tmp_path / "gpu.json").entry("loading alone, to 224", "a") == before

    failed = bench(material, tmp_path, mended, "--again", "failed")
    failed.run(mended)
    assert state(tmp_path)["b"] == "measured"
    assert record.read(tmp_path / "gpu.json").entry("loading alone, to 224", "a") == before

    everything = bench(material, tmp_path, mended, "--again")
    everything.run(mended)
    assert record.read(tmp_path / "gpu.json").entry("loading alone, to 224", "a") != before


def test_the_record_is_whole_while_a_row_runs(
    material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = [case("a", "quick"), case("b", "quick")]
    made = bench(material, tmp_path, cases)
    seen = []
    measure = isolated.measure

    def watched(*arguments: Any) -> Any:
        seen.append(state(tmp_path))
        return measure(*arguments)

    monkeypatch.setattr(isolated, "measure", watched)
    made.run(cases)
    assert seen[0] == {"what there is": "measured", "a": gpu.INTERRUPTED}
    assert seen[1] == {"what there is": "measured", "a": "measured", "b": gpu.INTERRUPTED}

    def interrupted(*arguments: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(isolated, "measure", interrupted)
    cases.append(case("c", "quick"))
    made.plan = [made.plan[0], *cases]
    with pytest.raises(KeyboardInterrupt):
        made.run(cases)
    assert state(tmp_path) == {"what there is": "measured", "a": "measured", "b": "measured"}, "as if not begun"


def test_no_row_is_begun_that_should_not_end_in_time(material: Material, tmp_path: Path) -> None:
    cases = [case("a", "quick"), case("b", "quick", seconds=1000.0), case("c", "quick")]
    made = bench(material, tmp_path, cases, "--limit", "500")
    made.options.tiny = False
    assert [row.name for row in made.run(cases)] == ["b", "c"]
    made.options.limit = 0.0
    assert [row.name for row in made.run(cases[2:])] == ["c"]


def test_rows_that_hang_one_after_another_end_the_run(material: Material, tmp_path: Path) -> None:
    cases = [case(name, "waiting") for name in "abcd"]
    made = bench(material, tmp_path, cases)
    made.options.patience = 0.3
    assert [row.name for row in made.run(cases)] == ["d"]
    assert set(state(tmp_path)) == {"what there is", "a", "b", "c"}


def test_a_record_of_another_machine_is_not_mixed_in(material: Material, tmp_path: Path) -> None:
    bench(material, tmp_path, []).run([])
    path = tmp_path / "gpu.json"
    found = json.loads(path.read_text())
    found["machine"]["gpu"] = {"name": "another"}
    found["settings"]["runs"] = 7
    path.write_text(json.dumps(found))
    found["machine"]["packages"]["numpy"] = "1.0"
    found["machine"]["packages"].pop("torch")
    path.write_text(json.dumps(found))
    with pytest.raises(UserError, match=r"gpu\.json: was measured with another gpu, numpy, runs") as error:
        bench(material, tmp_path, [])
    assert "--again" in str(error.value)
    bench(material, tmp_path, [], "--again")
    assert record.read(path).settings["runs"] == 1


def test_what_may_crash_comes_last() -> None:
    plan = rows(FULL)
    assert plan[0].kind == "environment"
    assert [row.turn for row in plan] == sorted(row.turn for row in plan)
    assert len({row.key for row in plan}) == len(plan)
    regions = [position for position, row in enumerate(plan) if "region" in row.name]
    assert regions == list(range(len(plan) - len(regions), len(plan)))
    assert all(plan[position].job["options"]["region"] is True for position in regions)
    assert not any(row.job.get("options", {}).get("region") for row in plan[: regions[0]])
    uses_dali = [row.job.get("backend") == "dali" or row.kind in ("decode", "race") for row in plan]
    assert uses_dali.index(True) > len([row for row in plan if row.turn < gpu_rows.WITH_DALI]) - 1
    deciding = [row for row in plan if row.turn == gpu_rows.FIRST]
    assert {row.job["mode"] for row in deciding if row.kind == "train"} == set(MODES)


def test_every_row_of_the_grid_is_there() -> None:
    keys = {row.key for row in rows(FULL)}
    for size, batches in ((224, (256, 16)), (448, (128, 8))):
        for batch in batches:
            for precision in ("bf16", "fp16"):
                for mode in MODES:
                    for source in (FIXED, DALI, RESIDENT):
                        name = gpu_rows.training_name(mode, source)
                        assert (gpu_rows.training_group(size, batch, precision), name) in keys
    assert {row.kind for row in rows(FULL)} == set(gpu_rows.KINDS)
    assert {row.at_once for row in rows(FULL)} == {1, 2, 3}
    trained = [row for row in rows(FULL) if row.kind in ("train", "several")]
    assert all(row.job["steps"] >= 100 for row in trained)
    assert [row.key for row in rows(TINY)] == [row.key for row in rows(FULL)]


def test_parts_take_eight_minutes_at_most_and_regions_have_their_own() -> None:
    cut = parts(rows(FULL))
    assert [row for part in cut for row in part] == rows(FULL)
    assert all(sum(row.seconds for row in part) <= 480 for part in cut)
    assert all("region" in row.name for row in cut[-1])
    assert not any("region" in row.name for part in cut[:-1] for row in part)


def test_rows_are_chosen_by_part_kind_and_text(capsys: pytest.CaptureFixture[str]) -> None:
    second = gpu.choose(gpu.arguments(["--part", "2"]))
    assert {number for number, _ in second} == {2}
    races = [row.name for _, row in gpu.choose(gpu.arguments(["--only", "race"]))]
    assert races == ["jpeg levels, DALI, hw_decoder_load 1", "jpeg levels, DALI, hw_decoder_load 0"]
    found = gpu.choose(gpu.arguments(["--rows", "batch 16: graph", "--only", "train"]))
    assert len(found) == 6
    gpu.main(["--list", "--part", "1"])
    assert capsys.readouterr().out.startswith("part 1    8 s  environment: what there is\n")
    for wrong, message in ((["--part", "99"], "there are parts 1 to"), (["--only", "lode"], "lode: unknown")):
        with pytest.raises(SystemExit):
            gpu.arguments(wrong)
        assert message in capsys.readouterr().err


def entry(group: str, name: str, value: float, **more: Any) -> Entry:
    return Entry(group, name, more.pop("unit", "images/s"), (value,), **more)


def rates() -> list[Entry]:
    """Return what an H100 might reach."""
    name, group = gpu_rows.training_name, gpu_rows.training_group
    return [
        entry("loading alone, to 224", "raw levels, DALI, batch 256", 7000.0),
        entry(group(224, 16, "bf16"), name("graph", FIXED), 4000.0),
        entry(group(224, 16, "bf16"), name("graph", DALI), 3900.0),
        entry(group(224, 16, "bf16"), name("graph", RESIDENT), 3600.0),
        entry(group(448, 8, "bf16"), name("graph", RESIDENT), 1600.0),
        entry("several trainings at once", gpu_rows.several_name(224, 3, "graph"), 4700.0),
        entry("evaluation", gpu_rows.evaluation_name(224, DALI), 9000.0),
        entry("evaluation", gpu_rows.evaluation_name(448, DALI), 4500.0),
        entry("fidelity against OpenCV, to 224", "a", 70.0, unit="dB", figures={"worst dB": [44.0]}),
        entry("batches that change when the GPU is kept busy", "b", 0.0, unit="batches"),
    ]


def test_targets_and_the_hours_of_table_3_follow_from_the_rates() -> None:
    found = {target.what: target for target in gpu_targets.targets(rates())}
    waiting = "training in bf16, resnet50 at 224, batch 16, graph: DALI / one fixed batch"
    assert (found[waiting].value, found[waiting].met) == (0.975, True)
    assert found[waiting.replace("DALI", RESIDENT)].met is False
    assert found["training resnet50 at 224, batch 16, with a real loader, the fastest"].value == 3900
    assert found["the worst image of all, fidelity against OpenCV, to 224: a"].met is False
    assert found["batches changed by a busy GPU"].met
    hours = 47e6 / 3900 + 23.5e6 / 1600 + 9e6 / 9000 + 4.5e6 / 4500
    assert gpu_targets.grid_hours(rates()) == {"one at a time, graph": pytest.approx(hours / 3600)}
    (grid,) = (target for what, target in found.items() if "Table 3" in what)
    assert (grid.what, grid.value) == ("the 40 runs of Table 3, one at a time, graph", round(hours / 3600, 2))
    (remark,) = gpu_targets.remarks(rates())
    assert "one at a time, graph 8.0 h" in remark


def test_nothing_is_said_of_table_3_without_all_its_rates() -> None:
    assert gpu_targets.remarks([one for one in rates() if one.group != "evaluation"]) == []
    assert gpu_targets.targets([]) == []


def test_the_readme_shows_a_gpu_record_without_what_only_the_document_needs() -> None:
    machine = record.machine("benchmarks/gpu.py") | {"gpu": {"name": "NVIDIA H100"}}
    slow = entry("training in fp16, resnet50 at 224, batch 16", "eager, one fixed batch", 600.0)
    found = Record("gpu", {"runs": 5, "cores": 16}, machine, (*rates(), slow))
    section = pages.section([found])
    assert "NVIDIA H100, 16 cores" in section
    assert "Each row ran in a process of its own" in section
    assert "| a | 70.0 | 70.0 to 70.0 | 44.0 |" in section
    assert "fp16" not in section
    assert "fp16" in tables.document(found)
    assert "Not yet measured; `python benchmarks/gpu.py` does." in pages.section([])


def one(group: str, text: str) -> Row:
    """Return the only tiny row of a table whose line begins with `text`, its batch size left out."""
    (row,) = (row for row in rows(TINY) if row.group == group and text in (row.name, row.name.partition(", batch")[0]))
    return row


@pytest.mark.parametrize(
    ("group", "name", "figures"),
    [
        ("fidelity against OpenCV, to 224", "raw levels, on the device", {"mean dB", "worst dB"}),
        ("fidelity against OpenCV, to 448", "raw levels, DALI", {"mean dB", "worst dB"}),
        ("batches that change when the GPU is kept busy", "jpeg levels, DALI, hw_decoder_load 0", {"changed"}),
        ("loading alone, to 224", "jpeg levels, OpenCV threads", set()),
        ("loading alone, to 448", "raw levels, DALI", set()),
        ("training in bf16, resnet50 at 224, batch 16", "eager, one fixed batch", set()),
        ("training in bf16, resnet50 at 224, batch 16", "eager, DALI", set()),
        ("training in bf16, resnet50-large at 448, batch 8", "compiled, on the device (--cache gpu)", set()),
        ("evaluation", "resnet50 at 224, bf16, DALI", set()),
        ("time to the first batch, to 224", "jpeg levels, DALI", set()),
        ("change of epoch, to 224", "raw levels, OpenCV threads", {"change ms", "usual ms"}),
        ("upload of --cache gpu, for 448", "jpeg levels", {"GB", "GB/s"}),
        ("decoding alone, whole levels", "jpeg 512, hw_decoder_load 0", {"bytes"}),
        ("decoding alone, what crops to 448 need", "whole levels, hw_decoder_load 0", {"bytes"}),
        ("several trainings at once", "2 x resnet50 at 224, batch 16, bf16, compiled", {"each"}),
    ],
)
def test_a_row_of_each_kind_works_on_a_cpu(
    group: str, name: str, figures: set[str], material: Material, tmp_path: Path
) -> None:
    row = one(group, name)
    if row.job.get("backend") == "dali" or row.kind in ("decode", "race"):
        pytest.importorskip("nvidia.dali", reason="NVIDIA DALI is not installed")
    made = bench(material, tmp_path, [row])
    made.run([row])
    found = made.entries[row.key]
    assert not found.unavailable
    assert figures <= found.figures.keys()
    if "worst dB" in figures:
        assert min(found.figures["worst dB"]) > 40
    if row.kind != "race":
        assert found.spread.median > 0


def test_the_command_measures_what_it_was_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "gather", lambda *arguments: material)
    asked = ["--device", "cpu", "--tiny", "--synthetic", "--out", str(tmp_path), "--work", str(tmp_path / "work")]
    gpu.main([*asked, "--rows", "to 224: jpeg levels, opencv threads, batch 256"])
    found = record.read(tmp_path / "gpu.json")
    assert [(entry.name, bool(entry.values)) for entry in found.entries] == [
        ("what there is", True),
        ("jpeg levels, OpenCV threads, batch 256", True),
    ]
    assert found.settings["quick"]
    assert "torch" in found.entries[0].note
    assert "record and tables" in capsys.readouterr().out


@pytest.mark.skipif(os.path.exists("/dev/nvidiactl"), reason="there is a GPU")  # noqa: PTH110 - a device
def test_without_a_gpu_the_command_says_so(material: Material, tmp_path: Path) -> None:
    with pytest.raises(ContenderFailed, match="torch finds no CUDA device; try it with --device cpu --tiny"):
        gpu_cases.environment("cuda")
    options = gpu.arguments(["--out", str(tmp_path)])
    with pytest.raises(ContenderFailed, match="torch finds no CUDA device"):
        gpu.Bench(options, replace(material)).begin()
    assert not (tmp_path / "gpu.json").exists()
