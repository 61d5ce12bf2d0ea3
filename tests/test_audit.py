"""Shortcuts: a network that reads a mark at the film's edge is exposed, one that reads the finding is not."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import tiny_marks
import torch
from rich.console import Console
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import mean_absolute_error, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from typer.testing import CliRunner

from cxrkit import report as reports
from cxrkit.audit import asking, drains, permuting, probing, tables
from cxrkit.audit.auditing import KEY, audit
from cxrkit.audit.border import border_pixels
from cxrkit.audit.memory import remembering
from cxrkit.audit.request import AuditRequest
from cxrkit.audit.results import less_chance
from cxrkit.audit.with_drains import with_drains
from cxrkit.base.errors import UserError
from cxrkit.base.labels import AGE, CHESTXRAY14, SEX
from cxrkit.cli.app import app
from cxrkit.loaders.plan import Plan
from cxrkit.report.document.tables import AVERAGE, Cell, Report, Table
from cxrkit.report.each_run.kept_documents import AUDIT, has, together
from cxrkit.report.evidence.opened import Evidence
from cxrkit.report.evidence.runs import find_runs
from cxrkit.runs.folder import RunFolder
from cxrkit.runs.predictions import read_predictions
from cxrkit.statistics import clustered

QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run on films whose Pneumothorax is a mark at the edge."""
    folder = tmp_path_factory.mktemp("marked")
    return tiny_marks.train(tiny_marks.write_marks(folder / "data", marked=True), folder / "runs")


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run with metadata on films whose findings lie inside; the view tells of the Mass, too."""
    folder = tmp_path_factory.mktemp("honest")
    data = tiny_marks.write_marks(folder / "data", marked=False)
    return tiny_marks.train(data, folder / "runs", "tiny_marks:build_meta")


@pytest.fixture(scope="module")
def exposed(marked: RunFolder) -> Report:
    return audit(AuditRequest(marked.path, fit="train"), QUIET)


@pytest.fixture(scope="module")
def cleared(honest: RunFolder) -> Report:
    return audit(AuditRequest(honest.path, fit="train"), QUIET)


def table(report: Report, key: str) -> Table:
    return next(item for item in report.tables if item.key == f"audit-{key}")


def values(shown: Table, row: str, column: str) -> dict[str, float]:
    place = [item.name for item in shown.columns].index(column)
    return dict(next(item for item in shown.rows if item.key == row).cells[place].values)  # type: ignore[arg-type]


def test_a_network_that_reads_a_mark_is_exposed(exposed: Report) -> None:
    border = table(exposed, "border")
    assert values(border, "Pneumothorax", "border alone")["lower"] > 0.7
    assert values(border, "Pneumothorax", "masked less whole")["upper"] < -0.1
    assert values(border, "Mass", "border alone")["lower"] < 0.5 < values(border, "Mass", "border alone")["upper"]
    told = [note for note in border.notes if "Holm" in note]
    assert [note.rpartition(": ")[2] for note in told] == ["Pneumothorax", "Pneumothorax"]


def test_a_network_that_reads_the_finding_is_not(cleared: Report) -> None:
    border = table(cleared, "border")
    assert [note.rpartition(": ")[2] for note in border.notes if "Holm" in note] == ["none of 2 findings"] * 2
    assert values(border, "Pneumothorax", "whole film")["auc"] > 0.9
    assert values(border, "Pneumothorax", "masked less whole")["lower"] > -0.1


def test_the_metadata_that_a_network_leans_on_are_found(cleared: Report) -> None:
    means, by_label = table(cleared, "metadata"), table(cleared, "metadata-labels")
    assert values(means, "view", "difference")["upper"] < 0
    assert values(means, "sex", "difference")["lower"] < 0 < values(means, "sex", "difference")["upper"]
    assert values(means, permuting.TOGETHER, "SD")["sd"] > 0
    assert values(by_label, "Mass", "difference")["upper"] < 0
    assert by_label.rows[2].key == AVERAGE
    assert by_label.rows[2].cells[2].values == means.rows[4].cells[1].values


def test_the_features_say_the_sex_that_is_in_the_films(cleared: Report, exposed: Report) -> None:
    for report in (cleared, exposed):
        shown = table(report, "features")
        assert values(shown, "sex", "with features")["lower"] > 0.6
        assert values(shown, "age", "with features")["upper"] > values(shown, "age", "without")["mae_without_features"]
    assert any("image alone" in note for note in table(cleared, "features").notes)
    assert not [item for item in exposed.tables if "metadata" in item.key]


def test_what_is_asked_is_what_the_network_says(honest: RunFolder) -> None:
    """Against a forward pass of one's own: masked with slices, metadata given by hand."""
    network = asking.open_network(honest, None, "cpu", QUIET)
    try:
        answers = asking.ask(network, 0.1, 5, None)
        rows, size = network.inputs.rows["test"], tiny_marks.SIZE
        plan = network.inputs.eval_plan("test", network.spec, 256)
        (batch,) = network.inputs.loader(plan, "opencv", "cpu", 1).epoch(0)
        assert batch.index.tolist() == rows.tolist()
        eaten = (batch.image.float() / 255 - network.spec.mean[0]) / network.spec.std[0]
        patients = network.inputs.frame[rows]["patient_id"].to_numpy()
        clusters = np.unique(patients, return_inverse=True)[1]
        given = batch.meta.clone()
        given[:, 2] = batch.meta[torch.from_numpy(permuting.permutation(clusters, 1)), 2]
        inside, outside = torch.zeros_like(eaten), eaten.clone()
        inside[..., 2 : size - 2, 2 : size - 2] = eaten[..., 2 : size - 2, 2 : size - 2]
        outside[..., 2 : size - 2, 2 : size - 2] = 0
        with torch.inference_mode():
            expected = [
                network.model(image, meta).logits.sigmoid().numpy()
                for image, meta in ((eaten, batch.meta), (inside, batch.meta), (outside, batch.meta * 0 + 0.5))
            ]
            viewed = network.model(eaten, given).logits.sigmoid().numpy()
    finally:
        network.inputs.close()
    found = [answers.scores[name] for name in (asking.WHOLE, asking.MASKED, asking.ALONE)]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    np.testing.assert_allclose(answers.permuted["view"][1], viewed, atol=1e-5)
    predicted = read_predictions(honest.predictions("test")).frame.sort("image_id")
    own = pl.DataFrame({"image_id": answers.image_id}).with_row_index("place").sort("image_id")
    np.testing.assert_allclose(
        found[0][own["place"].to_numpy()], predicted.select("Pneumothorax", "Mass").to_numpy(), atol=1e-5
    )


