"""Boxes from maps and what they are worth: the protocol by hand, controls, and a network that has learned."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import tiny_maps
from rich.console import Console
from typer.testing import CliRunner

from benchmarks import localisation as localisation_benchmark
from benchmarks import record
from cxrkit import report as reports
from cxrkit.base.contracts import BOX_SCHEMA
from cxrkit.base.errors import UserError
from cxrkit.cli.app import app
from cxrkit.explain import cases, published, regions
from cxrkit.explain.cases import Boxed, Found
from cxrkit.explain.localisation import keep, localisation
from cxrkit.explain.localising import CENTRE, NETWORK, RANDOM, Localised, localise
from cxrkit.explain.measures import IOBB, IOU, THRESHOLDS, Rate, difference, mean_interval, measures
from cxrkit.explain.placing import Placement
from cxrkit.report.document.tables import AVERAGE, Report, Table
from cxrkit.report.everything import DOCUMENTS, Material
from cxrkit.report.evidence.opened import Opened
from cxrkit.report.evidence.runs import FoundRuns, find_runs
from cxrkit.report.rendering.kept import keep_document, kept_document
from cxrkit.runs.folder import RunFolder

# The input of 64 pixels is the whole film.
WHOLE = Placement(np.array([[16.0, 0, 0], [0, 16.0, 0]]), 64)
NOWHERE = Found(np.zeros((0, 4)), None, 0.0)


@pytest.fixture(scope="module")
def spots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_maps.write_spots(tmp_path_factory.mktemp("spots") / "data")


@pytest.fixture(scope="module")
def known(spots: Path) -> RunFolder:
    """A run of the network whose maps are the image."""
    return tiny_maps.train(spots, spots.parent / "known")


@pytest.fixture(scope="module")
def learned(spots: Path) -> Localised:
    """A network that was trained for some seconds, asked where it looks."""
    said = {"lr": 0.02, "epochs": 12, "area_min": 0.5, "batch_size": 10, "patience": 30}
    return localise(tiny_maps.train(spots, spots.parent / "learned", "tiny_maps:build_learned", **said))


def boxed(label: str, patient: str, *boxes: tuple[float, float, float, float]) -> Boxed:
    return Boxed(0, f"{patient}.png", patient, label, np.array(boxes, float).reshape(-1, 4))


def table(report: Report, key: str) -> Table:
    return next(item for item in report.tables if item.key == f"localisation-{key}")


def texts(shown: Table) -> dict[str, list[str]]:
    return {row.key: [cell.text for cell in row.cells] for row in shown.rows}


# Regions and boxes


def test_a_box_goes_round_every_region_and_corners_touch() -> None:
    above = np.array([[1, 0, 0, 0, 1], [0, 1, 0, 0, 1], [0, 0, 0, 0, 0], [1, 1, 1, 0, 0]], bool)
    found = {tuple(box) for box in regions.boxes_round(above).tolist()}
    assert found == {(0, 0, 2, 2), (4, 0, 1, 2), (0, 3, 3, 1)}
    assert regions.boxes_round(np.zeros((3, 3), bool)).shape == (0, 4)


def test_maps_are_scaled_each_by_itself_and_the_unseen_is_lowest() -> None:
    scaled = regions.scaled(np.array([[np.nan, -2.0], [0.0, 2.0]]))
    assert scaled.tolist() == [[0.0, 0.0], [127.5, 255.0]]
    assert not regions.scaled(np.full((2, 2), 3.0)).any(), "a map without a place says nothing"


def test_iou_and_iobb_by_hand() -> None:
    true = np.array([[0, 0, 10, 10], [100, 100, 10, 10]], float)
    found = np.array([[5, 0, 10, 10], [2, 2, 4, 5], [50, 50, 3, 3]], float)
    assert regions.overlap(found, true).tolist() == [[50, 0], [20, 0], [0, 0]]
    assert np.allclose(regions.iou(found, true)[:, 0], [50 / 150, 20 / 100, 0])
    assert np.allclose(regions.iobb(found, true)[:, 0], [50 / 100, 1, 0])
    assert regions.iou(np.zeros((0, 4)), true).shape == (0, 2)


@pytest.mark.parametrize("seed", range(5))
def test_overlaps_are_those_of_masks(seed: int) -> None:
    generator = np.random.default_rng(seed)
    one, other = (np.concatenate([generator.integers(0, 600, (1, 2)), generator.integers(1, 400, (1, 2))], 1) * 1.0
                  for _ in range(2))  # fmt: skip
    masks = regions.mask_of(one), regions.mask_of(other)
    assert regions.overlap(one, other)[0, 0] == np.count_nonzero(masks[0] & masks[1])
    assert regions.iou(one, other)[0, 0] == pytest.approx(regions.mask_iou(*masks))


def test_a_mask_keeps_to_the_film_and_a_box_to_its_edge() -> None:
    assert regions.mask_of(np.array([[1000.0, -5.0, 100.0, 10.0]])).sum() == 24 * 5
    assert regions.mask_iou(np.zeros((2, 2), bool), np.zeros((2, 2), bool)) == 0
    box = np.array([[10.0, 20.0, 5.0, 5.0]])
    assert regions.inside(box, (10, 20))
    assert regions.inside(box, (15, 25))
    assert not regions.inside(box, (15.1, 25))


# What is found of one case


def test_a_map_of_two_spots_is_cut_at_both_thresholds() -> None:
    cells = np.zeros((16, 16))
    cells[2, 3], cells[12, 12] = 1.0, 0.5  # 255 and 127.5: the second is above 60 alone
    found = cases.of_map(cells, WHOLE, np.array([[192.0, 128.0, 64.0, 64.0]]))
    assert found.point == (3.5 * 64, 2.5 * 64)
    assert len(found.boxes) == 3
    high = found.boxes[np.argmin(np.prod(found.boxes[:, 2:], axis=1))]
    # Bilinear: 180 of 255 is reached 0.294 cells from the centre on either side, 60 at 0.765 of the first spot.
    assert high.tolist() == pytest.approx([3.5 * 64 - 19, 2.5 * 64 - 19, 38, 38], abs=1)
    widest = found.boxes[np.argmax(found.boxes[:, 2])]
    assert widest[2] == pytest.approx(2 * 0.765 * 64, abs=2)


def test_a_map_without_a_place_finds_nothing() -> None:
    found = cases.of_map(np.full((4, 4), 7.0), WHOLE, np.array([[0.0, 0.0, 9.0, 9.0]]))
    assert (found.boxes.shape, found.point, found.mask_iou) == ((0, 4), None, 0.0)


def test_the_centre_prior_is_the_mean_box_of_other_patients() -> None:
    asked = [
        boxed("Mass", "1", (0, 0, 10, 10)),
        boxed("Mass", "1", (500, 500, 20, 20)),
        boxed("Mass", "2", (100, 100, 40, 20)),
        boxed("Mass", "3", (200, 300, 20, 40), (400, 300, 20, 40)),
        boxed("Nodule", "1", (0, 0, 10, 10)),
    ]
    first, second, third, _, lonely = cases.by_centre(asked)
    # Of patients 2 and 3: centres (120, 110), (210, 320), (410, 320); sizes (40, 20), (20, 40), (20, 40).
    x, y, width, height = 740 / 3, 750 / 3, 80 / 3, 100 / 3
    assert first.point == second.point == pytest.approx((x, y))
    assert first.boxes[0].tolist() == pytest.approx([x - width / 2, y - height / 2, width, height])
    assert third.point == pytest.approx(((5 + 510 + 210 + 410) / 4, (5 + 510 + 320 + 320) / 4))
    assert lonely.point is None, "no other patient has a nodule"


def test_what_was_found_is_the_same_after_it_was_kept() -> None:
    found = [Found(np.array([[1.0, 2, 3, 4], [5, 6, 7, 8]]), (9.0, 10.0), 0.5), NOWHERE]
    again = cases.unpacked(cases.packed(found))
    assert again[0].boxes.tolist() == found[0].boxes.tolist()
    assert again[0].point == (9.0, 10.0)
    assert (again[1].boxes.shape, again[1].point, again[0].mask_iou) == ((0, 4), None, 0.5)
    assert cases.unpacked(cases.packed([])) == []


# Measures


def test_accuracy_and_false_boxes_by_hand() -> None:
    asked = [boxed("Mass", "1", (0, 0, 10, 10), (100, 0, 10, 10)), boxed("Mass", "2", (0, 0, 10, 10))]
    found = [
        # Half inside the first box, wholly inside the second, and one that meets nothing.
        Found(np.array([[5.0, 0, 10, 10], [102, 2, 5, 5], [500, 500, 9, 9]]), (102.5, 3), 0.25),
        NOWHERE,
    ]
    worth = measures(asked, found, ["1", "2"])["Mass"]
    assert worth.hit[IOBB, 0.25].hits.tolist() == [1, 1, 0]
    assert worth.hit[IOBB, 0.5].hits.tolist() == [0, 1, 0], "more than T, not T itself"
    assert worth.hit[IOU, 0.3].hits.tolist() == [1, 0, 0]
    assert worth.false_boxes[IOBB, 0.25] == 1 / 2
    assert worth.false_boxes[IOBB, 0.5] == 2 / 2
    assert worth.false_boxes[IOBB, 0.9] == 2 / 2
    assert worth.pointing.hits.tolist() == [1, 0]
    assert worth.pointing.patients.tolist() == [0, 1]
    assert worth.mask_iou.value == 0.125


def test_a_rate_under_weights_is_that_of_repeated_patients() -> None:
    rate = Rate(np.array([1.0, 0, 1]), np.array([0, 0, 2]))
    weights = np.array([[1, 1, 1], [2, 0, 1], [0, 5, 0]], np.int32)
    assert rate.drawn(weights).tolist() == pytest.approx([2 / 3, 3 / 5, np.nan], nan_ok=True)


def test_differences_are_of_the_same_patients() -> None:
    generator = np.random.default_rng(0)
    patients = np.repeat(np.arange(40), 2)
    hits = (generator.random(80) < 0.6).astype(float)
    one, same = [Rate(hits, patients)], [Rate(hits.copy(), patients)]
    assert (difference(one, same, 40).value, difference(one, same, 40).interval.lower) == (0, None)
    worse = [Rate(hits * (np.arange(80) % 4 > 0), patients)]
    found = difference(one, worse, 40)
    assert found.interval.lower is not None
    assert 0 < found.interval.lower < found.value < found.interval.upper
    # Against the plain way, patient by patient.
    drawn = [np.random.default_rng(r).integers(0, 40, 40) for r in range(2000)]
    plain = [np.mean([hits[2 * k : 2 * k + 2].mean() for k in chosen]) for chosen in drawn]
    interval = mean_interval(one, 40)
    assert (interval.lower, interval.upper) == pytest.approx(tuple(np.quantile(plain, [0.025, 0.975])), abs=0.02)


# The published table


def test_wang_2017_as_printed() -> None:
    fourteen, eight = published.wang2017()
    assert fourteen.accuracy[IOBB, 0.1]["Cardiomegaly"] == 1
    assert fourteen.accuracy[IOBB, 0.1]["Nodule"] == 0.1519
    assert fourteen.false_boxes[IOBB, 0.9]["Pneumothorax"] == 0.5346
    assert eight.accuracy[IOU, 0.1]["Atelectasis"] == 0.6888
    assert not eight.false_boxes
    for item in (fourteen, eight):
        for by_finding in item.accuracy.values():
            assert len(by_finding) == 8
        for criterion, thresholds in THRESHOLDS.items():
            rows = [item.accuracy[criterion, t] for t in thresholds if (criterion, t) in item.accuracy]
            for finding in rows[0] if rows else ():
                falling = [row[finding] for row in rows]
                assert falling == sorted(falling, reverse=True), "a larger T is never easier"
    # More found boxes are false where T is larger; each accuracy is a whole number of the finding's boxes.
    boxes = {"Atelectasis": 180, "Cardiomegaly": 146, "Effusion": 153, "Infiltration": 123, "Mass": 85, "Nodule": 79,
             "Pneumonia": 120, "Pneumothorax": 98}  # fmt: skip
    for item in (fourteen, eight):
        for by_finding in item.accuracy.values():
            for finding, share in by_finding.items():
                assert abs(share * boxes[finding] - round(share * boxes[finding])) < 0.02, (finding, share)


# Whole runs


def test_a_network_whose_map_is_the_image_finds_every_spot(known: RunFolder) -> None:
    found = localise(known)
    assert set(found.findings) == {"Bright", "Dark"}
    for label in found.findings:
        worth = found.measures[NETWORK][label]
        assert worth.pointing.value == 1
        assert worth.hit[IOBB, 0.5].value == 1
        assert worth.hit[IOU, 0.4].value == 1
        assert worth.mask_iou.value > 0.8
        assert found.measures[CENTRE][label].pointing.value < 0.2
    kept = known.derived("localisation-cam-trained")
    before = kept.stat().st_mtime_ns
    again = localise(known)
    assert kept.stat().st_mtime_ns == before, "the second time it is read"
    assert again.measures[NETWORK]["Dark"].hit[IOU, 0.7].hits.tolist() == (
        found.measures[NETWORK]["Dark"].hit[IOU, 0.7].hits.tolist()
    )


def test_a_trained_network_beats_both_controls(learned: Localised) -> None:
    """The test of truth: boxes that are true, films with striped squares that catch the eye but are no finding."""
    patients = len(learned.patients)
    assert learned.averaged == ("Bright", "Dark")
    for rate in (lambda item: item.pointing, lambda item: item.hit[IOBB, 0.5], lambda item: item.mask_iou):
        own = [rate(learned.measures[NETWORK][label]) for label in learned.averaged]
        for control in (CENTRE, RANDOM):
            found = difference(own, [rate(learned.measures[control][label]) for label in learned.averaged], patients)
            assert found.value > 0.2
            assert found.interval.lower is None or found.interval.lower > 0.1
    assert np.mean([learned.measures[NETWORK][label].pointing.value for label in learned.averaged]) > 0.9


def test_the_report_says_it_all(learned: Localised) -> None:
    report = localisation(learned)
    assert report.key == "localisation"
    assert all(item.key for item in (*report.tables, *report.figures))
    pointing = texts(table(report, "pointing"))
    boxes = sum(len(case.boxes) for case in learned.cases if case.label == "Dark")
    patients = {case.patient_id for case in learned.cases if case.label == "Dark"}
    assert pointing["Dark"][:2] == [str(boxes), str(len(patients))]
    iobb = table(report, "iobb")
    assert list(texts(iobb))[:3] == ["Bright", "Bright, centre prior", "Bright, random weights"]
    mean = texts(iobb)[AVERAGE][2]
    rates = [learned.measures[NETWORK][label].hit[IOBB, 0.5].value for label in ("Bright", "Dark")]
    assert mean == f"{np.mean(rates):.3f}"
    assert "Wang 2017" not in "".join(texts(iobb)), "published numbers are of another data set"
    said = " ".join(report.notes)
    for word in ("60 and at 180", "touch at a side or a corner", "per such image", "mean box", "seed 0", "16 x 16"):
        assert word in said
    (figure,) = report.figures
    assert [line.name for line in figure.panels[0].marks] == [NETWORK, CENTRE, RANDOM]
    rows = pl.read_csv(io.StringIO(reports.render(report, "csv")), infer_schema=False)
    beside = {"table": "localisation-iobb", "run": "Dark, random weights", "label": "IoBB T=0.5"}
    (line,) = rows.filter(**beside).rows(named=True)
    assert (line["metric"], line["source"]) == ("accuracy", "own")
    assert float(line["value"]) == pytest.approx(learned.measures[RANDOM]["Dark"].hit[IOBB, 0.5].value, abs=1e-6)


def test_published_numbers_stand_beside_runs_on_their_data_set(learned: Localised) -> None:
    """The spots' two findings under the names of two of the eight."""
    names = {"Bright": "Mass", "Dark": "Nodule"}
    labels = replace(learned.labels, name="renamed", labels=("Mass", "Nodule"), averaged=("Mass", "Nodule"))
    renamed = replace(
        learned,
        labels=labels,
        info=replace(learned.info, origin=replace(learned.info.origin, dataset="nih-chestxray14")),
        cases=tuple(replace(case, label=names[case.label]) for case in learned.cases),
        measures={who: {names[label]: item for label, item in by.items()} for who, by in learned.measures.items()},
    )
    report = localisation(renamed)
    assert texts(table(report, "iobb"))["Nodule, Wang 2017, 14 findings"][0] == "0.152"
    assert texts(table(report, "iou"))["Mass, Wang 2017, 8 findings"][0] == "0.400"
    assert texts(table(report, "iobb"))[f"{AVERAGE}, Wang 2017, 14 findings"][0] == f"{(0.5882 + 0.1519) / 2:.3f}"
    assert texts(table(report, "false-boxes"))["Mass, Wang 2017, 14 findings"][0] == "0.393"
    assert "Nodule, Wang 2017, 8 findings" not in texts(table(report, "false-boxes"))
    assert any("1705.02315" in note for note in report.notes)
    rows = pl.read_csv(io.StringIO(reports.render(report, "csv")), infer_schema=False)
    assert set(rows.filter(pl.col("run").str.contains("Wang"))["source"]) == {"published"}
    assert [line.name for line in report.figures[0].panels[1].marks][-1] == "Wang 2017, 8 findings"


