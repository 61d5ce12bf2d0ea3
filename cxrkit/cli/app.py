"""The frame of the command line: consoles, options that several commands share, exit codes."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from cxrkit import __version__
from cxrkit.base import current_folder, registry
from cxrkit.base.errors import UserError, shown
from cxrkit.base.extras import not_installed
from cxrkit.base.plain_text import survive_any_encoding
from cxrkit.base.wrapping import wrapped
from cxrkit.cli import help
from cxrkit.cli.usage import UsageError, as_user_error
from cxrkit.cli.width import piped_width

if TYPE_CHECKING:
    from cxrkit.report.document.tables import Report
    from cxrkit.runs.folder import RunFolder


class Commands(help.Group):
    """The commands, with a word when one is interrupted: typer would end without any."""

    titles: ClassVar[Mapping[str, Sequence[str]]] = {
        "Data": ("download", "prepare", "verify", "stats", "splits", "synth"),
        "Training": ("train", "recipes", "models", "reproduce", "plot", "log"),
        "Results": ("predict", "evaluate", "import", "report", "compare", "literature"),
        "Where networks look": ("explain", "localise", "audit"),
        "Around": ("demo", "doctor", "export"),
    }

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Run a command; a call that is wrong is an error as all others are, and exits with 2."""
        ends = options.pop("standalone_mode", True)
        options["standalone_mode"] = False
        if not ends:
            return super().main(*arguments, **options)
        try:
            code = super().main(*arguments, **options)
        except UsageError as error:
            if type(error).__name__ == "NoArgsIsHelpError":
                error.show()
            else:
                _say_error("error:", str(as_user_error(error)))
            sys.exit(2)
        sys.exit(code if isinstance(code, int) else 0)

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        """Read the arguments; on Ctrl-C say so, and exit with 130."""
        try:
            return super().make_context(*arguments, **options)
        except KeyboardInterrupt:
            _say_interrupted("")
            sys.exit(130)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; on Ctrl-C say what is kept, and exit with 130."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            _say_interrupted(ctx.invoked_subcommand or "", str(interrupt))
            sys.exit(130)
        except Exception as error:
            if not _was_interrupted(error):
                raise
            _say_interrupted(ctx.invoked_subcommand or "")
            sys.exit(130)


app = help.Commands(
    name="cxrkit",
    cls=Commands,
    help="Benchmark toolkit for multi-label chest X-ray classification on NIH ChestX-ray14.",
    epilog="Start with `cxrkit demo`, which needs no data. The real data: `cxrkit download`, then `cxrkit prepare`.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
console = Console(width=None if sys.stdout.isatty() else piped_width(), emoji=False)  # a path may hold a:b:c
errors = Console(stderr=True, emoji=False)

Data = Annotated[Path, typer.Option("--data", help="Prepared folder.")]
Raw = Annotated[Path, typer.Option("--raw", help="Folder with the download: images or archives, CSV, lists.")]
DatasetName = Annotated[str, typer.Option("--dataset", help="Data set name, or package.module:function.")]
Runs = Annotated[Path, typer.Option("--runs", help="Folder of the run folders.")]
RunArgument = Annotated[
    Path, typer.Argument(help="Run folder, RUNS/MODEL/SPLIT; RUNS/MODEL or MODEL, where that has one run.")
]


def run_folder(run: Path) -> RunFolder:
    """Return the run that is named: by its folder, by one that holds it alone, or by either below the runs folder.

    Raises UserError where several runs fit. Where none does, the folder as it is named, which whoever opens it refuses.
    """
    from cxrkit.runs.folder import RunFolder
    from cxrkit.runs.search import run_named

    return RunFolder(run_named(run))


def network_of(run: Path) -> RunFolder:
    """Return the run that is named, with PyTorch loaded; what is no run, or has no network, is told before it is.

    Raises UserError as `run_folder` and `opening.run_config` do.
    """
    from cxrkit.runs.opening import run_config

    folder = run_folder(run)
    run_config(folder)
    load_torch()
    return folder


def load_torch() -> None:
    """Import torch, which takes some seconds, and say so where somebody watches."""
    with console.status("loading PyTorch"):
        import torch  # noqa: F401


def print_as_it_is(text: str) -> None:
    """Print as it is: a path may hold brackets, colons and spaces that mean nothing."""
    console.print(Text(fitted(shown(text, keep="\n"), console)), soft_wrap=True)


def fitted(text: str, console: Console) -> str:
    """Return the text broken between words for a terminal; for a file or a pipe as it is, where grep looks."""
    return "\n".join(wrapped(text, console.width, indent="  ")) if console.is_terminal else text


def _say_error(kind: str, text: str) -> None:
    said = fitted(f"{kind} {text}", errors)
    errors.print(f"[bold red]{kind}[/bold red]{escape(said.removeprefix(kind))}", highlight=False, soft_wrap=True)


def show(report: Report, out: Path | None = None, kind: str | None = None) -> None:
    """Print a report, and write it to `out`; without `out`, print it in the format `kind` where one is asked for.

    kind: default, the one that the ending of `out` names. Raises UserError for an ending that names none.
    """
    from cxrkit import report as reports

    if out is None and kind is not None:
        sys.stdout.write(reports.render(report, kind))
        return
    console.print(reports.to_rich(report))
    if out is not None:
        reports.write(report, out, kind or reports.format_of(out))
        print_as_it_is(f"written: {out}")


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


# What an interrupted command leaves, and how to go on.
_INTERRUPTED = {
    "prepare": "shards that are finished are kept, and a folder that was prepared before is as it was; "
    "the same command goes on where this one was",
    "download": "what has arrived is kept; the same command goes on where this one was",
    "verify": "nothing was changed; the same command starts again",
}


def _was_interrupted(error: BaseException | None) -> bool:
    """Whether an error came of a Ctrl-C: Python itself, while it makes a class, and libraries turn it into others."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, KeyboardInterrupt):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


def _say_interrupted(command: str, said: str = "") -> None:
    text = said or f"interrupted: {_INTERRUPTED.get(command, 'what was finished is kept')}"
    errors.print(fitted(text, errors), markup=False, highlight=False, soft_wrap=True)


def main() -> None:
    """Run the command line. Exit code 2: the user's mistake, with its remedy; 1: ours."""
    survive_any_encoding(sys.stdout, sys.stderr)
    current_folder.search_last()
    debug = "--debug" in sys.argv
    # A flag for every command, wherever it stands.
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        app(args=arguments, standalone_mode=True)
    except UserError as error:
        if debug:
            raise
        _say_error("error:", str(error))
        sys.exit(2)
    except KeyboardInterrupt:  # before the command has begun
        _say_interrupted("")
        sys.exit(130)
    except Exception as error:
        if debug:
            raise
        if missing := not_installed(error):
            _say_error("error:", str(missing))
            sys.exit(2)
        text = f"{type(error).__name__}: {error}"
        if plug_in := registry.failed_plug_in(error):
            text = f"plug-in {plug_in} failed: {text}\n  remedy: correct it; --debug shows where it failed"
            _say_error("error:", text)
            sys.exit(2)
        _say_error("internal error:", text)
        errors.print("  this is a bug of cxrkit; run the command again with --debug for the traceback", highlight=False)
        sys.exit(1)
