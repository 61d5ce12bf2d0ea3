"""The command line: parses, calls, prints. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.text import Text
from typer.core import TyperGroup

from cxrkit import __version__
from cxrkit.base import registry
from cxrkit.base.errors import UserError
from cxrkit.base.plain_text import survive_any_encoding
from cxrkit.runs.config import Setting, default_text, settings


class Commands(TyperGroup):
    """The commands, with a word when one is interrupted: typer would end without any."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; on Ctrl-C say what is kept, and exit with 130."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            _say_interrupted(ctx.invoked_subcommand or "", str(interrupt))
            sys.exit(130)


app = typer.Typer(
    name="cxrkit",
    cls=Commands,
    help="Benchmark toolkit for multi-label chest X-ray classification on NIH ChestX-ray14.",
    epilog="Start with `cxrkit demo`, which needs no data. Your own download: `cxrkit doctor`, then `cxrkit prepare`.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
# Lines in a log file or a pipe are for tools and for grep: not folded at 80 columns.
console = Console(width=None if sys.stdout.isatty() else 160, emoji=False)  # a path may hold a:b:c
errors = Console(stderr=True, emoji=False)

Data = Annotated[Path, typer.Option("--data", help="Prepared folder.")]
Raw = Annotated[Path, typer.Option("--raw", help="Folder with the download: images or archives, CSV, lists.")]
DatasetName = Annotated[str, typer.Option("--dataset", help="Data set name, or package.module:function.")]
Runs = Annotated[Path, typer.Option("--runs", help="Folder of the run folders.")]


class ReportFormat(StrEnum):
    """Formats of `cxrkit report`."""

    md = "md"
    csv = "csv"
    latex = "latex"


class SubsetName(StrEnum):
    """Subsets that can be predicted."""

    val = "val"
    test = "test"


@app.callback(invoke_without_command=True)
def common(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    """Benchmark toolkit for multi-label chest X-ray classification on NIH ChestX-ray14."""
    if version:
        console.print(f"cxrkit {__version__}", highlight=False)
        raise typer.Exit


@app.command()
def prepare(
    raw: Raw = Path("data/raw"),
    data: Data = Path("data/shards"),
    dataset: DatasetName = "nih-chestxray14",
    levels: Annotated[
        str | None, typer.Option(help="Side lengths to store, in pixels, descending.", show_default="1024,512,256")
    ] = None,
    codec: Annotated[str, typer.Option(help="jpeg, raw (fastest on a CPU), png or htj2k (both lossless).")] = "jpeg",
    quality: Annotated[int, typer.Option(help="JPEG quality, 1 to 100.")] = 95,
    workers: Annotated[int | None, typer.Option(help="Processes.", show_default="one per core")] = None,
    allow_missing: Annotated[bool, typer.Option("--allow-missing", help="Prepare the images that are there.")] = False,
    skip_damaged: Annotated[bool, typer.Option("--skip-damaged", help="Leave damaged images out, and say so.")] = False,
    limit: Annotated[int | None, typer.Option(help="Prepare only the first N images.")] = None,
    resized: Annotated[
        bool, typer.Option("--resized", help="Accept a copy with smaller images; levels: its size, and halves of it.")
    ] = False,
) -> None:
    """Turn the download into HDF5 shards, once. A killed run goes on where it was."""
    from cxrkit.prepare.stage import PrepareConfig, parse_levels, prepare_raw

    config = PrepareConfig(
        raw=raw,
        data=data,
        dataset=dataset,
        levels=None if levels is None else parse_levels(levels),
        codec=codec,
        quality=quality,
        workers=workers,
        allow_missing=allow_missing,
        skip_damaged=skip_damaged,
        limit=limit,
        resized=resized,
    )
    _print(prepare_raw(config, console=console).text())


@app.command()
def verify(
    data: Data = Path("data/shards"),
    deep: Annotated[bool, typer.Option("--deep", help="Decode every image too, not only its checksum.")] = False,
    source: Annotated[
        bool, typer.Option("--source", help="Read the files in --raw instead: are they those that were prepared?")
    ] = False,
    raw: Raw = Path("data/raw"),
    dataset: DatasetName = "nih-chestxray14",
    workers: Annotated[int | None, typer.Option(help="Processes.", show_default="one per core")] = None,
) -> None:
    """Read a prepared folder again, every byte, against its checksums."""
    from cxrkit.prepare import verify as check

    if source:
        if deep:
            raise UserError("--deep and --source: one reads the shards, the other their sources", remedy="choose one")
        records = registry.load("dataset", dataset)(raw, allow_missing=True)
        report = check.verify_sources(data, raw, records, workers=workers, console=console)
    else:
        report = check.verify(data, deep=deep, workers=workers, console=console)
    report.raise_if_damaged()
    _print(report.text())


def _print(text: str) -> None:
    """Print as it is: a path may hold brackets, colons and spaces that mean nothing."""
    console.print(Text(text), soft_wrap=True)


def train(said: dict[str, Any], recipe: str | None, sets: list[str], resume: bool) -> None:
    """Train one experiment of the paper (or your own), then predict and evaluate it.

    The defaults are the paper's protocol. Everything goes into RUNS/NAME/SPLIT; a killed training goes on with
    --resume, to the same numbers.
    """
    from cxrkit import pipeline

    run = pipeline.train(pipeline.resolve(said, recipe=recipe, sets=sets, resume=resume), resume, console)
    console.print(
        f"done: {run.path}. Next: cxrkit report --runs {run.path.parent.parent}", markup=False, highlight=False
    )


def _sentence(text: str) -> str:
    return f"{escape(text[0].upper() + text[1:])}."


def _flag_of(item: Setting) -> inspect.Parameter:
    both = f"{item.flag}/--no-{item.flag[2:]}" if item.kind is bool else item.flag
    option = typer.Option(both, help=_sentence(item.field.metadata["help"]), show_default=default_text(item) or False)
    return _keyword(item.argument, Annotated[item.kind | None, option], None)


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def with_config_flags(command: Callable[[dict[str, Any], str | None, list[str], bool], None]) -> Callable[..., None]:
    """Return `command` with one flag per setting of a training: the fields are the only list of them."""
    recipe = typer.Option(
        "--recipe", "--config", help="Recipe to start from: a name, or a TOML file such as a run's config.toml."
    )
    sets = typer.Option("--set", help="Any setting, as section.key=value; goes before flags.")
    resume = typer.Option("--resume", help="Go on with the training that the run folder holds.")
    parameters = [
        _keyword("recipe", Annotated[str | None, recipe], None),
        *(_flag_of(item) for item in settings() if item.is_flag),
        _keyword("sets", Annotated[list[str] | None, sets], None),
        _keyword("resume", Annotated[bool, resume], False),
    ]

    def wrapper(**values: Any) -> None:
        recipe, sets, resume = (values.pop(name) for name in ("recipe", "sets", "resume"))
        command(values, recipe, sets or [], resume)

    wrapper.__doc__ = command.__doc__
    wrapper.__name__ = command.__name__
    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {item.name: item.annotation for item in parameters}
    return wrapper


app.command("train")(with_config_flags(train))


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(help="Run folder, RUNS/MODEL/SPLIT.")],
    checkpoint: Annotated[Path | None, typer.Option(help="Checkpoint.", show_default="the run's best")] = None,
    data: Annotated[Path | None, typer.Option("--data", help="Prepared folder.", show_default="the run's")] = None,
    subset: Annotated[list[SubsetName] | None, typer.Option(help="val, test.", show_default="both")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
    precision: Annotated[str | None, typer.Option(help="fp32, bf16, fp16.", show_default="the run's")] = None,
    loader: Annotated[str, typer.Option(help="opencv, dali, auto.")] = "auto",
    threads: Annotated[int | None, typer.Option(help="Loader threads.", show_default="one per core")] = None,
) -> None:
    """Write a run's scores for the validation and test images."""
    from cxrkit import pipeline
    from cxrkit.runs.folder import RunFolder

    subsets: Any = tuple(item.value for item in subset) if subset else pipeline.EVALUATED
    pipeline.predict(
        RunFolder(run), console, checkpoint=checkpoint, data=data, device=device, precision=precision, loader=loader,
        threads=threads, subsets=subsets,
    )  # fmt: skip


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="Run folder, RUNS/MODEL/SPLIT.")],
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Prepared folder, or a table of labels.", show_default="the run's"),
    ] = None,
    replicates: Annotated[
        int | None, typer.Option(min=1, help="Bootstrap replicates of the intervals.", show_default="1000")
    ] = None,
) -> None:
    """Compute a run's AUCs and their patient-level intervals from its predictions."""
    from cxrkit import pipeline
    from cxrkit.runs.folder import RunFolder

    pipeline.evaluate(RunFolder(run), data, console, replicates=replicates)


