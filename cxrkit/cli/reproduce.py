"""The command that runs a whole study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cxrkit.cli.app import Runs, app, console


@app.command()
def reproduce(
    study: Annotated[str, typer.Argument(help="table3, table5, probes, all, or a file of your own.")],
    data: Annotated[Path | None, typer.Option("--data", help="Prepared folder.", show_default="data/shards")] = None,
    runs: Runs = Path("runs"),
    folds: Annotated[
        str | None,
        typer.Option(help="As --fold, several with commas: 1,2.", show_default="the study's"),
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="Several with commas: 0,1,2.", show_default="the study's")] = None,
    weights: Annotated[
        Path | None, typer.Option(help="ImageNet weights for its -ots and -ft networks, instead of a download.")
    ] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="Any setting of all runs, as section.key=value.")
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Runs at a time.", show_default="one a GPU, else one"),
    ] = None,
    per_gpu: Annotated[int, typer.Option("--per-gpu", min=1, help="Runs that share a GPU.")] = 1,
    engine: Annotated[str, typer.Option(help="local, ray, slurm, or package.module:Class.")] = "local",
    engine_set: Annotated[
        list[str] | None,
        typer.Option("--engine-set", help="An option of the engine, as key=value: partition=gpu."),
    ] = None,
    retry: Annotated[int, typer.Option(min=0, help="Times that a failed run is tried again, from its last state.")] = 0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list the runs, and what is missing in time and disk.")
    ] = False,
) -> None:
    """Run all of a study that is missing: the paper's tables, or your own grid of runs.

    The same command goes on after anything: what is done is left, what was begun is resumed. A run that fails does not
    stop the others; it is listed in the end, and the exit code is 1.
    """
    from cxrkit.cli import seeds as several
    from cxrkit.reproduce import main
    from cxrkit.reproduce.planning import Places

    request = main.Request(
        study,
        Places(data, runs, tuple(sets or ()), weights),
        folds=_words(folds, "--folds"),
        seeds=() if seeds is None else tuple(several.parse(seeds)),
        engine=engine,
        engine_options=dict(_option(text) for text in engine_set or ()),
        jobs=jobs,
        per_gpu=per_gpu,
        retries=retry,
        dry_run=dry_run,
    )
    if not main.reproduce(request, console):
        raise typer.Exit(1)


def _words(text: str | None, flag: str) -> tuple[str, ...]:
    from cxrkit.base.errors import UserError

    words = tuple(word.strip() for word in (text or "").split(",")) if text is not None else ()
    if "" in words:
        raise UserError(f"{flag} {text!r}: an empty name between commas", remedy=f"write it as {flag} 1,2")
    return tuple(dict.fromkeys(words))


def _option(text: str) -> tuple[str, object]:
    import tomllib

    from cxrkit.base.errors import UserError

    key, equals, shown = text.partition("=")
    if not equals:
        raise UserError(f"--engine-set {text}: no value", remedy="write it as --engine-set key=value")
    try:
        (value,) = tomllib.loads(f"value = {shown}").values()
    except ValueError:
        value = shown
    return key.strip(), value