def test_an_audit_is_kept_and_its_scores_are_not_made_again(
    honest: RunFolder, cleared: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert reports.read_report_json(honest.derived(KEY).with_suffix(".json")).tables == cleared.tables
    (run,) = find_runs(honest.path).runs
    assert has(AUDIT, run)
    shown = together(AUDIT, [run], {run.folder: "honest"})  # as `report --all` does
    assert shown.tables == cleared.tables
    assert shown.key == "audit"

    def looks(*_: object) -> None:
        raise AssertionError("the network was asked again")

    monkeypatch.setattr(asking, "_answers", looks)
    monkeypatch.setattr(tiny_marks.MarkNet, "features", looks)
    assert audit(AuditRequest(honest.path, fit="train"), QUIET).tables == cleared.tables
    with pytest.raises(AssertionError, match="asked again"):
        audit(AuditRequest(honest.path, fit="train", border=0.2), QUIET)


def test_a_network_looks_once_at_an_image() -> None:
    model = tiny_marks.build_meta(tiny_marks.MARKS).eval()
    image, other, meta = torch.rand(2, 1, 32, 32), torch.rand(2, 1, 32, 32), torch.rand(3, 2, 3)
    with torch.inference_mode():
        expected = [model(image, meta[0]).logits, model(image, meta[1]).logits, model(other, meta[2]).logits]
        model.looked = 0
        with remembering(model):
            found = [model(image, meta[0]).logits, model(image, meta[1]).logits, model(other, meta[2]).logits]
        assert model.looked == 2
        model(image, meta[0])
        model(image, meta[0])
    assert model.looked == 4
    for one, another in zip(found, expected, strict=True):
        assert torch.equal(one, another)


def plan_of(input_size: int, resize: int) -> Plan:
    return Plan(np.arange(2), False, 0, 2, input_size, resize, (1024,), 1024)


def test_the_border_is_said_with_what_the_centre_crop_has_cut(cleared: Report) -> None:
    assert tables.border_words(0.1, 22, (224, 224)) == (
        "10 % of the film's side at each edge, 22 of the 224 pixels that the network sees along a side"
    )
    assert tables.border_words(0.1, 5, (128, 112)) == (
        "10 % of the film's side at each edge, 12.8 of the 128 pixels that it is scaled to. The centre crop to 112 "
        "pixels has cut off 8 of them, and the network sees 5"
    )
    assert table(cleared, "border").notes[0].startswith("Border: 10 % of the film's side at each edge, ")


def test_a_mean_over_fewer_labels_says_so() -> None:
    labels = CHESTXRAY14
    cell = (Cell("0.563"),)
    averaged = [place for place in range(len(labels)) if labels.labels[place] in labels.averaged]
    some = [place for place in averaged if labels.labels[place] != "Hernia"]

    def row(places: list[int]) -> str:
        rows = tables.label_rows_of(labels, lambda place: cell, cell, places)
        return next(item.heading for item in rows if item.key == AVERAGE)

    assert (row(averaged), row(some)) == ("Average", "Average (over 13 of 14)")
    assert tables.average_notes(labels, averaged) == []
    assert tables.average_notes(labels, some) == [
        "Average: over 13 of 14 labels, without Hernia (too few patients for an interval); the mean AUC of other "
        "reports is over all labels that have an AUC"
    ]


def test_the_border_of_the_film_in_pixels_of_the_crop() -> None:
    assert border_pixels(plan_of(448, 480), 0.1) == 32  # 48 of the 480, less the 16 outside the crop
    assert border_pixels(plan_of(224, 224), 0.1) == 22
    for share, words in (
        (0.0, "expected a share of the film's side"),
        (0.5, "expected a share of the film's side"),
        (0.03, "leaves out 0.033 of the film"),
        (0.4999, "covers all of the network's input"),
    ):
        with pytest.raises(UserError, match=words):
            border_pixels(plan_of(448, 480), share)


@pytest.mark.parametrize("seed", range(3))
def test_metadata_are_exchanged_in_whole_patients(seed: int) -> None:
    clusters = np.repeat(np.arange(50), 4)
    generator = np.random.default_rng(seed)
    generator.shuffle(clusters)
    found = permuting.permutation(clusters, seed)
    assert sorted(found) == list(range(200))
    assert np.array_equal(found, permuting.permutation(clusters, seed))
    donors = [set(clusters[found[clusters == patient]]) for patient in range(50)]
    assert all(len(item) == 1 for item in donors)
    assert sum(item == {patient} for patient, item in enumerate(donors)) < 10
    meta = generator.random((200, 3)).astype(np.float32)
    changed = permuting.permuted(meta, clusters, ["sex"], seed)
    assert np.array_equal(changed[:, [0, 2]], meta[:, [0, 2]])
    assert np.array_equal(changed[:, 1], meta[found, 1])


def test_an_auc_against_chance() -> None:
    generator = np.random.default_rng(0)
    truth, clusters = generator.random(400) < 0.4, np.arange(400) // 2
    one = clustered.estimate(generator.random(400) + 0.3 * truth, truth, clusters)
    found = less_chance(one)
    assert (found.difference, found.standard_error) == pytest.approx((one.value - 0.5, one.standard_error))
    assert found.p_value < 1e-6


# Probes


def test_a_linear_probe_is_scikit_learns() -> None:
    generator = np.random.default_rng(1)
    features = generator.normal(size=(300, 6)).astype(np.float32)
    male = (features[:, 0] + generator.normal(size=300) > 0).astype(np.float32)
    age = (50 + 10 * features[:, 1] + generator.normal(size=300)).astype(np.float32)
    male[5] = age[250] = np.nan
    clusters = np.arange(100) // 2
    found = probing.fitted(SEX, features[:200], male[:200], features[200:], male[200:], clusters)
    known = ~np.isnan(male[:200])
    theirs = make_pipeline(StandardScaler(), LogisticRegression()).fit(features[:200][known], male[:200][known])
    said = theirs.predict_proba(features[200:])[:, 1]
    assert found.value == pytest.approx(roc_auc_score(male[200:], said))
    assert (found.fitted, found.tested, found.without) == (199, 100, 0.5)
    assert found.interval.lower < found.value < found.interval.upper  # type: ignore[operator]
    found = probing.fitted(AGE, features[:200], age[:200], features[200:], age[200:], clusters)
    tested = np.delete(age[200:], 50)
    assert found.without == pytest.approx(mean_absolute_error(tested, np.full(99, np.median(age[:200]))), rel=1e-5)
    assert found.value < 1.5 < found.without  # type: ignore[operator]


def test_what_cannot_be_probed_is_said() -> None:
    features = np.zeros((40, 2), np.float32)
    clusters, few = np.arange(20), np.array([1] * 4 + [0] * 16, np.float32)
    reasons = [
        probing.fitted(labels, features[:20], fit, features[20:], test, clusters).reason
        for labels, fit, test in (
            (SEX, few, few),
            (SEX, np.repeat([1, 0], 10).astype(np.float32), np.ones(20, np.float32)),
            (AGE, np.full(20, np.nan, np.float32), few),
        )
    ]
    assert reasons[0] == "4 images of one kind to fit on, fewer than 10"
    assert reasons[1:] == ["all test images are of one kind", "not known of enough images to fit on"]


# Drains

IDS = pl.Series(["00000001_000.png", "00000001_001.png", "00000002_000.png"])


@pytest.mark.parametrize(
    "text",
    [
        "Image Index,Drain\n00000001_000.png,1\n00000002_000.png,0\nother.png,1\n",
        ",Image Index,Drain,Annotator\n0,00000001_000.png,1.0,A\n1,00000002_000.png,0.0,B\n2,00000001_001.png,-1,A\n",
        "image;chest drain\r\n/data/00000001_000.png;Chest Drain\r\n/data/00000002_000.png;No Chest Drain\r\n",
        "\ufeffImageID\tChest_Tube\n00000001_000\tyes\n00000002_000\tNo\n00000001_001\t\n",
        "Drain,path\nTrue,00000001_000.png\nFalse,00000002_000.png\nTrue,00000001_000.png\n",
    ],
)
def test_lists_of_drains_in_several_forms(text: str, tmp_path: Path) -> None:
    path = tmp_path / "drains.csv"
    path.write_text(text)
    found = drains.read(path, IDS)
    assert dict(found.table.iter_rows()) == {"00000001_000.png": True, "00000002_000.png": False}
    assert found.unclear == 0


def test_a_film_with_and_without_a_drain_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "drains.csv"
    path.write_text("Image Index,Drain\n00000001_000.png,1\n00000001_000.png,0\n00000002_000.png,0\n")
    found = drains.read(path, IDS)
    assert (found.table["image_id"].to_list(), found.unclear, found.listed) == (["00000002_000.png"], 1, 2)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Image Index,Label\n00000001_000.png,1\n", "no column says where a drain is; found Image Index, Label"),
        ("Drain,Score\n1,0.5\n", "no column of images; found Drain, Score"),
        ("Image Index,Drain\n00000001_000.png,perhaps\n", "Drain is 'perhaps' in 1 row, expected 1, 0 or nothing"),
        ("Image Index,Drain\nx.png,1\n", "none of its 1 film, such as x.png, is one of this data set, such as 0000"),
        ("Image Index,Drain\n", "none of its 0 films is one of this data set"),
    ],
)
def test_a_list_that_says_nothing_is_refused(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "drains.csv"
    path.write_text(text)
    with pytest.raises(UserError) as refused:
        drains.read(path, IDS)
    assert words in str(refused.value)
    assert refused.value.remedy


def test_aucs_with_and_without_drains_are_those_of_the_films(tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    ids = [f"{number:08d}_000.png" for number in range(400)]
    truth = (generator.random((400, 2)) < 0.3).astype(np.float32)
    scores = generator.random((400, 2)) + 0.3 * truth
    drained = (truth[:, 0] > 0) & (generator.random(400) < 0.5)
    listed = (truth[:, 0] > 0) & (np.arange(400) % 7 > 0)
    drained &= listed
    images = pl.DataFrame({"image_id": ids, "patient_id": [str(number // 2) for number in range(400)]})
    path = tmp_path / "drains.csv"
    pl.DataFrame({"Image Index": ids, "Drain": drained.astype(int)}).filter(pl.Series(listed)).write_csv(path)
    evidence = Evidence(images, scores, truth, tiny_marks.MARKS)
    found = with_drains(drains.read(path, images["image_id"]), evidence)
    positive = truth[:, 0] > 0
    for wanted, chosen in ((True, drained), (False, listed & ~drained)):
        kept = chosen | ~positive
        assert found.groups[wanted].positives == chosen.sum()
        assert found.groups[wanted].estimate.value == pytest.approx(roc_auc_score(positive[kept], scores[kept, 0]))
    gone = np.isin(np.arange(400) // 2, np.flatnonzero(drained) // 2)
    assert (found.left_out, found.drained, found.listed) == (gone.sum(), drained.sum(), listed.sum())
    assert found.unlisted == (positive & ~listed).sum()
    assert found.without[1].value == pytest.approx(roc_auc_score(truth[~gone, 1], scores[~gone, 1]))
    assert found.gap is not None
    gap = found.groups[True].estimate.value - found.groups[False].estimate.value
    assert found.gap.difference == pytest.approx(gap)


# The command


def test_the_command_shows_at_80_columns_and_writes(
    honest: RunFolder, cleared: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cxrkit.cli.app.console", Console(width=80))
    path, out = tmp_path / "drains.csv", tmp_path / "audit.md"
    films = tiny_marks.mark_records(marked=False)[0].frame.filter("Pneumothorax", official="test")["image_id"]
    rows = [f"{name},{number < 4:d}" for number, name in enumerate(films)]
    path.write_text("\n".join(["Image Index,Drain", *rows]))
    run = tmp_path / "runs" / honest.path.parent.name / honest.path.name
    shutil.copytree(honest.path, run)  # it keeps what it finds
    wanted = ["audit", str(run), "--fit", "train", "--drains", str(path), "--out", str(out)]
    shown = CliRunner().invoke(app, wanted, catch_exceptions=False).output
    assert max(map(len, shown.splitlines()[:-1])) <= 80  # the last one names the file
    assert re.search(r"with a drain +\d+ +\d .*\(\d patients?\)", shown)
    assert "(continued)" not in shown
    assert "## The border of the film" in out.read_text()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"permutations": 0}, "--permutations 0: expected at least 1"),
        ({"border": 0.7}, "--border 0.7: expected a share"),
        ({"drains": Path("nowhere.csv")}, "nowhere.csv: there is no such file"),
        ({"run": Path("nowhere")}, "nowhere: there is no such folder of runs"),
    ],
)
def test_what_cannot_be_audited_is_refused(
    changed: dict[str, object], words: str, honest: RunFolder, refused: Callable[..., str]
) -> None:
    assert words in refused({"run": honest.path, "fit": "train"} | changed)


@pytest.fixture
def refused() -> Callable[..., str]:
    def of(asked: dict[str, object]) -> str:
        with pytest.raises(UserError) as error:
            audit(AuditRequest(**asked), QUIET)  # type: ignore[arg-type]
        assert error.value.remedy
        return str(error.value)

    return of