@app.command()
def report(
    official_split: Annotated[
        bool, typer.Option("--official-split", help="Table 5: the official split, beside published results.")
    ] = False,
    runs: Runs = Path("runs"),
    out: Annotated[Path | None, typer.Option(help="Also write the table to this file.")] = None,
    format: Annotated[
        ReportFormat | None, typer.Option(help="Format of --out, or of what is printed.", show_default="by its ending")
    ] = None,
) -> None:
    """Print the paper's tables with your runs in them: Table 5 with --official-split, else Table 3."""
    from cxrkit import report as reports

    table = reports.official(runs) if official_split else reports.resampled(runs)
    if out is None and format is not None:
        sys.stdout.write(reports.render(table, format.value))
        return
    console.print(reports.to_rich(table))
    if out is not None:
        reports.write(table, out, format.value if format else reports.format_of(out))
        console.print(f"written: {out}", highlight=False, markup=False)


recipes_app = typer.Typer(name="recipes", help="List the recipes, or show one.", invoke_without_command=True)
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


@app.command()
def synth(
    out: Annotated[Path, typer.Argument(help="New folder.")],
    images: Annotated[int, typer.Option(help="Number of images.")] = 1200,
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds draw equal cohorts.")] = 0,
    workers: Annotated[int | None, typer.Option(help="Processes.", show_default="one per core")] = None,
) -> None:
    """Draw a phantom cohort in NIH's own layout and quirks: data to try everything on."""
    from cxrkit.base.progress import progress_bar
    from cxrkit.datasets.phantom.cohort import generate

    with progress_bar("synth", images, console=console) as bar:
        generate(out, images, seed, workers=workers, progress=bar.advance)
    console.print(f"{images:,} images in {out}. Next: cxrkit prepare --dataset synthetic --raw {out}", highlight=False)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything that the demo makes.")] = Path("demo"),
) -> None:
    """Run the whole toolkit on a phantom cohort: about five minutes on two cores, no download."""
    from cxrkit import demo as demonstration

    demonstration.run(out, console)


