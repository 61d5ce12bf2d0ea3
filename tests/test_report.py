"""The report: what stands in the comparison, what is kept out and why, and how it looks.

Golden files hold whole reports; after a wanted change run `CXRKIT_UPDATE_GOLDEN=1 pytest tests/test_report.py` and read
the difference.
"""

import csv
import io
import json
import math
import os
import re
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import chestxray14_facts as facts
import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console
from tiny_runs import make_origin as origin_of
from tiny_runs import make_records, make_run, make_split

from cxrkit import recipes, report
from cxrkit.base.contracts import LABELS, NO_FINDING, PATHOLOGIES, Metric
from cxrkit.base.errors import UserError
from cxrkit.base.files import digest_lines, write_json
from cxrkit.base.labels import CHEXPERT
from cxrkit.base.origin import Basis, Origin, differences
from cxrkit.datasets import splits
from cxrkit.evaluators.scoring import evaluate_run
from cxrkit.evaluators.truth import Truth
from cxrkit.models.grammar import SPECS
from cxrkit.report.document.tables import AVERAGE, Cell, Row, bold_best, heading_lines
from cxrkit.report.evidence.reference import known_splits, reference_origin
from cxrkit.report.evidence.runs import Run
from cxrkit.report.evidence.variants import details, variant_of
from cxrkit.report.literature import published
from cxrkit.runs.predictions import METADATA_KEY, PredictionInfo, read_prediction_info
from cxrkit.runs.scores import Scores, SubsetScores, write_scores
from cxrkit.shards.file import ShardSettings
from cxrkit.statistics.intervals import APPROXIMATE

GOLDEN = Path(__file__).parent / "golden"
BASE = dict(zip(LABELS, np.linspace(0.92, 0.70, len(LABELS)).tolist(), strict=True))
HOW = (
    "95 % logit-t with effective patients, bootstrap over patients, drawn with replacement with all their images, "
    "1,000 replicates, seed 0"
)
IDENTITY = {field for field in PredictionInfo.__dataclass_fields__ if field in Scores.__dataclass_fields__}

PREPARATION = ShardSettings("nih-chestxray14", "jpeg", 95, (1024, 512, 256), 1024).digest  # the default


def label_metric(label: str, auc: float, images: int, positives: int = 500) -> Metric:
    negatives = max(images - positives, 1)
    found = Metric("auc", auc, label, auc - 0.02, auc + 0.015, positives, negatives, interval=HOW)
    if label == "Hernia":
        return replace(found, positive_patients=29, clusters_effective=14.2, mark=APPROXIMATE)
    return replace(found, positive_patients=240, clusters_effective=1234.5)


def mean_metric(auc: float) -> Metric:
    found = Metric("auc", auc, None, auc - 0.01, auc + 0.01, labels=14, interval=HOW)
    return replace(found, positive_patients=29, clusters_effective=14.2, mark=APPROXIMATE)


def make_origin(split: str, **changes) -> Origin:
    """The origin of a complete run on a known split, or on one of somebody's own."""
    known = split if split in known_splits() else "official"
    origin = replace(reference_origin(known), pixels_digest="ab" * 32, preparation_digest=PREPARATION, split=split)
    if split not in known_splits():
        origin = replace(origin, split_digest="0wn" + "0" * 61)
    return replace(origin, **changes)


def make_scores(name: str, split: str, shift: float = 0.0, **changes) -> Scores:
    """Scores of a complete run; `changes` go to Scores, to its test subset, or to its origin."""
    known = known_splits().get(split, known_splits()["official"])
    metrics = [label_metric(label, auc + shift, known.test) for label, auc in BASE.items()]
    test = SubsetScores(
        subset="test",
        images=known.test,
        subset_images=known.test,
        images_digest=known.test_digest,
        patients=known.test_patients,
        predictions_sha256="",
        leakage_checked=True,
        metrics=(*metrics, mean_metric(float(np.mean([BASE[label] + shift for label in PATHOLOGIES])))),
    )
    parts = {part: {k: changes.pop(k) for k in list(changes) if hasattr(part, k)} for part in (test,)}
    of_origin = {k: changes.pop(k) for k in list(changes) if k in Origin.__dataclass_fields__}
    scores = Scores(
        name=name,
        model=name,
        recipe=name,
        recipe_digest="5e" * 32,
        changes=(),
        seed=0,
        input_size=224 if re.search("ots|ft|1channel", name) else 448,
        epoch=12,
        checkpoint_sha256="c0ffee" * 10 + "abcd",
        origin=make_origin(split, **of_origin),
        evaluator="auc",
        subsets={"test": replace(test, **parts[test])},
    )
    return replace(scores, **changes)


def with_metrics(scores: Scores, *metrics: Metric) -> Scores:
    """Replace the metrics of the same names and labels."""
    test = scores.subsets["test"]
    new = {(metric.name, metric.label): metric for metric in metrics}
    kept = [new.pop((metric.name, metric.label), metric) for metric in test.metrics]
    return replace(scores, subsets={"test": replace(test, metrics=(*kept, *new.values()))})


def undefined(scores: Scores, *labels: str) -> Scores:
    none = [Metric("auc", None, label, None, None, 0, 38, reason="0 positives") for label in labels]
    count = 14 - len(labels)
    mean = replace(scores.subsets["test"].metric("auc"), labels=count, reason=f"over {count} of 14")
    return with_metrics(scores, *none, mean)


def save(runs: Path, scores: Scores, folder: str = "") -> Path:
    """Write a run folder: scores.json, and a prediction file that they name."""
    run = runs / (folder or scores.name.replace(":", ".")) / scores.origin.split
    if scores.seed:
        run = run.with_name(f"{run.name}-seed-{scores.seed}")
    for subset in scores.subsets:
        about = {name: value for name, value in asdict(scores).items() if name in IDENTITY}
        about |= {"subset": subset, "subset_images": scores.subsets[subset].subset_images, "format_version": 2}
        path = run / "predictions" / f"{subset}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pl.DataFrame({"image_id": ["a.png"]}).write_parquet(path, metadata={METADATA_KEY: json.dumps(about)})
    named = {
        subset: replace(part, predictions_sha256=read_prediction_info(run / "predictions" / f"{subset}.parquet")[1])
        for subset, part in scores.subsets.items()
    }
    write_scores(run / "scores.json", replace(scores, subsets=named))
    return run


def terminal(shown: report.Report, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=False, color_system=None)
    console.print(report.to_rich(shown))
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()) + "\n"


