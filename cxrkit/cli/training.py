"""Commands that train, and list what can be trained."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from cxrkit.base.words import count
from cxrkit.cli.app import RunArgument, app, console, load_torch, print_as_it_is, run_folder
from cxrkit.cli.help import Commands, Group
from cxrkit.runs.config import Setting, default_text, settings


def train(said: dict[str, Any], recipe: str | None, sets: list[str], resume: bool, seeds: str | None = None) -> None:
    """Train one experiment of the paper (or your own), then predict and evaluate it.

    The defaults are the paper's protocol. Everything goes into RUNS/NAME/SPLIT; a killed training goes on with
    --resume, to the same numbers. Several GPUs: torchrun --nproc-per-node N -m cxrkit train ...
    """
    from cxrkit import pipeline
    from cxrkit.base.ranks import joined
    from cxrkit.cli import seeds as several
    from cxrkit.runs import opening

    with joined() as ranks:
        shown = console if ranks.first else Console(quiet=True, force_terminal=False)
        if seeds is not None:
            runs = several.train(said, several.parse(seeds), recipe, sets, resume, shown, ranks)
            what = f"{len(runs)} seeds beside {runs[0].path}"
        else:
            config = ranks.once(lambda: pipeline.resolve(said, recipe=recipe, sets=sets, resume=resume))
            if not resume:
                ranks.once(lambda: opening.refuse_taken_or_busy(pipeline.folder_of(config)))
            load_torch()  # a slip in the flags was told before it
            runs = [pipeline.train(config, resume, shown, ranks)]
            what = f"{runs[0].path}"
        shown.print(f"done: {what}", markup=False, highlight=False, soft_wrap=True)


# Where the flags stand in the help: by section, and those of the run one by one.
_ORDER = ("Model", "Data", "Protocol", "Augmentation", "Machine", "Output")
_PANELS = {"model": "Model", "input": "Model", "augmentation": "Augmentation"}
_PANELS |= dict.fromkeys(("loss", "optimizer", "schedule", "selection", "test"), "Protocol")
_RUN_PANELS = dict.fromkeys(("fold", "seed", "limit", "data"), "Data")
_RUN_PANELS |= dict.fromkeys(("name", "runs", "checkpoint_minutes", "keep_epochs", "log_steps", "log"), "Output")
_RUN_PANELS |= {"trainer": "Protocol"}


def _sentence(text: str) -> str:
    begins_with_a_value = re.match(r"\w+[,:] |\S*[.\d]", text)  # "fp32, bf16, ...": to be typed as it stands
    sentence = escape(text if begins_with_a_value else text[0].upper() + text[1:])
    return sentence if sentence.endswith(".") else f"{sentence}."


def _panel(item: Setting) -> str:
    return _RUN_PANELS.get(item.key, "Machine") if item.section == "run" else _PANELS[item.section]


def _flag_of(item: Setting) -> inspect.Parameter:
    both = f"{item.flag}/--no-{item.flag[2:]}" if item.kind is bool else item.flag
    option = typer.Option(
        both,
        help=_sentence(item.field.metadata["help"]),
        show_default=default_text(item) or False,
        rich_help_panel=_panel(item),
    )
    return _keyword(item.argument, Annotated[item.kind | None, option], None)


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def with_config_flags(
    command: Callable[[dict[str, Any], str | None, list[str], bool, str | None], None],
) -> Callable[..., None]:
    """Return `command` with one flag per setting of a training: the fields are the only list of them."""

    def option(flags: str, panel: str, said: str) -> Any:
        return typer.Option(*flags.split(), help=said, rich_help_panel=panel)

    recipe = option(
        "--recipe --config", "Model", "Recipe to start from: a name, or a TOML file such as a run's config.toml."
    )
    sets = option("--set", "Protocol", "Any setting, as section.key=value; goes before flags.")
    resume = option("--resume", "Output", "Go on with the training that the run folder holds.")
    seeds = option("--seeds", "Data", "Several seeds, as in 0,1,2: one after the other, folders side by side.")
    flags = sorted((item for item in settings() if item.is_flag), key=lambda item: _ORDER.index(_panel(item)))
    parameters = [
        _keyword("recipe", Annotated[str | None, recipe], None),
        *map(_flag_of, flags),
        _keyword("sets", Annotated[list[str] | None, sets], None),
        _keyword("resume", Annotated[bool, resume], False),
        _keyword("seeds", Annotated[str | None, seeds], None),
    ]

    def wrapper(**values: Any) -> None:
        recipe, sets, resume, seeds = (values.pop(name) for name in ("recipe", "sets", "resume", "seeds"))
        command(values, recipe, sets or [], resume, seeds)

    wrapper.__doc__ = command.__doc__
    wrapper.__name__ = command.__name__
    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {item.name: item.annotation for item in parameters}
    return wrapper


app.command("train")(with_config_flags(train))


@app.command()
def log(
    run: RunArgument,
    to: Annotated[str, typer.Option(help="tensorboard, wandb or mlflow.")],
    option: Annotated[
        list[str] | None, typer.Option("--option", help="Option of the tracker, as name=value; may be repeated.")
    ] = None,
) -> None:
    """Send the metrics of a run that was trained to a tracker: what it does not have yet."""
    from cxrkit.base.errors import UserError
    from cxrkit.trackers.following import send

    options = dict(text.partition("=")[::2] for text in option or ())
    if "" in options:
        raise UserError("--option: expected name=value", remedy="write it like --option project=chest")
    sent = send(run_folder(run), to, options)
    print_as_it_is(f"{count(sent.lines, 'line')} sent: {sent.where}")


recipes_app = Commands(cls=Group, name="recipes", help="List the recipes, or show one.", invoke_without_command=True)
app.add_typer(recipes_app)


@recipes_app.callback()
def recipes(context: typer.Context) -> None:
    """List the recipes that ship: what `cxrkit train --recipe NAME` takes."""
    from cxrkit.recipes.catalog import table

    if context.invoked_subcommand is None:
        console.print(table())


@recipes_app.command("show")
def show_recipe(name: Annotated[str, typer.Argument(help="Name of a recipe.")]) -> None:
    """Print a recipe's file: to read, or to start your own from."""
    from cxrkit.recipes import text

    sys.stdout.write(text(name))


@app.command()
def models() -> None:
    """List the models with parameters, FLOPs, input size, learning rate and batch size."""
    from cxrkit.models.catalog import table

    console.print(table())
