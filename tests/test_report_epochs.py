"""Which epoch stands in a report, and several seeds of one network in one column."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_report import (
    BASE,
    IDENTITY,
    check_golden,
    column,
    make_scores,
    own_columns,
    reasons,
    save,
    terminal,
    tidy_rows,
)

from cxrkit import report
from cxrkit.base.contracts import PATHOLOGIES
from cxrkit.report.document.tables import AVERAGE
from cxrkit.report.evidence.epochs import choose
from cxrkit.report.evidence.seeds import within
from cxrkit.report.rendering.tidy import QUALIFIERS
from cxrkit.runs.config import TrainConfig, to_toml
from cxrkit.runs.epoch_scores import EpochScores, RunEpochs, read_epoch_scores, write_epoch_scores
from cxrkit.runs.epochs import predictions_of
from cxrkit.runs.folder import RunFolder
from cxrkit.runs.predictions import METADATA_KEY, read_prediction_info
from cxrkit.runs.scores import Scores, SubsetScores, read_scores


def keep(path: Path, scores: Scores, losses: dict[int, float], shift: float = 0.0) -> RunFolder:
    """Keep epochs beside a run that `save` wrote: the AUCs of epoch e are at shift + e / 1000."""
    run = RunFolder(path)
    items = []
    for epoch, loss in losses.items():
        seed, split, name = scores.seed, scores.origin.split, scores.name
        test = make_scores(name, split, shift + epoch / 1000, seed=seed).subsets["test"]
        bare = tuple(replace(metric, lower=None, upper=None, interval="none") for metric in test.metrics)
        about = {field: value for field, value in asdict(scores).items() if field in IDENTITY}
        about |= {"subset": "test", "subset_images": test.subset_images, "format_version": 2}
        about |= {"epoch": epoch, "checkpoint_sha256": ""}
        file = predictions_of(run, epoch, "test")
        file.parent.mkdir(parents=True, exist_ok=True)
        pl.DataFrame({"image_id": ["a.png"]}).write_parquet(file, metadata={METADATA_KEY: json.dumps(about)})
        test = replace(test, metrics=bare, predictions_sha256=read_prediction_info(file)[1])
        items.append(EpochScores(epoch, loss, 0.7, "00", test))
    own = read_scores(run.scores).subsets["test"].predictions_sha256
    write_epoch_scores(run.epoch_scores, RunEpochs("auc", own, tuple(items)))
    return run


def kept(
    runs: Path, fold: int, losses: dict[int, float], seed: int = 0, name: str = "resnet50-large-meta"
) -> RunFolder:
    best = min(losses, key=lambda epoch: losses[epoch])
    scores = make_scores(name, f"resample-{fold}", 0.01 * fold + best / 1000, epoch=best, seed=seed)
    return keep(save(runs, scores), scores, losses, 0.01 * fold)


LOSSES = {
    1: {1: 0.20, 2: 0.18, 3: 0.19},
    2: {1: 0.20, 2: 0.17, 3: 0.16},
    3: {1: 0.21, 2: 0.19, 3: 0.22},
}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Three folds whose own best epochs are 2, 3 and 2; on average it is the second."""
    for fold, losses in LOSSES.items():
        kept(tmp_path / "runs", fold, losses)
    return tmp_path / "runs"


def mass(shown: report.Report) -> float:
    (name,) = own_columns(shown)
    value = column(shown.tables[0], name)["Mass"].values["auc_x100"]
    assert value is not None
    return value


# The choice


def test_own_and_common_epochs(runs: Path) -> None:
    own, common = report.resampled(runs, apart=True), report.resampled(runs, epoch="common", apart=True)
    base = 100 * BASE["Mass"]
    assert mass(own) == pytest.approx(base + np.mean([1.2, 2.3, 3.2]))
    assert mass(common) == pytest.approx(base + np.mean([1.2, 2.2, 3.2]))
    assert own_columns(own) == ["resnet50-large-meta"]
    assert own_columns(common) == ["resnet50-large-meta, epoch 2"]
    assert any(note.startswith("Epochs: each run at its own best one") for note in own.tables[0].notes)
    notes = "\n".join(common.tables[0].notes)
    assert "Epochs: for each column of runs the one with the lowest validation loss averaged over its runs" in notes
    assert "resnet50-large-meta, epoch 2: validation loss 0.1800 over 3 runs, the lowest of 3 epochs" in notes
    assert reasons(common) == {}


