"""The benchmark suite: its stopwatch, its processes, its records and tables, and each part once at a tiny size."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from benchmarks import evaluate as evaluation
from benchmarks import floors, load, memory, ours, pages, record, run, scale, tables, tried
from benchmarks import prepare as prepare_part
from benchmarks.contender import Contender
from benchmarks.material import Material, link_cohort
from benchmarks.peers import dali_operators, opencv_crops, torchvision_files, torchvision_tensors
from benchmarks.quiet import CPU, OTHERS, Quiet, busy_seconds, used_by_tree
from benchmarks.record import Entry, Record, Target
from benchmarks.session import Part, Row, Session
from benchmarks.stopwatch import ContenderFailed, Lap, Spread, interleave
from benchmarks.stopwatch import run as timed_run
from cxrkit.base.errors import UserError
from cxrkit.datasets.nih import chestxray14 as nih_chestxray14
from cxrkit.datasets.phantom import cohort as synthetic
from cxrkit.shards.store import ShardStore

REPOSITORY = Path(__file__).resolve().parent.parent
BATCHES, BATCH, PACE = 20, 8, 0.010


class FakeClock:
    """A clock that moves when something sleeps on it."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def sleepy_loader(clock: FakeClock, start_seconds: float = 0.0) -> Iterator[list[int]]:
    """Yield batches that take 10 ms each, the first one `start_seconds` longer."""
    clock.sleep(start_seconds)
    for _ in range(BATCHES):
        clock.sleep(PACE)
        yield [0] * BATCH


def test_stopwatch_measures_a_loader_that_sleeps_10_ms_a_batch() -> None:
    clock = FakeClock()
    lap = timed_run(lambda: {"images": sum(map(len, sleepy_loader(clock)))}, 0.0, clock)
    assert lap.seconds == pytest.approx(BATCHES * PACE)
    assert lap.images_per_second == pytest.approx(BATCH / PACE)


def test_stopwatch_counts_the_wait_for_the_first_batch() -> None:
    clock = FakeClock()
    lap = timed_run(lambda: {"images": sum(map(len, sleepy_loader(clock, start_seconds=1.0)))}, 0.0, clock)
    assert lap.seconds == pytest.approx(1.0 + BATCHES * PACE)


def test_stopwatch_repeats_whole_passes_until_the_time_is_over() -> None:
    clock = FakeClock()
    seen = iter([1.0, 2.0, 6.0])

    def one_pass() -> dict[str, float]:
        clock.sleep(0.4)
        return {"images": 10, "share": next(seen)}

    lap = timed_run(one_pass, 1.0, clock)
    assert (lap.passes, lap.images) == (3, 30)
    assert lap.seconds == pytest.approx(1.2)
    assert lap.figures == {"share": pytest.approx(3.0)}


def test_contenders_take_turns_and_the_first_turn_is_dropped() -> None:
    order: list[str] = []

    def contender(name: str) -> Lap:
        order.append(name)
        return Lap(images=len(order), seconds=1, passes=1)

    laps = interleave({name: lambda name=name: contender(name) for name in "AB"}, runs=2)
    assert "".join(order) == "ABABAB"
    assert [lap.images for lap in laps["A"]] == [3, 5]


def test_a_contender_that_fails_is_left_out_and_the_others_go_on() -> None:
    def failing() -> Lap:
        raise ContenderFailed("no")

    laps = interleave({"bad": failing, "good": lambda: Lap(1, 1, 1)}, runs=3)
    assert list(laps) == ["good"]
    assert len(laps["good"]) == 3


def test_spread_is_the_median_and_the_quartiles() -> None:
    assert Spread.of([5, 1, 4, 2, 3]) == Spread(median=3, low=2, high=4, smallest=1, largest=5)
    assert Spread.of([7]) == Spread(7, 7, 7, 7, 7)


def test_a_contender_in_its_own_process(prepared: Path) -> None:
    contender = Contender("benchmarks.ours:open_store", {"data": str(prepared)}, packages=("numpy",))
    try:
        lap = contender.lap(0.0)
        assert lap.images == 80
        assert lap.passes == 1
        assert contender.versions["numpy"] == np.__version__
        assert contender.memory_mb["peak"] >= contender.memory_mb["private"] > 10
        assert memory.of_tree(os.getpid()) > memory.of_tree(contender.process_id) > 10
    finally:
        contender.close()


