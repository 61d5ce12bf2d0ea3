"""`cxrkit train --seeds 0,1,2`: one training after the other, their run folders side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console

from cxrkit.base.errors import UserError
from cxrkit.base.ranks import ALONE, Ranks

if TYPE_CHECKING:
    from cxrkit.runs.config import TrainConfig
    from cxrkit.runs.folder import RunFolder

HIGHEST = 2**31 - 1  # as for --seed


def parse(text: str) -> list[int]:
    """Return the seeds in "0,1,2". Raises UserError for anything that is not a list of different seeds."""
    words = [word.strip() for word in text.split(",")]
    wrong = [word for word in words if not (word.isascii() and word.isdigit() and int(word) <= HIGHEST)]
    remedy = "write whole numbers with commas between them, as in --seeds 0,1,2"
    if wrong:
        raise UserError(f"--seeds {text}: {wrong[0]!r} is no seed", remedy=remedy)
    seeds = [int(word) for word in words]
    if len(set(seeds)) < len(seeds):
        raise UserError(f"--seeds {text}: a seed is named twice", remedy=remedy)
    return seeds


def train(
    said: dict[str, Any],
    seeds: list[int],
    recipe: str | None,
    sets: list[str],
    resume: bool,
    console: Console,
    ranks: Ranks = ALONE,
) -> list[RunFolder]:
    """Train with each of the seeds in turn; returns the run folders.

    All is looked at before the first training: a run that exists is refused without `resume`, whichever seed it is of.
    With it, finished runs are left alone, killed ones go on, and those that are not there begin. ranks: as
    `pipeline.train` takes it.
    """
    from cxrkit import pipeline
    from cxrkit.trainers import resuming

    configs = ranks.once(lambda: _looked_at(said, seeds, recipe, sets, resume))
    runs = [pipeline.folder_of(config) for config in configs]
    for run, config in zip(runs, configs, strict=True):
        if ranks.once(lambda run=run, config=config: resuming.ended(run, config)):  # type: ignore[misc]
            console.print(
                f"seed {config.run.seed}: finished before, left alone: {run.path}", markup=False, soft_wrap=True
            )
            continue
        console.print(f"seed {config.run.seed}, of {', '.join(map(str, seeds))}", markup=False)
        there = ranks.once(run.config.exists)
        pipeline.train(config, resume and there, console, ranks)
    return runs


def _looked_at(
    said: dict[str, Any], seeds: list[int], recipe: str | None, sets: list[str], resume: bool
) -> list[TrainConfig]:
    """Return the configs of the trainings. Raises UserError where one of them may not be taken up."""
    from cxrkit import pipeline
    from cxrkit.trainers import resuming

    if said.get("seed") is not None or any(item.partition("=")[0].strip() == "run.seed" for item in sets):
        raise UserError("--seeds: the seed is said twice", remedy="give --seed for one run, --seeds for several")
    configs = [pipeline.resolve(said | {"seed": seed}, recipe=recipe, sets=sets, resume=resume) for seed in seeds]
    runs = [pipeline.folder_of(config) for config in configs]
    if not resume and (there := [run.path for run in runs if run.config.exists()]):
        raise UserError(
            f"--seeds: {', '.join(map(str, there))} already hold{'s' * (len(there) == 1)} a training",
            remedy="add --resume: what is finished is left alone, the others go on or begin; or choose another --name",
        )
    for run, config in zip(runs, configs, strict=True):
        resuming.check_existing(run, config, resume)
    return configs