@app.command()
def doctor(
    raw: Annotated[Path | None, typer.Option("--raw", help="Also check a folder with the download.")] = None,
    data: Data = Path("data/shards"),
) -> None:
    """Check this machine and, with --raw, a download; every finding comes with its remedy."""
    from cxrkit import doctor as check

    findings = check.examine(raw, data)
    console.print(check.to_rich(findings))
    if any(finding.state == "problem" for finding in findings):
        raise typer.Exit(2)


# What an interrupted command leaves, and how to go on.
_INTERRUPTED = {
    "prepare": "shards that are finished are kept, and a folder that was prepared before is as it was; "
    "the same command goes on where this one was",
    "verify": "nothing was changed; the same command starts again",
}


def _say_interrupted(command: str, said: str = "") -> None:
    text = said or f"interrupted: {_INTERRUPTED.get(command, 'what was finished is kept')}"
    errors.print(text, markup=False, highlight=False, soft_wrap=True)


def main() -> None:
    """Run the command line. Exit code 2: the user's mistake, with its remedy; 1: ours."""
    survive_any_encoding(sys.stdout, sys.stderr)
    debug = "--debug" in sys.argv
    # A flag for every command, wherever it stands.
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        app(args=arguments, standalone_mode=True)
    except UserError as error:
        if debug:
            raise
        errors.print(f"[bold red]error:[/bold red] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:  # before the command has begun
        _say_interrupted("")
        sys.exit(130)
    except Exception as error:
        if debug:
            raise
        text = f"{type(error).__name__}: {error}"
        if plug_in := registry.failed_plug_in(error):
            text = f"plug-in {plug_in} failed: {text}\n  remedy: correct it; --debug shows where it failed"
            errors.print(f"[bold red]error:[/bold red] {escape(text)}", highlight=False, soft_wrap=True)
            sys.exit(2)
        errors.print(f"[bold red]internal error:[/bold red] {escape(text)}", highlight=False, soft_wrap=True)
        errors.print("  this is a bug of cxrkit; run the command again with --debug for the traceback", highlight=False)
        sys.exit(1)


if __name__ == "__main__":
    main()
