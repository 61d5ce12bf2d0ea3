"""The settings of a training: types, ranges, files, flags, and which of them decide a network's numbers."""

from __future__ import annotations

import os
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
import tomli_w
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from cxrkit import recipes
from cxrkit.base.errors import UserError
from cxrkit.runs.config import (
    TrainConfig,
    changed,
    changes,
    parse_set,
    read_config,
    read_run_config,
    recipe_digest,
    settings,
    to_toml,
    with_set,
)


def test_round_trip(tmp_path: Path) -> None:
    config = TrainConfig(recipe="mine").with_values(
        {
            "model.name": "mlp-meta",
            "model.options": {"width": 8},
            "run.fold": "3",
            "optimizer.lr": 0.02,
            "run.data": tmp_path,
            "run.compile": False,
        }
    )
    path = tmp_path / "config.toml"
    path.write_text(to_toml(config))
    assert read_config(path) == config


def test_paper_defaults() -> None:
    """Section 3: Adam(0.9, 0.999), halving, crops of 8 to 100 %, aspect 3:4 to 4:3, 7 degrees, flip, no decay."""
    config = TrainConfig()
    assert (config.optimizer.beta1, config.optimizer.beta2, config.optimizer.weight_decay) == (0.9, 0.999, 0.0)
    assert (config.schedule.factor, config.schedule.patience) == (0.5, 0)
    wanted = config.augmentation
    assert (wanted.area_min, wanted.aspect_max, wanted.angle, wanted.flip) == (0.08, 4 / 3, 7.0, 0.5)


def test_every_setting_has_help_and_a_flag_of_its_own() -> None:
    flags = [item.flag for item in settings() if item.is_flag]
    assert all(item.field.metadata["help"] for item in settings())
    assert len(flags) == len(set(flags))


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"schedule.epochs": 0}, "--epochs 0: out of range\n  remedy: give a value of at least 1"),
        ({"optimizer.lr": float("nan")}, "--lr nan: out of range\n  remedy: give a value of from 1e-09 to 10"),
        ({"optimizer.batch_size": -4}, "--batch-size -4: out of range"),
        ({"augmentation.flip": 1.5}, "--flip 1.5: out of range"),
        ({"run.precision": "fp8"}, "--precision fp8: unknown\n  remedy: choose one of auto, fp32, bf16, fp16"),
        ({"optimizer.name": "lion"}, "--optimizer lion: unknown\n  remedy: choose one of adam, adamw, sgd"),
        ({"schedule.name": "step"}, "--schedule step: unknown\n  remedy: choose one of plateau, cosine, constant"),
        ({"optimizer.ema": 1.0}, "--ema 1.0: out of range\n  remedy: give a value of from 0 to 0.999999"),
        ({"optimizer.clip_norm": -1.0}, "--clip-norm -1.0: out of range\n  remedy: give a value of at least 0"),
        ({"optimizer.layer_decay": 0.0}, "--set optimizer.layer_decay=0: out of range"),
        ({"selection.metric": "auc"}, "--select auc: unknown\n  remedy: choose one of val_loss, val_auc"),
    ],
)
def test_out_of_range(values: dict[str, object], text: str) -> None:
    with pytest.raises(UserError) as caught:
        TrainConfig().with_values(values)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[schedul]\nepochs = 3", "unknown section 'schedul'\n  remedy: did you mean schedule?"),
        ("[schedule]\nepoch = 3", "unknown setting of [schedule] 'epoch'\n  remedy: did you mean epochs"),
        ("[schedule]\nepochs = 'many'", "schedule.epochs is 'many' (str), expected a whole number"),
        ("[schedule]\nepochs = 2.9", "schedule.epochs is 2.9 (float), expected a whole number"),
        ("[schedule]\nepochs = true", "schedule.epochs is True (bool), expected a whole number"),
        ("[schedule]\nepochs = 0", "--epochs 0: out of range"),
        ("schedule = 3", "schedule is 3 (int), expected an object"),
        ("recipe = 3", "recipe is 3 (int), expected text"),
        ("epochs = ", "not valid TOML"),
        ("epochs = 3", "'epochs' stands outside of a section, as cxrkit 0.1's first format had it\n  remedy: write it"),
        ("lr_factor = 0.5", "remedy: write it as factor = ... under [schedule]"),
        ("[run]\ndata = ''", "run.data is '' (str), expected a path"),
    ],
)  # fmt: skip
def test_broken_file(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine [1].toml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_config(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)
    assert "remedy:" in str(caught.value)


def test_a_mark_at_the_beginning_is_no_part_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_bytes(b"\xef\xbb\xbf[schedule]\nepochs = 3\n")
    assert read_config(tmp_path / "mine.toml").schedule.epochs == 3


def test_a_run_of_the_first_format_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('fold = "official"\nepochs = 3\n')
    with pytest.raises(UserError) as caught:
        read_run_config(tmp_path / "config.toml")
    assert str(caught.value) == (
        f"{tmp_path}: a run of an earlier version of cxrkit, which this one cannot go on with\n"
        "  remedy: train again with this version, into another --runs folder or under another --name"
    )


@pytest.mark.parametrize("name", ["data", "runs"])
def test_a_path_that_no_file_of_text_can_hold(name: str) -> None:
    path = Path(os.fsdecode(b"there/\xff\xfe"))
    message = rf"--{name} there/\\udcff\\udcfe: not valid UTF-8, .*\n  remedy: rename it, or go into the folder"
    with pytest.raises(UserError, match=message):
        TrainConfig().with_values({f"run.{name}": path})


def test_absent_and_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such file"):
        read_config(tmp_path / "none.toml")
    with pytest.raises(UserError, match="cannot be read"):
        read_config(tmp_path)


@hypothesis_settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_file_ends_in_an_internal_error(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever was done to a whole file: it is read, or refused in the user's terms."""
    whole = to_toml(TrainConfig(recipe="x").with_values({"model.options": {"a": [1, {"b": 2}]}})).encode()
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(len(whole), start + 40)))
    content = whole[:start] + data.draw(st.binary(max_size=12)) + whole[end:]
    path = tmp_path_factory.getbasetemp() / "fuzzed.toml"
    path.write_bytes(content)
    try:
        read_config(path)
    except UserError as error:
        if str(path) not in str(error):
            raise