def test_a_run_that_was_trained_on_boxes_is_marked(learned: Localised) -> None:
    report = localisation(replace(learned, learned_boxes=True))
    assert table(report, "pointing").columns[2].heading == (f"{NETWORK} †",)
    assert any(note.startswith("†: trained on boxes") for note in report.notes)
    assert not any("†" in note for note in localisation(learned).notes)
    seen = replace(learned, info=replace(learned.info, origin=replace(learned.info.origin, pretraining="MIMIC-CXR")))
    assert any("had seen before: MIMIC-CXR" in note for note in localisation(seen).notes)


def test_findings_of_few_patients_do_not_enter_the_means(learned: Localised) -> None:
    few = [case for case in learned.cases if case.label == "Dark"][:6]
    kept = tuple(case for case in learned.cases if case.label == "Bright") + tuple(few)
    some = replace(learned, cases=kept)
    assert some.averaged == ("Bright",)
    assert any("fewer than 10 patients: Dark" in note for note in localisation(some).notes)
    bright = [case for case in learned.cases if case.label == "Bright"][:6]
    report = localisation(replace(learned, cases=(*bright, *few)))
    assert [item.key for item in report.tables] == [
        f"localisation-{key}" for key in ("pointing", "iobb", "iou", "false-boxes")
    ]
    assert AVERAGE not in texts(table(report, "iobb"))
    assert not report.figures