def check_golden(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("CXRKIT_UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text


@pytest.fixture
def mixed(tmp_path):
    """Runs that compare, also one on other terms and one of unknown origin; one for every reason to be kept out."""
    runs = tmp_path / "runs"
    save(runs, make_scores("resnet38-large-meta", "official", 0.005))
    changes = ("input.size=64", "schedule.epochs=3")
    save(runs, make_scores("resnet50-large-meta", "official", 0.03, changes=changes, input_size=64, epoch=3))
    declared = make_scores("resnet101-large-meta", "official", -0.012, basis=Basis(pixels="declared"))
    no_finding = replace(label_metric(NO_FINDING, 0.5, 25_596, 9_861), lower=0.5, upper=0.5, constant=True)
    save(runs, with_metrics(declared, no_finding))
    part = make_scores("part", "official", images=38, patients=30, images_digest="part", model="resnet50-large-meta")
    save(runs, undefined(part, "Hernia", "Fibrosis"))
    synthetic = {"images": 400, "subset_images": 400, "images_digest": "drawn", "labels_digest": "5e" * 32}
    save(runs, make_scores("small-meta", "official", dataset="synthetic", label_release="synthetic", **synthetic))
    save(runs, make_scores("resnet50-ots", "official", label_release="2017", labels_digest="2017" * 16))
    save(runs, make_scores("resnet50-ft", "resample-1"))
    save(runs, make_scores("my_lab.nets:wide_50", "file-ours_70%"))
    (runs / "mlp-meta" / "official").mkdir(parents=True)
    (runs / "mlp-meta" / "official" / "config.toml").touch()
    return runs


@pytest.fixture
def folds(tmp_path):
    """Five folds of one model, three of another, one of a model that the paper does not have, one partial."""
    runs = tmp_path / "folds"
    for number in range(1, 6):
        save(runs, make_scores("resnet50-large-meta", f"resample-{number}", 0.004 * number))
    for number in (1, 2, 4):
        save(runs, make_scores("resnet50-ots", f"resample-{number}", -0.1 + 0.003 * number))
    save(runs, make_scores("resnet38-large", "resample-3"))
    save(runs, make_scores("resnet50-ft", "resample-2", images=53, images_digest="part"))
    save(runs, make_scores("resnet50-large-meta", "official"))
    return runs


def full_name(head) -> str:
    """A column's name, with what is in doubt of its run."""
    return f"{head.name} ({'; '.join(head.doubts)})" if head.doubts else head.name


def column(table, name: str) -> dict[str, Cell]:
    (index,) = [index for index, head in enumerate(table.columns) if full_name(head) == name]
    return {row.key: row.cells[index] for row in table.rows}


def reasons(shown: report.Report) -> dict[str, str]:
    """Why each run was kept out, by its name."""
    tables = [table for table in shown.tables if "kept out" in table.title]
    return {row.heading: row.cells[-1].text for table in tables for row in table.rows}


def tidy_rows(shown: report.Report) -> list[dict[str, str]]:
    """The report as tidy CSV, read again."""
    return list(csv.DictReader(io.StringIO(report.render(shown, "csv"))))


def own_columns(shown: report.Report) -> list[str]:
    """The names of the user's columns in the comparison."""
    return [full_name(head) for head in shown.tables[0].columns if head.own]


# Published results


def test_published_means_equal_their_columns_to_rounding():
    for paper in published.table5().columns:
        assert list(paper.auc)[:14] == list(PATHOLOGIES)
        mean = np.mean([paper.auc[label] for label in PATHOLOGIES])
        assert abs(mean - paper.mean) <= 0.0005, paper.key
    with_no_finding = [paper.key for paper in published.table5().columns if NO_FINDING in paper.auc]
    assert with_no_finding == [f"baltruschat2019-resnet{depth}-official" for depth in (38, 50, 101)]


def test_published_table3_averages_equal_their_columns_to_rounding():
    columns = published.table3().columns
    assert published.table3().folds == 5
    assert len(columns) == 8
    for paper in columns.values():
        means, stds = zip(*(paper.folds[label] for label in PATHOLOGIES), strict=True)
        # The printed deviation of the average is the mean of the fourteen, in every column.
        assert abs(np.mean(means) - paper.average[0]) <= 0.0501
        assert abs(np.mean(stds) - paper.average[1]) <= 0.0501


def test_published_sizes_are_those_of_the_recipes_that_repeat_them():
    papers = [*published.table3().columns.values(), *published.table5().columns]
    sizes = {recipe: paper.input_size for paper in papers for recipe in paper.recipes}
    assert len(sizes) == 13
    assert sizes == {name: recipes.load(name).input.size or SPECS[name].input_size for name in sizes}


# The official table


def test_official_table_holds_the_paper_and_comparable_runs_only(mixed):
    shown = report.official(mixed, apart=True)
    table = shown.tables[0]
    assert [" ".join(head.heading) for head in table.columns] == [
        "Wang 2017",
        "Yao 2018",
        "Guendel 2018",
        "ResNet-38 large-meta",
        "ResNet-50 large-meta",
        "ResNet-101 large-meta",
        "resnet38- large-meta",
        "resnet50- large-meta at 64 px 3 epochs",
        "resnet101- large-meta *",
    ]
    assert [row.key for row in table.rows] == [*PATHOLOGIES, AVERAGE, NO_FINDING, ""]
    own = column(table, "resnet38-large-meta")
    assert own["Cardiomegaly"].text == "0.925"
    assert own["Cardiomegaly"].values["lower"] == pytest.approx(0.905)


def test_a_column_on_other_terms_says_so_and_is_no_rival(mixed):
    table = report.official(mixed, apart=True).tables[0]
    altered = column(table, "resnet50-large-meta, at 64 px, 3 epochs")
    assert float(altered["Cardiomegaly"].text) > float(column(table, "resnet38-large-meta")["Cardiomegaly"].text)
    assert not any(cell.bold for cell in altered.values())
    assert column(table, "resnet38-large-meta")["Cardiomegaly"].bold
    assert any("with input.size=64, schedule.epochs=3" in note for note in table.notes)


WANG = "wang2017-official (Wang, Peng, Lu, Lu, Bagheri, Summers, 2017)"
SYSTEMS = {
    "wang2017-resnet50": ("torchvision:resnet50", 1024),
    "yao2018": ("yao2018", 512),
    "guendel2018-noloc": ("guendel2018", 1024),
    "chexnet": ("torchvision:densenet121", 224),
    "yao2017": ("yao2017", 512),
    "li2018-mil": ("li2018", 512),
}


def save_systems(runs: Path, split: str, shift: float = 0.0, **changes) -> Path:
    for name, (model, size) in SYSTEMS.items():
        save(runs, make_scores(name, split, shift, model=model, **({"input_size": size} | changes)))
    return runs


def test_a_run_stands_beside_what_its_recipe_repeats(tmp_path):
    """By the recipe, whatever its network is called: in Table 5, or by themselves where the split is another one."""
    shown = report.official(save_systems(tmp_path, "official", 0.03))
    table5, *_, beside = shown.tables
    notes = " | ".join(table5.notes)
    assert "repeats Wang et al. 2017 |" in notes
    assert "repeats Yao et al. 2018 |" in notes
    assert "repeats Guendel et al. 2018, without the images of PLCO, and without locations |" in notes
    # Higher than all that is published: what is as published is a rival, what leaves something out is not.
    bold = {head.name: cells["Mass"].bold for head in table5.columns if (cells := column(table5, full_name(head)))}
    assert (bold["wang2017-resnet50"], bold["yao2018"], bold["guendel2018-noloc"]) == (True, True, False)
    assert beside.key == "counterparts"
    assert [" ".join(head.heading) for head in beside.columns] == [
        "chexnet", "chexnet2017 v3 (O)", "yao2017", "yao2017 (O)"
    ]  # fmt: skip
    assert column(beside, "chexnet2017-v3 (Rajpurkar, Irvin, Zhu, et al., 2017)")[AVERAGE].text == "0.841"
    assert column(beside, "chexnet")[AVERAGE].text == column(table5, "chexnet")[AVERAGE].text
    assert not any(cell.bold for row in beside.rows for cell in row.cells)
    assert any(note.startswith("chexnet2017-v3: on a random patient-wise split; ") for note in beside.notes)
    assert any(note.startswith("yao2017: on a split that is not known; ") for note in beside.notes)
    assert "li2018-mil: no figure of its authors was found (`cxrkit literature show li2018`)" in shown.notes


def test_another_size_or_setting_makes_a_system_no_rival(tmp_path):
    save_systems(tmp_path, "official", 0.03, input_size=256)
    slow = {"model": "yao2018", "recipe": "yao2018", "input_size": 512, "changes": ("optimizer.lr=0.0001",)}
    save(tmp_path, make_scores("slow", "official", 0.04, **slow))
    table = report.official(tmp_path).tables[0]
    own = [head for head in table.columns if head.own]
    bold = [head.name for head in own if column(table, full_name(head))["Mass"].bold]
    assert not [name for name in bold if name.startswith(("wang", "yao2018", "guendel", "slow"))]
    assert "wang2017-resnet50, at 256 px" in [head.name for head in own]
    assert any("not among them: a published system that was trained on other terms" in note for note in table.notes)


def test_a_run_over_folds_stands_beside_official_figures(tmp_path):
    shown = report.resampled(save_systems(tmp_path, "resample-2"))
    (beside,) = [table for table in shown.tables if table.key == "counterparts"]
    assert column(beside, WANG)[AVERAGE].text == "74.5"
    assert column(beside, "yao2018-official (Yao, Prosky, Poblenz, Covington, Lyman, 2018)")[AVERAGE].values == {
        "auc_x100": pytest.approx(76.1)
    }
    assert "guendel2018-noloc repeats it without the images of PLCO" in " ".join(beside.notes)
    assert "wang2017-official: on NIH's official split; by labels of a release that is not known" in " ".join(
        beside.notes
    )


def test_constant_scores_and_unchecked_origins_are_marked(mixed):
    table = report.official(mixed, apart=True).tables[0]
    cell = column(table, "resnet101-large-meta (pixels declared, not checked)")[NO_FINDING]
    assert (cell.text, cell.bold) == ("† 0.500", False)
    assert "* resnet101-large-meta: pixels declared, not checked" in table.notes
    assert any(note.startswith("†: every image has the same score") for note in table.notes)
    rows = [row for row in tidy_rows(report.official(mixed)) if row["run"] == "resnet101-large-meta"]
    assert {row["doubts"] for row in rows} == {"pixels declared, not checked"}
    assert [row["label"] for row in rows if row["constant"]] == [NO_FINDING]
    intervals = next(table for table in report.official(mixed).tables if table.key == "intervals")
    assert column(intervals, "resnet101-large-meta (pixels declared, not checked)")[NO_FINDING].text == "†"
    assert "[0.500, 0.500]" not in terminal(report.official(mixed, apart=True), 120)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("part", "38 of 25,596 test images; AUC undefined for Hernia, Fibrosis"),
        ("small-meta", "synthetic images, not nih-chestxray14"),
        ("resnet50-ots", "labels of release 2017, not v2020"),
        ("my_lab.nets:wide_50", "another split"),
    ],
)
def test_runs_that_do_not_compare_are_named_with_the_reason(mixed, name, reason):
    shown = report.official(mixed, apart=True)
    assert name not in [head.name for table in shown.tables[:2] for head in table.columns]
    assert reasons(shown)[name] == reason


