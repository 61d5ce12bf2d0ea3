"""The options of loaders: `--set run.loader_options.NAME=VALUE`, and what `--cache gpu` is given."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cxrkit import pipeline
from cxrkit.base.errors import UserError
from cxrkit.loaders.inputs import Inputs, checked_options, loader_options
from cxrkit.loaders.opencv import OpenCVLoader
from cxrkit.loaders.resident import ResidentLoader
from cxrkit.models import ModelSpec
from cxrkit.runs.config import read_config, recipe_digest, to_toml
from cxrkit.runs.sections import RunSettings

SPEC = ModelSpec(name="any", input_size=64, resize=72)


class Plain:
    """A loader of somebody else's, without hints."""

    def __init__(self, store, plan, targets, metadata, *, threads, device, speed=1) -> None:  # type: ignore[no-untyped-def]
        self.speed, self.steps = speed, plan.steps

    def epoch(self, epoch: int, start_step: int = 0) -> Any:
        return iter(())

    def close(self) -> None:
        pass


@pytest.fixture
def inputs(prepared: Path) -> Any:
    inputs = Inputs.of(prepared, "official", None)
    yield inputs
    inputs.close()


def test_options_reach_the_loader(inputs: Inputs) -> None:
    plan = inputs.eval_plan("val", SPEC, 4)
    assert inputs.loader(plan, "opencv", "cpu", 1, options={"prefetch": 5})._prefetch == 5  # type: ignore[attr-defined]
    assert inputs.loader(plan, f"{__name__}:Plain", "cpu", 1, options={"speed": 3}).speed == 3  # type: ignore[attr-defined]


def test_a_loader_without_options_of_its_own_says_so(inputs: Inputs) -> None:
    plan = inputs.eval_plan("val", SPEC, 4)
    with pytest.raises(UserError, match=r"loader 'opencv': unknown option 'hw_decoder_load'") as caught:
        inputs.loader(plan, "auto", "cpu", 1, options={"hw_decoder_load": 0.5})
    assert "choose from " in caught.value.remedy
    assert "prefetch" in caught.value.remedy


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prefetch": 1.5}, r"loader 'opencv': run.loader_options.prefetch is 1.5 \(float\), expected a whole number"),
        ({"prefetch": "many"}, "run.loader_options.prefetch is 'many'"),
        ({"device": "cpu"}, "unknown option 'device'"),
        ({"threads": 2}, "unknown option 'threads'"),
        ({"store": 2}, "unknown option 'store'"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        checked_options("opencv", OpenCVLoader, options)


def test_types_are_those_of_the_constructor() -> None:
    assert checked_options("resident", ResidentLoader, {"compile": True, "memory_bytes": 7}) == {
        "compile": True,
        "memory_bytes": 7,
    }
    with pytest.raises(UserError, match=r"run\.loader_options\.compile is 1"):
        checked_options("resident", ResidentLoader, {"compile": 1})


def test_cache_gb_and_compile_go_to_the_cache_and_the_options_to_the_loader() -> None:
    run = RunSettings(cache="gpu", cache_gb=1.5, compile=False, loader_options={"prefetch": 3})
    assert loader_options(run, cached=True) == {"memory_bytes": 1_500_000_000, "compile": False}
    assert loader_options(run, cached=False) == {"prefetch": 3}
    assert loader_options(RunSettings(cache="gpu"), cached=True) == {}, "the loader's own defaults"


@pytest.mark.parametrize("cached", [True, False])
def test_cache_gb_without_a_cache_is_refused(cached: bool) -> None:
    with pytest.raises(UserError, match=r"--cache-gb 1\.5: nothing is kept on the device with --cache none") as caught:
        loader_options(RunSettings(cache_gb=1.5), cached=cached)
    assert caught.value.remedy == "give --cache gpu with it, or leave it out"


def test_they_decide_no_numbers_and_stand_in_the_runs_config(tmp_path: Path) -> None:
    said = {"cache": "gpu", "cache_gb": 2.0}
    sets = ["run.loader_options.prefetch=4", "run.loader_options.tiles=false"]
    config = pipeline.resolve(said, recipe=None, sets=sets, resume=False)
    assert config.run.loader_options == {"prefetch": 4, "tiles": False}
    plain = pipeline.resolve({}, recipe=None, sets=[], resume=False)
    assert recipe_digest(config) == recipe_digest(plain)
    (tmp_path / "config.toml").write_text(to_toml(config))
    assert read_config(tmp_path / "config.toml").run.loader_options == config.run.loader_options
    assert read_config(tmp_path / "config.toml").run.cache_gb == 2.0


def test_a_training_caches_within_its_gigabytes_and_shows_the_upload(prepared: Path, tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=300)
    given = {"model": "resnet14-small", "data": prepared, "input_size": 64, "limit": 16, "epochs": 1, "batch_size": 4}
    given |= {"runs": tmp_path, "precision": "fp32", "device": "cpu", "compile": False, "threads": 1}
    sets = ["run.loader_options.prefetch=1"]
    config = pipeline.resolve(given | {"cache": "gpu", "cache_gb": 0.001}, recipe=None, sets=sets, resume=False)
    pipeline.train(config, False, console)
    assert "cpu keeps level" in console.file.getvalue()  # type: ignore[attr-defined]
    assert "of 1.00 MB)" in console.file.getvalue()  # type: ignore[attr-defined]
    given |= {"cache_gb": 0.001, "runs": tmp_path / "none"}
    with pytest.raises(UserError, match=r"--cache-gb 0\.001: nothing is kept"):
        pipeline.train(pipeline.resolve(given, recipe=None, sets=[], resume=False), False, console)
    assert not list((tmp_path / "none").rglob("*.toml")), "before anything is written"