@given(
    st.lists(st.lists(st.integers(1, 4), min_size=5, max_size=5), min_size=1, max_size=5), st.sets(st.integers(0, 4))
)
def test_the_lowest_mean_of_the_epochs_that_all_have_the_earliest_of_equal_ones(
    losses: list[list[int]], absent: set[int]
) -> None:
    test = SubsetScores("test", 1, 1, "", 1, "", True, ())
    found = []
    for number, row in enumerate(losses):
        epochs = [epoch for epoch in range(5) if not (number == 0 and epoch in absent)]
        found.append(RunEpochs("auc", "", tuple(EpochScores(e + 1, row[e] / 8, None, "", test) for e in epochs)))
    common = choose(found) if len(absent) < 5 else None
    if len(absent) == 5:
        return
    sums = {epoch + 1: sum(row[epoch] for row in losses) for epoch in range(5) if epoch not in absent}
    assert common is not None
    assert common.epoch == min(epoch for epoch, total in sums.items() if total == min(sums.values()))
    assert common.val_loss == pytest.approx(min(sums.values()) / 8 / len(losses))
    assert common.candidates == len(sums)
    assert set(common.lacking) <= {epoch + 1 for epoch in absent}


def test_without_an_epoch_that_all_have_there_is_none() -> None:
    test = SubsetScores("test", 1, 1, "", 1, "", True, ())
    one, other = (RunEpochs("auc", "", (EpochScores(epoch, 0.1, None, "", test),)) for epoch in (1, 2))
    assert choose([one, other]) is None


def test_epochs_that_not_all_runs_kept_are_named(tmp_path: Path) -> None:
    kept(tmp_path, 1, {3: 0.30, 4: 0.28})
    kept(tmp_path, 2, {1: 0.1, 2: 0.1, 3: 0.3, 4: 0.2})
    shown = report.resampled(tmp_path, epoch="common", apart=True)
    assert own_columns(shown) == ["resnet50-large-meta, epoch 4"]
    assert any("; not among them, since not all runs kept them: epochs 1, 2" in note for note in shown.tables[0].notes)


def test_runs_without_kept_epochs_are_named_not_dropped(runs: Path) -> None:
    save(runs, make_scores("resnet50-large-meta", "resample-4"))
    shown = report.resampled(runs, epoch="common", apart=True)
    assert reasons(shown) == {
        "resnet50-large-meta": "the predictions of its epochs were not kept, so there is no epoch that it has in "
        "common with others (`--keep-epochs` when training, or `--epoch own` here)"
    }
    assert any("missing: folds 4, 5" in note for note in shown.tables[0].notes)
    assert reasons(report.resampled(runs, apart=True)) == {}


def test_a_run_by_itself_needs_no_kept_epochs(tmp_path: Path) -> None:
    """In the official split there is one run: its own best epoch is the common one, if it was chosen by the loss."""
    run = save(tmp_path, make_scores("resnet50-large-meta", "official"))
    assert reasons(report.official(tmp_path, epoch="common", apart=True)).keys() == {"resnet50-large-meta"}, (
        "nobody knows by what"
    )
    (run / "config.toml").write_text(to_toml(TrainConfig()))
    shown = report.official(tmp_path, epoch="common", apart=True)
    assert own_columns(shown) == ["resnet50-large-meta, epoch 12"]
    note = "resnet50-large-meta, epoch 12: one run, whose own best epoch is the common one"
    assert note in shown.tables[0].notes
    intervals = column(shown.tables[1], "resnet50-large-meta, epoch 12")
    assert intervals["Mass"].text == "[0.806, 0.841]"
    (run / "config.toml").write_text(to_toml(TrainConfig().with_values({"selection.metric": "val_auc"})))
    assert reasons(report.official(tmp_path, epoch="common", apart=True)).keys() == {"resnet50-large-meta"}