def test_undefined_auc_is_printed_with_its_reason_and_never_as_a_number(mixed):
    (numbers,) = [table for table in report.official(mixed, apart=True).tables if "their numbers" in table.title]
    name = next(full_name(head) for head in numbers.columns if "38 of 25,596" in full_name(head))
    cells = column(numbers, name)
    assert cells["Hernia"].text == "n/a (0 positives)"
    assert cells["Hernia"].values["auc"] is None
    assert cells["Mass"].text == "0.826 [0.806, 0.841]"
    assert "(over 12 of 14)" in cells[AVERAGE].text
    assert not any(cell.bold for cell in cells.values())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"images_digest": "other"}, "its 25,596 test images are not the 25,596 of split official"),
        ({"leakage_checked": False}, "not checked against its training images (no split.parquet)"),
        ({"dataset": "chexpert", "label_release": "unknown"}, "data set chexpert, not nih-chestxray14"),
        # Labels that were changed by hand, under the known name.
        (
            {"labels_digest": "99" * 32},
            "v2020 labels with digest 999999999999, not eccf1fac7db1",
        ),
        # Another validation set: the checkpoint was chosen on other images.
        ({"split_digest": "77" * 32}, "split official is not the known one (digest 777777777777)"),
        # A CSV that was cut: its split has 100 training images, and all were used.
        ({"train_images": 100, "train_subset_images": 100}, "trained on 100 training images, not 75,707"),
        ({"train_images": 100}, "trained on 100 training images, not 75,707"),
        ({"image_side": 224}, "source images of 224 pixels, not 1024 pixels"),
    ],
)
def test_what_a_run_was_made_of_keeps_it_out(tmp_path, changes, reason):
    save(tmp_path, make_scores("resnet50-large-meta", "official", **changes))
    shown = report.official(tmp_path, apart=True)
    assert reasons(shown) == {"resnet50-large-meta": reason}
    assert own_columns(shown) == []
    assert "No run compares with these columns" in shown.tables[0].notes[-1]


