"""A folder of tables without pixels, and a network that looks at no image."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import chestxray14_facts
import polars as pl
import pytest
from rich.console import Console

from cxrkit import pipeline, recipes
from cxrkit.base.contracts import Records
from cxrkit.base.errors import UserError
from cxrkit.datasets.phantom.cohort import read
from cxrkit.prepare.stage import PrepareConfig, prepare_raw, prepare_tables
from cxrkit.prepare.verify import verify
from cxrkit.runs.config import TrainConfig
from cxrkit.runs.folder import RunFolder
from cxrkit.runs.scores import read_scores
from cxrkit.shards.file import ShardSettings
from cxrkit.shards.index import Listed, index_frame, read_description, write_generation
from cxrkit.shards.store import ShardStore


@pytest.fixture
def console() -> Console:
    return Console(quiet=True)


@pytest.fixture
def tables(cohort: Path, tmp_path: Path) -> Path:
    """Return a folder of the cohort's tables, made from a download without any image."""
    raw = tmp_path / "csv-alone"
    shutil.copytree(cohort, raw, ignore=shutil.ignore_patterns("*.png"))
    prepare_raw(PrepareConfig(raw=raw, data=tmp_path / "tables", dataset="synthetic", tables_only=True))
    return tmp_path / "tables"


def config(data: Path, runs: Path, **values: Any) -> TrainConfig:
    given = {"run.data": data, "run.runs": runs, "run.threads": 1, "run.device": "cpu", "run.precision": "fp32"}
    return recipes.load("mlp-meta").with_values(given | values)


def few(data: Path, runs: Path, **values: Any) -> TrainConfig:
    return config(data, runs, **({"schedule.epochs": 2, "optimizer.batch_size": 8} | values))


def predicted(run: RunFolder) -> pl.DataFrame:
    return pl.read_parquet(run.predictions("test"))


def mean_auc(run: RunFolder) -> float:
    mean = read_scores(run.scores).subsets["test"].metric("auc")
    assert mean is not None
    assert mean.value is not None
    return mean.value


def test_tables_alone_need_no_image(tables: Path, cohort: Path) -> None:
    about = read_description(tables)
    assert (about.levels, about.shards, about.prepared_images) == ((), [], 0)
    store = ShardStore(tables)
    assert store.records().equals(read(cohort).frame.select(store.records().columns))
    assert len(store) == 0
    assert verify(tables).ok


def test_a_network_without_images_sees_every_row(
    tables: Path, prepared: Path, tmp_path: Path, console: Console
) -> None:
    alone = pipeline.train(few(tables, tmp_path / "one"), False, console)
    beside = pipeline.train(few(prepared, tmp_path / "other"), False, console)
    assert predicted(alone).equals(predicted(beside)), "with or without pixels beside the tables"
    assert len(predicted(alone)) == read_scores(alone.scores).subsets["test"].subset_images
    one, other = (read_scores(run.scores).origin for run in (alone, beside))
    assert one == other
    assert (one.pixels_digest, one.image_side, one.basis.pixels) == ("", 0, "unused")
    assert one.complete


def test_a_part_of_the_images_does_not_matter(tables: Path, cohort: Path, tmp_path: Path, console: Console) -> None:
    data = tmp_path / "part"
    prepare_raw(PrepareConfig(raw=cohort, data=data, dataset="synthetic", levels=(64,), workers=1, limit=5))
    run = pipeline.train(few(data, tmp_path / "runs"), False, console)
    whole = pipeline.train(few(tables, tmp_path / "others"), False, console)
    assert predicted(run).equals(predicted(whole))


def test_it_resumes_and_predicts_again(tables: Path, tmp_path: Path, console: Console) -> None:
    through = pipeline.train(few(tables, tmp_path / "through", **{"schedule.epochs": 4}), False, console)
    stopped = pipeline.train(few(tables, tmp_path / "stopped"), False, console)
    resumed = pipeline.train(few(tables, tmp_path / "stopped", **{"schedule.epochs": 4}), True, console)
    assert resumed.path == stopped.path
    before = predicted(through)
    assert predicted(resumed).equals(before)
    pipeline.predict(through, console, threads=1)
    assert predicted(through).equals(before)