@pytest.mark.parametrize(
    ("target", "job", "reason"),
    [
        ("no_such_peer:load", {}, "No module named 'no_such_peer'"),
        ("os:_exit", {"status": 3}, "ended early"),
        ("benchmarks.ours:open_store", {"data": "no/such/folder"}, "is missing"),
    ],
)
def test_a_contender_that_cannot_run_says_why(target: str, job: dict[str, object], reason: str) -> None:
    with pytest.raises(ContenderFailed, match=reason):
        Contender(target, job).lap(0.0)


@pytest.fixture(scope="module")
def material(cohort: Path, prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Material:
    """Return 100 links to the cohort's 80 images, and the prepared folder in place of theirs."""
    work = tmp_path_factory.mktemp("material")
    distinct = link_cohort(cohort, synthetic.read(cohort), work / "cohort", 100)
    for codec in ("jpeg", "raw", "htj2k"):
        (work / f"prepared-{codec}-1024-512-256").symlink_to(prepared)
    return Material(work, work / "cohort", "synthetic", 100, distinct)


def test_a_small_sample_is_repeated_under_other_names(material: Material) -> None:
    frame = nih_chestxray14.read(material.raw).frame
    assert material.distinct == 80
    assert len(frame) == 100
    assert frame["image_id"].is_sorted()
    files = frame["path"].map_elements(lambda path: str(Path(path).resolve()), return_dtype=pl.String)
    assert files.n_unique() == 80
    assert files[:80].n_unique() == 80  # the copies come last
    copies = frame.filter(frame["patient_id"].cast(pl.Int32) > 100_000)
    assert len(copies) == 20
    assert np.load(material.labels).shape == (100, 15)


def test_a_prepared_folder_is_listed_many_times_without_copying(material: Material, prepared: Path) -> None:
    folder = material.many_times("jpeg", 3)
    once, many = ShardStore(prepared), ShardStore(folder)
    assert len(many) == 3 * len(once)
    assert many.index["image_id"].n_unique() == len(many)
    assert (many.encoded(len(once), 0) == once.encoded(0, 0)).all()
    assert all(path.is_symlink() for path in folder.glob("*.h5"))


def test_dalis_own_operators_make_whole_epochs(material: Material, tmp_path: Path) -> None:
    pytest.importorskip("nvidia.dali", reason="NVIDIA DALI is not installed")
    for path in sorted(material.pngs.iterdir())[:6]:
        (tmp_path / path.name).symlink_to(path.resolve())
    dali = dali_operators.load(str(tmp_path), str(material.labels), size=64, batch=4, threads=2)
    assert [dali(), dali()] == [{"images": 6}, {"images": 6}]


def test_ours_and_the_peers_make_whole_epochs(material: Material, tmp_path: Path) -> None:
    load = ours.load(str(material.prepared("jpeg")), "opencv", size=64, batch=32, threads=2)
    assert load() == {"images": 80}
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted(material.pngs.iterdir())[:6]:
        (few / path.name).symlink_to(path.resolve())
    labels = str(material.labels)
    assert torchvision_files.load(str(few), labels, size=64, batch=4, workers=0)() == {"images": 6}
    first = ours.load(str(material.prepared("jpeg")), "opencv", size=64, batch=32, threads=2, limit=10)
    assert first() == {"images": 10}
    pillow = Contender(
        "benchmarks.peers.pillow_writer:write", {"folder": str(few), "out": str(tmp_path / "o"), "workers": 2}
    )
    try:
        lap = pillow.lap(0.0)
    finally:
        pillow.close()
    assert lap.images == 6
    assert len(list((tmp_path / "o").glob("*.jpg"))) == 6


def test_slow_contenders_load_the_first_images_alone(material: Material) -> None:
    data = str(material.prepared("jpeg"))
    assert ours.load(data, "opencv", size=64, batch=32, threads=2, limit=10)() == {"images": 10}


@pytest.mark.filterwarnings("ignore:The image decoding and encoding capabilities of TorchVision:DeprecationWarning")
def test_the_peer_on_tensors_makes_whole_epochs(material: Material) -> None:
    folder = str(material.jpegs)
    tensors = torchvision_tensors.load(folder, str(material.labels), size=64, batch=4, workers=0, limit=6)
    assert tensors() == {"images": 6}
    dataset = torchvision_tensors.Files(folder, str(material.labels), 64, 6)
    image, label = dataset[0]
    assert (image.dtype, image.shape, label.shape) == (torch.uint8, (1, 64, 64), (15,))


def test_single_steps_go_over_all_their_images(material: Material) -> None:
    pngs = str(material.pngs)
    for library in ("kornia-rs", "OpenCV", "Pillow"):
        assert floors.decode_png(pngs, library)() == {"images": 100}
    data = str(material.prepared("jpeg"))
    assert floors.warp(data, 64, blur=True)() == {"images": 80}
    assert floors.decode_levels(data, 64)() == {"images": 80}


def test_what_was_tried_can_be_measured_again(material: Material, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("zstandard")
    work = str(material.work / "tried")
    tried.main(["--raw", str(material.raw), "--work", work, "--only", "codecs", "--limit", "3", "--levels", "512"])
    said = capsys.readouterr().out
    assert "512, kB: raw 262.1, zstd " in said
    for line in ("224, ms a window: raw 0.", "448, ms a crop: raw "):
        assert line in said


def test_what_needs_a_package_names_it(material: Material, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    store = ShardStore(material.prepared("raw"))
    with pytest.raises(UserError, match=r"needs the package numba, .*\n  remedy: pip install numba, or leave it out"):
        tried.kernel(store)


def test_the_ratio_of_signal_and_noise() -> None:
    black = np.zeros((4, 4), np.uint8)
    assert tried.psnr(black, black) == np.inf
    assert tried.psnr(black, black + 255) == pytest.approx(0)
    assert tried.psnr(black, black + 1) == pytest.approx(48.13, abs=0.01)


def test_ours_prepares_the_same_from_files_and_archives(material: Material, tmp_path: Path) -> None:
    packed = prepare_part.pack(material.raw, tmp_path / "packed")
    assert len(list(packed.glob("images_*.tar.gz"))) == prepare_part.ARCHIVES
    done = ours.prepare(str(packed), str(tmp_path / "out"), workers=1, limit=8, listed=True)()
    assert done["images"] == 8
    assert 0 < done["decoding share"] < 1


def test_a_zip_of_the_first_images_lists_them_alone(material: Material, tmp_path: Path) -> None:
    packed = prepare_part.pack(material.raw, tmp_path / "packed", "zip", 8)
    assert len(list(packed.glob("images_*.zip"))) == prepare_part.ARCHIVES
    first = sorted(path.name for path in material.pngs.iterdir())[:8]
    assert nih_chestxray14.read(packed).frame["image_id"].to_list() == first
    assert ours.prepare(str(packed), str(tmp_path / "out"), workers=1, listed=True)()["images"] == 8


def test_a_folder_as_long_as_asked_for_opens(tmp_path: Path) -> None:
    scale.tiny_folder(tmp_path, rows=130)
    store = ShardStore(tmp_path)
    assert len(store) == 130
    assert bytes(store.encoded(129, 2)) == b"tiny"


def test_projection_says_what_it_assumes() -> None:
    entry = Entry("prepare", "4,000 images", "images/s", (200.0,), figures={"bytes": [250_000.0]})
    time, disk = scale.projection([entry], cores=2)
    assert "9.3 min on 2 cores, 1.2 min on 16 cores" in time
    assert "Assumed: 100 images/s a core" in time
    assert "28 GB as jpeg levels" in disk
    assert "154 GB as raw levels" in disk


def session(work: Path, raw: Path | None = None) -> Session:
    return Session(work, raw, images=20, runs=1, seconds=0.0, cores=1, quick=True, say=lambda line: None)


def test_a_peer_that_is_absent_is_in_the_table_with_its_reason(prepared: Path, tmp_path: Path) -> None:
    rows = [
        Row("cxrkit", "benchmarks.ours:open_store", {"data": str(prepared)}),
        Row("other", "no_such_peer:load", {}, note="one level"),
    ]
    here = session(tmp_path)
    part = Part("load", here, here.race("to 224", rows))
    found = part.record()
    assert found.entry("to 224", "cxrkit") is not None
    assert found.entry("to 224", "other") is None
    assert part.ratio("to 224", "cxrkit", "other") is None
    (line,) = (line for line in tables.document(found).splitlines() if line.startswith("| other |"))
    assert "not available: ModuleNotFoundError: No module named 'no_such_peer' |" in line
    assert line.endswith("| one level |")


@pytest.fixture
def example() -> Record:
    """Return a record with everything in it."""
    machine = record.machine("benchmarks/run.py --only load")
    entries = (
        Entry("to 224", "ours", "images/s", (100.0, 120.0, 110.0), figures={"peak MB": 12.5}, versions={"numpy": "2"}),
        Entry("to 224", "theirs", "images/s", (50.0, 55.0, 60.0), note="no rotation"),
        Entry("to 448", "ours", "images/s", (40.0,)),
        Entry("to 448", "theirs", "images/s", unavailable="it | broke"),
    )
    targets = (
        Target("ours against theirs", 2.0, 2.0),
        Target("time", 5.0, 6.0, at_least=False, unit="s"),
        Target("to 448", 1.0, None),
    )
    return Record("load", {"runs": 3, "cores": 2}, machine, entries, targets, ("A remark.",))


def test_a_record_says_what_it_was_measured_on_and_reads_back_equal(example: Record, tmp_path: Path) -> None:
    record.write(example, tmp_path / "load.json")
    assert record.read(tmp_path / "load.json") == example
    assert example.machine["command"] == "benchmarks/run.py --only load"
    assert len(example.machine["load_average_before"]) == 3
    assert {"processor", "cores", "packages", "time", "memory_gb", "git"} <= example.machine.keys()


@pytest.mark.parametrize("text", ["[]", '{"format_version": 99}', '{"format_version": 1, "entries": []}'])
def test_a_file_that_is_no_record_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "load.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"load\.json: (not a|a damaged) benchmark record"):
        record.read(path)


def test_targets_are_met_missed_or_not_measured(example: Record) -> None:
    assert [target.met for target in example.targets] == [True, False, None]
    assert record.ratio(example.entries, "to 224", "ours", "theirs") == pytest.approx(2.0)
    table = tables.target_table(example.targets)
    assert table[2] == "| ours against theirs | at least 2.00x | 2.00x | met |"
    assert table[3] == "| time | at most 5.00 s | 6.00 s | **missed** |"
    assert table[4] == "| to 448 | at least 1.00x | not measured |  |"


def test_a_page_gets_the_tables_between_its_markers(example: Record) -> None:
    text = pages.replaced(f"before\n{pages.BEGIN}\nold\n{pages.END}\nafter\n", pages.section([example]))
    assert text.startswith(f"before\n{pages.BEGIN}\n## Loading on a CPU\n")
    assert text.endswith(f"{pages.END}\nafter\n")
    assert "| ours | 110 | 40.0 |  |" in text
    assert "| theirs | 55.0 | not available: it / broke | no rotation |" in text
    assert "## GPU\n\nNot yet measured" in text
    assert pages.replaced(text, pages.section([example])) == text


def with_cpu(found: Record, cost: float) -> Record:
    """Return a record whose measured entries cost so many CPU milliseconds an image."""
    entries = (
        replace(one, figures=one.figures | {CPU: [cost, cost, 9.0]}) if one.values else one for one in found.entries
    )
    return replace(found, entries=tuple(entries))


def test_cpu_time_has_a_column_where_it_was_measured(example: Record) -> None:
    assert not any(CPU in line for line in tables.entry_table(example, "to 224"))
    assert "CPU" not in pages.load_table(example)[0]
    found = with_cpu(example, 0.25)
    assert tables.entry_table(found, "to 224")[0] == "| | images/s | quartiles | CPU ms an image | note |"
    assert tables.entry_table(found, "to 224")[2] == "| ours | 110 | 105 to 115 | 0.25 |  |"
    table = pages.load_table(found)
    assert table[0] == "| images/s | to 224 | to 448 | CPU ms, to 224 | CPU ms, to 448 | note |"
    assert table[3] == "| theirs | 55.0 | not available: it / broke | 0.25 |  | no rotation |"


def test_two_records_are_compared_row_by_row(
    example: Record, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = with_cpu(example, 0.5), with_cpu(example, 0.25)
    faster = replace(new.entries[0], values=(220.0,))
    new = replace(new, entries=(faster, *new.entries[1:], Entry("to 224", "newcomer", "images/s", (7.0,))))
    record.write(old, tmp_path / "old.json")
    record.write(new, tmp_path / "new.json")
    assert tables.main(["--compare", str(tmp_path / "old.json"), str(tmp_path / "new.json")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "| | images/s, before | after | ratio | CPU ms an image, before | after | ratio |" in lines
    assert "| ours | 110 | 220 | 2.00 | 0.50 | 0.25 | 0.50 |" in lines
    assert "| newcomer | - | 7.00 | - | - | - | - |" in lines
    assert "| theirs | - | - | - | - | - | - |" in lines
    assert not any("Two machines" in line for line in lines)
    elsewhere = replace(new, machine=new.machine | {"processor": "another"})
    assert "**Two machines: the ratios say nothing about the code.**" in tables.comparison(old, elsewhere)
    with pytest.raises(UserError, match="a record of the part load and one of train"):
        tables.comparison(old, replace(new, part="train"))


def test_cpu_targets_are_against_the_cheapest_peer_that_reads_jpeg(tmp_path: Path) -> None:
    costs = {load.JPEG: 0.9, load.JPEG_SMALL: 0.45, load.SPDL: 0.6, load.TENSORS: 1.1, load.FFCV_RAW: 0.1}
    part = Part("load", session(tmp_path))
    part.entries = [Entry("to 448", name, "images/s", (1.0,), figures={CPU: [cost]}) for name, cost in costs.items()]
    load._targets(part, 448)
    whole, small = part.targets[-2:]
    assert (whole.value, whole.met) == (1.5, False)
    assert (small.value, small.met) == (0.75, False)
    assert whole.what.endswith(f"to 448 ({load.SPDL})")
    part.entries = []
    load._targets(part, 448)
    assert part.targets[-1].value is None


def test_slow_peers_get_fewer_images_in_whole_batches(tmp_path: Path) -> None:
    two = replace(session(tmp_path), images=968, cores=2)
    assert [load._fewer(two, times) for times in (2, 3, 7)] == [384, 256, 128]
    assert load._fewer(replace(two, images=96), 7) == 13
    assert load._fewer(replace(two, images=4), 7) == 1


@pytest.mark.parametrize("size", load.SIZES)
def test_the_load_part_asks_each_contender_for_its_own_images(material: Material, size: int) -> None:
    here = session(material.work)
    here.__dict__["material"] = material  # as if it had been gathered
    rows = {row.name: row for row in [*load._our_rows(here, size), *load._peer_rows(here, size)]}
    assert set(load.JPEG_PEERS) < rows.keys()
    for name in (load.JPEGS, load.TENSORS, load.SPDL, load.GRAIN):
        job = rows[name].job
        assert callable(job)
        assert job()["folder"] == str(material.jpegs), name
    assert "rotat" in rows[load.GRAIN].note
    assert "antialiasing" in rows[load.SPDL_ROTATED].note


def test_levels_have_folders_of_their_own(material: Material) -> None:
    small = material.prepared("jpeg", (512, 256))
    assert small != material.prepared("jpeg")
    assert ShardStore(small).levels == (512, 256)


def test_crops_with_opencv_stay_within_the_image() -> None:
    image = np.full((64, 64), 200, np.uint8)
    image[:32] = 100
    generator = np.random.default_rng(0)
    halves = []
    for _ in range(50):
        out_HW = np.zeros((24, 24), np.uint8)
        opencv_crops.sample_into(out_HW, image, generator, rotate=False)
        assert set(np.unique(out_HW)) <= set(range(100, 201)), "nothing of the crop lies outside"
        halves.append(out_HW.mean())
    assert min(halves) == 100
    assert max(halves) == 200
    turned = np.zeros((24, 24), np.uint8)
    opencv_crops.sample_into(turned, np.full((64, 64), 200, np.uint8), generator, rotate=True)
    assert (turned == 200).mean() > 0.8  # at most the corners are turned out of the image


@pytest.mark.parametrize("readme", ["", pages.BEGIN, f"{pages.END}{pages.BEGIN}", f"{pages.BEGIN * 2}{pages.END}"])
def test_a_readme_without_markers_is_refused(readme: str) -> None:
    with pytest.raises(UserError, match="once each, in this order"):
        pages.replaced(readme, "text")


def test_a_busy_machine_and_a_trial_are_owned_up_to(example: Record) -> None:
    busy = replace(example, settings=example.settings | {"others_cores_mean": 1.25})
    assert "in use" not in tables.conditions(example)
    assert "others took 1.2 cores on average" in tables.conditions(busy)
    assert "not a measurement" in tables.conditions(replace(example, settings={**example.settings, "quick": True}))


class SharedMachine:
    """A machine on which others use some cores, by the turn; a contender's lap takes 1 s and one core."""

    def __init__(self, others: list[float]) -> None:
        self.clock, self.own, self.busy, self.laps = FakeClock(), 0.0, 0.0, 0
        self.others = iter(others)

    def lap(self) -> Lap:
        self.laps += 1
        self._pass(1.0)
        self.own += 1.0
        self.busy += 1.0
        return Lap(self.laps, 1.0, 1)

    def sleep(self, seconds: float) -> None:
        self._pass(seconds)

    def _pass(self, seconds: float) -> None:
        self.clock.sleep(seconds)
        self.busy += next(self.others) * seconds

    def measure(self, patience: float) -> Lap:
        quiet = Quiet(patience, lambda: self.busy, self.clock, self.sleep)
        return quiet.lap(self.lap, lambda: self.own)


def test_a_disturbed_run_is_repeated() -> None:
    # lap, wait, wait, lap: the first lap meets others, and so does the first wait; the second lap does not
    machine = SharedMachine([1.5, 1.5, 0.0, 0.05])
    lap = machine.measure(patience=60)
    assert lap.images == 2
    assert machine.clock.now == pytest.approx(100 + 1 + 0.5 + 0.5 + 1)
    assert lap.figures[OTHERS] == pytest.approx(0.05)


def test_a_quiet_run_is_not_waited_for() -> None:
    machine = SharedMachine([0.0])
    machine.measure(patience=60)
    assert machine.clock.now == pytest.approx(101)


def test_a_run_says_what_an_image_costs_in_processor_time() -> None:
    lap = SharedMachine([0.0]).measure(patience=0)  # a second of one core for one image
    assert lap.figures[CPU] == pytest.approx(1000)
    other = SharedMachine([0.0, 0.0])
    quiet = Quiet(0.0, lambda: other.busy, other.clock, other.sleep)
    assert CPU not in quiet.lap(other.lap, lambda: 0.0).figures, "where the system does not tell, nothing is claimed"
    used = iter([5.0, 5.05])
    assert CPU not in quiet.lap(other.lap, lambda: next(used)).figures, "nor of a run that is too short for its clock"


def test_others_are_waited_for_and_in_the_end_put_up_with() -> None:
    busy = SharedMachine([2.0] * 100)
    lap = busy.measure(patience=3)
    assert busy.laps == 2
    assert lap.figures[OTHERS] == pytest.approx(2.0)
    assert busy.clock.now == pytest.approx(100 + 1 + 2 + 1)


def test_processor_time_is_counted_for_a_whole_process_tree() -> None:
    before, all_before = used_by_tree(os.getpid()), busy_seconds()
    subprocess.run([sys.executable, "-c", "import time\nwhile time.process_time() < 0.3: pass"], check=True)
    assert used_by_tree(os.getpid()) - before > 0.25
    assert busy_seconds() - all_before > 0.25


def test_the_committed_records_are_whole_and_the_pages_show_them() -> None:
    records = pages.read_results()
    for found in records:
        assert found.settings["runs"] >= 5, found.part
        assert not found.settings["quick"], found.part
        assert (tables.RESULTS / f"{found.part}.md").read_text() == tables.document(found), found.part
    assert pages.main(["--check"]) == 0, "run python benchmarks/pages.py"
    readme = (REPOSITORY / "README.md").read_text()
    assert all(f"| {shown} |" in readme for shown in pages.LOADERS.values()), "a row of the README has no record"
    assert all(f"| {shown} |" in readme for *_, shown in pages.STAGES), "a row of the README has no record"


def test_the_evaluation_part_runs_as_one_command(tmp_path: Path) -> None:
    cores = os.sched_getaffinity(0)
    run.main(["--quick", "--only", "evaluate", "--synthetic", "--out", str(tmp_path), "--runs", "1"])
    assert os.sched_getaffinity(0) == cores
    found = record.read(tmp_path / "evaluate.json")
    assert found.targets[1].met, "not scikit-learn's AUC"
    assert all(entry.values for entry in found.entries), "a contender failed"
    assert "# Evaluation" in (tmp_path / "evaluate.md").read_text()


def test_the_real_test_set_is_written_as_numbers(nih_raw: Path, tmp_path: Path) -> None:
    truth, patient = evaluation.official_test_set(nih_raw)
    assert truth.shape == (25_596, 15)
    assert len(np.unique(patient)) == 2_797
    np.savez(tmp_path / "set.npz", truth=truth, patient=patient)
    assert len(np.load(tmp_path / "set.npz")["patient"]) == 25_596


def test_an_unknown_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run.arguments(["--only", "lode"])
    assert "lode: unknown; there are load, prepare" in capsys.readouterr().err