COUNTED = {name for name in Origin.__dataclass_fields__ if name.endswith(("digest", "images"))}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(field=st.sampled_from(sorted(COUNTED | {"dataset", "label_set", "image_side"})), split=st.integers(0, 5))
def test_any_known_part_that_differs_keeps_a_run_out(tmp_path, field, split):
    """Whatever of the origin is known beforehand decides, on every known split, in the table of that split."""
    name = list(known_splits())[split]
    known = getattr(make_origin(name), field)
    # Pixels, preparation and boxes are compared among runs, not with what is known beforehand.
    among = ("pixels_digest", "preparation_digest", "boxes_digest")
    # Which images a model from elsewhere was chosen by is declared: it says nothing of what it is tested on.
    out = field not in (*among, "validation_digest", "validation_images")
    value = known - 1 if isinstance(known, int) else "chestxray8" if field == "label_set" else "12" * 32
    scores = make_scores("resnet50-large-meta", name)
    if field == "label_set":
        keep = tuple(m for m in scores.subsets["test"].metrics if m.label is None or m.label in ("Mass", "Nodule"))
        scores = replace(scores, subsets={"test": replace(scores.subsets["test"], metrics=keep)})
    save(tmp_path, replace(scores, origin=replace(scores.origin, **{field: value})))
    shown = report.official(tmp_path, apart=True) if name == "official" else report.resampled(tmp_path, apart=True)
    elsewhere = any("Another data set than" in note for table in shown.tables for note in table.notes)
    assert (bool(reasons(shown)) or elsewhere) == out
    for path in sorted(tmp_path.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()


@pytest.mark.parametrize(
    ("changes", "doubt"),
    [
        ({"labels_digest": ""}, "labels unknown"),
        ({"image_side": 0}, "pixels unknown"),
        ({"pixels_digest": "", "split_digest": ""}, "pixels, split unknown"),
        ({"train_images": 0}, "training images unknown"),
        (
            {"basis": Basis(labels="declared", pixels="declared", pretraining="unknown")},
            "labels, pixels declared, not checked; pretraining unknown",
        ),
    ],
)
def test_what_nobody_checked_is_marked(tmp_path, changes, doubt):
    save(tmp_path, make_scores("resnet50-large-meta", "official", **changes))
    shown = report.official(tmp_path, apart=True)
    assert own_columns(shown) == [f"resnet50-large-meta ({doubt})"]
    assert shown.tables[0].columns[-1].heading[-1] == "large-meta *"
    assert f"* resnet50-large-meta: {doubt}" in shown.tables[0].notes


def test_runs_on_other_source_files_than_most_are_kept_out(tmp_path):
    for name in ("resnet38-large-meta", "resnet50-large-meta"):
        save(tmp_path, make_scores(name, "official"))
    negatives = make_scores("resnet101-large-meta", "official", pixels_digest="ef" * 32)
    save(tmp_path, negatives)
    shown = report.official(tmp_path, apart=True)
    assert own_columns(shown) == ["resnet38-large-meta", "resnet50-large-meta"]
    assert reasons(shown)["resnet101-large-meta"] == (
        "source files with digest efefefefefef, while 2 complete runs have abababababab"
    )
    (tmp_path / "resnet38-large-meta").rename(tmp_path.parent / f"{tmp_path.name}-aside")
    shown = report.official(tmp_path, apart=True)
    doubt = "source files differ between the complete runs, and no version of them has a majority"
    assert own_columns(shown) == [f"resnet50-large-meta ({doubt})", f"resnet101-large-meta ({doubt})"]
    assert any("no version of them has a majority" in note for note in shown.tables[0].notes)
    assert all(head.heading[-1].endswith(" *") for head in shown.tables[0].columns if head.own)


def test_many_undefined_labels_are_counted(tmp_path):
    save(tmp_path, undefined(make_scores("resnet50-large-meta", "official"), "Hernia", "Edema", "Mass"))
    assert reasons(report.official(tmp_path, apart=True)) == {
        "resnet50-large-meta": "AUC undefined for 3 of 14 pathologies"
    }


def test_best_is_bold_with_ties_as_printed():
    cells = [0.8446, 0.8454, 0.845, 0.85]
    row = Row("Mass", "Mass", tuple(Cell(f"{value:.3f}", {"auc": value}) for value in cells))
    (bold,) = bold_best([row], "auc", 3, {0, 1, 2})
    assert [cell.bold for cell in bold.cells] == [True, True, True, False]
    (empty,) = bold_best([Row("Mass", "Mass", (Cell("-"),))], "auc", 3, {0})
    assert not empty.cells[0].bold
    (constant,) = bold_best([Row("Mass", "Mass", (Cell("† 0.500", {"auc": 0.5}, competes=False),))], "auc", 3, {0})
    assert not constant.cells[0].bold


def test_two_runs_of_one_name_are_told_apart(tmp_path):
    save(tmp_path, make_scores("resnet50-large-meta", "official"))
    save(tmp_path, make_scores("resnet50-large-meta", "official", 0.01), folder="second-try")
    assert own_columns(report.official(tmp_path, apart=True)) == [
        "resnet50-large-meta",
        "second-try, resnet50-large-meta",
    ]


def test_seeds_and_settings_of_one_name_are_told_apart(tmp_path):
    base = make_scores("mine", "official", model="mine")
    save(tmp_path, base)
    save(tmp_path, replace(base, seed=3))
    save(tmp_path, replace(base, recipe_digest="77" * 32), folder="edited")
    shown = report.official(tmp_path, apart=True)
    assert sorted(own_columns(shown)) == [
        "mine, seed 0, settings 77777777",
        "mine, seeds 0, 3, settings 5e5e5e5e",
    ]


def test_every_column_has_a_heading_of_its_own(tmp_path):
    """Whatever differs between two runs of one name, their headings do."""
    base = make_scores("resnet50-large-meta", "official")
    origin = base.origin
    others = [
        {"changes": ("loss.name=focal",)},
        {"changes": tuple(f"optimizer.beta{number}=0.5" for number in range(5))},
        {"recipe": "mine.toml"},
        {"input_size": 256},
        {"seed": 1},
        {"recipe_digest": "00" * 32},
        {"origin": replace(origin, pretraining="ImageNet")},
        {"origin": replace(origin, initial_weights="11" * 32)},
        {"origin": replace(origin, preparation_digest="22" * 32)},
        {"model": "resnet38-large-meta"},
    ]
    save(tmp_path, base)
    for number, changes in enumerate(others):
        save(tmp_path, replace(base, **changes), folder=f"run-{number}")
    heads = [head for head in report.official(tmp_path, apart=True).tables[0].columns if head.own]
    assert len({head.name for head in heads}) == len({head.heading for head in heads}) == len(others) + 1


# Scores, and the files that they were made of


def test_replaced_and_missing_predictions_keep_a_run_out(tmp_path):
    run = save(tmp_path, make_scores("resnet50-large-meta", "official"))
    test = run / "predictions" / "test.parquet"
    before = test.read_bytes()
    pl.DataFrame({"image_id": ["b.png"]}).write_parquet(test, metadata=dict(pl.read_parquet_metadata(test)))
    found = reasons(report.official(tmp_path, apart=True))["resnet50-large-meta"]
    assert found == "its predictions/test.parquet was replaced after it was scored"
    test.write_bytes(before[:-9])
    assert (
        "predictions/test.parquet cannot be read"
        in reasons(report.official(tmp_path, apart=True))["resnet50-large-meta"]
    )
    test.unlink()
    assert (
        reasons(report.official(tmp_path, apart=True))["resnet50-large-meta"]
        == "its predictions/test.parquet is missing"
    )
    test.write_bytes(before)
    assert reasons(report.official(tmp_path, apart=True)) == {}


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"checkpoint_sha256": "00"}, "checkpoint_sha256"),
        ({"input_size": 448}, "input_size"),
        ({"image_side": 1024}, "image_side"),
    ],
)
def test_scores_that_say_other_than_their_predictions_keep_a_run_out(tmp_path, changes, what):
    """As after an edit of scores.json by hand."""
    scores = make_scores("resnet50-large-meta", "official", input_size=64, image_side=224)
    run = save(tmp_path, scores)
    edited = json.loads((run / "scores.json").read_text())
    for name, value in changes.items():
        (edited["origin"] if name in edited["origin"] else edited)[name] = value
    write_json(run / "scores.json", edited)
    found = reasons(report.official(tmp_path, apart=True))["resnet50-large-meta"]
    assert f"its scores.json says another {what} than its predictions" in found