# The gates


def test_a_kept_file_that_was_replaced_costs_its_run_and_the_others_choose_anew(runs: Path) -> None:
    """Without fold 3 the third epoch is the best."""
    run = RunFolder(runs / "resnet50-large-meta" / "resample-3")
    path = predictions_of(run, 2, "test")
    content = path.read_bytes()
    scores = read_scores(run.scores)
    assert scores.epoch == 2, "at its own best epoch a run stands by its own predictions"
    write_epoch_scores(
        run.epoch_scores,
        replace(
            read_epoch_scores(run.epoch_scores, scores.labels),
            epochs=tuple(
                replace(item, val_loss=0.1 if item.epoch == 1 else 0.9)
                for item in read_epoch_scores(run.epoch_scores, scores.labels).epochs
            ),
        ),
    )
    for fold in (1, 2):
        other = RunFolder(runs / "resnet50-large-meta" / f"resample-{fold}")
        found = read_epoch_scores(other.epoch_scores, scores.labels)
        items = tuple(replace(item, val_loss={1: 0.3, 2: 0.25, 3: 0.2}[item.epoch]) for item in found.epochs)
        write_epoch_scores(other.epoch_scores, replace(found, epochs=items))
    assert own_columns(report.resampled(runs, epoch="common", apart=True)) == ["resnet50-large-meta, epoch 1"]
    predictions_of(run, 1, "test").write_bytes(content)
    shown = report.resampled(runs, epoch="common", apart=True)
    assert own_columns(shown) == ["resnet50-large-meta, epoch 3"]
    assert reasons(shown)["resnet50-large-meta"] == (
        "its predictions/epochs/001-test.parquet was replaced after it was scored"
    )
    predictions_of(run, 1, "test").unlink()
    shown = report.resampled(runs, epoch="common", apart=True)
    assert reasons(shown)["resnet50-large-meta"] == "its predictions/epochs/001-test.parquet is missing"


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda run: run.epoch_scores.write_text("{"), "the scores of the epochs is not valid JSON"),
        (
            lambda run: write_epoch_scores(run.epoch_scores, RunEpochs("auc", "other", ())),
            "its epochs.json is not of its scores.json: write both again with `cxrkit evaluate`",
        ),
        (
            lambda run: write_epoch_scores(
                run.epoch_scores,
                RunEpochs("auc", read_scores(run.scores).subsets["test"].predictions_sha256, (), {"1": "it is odd"}),
            ),
            "none of the epochs that it kept can be used: it is odd",
        ),
        (lambda run: run.predictions("test").unlink(), "its predictions/test.parquet is missing"),
    ],
)
def test_what_is_wrong_with_one_runs_epochs_is_said(damage, reason: str, runs: Path) -> None:  # type: ignore[no-untyped-def]
    damage(RunFolder(runs / "resnet50-large-meta" / "resample-2"))
    shown = report.resampled(runs, epoch="common", apart=True)
    assert reason in reasons(shown)["resnet50-large-meta"]
    assert [cell.text for cell in shown.tables[0].rows[-1].cells[:1]] == ["2 of 5"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"leakage_checked": False}, "not checked against its training images (no split.parquet)"),
        ({"images": 53}, "53 of 22,407 test images"),
        ({"images_digest": "other"}, "its 22,407 test images are not the 22,407 of split resample-2"),
    ],
)
def test_scores_at_a_common_epoch_pass_the_same_gates(change: dict[str, object], reason: str, runs: Path) -> None:
    run = RunFolder(runs / "resnet50-large-meta" / "resample-2")
    found = read_epoch_scores(run.epoch_scores, read_scores(run.scores).labels)
    items = tuple(replace(item, test=replace(item.test, **change)) for item in found.epochs)  # type: ignore[arg-type]
    write_epoch_scores(run.epoch_scores, replace(found, epochs=items))
    said = reasons(report.resampled(runs, epoch="common", apart=True))["resnet50-large-meta"]
    test = read_scores(run.scores).subsets["test"]
    assert said == reason.replace("22,407", f"{test.subset_images:,}")


