"""The main path, one function per stage: prepare -> train -> predict -> evaluate -> report.

A newcomer reads this file first. Every stage reads and writes files, so each can be run again alone.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from cxrkit.base import notes, registry
from cxrkit.base.contracts import EVALUATED, Subset
from cxrkit.base.errors import UserError, shown
from cxrkit.base.files import file_digest
from cxrkit.base.ranks import ALONE, Ranks
from cxrkit.base.words import count
from cxrkit.datasets import splits
from cxrkit.runs.config import TrainConfig, changes, read_run_config, recipe_digest
from cxrkit.runs.folder import Predicted, RunFolder, Scored, Trained, claimed, read_split
from cxrkit.runs.opening import evaluated_with, run_config

if TYPE_CHECKING:
    from cxrkit.imports.request import ImportRequest
    from cxrkit.report.document.tables import Report
    from cxrkit.runs.scores import Scores


def resolve(
    said: Mapping[str, Any],
    *,
    recipe: str | None = None,
    sets: Sequence[str] = (),
    resume: bool = False,
    waits: bool = False,
) -> TrainConfig:
    """Return the complete config of what a user asks for.

    said, recipe, sets: see `recipes.resolve`. With `resume`, a run that is there goes on with its own config: only what
    is said is changed. waits: the run that a probe starts from is not trained yet, and is asked when the
    probe is resolved again. Raises UserError for what cannot be.
    """
    from cxrkit import models, recipes
    from cxrkit.recipes import probing

    config = recipes.resolve(said, recipe=recipe, sets=sets)
    if not resume or config.model.from_run is not None:
        config = probing.settled(config, recipes.said_paths(said, sets))
    run = folder_of(config)
    if resume and run.config.exists():
        stored = read_run_config(run.config)
        config = stored.with_values(
            recipes.said_values(config, stored, said, recipe, sets) | {"run.runs": config.run.runs}
        )
        refuse_other_place(run, config)
        asked = ("run.fold", "run.limit")
        config = probing.as_before(config, stored) if waits else probing.settled(config, asked)
    spec = models.spec_of(config)
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


def decided(
    config: TrainConfig, run: RunFolder | None, device: str, note: notes.Say = notes.to_stderr, ranks: Ranks = ALONE
) -> TrainConfig:
    """Return the config with what is chosen for the machine it is trained on, or was when a resumed `run` began."""
    from cxrkit.models import compute
    from cxrkit.trainers import threads

    computing = config.run.compute_threads
    if compute.on_cpu(device):
        before = None
        if run and run.config.exists():  # one that does not say has left it to torch
            before = read_run_config(run.config).run.compute_threads or threads.torch_default()
        computing = threads.chosen(computing, before, note, processes=ranks.local_world_size)
    compile = config.run.compile
    if compile is None and not ranks.several:  # what several processes send each other is not compiled unasked
        compile = not compute.on_cpu(device)
    precision = compute.choose_precision(config.run.precision, device)
    return config.with_values({"run.precision": precision, "run.compile": compile, "run.compute_threads": computing})


def train(config: TrainConfig, resume: bool, console: Console, ranks: Ranks = ALONE) -> RunFolder:
    """Train one experiment, then predict and evaluate it; returns its run folder.

    config: see `resolve`. The run is claimed before it is looked at and until its last file is written. ranks: the
    processes that do it together, of which the first one claims and writes. Raises UserError for anything the user can
    repair.
    """
    from cxrkit import models
    from cxrkit.evaluators import scoring
    from cxrkit.loaders.inputs import Inputs
    from cxrkit.models import compute
    from cxrkit.recipes import probing
    from cxrkit.report import panel
    from cxrkit.runs import checkpoints
    from cxrkit.runs.scores import read_scores
    from cxrkit.trackers import following, tracking
    from cxrkit.trainers import assembly, epochs, rehearsal, resuming, threads
    from cxrkit.trainers.display import TrainDisplay

    run = folder_of(config)
    ranks.once(lambda: tracking.check(config.run.log, config.run.log_options))
    device = compute.choose_device(ranks.device(config.run.device))
    config = ranks.once(lambda: decided(config, run if resume else None, device, notes.through(console), ranks))
    threads.use(config.run.compute_threads)
    assert config.input.size is not None
    spec = models.spec_of(config).at(config.input.size)
    with (
        ranks.first_holds(claimed(run)),
        ranks.first_holds(rehearsal.no_trace_of_a_failure(run, config, spec)),
        resuming.told_how_to_resume(run),
    ):
        if resume and ranks.once(run.state) == "new":
            notes.through(console)(f"--resume: {run.path} has no training to go on with; this begins it")
        split = ranks.once(lambda: resuming.check_existing(run, config, resume))
        ranks.once(run.remove_parts)
        if spec.probe and isinstance(split, str):
            split = probing.split_of(config)
        inputs = Inputs.of(config.run.data, split, config.run.limit, pixels=spec.pixels)
        try:
            for subset in ("train", *EVALUATED):
                inputs.require(subset)
            assembly.describe(console, config, spec, inputs, device, ranks)
            trainer = registry.load("trainer", config.run.trainer)
            scoring.rehearse(config.test.evaluator, inputs.labels)  # a fault should be heard before, not after
            if spec.probe:
                from cxrkit.trainers import features

                features.attach(inputs, config, spec, device, console, run.last)
            by, images = config.selection.metric, len(inputs.rows["val"])
            display = TrainDisplay(console, config.schedule.epochs, images, inputs.labels, by)
            task = assembly.assemble(config, spec, inputs, run, device, resume, display, ranks)
            rehearsal.rehearse(task, inputs)
            ranks.once(lambda: resuming.write_run(run, config, inputs, task.info.origin, device, ranks.world_size))
            if ranks.once(lambda: run.state() == "training" or not resuming.finished(run, config)):
                # The scores of before would stand there as if they were those of what is trained now.
                ranks.once(lambda: run.forget("train", "predict", "evaluate"))
                log: AbstractContextManager[None] = nullcontext()
                if ranks.first:
                    log = following.follow(run, config, notes.through(console), resumed=resume)
                with display, log:
                    trainer(task)
                ranks.once(lambda: checkpoints.restate_best(run.best, task.info, config.run.trainer))
                ranks.once(lambda: epochs.finish(task))
                ranks.once(lambda: run.finish("train", Trained(config.schedule.epochs, file_digest(run.best))))
            elif config.run.keep_epochs:
                epochs.tell_missing(task, config.schedule.epochs)
        finally:
            inputs.close()
        if ranks.once(run.state) == "trained":
            where = config.run
            predict(
                run, console, device=where.device, loader=where.loader, threads=where.threads, held=True, ranks=ranks
            )
        if ranks.first and (run.state() != "scored" or not scoring.is_by(run.path, config.test.evaluator)):
            evaluate(run, config.run.data, console, held=True)
        elif ranks.first:
            panel.tell(run, read_scores(run.scores), console)
    return run


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
    views: str | None = None,
    held: bool = False,
    ranks: Ranks = ALONE,
) -> None:
    """Write `predictions/{val,test}.parquet` of a run, from its best checkpoint or the one given.

    views: how images are looked at, by default as the run's recipe says (`test.views`); with others than those the
    predictions are of another recipe, and say so. held: this process has claimed the run already. ranks: the processes
    that share the images.
    """
    from cxrkit import models
    from cxrkit.base.progress import progress_bar
    from cxrkit.loaders.inputs import Inputs
    from cxrkit.models import compute
    from cxrkit.predict import predict as predict_subset
    from cxrkit.trainers import threads as using

    config = ranks.once(lambda: run_config(run))  # before a claim would make the folder
    asked = config if views is None else config.with_values({"test.views": views})
    restated = {} if asked == config else terms_of(asked, config)
    device = compute.choose_device(ranks.device(device))
    computing = None
    if compute.on_cpu(device):
        number = config.run.compute_threads
        note = notes.through(console)
        computing = ranks.once(lambda: using.chosen(number, number, note, processes=ranks.local_world_size))
        using.use(computing)
    wanted = precision or config.run.precision
    precision = ranks.once(lambda: compute.choose_precision(wanted, device))
    spec = models.spec_of(config, data)
    with nullcontext() if held else ranks.first_holds(claimed(run)):
        split, seen = ranks.once(lambda: read_split(run))
        inputs = Inputs.of(data or config.run.data, split, config.run.limit, pixels=spec.pixels)
        try:
            if spec.probe:
                from cxrkit.trainers import features

                features.attach(inputs, config, spec, device, console, checkpoint or run.best)
            for subset in subsets:
                inputs.require(subset)
                images = len(inputs.rows[subset])
                with progress_bar(f"predict {subset}", images, console=console) as bar:
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
                        loader_options=config.run.loader_options if loader == config.run.loader else {},
                        threads=using.for_loading(threads, computing, ranks.local_world_size),
                        # As it was trained; but a subset is scored on a CPU before it is compiled for one.
                        compile=bool(config.run.compile) and not compute.on_cpu(device),
                        progress=ranks.counting(bar.advance, images),
                        before_writing=lambda: run.forget("predict", "evaluate"),
                        ranks=ranks,
                        views=asked.test.views,
                        restated=restated,
                    )
        finally:
            inputs.close()
        by = checkpoint or run.best
        ranks.once(lambda: run.finish("predict", Predicted(file_digest(by), digests_of_predictions(run))))


def terms_of(asked: TrainConfig, config: TrainConfig) -> dict[str, Any]:
    """Return what predictions say of their recipe where they are made as `asked`, and the run was trained by `config`.

    So they stand in a column of their own, beside those of the run's own recipe.
    """
    from cxrkit import recipes

    return {"recipe_digest": recipe_digest(asked), "changes": changes(recipes.origin_of(config), asked)}


def digests_of_predictions(run: RunFolder) -> dict[str, str]:
    """Return the SHA-256 of the prediction files that are there, by subset."""
    return {name: file_digest(run.predictions(name)) for name in EVALUATED if run.predictions(name).exists()}


def import_predictions(request: ImportRequest, console: Console) -> RunFolder:
    """Make a run folder of predictions that were made elsewhere, and evaluate it. Raises UserError."""
    from cxrkit.base.progress import working
    from cxrkit.evaluators.scoring import evaluate_run
    from cxrkit.imports import doubts, importing
    from cxrkit.report import panel

    with working("reading the predictions"):
        made = importing.import_predictions(request)
    console.print(f"imported into {made.run.path}", highlight=False, markup=False)
    for note in made.notes:
        console.print(f"  {note}", highlight=False, markup=False)
    with claimed(made.run), working("evaluating"):
        scores = evaluate_run(made.run.path, made.truth)
        made.run.finish("evaluate", Scored({name: part.predictions_sha256 for name, part in scores.subsets.items()}))
    panel.tell(made.run, scores, console)
    if {"val", "test"} <= scores.subsets.keys():
        path = shlex.quote(str(made.run.path))
        what = f"thresholds: cxrkit evaluate {path} --evaluator auc,calibration,thresholds"
        console.print(Text(shown(what)), soft_wrap=True)
    for doubt in doubts.of(scores):
        console.print(f"doubtful: {doubt}", style="yellow", highlight=False, markup=False)
    return made.run


def evaluate(
    run: RunFolder,
    data: Path | None,
    console: Console,
    *,
    replicates: int | None = None,
    evaluator: str | None = None,
    options: Sequence[str] = (),
    held: bool = False,
) -> Scores:
    """Write `scores.json` of a run from its predictions and the labels of `data`, by default the run's prepared folder.

    replicates: of the bootstrap; default, the evaluator's own. evaluator: default, the run's; several are joined by
    commas. What others found in the same predictions before stays beside it, and what cannot stay is said; cxrkit's own
    bring the AUCs where there are none (choosing.with_aucs). options: of the evaluators, each as "name=value".
    held: this process has claimed the run already.
    """
    from cxrkit.base.progress import working
    from cxrkit.evaluators import keeping
    from cxrkit.evaluators.choosing import read_options, with_aucs
    from cxrkit.evaluators.epochs import evaluate_epochs
    from cxrkit.evaluators.scoring import evaluate_run
    from cxrkit.evaluators.truth import read_truth
    from cxrkit.report import panel

    labels, by = evaluated_with(run, data)  # before a claim would make the folder
    texts = [*options, *([] if replicates is None else [f"replicates={replicates}"])]
    before = keeping.earlier(run.path)
    by = evaluator or by
    if before.scores is None or "auc" not in before.scores.evaluators:
        by = with_aucs(by)
    chosen = read_options(by, texts)
    slowly = " (dcurves loads first)" * ("net-benefit" in by.split(","))
    with nullcontext() if held else claimed(run), working(f"evaluating by {by}{slowly}"):
        truth = read_truth(labels)
        scores = evaluate_run(run.path, truth, by, chosen, before.scores)
        kept = evaluate_epochs(run, truth, scores)
        run.finish("evaluate", Scored({name: part.predictions_sha256 for name, part in scores.subsets.items()}))
    if lost := keeping.dropped(before, scores, by):
        names = ", ".join(lost.evaluators)
        console.print(f"no longer in the scores: what {names} found ({lost.why})", highlight=False, markup=False)
    panel.tell(run, scores, console)
    if kept is not None:
        console.print(
            f"  and of {count(len(kept.epochs), 'epoch')} in {run.epoch_scores}", highlight=False, markup=False
        )
        for epoch, reason in kept.unusable.items():
            console.print(f"  epoch {epoch} cannot be used: {reason}", highlight=False, markup=False)
    return scores


def evaluate_elsewhere(
    run: RunFolder,
    folder: Path,
    console: Console,
    *,
    data: Path | None = None,
    part: str | None = None,
    replicates: int | None = None,
) -> Report:
    """Ask a run's network about another data set's images, and return its external validity as a report.

    folder: that data set, prepared. data: the run's own labels, by default its prepared folder. part: "test" or "all";
    default, its official test part where it has one. replicates: of the bootstrap; default, the evaluator's own. Kept
    in RUN/external/NAME, apart from the run's own scores.
    """
    from cxrkit.base.progress import progress_bar
    from cxrkit.evaluators.truth import read_truth
    from cxrkit.external.validating import validate
    from cxrkit.models import compute
    from cxrkit.report.each_run.external import external
    from cxrkit.runs.external import VALIDITY, read_validity

    config = run_config(run)  # before a claim would make the folder
    own = read_truth(data or config.run.data)
    device = compute.choose_device("auto")
    precision = compute.choose_precision(config.run.precision, device)
    with claimed(run):
        kept = validate(
            run,
            folder,
            own,
            part=part,
            replicates=replicates,
            device=device,
            precision=precision,
            bar=lambda images: progress_bar("predict elsewhere", images, console=console),
        )
    console.print(f"kept in {kept}", highlight=False, markup=False)
    return external([read_validity(kept / VALIDITY)])
