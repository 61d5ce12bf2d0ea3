"""From a config and its inputs to a TrainTask: the network, the loss and the loaders, decided and opened."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rich.console import Console
from rich.markup import escape

from cxrkit import loaders, losses, models, recipes
from cxrkit.base.contracts import EVALUATED
from cxrkit.base.origin import Origin
from cxrkit.base.ranks import ALONE, Ranks
from cxrkit.base.words import count
from cxrkit.loaders import regions
from cxrkit.loaders.inputs import Inputs, loader_options
from cxrkit.models import ModelSpec, compute
from cxrkit.models.weights import InitialWeights
from cxrkit.runs import checkpoints
from cxrkit.runs.checkpoints import CheckpointInfo
from cxrkit.runs.config import TrainConfig, changes, recipe_digest
from cxrkit.runs.folder import RunFolder
from cxrkit.runs.sections import LossSettings
from cxrkit.trainers import TrainTask, epochs, masking, optimizers, rates, stepping, threads
from cxrkit.trainers.display import TrainDisplay


def describe(
    console: Console, config: TrainConfig, spec: ModelSpec, inputs: Inputs, device: str, ranks: Ranks = ALONE
) -> None:
    """Print what is about to be trained on what, and what was left out."""
    loader, release = loader_name(config, spec, device), inputs.store.about["label_release"]
    mode = stepping.mode_name(config.run.compile, stepping.records(config.run.graph, device, ranks))
    looks_at = f"at {spec.input_size} px" if spec.image else "on age, sex and view alone"
    if spec.probe:
        looks_at = f"on the features of {escape(str(config.model.from_run))}"
    parts = [config.model.name] if config.name != config.model.name else []
    parts += [f"loss {config.loss.name}"] if config.loss.name != LossSettings().name else []
    what = f": {escape(', '.join(parts))}," if parts else ""
    console.print(
        f"[bold]{escape(config.name)}[/bold]{what} {looks_at}, split {escape(inputs.split.name)}, labels "
        f"{release}; {device}, {config.run.precision}, {mode}, loader {escape(loader)}",
        highlight=False,
    )
    for subset in ("train", *EVALUATED):
        used, whole = len(inputs.rows[subset]), inputs.split.images(subset)
        marked = ": results will be marked partial" if subset != "val" else ""
        part = "" if used == whole else f" of {whole:,}{marked}"
        console.print(f"  {subset:<5} {used:>7,} {'image' if used == 1 else 'images'}{part}", highlight=False)
    plan = inputs.train_plan(config, spec, ranks)
    together = plan.batch_size * ranks.world_size
    if ranks.several:
        console.print(
            f"  {count(ranks.world_size, 'process')}, {count(plan.batch_size, 'image')} each of a batch",
            highlight=False,
        )
    if plan.dropped:
        console.print(
            f"  each epoch leaves out {count(plan.dropped, 'training image')} (others every time): they do not fill a "
            f"batch of {together}",
            highlight=False,
        )
    if together != config.optimizer.batch_size:
        console.print(
            f"  one batch of {together}: there are no {config.optimizer.batch_size} training images",
            highlight=False,
        )


def loader_name(config: TrainConfig, spec: ModelSpec, device: str) -> str:
    """Return the registered loader that the config asks for on this device."""
    if not spec.image:
        return loaders.PIXELLESS
    return "resident" if config.run.cache == "gpu" else loaders.choose(config.run.loader, device)


def assemble(
    config: TrainConfig,
    spec: ModelSpec,
    inputs: Inputs,
    run: RunFolder,
    device: str,
    resume: bool,
    display: TrainDisplay,
    ranks: Ranks = ALONE,
) -> TrainTask:
    """Build the model and the loaders; nothing is written yet, so what cannot be built leaves no trace.

    The initial weights are read by the first of several processes, which gives them to the others.
    """
    assert config.optimizer.batch_size is not None
    rates.check(config)
    resuming = ranks.once(lambda: resume and run.last.exists())
    together = max(compute.batch_size(device, spec.input_size), config.optimizer.batch_size)
    train_plan = inputs.train_plan(config, spec, ranks)
    val_plan = inputs.eval_plan("val", spec, together, ranks)
    inputs.eval_plan("test", spec, together, ranks, config.test.views)  # what cannot be should be heard before
    model = models.build(
        config.model.name,
        labels=inputs.labels,
        options=config.model.options,
        weights=config.model.weights,
        pretrained=ranks.first and not resuming,
        seed=config.run.seed,
    )
    optimizers.check(config.optimizer, model, config.model.name)
    loss = losses.build(
        config.loss.name,
        labels=inputs.labels,
        options=config.loss.options,
        prevalence=None if inputs.labels.unit else inputs.prevalence(),  # amounts have none
    )
    computing = config.run.compute_threads if compute.on_cpu(device) else None
    loading = threads.for_loading(config.run.threads, computing, ranks.local_world_size)
    if inputs.extractor is not None:
        model.initial_weights = inputs.extractor  # type: ignore[assignment]
    origin = ranks.once(lambda: started_from(inputs.origin(), run, model, resuming))
    train = inputs.loader(
        train_plan,
        loader_name(config, spec, device),
        device,
        loading,
        options=loader_options(config.run, cached=config.run.cache == "gpu"),
        console=display.console,
    )
    if places := getattr(loss, "region_places", 0):  # boxes are learned from, and never chosen by
        train = regions.with_regions(train, train_plan, inputs, places, device)
        origin = replace(origin, boxes_digest=inputs.boxes_digest)
    return TrainTask(
        config=config,
        run=run,
        model=model,
        spec=spec,
        loss=masking.masked(loss, inputs.labels, config.loss.masked, device),
        labels=inputs.labels,
        # The validation images are read: their pixels would take the memory that the training's need.
        val=inputs.loader(
            val_plan,
            config.run.loader,
            device,
            loading,
            options=loader_options(config.run, cached=False),
        ),
        train=train,
        batch_size=train_plan.batch_size,
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
            masked=config.loss.masked,
        ),
        resume=resuming,
        display=display,
        ranks=ranks,
        keep=epochs.keeper(config, spec, inputs, device, loading, ranks),
    )


def started_from(origin: Origin, run: RunFolder, model: Any, resuming: bool) -> Origin:
    """Return the origin with the weights that the training started from, and what the network had seen before."""
    if resuming:
        before = checkpoints.read_info(run.last).origin
        return replace(
            origin,
            initial_weights=before.initial_weights,
            pretraining=before.pretraining,
            pretrained=before.pretrained,
            basis=replace(origin.basis, pretraining=before.basis.pretraining),
        )
    first: InitialWeights = model.initial_weights
    return replace(
        origin,
        initial_weights=first.sha256,
        pretraining=first.pretraining,
        pretrained=first.pretrained,
        basis=replace(origin.basis, pretraining=first.known),
    )