def test_a_checkpoint_that_is_newer_and_another_keeps_a_run_out(tmp_path):
    run = save(tmp_path, make_scores("resnet50-large-meta", "official", checkpoint_sha256="00" * 32))
    best = run / "checkpoints" / "best.safetensors"
    best.parent.mkdir()
    best.write_bytes(b"trained again")
    scored = (run / "scores.json").stat().st_mtime
    os.utime(best, (scored - 9, scored - 9))
    assert reasons(report.official(tmp_path, apart=True)) == {}
    os.utime(best, (scored + 9, scored + 9))
    assert reasons(report.official(tmp_path, apart=True)) == {
        "resnet50-large-meta": "its checkpoint was replaced after it was scored"
    }


def test_a_broken_or_old_scores_file_is_named_and_does_not_end_the_report(mixed):
    path = mixed / "resnet50-ots" / "official" / "scores.json"
    text = path.read_text()
    path.write_text(text[:200])
    shown = report.official(mixed, apart=True)
    assert any(
        note.startswith("resnet50-ots/official/scores.json: the scores file is not valid JSON") for note in shown.notes
    )
    assert "resnet38-large-meta" in own_columns(shown)
    path.write_text(json.dumps(json.loads(text) | {"schema_version": 1}))
    assert any(
        "scores of schema version 1 (int); this cxrkit reads version 2; train, predict and evaluate again" in note
        for note in report.official(mixed, apart=True).notes
    )
    path.unlink()
    path.mkdir()
    assert any(
        note.startswith("resnet50-ots/official/scores.json: ") for note in report.official(mixed, apart=True).notes
    )


def test_an_odd_digest_does_not_end_the_report(tmp_path):
    for build, split in ((report.official, "official"), (report.resampled, "resample-2")):
        save(tmp_path, make_scores("resnet50-large", split))
        save(tmp_path, make_scores("resnet50-ots", split, split_digest="0123456789abcdef"))
        shown = build(tmp_path, apart=True)
        assert own_columns(shown) == ["resnet50-large"]
        assert f"split {split} is not the known one (digest 0123456789ab)" in reasons(shown)["resnet50-ots"]


def test_numbers_of_another_evaluator_or_label_set_are_named(tmp_path):
    foreign = make_scores("resnet50-large-meta", "official", evaluator="mine:hits")
    hits = tuple(replace(metric, name="hits") for metric in foreign.subsets["test"].metrics)
    save(tmp_path, replace(foreign, subsets={"test": replace(foreign.subsets["test"], metrics=hits)}))
    other = make_scores("chex", "official", dataset="chexpert", label_set="chexpert14")
    aucs = tuple(Metric("auc", 0.8, label, positives=3, negatives=4) for label in (*CHEXPERT.labels, None))
    save(tmp_path, replace(other, subsets={"test": replace(other.subsets["test"], metrics=aucs)}))
    shown = report.official(tmp_path, apart=True)
    assert reasons(shown) == {
        "chex": "data set chexpert, not nih-chestxray14",
        "resnet50-large-meta": "no auc: its evaluator mine:hits gives hits",
    }
    (numbers,) = [table for table in shown.tables if "their numbers" in table.title]
    assert [row.key for row in numbers.rows] == [*CHEXPERT.averaged, AVERAGE, *CHEXPERT.beside]
    for format in report.FORMATS:
        assert "Lung Lesion" in report.render(shown, format)


@pytest.mark.parametrize(
    ("patients", "text"), [(9, "0.900 (9 patients)"), (1, "0.900 (1 patient)"), (500, "0.900 (too few patients)")]
)
def test_an_auc_of_too_few_patients_says_so_where_its_interval_would_be(tmp_path, patients, text):
    few = Metric("auc", 0.9, "Hernia", positives=86, negatives=900, positive_patients=patients, mark="too few patients")
    save(tmp_path, with_metrics(make_scores("resnet50-large-meta", "official", dataset="synthetic"), few))
    (numbers,) = [table for table in report.official(tmp_path, apart=True).tables if "their numbers" in table.title]
    assert next(row for row in numbers.rows if row.key == "Hernia").cells[0].text == text


@pytest.mark.parametrize("fold", splits.FOLDS)
def test_the_real_data_set_is_what_published_numbers_are_compared_on(fold):
    """The reference comes from the manifests; the records and splits of the real data set must agree with it."""
    records = facts.records()
    split = splits.make(records, fold)
    reference = reference_origin(split.name)
    assert differences(reference, origin_of(records, split)) == []
    assert known_splits()[split.name].test_digest == digest_lines(
        split.frame.filter(pl.col("subset") == "test")["image_id"]
    )


def test_a_csv_that_was_cut_keeps_a_run_out(tmp_path):
    """A hundred training images and all of the official test list: accepted before."""
    records = facts.records()
    train = splits.make(records, "official").frame.filter(pl.col("subset") != "test")["image_id"].head(115)
    cut = records.filter((pl.col("official") == "test") | pl.col("image_id").is_in(train.implode()))
    split = splits.make(cut, "official")
    scores = make_scores("resnet50-large-meta", "official")
    save(tmp_path, replace(scores, origin=origin_of(cut, split)))
    found = reasons(report.official(tmp_path, apart=True))["resnet50-large-meta"]
    assert re.search(r"v2020 labels with digest \w+, not eccf1fac7db1; split official is not the known one", found)
    assert re.search(r"trained on \d\d\d? training images, not 75,707", found)


def test_from_predictions_to_the_report(tmp_path):
    """Nothing is made up here: prediction files, evaluated, in a report that says what they are."""
    records = make_records()
    make_run(tmp_path / "mine" / "official", records, make_split(records))
    evaluate_run(
        tmp_path / "mine" / "official", Truth(tmp_path / "records.parquet", records), options={"replicates": 9}
    )
    found = reasons(report.official(tmp_path, apart=True))["resnet50-large-meta"]
    assert "v2020 labels with digest" in found
    assert "split official is not the known one" in found


# The resampling table


