"""The main path, one function per stage: prepare -> train -> predict -> evaluate -> report.

A newcomer reads this file first. Every stage reads and writes files, so each can be run again alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from cxrkit.base import provenance, registry, typed
from cxrkit.base.contracts import Subset
from cxrkit.base.errors import DiskFull, Interrupted, UserError
from cxrkit.base.files import read_json, write_json, write_text
from cxrkit.base.origin import Known, Origin
from cxrkit.datasets import splits
from cxrkit.datasets.splits import Split
from cxrkit.runs.config import TrainConfig, changed, changes, read_config, recipe_digest, to_toml
from cxrkit.runs.folder import Predicted, RunFolder, Scored, Trained, claimed, file_digest, read_split, write_split

if TYPE_CHECKING:
    from cxrkit.loaders.inputs import Inputs
    from cxrkit.models import ModelSpec
    from cxrkit.runs.scores import Scores
    from cxrkit.trainers import TrainTask
    from cxrkit.trainers.display import TrainDisplay

EVALUATED: tuple[Subset, ...] = ("val", "test")


def resolve(
    said: Mapping[str, Any], *, recipe: str | None = None, sets: Sequence[str] = (), resume: bool = False
) -> TrainConfig:
    """Return the complete config of what a user asks for.

    said, recipe, sets: see `recipes.resolve`. With `resume`, a run that is there goes on with its own config: only what
    is said is changed. Raises UserError for what cannot be.
    """
    from cxrkit import models, recipes

    config = recipes.resolve(said, recipe=recipe, sets=sets)
    run = folder_of(config)
    if resume and run.config.exists():
        stored = read_config(run.config)
        config = stored.with_values(
            recipes.said_values(config, stored, said, recipe, sets) | {"run.runs": config.run.runs}
        )
        refuse_other_place(run, config)
    spec = models.spec(config.model.name, options=config.model.options)
    return config.with_values(
        {
            "model.name": spec.name,
            "optimizer.batch_size": config.optimizer.batch_size or spec.batch_size,
            "optimizer.lr": config.optimizer.lr or spec.learning_rate,
            "input.size": config.input.size or spec.input_size,
        }
    )


def folder_of(config: TrainConfig) -> RunFolder:
    """Return the run folder of a config."""
    return RunFolder.of(config.run.runs, config.name, splits.name_of(config.run.fold), config.run.seed)


def refuse_other_place(run: RunFolder, config: TrainConfig) -> None:
    """Raise a UserError where a run was renamed or copied: resuming would go on in the folder that its config names."""
    home = folder_of(config)
    if home.path != run.path:
        raise UserError(
            f"{run.path}: holds the run {config.name} on split {splits.name_of(config.run.fold)}, seed "
            f"{config.run.seed}, which belongs in {home.path}",
            remedy=f"give the folder that name again; a copy of it goes on in a --runs folder of its own, as "
            f"{home.path.relative_to(config.run.runs)} there",
        )


def train(config: TrainConfig, resume: bool, console: Console) -> RunFolder:
    """Train one experiment, then predict and evaluate it; returns its run folder.

    config: see `resolve`. The run is claimed before it is looked at and until its last file is written. Raises
    UserError for anything the user can repair.
    """
    from cxrkit import models
    from cxrkit.loaders.inputs import Inputs
    from cxrkit.models import compute
    from cxrkit.runs import checkpoints
    from cxrkit.trainers.display import TrainDisplay

    run = folder_of(config)
    device = compute.choose_device(config.run.device)
    config = config.with_values(
        {
            "run.precision": compute.choose_precision(config.run.precision, device),
            "run.compile": device != "cpu" if config.run.compile is None else config.run.compile,
        }
    )
    assert config.input.size is not None
    spec = models.spec(config.model.name, options=config.model.options).at(config.input.size)
    with claimed(run):
        split = check_existing(run, config, resume)
        run.remove_parts()
        inputs = Inputs.of(config.run.data, split, config.run.limit)
        try:
            for subset in ("train", *EVALUATED):
                inputs.require(subset)
            describe(console, config, spec, inputs, device)
            trainer = registry.load("trainer", config.run.trainer)
            registry.load("evaluator", config.test.evaluator)  # a wrong name should be heard before, not after
            display = TrainDisplay(console, config.schedule.epochs, len(inputs.rows["val"]), inputs.labels)
            task = assemble(config, spec, inputs, run, device, resume, display)
            write_run(run, config, inputs, task.info.origin, device, resume)
            if run.state() == "training" or not finished(run, config):
                # The scores of before would stand there as if they were those of what is trained now.
                run.forget("train", "predict", "evaluate")
                with display, told_how_to_resume(run):
                    trainer(task)
                checkpoints.restate_best(run.best, task.info, config.run.trainer)
                run.finish("train", Trained(config.schedule.epochs, file_digest(run.best)))
        finally:
            inputs.close()
        if run.state() in ("training", "trained"):
            predict_claimed(
                run, console, device=config.run.device, loader=config.run.loader, threads=config.run.threads
            )
        if run.state() != "scored":
            evaluate_claimed(run, config.run.data, console)
    return run


def finished(run: RunFolder, config: TrainConfig) -> bool:
    """Whether the training of a run has taken all the epochs that the config asks for."""
    with suppress(UserError):
        done: Trained = typed.read_typed(Trained, run.done("train"), "what the training has done", "train again")
        return done.epochs >= config.schedule.epochs and run.best.exists()
    return False


@contextmanager
def told_how_to_resume(run: RunFolder) -> Iterator[None]:
    """Say of a full disk, and of Ctrl-C, how the training goes on: by --resume, not by the same command."""
    try:
        yield
    except DiskFull as error:
        kept = f"; {run.last} keeps the last checkpoint" if run.last.exists() else ""
        raise DiskFull(
            f"{error.what}{kept}", remedy="free some space, then run the same command with --resume"
        ) from error
    except KeyboardInterrupt as interrupt:
        how = "go on with --resume" if run.last.exists() else "no checkpoint was written yet"
        raise Interrupted(f"{run.path}: the training was interrupted; {how}") from interrupt


def check_existing(run: RunFolder, config: TrainConfig, resume: bool) -> str | Split:
    """Return the split to train on: what `--fold` names, or for a run that goes on its own.

    Raises UserError when the run exists and is not resumed, or is resumed with other settings or another split.
    """
    if not run.config.exists():
        return config.run.fold
    if not resume:
        raise UserError(
            f"{run.path}: already holds a training of this name on this split",
            remedy="add --resume to go on with it, or choose another --name or --runs folder",
        )
    stored = read_config(run.config)
    clash = [item for item in changed(stored, config) if not item.field.metadata["resumable"]]
    if clash:
        was = ", ".join(f"{item.flag} {item.of(stored)}" for item in clash)
        raise UserError(
            f"{run.path}: was trained with {was}; resuming cannot change that",
            remedy="leave these flags out, or choose another --name or --runs folder",
        )
    refuse_fewer_epochs(run, config)
    split, _ = read_split(run)
    # A table may be gone, for the run holds its split; one that is there must still say the same.
    if config.run.fold != stored.run.fold or (splits.is_file(config.run.fold) and Path(config.run.fold).exists()):
        refuse_other_split(run, split, config)
    return split


def refuse_fewer_epochs(run: RunFolder, config: TrainConfig) -> None:
    """Raise a UserError when the run has taken more epochs than it is now told to take: they cannot be taken back."""
    from cxrkit.runs import checkpoints

    taken = checkpoints.read_info(run.last).epoch if run.last.exists() else 0
    if taken > config.schedule.epochs:
        raise UserError(
            f"{run.path}: has taken {taken} epochs already, more than --epochs {config.schedule.epochs}",
            remedy=f"give --epochs {taken} or more, or choose another --name or --runs folder",
        )


def refuse_other_split(run: RunFolder, split: Split, config: TrainConfig) -> None:
    """Raise a UserError unless `--fold` names the split that the run has."""
    from cxrkit.shards.store import ShardStore

    named = splits.make(ShardStore(config.run.data).records(), config.run.fold)
    if named.digest != split.digest:
        table = Path(config.run.fold).with_suffix(".parquet").name
        own = f"give the table that it was trained on: {run.split} is one, copy it as {table} and give --fold {table}"
        remedy = own if splits.is_file(config.run.fold) else "leave out --fold to go on with the run's own split"
        raise UserError(
            f"--fold {config.run.fold}: another assignment of images than {run.path} was trained on "
            f"(digest {named.digest[:12]}, not {split.digest[:12]})",
            remedy=f"{remedy}; or choose another --name",
        )


def loader_name(config: TrainConfig, device: str) -> str:
    """Return the registered loader that the config asks for on this device."""
    from cxrkit import loaders

    return "resident" if config.run.cache == "gpu" else loaders.choose(config.run.loader, device)


def describe(console: Console, config: TrainConfig, spec: ModelSpec, inputs: Inputs, device: str) -> None:
    """Print what is about to be trained on what, and what was left out."""
    loader, release = loader_name(config, device), inputs.store.about["label_release"]
    console.print(
        f"[bold]{escape(config.name)}[/bold] at {spec.input_size} px, split {escape(inputs.split.name)}, labels "
        f"{release}; {device}, {config.run.precision}, loader {escape(loader)}",
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
    if plan.batch_size != config.optimizer.batch_size:
        console.print(
            f"  one batch of {plan.batch_size}: there are no {config.optimizer.batch_size} training images",
            highlight=False,
        )


def write_run(run: RunFolder, config: TrainConfig, inputs: Inputs, origin: Origin, device: str, resume: bool) -> None:
    """Write config, provenance and split. Raises UserError when a resumed run would see other images or labels."""
    used = {subset: inputs.used_digest(subset) for subset in ("train", *EVALUATED)}
    session = provenance.collect() | {"device": device, "precision": config.run.precision}
    about = session | {"seed": config.run.seed, "origin": asdict(origin), "used_digests": used}
    if resume and run.provenance.exists():
        stored = read_json(run.provenance, "the run's provenance", "choose another --runs folder")
        refuse_other_inputs(run, config, inputs, stored, used)
        about = stored | {"resumed": [*stored.get("resumed", []), session]}
    write_text(run.config, to_toml(config))
    write_json(run.provenance, about)
    if not run.split.exists():
        write_split(run, inputs.split, inputs.used())


def refuse_other_inputs(
    run: RunFolder, config: TrainConfig, inputs: Inputs, stored: Any, used: Mapping[Subset, str]
) -> None:
    """Raise a UserError unless a run would go on with the images, labels and pixels that it was started with."""
    remedy = "resume with the --data it was started with, or choose another --name or --runs folder"
    before = stored.get("used_digests", {}) if isinstance(stored, dict) else {}
    deciding: tuple[Subset, ...] = ("train", "val")
    if other := [subset for subset in deciding if before.get(subset) != used[subset]]:
        raise UserError(
            f"{run.path}: was trained on other {' and '.join(other)} images than {config.run.data} holds now",
            remedy=remedy,
        )
    try:
        origin: Origin = typed.build(Origin, stored.get("origin"), "origin")
    except typed.FieldError as error:
        raise UserError(f"{run.provenance}: {error}", remedy="choose another --name or --runs folder") from None
    inputs.refuse_other(f"{run.path}: was trained on", origin, read_split(run)[1], remedy)


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
    from cxrkit import losses, models, recipes
    from cxrkit.predict import BATCH_SIZE
    from cxrkit.runs.checkpoints import CheckpointInfo
    from cxrkit.trainers import TrainTask

    assert config.optimizer.batch_size is not None
    resuming = resume and run.last.exists()
    val_plan = inputs.eval_plan("val", spec, max(BATCH_SIZE, config.optimizer.batch_size))
    model = models.build(
        config.model.name,
        labels=inputs.labels,
        options=config.model.options,
        weights=config.model.weights,
        pretrained=not resuming,
        seed=config.run.seed,
    )
    origin = inputs.origin(*started_from(run, model, resuming))
    return TrainTask(
        config=config,
        run=run,
        model=model,
        spec=spec,
        loss=losses.build(config.loss.name, labels=inputs.labels, options=config.loss.options),
        labels=inputs.labels,
        # The validation images are read: their pixels would take the memory that the training's need.
        val=inputs.loader(val_plan, config.run.loader, device, config.run.threads),
        train=inputs.loader(inputs.train_plan(config, spec), loader_name(config, device), device, config.run.threads),
        device=device,
        precision=config.run.precision,
        info=CheckpointInfo(
            name=config.name,
            model=spec.name,
            options=config.model.options,
            recipe=config.recipe or config.model.name,
            recipe_digest=recipe_digest(config),
            changes=changes(recipes.origin_of(config), config),
            seed=config.run.seed,
            input_size=spec.input_size,
            age_range=inputs.age_range,
            origin=origin,
            epoch=0,
            progress={},
        ),
        resume=resuming,
        display=display,
    )


def started_from(run: RunFolder, model: Any, resuming: bool) -> tuple[str, str, Known]:
    """Return the SHA-256 of the weights that the training started from, what they had seen, and how that is known."""
    from cxrkit.runs import checkpoints

    if resuming:
        origin = checkpoints.read_info(run.last).origin
        return origin.initial_weights, origin.pretraining, origin.basis.pretraining
    return model.initial_weights.sha256, *model.initial_weights.pretraining


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
    run_config(run)  # before a claim would make the folder
    with claimed(run):
        predict_claimed(
            run,
            console,
            checkpoint=checkpoint,
            data=data,
            device=device,
            precision=precision,
            loader=loader,
            threads=threads,
            subsets=subsets,
        )


def predict_claimed(
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
    """Do what `predict` does, in a run that this process has claimed."""
    from cxrkit.base.progress import progress_bar
    from cxrkit.loaders.inputs import Inputs
    from cxrkit.models import compute
    from cxrkit.predict import predict as predict_subset

    config = run_config(run)
    device = compute.choose_device(device)
    precision = compute.choose_precision(precision or config.run.precision, device)
    split, seen = read_split(run)
    inputs = Inputs.of(data or config.run.data, split, config.run.limit)
    try:
        for subset in subsets:
            inputs.require(subset)
            with progress_bar(f"predict {subset}", len(inputs.rows[subset]), console=console) as bar:
                predict_subset(
                    checkpoint or run.best,
                    inputs,
                    subset,
                    run.predictions(subset),
                    seen=seen,
                    model_name=config.model.name,
                    device=device,
                    precision=precision,
                    loader=loader,
                    threads=threads,
                    progress=bar.advance,
                    before_writing=lambda: run.forget("predict", "evaluate"),
                )
    finally:
        inputs.close()
    run.finish("predict", Predicted(file_digest(checkpoint or run.best), digests_of_predictions(run)))


def digests_of_predictions(run: RunFolder) -> dict[str, str]:
    """Return the SHA-256 of the prediction files that are there, by subset."""
    return {name: file_digest(run.predictions(name)) for name in EVALUATED if run.predictions(name).exists()}


def run_config(run: RunFolder) -> TrainConfig:
    """Return the config of a run folder. Raises UserError when it is none."""
    if not run.config.exists():
        raise UserError(
            f"{run.path}: not a run folder (no config.toml)",
            remedy="name a folder that `cxrkit train` made, such as runs/resnet50-large-meta/official",
        )
    return read_config(run.config)


def evaluate(run: RunFolder, data: Path | None, console: Console, *, replicates: int | None = None) -> Scores:
    """Write `scores.json` of a run from its predictions and the labels of `data`, by default the run's prepared folder.

    replicates: of the bootstrap; default, the evaluator's own.
    """
    run_config(run)  # before a claim would make the folder
    with claimed(run):
        return evaluate_claimed(run, data, console, replicates=replicates)


def evaluate_claimed(run: RunFolder, data: Path | None, console: Console, *, replicates: int | None = None) -> Scores:
    """Do what `evaluate` does, in a run that this process has claimed."""
    from cxrkit.evaluators.scoring import evaluate_run
    from cxrkit.evaluators.truth import read_truth

    config = run_config(run)
    options = {} if replicates is None else {"replicates": replicates}
    scores = evaluate_run(run.path, read_truth(data or config.run.data), config.test.evaluator, options)
    run.finish("evaluate", Scored({name: part.predictions_sha256 for name, part in scores.subsets.items()}))
    console.print(f"scores in {run.scores}", highlight=False, markup=False)
    return scores