def test_a_network_that_looks_at_images_says_what_is_missing(tables: Path, tmp_path: Path, console: Console) -> None:
    wanted = few(tables, tmp_path, **{"model.name": "resnet14-small", "run.name": "other", "input.size": 32})
    with pytest.raises(
        UserError,
        match=r"tables: holds tables alone \(prepare --tables-only\), and this network looks at images\n"
        r"  remedy: run `cxrkit prepare` without --tables-only, or train --model mlp-meta",
    ):
        pipeline.train(wanted, False, console)
    assert not (tmp_path / "other").exists()


def test_pixels_may_come_later_and_are_not_dropped(tables: Path, cohort: Path) -> None:
    later = PrepareConfig(raw=cohort, data=tables, dataset="synthetic", levels=(64,), workers=1)
    assert prepare_raw(later).images == 80
    assert ShardStore(tables).image(0, 0).shape == (64, 64)
    with pytest.raises(
        UserError,
        match=r"tables: holds 80 prepared images, and --tables-only would drop them\n  remedy: leave out --tables-only",
    ):
        prepare_raw(PrepareConfig(raw=cohort, data=tables, dataset="synthetic", tables_only=True))
    assert len(ShardStore(tables)) == 80


def test_shards_that_no_table_lists_are_not_left_so(tables: Path, cohort: Path) -> None:
    later = PrepareConfig(raw=cohort, data=tables, dataset="synthetic", levels=(64,), workers=1)
    prepare_raw(later)
    next(tables.glob("index-*.parquet")).write_bytes(b"no table")
    before = (tables / "dataset.json").read_bytes()
    with pytest.raises(UserError, match="tables: holds shards that no readable table lists, and --tables-only would"):
        prepare_raw(PrepareConfig(raw=cohort, data=tables, dataset="synthetic", tables_only=True))
    assert (tables / "dataset.json").read_bytes() == before
    assert prepare_raw(later).reused == 80


def test_pixels_without_tiles_are_continued_after_tables_alone(tables: Path, cohort: Path) -> None:
    begun = PrepareConfig(raw=cohort, data=tables, dataset="synthetic", levels=(128,), workers=1, limit=20, tiles=False)
    prepare_raw(begun)
    for path in [*tables.glob("*.parquet"), tables / "dataset.json"]:
        path.unlink()  # as after a kill
    about = Listed.of(read(cohort))
    write_generation(tables, about, ShardSettings("synthetic", "raw", 0, (), 1024), index_frame([], ()), [])
    summary = prepare_raw(replace(begun, tiles=True, limit=None))
    assert (summary.reused, summary.images) == (20, 80)
    assert read_description(tables).restart == 0


def test_the_loader_without_images_is_for_networks_without_images(
    prepared: Path, tmp_path: Path, console: Console
) -> None:
    wanted = few(prepared, tmp_path, **{"model.name": "resnet14-small", "input.size": 32, "run.loader": "pixelless"})
    with pytest.raises(UserError, match="--loader pixelless: delivers no image, and this network looks at images"):
        pipeline.train(wanted, False, console)
    assert not list(tmp_path.iterdir())


def test_tables_of_another_data_set_are_refused(tables: Path, cohort: Path) -> None:
    records = read(cohort)
    other = Records("another", records.frame, "unknown")
    with pytest.raises(UserError, match="dataset"):
        prepare_tables(PrepareConfig(raw=cohort, data=tables, tables_only=True), other)


def test_a_limit_means_nothing_without_images(cohort: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--tables-only --limit: no image is prepared\n  remedy: leave out --limit"):
        PrepareConfig(raw=cohort, data=tmp_path / "d", tables_only=True, limit=3)


@pytest.mark.parametrize(("fold", "low", "high"), [("1", 0.60, 0.63), ("official", 0.59, 0.61)])
def test_the_paper_s_number_on_chestxray14(
    fold: str, low: float, high: float, tmp_path: Path, console: Console
) -> None:
    frame = chestxray14_facts.records()
    records = Records("nih-chestxray14", frame.with_columns(path=None, member=None), "v2020")
    prepare_tables(PrepareConfig(raw=tmp_path, data=tmp_path / "../tables-of-nih", tables_only=True), records)
    run = pipeline.train(config(tmp_path / "../tables-of-nih", tmp_path, **{"run.fold": fold}), False, console)
    assert low < mean_auc(run) < high