def test_resampling_mean_and_deviation(folds):
    table = report.resampled(folds, apart=True).tables[0]
    names = [head.name for head in table.columns]
    assert names == [
        "resnet38-large",
        "resnet50-large-meta",
        "Baltruschat 2019, large, with non-image features",
        "resnet50-ots",
        "Baltruschat 2019, OTS, without non-image features",
    ]
    own = column(table, "resnet50-large-meta")
    aucs = [100 * (BASE["Mass"] + 0.004 * number) for number in range(1, 6)]
    assert own["Mass"].values["auc_x100"] == pytest.approx(np.mean(aucs))
    assert own["Mass"].values["std"] == pytest.approx(np.std(aucs, ddof=1))
    deviations = [own[label].values["std"] for label in PATHOLOGIES]
    assert own[AVERAGE].values["std"] == pytest.approx(np.mean(deviations))
    paper = column(table, names[2])
    assert (paper["Hernia"].text, paper[AVERAGE].text) == ("89.6 ± 4.4", "82.2 ± 1.1")


def test_resampling_counts_folds_and_names_the_missing_ones(folds):
    table = report.resampled(folds, apart=True).tables[0]
    assert [cell.text for cell in table.rows[-1].cells] == ["1 of 5", "5 of 5", "5 of 5", "3 of 5", "5 of 5"]
    notes = "\n".join(table.notes)
    assert (
        "resnet50-ots: average by fold 72.1 (1), 72.4 (2), 73.0 (4), standard deviation 0.46; missing: folds 3, 5"
        in notes
    )
    assert "resnet38-large: average by fold 81.8 (3); missing: folds 1, 2, 4, 5" in notes
    single = column(table, "resnet38-large")["Mass"]
    assert (single.text, single.values["std"]) == ("82.6", None)


def test_only_models_with_all_folds_can_be_best(folds):
    save(folds, make_scores("resnet38-large", "resample-3", 0.06))
    table = report.resampled(folds, apart=True).tables[0]
    assert not any(cell.bold for cell in column(table, "resnet38-large").values())
    assert column(table, "resnet50-large-meta")["Emphysema"].bold


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        # A test set of one's own, and the official list, under the name of a fold.
        ({"split_digest": "ab" * 32}, "split resample-1 is not the known one (digest abababababab)"),
        (
            {"split_digest": known_splits()["official"].digest},
            "split resample-1 is not the known one (digest efe1ba459412)",
        ),
        # The same where the split's digest is not known.
        (
            {"split_digest": "", "images_digest": known_splits()["official"].test_digest},
            "its 22,425 test images are not the 22,425 of split resample-1; split unknown",
        ),
    ],
)
def test_a_test_set_of_ones_own_does_not_pass_for_a_fold(tmp_path, changes, reason):
    save(tmp_path, make_scores("resnet50-large-meta", "resample-1", **changes))
    assert reasons(report.resampled(tmp_path, apart=True)) == {"resnet50-large-meta": reason}


def test_folds_on_other_terms_are_never_pooled(tmp_path):
    """Five folds of three sizes, epochs and seeds: bold and beside the paper before, as if one experiment."""
    terms = [
        {},
        {"changes": ("input.size=64",), "input_size": 64, "recipe_digest": "01" * 32},
        {"changes": ("schedule.epochs=3",), "recipe_digest": "02" * 32},
        {"seed": 7},
        {"recipe_digest": "03" * 32},
    ]
    for number, changes in enumerate(terms, 1):
        save(tmp_path, make_scores("resnet50-large-meta", f"resample-{number}", 0.05, **changes))
    table = report.resampled(tmp_path, apart=True).tables[0]
    assert [head.name for head in table.columns] == [
        "resnet50-large-meta, at 448 px, seed 0, settings 5e5e5e5e",
        "resnet50-large-meta, at 64 px, seed 0",
        "resnet50-large-meta, at 448 px, 3 epochs, seed 0",
        "resnet50-large-meta, at 448 px, seed 7, settings 5e5e5e5e",
        "resnet50-large-meta, at 448 px, seed 0, settings 03030303",
        "Baltruschat 2019, large, with non-image features",
    ]
    assert [cell.text for cell in table.rows[-1].cells] == ["1 of 5"] * 5 + ["5 of 5"]
    assert not any(cell.bold for row in table.rows for cell in row.cells[:-1])


def test_five_folds_on_other_terms_are_named_so_and_no_rivals_of_the_paper(tmp_path):
    for number in range(1, 6):
        other = {"changes": ("input.size=64", "schedule.epochs=3"), "input_size": 64}
        save(tmp_path, make_scores("resnet50-large-meta", f"resample-{number}", 0.05, **other))
    table = report.resampled(tmp_path, apart=True).tables[0]
    assert [" ".join(head.heading) for head in table.columns] == [
        "resnet50- large-meta at 64 px 3 epochs",
        "paper: large with",
    ]
    assert not any(row.cells[0].bold for row in table.rows)
    assert all(row.cells[1].bold for row in table.rows[:-1])
    # The recipe of another name is other terms, too; and a network that the paper does not have is compared.
    for number in range(1, 6):
        save(tmp_path, make_scores("resnet38-large", f"resample-{number}", 0.05))
        save(tmp_path, make_scores("resnet50-ots", f"resample-{number}", 0.06, recipe="mine"))
    table = report.resampled(tmp_path, apart=True).tables[0]
    assert column(table, "resnet38-large")["Cardiomegaly"].bold
    assert not column(table, "resnet50-ots, recipe mine")["Cardiomegaly"].bold


def test_a_constant_label_of_one_fold_is_marked(folds):
    constant = replace(label_metric(NO_FINDING, 0.5, 22_425), constant=True)
    save(folds, with_metrics(make_scores("resnet50-ots", "resample-1"), constant))
    table = report.resampled(folds, apart=True).tables[0]
    assert column(table, "resnet50-ots")[NO_FINDING].text.startswith("† ")
    assert any(note.startswith("†: ") for note in table.notes)


def test_partial_and_official_runs_are_kept_out_of_the_folds(folds):
    shown = report.resampled(folds, apart=True)
    assert reasons(shown) == {"resnet50-ft": "53 of 22,438 test images"}
    assert shown.notes[-1] == "1 run on the official split belongs in another table: `cxrkit report --official-split`"
    shown = report.official(folds, apart=True)
    assert reasons(shown) == {}
    assert shown.notes[-1] == "10 runs on resampling folds belong in another table: `cxrkit report`"


def test_without_comparable_folds_there_is_no_empty_table(tmp_path):
    save(tmp_path, make_scores("small-meta", "resample-1", dataset="synthetic", label_release="synthetic"))
    shown = report.resampled(tmp_path, apart=True)
    assert [table.title for table in shown.tables] == [
        "AUC x 100, mean ± standard deviation over the resampling folds: synthetic"
    ]
    assert shown.notes[0].startswith("No run compares with Table 3 of Baltruschat et al. 2019 yet")


# Nothing to report