def test_changed() -> None:
    other = TrainConfig().with_values({"schedule.epochs": 3, "run.seed": 1})
    assert [item.path for item in changed(TrainConfig(), other)] == ["schedule.epochs", "run.seed"]


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("schedule.epochs=3", "schedule.epochs", 3),
        ("augmentation.angle=0", "augmentation.angle", 0.0),
        ("loss.name=mine:loss", "loss.name", "mine:loss"),
        ("run.fold=3", "run.fold", "3"),
        ("run.compile=false", "run.compile", False),
        ('loss.masked=["No Finding"]', "loss.masked", ("No Finding",)),
        ("model.options.width=32", "model.options.width", 32),
        ("model.options.blocks=[1, 1, 1, 1]", "model.options.blocks", [1, 1, 1, 1]),
    ],
)
def test_set(text: str, path: str, value: object) -> None:
    found = parse_set(text)
    assert found == (path, value)
    assert type(found[1]) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("schedule.epochs", "--set schedule.epochs: no value\n  remedy: write it as --set section.key=value"),
        ("schedule.epoch=3", "unknown setting 'schedule.epoch'\n  remedy: did you mean schedule.epochs?"),
        ("schedule.epochs=many", "schedule.epochs is 'many' (str), expected a whole number"),
        ("epochs=3", "unknown setting 'epochs'"),
        ("loss.masked=No Finding", "loss.masked is 'No Finding' (str), expected a list"),
    ],
)
def test_wrong_set(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_set(text)
    assert message in str(caught.value)


def test_set_adds_to_a_table_of_options() -> None:
    config = with_set(TrainConfig().with_values({"model.options": {"width": 8}}), "model.options.meta_gain", 2.0)
    assert config.model.options == {"width": 8, "meta_gain": 2.0}


# One other value for every setting.
OTHER = {
    str: "other",
    int: 7,
    float: 0.25,
    bool: True,
    Path: Path("elsewhere"),
    dict: {"width": 3},
    tuple: ("No Finding",),
}
OTHER_CHOICE = {"run.precision": "bf16", "run.cache": "gpu", "selection.metric": "val_auc"}
OTHER_CHOICE |= {"optimizer.name": "sgd", "optimizer.decay_norms": False, "schedule.name": "cosine"}
OTHER_CHOICE |= {"test.views": "flip"}


@pytest.mark.parametrize("item", list(settings()), ids=lambda item: item.path)
def test_the_digest_of_a_recipe_covers_what_decides_its_numbers_and_nothing_else(item) -> None:
    value = OTHER_CHOICE.get(item.path, OTHER[item.kind])
    if item.path == "input.size":
        value = 64
    if item.path == "augmentation.aspect_max":
        value = 2.0
    other = TrainConfig().with_values({item.path: value})
    decides = item.section not in ("about", "run") and item.path not in (
        "model.weights",
        "model.from_run",
        "test.evaluator",
    )
    decides |= item.path in ("run.precision", "run.trainer")
    assert (recipe_digest(other) != recipe_digest(TrainConfig())) == decides
    # The precision is auto in every recipe and another word in every run.
    named = [change.partition("=")[0] for change in changes(TrainConfig(), other)]
    path = f"{item.path}.width" if item.kind is dict else item.path
    # An extractor is named by what it is; its digest would say nothing to anybody.
    assert named == [path] * (decides and item.path not in ("run.precision", "model.extractor_digest"))


@pytest.mark.parametrize(
    ("recipe", "digest"),
    [
        (None, "250cad95eeaf1239e1fdeb13dad2fae4a2862f474036d8e4ee80f295df948393"),
        ("resnet50-large-meta", "cebc66324b3c01670f59b227e0081c45aa48c02482d42e034fb0b3dff1e92265"),
        ("resnet50-ots", "e38bf122e4b488cfd10c7f9756423c0a37b5aedbd12ac9d6a3ced9b545b50298"),
        ("mlp-meta", "ff546f0311de911282cbe9a4f38011c8939afedade2344f78369f8c68b683a9a"),
    ],
)
def test_digests_of_before_there_were_other_optimizers_and_schedules_hold(recipe: str | None, digest: str) -> None:
    """Runs that were trained then are pooled with those of today, and go on with --resume."""
    assert recipe_digest(TrainConfig() if recipe is None else recipes.load(recipe)) == digest


def test_a_config_of_before_there_were_other_optimizers_is_read(tmp_path: Path) -> None:
    """As cxrkit wrote it then: without the settings that go beyond the paper's protocol."""
    config = TrainConfig(recipe="old").with_values({"optimizer.lr": 0.02, "schedule.patience": 1})
    values = tomllib.loads(to_toml(config))
    extra = [item for item in settings() if item.field.metadata["extra"]]
    assert len(extra) == 14
    for item in extra:
        del values[item.section][item.key]
    (tmp_path / "config.toml").write_text(tomli_w.dumps(values))
    assert read_run_config(tmp_path / "config.toml") == config


def test_how_a_setting_is_given_on_the_command_line() -> None:
    said = {item.path: item.said(0.5) for item in settings() if item.kind is float}
    assert said["optimizer.clip_norm"] == "--clip-norm 0.5"
    assert next(item.said(("A", "B")) for item in settings() if item.path == "loss.masked") == "--set loss.masked=A, B"
    assert said["optimizer.momentum"] == "--set optimizer.momentum=0.5"


def test_changes_name_what_is_not_as_in_the_recipe() -> None:
    recipe = TrainConfig(recipe="r").with_values({"input.size": 448, "optimizer.lr": 0.01})
    other = recipe.with_values({"input.size": 64, "schedule.epochs": 3, "run.seed": 4, "run.precision": "bf16"})
    assert changes(recipe, other) == ("input.size=64", "schedule.epochs=3")
    assert changes(recipe, replace(recipe, recipe="other name")) == ()
    options = recipe.with_values({"model.options": {"width": 8, "blocks": [1, 2]}})
    assert changes(recipe, options) == ("model.options.blocks=[1, 2]", "model.options.width=8")
    assert changes(options, recipe) == ("model.options.blocks=default", "model.options.width=default")


def test_set_takes_a_whole_table_of_options() -> None:
    assert parse_set("model.options={width=8}") == ("model.options", {"width": 8})
    with pytest.raises(UserError, match=r"--set model.options=3: model.options is 3 \(int\), expected an object"):
        parse_set("model.options=3")


def test_set_is_one_value() -> None:
    with pytest.raises(UserError, match="expected a whole number"):
        parse_set("schedule.epochs=2\n[run]\nseed=1")
