"""From a study to its runs, each with its config and its run folder; and all that can be refused before the first."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxrkit import pipeline
from cxrkit.base import files, registry
from cxrkit.base.contracts import EVALUATED, Job, Subset
from cxrkit.base.errors import UserError
from cxrkit.base.labels import LabelSet
from cxrkit.base.progress import size_text
from cxrkit.datasets import splits
from cxrkit.reproduce.study import Study, Wanted
from cxrkit.runs.config import TrainConfig, parse_set, settings, to_toml, with_set
from cxrkit.runs.folder import RunFolder

if TYPE_CHECKING:
    from cxrkit.models import ModelSpec

# Chosen afterwards, the common best epoch needs the predictions of all; a version without this does without.
_ALWAYS = {"run.keep_epochs": True}
_NEEDS = "{needs}"  # in a setting: the folder of the run that is needed


@dataclass(frozen=True)
class Planned:
    """One run of a study."""

    name: str
    """Its run folder below RUNS: resnet50-large-meta/resample-1."""

    config: TrainConfig
    """All of its settings."""

    run: RunFolder
    """Where it lies, or will."""

    needs: str = ""
    """Name of the planned run that must be scored before; "" where there is none."""

    images: Mapping[Subset, int] | None = None
    """How many images of each subset it uses; None before `check` has looked."""

    labels: LabelSet | None = None
    """What its data set knows of each image; None before `check` has looked."""

    @cached_property  # of a network of one's own it is known by building it
    def spec(self) -> ModelSpec:
        """Its network, at the size that it is trained at."""
        from cxrkit import models

        assert self.config.input.size is not None
        return models.spec_of(self.config).at(self.config.input.size)

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        from cxrkit.trainers.resuming import ended

        return ended(self.run, self.config)

    @property
    def claimed(self) -> bool:
        """Whether a living process works in it."""
        return files.is_claimed(self.run.path / ".lock")


@dataclass(frozen=True)
class Places:
    """What the command line says of all runs."""

    data: Path | None
    """Prepared folder; None: each run's own, by default data/shards."""

    runs: Path
    """Folder of the run folders."""

    sets: tuple[str, ...] = ()
    """Settings of all runs, as "section.key=value"; they go first."""

    weights: Path | None = None
    """ImageNet weights, for the recipes that start from them."""


def plan(study: Study, places: Places) -> list[Planned]:
    """Return the runs of a study. Raises UserError for a recipe or a setting that cannot be, naming the study."""
    planned: dict[str, Planned] = {}
    for wanted in study.runs:
        try:
            item = _resolve(wanted, places)
        except UserError as error:
            raise UserError(f"{study.source}: {error.what}", remedy=error.remedy) from None
        if item.name in planned and planned[item.name].config != item.config:
            raise UserError(
                f"{study.source}: two runs of the name {item.name}, with other settings",
                remedy='give one of them a name of its own: name = "..." under its [[runs]]',
            )
        planned[item.name] = item
    for item in planned.values():
        if item.needs and item.needs not in planned:
            raise UserError(
                f"{study.source}: {item.name} needs {item.needs}, which is no run of the study",
                remedy="add its recipe to the study: a run that is scored already is not trained again",
            )
    return _needed_first(planned, study)


def _resolve(wanted: Wanted, places: Places) -> Planned:
    split = splits.name_of(wanted.fold)
    needed = RunFolder.of(places.runs, wanted.needs, split, wanted.seed) if wanted.needs else None
    known = {item.path for item in settings()}
    values = [(path, value) for path, value in _ALWAYS.items() if path in known]
    values += wanted.settings
    said: dict[str, Any] = {"data": places.data, "runs": places.runs, "fold": wanted.fold, "seed": wanted.seed}
    said |= {"name": wanted.name or None}
    # What the needed run decides cannot be looked up before it is trained; the job itself does it then.
    later = [(path, value) for path, value in values if _NEEDS in str(value) and not _trained(needed)]
    now = [item for item in values if item not in later]
    sets = [*(_set(path, value, needed) for path, value in now), *places.sets]
    config = pipeline.resolve(said, recipe=wanted.recipe, sets=sets, resume=True, waits=bool(later))
    for path, value in later:
        config = with_set(config, *parse_set(_set(path, value, needed)))
    run = pipeline.folder_of(config)
    item = Planned(_name(run, places.runs), config, run, _name(needed, places.runs) if needed else "")
    if places.weights is not None and item.spec.pretrained:
        item = replace(item, config=config.with_values({"model.weights": places.weights}))
    return item