def test_the_command_prints_and_writes(known: RunFolder, tmp_path: Path) -> None:
    out = tmp_path / "boxes.md"
    done = CliRunner().invoke(app, ["localise", str(known.path), "--method", "grad-cam", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "Pointing game" in done.output
    assert "| Dark |" in out.read_text()
    assert known.derived("localisation-grad-cam-random").exists()
    done = CliRunner().invoke(app, ["localise", str(known.path), "--method", "grad-cam", "--format", "json"])
    assert json.loads(done.stdout), "nothing else is printed"


def test_a_report_of_all_shows_what_was_localised(known: RunFolder, learned: Localised) -> None:
    runs = [run for folder in (known.path, learned.run.path) for run in find_runs(folder).runs]
    for place, found in enumerate((localise(known, method="grad-cam"), learned)):
        keep(found, localisation(found))
        material = Material(FoundRuns(tuple(runs[: place + 1]), ()), Opened(None))
        assert DOCUMENTS["localisation"].applies(material)
        shown = DOCUMENTS["localisation"].build(material)
        assert shown.key == "localisation"
        if not place:
            assert shown == localisation(found), "as it was when it was made"
    assert len({table.title.rpartition(": ")[2] for table in shown.tables}) == 2, "each table says whose it is"
    assert len({table.key for table in shown.tables}) == len(shown.tables)
    assert sum(note.startswith("centre prior: ") for note in shown.notes) == 1, "what is alike is said once"


def test_a_document_of_another_checkpoint_is_left_out(known: RunFolder) -> None:
    (run,) = find_runs(known.path).runs
    report = Report("Where it looks", (), key="localisation")
    keep_document(known, report, "0" * 64)
    with pytest.raises(UserError, match=r"trained again since; `cxrkit localise`"):
        DOCUMENTS["localisation"].build(Material(FoundRuns((run,), ()), Opened(None)))
    assert kept_document(known, "localisation", "0" * 64) == report
    assert kept_document(known, "nothing", "0" * 64) is None


def test_reports_fit_a_terminal(learned: Localised) -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(reports.to_rich(localisation(learned)))
    assert max(map(len, console.export_text().splitlines())) <= 80


def test_the_record_of_phantoms_says_that_a_trained_network_beats_both_controls() -> None:
    folder = Path(localisation_benchmark.__file__).parent / "results" / "localisation"
    found = record.read(folder / "localisation.json")
    assert len(found.targets) == 6
    assert all(target.met for target in found.targets)
    assert found.targets == tuple(localisation_benchmark.targets(found.entries))
    table = (folder / "localisation.md").read_text()
    for entry in found.entries:
        assert f"| {entry.name} | {entry.values[0]:.3f}" in table


# What cannot be


def test_a_data_set_without_boxes_is_told(known: RunFolder, spots: Path, tmp_path: Path) -> None:
    bare = tiny_maps.write_spots(tmp_path / "bare", boxes=False)
    with pytest.raises(UserError, match=r"prepared without boxes[^\0]*BBox_List_2017.csv"):
        localise(known, bare)


def test_boxes_that_no_test_image_has_are_told(known: RunFolder, spots: Path, tmp_path: Path) -> None:
    import tiny_cohort

    shutil.copytree(spots, tmp_path / "data")
    listed = pl.DataFrame([("00000000_000.png", "Dark", 1.0, 1.0, 5.0, 5.0)], schema=BOX_SCHEMA, orient="row")
    tiny_cohort.change_table(tmp_path / "data", "boxes", listed)
    with pytest.raises(UserError, match=r"of 1 image with boxes, 0 are test images of split official"):
        localise(known, tmp_path / "data")