# Several seeds


@pytest.fixture
def seeded(tmp_path: Path) -> Path:
    """Two folds with three seeds each, a seed with one fold, and a network of one seed."""
    folder = tmp_path / "seeded"
    for fold in (1, 2):
        for seed in (0, 1, 2):
            save(folder, make_scores("resnet50-large-meta", f"resample-{fold}", 0.01 * fold + 0.003 * seed, seed=seed))
    save(folder, make_scores("resnet50-large-meta", "resample-1", 0.05, seed=7))
    save(folder, make_scores("resnet50-ots", "resample-1"))
    for seed in (0, 1, 4):
        save(folder, make_scores("resnet50-large-meta", "official", 0.004 * seed, seed=seed))
    save(folder, make_scores("resnet38-large-meta", "official"))
    return folder


def test_seeds_are_averaged_in_each_fold_and_their_spread_stands_apart(seeded: Path) -> None:
    shown = report.resampled(seeded, apart=True)
    assert own_columns(shown) == [
        "resnet50-large-meta, seeds 0 to 2", "resnet50-large-meta, seed 7", "resnet50-ots"
    ]  # fmt: skip
    table = shown.tables[0]
    cell = column(table, "resnet50-large-meta, seeds 0 to 2")["Mass"]
    base = 100 * BASE["Mass"]
    assert cell.values["auc_x100"] == pytest.approx(base + 1.5 + 0.3)
    assert cell.values["std"] == pytest.approx(np.std([1.3, 2.3], ddof=1)), "over the folds' means"
    assert cell.values["std_seeds"] == pytest.approx(0.3), "within the folds"
    assert (cell.values["folds"], cell.values["seeds"]) == (2, 3)
    assert [(row.heading, row.cells[0].text, row.cells[1].text) for row in table.rows[-2:]] == [
        ("Folds", "2 of 5", "1 of 5"), ("Seeds", "3", "-"),
    ]  # fmt: skip
    notes = "\n".join(table.notes)
    assert "standard deviation over the folds of the means over the seeds" in notes
    assert re.search(
        r"seeds 0 to 2: average by fold 83\.1 \(1\), 84\.1 \(2\), .*; by seed 83\.3 \(0\), 83\.6 \(1\)", notes
    )
    (spread,) = [table for table in shown.tables if table.title == "AUC x 100, standard deviation over the seeds"]
    assert [row.cells[0].text for row in spread.rows] == ["0.30"] * 16


def test_official_seeds_are_one_column_with_mean_and_deviation(seeded: Path) -> None:
    shown = report.official(seeded, apart=True)
    assert own_columns(shown) == ["resnet38-large-meta", "resnet50-large-meta, seeds 0, 1, 4"]
    cell = column(shown.tables[0], "resnet50-large-meta, seeds 0, 1, 4")["Mass"]
    values = [BASE["Mass"] + 0.004 * seed for seed in (0, 1, 4)]
    assert cell.values["auc"] == pytest.approx(np.mean(values))
    assert cell.values["std_seeds"] == pytest.approx(np.std(values, ddof=1))
    assert cell.text == f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}"
    assert cell.bold, "a mean over seeds competes as any other"
    notes = "\n".join(shown.tables[0].notes)
    assert "±: sample standard deviation over the seeds (n - 1)" in notes
    assert "mean of 3 runs trained at 448 px, recipe resnet50-large-meta: seed 0, epoch 12, checkpoint c0ffee" in notes
    heads = [head.name for head in shown.tables[1].columns]
    assert heads[:2] == ["positives", "effective patients"]
    assert heads[2:] == ["resnet38-large-meta", *(f"resnet50-large-meta, seed {seed}" for seed in (0, 1, 4))]