def _name(run: RunFolder, runs: Path) -> str:
    return run.path.relative_to(runs).as_posix()


def _trained(needed: RunFolder | None) -> bool:
    return needed is not None and needed.state() not in ("new", "training")


def _set(path: str, value: Any, needed: RunFolder | None) -> str:
    """Return a setting as `--set` takes it, with the folder of the needed run in its place."""
    if needed is not None and isinstance(value, str):
        value = value.replace(_NEEDS, str(needed.path))
    return f"{path}={_inline(value)}"


def _inline(value: Any) -> str:
    """Return a TOML value in one line, tables too: behind "key =" there is no room for a section."""
    import tomli_w

    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(key)} = {_inline(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_inline, value))}]"
    return tomli_w.dumps({"value": value}).partition(" = ")[2].strip()


def _needed_first(planned: Mapping[str, Planned], study: Study) -> list[Planned]:
    """Return the runs in their order, each behind what it needs. Raises UserError for a circle."""
    ordered: dict[str, Planned] = {}

    def add(name: str, above: tuple[str, ...]) -> None:
        if name in above:
            raise UserError(f"{study.source}: {' needs '.join((*above, name))}", remedy="let one of them need nothing")
        if name not in ordered:
            if needs := planned[name].needs:
                add(needs, (*above, name))
            ordered[name] = planned[name]

    for name in planned:
        add(name, ())
    return list(ordered.values())


def check(runs: Sequence[Planned]) -> list[Planned]:
    """Return the runs with their numbers of images, after all that can be refused before the first one starts.

    Raises UserError for a prepared folder that cannot be read or lacks a subset, for a run that is there with other
    settings, and for a name that no plug-in has.
    """
    from cxrkit.evaluators import choosing
    from cxrkit.loaders.inputs import Inputs
    from cxrkit.trainers import resuming

    counted: dict[tuple[Any, ...], tuple[dict[Subset, int], LabelSet]] = {}
    checked = []
    for item in runs:
        where, pixels = item.config.run, looks_at_pixels(item.spec)
        registry.load("trainer", where.trainer)
        choosing.choose_evaluators(item.config.test.evaluator, {})
        if item.config.model.weights is not None and not item.config.model.weights.is_file() and not item.needs:
            raise UserError(
                f"{item.config.model.weights}: there is no such weights file",
                remedy="check the path given to --weights",
            )
        resuming.check_existing(item.run, item.config, resume=True)
        key = (where.data, where.fold, where.limit, pixels)
        if key not in counted:
            inputs = Inputs.of(where.data, where.fold, where.limit, pixels=pixels)
            try:
                for subset in ("train", *EVALUATED):
                    inputs.require(subset)
                counted[key] = {name: len(rows) for name, rows in inputs.rows.items()}, inputs.labels
            finally:
                inputs.close()
        images, labels = counted[key]
        checked.append(replace(item, images=images, labels=labels))
    return checked


def looks_at_pixels(spec: ModelSpec) -> bool:
    """Whether a network needs the images: itself, or for the features that it learns from."""
    return bool(getattr(spec, "pixels", spec.image))


def refuse_full_disk(runs_folder: Path, needed_bytes: int) -> None:
    """Raise a UserError where what is missing of a study does not fit on the disk of RUNS."""
    free = shutil.disk_usage(existing(runs_folder)).free
    if needed_bytes > free:
        raise UserError(
            f"{runs_folder}: the runs that are missing need {size_text(needed_bytes)}, and the disk has "
            f"{size_text(free)} left",
            remedy="free some space, choose another --runs folder, or take fewer --folds at a time",
        )


def existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that exists."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def own_folder(runs: Path, study: Study) -> Path:
    """Return where reproduce keeps the logs and configs of a study's runs: they outlive a run folder."""
    return runs / ".reproduce" / study.name


def make_job(item: Planned, own: Path) -> Job:
    """Write the run's config where the job will read it, and return the job. Raises UserError where it cannot be."""
    flat = item.name.replace("/", "--")
    # A device's own number is meant as it stands; the others get a place.
    gpu = item.config.run.device in ("auto", "cuda")
    config = own / f"{flat}.toml"
    files.write_text(config, to_toml(item.config))
    command = [sys.executable, "-m", "cxrkit", "train", "--recipe", str(config), "--resume"]
    if item.config.run.threads is not None:
        command += ["--threads", str(item.config.run.threads)]
    threads = getattr(item.config.run, "compute_threads", None)  # of a run that has begun, its own
    return Job(item.name, tuple(command), Path.cwd(), (own / f"{flat}.log").absolute(), gpu, threads)