@pytest.mark.parametrize("build", [report.official, report.resampled])
def test_no_runs(tmp_path, build):
    with pytest.raises(UserError, match="there is no such folder of runs") as caught:
        build(tmp_path / "runs", apart=True)
    assert "cxrkit train" in str(caught.value)
    (tmp_path / "runs" / "resnet50-ots" / "official" / "predictions").mkdir(parents=True)
    with pytest.raises(UserError, match="no evaluated run") as caught:
        build(tmp_path / "runs", apart=True)
    assert "resnet50-ots/official: not evaluated yet (no scores.json)" in str(caught.value)
    assert "cxrkit evaluate" in str(caught.value)


def test_a_run_with_validation_scores_only_is_unfinished(tmp_path):
    scores = make_scores("resnet50-ots", "official")
    save(tmp_path, replace(scores, subsets={"val": replace(scores.subsets["test"], subset="val")}))
    with pytest.raises(UserError, match="resnet50-ots/official: no test scores, only val"):
        report.official(tmp_path, apart=True)


JUNK = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.lists(st.integers(), max_size=2)
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), junk=JUNK)
def test_whatever_stands_in_scores_there_is_a_report_or_a_users_error(tmp_path, data, junk):
    """Values of right and of wrong kinds; every output survives those that are accepted."""
    run = save(tmp_path, make_scores("resnet50-large-meta", "official"))
    value = json.loads((run / "scores.json").read_text())
    where = data.draw(
        st.sampled_from([value, value["origin"], value["subsets"]["test"], value["subsets"]["test"]["metrics"][0]])
    )
    where[data.draw(st.sampled_from(sorted(where)))] = junk
    (run / "scores.json").write_text(json.dumps(value))
    for build in (report.official, report.resampled):
        try:
            shown = build(tmp_path, apart=True)
        except UserError:
            continue
        assert terminal(shown, 80)
        assert all(report.render(shown, format) for format in report.FORMATS)


# The command


def command(*arguments: object, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "cxrkit", *map(str, arguments)],
        capture_output=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        timeout=120,
    )


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_report_without_utf8(folds, tmp_path, encoding):
    """An internal error before: the table's "±" ended it."""
    out = tmp_path / "table [1].md"
    done = command("report", "--runs", folds, "--out", out, PYTHONIOENCODING=encoding, LANG="C")
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode(encoding)
    assert "89.6 +- 4.4" in text if encoding == "ascii" else "89.6 ± 4.4" in text
    assert f"written: {out}" in text
    assert "89.6 ± 4.4" in out.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith(("Mass", "Hernia", "Average"))][:3]
    assert len({len(line.rstrip()) for line in lines}) == 1  # the longer "+-" is reckoned with