def test_seeds_in_csv_have_plain_numbers(seeded: Path) -> None:
    row = next(row for row in tidy_rows(report.official(seeded)) if row["run"] == "resnet50-large-meta, seed 1")
    assert (row["table"], row["metric"]) == ("intervals", "auc")
    found = [float(row[name]) for name in ("value", "lower", "upper")]
    auc = BASE[row["label"]] + 0.004
    assert found == pytest.approx([auc, auc - 0.02, auc + 0.015], abs=1e-5)
    for shown, metric, said in (
        (report.official(seeded), "auc", {"std_seeds", "seeds", "positives"}),
        (report.resampled(seeded), "auc_x100", {"std", "folds", "std_seeds", "seeds"}),
    ):
        name = next(name for name in own_columns(shown) if "seeds" in name)
        rows = [row for row in tidy_rows(shown) if row["run"] == name]
        assert [row["label"] for row in rows[:15]] == [*PATHOLOGIES, AVERAGE]
        assert {row["metric"] for row in rows} == {metric}
        assert {key for key in QUALIFIERS if any(row[key] for row in rows)} == said
        assert all(float(row[key]) >= 0 for row in rows for key in {"value", *said} if key != "positives" or row[key])


def test_a_column_has_whole_seeds_at_a_common_epoch_too(tmp_path: Path) -> None:
    """A seed of which one fold kept nothing is no part of the others' mean."""
    for fold in (1, 2):
        for seed in (0, 1):
            run = kept(tmp_path, fold, {1: 0.2, 2: 0.1 + 0.1 * seed}, seed)
    run.epoch_scores.unlink()
    shown = report.resampled(tmp_path, epoch="common", apart=True)
    assert own_columns(shown) == ["resnet50-large-meta, seed 0, epoch 2", "resnet50-large-meta, seed 1, epoch 1"]
    assert [cell.text for cell in shown.tables[0].rows[-1].cells[:2]] == ["2 of 5", "1 of 5"]


def test_seeds_of_the_official_split_have_a_common_epoch(tmp_path: Path) -> None:
    for seed, losses in enumerate([{1: 0.2, 2: 0.1}, {1: 0.15, 2: 0.3}]):
        scores = make_scores("resnet50-large-meta", "official", 0.01 * seed, seed=seed, epoch=2 - seed)
        keep(save(tmp_path, scores), scores, losses, 0.01 * seed)
    shown = report.official(tmp_path, epoch="common", apart=True)
    assert own_columns(shown) == ["resnet50-large-meta, seeds 0, 1, epoch 1"]
    assert "seed 0, epoch 1, by its kept predictions; seed 1, epoch 1, checkpoint c0ffee" in "\n".join(
        shown.tables[0].notes
    )
    assert "-: an epoch that is not the run's own best one has no intervals" in shown.tables[1].notes
    cells = {
        head.name: row.text for head, row in zip(shown.tables[1].columns, shown.tables[1].rows[0].cells, strict=True)
    }
    assert cells["resnet50-large-meta, seed 0, epoch 1"] == "-"
    assert cells["resnet50-large-meta, seed 1, epoch 1"].startswith("[0.")


def test_spread_within_groups() -> None:
    assert within([[1.0, 3.0], [5.0, 5.0], [9.0]]) == pytest.approx(1.0)
    assert within([[1.0], []]) is None


# How it looks


@pytest.mark.parametrize(("format", "ending"), [("md", "md"), ("csv", "csv"), ("latex", "tex"), ("json", "json")])
def test_golden_seeds(seeded: Path, format: str, ending: str) -> None:
    check_golden(f"report_seeds.{ending}", report.render(report.resampled(seeded, apart=True), format))
    check_golden(f"report_official_seeds.{ending}", report.render(report.official(seeded, apart=True), format))


def test_golden_terminal(runs: Path, seeded: Path) -> None:
    check_golden("report_seeds_80.txt", terminal(report.resampled(seeded, apart=True), 80))
    check_golden("report_official_seeds_80.txt", terminal(report.official(seeded, apart=True), 80))
    check_golden("report_common_80.txt", terminal(report.resampled(runs, epoch="common", apart=True), 80))
