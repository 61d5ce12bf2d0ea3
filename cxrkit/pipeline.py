"""The main path, one function per stage: prepare -> train -> predict -> evaluate -> report.

A newcomer reads this file first. Every stage reads and writes files, so each can be run again alone.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from cxrkit import provenance, registry, splits
from cxrkit.config import RESUME_MAY_CHANGE, TrainConfig, changed, flag, read_toml, resolve, to_toml
from cxrkit.contracts import Subset
from cxrkit.errors import UserError
from cxrkit.files import read_json, replacing, write_json, write_text
from cxrkit.runs import RunFolder, claimed

if TYPE_CHECKING:
    from cxrkit.evaluators.results import Scores
    from cxrkit.inputs import Inputs
    from cxrkit.models import ModelSpec
    from cxrkit.trainers import TrainTask
    from cxrkit.trainers.display import TrainDisplay

EVALUATED: tuple[Subset, ...] = ("val", "test")


def train(given: dict[str, Any], config_file: Path | None, resume: bool, console: Console) -> RunFolder:
    """Train one experiment, then predict and evaluate it; returns its run folder.

    given: the fields of TrainConfig that the user set. Raises UserError for anything the user can repair.
    """
    from cxrkit import compute, models
    from cxrkit.inputs import Inputs
    from cxrkit.trainers.display import TrainDisplay

    config = resolve(TrainConfig, given, config_file)
    spec = models.spec(config.model)
    run = RunFolder.of(config.runs, spec.name, splits.name_of(config.fold))
    config = settle(config, spec, run, given, config_file, resume)
    device = compute.choose_device(config.device)
    config = replace(
        config,
        precision=compute.choose_precision(config.precision, device),
        compile=device != "cpu" if config.compile is None else config.compile,
    )
    spec = spec.at(config.input_size or spec.input_size)
    inputs = Inputs.of(config.data, config.fold, config.limit)
    try:
        for subset in ("train", *EVALUATED):
            inputs.require(subset)
        describe(console, config, spec, inputs, device)
        trainer = registry.load("trainer", config.trainer)
        registry.load("evaluator", config.evaluator)  # a wrong name should be heard before the training, not after
        display = TrainDisplay(console, config.epochs, len(inputs.rows["val"]))
        task = assemble(config, spec, inputs, run, device, resume, display)
        with claimed(run), display:
            write_run(run, config, inputs, device, resume)
            trainer(task)
    finally:
        inputs.close()
    predict(run, console, data=config.data, device=config.device, loader=config.loader, threads=config.threads)
    evaluate(run, config.data, console)
    return run


def settle(
    config: TrainConfig, spec: ModelSpec, run: RunFolder, given: dict[str, Any], file: Path | None, resume: bool
) -> TrainConfig:
    """Return the config with the model's own values filled in; when resuming, the run's own config goes first.

    Raises UserError when the run exists and is not resumed, or is resumed with other settings.
    """
    if run.config.exists() and not resume:
        raise UserError(
            f"{run.path}: already holds a training of this model on this split",
            remedy="add --resume to go on with it, or choose another --runs folder",
        )
    if run.config.exists():
        stored = resolve(TrainConfig, {}, run.config)
        config = replace(stored, **_said(given, file, stored))
    config = replace(
        config,
        model=spec.name,
        batch_size=config.batch_size or spec.batch_size,
        lr=config.lr or spec.learning_rate,
        input_size=config.input_size or spec.input_size,
    )
    if run.config.exists():
        clash = [name for name in changed(stored, config) if name not in RESUME_MAY_CHANGE]
        if clash:
            was = ", ".join(f"{flag(name)} {getattr(stored, name)}" for name in clash)
            raise UserError(
                f"{run.path}: was trained with {was}; resuming cannot change that",
                remedy="leave these flags out, or choose another --runs folder",
            )
    return config


def _said(given: dict[str, Any], file: Path | None, stored: TrainConfig) -> dict[str, Any]:
    """Return the settings that the user set, in the file or as flags, without those that say what is stored anyway."""
    said = (read_toml(file, TrainConfig) if file else {}) | {k: v for k, v in given.items() if v is not None}
    said.pop("model", None)  # it has chosen the run folder, as --fold has, whatever way they were spelled
    said.pop("fold", None)
    if said.get("precision") == "auto":
        said["precision"] = stored.precision
    return said


def loader_name(config: TrainConfig, device: str) -> str:
    """Return the registered loader that the config asks for on this device."""
    from cxrkit import loaders

    return "resident" if config.cache == "gpu" else loaders.choose(config.loader, device)


def describe(console: Console, config: TrainConfig, spec: ModelSpec, inputs: Inputs, device: str) -> None:
    """Print what is about to be trained on what, and what was left out."""
    loader, release = loader_name(config, device), inputs.store.about["label_release"]
    console.print(
        f"[bold]{spec.name}[/bold] at {spec.input_size} px, split {inputs.split.name}, labels {release}; "
        f"{device}, {config.precision}, loader {loader}",
        highlight=False,
    )
    for subset in ("train", *EVALUATED):
        used, whole = len(inputs.rows[subset]), inputs.split.images(subset)
        part = "" if used == whole else f" of {whole:,}" + (": results will be marked" if subset != "val" else "")
        console.print(f"  {subset:<5} {used:>7,} images{part}", highlight=False)
    plan = inputs.train_plan(config, spec)
    if plan.dropped:
        console.print(
            f"  each epoch leaves out {plan.dropped} training images (others every time): they do not fill a batch of "
            f"{plan.batch_size}",
            highlight=False,
        )
    if plan.batch_size != config.batch_size:
        console.print(f"  one batch of {plan.batch_size}: there are no {config.batch_size} training images")


def write_run(run: RunFolder, config: TrainConfig, inputs: Inputs, device: str, resume: bool) -> None:
    """Write config, provenance and split. Raises UserError when a resumed run would see other training images."""
    used = {subset: inputs.used_digest(subset) for subset in ("train", *EVALUATED)}
    about = inputs.store.about
    data = {key: about[key] for key in ("dataset", "label_release", "codec", "levels", "settings_digest")}
    session = provenance.collect() | {"device": device, "precision": config.precision}
    origin = session | {
        "seed": config.seed,
        "data": data,
        "split": inputs.split.name,
        "split_digest": inputs.split.digest,
        "used_digests": used,
    }
    if run.provenance.exists() and resume:
        stored = read_json(run.provenance, "the run's provenance", "choose another --runs folder")
        _refuse_other_inputs(run, config.data, stored, used, data)
        origin = stored | {"resumed": [*stored.get("resumed", []), session]}
    write_text(run.config, to_toml(config))
    write_json(run.provenance, origin)
    with replacing(run.split) as part:
        inputs.split.frame.write_parquet(part)


def _refuse_other_inputs(
    run: RunFolder, folder: Path, stored: dict[str, Any], used: dict[Subset, str], data: dict[str, Any]
) -> None:
    """Raise a UserError unless a run would go on with the images and pixels that it was started with."""
    before = stored.get("used_digests", {})
    deciding: tuple[Subset, ...] = ("train", "val")
    other = [subset for subset in deciding if before.get(subset) != used[subset]]
    if other or stored.get("data") != data:
        what = f"other {' and '.join(other)} images" if other else "images prepared with other settings"
        raise UserError(
            f"{run.path}: was trained on {what} than {folder} holds now",
            remedy="resume with the --data it was started with, or choose another --runs folder",
        )


def assemble(
    config: TrainConfig,
    spec: ModelSpec,
    inputs: Inputs,
    run: RunFolder,
    device: str,
    resume: bool,
    display: TrainDisplay,
) -> TrainTask:
    """Build the model and the loaders; nothing is written yet, so what cannot be built leaves no trace."""
    from cxrkit import models
    from cxrkit.checkpoints import CheckpointInfo
    from cxrkit.predict import BATCH_SIZE
    from cxrkit.trainers import TrainTask

    assert config.batch_size is not None
    resuming = resume and run.last.exists()
    val_plan = inputs.eval_plan("val", spec, max(BATCH_SIZE, config.batch_size))
    return TrainTask(
        config=config,
        run=run,
        model=models.build(config.model, weights=config.weights, pretrained=not resuming, seed=config.seed),
        spec=spec,
        # The validation images are read: their pixels would take the memory that the training's need.
        val=inputs.loader(val_plan, config.loader, device, config.threads),
        train=inputs.loader(inputs.train_plan(config, spec), loader_name(config, device), device, config.threads),
        device=device,
        precision=config.precision,
        info=CheckpointInfo(
            model=spec.name,
            input_size=spec.input_size,
            split=inputs.split.name,
            split_digest=inputs.split.digest,
            dataset=inputs.store.about["dataset"],
            label_release=inputs.store.about["label_release"],
            settings_digest=inputs.store.about["settings_digest"],
            age_range=inputs.age_range,
            epoch=0,
            train_images=len(inputs.rows["train"]),
            train_subset_images=inputs.split.images("train"),
            progress={},
        ),
        resume=resuming,
        display=display,
    )


def predict(
    run: RunFolder,
    console: Console,
    *,
    checkpoint: Path | None = None,
    data: Path | None = None,
    device: str = "auto",
    precision: str | None = None,
    loader: str = "auto",
    threads: int | None = None,
    subsets: tuple[Subset, ...] = EVALUATED,
) -> None:
    """Write `predictions/{val,test}.parquet` of a run, from its best checkpoint or the one given."""
    from cxrkit import compute
    from cxrkit.inputs import Inputs
    from cxrkit.predict import predict as predict_subset
    from cxrkit.progress import progress_bar

    config = run_config(run)
    device = compute.choose_device(device)
    inputs = Inputs.of(data or config.data, config.fold, config.limit)
    try:
        for subset in subsets:
            inputs.require(subset)
            with progress_bar(f"predict {subset}", len(inputs.rows[subset]), console=console) as bar:
                predict_subset(
                    checkpoint or run.best,
                    inputs,
                    subset,
                    run.predictions(subset),
                    model_name=config.model,
                    device=device,
                    precision=compute.choose_precision(precision or config.precision, device),
                    loader=loader,
                    threads=threads,
                    progress=bar.advance,
                )
            run.scores.unlink(missing_ok=True)  # they were those of the predictions that stood here before
    finally:
        inputs.close()


def run_config(run: RunFolder) -> TrainConfig:
    """Return the config of a run folder. Raises UserError when it is none."""
    if not run.config.exists():
        raise UserError(
            f"{run.path}: not a run folder (no config.toml)",
            remedy="name a folder that `cxrkit train` made, such as runs/resnet50-large-meta/official",
        )
    config: TrainConfig = resolve(TrainConfig, {}, run.config)
    return config


def evaluate(run: RunFolder, data: Path | None, console: Console, *, replicates: int | None = None) -> Scores:
    """Write `scores.json` of a run from its predictions and the labels of `data`, by default the run's prepared folder.

    replicates: of the bootstrap; default, the evaluator's own.
    """
    from cxrkit.evaluators.scoring import evaluate_run
    from cxrkit.evaluators.truth import read_truth

    config = run_config(run)
    options = {} if replicates is None else {"replicates": replicates}
    scores = evaluate_run(run.path, read_truth(data or config.data), config.evaluator, options)
    console.print(f"scores in {run.scores}", highlight=False, markup=False)
    return scores