def test_a_rendered_report_and_errors_without_utf8(folds, tmp_path):
    done = command("report", "--runs", folds, "--format", "md", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert b"89.6 +- 4.4" in done.stdout
    done = command("report", "--runs", tmp_path / "Läufe", PYTHONIOENCODING="ascii")
    assert done.returncode == 2
    assert b"L?ufe: there is no such folder of runs" in done.stderr


def test_brackets_in_the_folder_of_runs(tmp_path):
    runs = tmp_path / "r [exp1]"
    save(runs, make_scores("resnet50-large-meta", "official"))
    assert own_columns(report.official(runs, apart=True)) == ["resnet50-large-meta"]


# How it looks


@pytest.mark.parametrize(("format", "ending"), [("md", "md"), ("csv", "csv"), ("latex", "tex"), ("json", "json")])
def test_golden_official(mixed, format, ending):
    check_golden(f"report_official.{ending}", report.render(report.official(mixed, apart=True), format))


@pytest.mark.parametrize(("format", "ending"), [("md", "md"), ("csv", "csv"), ("latex", "tex"), ("json", "json")])
def test_golden_resampled(folds, format, ending):
    check_golden(f"report_resampled.{ending}", report.render(report.resampled(folds, apart=True), format))


@pytest.mark.parametrize("width", [80, 120])
def test_golden_terminal(mixed, folds, width):
    check_golden(f"report_official_{width}.txt", terminal(report.official(mixed, apart=True), width))
    check_golden(f"report_resampled_{width}.txt", terminal(report.resampled(folds, apart=True), width))


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_no_number_is_cut_at_any_width(mixed, folds, width):
    for shown in (report.official(mixed, apart=True), report.resampled(folds, apart=True)):
        text = terminal(shown, width)
        assert "…" not in text
        for table in shown.tables:
            for row in table.rows:
                for head, cell in zip(table.columns, row.cells, strict=True):
                    assert head.left or cell.text in text
        assert max(map(len, text.splitlines())) <= width


def test_csv_has_one_row_for_each_run_label_and_metric(mixed):
    rows = tidy_rows(report.official(mixed, apart=True))
    assert len({(row["table"], row["run"], row["label"], row["metric"]) for row in rows}) == len(rows)
    assert [row["value"] for row in rows if row["run"] == "resnet38-large-meta" and row["metric"] == "rank"] != []
    own = [row for row in rows if row["run"] == "resnet38-large-meta" and row["table"] != "rank"]
    assert [row["label"] for row in own] == [*PATHOLOGIES, AVERAGE, NO_FINDING]
    assert {row["table"] for row in own} == {"table5"}
    assert {row["source"] for row in own} == {"own"}
    first = own[0]
    assert (first["metric"], float(first["value"])) == ("auc", pytest.approx(0.925))
    assert float(first["upper"]) == pytest.approx(0.94)
    assert (first["positives"], first["positive_patients"], first["n_eff"]) == ("500", "240", "1234.5")
    assert [row["label"] for row in own if row["approximate"]] == ["Hernia", AVERAGE]
    numbers = rows[0].keys() - {"report", "table", "run", "source", "label", "metric", "doubts", "text"}
    assert all(row[name] == "" or math.isfinite(float(row[name])) for row in rows for name in numbers)
    kept_out = [row for row in rows if "not comparable: 38 of 25,596 test images" in row["doubts"]]
    assert {row["label"]: row["text"] for row in kept_out}["Hernia"] == "n/a (0 positives)"
    published = {row["run"] for row in rows if row["source"] == "published" and row["table"] == "table5"}
    assert len(published) == 6


def test_latex_escapes_and_balances(mixed, folds):
    save(mixed, make_scores("my_lab.nets:wide_50", "official", 0.001))
    for shown in (report.official(mixed, apart=True), report.resampled(folds, apart=True)):
        text = report.render(shown, "latex")
        code = [re.sub(r"(?<!\\)%.*", "", line) for line in text.splitlines()]
        body = "\n".join(code)
        for kind in ("table", "longtable", "tabular"):
            assert body.count(f"\\begin{{{kind}}}") == body.count(f"\\end{{{kind}}}")
        titles = re.findall(r"\\caption{((?:[^{}]|{[^{}]*})*)}", body)
        assert len([title for title in titles if "(continued)" not in title]) == len(shown.tables)
        unescaped = re.sub(r"\\.", "", body)
        assert unescaped.count("{") == unescaped.count("}")
        assert "_" not in unescaped
        assert "#" not in unescaped
        assert "±" not in body
        for table in re.findall(r"\\begin{tabular}{@{}(.*?)@{}}\n(.*?)\\end{tabular}", body, re.DOTALL):
            columns = len(re.sub(r">{.*?}p{\d+pt}", "p", table[0]))
            lines = [line for line in table[1].splitlines() if line.endswith("\\\\")]
            assert {len(re.findall(r"(?<!\\)&", line)) for line in lines} == {columns - 1}
    assert "my\\_lab." in report.render(report.official(mixed, apart=True), "latex")


def test_markdown_escapes_names(mixed):
    text = report.render(report.official(mixed, apart=True), "md")
    assert "my\\_lab.nets:wide\\_50" in text
    rows = [line for line in text.splitlines() if line.startswith("| Mass")]
    assert len(rows) == 3  # comparison, intervals, numbers of the runs kept out


def test_a_line_end_in_a_name_breaks_no_row(tmp_path):
    save(tmp_path, make_scores("resnet50-large-meta", "official"))
    save(tmp_path, make_scores("two\n\nlines | here", "official"), folder="odd")
    shown = report.official(tmp_path, apart=True)
    columns = len(shown.tables[0].columns)
    (mass, *_) = [line for line in report.render(shown, "md").splitlines() if line.startswith("| Mass")]
    head = next(line for line in report.render(shown, "md").splitlines() if line.startswith("| Pathology"))
    assert len(re.findall(r"(?<!\\)\|", head)) == len(re.findall(r"(?<!\\)\|", mass)) == columns + 2
    assert "two lines" in head.replace("<br>", " ")
    table = report.render(shown, "latex").partition("\\begin{tabular}")[2].partition("\\end{tabular}")[0]
    assert all(line.strip() for line in table.rstrip().splitlines())


def test_write_is_atomic_and_follows_the_format(mixed, tmp_path):
    shown = report.official(mixed, apart=True)
    out = tmp_path / "new" / "table.md"
    report.write(shown, out, report.format_of(out))
    assert out.read_text(encoding="utf-8") == report.render(shown, "md")
    assert report.format_of(Path("a.tex")) == "latex"
    with pytest.raises(UserError, match=r"the ending '\.docx' names no format"):
        report.format_of(Path("a.docx"))
    with pytest.raises(UserError, match="--format odt: there is no such format"):
        report.write(shown, out, "odt")
    assert [path.name for path in out.parent.iterdir()] == ["table.md"]


def test_a_heading_says_parts_by_what_they_are_and_no_size_that_is_not_known(tmp_path):
    elsewhere = {"recipe": "imported", "input_size": 0, "model": "resnet50-large-meta"}
    save(tmp_path, make_scores("theirs", "official", **elsewhere))
    save(tmp_path, make_scores("mine", "official", model="resnet50-large-meta", changes=("loss.name=focal",)))
    mine, theirs = own_columns(report.official(tmp_path, apart=True))
    assert mine == "mine, resnet50-large-meta, loss focal"
    assert theirs == "theirs, resnet50-large-meta"
    assert "0 px" not in report.render(report.official(tmp_path, apart=True), "md")


def test_a_network_that_looks_at_no_image_is_not_said_to_be_at_some_size(tmp_path):
    save(tmp_path, make_scores("mlp-meta", "official", input_size=32, basis=Basis(pixels="unused")))
    (note,) = [note for note in report.official(tmp_path, apart=True).tables[0].notes if note.startswith("mlp-meta: ")]
    assert note.startswith("mlp-meta: trained without images, recipe mlp-meta, epoch 12")


def test_headings_break_after_hyphens():
    assert heading_lines("resnet50-large-meta") == ("resnet50-", "large-meta")
    assert "".join(heading_lines("package.module:function")) == "package.module:function"
    assert all(len(line) <= 11 for line in heading_lines("resnet101-1channel-meta"))


def test_a_run_that_is_called_like_a_network_says_what_it_is(tmp_path):
    """--model mine:net --name resnet50-large-meta is no ResNet-50."""
    save(tmp_path, make_scores("resnet50-large-meta", "official", model="mine:net", recipe="mine:net", input_size=64))
    save(tmp_path, make_scores("exp1", "official", model="resnet38-large-meta", recipe="resnet38-large-meta"))
    assert own_columns(report.official(tmp_path, apart=True)) == [
        "exp1, resnet38-large-meta",
        "resnet50-large-meta, mine:net",
    ]
    for fold in range(1, 6):
        save(tmp_path, make_scores("resnet50-large-meta", f"resample-{fold}", model="mine:net", recipe="mine:net"))
    assert own_columns(report.resampled(tmp_path, apart=True)) == ["resnet50-large-meta, mine:net"]


@pytest.mark.parametrize("build", [report.official, report.resampled])
def test_another_evaluators_auc_is_marked(tmp_path, build):
    for split in ("official", "resample-1"):
        save(tmp_path, make_scores("resnet50-large-meta", split, evaluator="mine:auc"))
    shown = build(tmp_path, apart=True)
    (name,) = own_columns(shown)
    assert "auc by evaluator mine:auc, not by cxrkit's own" in name
    assert any("*" in line for head in shown.tables[0].columns if head.own for line in head.heading)


def test_other_metadata_keep_a_run_out(tmp_path):
    save(tmp_path, make_scores("resnet50-large-meta", "official", metadata_digest="77" * 32))
    assert (
        "ages, sexes and views with digest 777777777777, not"
        in reasons(report.official(tmp_path, apart=True))["resnet50-large-meta"]
    )


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (("jpeg", 95, (1024, 512, 256)), False),
        (("raw", 0, (1024, 512, 256)), False),
        (("jpeg", 10, (1024, 512, 256)), True),
        (("jpeg", 95, (128,)), True),
    ],
)
def test_pixels_that_were_prepared_otherwise_are_named_in_the_heading(
    settings: tuple[str, int, tuple[int, ...]], named: bool
) -> None:
    """A JPEG of quality 10 is another experiment than the paper's, whatever network looks at it."""
    scores = make_scores("resnet50-large-meta", "official")
    digest = ShardSettings("nih-chestxray14", *settings, 1024).digest
    scores = replace(scores, origin=replace(scores.origin, preparation_digest=digest))
    variant = variant_of(Run(Path("runs/x/official"), scores.name, scores))
    words = details([variant], {})[variant]
    assert (f"prepared {digest[:8]}" in words) == named


@pytest.mark.parametrize(
    ("name", "lines"),
    [("", ("",)), ("area_min 0.4", ("area_min", "0.4")), ("a.b", ("a.b",)), ("resnet50-large", ("resnet50-", "large"))],
)
def test_a_heading_breaks_after_punctuation_and_never_inside_a_number(name: str, lines: tuple[str, ...]) -> None:
    assert heading_lines(name, 9) == lines
